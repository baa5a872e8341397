//! The worker for `PostgreSQL` advisory locks, for comparison: one server, no quorum. It uses session locks
//! and prepared statements.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use quorlock_bench::Outcome;
use quorlock_bench::worker::Contender;
use tokio_postgres::{Client, NoTls, Statement};

/// One session per task.
#[derive(Clone)]
pub(crate) struct Postgres(Arc<Vec<Session>>);

struct Session {
    client: Client,
    lock: Statement,
    unlock: Statement,
}

pub(crate) struct SessionLock {
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

impl SessionLock {
    fn session(&self) -> &Session {
        &self.sessions[self.number.unsigned_abs() as usize % self.sessions.len()]
    }
}

impl Contender for Postgres {
    type Lock = SessionLock;
    type RenewedLock = SessionLock;

    async fn connect(urls: &[String]) -> Outcome<Self> {
        let url = urls.first().ok_or("no server")?;
        Ok(Self(Arc::new(try_join_all((0..SESSIONS).map(|_| Session::open(url))).await?)))
    }

    async fn acquire(&self, key: &str, _: Duration) -> Outcome<SessionLock> {
        // The key ends with the number of the task, which selects its session.
        let task = key.rsplit(':').next().and_then(|task| task.parse().ok());
        let number = task.unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            hasher.finish().cast_signed()
        });
        let lock = SessionLock { sessions: Arc::clone(&self.0), number };
        let session = lock.session();
        session.client.query_one(&session.lock, &[&number]).await?;
        Ok(lock)
    }

    async fn release(lock: SessionLock) -> Outcome<()> {
        let session = lock.session();
        let row = session.client.query_one(&session.unlock, &[&lock.number]).await?;
        if row.get(0) { Ok(()) } else { Err("it was not locked".into()) }
    }

    async fn acquire_renewed(&self, key: &str, ttl: Duration) -> Outcome<SessionLock> {
        self.acquire(key, ttl).await
    }

    async fn release_renewed(lock: SessionLock) -> Outcome<()> {
        Self::release(lock).await
    }
}

const SESSIONS: usize = 64;
