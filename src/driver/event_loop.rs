//! The driver's event loop: feeds bytes and commands to the coordinator, sends its requests and reports its
//! events.

mod node_events;
mod send;
mod wait_queue;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::calls::PendingCalls;
use super::command::{CommandReceiver, DriverCommand, OperationIds};
use super::link::{Link, LinkEvent};
use super::local_queue::KeyQueues;
use super::ready::{COMMANDS, ReadySet, ReadySources, TIMER};
use super::shared_quorum::SharedQuorum;
use crate::host::{clock, entropy, process};
use crate::node::{Address, DialSettings, RequestEncoder};
use crate::observe::Events;
use crate::view::NodeStatusList;
use quorlock_proto::coordinator::{Action, Coordinator, Limits, OperationEvent};
use quorlock_proto::marker::LockClusterConfig;
use quorlock_proto::membership::{Membership, ReconfigurationState};
use quorlock_proto::quorum::{NodeId, NodeSet};
use quorlock_proto::time::{BootTime, DualTimestamp};

/// The task that owns the connections and all running operations.
pub(crate) struct Driver {
    coordinator: Coordinator,
    ready: ReadySet,
    links: Vec<Link>,
    calls: PendingCalls,
    events: Events,
    status: watch::Sender<NodeStatusList>,
    /// Whether it must be published at the end of this poll.
    is_status_dirty: bool,
    encoder: RequestEncoder,
    quorum: Arc<SharedQuorum>,
    /// The client's settings, or those of the lock cluster that it follows.
    config: LockClusterConfig,
    /// How far a reconfiguration is; nothing until the lock cluster is known.
    progress: watch::Sender<Option<ReconfigurationState>>,
    /// Nodes with unsent bytes.
    unsent: NodeSet,
    key_queues: Arc<KeyQueues>,
    /// Ids for operations without a command.
    ids: OperationIds,
    commands: mpsc::UnboundedReceiver<DriverCommand>,
    /// False once every client and guard is gone.
    accepts_commands: bool,
    link_events: Vec<(NodeId, LinkEvent)>,
    pending_commands: Vec<DriverCommand>,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires.
    timer_deadline: BootTime,
    last_poll: BootTime,
    /// The process whose connections these are.
    process: u32,
}

/// What is needed to build a driver.
pub(crate) struct Options {
    pub(crate) quorum: Arc<SharedQuorum>,
    pub(crate) progress: watch::Sender<Option<ReconfigurationState>>,
    pub(crate) reply_timeout: Duration,
    pub(crate) addresses: Vec<Address>,
    pub(crate) settings: DialSettings,
    pub(crate) events: Events,
    /// Which nodes may vote; `None` in plain mode.
    pub(crate) members: Option<Membership>,
    /// The settings that all clients of the lock cluster share.
    pub(crate) config: LockClusterConfig,
}

impl Driver {
    /// Creates a driver that dials its nodes as soon as it runs, and the status list that it keeps up to
    /// date.
    pub(crate) fn new(
        options: Options,
        receiver: CommandReceiver,
        key_queues: Arc<KeyQueues>,
    ) -> (Self, watch::Receiver<NodeStatusList>) {
        let Options { quorum, progress, reply_timeout, addresses, settings, events, members, config } =
            options;
        let CommandReceiver { commands, ids } = receiver;
        let process_id = entropy::owner_token();
        let settings = Arc::new(settings);
        let links: Vec<Link> = addresses
            .into_iter()
            .map(|address| Link::new(address, Arc::clone(&settings), process_id))
            .collect();
        let (status, status_receiver) =
            watch::channel(links.iter().map(|link| link.status.clone()).collect());
        let limits = Limits { reply_timeout, redial_after: reply_timeout * REDIAL_FACTOR };
        let driver = Self {
            coordinator: match members {
                Some(members) => Coordinator::fenced(quorum.get(), limits, members),
                None => Coordinator::new(quorum.get(), limits),
            },
            ready: ReadySet::new(links.len()),
            links,
            calls: PendingCalls::new(events.clone()),
            events,
            status,
            is_status_dirty: false,
            encoder: RequestEncoder::new(config, process_id),
            quorum,
            config,
            progress,
            unsent: NodeSet::EMPTY,
            key_queues,
            ids,
            commands,
            accepts_commands: true,
            link_events: Vec::new(),
            pending_commands: Vec::new(),
            timer: Box::pin(sleep(Duration::ZERO)),
            timer_deadline: BootTime::new(0),
            last_poll: BootTime::new(0),
            process: process::id(),
        };
        (driver, status_receiver)
    }

    /// Runs until a shutdown is done, or until all clients and guards are gone and no release is pending.
    pub(crate) async fn run(mut self) {
        poll_fn(|cx| self.poll_loop(cx)).await;
        let closing = self.links.into_iter().map(Link::close);
        let _ = timeout(CLOSE_TIMEOUT, futures::future::join_all(closing)).await;
        self.calls.finish_shutdown(&self.coordinator);
    }

    fn poll_loop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if process::id() != self.process {
            // In the child of a fork the connections are shared with the parent: any read, write or close
            // here would affect it.
            return Poll::Pending;
        }
        let now = clock::boot();
        let gap = now.since(std::mem::replace(&mut self.last_poll, now));
        if self.must_poll_io_first(gap, cx) {
            return Poll::Pending;
        }
        self.ready.wake(cx.waker());
        if self.calls.decide_yield(now) {
            // A task that wakes itself is scheduled behind the ready tasks.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        for _ in 0..POLLS_BEFORE_YIELD {
            if !self.poll_once() {
                return Poll::Pending;
            }
            if self.calls.shutdown_deadline().is_some()
                && self.calls.is_shutdown_done(&self.coordinator, clock::now())
            {
                return Poll::Ready(());
            }
        }
        // Let other tasks on this runtime run.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// If the runtime was blocked, it may not have reported replies that are already in the sockets. Let it
    /// poll its sockets first, so that no node is treated as timed out because of them.
    fn must_poll_io_first(&self, gap: Duration, cx: &mut Context<'_>) -> bool {
        // Tokio wakes a task that yields only after it has polled its sockets.
        gap >= BLOCKED && self.coordinator.has_in_flight() && pin!(yield_now()).poll(cx).is_pending()
    }

    /// Polls once: at most one read and one write per node and some hundred commands, so that no node and no
    /// caller starves the others. Returns false if nothing happened; then any later event wakes the driver.
    fn poll_once(&mut self) -> bool {
        let sources = self.ready.take_ready();
        if sources.is_empty() {
            return false;
        }
        self.read_from_nodes(sources);
        self.receive_commands(sources);
        let timer_fired =
            sources.has(TIMER) && self.timer.as_mut().poll(&mut self.ready.context(TIMER)).is_ready();
        let begins_shutdown = !self.accepts_commands && self.calls.shutdown_deadline().is_none();
        let is_idle = self.link_events.is_empty()
            && self.pending_commands.is_empty()
            && !timer_fired
            && !begins_shutdown;
        if is_idle && !self.flush() {
            return false;
        }

        // Read the clock after the replies, so that no reply seems earlier than it was, and before any write,
        // so that every deadline counts from before its first byte.
        let now = clock::now();
        self.handle_link_events(now);
        self.handle_commands(now);
        if begins_shutdown {
            self.calls.begin_shutdown(now.plus(DRAIN_TIMEOUT), &mut self.coordinator, now);
        }
        // Before the timer's deadline nothing is due.
        let is_due = timer_fired || self.timer_deadline.has_passed(now);
        if is_due {
            self.coordinator.on_wake(now);
        }
        self.perform_actions(now);
        if is_due {
            self.wake_links(now);
        }
        // The actions after a closed connection are also sent in this poll, because no other event may come
        // soon.
        while self.flush() {
            self.perform_actions(now);
        }
        self.reset_timer(is_due, now);
        self.publish_status();
        true
    }

    /// Reads from the ready nodes, or polls their dials.
    fn read_from_nodes(&mut self, sources: ReadySources) {
        for node in sources.nodes().iter() {
            let index = node.index();
            let (link, mut cx) = (&mut self.links[index], self.ready.context(index));
            let Some(event) = link.poll(&mut cx) else { continue };
            // After a read there is nearly always nothing more; then the source's waker fires for the next
            // data.
            let is_drained = matches!(event, LinkEvent::DataRead) && !link.has_more(&mut cx);
            self.link_events.push((node, event));
            if !is_drained {
                self.ready.mark_ready(index);
            }
        }
    }

    /// Receives commands, if the channel is ready.
    fn receive_commands(&mut self, sources: ReadySources) {
        if !self.accepts_commands || !sources.has(COMMANDS) {
            return;
        }
        let mut cx = self.ready.context(COMMANDS);
        let mut receive =
            || self.commands.poll_recv_many(&mut cx, &mut self.pending_commands, COMMANDS_PER_POLL);
        let mut received = receive();
        if matches!(received, Poll::Ready(1..)) {
            // Nearly always there is nothing more; then the channel's waker fires for the next command, and the
            // driver need not poll again to find that out.
            received = receive();
        }
        self.accepts_commands = received != Poll::Ready(0);
        if received.is_ready() {
            self.ready.mark_ready(COMMANDS);
        }
    }

    fn handle_link_events(&mut self, now: DualTimestamp) {
        let mut link_events = std::mem::take(&mut self.link_events);
        for (node, event) in link_events.drain(..) {
            self.on_link_event(node, event, now);
        }
        self.link_events = link_events;
    }

    fn handle_commands(&mut self, now: DualTimestamp) {
        if self.pending_commands.is_empty() {
            return;
        }
        // Deliver the results of the replies first: an extension that is requested now must not get the result
        // of the renewal before it.
        self.perform_actions(now);
        let mut commands = std::mem::take(&mut self.pending_commands);
        for command in commands.drain(..) {
            match command {
                DriverCommand::Enqueue { id, key, waited, is_on_second, reply } => {
                    self.enqueue(id, (key, waited, is_on_second), reply, now);
                }
                DriverCommand::NotifyNext { key } => self.notify_next(&key, now),
                DriverCommand::Dequeue { key } => self.dequeue(&key, now),
                DriverCommand::Release { id, hands_off_locally, .. } => {
                    let other_nodes = self.waiters_on_other_nodes(id, now);
                    self.calls.handle_command(command, &mut self.coordinator, now);
                    if let Some((key, nodes)) = other_nodes {
                        self.release_on_other_nodes(&key, nodes, hands_off_locally, now);
                    }
                }
                command => {
                    if matches!(command, DriverCommand::Shutdown { .. }) {
                        self.dequeue_all(now);
                    }
                    self.calls.handle_command(command, &mut self.coordinator, now);
                }
            }
        }
        self.pending_commands = commands;
    }

    fn perform_actions(&mut self, now: DualTimestamp) {
        while let Some(action) = self.coordinator.poll() {
            match action {
                Action::Send { request, nodes, as_text } => self.send(request, nodes, as_text),
                Action::ReadMarker { node, write, as_text } => {
                    self.read_marker(node, write.as_ref(), as_text);
                }
                Action::VotingStatus(node, voting_status) => {
                    self.on_voting_status(node, &voting_status, now);
                }
                Action::ClockAnomaly(node, anomaly) => self.on_clock_anomaly(node, anomaly),
                Action::RosterChanged(view) => self.on_roster_changed(&view),
                Action::Reconfiguring(progress) => drop(self.progress.send_replace(Some(progress))),
                Action::Redial(node) => {
                    let cause = self.coordinator.cause_of_disconnection(node).cloned();
                    self.disconnect(node, cause.unwrap_or_else(|| "dialed again".into()), now);
                }
                Action::Event(id, event) => {
                    if matches!(event, OperationEvent::Initialized(_)) {
                        // The caller reads the node status next, to report which nodes were in the way.
                        self.publish_status();
                    }
                    self.calls.on_operation_event(id, event, &mut self.coordinator, now);
                }
            }
        }
    }

    fn wake_links(&mut self, now: DualTimestamp) {
        for (index, link) in self.links.iter_mut().enumerate() {
            if link.next_wake().is_some_and(|due| due.has_passed(now)) {
                link.on_wake();
                self.ready.mark_ready(index);
            }
        }
    }

    /// Writes the queued bytes of each node. Returns true if a connection is closed.
    fn flush(&mut self) -> bool {
        let mut is_broken = false;
        for node in std::mem::take(&mut self.unsent).iter() {
            is_broken |= self.flush_node(node);
        }
        is_broken
    }

    fn flush_node(&mut self, node: NodeId) -> bool {
        match self.links[node.index()].flush(&mut self.ready.context(node.index())) {
            Ok(true) => self.unsent.remove(node),
            Ok(false) => self.unsent.insert(node),
            Err(reason) => {
                self.disconnect(node, reason, clock::now());
                return true;
            }
        }
        false
    }

    fn reset_timer(&mut self, is_due: bool, now: DualTimestamp) {
        // Tokio's timers stop during suspend and do not know the wall clock, so check the clock regularly
        // while a lock is held.
        let reading = self.coordinator.has_leases().then(|| now.plus(LEASE_CHECK_INTERVAL).boot());
        let closing = self.calls.shutdown_deadline().map(DualTimestamp::boot);
        // A link that starts to wait sets the status dirty; the timer already covers earlier ones.
        let may_wait = is_due || self.is_status_dirty;
        let links = may_wait.then(|| self.links.iter().filter_map(Link::next_wake).min()).flatten();
        let wakes = [self.coordinator.next_wake(), reading, closing, links];
        let idle = now.plus(IDLE_INTERVAL).boot();
        let wake = wakes.into_iter().flatten().fold(idle, BootTime::min);
        // A timer that fires early costs one poll; resetting it for every attempt costs more. After a
        // suspend, during which it stopped, it is late.
        if is_due || wake < self.timer_deadline {
            self.timer_deadline = wake;
            self.timer.as_mut().reset(Instant::now() + wake.since(now.boot()));
            self.ready.mark_ready(TIMER);
        }
    }

    /// Publishes once a poll, so that no reader sees a half-updated node.
    fn publish_status(&mut self) {
        if std::mem::take(&mut self.is_status_dirty) {
            self.note_vacating();
            self.status.send_replace(self.links.iter().map(|link| link.status.clone()).collect());
        }
    }
}

const COMMANDS_PER_POLL: usize = 256;
const POLLS_BEFORE_YIELD: usize = 16;
/// A task that did not run for this long, with replies due, may have been blocked.
const BLOCKED: Duration = Duration::from_millis(5);
/// A connection is closed if a reply is still due after this many reply timeouts.
const REDIAL_FACTOR: u32 = 4;
const LEASE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
const IDLE_INTERVAL: Duration = Duration::from_secs(3600);
/// How long pending releases are retried after all clients and guards are gone.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);
