//! Helpers that the live tests share: start servers, connect clients, count keys, wait for conditions.

use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorlock::node::NodeStatus;
use quorlock::{InitOutcome, Redlock, RedlockBuilder};
use quorlock_chaos::{Fleet, Server, Setup};
use tokio::time::{Instant, sleep};

/// Running servers and the max ttl of their lock cluster.
pub(crate) struct LockCluster {
    fleet: Fleet,
    /// `None` for plain mode.
    max_ttl: Option<Duration>,
}

/// An initialized lock cluster in fenced mode with a max ttl of 60 s. A restarted node stays on probation for
/// the whole test.
pub(crate) fn fenced(nodes: usize) -> LockCluster {
    fenced_with_max_ttl(nodes, secs(60))
}

/// An initialized lock cluster in fenced mode, for tests in which probation must end.
pub(crate) fn fenced_with_max_ttl(nodes: usize, max_ttl: Duration) -> LockCluster {
    let cluster = LockCluster { fleet: blank_servers(nodes), max_ttl: Some(max_ttl) };
    initialize(builder(&cluster));
    cluster
}

/// Servers for plain mode.
pub(crate) fn plain(nodes: usize) -> LockCluster {
    LockCluster { fleet: blank_servers(nodes), max_ttl: None }
}

/// Servers without any data.
pub(crate) fn blank_servers(nodes: usize) -> Fleet {
    Fleet::start(nodes).expect("a redis-server is installed (scripts/setup)")
}

/// Servers with these settings, for plain mode or as an initialized lock cluster in fenced mode.
pub(crate) fn with_setup(nodes: usize, setup: &Setup, is_plain: bool) -> LockCluster {
    let fleet = Fleet::start_with(nodes, setup).expect("server starts");
    let cluster = LockCluster { fleet, max_ttl: (!is_plain).then_some(secs(60)) };
    if !is_plain {
        initialize(builder(&cluster));
    }
    cluster
}

/// Initializes these nodes as a lock cluster that votes at once. It runs on its own thread and runtime, so
/// tests without a runtime can call it.
pub(crate) fn initialize(builder: RedlockBuilder) {
    let on_runtime = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(builder.dial_timeout(secs(20)).initialize())
    };
    let outcome = std::thread::spawn(on_runtime).join().expect("no panic");
    assert_eq!(outcome.expect("all nodes are up and blank"), InitOutcome::Initialized);
}

pub(crate) fn builder(cluster: &LockCluster) -> RedlockBuilder {
    let builder = Redlock::builder().nodes(cluster.urls());
    match cluster.max_ttl {
        Some(max_ttl) => builder.max_ttl(max_ttl),
        None => builder.mode(quorlock::Mode::Plain),
    }
}

/// A client that has connected to every node and sees it vote.
pub(crate) async fn client(cluster: &LockCluster) -> Redlock {
    let redlock = builder(cluster).connect().await.expect("all nodes are up");
    eventually("every node votes", || async { redlock.node_status().await.iter().all(is_voting) }).await;
    redlock
}

pub(crate) fn is_up(node: &NodeStatus) -> bool {
    node.state == quorlock::node::NodeState::Up
}

pub(crate) fn is_voting(node: &NodeStatus) -> bool {
    node.is_voting()
}

/// This test program as another process, which runs one test. It is killed when this value is dropped, even
/// if it is stopped.
pub(crate) struct Worker(Child);

impl Worker {
    pub(crate) fn start(test: &str, env: &[(&str, String)]) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("known"));
        command.args(["--exact", "--nocapture", test]).envs(env.iter().cloned()).stdout(Stdio::null());
        Self(command.spawn().expect("spawned"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("waited").is_none()
    }

    /// Waits for its end and checks that it succeeded.
    pub(crate) fn wait(mut self) {
        assert!(self.0.wait().expect("waited").success(), "a worker process failed; its output is above");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails only if the process has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every key on every node, without fences and what a node keeps of its lock cluster and clock.
pub(crate) fn lock_keys(fleet: &Fleet) -> Vec<Vec<String>> {
    let keys = |server: &Server| {
        let mut keys: Vec<String> = server.command(&["KEYS", "*"]).expect("a reply");
        keys.retain(|key| !KEPT_KEYS.contains(&key.as_str()) && !key.starts_with("quorlock:fence:"));
        keys
    };
    fleet.servers().iter().map(keys).collect()
}

/// What a node keeps of its lock cluster and its clock.
const KEPT_KEYS: [&str; 5] =
    ["quorlock:node", "quorlock:roster", "quorlock:absent", "quorlock:clock", "quorlock:high"];

pub(crate) fn key_count(fleet: &Fleet) -> usize {
    lock_keys(fleet).iter().map(Vec::len).sum()
}

/// The number of nodes that have this key.
pub(crate) fn nodes_with_key(fleet: &Fleet, key: &str) -> usize {
    let has = |server: &&Server| server.command::<bool>(&["EXISTS", key]).expect("a reply");
    fleet.servers().iter().filter(has).count()
}

/// Polls this condition every 5 ms until it holds; panics with its description after 20 s.
pub(crate) async fn eventually<F: Future<Output = bool>>(description: &str, mut holds: impl FnMut() -> F) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < end, "not within 20 s: {description}");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(crate) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

impl Deref for LockCluster {
    type Target = Fleet;

    fn deref(&self) -> &Fleet {
        &self.fleet
    }
}

impl DerefMut for LockCluster {
    fn deref_mut(&mut self) -> &mut Fleet {
        &mut self.fleet
    }
}
