//! A minimal Redlock on the redis crate: a reference for speed, not for safety.
//!
//! It has one multiplexed connection per node, sends to all nodes at once, and returns at the third OK. A
//! separate task waits for the remaining replies.

use std::time::Duration;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt as _};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{Client, Cmd, FromRedisValue, IntoConnectionInfo as _, RedisResult, Value, cmd};
use tokio::time::sleep;

use crate::Outcome;

#[derive(Clone)]
pub struct ByHand {
    /// The nodes that could be reached.
    nodes: Vec<MultiplexedConnection>,
    quorum: usize,
    release_digest: String,
    set_digest: String,
}

pub struct Lock {
    client: ByHand,
    key: String,
    token: String,
}

/// One client for each node, with `TCP_NODELAY`: the redis crate leaves Nagle's algorithm on, which delays
/// requests.
pub fn clients(urls: &[String]) -> RedisResult<Vec<Client>> {
    let settings = TcpSettings::default().set_nodelay(true);
    (urls.iter())
        .map(|url| Client::open(url.as_str().into_connection_info()?.set_tcp_settings(settings.clone())))
        .collect()
}

impl ByHand {
    pub async fn connect(urls: &[String]) -> Outcome<Self> {
        let clients = clients(urls)?;
        let dials = join_all(clients.iter().map(Client::get_multiplexed_async_connection)).await;
        let nodes: Vec<_> = dials.into_iter().filter_map(Result::ok).collect();
        let (mut release_digest, mut set_digest) = (String::new(), String::new());
        for mut node in nodes.iter().cloned() {
            release_digest = cmd("SCRIPT").arg("LOAD").arg(RELEASE).query_async(&mut node).await?;
            set_digest = cmd("SCRIPT").arg("LOAD").arg(SET).query_async(&mut node).await?;
        }
        Ok(Self { nodes, quorum: urls.len() / 2 + 1, release_digest, set_digest })
    }

    /// Tries until it succeeds: the keys of its own late SETs can exclude it until they expire.
    pub async fn acquire(&self, key: &str, ttl: Duration) -> Outcome<Lock> {
        let ttl = u64::try_from(ttl.as_millis())?;
        loop {
            let token = format!("{:032x}", rand::random::<u128>());
            let mut set = cmd("SET");
            set.arg(key).arg(&token).arg("NX").arg("PX").arg(ttl);
            let lock = Lock { client: self.clone(), key: key.to_owned(), token };
            if self.reaches_quorum(&set, |reply: &Value| matches!(reply, Value::Okay)).await {
                return Ok(lock);
            }
            lock.release().await?;
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Tries once, with only `SET NX PX` inside a script: the least cost of a script that acquires a lock.
    pub async fn acquire_by_script(&self, key: &str, ttl: Duration) -> Outcome<Lock> {
        let token = format!("{:032x}", rand::random::<u128>());
        let mut set = cmd("EVALSHA");
        set.arg(&self.set_digest).arg(1).arg(key).arg(&token).arg(u64::try_from(ttl.as_millis())?);
        let is_acquired = self.reaches_quorum(&set, |reply: &Value| matches!(reply, Value::Okay)).await;
        let lock = Lock { client: self.clone(), key: key.to_owned(), token };
        is_acquired.then_some(lock).ok_or_else(|| "no quorum for a free key".into())
    }

    async fn reaches_quorum<T>(&self, command: &Cmd, is_success: impl Fn(&T) -> bool) -> bool
    where
        T: FromRedisValue + Send + 'static,
    {
        let mut replies: FuturesUnordered<_> =
            self.nodes.iter().map(|node| send::<T>(node.clone(), command.clone())).collect();
        let mut successes = 0;
        while let Some(reply) = replies.next().await {
            successes += usize::from(reply.is_ok_and(|reply| is_success(&reply)));
            if successes == self.quorum {
                tokio::spawn(replies.for_each(|_| async {}));
                return true;
            }
        }
        false
    }
}

impl Lock {
    pub async fn release(self) -> Outcome<()> {
        let mut release = cmd("EVALSHA");
        release.arg(&self.client.release_digest).arg(1).arg(&self.key).arg(&self.token);
        let is_released = self.client.reaches_quorum(&release, |_: &i64| true).await;
        is_released.then_some(()).ok_or_else(|| "no quorum for the release".into())
    }
}

async fn send<T: FromRedisValue>(mut node: MultiplexedConnection, command: Cmd) -> RedisResult<T> {
    command.query_async(&mut node).await
}

const RETRY_PAUSE: Duration = Duration::from_millis(2);
const RELEASE: &str =
    r#"if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end return 0"#;
const SET: &str = r#"return redis.call("SET", KEYS[1], ARGV[1], "NX", "PX", ARGV[2])"#;
