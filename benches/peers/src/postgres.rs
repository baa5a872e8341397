//! `PostgreSQL` advisory locks as a worker, for context: one server, no quorum. The lock of a session, on prepared statements.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use quorlock_bench::Outcome;
use quorlock_bench::worker::Contender;
use tokio_postgres::{Client, NoTls, Statement};

/// As many sessions as tasks.
#[derive(Clone)]
pub(crate) struct Postgres(Arc<Vec<Session>>);

struct Session {
    client: Client,
    lock: Statement,
    unlock: Statement,
}

pub(crate) struct Taken {
    sessions: Arc<Vec<Session>>,
    number: i64,
}

impl Session {
    async fn open(url: &str) -> Outcome<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        let lock = client.prepare("SELECT pg_advisory_lock($1)").await?;
        let unlock = client.prepare("SELECT pg_advisory_unlock($1)").await?;
        Ok(Self { client, lock, unlock })
    }
}

impl Taken {
    fn session(&self) -> &Session {
        &self.sessions[self.number.unsigned_abs() as usize % self.sessions.len()]
    }
}

impl Contender for Postgres {
    type Lock = Taken;
    type RenewedLock = Taken;

    async fn connect(urls: &[String]) -> Outcome<Self> {
        let url = urls.first().ok_or("no server")?;
        Ok(Self(Arc::new(try_join_all((0..SESSIONS).map(|_| Session::open(url))).await?)))
    }

    async fn acquire(&self, key: &str, _: Duration) -> Outcome<Taken> {
        // Tasks are numbered: each has a session of its own.
        let task = key.rsplit(':').next().and_then(|task| task.parse().ok());
        let number = task.unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            hasher.finish().cast_signed()
        });
        let taken = Taken { sessions: Arc::clone(&self.0), number };
        let session = taken.session();
        session.client.query_one(&session.lock, &[&number]).await?;
        Ok(taken)
    }

    async fn release(lock: Taken) -> Outcome<()> {
        let session = lock.session();
        let row = session.client.query_one(&session.unlock, &[&lock.number]).await?;
        if row.get(0) { Ok(()) } else { Err("it was not locked".into()) }
    }

    async fn acquire_renewed(&self, key: &str, ttl: Duration) -> Outcome<Taken> {
        self.acquire(key, ttl).await
    }

    async fn release_renewed(held: Taken) -> Outcome<()> {
        Self::release(held).await
    }
}

const SESSIONS: usize = 64;
