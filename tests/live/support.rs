//! What the stories have in common.

use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorlock::{InitOutcome, NodeStatus, Redlock, RedlockBuilder};
use quorlock_chaos::{Fleet, Server, Setup};
use tokio::time::{Instant, sleep};

/// Servers, and what their clients agreed on.
pub(crate) struct LockCluster {
    fleet: Fleet,
    /// Nothing for plain clients.
    max_ttl: Option<Duration>,
}

/// Fenced, declared fresh. Locks may live for long here, and so may probation: who restarts a node of it does not
/// want its vote back.
pub(crate) fn fenced(nodes: usize) -> LockCluster {
    fenced_with_max_ttl(nodes, secs(60))
}

/// Fenced, declared fresh, for stories in which probation must end.
pub(crate) fn fenced_with_max_ttl(nodes: usize, max_ttl: Duration) -> LockCluster {
    let cluster = LockCluster { fleet: blank_servers(nodes), max_ttl: Some(max_ttl) };
    initialize(builder(&cluster));
    cluster
}

/// For plain clients.
pub(crate) fn plain(nodes: usize) -> LockCluster {
    LockCluster { fleet: blank_servers(nodes), max_ttl: None }
}

/// Servers that nobody has told anything.
pub(crate) fn blank_servers(nodes: usize) -> Fleet {
    Fleet::start(nodes).expect("a redis-server is installed (scripts/setup)")
}

/// Servers of this set-up, for plain clients or declared fresh.
pub(crate) fn with_setup(nodes: usize, setup: &Setup, is_plain: bool) -> LockCluster {
    let fleet = Fleet::start_with(nodes, setup).expect("started");
    let cluster = LockCluster { fleet, max_ttl: (!is_plain).then_some(secs(60)) };
    if !is_plain {
        initialize(builder(&cluster));
    }
    cluster
}

/// Makes these nodes a cluster that votes at once. On a thread and a runtime of its own, for stories without one.
pub(crate) fn initialize(builder: RedlockBuilder) {
    let on_runtime = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(builder.dial_timeout(secs(20)).init(false))
    };
    let declared = std::thread::spawn(on_runtime).join().expect("no panic");
    assert_eq!(declared.expect("all nodes are up and blank"), InitOutcome::Initialized);
}

pub(crate) fn builder(cluster: &LockCluster) -> RedlockBuilder {
    let builder = Redlock::builder().nodes(cluster.urls());
    match cluster.max_ttl {
        Some(max_ttl) => builder.max_ttl(max_ttl),
        None => builder.plain(),
    }
}

/// A client that has met every node, so that a story knows where it begins.
pub(crate) async fn client(cluster: &LockCluster) -> Redlock {
    let redlock = builder(cluster).connect().await.expect("all nodes are up");
    eventually("every node votes", || async { redlock.node_status().await.iter().all(is_voting) }).await;
    redlock
}

pub(crate) fn is_up(node: &NodeStatus) -> bool {
    node.state == quorlock::NodeState::Up
}

pub(crate) fn is_voting(node: &NodeStatus) -> bool {
    node.is_voting()
}

/// This very test program, telling one of its stories as another process. Killed if the story ends before it does,
/// stopped or not.
pub(crate) struct Worker(Child);

impl Worker {
    pub(crate) fn start(story: &str, told: &[(&str, String)]) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("known"));
        command.args(["--exact", "--nocapture", story]).envs(told.iter().cloned()).stdout(Stdio::null());
        Self(command.spawn().expect("spawned"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("waited").is_none()
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn end(mut self) {
        assert!(self.0.wait().expect("waited").success(), "a worker failed; its words are above");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails only for one that has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every key on every node but what nodes remember on purpose: their cluster, and the numbers that they gave.
pub(crate) fn lock_keys(fleet: &Fleet) -> Vec<Vec<String>> {
    let keys = |server: &Server| {
        let mut keys: Vec<String> = server.command(&["KEYS", "*"]).expect("the node answers");
        let is_memory =
            |key: &String| ["quorlock:node", "quorlock:clock", "quorlock:high"].contains(&key.as_str());
        keys.retain(|key| !is_memory(key) && !key.starts_with("quorlock:fence:"));
        keys
    };
    fleet.servers().iter().map(keys).collect()
}

pub(crate) fn key_count(fleet: &Fleet) -> usize {
    lock_keys(fleet).iter().map(Vec::len).sum()
}

/// On how many nodes this key stands.
pub(crate) fn nodes_with_key(fleet: &Fleet, key: &str) -> usize {
    let has = |server: &&Server| server.command::<bool>(&["EXISTS", key]).expect("the node answers");
    fleet.servers().iter().filter(has).count()
}

/// Waits for something that must come, and says what did not.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < end, "in vain: {what}");
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
