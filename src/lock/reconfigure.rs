//! Reconfiguring a lock cluster: other nodes, another quorum or another max TTL, while clients lock.

mod obstacle;
mod progress;

use std::fmt;
use std::time::Duration;

use super::builder::{Goal, Reconfigurer, RedlockBuilder};
use super::error::{ConnectError, InvalidInput, ReconfigureError};
use crate::host::clock::now;
use crate::host::timer::timeout;
use crate::view::{NodeState, NodeStatus};
use quorlock_proto::membership::{NextStep, ReconfigurationState};
use quorlock_proto::quorum::{NodeId, NodeSet};

pub use obstacle::ReconfigurationObstacle;
pub use progress::{ReconfigurationProgress, ReconfigurationStep};

/// A change of a lock cluster's nodes, quorum or max TTL, made by [`RedlockBuilder::reconfigure`].
///
/// # Examples
///
/// ```no_run
/// use quorlock::Redlock;
///
/// # async fn example() -> Result<(), quorlock::error::ReconfigureError> {
/// let before = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
/// let after = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.4"];
/// let builder = Redlock::builder().nodes(before);
/// builder.reconfigure(after).on_progress(|progress| eprintln!("{progress}")).run().await?;
/// # Ok(()) }
/// ```
#[must_use = "a reconfiguration does nothing until it is `run`"]
pub struct Reconfiguration {
    builder: RedlockBuilder,
    goal: Goal,
    on_progress: Option<ProgressHandler>,
}

type ProgressHandler = Box<dyn FnMut(&ReconfigurationProgress) + Send>;

impl RedlockBuilder {
    /// Changes the lock cluster's list of nodes from this builder's to `to`, while clients lock. Held locks stay held,
    /// unless a step leaves fewer voting nodes than a quorum, as from one node to two:
    /// [`ReconfigurationProgress::loses_locks`].
    ///
    /// It goes node by node: each step is agreed on by the members, and the next follows once the new node votes, so
    /// after the [max TTL](Self::max_ttl). It can be interrupted at any point and run again, with any list between the two
    /// in force. Clients with the earlier list go on, as long as enough of their nodes are in force; then change their
    /// lists, at the latest before the servers that were removed are emptied.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use quorlock::Redlock;
    ///
    /// # async fn example() -> Result<(), quorlock::error::ReconfigureError> {
    /// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
    /// // The nodes stay, and locks may be longer from now on.
    /// Redlock::builder().nodes(nodes).reconfigure(nodes).max_ttl(Duration::from_secs(60)).run().await?;
    /// # Ok(()) }
    /// ```
    pub fn reconfigure<I>(self, to: I) -> Reconfiguration
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let to = to.into_iter().map(Into::into).collect();
        let goal = Goal { to, to_names: None, quorum: None, max_ttl: None };
        Reconfiguration { builder: self, goal, on_progress: None }
    }
}

impl Reconfiguration {
    /// Sets the names of the nodes after, in the order of `to`. Needed for new nodes if the nodes before have
    /// [names](RedlockBuilder::node_names). A node with the same name before and after is the same node, also under
    /// another URL. Default: the names before; without such names the addresses.
    ///
    /// # Examples
    ///
    /// ```
    /// use quorlock::Redlock;
    ///
    /// let before = ["redis://localhost:7001", "redis://localhost:7002", "redis://localhost:7003"];
    /// let after = ["redis://localhost:7001", "redis://localhost:7002", "redis://localhost:7004"];
    /// let builder = Redlock::builder().nodes(before).node_names(["a", "b", "c"]);
    /// assert_eq!(builder.reconfigure(after).to_names(["a", "b", "d"]).check(), Ok(()));
    /// ```
    pub fn to_names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.goal.to_names = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the number of nodes that make a quorum. Default: the majority of the new nodes; as before if their number
    /// stays.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn example(reconfiguration: quorlock::reconfiguration::Reconfiguration) {
    /// let reconfiguration = reconfiguration.quorum(4);
    /// # }
    /// ```
    pub fn quorum(mut self, need: usize) -> Self {
        self.goal.quorum = Some(need);
        self
    }

    /// Sets the max TTL. Default: as before. While it is shortened, held locks are renewed with the shorter one.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn example(reconfiguration: quorlock::reconfiguration::Reconfiguration) {
    /// let reconfiguration = reconfiguration.max_ttl(std::time::Duration::from_secs(60));
    /// # }
    /// ```
    pub fn max_ttl(mut self, max_ttl: Duration) -> Self {
        self.goal.max_ttl = Some(max_ttl);
        self
    }

    /// Calls `on_progress` after each step, and whenever something else is waited for.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn example(reconfiguration: quorlock::reconfiguration::Reconfiguration) {
    /// let reconfiguration = reconfiguration.on_progress(|progress| eprintln!("{progress}"));
    /// # }
    /// ```
    pub fn on_progress(mut self, on_progress: impl FnMut(&ReconfigurationProgress) + Send + 'static) -> Self {
        self.on_progress = Some(Box::new(on_progress));
        self
    }

    /// Checks all options, as [`run`](Self::run) and [`inspect`](Self::inspect) do, without access to nodes or files.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`] for the first option that is not valid. [`InvalidInput::option`] says which: `to` for the nodes
    /// after, `to_names`, `quorum` or `max_ttl`, or an option of the builder.
    ///
    /// # Examples
    ///
    /// ```
    /// use quorlock::Redlock;
    ///
    /// let before = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
    /// let reconfiguration = Redlock::builder().nodes(before).reconfigure(["http://10.0.0.1"]);
    /// assert_eq!(reconfiguration.check().map_err(|invalid| invalid.option()), Err(Some("to")));
    /// ```
    pub fn check(&self) -> Result<(), InvalidInput> {
        self.builder.checked_for(&self.goal).map(drop)
    }

    /// Reads what is in force and what is to be changed. Changes nothing.
    ///
    /// # Errors
    ///
    /// A [`ReconfigureError`].
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any point: it changes nothing.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(reconfiguration: quorlock::reconfiguration::Reconfiguration) -> Result<(), quorlock::error::ReconfigureError> {
    /// let plan = reconfiguration.inspect().await?;
    /// println!("{} nodes are to be added, {} removed", plan.to_add.len(), plan.to_remove.len());
    /// # Ok(()) }
    /// ```
    pub async fn inspect(self) -> Result<ReconfigurationProgress, ReconfigureError> {
        self.follow(true).await
    }

    /// Makes all steps. Waits for nodes that do not reply, without end: see [`on_progress`](Self::on_progress).
    ///
    /// # Errors
    ///
    /// A [`ReconfigureError`].
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any point. Locks can be acquired then as before; run it again to go on.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(reconfiguration: quorlock::reconfiguration::Reconfiguration) -> Result<(), quorlock::error::ReconfigureError> {
    /// let after = reconfiguration.run().await?;
    /// println!("epoch {}", after.epoch);
    /// # Ok(()) }
    /// ```
    pub async fn run(self) -> Result<ReconfigurationProgress, ReconfigureError> {
        self.follow(false).await
    }

    async fn follow(self, is_dry_run: bool) -> Result<ReconfigurationProgress, ReconfigureError> {
        let Self { builder, goal, mut on_progress } = self;
        let Reconfigurer { client, from, to: goal, reconfiguration, mut progress } =
            builder.connect_to_reconfigure(&goal, is_dry_run)?;
        let deadline = now().plus(client.shared.connect_timeout);
        let mut last = None;
        loop {
            let nodes = client.current_status();
            // A node that replies may be of another lock cluster. So its list is judged when every node was dialed, and
            // when a node of the list before has replied: otherwise that is what keeps the client from going on.
            let all_known = nodes.iter().all(|node| node.state != NodeState::Connecting);
            let has_replied = |node: NodeId| !matches!(nodes[node.index()].state, NodeState::Down { .. });
            let may_judge = all_known && from.iter().any(has_replied);
            let state = progress.borrow_and_update().clone();
            let state = state.filter(|it| match it.next {
                NextStep::OtherList => may_judge,
                _ => all_known || !is_dry_run,
            });
            let is_news = state != last;
            last.clone_from(&state);
            let obstacles = state.as_ref().map(|it| ReconfigurationObstacle::all(&client, &nodes, goal, it));
            let obstacles = obstacles.unwrap_or_default();
            if let Some(error) = hopeless(&nodes, goal, state.as_ref(), &obstacles, is_dry_run) {
                return Err(error);
            }
            match state {
                Some(state) if is_news => {
                    let steps = reconfiguration.steps_from(&state.roster);
                    let progress = ReconfigurationProgress::new(&client, obstacles, &steps, goal, &state);
                    if let Some(report) = on_progress.as_mut().filter(|_| !is_dry_run) {
                        report(&progress);
                    }
                    if is_dry_run || progress.next == ReconfigurationStep::Done {
                        return Ok(progress);
                    }
                }
                None if now().is_past(deadline) => return Err(ConnectError::NoQuorum { nodes }.into()),
                Some(_) | None => {}
            }
            // The state of the nodes may change without the progress.
            if let Ok(Err(_)) = timeout(POLL_INTERVAL, progress.changed()).await {
                return Err(ConnectError::Closed.into());
            }
        }
    }
}

/// Why the reconfiguration cannot go on without a person.
fn hopeless(
    nodes: &[NodeStatus],
    goal: NodeSet,
    state: Option<&ReconfigurationState>,
    obstacles: &[ReconfigurationObstacle],
    is_dry_run: bool,
) -> Option<ReconfigureError> {
    match state {
        None => {
            let is_excluded = |node: &&NodeStatus| matches!(node.state, NodeState::Excluded(_));
            let has_all = nodes.iter().filter(is_excluded).count() == nodes.len();
            has_all.then(|| ConnectError::NodesExcluded { nodes: nodes.to_vec() }.into())
        }
        Some(state) => match state.next {
            NextStep::OtherList => Some(ReconfigureError::OtherNodeList { nodes: nodes.to_vec() }),
            NextStep::InvalidQuorum => Some(ReconfigureError::InvalidQuorum { nodes: goal.len() }),
            // A dry run names all obstacles.
            NextStep::AfterNewNode(node) if !is_dry_run => {
                let address = &nodes[node.index()].address;
                obstacles.iter().find(|it| it.is_of(address)).and_then(|obstacle| match obstacle.clone() {
                    ReconfigurationObstacle::NewNodeExcluded { node, reason } => {
                        Some(ReconfigureError::NewNodeExcluded { node, reason })
                    }
                    ReconfigurationObstacle::AlreadyMember { node, member } => {
                        Some(ReconfigureError::AlreadyMember { node, member })
                    }
                    _ => None,
                })
            }
            _ => None,
        },
    }
}

impl fmt::Debug for Reconfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs may contain passwords, so show nothing of them.
        f.debug_struct("Reconfiguration").field("to", &self.goal.to.len()).finish_non_exhaustive()
    }
}

/// How often the state of the nodes is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
