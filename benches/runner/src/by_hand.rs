//! Redlock as one writes it with the redis crate in an afternoon: the reference for speed, not for safety.
//!
//! One multiplexed connection per node, all nodes at once, back at the third OK; what is still under way goes on in
//! a task of its own.

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
    need: usize,
    /// The digests of the two scripts.
    release: String,
    set: String,
}

pub struct Lock {
    client: ByHand,
    key: String,
    token: String,
}

/// One for each node. The redis crate leaves Nagle's algorithm on, which is no setting for a lock.
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
        let (mut release, mut set) = (String::new(), String::new());
        for mut node in nodes.iter().cloned() {
            release = cmd("SCRIPT").arg("LOAD").arg(RELEASE).query_async(&mut node).await?;
            set = cmd("SCRIPT").arg("LOAD").arg(SET).query_async(&mut node).await?;
        }
        Ok(Self { nodes, need: urls.len() / 2 + 1, release, set })
    }

    /// Tries until it succeeds: its own late SETs can stand in its way until they expire.
    pub async fn acquire(&self, key: &str, ttl: Duration) -> Outcome<Lock> {
        let ttl = u64::try_from(ttl.as_millis())?;
        loop {
            let token = format!("{:032x}", rand::random::<u128>());
            let mut set = cmd("SET");
            set.arg(key).arg(&token).arg("NX").arg("PX").arg(ttl);
            let lock = Lock { client: self.clone(), key: key.to_owned(), token };
            if self.reaches_quorum(&set, |answer: &Value| matches!(answer, Value::Okay)).await {
                return Ok(lock);
            }
            lock.release().await?;
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Tries once, with the bare `SET NX PX` inside a script: the least that a script can cost that does it.
    pub async fn acquire_by_script(&self, key: &str, ttl: Duration) -> Outcome<Lock> {
        let token = format!("{:032x}", rand::random::<u128>());
        let mut set = cmd("EVALSHA");
        set.arg(&self.set).arg(1).arg(key).arg(&token).arg(u64::try_from(ttl.as_millis())?);
        let is_ours = self.reaches_quorum(&set, |answer: &Value| matches!(answer, Value::Okay)).await;
        let lock = Lock { client: self.clone(), key: key.to_owned(), token };
        is_ours.then_some(lock).ok_or_else(|| "no quorum for a free key".into())
    }

    async fn reaches_quorum<T>(&self, command: &Cmd, is_yes: impl Fn(&T) -> bool) -> bool
    where
        T: FromRedisValue + Send + 'static,
    {
        let mut answers: FuturesUnordered<_> =
            self.nodes.iter().map(|node| request::<T>(node.clone(), command.clone())).collect();
        let mut yes = 0;
        while let Some(answer) = answers.next().await {
            yes += usize::from(answer.is_ok_and(|answer| is_yes(&answer)));
            if yes == self.need {
                tokio::spawn(answers.for_each(|_| async {}));
                return true;
            }
        }
        false
    }
}

impl Lock {
    pub async fn release(self) -> Outcome<()> {
        let mut release = cmd("EVALSHA");
        release.arg(&self.client.release).arg(1).arg(&self.key).arg(&self.token);
        let is_free = self.client.reaches_quorum(&release, |_: &i64| true).await;
        is_free.then_some(()).ok_or_else(|| "no quorum for the release".into())
    }
}

async fn request<T: FromRedisValue>(mut node: MultiplexedConnection, command: Cmd) -> RedisResult<T> {
    command.query_async(&mut node).await
}

const RETRY_PAUSE: Duration = Duration::from_millis(2);
const RELEASE: &str =
    r#"if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end return 0"#;
const SET: &str = r#"return redis.call("SET", KEYS[1], ARGV[1], "NX", "PX", ARGV[2])"#;
