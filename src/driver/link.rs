//! One node's connection, or the dial that leads to the next one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::login_renewal::{LoginRenewal, Provided, ended_task};
use crate::host::{clock, entropy};
use crate::node::{
    Address, Connection, Credentials, DialError, DialFailure, DialSettings, DialedNode, ServerInfo, dial,
    renewed_credentials,
};
use crate::view::{Fences, LeaseDeadline, NodeState, NodeStatus, NodeWarning, Probation};
use quorlock_proto::backoff;
use quorlock_proto::fairness;
use quorlock_proto::marker::Incarnation;
use quorlock_proto::membership::VotingStatus;
use quorlock_proto::request::OwnerToken;
use quorlock_proto::time::{BootTime, DualTimestamp};
use quorlock_proto::vote::ExclusionReason;

/// One node: its address, its connection state, and its public status.
pub(super) struct Link {
    address: Address,
    settings: Arc<DialSettings>,
    /// This process's name in wait queues.
    process_id: OwnerToken,
    node_weight_seed: u64,
    state: State,
    /// When the connection logs in again; `None` without a connection, and for credentials that never change.
    login: Option<LoginRenewal>,
    failures: u32,
    /// This process does not enqueue on the node before this time, because the node rejected a write.
    no_enqueue_before: Option<BootTime>,
    /// The warning in the list that the node rejected writes when it was dialed.
    write_warning: Option<NodeWarning>,
    /// The warning in the list about the cost of fencing numbers.
    fence_warning: Option<NodeWarning>,
    pub(super) status: NodeStatus,
}

enum State {
    Up(Box<Connection>),
    Dialing(AbortOnDropHandle<Result<DialedNode, DialFailure>>),
    /// Not dialed again before this time.
    BackingOff(BootTime),
}

/// An event of a link.
pub(super) enum LinkEvent {
    /// Bytes were read.
    DataRead,
    /// The connection is closed.
    Disconnected(Arc<str>),
    /// A dial succeeded; the connection is in place.
    Dialed(Box<ServerInfo>),
    /// A dial failed.
    DialFailed(DialError),
    /// The credentials for the next login on the connection were provided, or not.
    CredentialsProvided(Provided),
}

impl Link {
    pub(super) fn new(address: Address, settings: Arc<DialSettings>, process_id: OwnerToken) -> Self {
        let status = NodeStatus::new(address.to_string().into());
        Self {
            address,
            settings,
            process_id,
            node_weight_seed: 0,
            state: State::BackingOff(BootTime::new(0)),
            login: None,
            failures: 0,
            no_enqueue_before: None,
            write_warning: None,
            fence_warning: None,
            status,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// The server's seed in the choice of a key's wait queue node, if it can keep wait queues.
    pub(super) fn node_weight_seed(&self) -> Option<u64> {
        matches!(&self.state, State::Up(connection) if connection.supports_wait_queue())
            .then_some(self.node_weight_seed)
    }

    /// Whether an enqueue on this node makes sense now.
    pub(super) fn may_enqueue(&self, now: DualTimestamp) -> bool {
        self.no_enqueue_before.is_none_or(|before| before.has_passed(now))
    }

    /// Records the reply to an enqueue. Returns true if the public status has changed.
    pub(super) fn on_enqueue_reply(&mut self, is_write_rejected: bool, now: DualTimestamp) -> bool {
        if is_write_rejected {
            self.no_enqueue_before = Some(now.plus(ENQUEUE_REJECTED_PAUSE).boot());
            return false;
        }
        let Some(old) = self.write_warning.take() else { return false };
        self.status.warnings.retain(|warning| *warning != old);
        true
    }

    pub(super) fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.state {
            State::Up(connection) => Some(connection),
            State::Dialing(_) | State::BackingOff(_) => None,
        }
    }

    /// Reads once, or polls the dial. A caller that repeats this until it returns `None`, or that finds that
    /// there [is no more](Self::has_more), will be woken.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<LinkEvent> {
        if let Some(provided) = self.login.as_mut().and_then(|login| login.poll(cx)) {
            return Some(LinkEvent::CredentialsProvided(provided));
        }
        match &mut self.state {
            State::Up(connection) => match connection.poll_read(cx) {
                Poll::Ready(Ok(())) => Some(LinkEvent::DataRead),
                Poll::Ready(Err(error)) => Some(LinkEvent::Disconnected(error.to_string().into())),
                Poll::Pending => None,
            },
            State::Dialing(dial) => match Pin::new(dial).poll(cx) {
                Poll::Ready(Ok(Ok(ready))) => {
                    self.login = self
                        .settings
                        .provider_for(&self.address)
                        .map(|_| LoginRenewal::new(ready.valid_for, clock::boot(), entropy::jitter()));
                    self.state = State::Up(Box::new(ready.connection));
                    Some(LinkEvent::Dialed(Box::new(ready.server_info)))
                }
                Poll::Ready(Ok(Err(DialFailure { error, server }))) => {
                    self.status.server = server.or(self.status.server.take());
                    Some(LinkEvent::DialFailed(error))
                }
                Poll::Ready(Err(error)) => {
                    Some(LinkEvent::DialFailed(DialError::NotReady(ended_task(&error).into())))
                }
                Poll::Pending => None,
            },
            State::BackingOff(_) => None,
        }
    }

    /// Whether there may be more to read after a read.
    pub(super) fn has_more(&self, cx: &mut Context<'_>) -> bool {
        match &self.state {
            State::Up(connection) => connection.has_more(cx),
            State::Dialing(_) | State::BackingOff(_) => true,
        }
    }

    /// Writes all queued bytes, in one write if they fit. Returns true if all were written, and an error if
    /// the connection is closed.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> Result<bool, Arc<str>> {
        match self.connection().map(|connection| connection.poll_flush(cx)) {
            Some(Poll::Ready(Err(error))) => Err(error.to_string().into()),
            Some(Poll::Pending) => Ok(false),
            Some(Poll::Ready(Ok(()))) | None => Ok(true),
        }
    }

    /// When the next dial is due, or the next login on the connection.
    pub(super) fn next_wake(&self) -> Option<BootTime> {
        match self.state {
            State::BackingOff(until) => Some(until),
            State::Up(_) => self.login.as_ref().and_then(LoginRenewal::due),
            State::Dialing(_) => None,
        }
    }

    /// Begins what is [due](Self::next_wake).
    pub(super) fn on_wake(&mut self) {
        match (&self.state, &mut self.login) {
            (State::BackingOff(_), _) => self.dial(),
            (State::Up(_), Some(login)) => {
                let (address, settings) = (self.address.clone(), Arc::clone(&self.settings));
                let is_retry = login.was_rejected();
                let ask = async move { renewed_credentials(&address, &settings, is_retry).await };
                login.begin(AbortOnDropHandle::new(tokio::spawn(ask)));
            }
            (State::Up(_), None) | (State::Dialing(_), _) => {}
        }
    }

    /// Dials on a separate task, bounded by the dial timeout.
    fn dial(&mut self) {
        let (address, settings, process_id) =
            (self.address.clone(), Arc::clone(&self.settings), self.process_id);
        let dial = tokio::spawn(async move { dial(&address, &settings, process_id).await });
        self.state = State::Dialing(AbortOnDropHandle::new(dial));
    }

    /// Queues a login on the connection. Returns false if there is none to send, as for a node without a password.
    pub(super) fn log_in_again(&mut self, credentials: &Credentials, now: DualTimestamp) -> bool {
        let Some(login) = &mut self.login else { return false };
        login.on_sent(credentials.valid_for);
        let State::Up(connection) = &mut self.state else { return false };
        if !connection.has_secret_of(credentials) {
            // Whether another user lacks the permission, too, shows when it is used next.
            let is_denied = |warning: &NodeWarning| {
                matches!(warning, NodeWarning::RequestRejected(ExclusionReason::PermissionDenied(_)))
            };
            self.status.warnings.retain(|warning| !is_denied(warning));
        }
        let is_sent = connection.queue_login(credentials);
        if !is_sent {
            login.on_login(now.boot(), entropy::jitter());
        }
        is_sent
    }

    /// Records the outcome of a login on the living connection. Returns a warning if it is new.
    pub(super) fn on_login_renewal(
        &mut self,
        outcome: Result<(), Arc<str>>,
        now: DualTimestamp,
    ) -> Option<NodeWarning> {
        let is_not_about_login = |warning: &NodeWarning| !matches!(warning, NodeWarning::LoginNotRenewed(_));
        let login = self.login.as_mut()?;
        let Err(reason) = outcome else {
            login.on_login(now.boot(), entropy::jitter());
            self.status.warnings.retain(is_not_about_login);
            return None;
        };
        login.on_failure(now.boot(), entropy::jitter());
        let warning = NodeWarning::LoginNotRenewed(reason);
        let is_new = !self.status.warnings.contains(&warning);
        self.status.warnings.retain(is_not_about_login);
        self.status.warnings.push(warning.clone());
        is_new.then_some(warning)
    }

    /// The outcome of a login on the living connection, if the server has replied to it.
    pub(super) fn take_login_reply(&mut self) -> Option<Result<(), Arc<str>>> {
        self.connection()?.take_login_reply()
    }

    /// Asks the provider soon for other credentials, because the server has denied a command to the user. Returns
    /// false if there is no provider.
    pub(super) fn on_permission_denied(&mut self, now: DualTimestamp) -> bool {
        self.login.as_mut().map(|login| login.on_permission_denied(now)).is_some()
    }

    /// Whether the process of the handshake has this incarnation.
    pub(super) fn is_of(&self, incarnation: &Incarnation) -> bool {
        incarnation.run_id() == self.status.run_id
    }

    /// Records that the connection is in use, with the server's data.
    pub(super) fn on_handshake(&mut self, info: &ServerInfo) {
        self.failures = 0;
        self.status.is_returning = false;
        // A fenced client gets the node's voting status in the same poll.
        self.status.state = if info.marker.is_some() { NodeState::Unverified(None) } else { NodeState::Up };
        self.status.server = Some(info.server());
        self.node_weight_seed = fairness::node_weight_seed(&info.run_id);
        self.status.run_id.clone_from(&info.run_id);
        self.status.round_trip = Some(info.round_trip);
        self.status.clock_offset_micros = info.clock_ahead_micros;
        self.status.persistence = info.persistence();
        self.status.warnings = info.warnings();
        (self.status.probation, self.status.seat_by) = (None, None);
        self.status.failed_step = None;
        self.no_enqueue_before = None;
        self.write_warning = info.write_warning();
        self.fence_warning = None;
        if let Some(fences) = info.fences {
            self.record_fences(fences);
        }
    }

    /// Records the cost of the fencing numbers on the node. Returns a warning if it has become too high.
    pub(super) fn record_fences(&mut self, fences: Fences) -> Option<NodeWarning> {
        self.status.fences = Some(fences);
        let warning = fences.are_too_large().then_some(NodeWarning::FencesTooLarge(fences));
        let is_new = warning.is_some() && self.fence_warning.is_none();
        if let Some(old) = self.fence_warning.take() {
            self.status.warnings.retain(|warning| *warning != old);
        }
        self.status.warnings.extend(warning.clone());
        self.fence_warning.clone_from(&warning);
        warning.filter(|_| is_new)
    }

    /// Records the node's voting status. The connection stays.
    pub(super) fn set_voting_status(&mut self, voting_status: &VotingStatus) {
        (self.status.probation, self.status.seat_by) = (None, None);
        match voting_status {
            VotingStatus::AwaitsAbsent(until) => {
                self.status.state = NodeState::Unverified(None);
                self.status.seat_by = Some(LeaseDeadline::new(*until));
            }
            VotingStatus::Excluded(exclusion) => self.status.state = NodeState::Excluded(exclusion.clone()),
            VotingStatus::OnProbation(until, reason) => {
                self.status.state = NodeState::Up;
                self.status.probation =
                    Some(Probation { until: LeaseDeadline::new(*until), reason: *reason });
            }
            VotingStatus::Unverified(failure) => self.status.state = NodeState::Unverified(failure.clone()),
            VotingStatus::Voting => self.status.state = NodeState::Up,
        }
    }

    /// Drops the connection, if there is one, and backs off before the next dial. Returns true if the state
    /// is new.
    ///
    /// A server that hung may still execute what it was sent on this connection. The connection is reset;
    /// when the server continues, it reads one buffer of it (16 kB), replies, and sees the reset. It does so
    /// before it reads anything newer. (With the threads of Redis 8, the first command of a newer connection
    /// was seen to overtake that; commands after the two round trips of the handshake were not.) So pending
    /// releases find the keys that they release. Killing the old connection by its id would gain nothing and
    /// would need another permission for the user.
    pub(super) fn disconnect(&mut self, reason: &Arc<str>, now: DualTimestamp) -> bool {
        let pause = backoff::redial(self.failures, entropy::jitter());
        self.failures = self.failures.saturating_add(1);
        self.status.is_returning = self.is_connected();
        self.back_off(pause, now);
        let is_new = !matches!(self.status.state, NodeState::Down { .. });
        self.status.state = NodeState::Down { reason: Arc::clone(reason) };
        is_new
    }

    /// As [`disconnect`](Self::disconnect), for an excluded node that must be fixed first.
    pub(super) fn exclude(&mut self, exclusion: ExclusionReason, now: DualTimestamp) -> bool {
        // The server and the provider of the credentials may have changed the password one after the other.
        let is_changing = matches!(exclusion, ExclusionReason::AuthFailed(_))
            && self.settings.provider_for(&self.address).is_some()
            && self.failures < QUICK_LOGINS;
        // A replica may be promoted without this client's knowledge, and dials are harmless in the meantime.
        let pause = if is_changing || exclusion == ExclusionReason::Replica {
            self.failures = self.failures.saturating_add(1);
            backoff::redial(self.failures, entropy::jitter())
        } else {
            backoff::redial_excluded(entropy::jitter())
        };
        self.status.is_returning = false;
        self.back_off(pause, now);
        let is_new = self.status.state != NodeState::Excluded(exclusion.clone());
        self.status.state = NodeState::Excluded(exclusion);
        is_new
    }

    /// Drops the connection or the dial until the next dial.
    fn back_off(&mut self, pause: Duration, now: DualTimestamp) {
        self.state = State::BackingOff(now.plus(pause).boot());
        self.login = None;
        self.status.failed_step = None;
    }

    /// Adds an exclusion to the warnings of the public status. Returns true if it is new.
    pub(super) fn add_warning(&mut self, exclusion: &ExclusionReason) -> bool {
        let warning = NodeWarning::RequestRejected(exclusion.clone());
        let is_new = !self.status.warnings.contains(&warning);
        if is_new {
            self.status.warnings.push(warning);
        }
        is_new
    }

    /// Closes the connection in order; all other paths reset it.
    pub(super) async fn close(self) {
        if let State::Up(connection) = self.state {
            connection.close().await;
        }
    }
}

/// How many failed dials in a row are repeated soon while a provider's credentials are rejected: for about a second.
const QUICK_LOGINS: u32 = 5;
/// How long no enqueue is sent to a node that rejected a write. Meanwhile waiters enqueue on the next node.
const ENQUEUE_REJECTED_PAUSE: Duration = Duration::from_secs(1);
