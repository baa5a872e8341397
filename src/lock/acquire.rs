//! Acquiring a lock: wait for an admission in the local queue, then make one attempt after another.

use std::time::Duration;

use tracing::{Instrument, debug_span};

use super::attempt::{AttemptOptions, attempt, attempt_with_split_retries};
use super::client::Redlock;
use super::error::{AcquireError, NoReply};
use super::guard::Guard;
use super::known_expiry::KnownExpiry;
use super::wait_limit::WaitLimit;
use crate::driver::{Admission, DriverCommand};
use crate::host::clock::now;
use crate::host::entropy::jitter;
use crate::host::timer::timeout;
use crate::view::NodeReplies;
use quorlock_proto::attempt::{AttemptFailure, FailureReason};
use quorlock_proto::backoff;
use quorlock_proto::fairness::{FailedAttempt, NextAction, QueueNodeTrust, TrustDecision};
use quorlock_proto::request::LockSpec;
use quorlock_proto::time::DualTimestamp;
use quorlock_proto::vote::Vote;

/// Makes attempts until the lock is acquired, the wait is over, or waiting cannot help.
pub(super) async fn acquire(
    client: &Redlock,
    spec: &LockSpec,
    options: AttemptOptions,
    wait: Option<Duration>,
) -> Result<Guard, AcquireError> {
    let span = debug_span!(target: "quorlock::lock", "acquire", key = %spec.key);
    async {
        let limit = WaitLimit::of(wait);
        start(client, spec)?;
        // Connecting counts as waiting. Even the shortest wait allows for one dial of each node.
        client.wait_until_ready().await;
        let admission = admission(client, spec, limit).await?;
        limit.pause(admission.pause).await;
        let mut queue_wait = QueueWait::new(client, spec, &admission, limit);
        let mut next = Some(admission.next());
        let mut failures = 0;
        let failure = loop {
            let wait_result = match next {
                Some(next) => queue_wait.wait(next).await,
                None => WaitResult::NoQueue,
            };
            let decision = queue_wait.trust.on_wait_ended(wait_result == WaitResult::Free);
            if decision == TrustDecision::EnqueueOnOtherNode && !limit.is_over() {
                admission.cohort(|cohort, _| cohort.on_free_reports_distrusted());
                next = Some(NextAction::Enqueue);
                continue;
            }
            if wait_result == WaitResult::NoQueue || decision != TrustDecision::Acquire {
                limit.pause(backoff::retry(failures, queue_wait.expiry.remaining(now()), jitter())).await;
            }
            // Only a waiter without a position in the wait queue needs the holder's remaining ttl from a failed attempt.
            // In plain mode that costs more requests; the reply to an enqueue has it for less.
            let spec = LockSpec {
                want_holder_ttl: wait_result == WaitResult::NoQueue || limit.is_over(),
                ..spec.clone()
            };
            let outcome = if wait.is_some_and(|wait| wait.is_zero()) {
                attempt_with_split_retries(client, &spec, options).await?
            } else {
                attempt(client, &spec, options, limit.left()).await?
            };
            let failure = match outcome {
                Ok(acquired) => {
                    admission.on_acquired();
                    return Ok(acquired.into_guard(client, &spec, Some(admission)));
                }
                Err(failure) => failure,
            };
            let was_at_head = admission.cohort(|cohort, _| cohort.on_attempt_failed());
            let retry_after = match failure.reason {
                FailureReason::Contended { retry_after } | FailureReason::OnProbation { retry_after } => {
                    retry_after
                }
                FailureReason::NodesExcluded => break failure,
                _ => None,
            };
            queue_wait.on_attempt_failed(
                FailedAttempt { votes_may_be_split: failure.votes_may_be_split(), was_at_head },
                retry_after,
            );
            if limit.is_over() {
                break failure;
            }
            failures += 1;
            let is_contended = matches!(failure.reason, FailureReason::Contended { .. });
            next = is_contended.then(|| admission.cohort(|cohort, _| cohort.next_action_while_contended()));
        };
        Err(acquire_error(client, spec, failure))
    }
    .instrument(span)
    .await
}

/// Makes one attempt, and repeats it only if the votes may be split.
pub(super) async fn try_acquire(
    client: &Redlock,
    spec: &LockSpec,
    options: AttemptOptions,
) -> Result<Option<Guard>, AcquireError> {
    let span = debug_span!(target: "quorlock::lock", "acquire", key = %spec.key);
    async {
        start(client, spec)?;
        client.wait_until_ready().await;
        let Some(admission) = client.shared.queue.try_admit(&spec.key) else { return Ok(None) };
        match attempt_with_split_retries(client, spec, options).await? {
            Ok(acquired) => {
                admission.on_acquired();
                Ok(Some(acquired.into_guard(client, spec, Some(admission))))
            }
            Err(AttemptFailure { reason: FailureReason::Contended { .. }, .. }) => Ok(None),
            Err(failure) => Err(acquire_error(client, spec, failure)),
        }
    }
    .instrument(span)
    .await
}

/// Begins an acquire: checks that this is the client's process, and reports its minimum fencing number.
fn start(client: &Redlock, spec: &LockSpec) -> Result<(), AcquireError> {
    client
        .shared
        .check_not_forked()
        .map_err(|reason| AcquireError::no_reply(NoReply::NoDriver(reason), &spec.key))?;
    client.shared.report_min_fencing_number(spec);
    Ok(())
}

/// A contender that waits in the wait queue, in which processes wait for one key.
struct QueueWait<'a> {
    client: &'a Redlock,
    spec: &'a LockSpec,
    admission: &'a Admission,
    limit: WaitLimit,
    since: DualTimestamp,
    expiry: KnownExpiry,
    /// From this time on, try to acquire even if the wait queue's node reports that the lock is held.
    distrust_at: DualTimestamp,
    /// How far the reports of the wait queue's node are trusted.
    trust: QueueNodeTrust,
}

/// The reason why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitResult {
    /// A release notified this process.
    Notified,
    /// A waiter found the key free, this one or another; or the task did not have to wait.
    Free,
    /// The wait queue's node reports that the lock is held, and for long no other node has confirmed it.
    Distrusted,
    /// Nothing is known: no node keeps a wait queue, or the time is up.
    NoQueue,
}

impl<'a> QueueWait<'a> {
    fn new(client: &'a Redlock, spec: &'a LockSpec, admission: &'a Admission, limit: WaitLimit) -> Self {
        Self {
            client,
            spec,
            admission,
            limit,
            since: now(),
            expiry: KnownExpiry::default(),
            distrust_at: now().plus(QueueNodeTrust::initial_held_report_trust(jitter())),
            trust: QueueNodeTrust::default(),
        }
    }

    /// Records a failed attempt. The keys in the way of a quorum expire after `retry_after`, if the nodes
    /// reported it.
    fn on_attempt_failed(&mut self, failed: FailedAttempt, retry_after: Option<Duration>) {
        self.expiry.on_attempt_failed(retry_after, now());
        let distrust_in = self.trust.on_attempt_failed(failed, retry_after, jitter());
        self.distrust_at = now().plus(distrust_in);
    }

    /// Waits until an attempt makes sense, but not past the limit.
    async fn wait(&mut self, mut next: NextAction) -> WaitResult {
        let (mut enqueue_count, mut wait_result) = (0, WaitResult::Free);
        while next != NextAction::Acquire {
            let wakeup = self.admission.wakeup();
            if next == NextAction::Enqueue {
                // Record the enqueue before it is sent, because the notification may arrive before the reply.
                self.admission.cohort(|cohort, _| cohort.on_enqueued());
                match self.enqueue().await {
                    Some(Vote::HeldByOther { remaining }) => self.expiry.on_enqueue_reply(remaining, now()),
                    Some(Vote::NotHeld) => {
                        self.admission
                            .cohort(|cohort, waiting| cohort.on_found_free(enqueue_count > 0, waiting));
                        return WaitResult::Free;
                    }
                    _ => {
                        self.admission.cohort(|cohort, _| cohort.on_queue_lost());
                        return WaitResult::NoQueue;
                    }
                }
                enqueue_count += 1;
            }
            let expiry = self.expiry.remaining(now());
            let wait_limit =
                self.admission.cohort(|cohort, _| cohort.recheck_delay(enqueue_count, expiry, jitter()));
            if self.limit.is_over() {
                return WaitResult::NoQueue;
            }
            let distrust_in = self.distrust_at.since(now());
            let is_quiet = self.limit.wait_for_wakeup(&wakeup, wait_limit.min(distrust_in)).await.is_err();
            let (after, is_from_waiter) = self
                .admission
                .cohort(|cohort, _| (cohort.next_action_while_contended(), cohort.was_notified_by_waiter()));
            wait_result = if is_from_waiter { WaitResult::Free } else { WaitResult::Notified };
            next = match after {
                // A single node may be wrong. It can delay an attempt, but not prevent it.
                NextAction::Wait if is_quiet && now().is_due(self.distrust_at) => {
                    return WaitResult::Distrusted;
                }
                // The holder may have died without a notification, so check the key again.
                NextAction::Wait if is_quiet => NextAction::Enqueue,
                next => next,
            };
        }
        wait_result
    }

    async fn enqueue(&self) -> Option<Vote> {
        let (key, waited, is_on_second) =
            (self.spec.key.clone(), now().since(self.since), self.trust.uses_second_node());
        let shared = &self.client.shared;
        let span = self.limit.left().map(|left| left.saturating_add(shared.reply_timeout));
        let command =
            |reply| DriverCommand::Enqueue { id: shared.commands.id(), key, waited, is_on_second, reply };
        shared.call(span, command).await.ok()
    }
}

async fn admission(client: &Redlock, spec: &LockSpec, limit: WaitLimit) -> Result<Admission, AcquireError> {
    let queue = &client.shared.queue;
    if let Some(admission) = queue.try_admit(&spec.key) {
        return Ok(admission);
    }
    let admission = match limit {
        WaitLimit::Never => Some(queue.admit(&spec.key).await),
        WaitLimit::At(end) => timeout(end.since(now()), queue.admit(&spec.key)).await.ok(),
    };
    admission.ok_or_else(|| {
        let key = spec.key.clone();
        AcquireError::Contended { key, local: true, retry_after: None, replies: NodeReplies::default() }
    })
}

fn acquire_error(client: &Redlock, spec: &LockSpec, failure: AttemptFailure) -> AcquireError {
    let (key, replies) = (spec.key.clone(), client.replies(failure.votes));
    match failure.reason {
        FailureReason::Contended { retry_after } => {
            AcquireError::Contended { key, local: false, retry_after, replies }
        }
        FailureReason::NoQuorum => AcquireError::NoQuorum { key, replies },
        FailureReason::OnProbation { retry_after } => AcquireError::OnProbation { key, retry_after, replies },
        FailureReason::NodesExcluded => AcquireError::NodesExcluded { key, replies },
        // `NotHeld` is a reason of adoptions only. The enum may grow; a new reason is one that may pass.
        FailureReason::TooLate | _ => AcquireError::TooLate { key, replies },
    }
}
