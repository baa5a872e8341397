//! The client: a handle to one driver and its nodes, cheap to clone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::error::{InvalidInput, NoDriver, NoReply};
use super::limits::Limits;
use crate::driver::{CommandSender, DriverCommand, LocalQueue, SharedQuorum};
use crate::host::process;
use crate::host::timer::timeout;
use crate::observe::{Event, Events};
use crate::view::{NodeReplies, NodeState, NodeStatus, NodeStatusList};
use quorlock_proto::lease_params::Drift;
use quorlock_proto::request::{Key, LockSpec};
use quorlock_proto::vote::Vote;

/// A client of N independent Redis masters. It creates locks.
///
/// All clones share one set of connections and are cheap: make one client per process and pass clones around. After the
/// last clone and the last guard are dropped, the driver retries pending releases in the background for at most 5 s, as
/// long as the runtime lives. [`shutdown`](Self::shutdown) waits for that.
///
/// # Examples
///
/// ```no_run
/// use quorlock::Redlock;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let redlock = Redlock::connect(["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"]).await?;
/// let guard = redlock.mutex("orders:42").acquire().await?;
/// // … only this task holds the lock …
/// guard.release().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Redlock {
    pub(super) shared: Arc<Shared>,
}

/// The state that all clones share.
pub(super) struct Shared {
    pub(super) commands: CommandSender,
    pub(super) status: watch::Receiver<NodeStatusList>,
    /// Whether a task has already waited for enough nodes, or for as long as that makes sense.
    pub(super) has_waited_for_nodes: AtomicBool,
    pub(super) queue: Arc<LocalQueue>,
    pub(super) events: Events,
    pub(super) names: Arc<[Arc<str>]>,
    pub(super) quorum: Arc<SharedQuorum>,
    pub(super) drift: Drift,
    pub(super) reply_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) key_prefix: String,
    /// `None` in plain mode.
    pub(super) max_ttl: Option<Duration>,
    /// The process in which the client was built.
    pub(super) process: u32,
}

impl Redlock {
    /// The number of nodes that make a quorum.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let nodes = redlock.node_status().await;
    /// let voting = nodes.iter().filter(|node| node.is_voting()).count();
    /// if voting < redlock.quorum() {
    ///     eprintln!("no lock can be acquired: {voting} of {} nodes vote", nodes.len());
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.shared.quorum.get().needed()
    }

    /// The longest ttl of any lock: this client's [`max_ttl`](crate::RedlockBuilder::max_ttl) until it has read the
    /// settings of the lock cluster, and then the one in force there. `None` in plain mode.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn example(redlock: quorlock::Redlock) {
    /// let wished = Duration::from_secs(15);
    /// let ttl = redlock.max_ttl().map_or(wished, |longest| wished.min(longest));
    /// let mutex = redlock.mutex("nightly").ttl(ttl);
    /// # }
    /// ```
    #[must_use]
    pub fn max_ttl(&self) -> Option<Duration> {
        self.shared.max_ttl.map(|_| self.shared.quorum.max_ttl())
    }

    /// The state of each node, in the order of the client's list. Waits until every node was dialed once, so at most
    /// for the dial timeout.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any point: it changes nothing.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use quorlock::node::NodeState;
    ///
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// for node in redlock.node_status().await {
    ///     if let NodeState::Down { reason, .. } = &node.state {
    ///         eprintln!("{} is down: {reason}", node.address);
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn node_status(&self) -> Vec<NodeStatus> {
        if self.shared.check_not_forked().is_ok() {
            let mut status = self.shared.status.clone();
            let known = status.wait_for(|nodes| are_known(nodes));
            let _ = timeout(self.shared.first_dial_limit(), known).await;
        }
        self.current_status()
    }

    /// The current status of each node, without waiting for the first dial as [`node_status`](Self::node_status) does.
    pub(super) fn current_status(&self) -> Vec<NodeStatus> {
        self.shared.status.borrow().to_vec()
    }

    /// Waits until enough nodes for a lock are ready, or every node was dialed once. After this, the result of an
    /// attempt is meaningful. This happens once per client, even if nodes disconnect later.
    pub(super) async fn wait_until_ready(&self) {
        if self.shared.has_waited_for_nodes.load(Ordering::Relaxed) {
            return;
        }
        let need = self.shared.quorum.get().needed();
        let is_ready = |nodes: &NodeStatusList| {
            let voting = nodes.iter().filter(|node| node.is_voting()).count();
            voting >= need || are_known(nodes)
        };
        let mut status = self.shared.status.clone();
        let ready = status.wait_for(is_ready);
        let _ = timeout(self.shared.first_dial_limit(), ready).await;
        self.shared.has_waited_for_nodes.store(true, Ordering::Relaxed);
    }

    /// Waits, for at most this span, until enough nodes vote under one roster. Returns whether they do. Stops early if
    /// too few nodes are left that may.
    pub(super) async fn wait_for_roster(&self, span: Duration) -> bool {
        let need = self.shared.quorum.get().needed();
        let votes = |nodes: &NodeStatusList| nodes.iter().filter(|node| node.is_voting()).count() >= need;
        let may_vote = |node: &&NodeStatus| {
            node.is_voting() || node.is_returning || matches!(node.state, NodeState::Unverified(_))
        };
        let is_settled =
            |nodes: &NodeStatusList| votes(nodes) || nodes.iter().filter(may_vote).count() < need;
        let mut status = self.shared.status.clone();
        let settled = timeout(span, status.wait_for(is_settled)).await;
        matches!(settled, Ok(Ok(nodes)) if votes(&nodes))
    }

    /// Waits, for at most this span, until enough nodes vote. Stops early if that is no longer possible, even with the
    /// nodes that have just lost their connection and are dialed again. Returns whether enough nodes vote and at least
    /// one of them had lost its connection.
    pub(super) async fn wait_for_return(&self, span: Duration, had_lost: impl Fn(usize) -> bool) -> bool {
        let need = self.shared.quorum.get().needed();
        let count = |nodes: &NodeStatusList, is: fn(&NodeStatus) -> bool| {
            nodes.iter().filter(|node| is(node)).count()
        };
        let is_settled = |nodes: &NodeStatusList| {
            count(nodes, NodeStatus::is_voting) >= need
                || count(nodes, |it| it.is_voting() || it.is_returning) < need
        };
        let mut status = self.shared.status.clone();
        match timeout(span, status.wait_for(is_settled)).await {
            Ok(Ok(nodes)) => {
                let is_back =
                    nodes.iter().enumerate().any(|(index, node)| node.is_voting() && had_lost(index));
                is_back && count(&nodes, NodeStatus::is_voting) >= need
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    pub(super) fn key(&self, name: &Key) -> Result<Key, InvalidInput> {
        self.limits().key(name)
    }

    /// The limits of the locks that this client can acquire.
    pub(super) fn limits(&self) -> Limits<'_> {
        let Shared { key_prefix, max_ttl, drift, reply_timeout, .. } = &*self.shared;
        Limits { key_prefix, max_ttl: *max_ttl, drift: *drift, reply_timeout: *reply_timeout }
    }

    pub(super) fn replies(&self, votes: Vec<Vote>) -> NodeReplies {
        NodeReplies::new(&self.shared.names, votes)
    }
}

impl Shared {
    /// Sends a command that has a reply, and waits for it. If a span is given, waits for that span and a little longer:
    /// a running driver keeps to the span by itself.
    pub(super) async fn call<T>(
        &self,
        span: Option<Duration>,
        command: impl FnOnce(oneshot::Sender<T>) -> DriverCommand,
    ) -> Result<T, NoReply> {
        self.call_by(span, |reply| self.commands.send(command(reply))).await
    }

    /// Lets the closure send a command, and waits for the driver's reply. See [`call`](Self::call).
    pub(super) async fn call_by<T>(
        &self,
        span: Option<Duration>,
        send: impl FnOnce(oneshot::Sender<T>),
    ) -> Result<T, NoReply> {
        self.check_not_forked().map_err(NoReply::NoDriver)?;
        let (reply, mut receiver) = oneshot::channel();
        send(reply);
        let Some(span) = span else { return receiver.await.map_err(|_| NoReply::Closed) };
        // Driver and caller may be stopped together, for example when one thread runs both and something blocks it.
        // Therefore do not count time in which the caller did not run: each step counts only for its intended length.
        let mut left = span.saturating_add(REPLY_SLACK * 2);
        while !left.is_zero() {
            let step = left.min(REPLY_SLACK);
            if let Ok(received) = timeout(step, &mut receiver).await {
                return received.map_err(|_| NoReply::Closed);
            }
            left -= step;
        }
        Err(NoReply::NoDriver(NoDriver::Stalled))
    }

    /// Reports a minimum fencing number that a caller has set.
    pub(super) fn report_min_fencing_number(&self, spec: &LockSpec) {
        if spec.min_fencing_number > 0 {
            let (key, number) = (spec.key.clone(), spec.min_fencing_number);
            self.events.emit(&Event::MinFencingNumberSet { key, number });
        }
    }

    /// Checks that this is the process in which the client was built.
    pub(super) fn check_not_forked(&self) -> Result<(), NoDriver> {
        if process::id() == self.process { Ok(()) } else { Err(NoDriver::Forked) }
    }

    /// How long it takes until every node was dialed once.
    pub(super) fn first_dial_limit(&self) -> Duration {
        self.connect_timeout + DIAL_SLACK
    }
}

impl fmt::Debug for Redlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let up = self.shared.status.borrow().iter().filter(|node| node.state == NodeState::Up).count();
        f.debug_struct("Redlock")
            .field("nodes", &self.shared.names)
            .field("up", &up)
            .field("quorum", &self.shared.quorum.get().needed())
            .finish_non_exhaustive()
    }
}

/// Whether waiting brings no more information: every node was dialed once, or the nodes with an unverified lock cluster
/// wait for one that could not be reached.
fn are_known(nodes: &[NodeStatus]) -> bool {
    let is_missing =
        |node: &NodeStatus| matches!(node.state, NodeState::Down { .. } | NodeState::Excluded(_));
    nodes.iter().all(NodeStatus::is_known)
        || nodes.iter().all(|node| node.state != NodeState::Connecting) && nodes.iter().any(is_missing)
}

/// A dial ends by itself at the dial timeout; this is extra time for its result to arrive.
pub(super) const DIAL_SLACK: Duration = Duration::from_millis(250);
/// How long the driver may take beyond the time that the nodes have to reply. Also the length of one step of the wait.
const REPLY_SLACK: Duration = Duration::from_millis(250);
