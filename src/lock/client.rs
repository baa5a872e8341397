//! The client: a cheap handle to one driver and its nodes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::builder::RedlockBuilder;
use super::error::{InvalidInput, NoAnswer, NoDriver};
use super::limits::Limits;
use super::mutex::Mutex;
use super::queue::LocalQueue;
use super::replies::NodeReplies;
use crate::driver::timer::timeout;
use crate::driver::{CommandSender, NodeState, NodeStatus, NodeStatusList, process};
use quorlock_proto::lease_params::Drift;
use quorlock_proto::quorum::Quorum;
use quorlock_proto::request::Key;
use quorlock_proto::vote::Vote;

/// A client of N independent Redis masters, from which locks are taken.
///
/// A cheap clone of one shared set of connections: make one per process and pass it around. When the last clone and
/// the last guard are gone, what is still owed to the nodes is worked off in the background for some seconds, as
/// long as the runtime lives; [`shutdown`](Self::shutdown) waits for it.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use quorlock::Redlock;
///
/// let redlock = Redlock::builder()
///     .nodes(["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"])
///     .connect()
///     .await?;
/// let guard = redlock.mutex("orders:42").acquire().await?;
/// // … one holder at a time …
/// guard.release().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Redlock {
    pub(super) shared: Arc<Shared>,
}

/// What all clones share.
pub(super) struct Shared {
    pub(super) orders: CommandSender,
    pub(super) view: watch::Receiver<NodeStatusList>,
    /// Whether somebody has waited for enough nodes, or for as long as that makes sense.
    pub(super) has_waited: AtomicBool,
    pub(super) queue: Arc<LocalQueue>,
    pub(super) names: Arc<[Arc<str>]>,
    pub(super) quorum: Quorum,
    pub(super) drift: Drift,
    pub(super) reply_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) key_prefix: String,
    /// None in plain mode.
    pub(super) max_ttl: Option<Duration>,
    /// The process that the client was built in.
    pub(super) process: u32,
}

impl Redlock {
    /// Begins a client: name its nodes, then [`connect`](RedlockBuilder::connect).
    pub fn builder() -> RedlockBuilder {
        RedlockBuilder::new()
    }

    /// A lock of this name, to be set up further and then acquired.
    ///
    /// The name is the key on every node, verbatim (behind the client's key prefix). Anything goes but an empty name,
    /// names that start with `quorlock:`, which are this library's own, and more than 65,536 bytes, prefix included.
    pub fn mutex(&self, name: impl AsRef<str>) -> Mutex {
        Mutex::new(self.clone(), name.as_ref())
    }

    /// How each node stands, in the order of the client's list. Waits until every node was dialed once, so at most
    /// the connect time-out.
    pub async fn node_status(&self) -> Vec<NodeStatus> {
        if self.shared.is_here().is_ok() {
            let mut view = self.shared.view.clone();
            let known = view.wait_for(|nodes| are_known(nodes));
            let _ = timeout(self.shared.one_dial(), known).await;
        }
        self.known()
    }

    /// The same, without waiting.
    pub(super) fn known(&self) -> Vec<NodeStatus> {
        self.shared.view.borrow().to_vec()
    }

    /// Waits until there are enough nodes for a lock, or every node was dialed once: from then on an attempt tells
    /// the truth. Nobody waits again after that, however the nodes fare.
    pub(super) async fn ready(&self) {
        if self.shared.has_waited.load(Ordering::Relaxed) {
            return;
        }
        let need = self.shared.quorum.needed();
        let is_ready = |nodes: &NodeStatusList| {
            let voting = nodes.iter().filter(|node| node.is_voting()).count();
            voting >= need || are_known(nodes)
        };
        let mut view = self.shared.view.clone();
        let ready = view.wait_for(is_ready);
        let _ = timeout(self.shared.one_dial(), ready).await;
        self.shared.has_waited.store(true, Ordering::Relaxed);
    }

    /// Waits, for this span at most, until enough nodes vote, as long as some that have just lost their connection may be
    /// among them when they are dialed again. Whether one of these nodes, which had lost it, is among them now.
    pub(super) async fn returned(&self, span: Duration, had_lost: impl Fn(usize) -> bool) -> bool {
        let need = self.shared.quorum.needed();
        let count = |nodes: &NodeStatusList, is: fn(&NodeStatus) -> bool| {
            nodes.iter().filter(|node| is(node)).count()
        };
        let is_settled = |nodes: &NodeStatusList| {
            count(nodes, NodeStatus::is_voting) >= need
                || count(nodes, |it| it.is_voting() || it.is_returning) < need
        };
        let mut view = self.shared.view.clone();
        match timeout(span, view.wait_for(is_settled)).await {
            Ok(Ok(nodes)) => {
                let is_back =
                    nodes.iter().enumerate().any(|(place, node)| node.is_voting() && had_lost(place));
                is_back && count(&nodes, NodeStatus::is_voting) >= need
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    pub(super) fn key(&self, name: &Key) -> Result<Key, InvalidInput> {
        self.limits().key(name)
    }

    /// What locks can be taken.
    pub(super) fn limits(&self) -> Limits<'_> {
        let Shared { key_prefix, max_ttl, drift, reply_timeout, .. } = &*self.shared;
        Limits { key_prefix, max_ttl: *max_ttl, drift: *drift, reply_timeout: *reply_timeout }
    }

    pub(super) fn replies(&self, votes: Vec<Vote>) -> NodeReplies {
        NodeReplies::new(&self.shared.names, votes)
    }
}

impl Shared {
    /// Sends an order that answers, and waits for the answer: for this span, if there is one, and a little longer. The
    /// driver keeps to it by itself, if it runs.
    pub(super) async fn call<T>(
        &self,
        span: Option<Duration>,
        command: impl FnOnce(oneshot::Sender<T>) -> crate::driver::DriverCommand,
    ) -> Result<T, NoAnswer> {
        self.call_by(span, |reply| self.orders.send(command(reply))).await
    }

    /// The same, where the order is sent by others.
    pub(super) async fn call_by<T>(
        &self,
        span: Option<Duration>,
        send: impl FnOnce(oneshot::Sender<T>),
    ) -> Result<T, NoAnswer> {
        self.is_here().map_err(NoAnswer::NoDriver)?;
        let (reply, mut answer) = oneshot::channel();
        send(reply);
        let Some(span) = span else { return answer.await.map_err(|_| NoAnswer::Closed) };
        // Driver and caller may be stopped together, as on one thread that something blocks. So time in which the caller did
        // not run is not counted: a step counts as long as it was meant to be.
        let mut left = span.saturating_add(REPLY_SLACK * 2);
        while !left.is_zero() {
            let step = left.min(REPLY_SLACK);
            if let Ok(answered) = timeout(step, &mut answer).await {
                return answered.map_err(|_| NoAnswer::Closed);
            }
            left -= step;
        }
        Err(NoAnswer::NoDriver(NoDriver::Stalled))
    }

    /// Whether this is the process that the client was built in.
    pub(super) fn is_here(&self) -> Result<(), NoDriver> {
        if process::id() == self.process { Ok(()) } else { Err(NoDriver::Forked) }
    }

    /// How long it takes until every node was dialed once.
    pub(super) fn one_dial(&self) -> Duration {
        self.connect_timeout + DIAL_SLACK
    }
}

impl fmt::Debug for Redlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let up = self.shared.view.borrow().iter().filter(|node| node.state == NodeState::Up).count();
        f.debug_struct("Redlock")
            .field("nodes", &self.shared.names)
            .field("up", &up)
            .field("quorum", &self.shared.quorum.needed())
            .finish_non_exhaustive()
    }
}

/// Whether waiting tells no more: every node was dialed once, and whoever cannot tell its cluster waits for one that
/// could not be reached.
fn are_known(nodes: &[NodeStatus]) -> bool {
    let is_missing = |node: &NodeStatus| matches!(node.state, NodeState::Down(_) | NodeState::Excluded(_));
    nodes.iter().all(NodeStatus::is_known)
        || nodes.iter().all(|node| node.state != NodeState::Connecting) && nodes.iter().any(is_missing)
}

/// A dial ends by itself at the connect time-out; this is for the way back.
pub(super) const DIAL_SLACK: Duration = Duration::from_millis(250);
/// How long the driver may take beyond the time that it gives the nodes, and a step in which it is waited for.
const REPLY_SLACK: Duration = Duration::from_millis(250);
/// Names of our own.
pub(super) const RESERVED: &str = "quorlock:";
