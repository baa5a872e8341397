//! Attempts: makes one, and repeats it where its failure says nothing about the lock.

use std::sync::Arc;
use std::time::Duration;

use super::client::Redlock;
use super::error::{AcquireError, NoReply};
use super::guard::Guard;
use super::wait_limit::WaitLimit;
use crate::driver::{Admission, DriverCommand, SharedLease};
use crate::host::clock::now;
use crate::host::entropy::jitter;
use crate::host::timer::sleep;
use quorlock_proto::attempt::{AttemptFailure, FailureReason};
use quorlock_proto::backoff;
use quorlock_proto::lease::RenewalPolicy;
use quorlock_proto::request::{LockSpec, OperationId};
use quorlock_proto::vote::{ReplyFailure, Vote};

/// What an attempt needs beside the lock's spec.
#[derive(Clone, Copy)]
pub(super) struct AttemptOptions {
    pub(super) policy: RenewalPolicy,
    /// An attempt that leaves less validity fails.
    pub(super) min_validity: Duration,
    /// Whether the ttl is at most the max ttl in force, whatever the spec says.
    pub(super) is_ttl_shortened: bool,
}

/// Makes one attempt, and one or two more if the votes may be split: if several clients try once at the same
/// instant, one of them should get the lock. A client that was granted nothing does not retry; it leaves the
/// lock to the others.
pub(super) async fn attempt_with_split_retries(
    client: &Redlock,
    spec: &LockSpec,
    options: AttemptOptions,
) -> Result<Result<AcquiredLease, AttemptFailure>, AcquireError> {
    for _ in 0..MAX_SPLIT_RETRIES {
        match attempt_with_reconnect(client, spec, options).await? {
            Err(failure) if failure.votes_may_be_split() => sleep(backoff::retry_after_split(jitter())).await,
            outcome => return Ok(outcome),
        }
    }
    attempt_with_reconnect(client, spec, options).await
}

/// Makes the attempt of a caller that does not wait. Connections may have just broken, as idle ones do all at
/// once when the servers close them. Then the attempt is repeated when they are back, within the time that
/// one attempt may take.
pub(super) async fn attempt_with_reconnect(
    client: &Redlock,
    spec: &LockSpec,
    options: AttemptOptions,
) -> Result<Result<AcquiredLease, AttemptFailure>, AcquireError> {
    let wait_limit = WaitLimit::At(now().plus(spec.params.attempt_timeout()));
    let has_broken = |vote: &Vote| {
        matches!(vote, Vote::Unknown(ReplyFailure::ConnectionLost | ReplyFailure::Disconnected(_)))
    };
    loop {
        let outcome = attempt(client, spec, options, Some(Duration::ZERO)).await?;
        let Err(AttemptFailure { reason: FailureReason::NoQuorum, votes }) = &outcome else {
            return Ok(outcome);
        };
        let left = wait_limit.left().unwrap_or_default();
        let is_over = left.is_zero() || !votes.iter().any(has_broken);
        if is_over || !client.wait_for_return(left, |node| has_broken(&votes[node])).await {
            return Ok(outcome);
        }
    }
}

/// Makes one attempt, and repeats it at once if the roster changed under it, because then its votes are void. A
/// change takes a few round trips, so it is repeated until the time that one attempt may take has passed.
pub(super) async fn attempt(
    client: &Redlock,
    spec: &LockSpec,
    options: AttemptOptions,
    left: Option<Duration>,
) -> Result<Result<AcquiredLease, AttemptFailure>, AcquireError> {
    let limit = WaitLimit::At(now().plus(spec.params.attempt_timeout()));
    let mut pause = Duration::ZERO;
    loop {
        let outcome = attempt_once(client, spec, options, left).await?;
        let is_void = outcome.as_ref().is_err_and(roster_has_changed);
        if !is_void || limit.is_over() || !client.wait_for_roster(limit.left().unwrap_or_default()).await {
            return Ok(outcome);
        }
        limit.pause(pause).await;
        pause = backoff::retry_after_split(jitter());
    }
}

/// Whether an attempt failed because members were taking part in the choice of the next roster, or carried
/// another one than the client knew.
fn roster_has_changed(failure: &AttemptFailure) -> bool {
    let is_final = matches!(failure.reason, FailureReason::Contended { .. } | FailureReason::NodesExcluded);
    let has_changed = |vote: &Vote| *vote == Vote::Unknown(ReplyFailure::MarkerMismatch);
    !is_final && failure.votes.iter().any(has_changed)
}

/// Makes one attempt. If its future is dropped before the end, the driver cancels the attempt and releases
/// its keys. If `left` is given, the caller waits for that time plus the attempt timeout.
async fn attempt_once(
    client: &Redlock,
    spec: &LockSpec,
    options: AttemptOptions,
    left: Option<Duration>,
) -> Result<Result<AcquiredLease, AttemptFailure>, AcquireError> {
    let mut cancel_on_drop =
        CancelOnDrop { client: client.clone(), id: client.shared.commands.id(), is_open: true };
    let (id, key, spec) = (cancel_on_drop.id, &spec.key, spec.clone());
    let span = left.map(|left| left.saturating_add(spec.params.attempt_timeout()));
    let AttemptOptions { policy, min_validity, is_ttl_shortened } = options;
    let outcome = client
        .shared
        .call(span, |reply| DriverCommand::Acquire { id, spec, policy, is_ttl_shortened, reply })
        .await;
    match outcome {
        Err(reason) => {
            // If the driver runs again later, it cancels the attempt.
            cancel_on_drop.is_open = matches!(reason, NoReply::NoDriver(_));
            Err(AcquireError::no_reply(reason, key))
        }
        Ok(Err(failure)) => {
            cancel_on_drop.is_open = false;
            Ok(Err(failure))
        }
        // This task may have slept for long since the last reply, so check the lease before it is returned.
        // If it is not valid for long enough, `cancel_on_drop` is dropped while open, which cancels the attempt.
        Ok(Ok(lease)) if !lease.is_valid_for(min_validity) => {
            let vote = |node| {
                if lease.confirmed().contains(node) {
                    Vote::Granted
                } else {
                    Vote::Unknown(ReplyFailure::NotWaitedFor)
                }
            };
            let votes = client.shared.quorum.get().all().iter().map(vote).collect();
            Ok(Err(AttemptFailure { reason: FailureReason::TooLate, votes }))
        }
        Ok(Ok(lease)) => Ok(Ok(AcquiredLease { cancel_on_drop, lease })),
    }
}

/// A lock that was acquired and is not yet a guard. Dropping it cancels the attempt.
pub(super) struct AcquiredLease {
    cancel_on_drop: CancelOnDrop,
    lease: Arc<SharedLease>,
}

impl AcquiredLease {
    pub(super) fn into_guard(
        mut self,
        client: &Redlock,
        spec: &LockSpec,
        admission: Option<Admission>,
    ) -> Guard {
        self.cancel_on_drop.is_open = false;
        Guard::new(client.clone(), spec, self.cancel_on_drop.id, Arc::clone(&self.lease), admission)
    }
}

/// Cancels an attempt when its caller drops the future.
struct CancelOnDrop {
    client: Redlock,
    id: OperationId,
    is_open: bool,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.is_open {
            self.client.shared.commands.send(DriverCommand::Cancel(self.id));
        }
    }
}

/// How many times a caller that tries once retries if the votes may be split.
const MAX_SPLIT_RETRIES: u32 = 2;
