//! Taking a lock: a turn in the line, then one attempt after another.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{Instrument, debug_span};

use super::client::Redlock;
use super::error::{AcquireError, NoAnswer};
use super::guard::Guard;
use super::mutex::{Mutex, Wait};
use super::queue::Admission;
use super::replies::NodeReplies;
use crate::driver::timer::{Elapsed, sleep, timeout};
use crate::driver::{DriverCommand, SharedLease, jitter, now};
use quorlock_proto::attempt::{AttemptFailure, FailureReason};
use quorlock_proto::backoff;
use quorlock_proto::coordinator::OperationId;
use quorlock_proto::fairness::{NextAction, Reaction, Refused, Trust};
use quorlock_proto::lease::RenewalPolicy;
use quorlock_proto::request::LockSpec;
use quorlock_proto::time::DualTimestamp;
use quorlock_proto::vote::{ReplyFailure, Vote};

/// Tries until the lock is ours, the wait is over, or waiting cannot help.
pub(super) async fn acquire(mutex: &Mutex) -> Result<Guard, AcquireError> {
    let (spec, policy) = mutex.checked_spec(true)?;
    let span = debug_span!(target: "quorlock::lock", "acquire", key = spec.key.as_str());
    async {
        let limit = WaitLimit::of(mutex.wait_limit);
        let client = &mutex.client;
        is_here(client, &spec)?;
        // Reaching the nodes counts as waiting, but no wait is too short for one dial of each.
        client.ready().await;
        let turn = admission(client, &spec, limit).await?;
        limit.pause(turn.delay).await;
        let mut line = QueueWait::new(client, &spec, &turn, limit);
        let mut next = Some(turn.next());
        let mut failures = 0;
        let refusal = loop {
            let word = match next {
                Some(next) => line.wait(next).await,
                None => WaitResult::NoQueue,
            };
            let reaction = line.trust.on_end_of_wait(word == WaitResult::Free);
            if reaction == Reaction::StepAside && !limit.is_over() {
                turn.cohort(|share, _| share.on_false_notification());
                next = Some(NextAction::Enqueue);
                continue;
            }
            if word == WaitResult::NoQueue || reaction != Reaction::Believe {
                limit.pause(backoff::retry(failures, line.retry_after, jitter())).await;
            }
            // For how long the lock is taken, a plain refusal tells only for more questions. The line tells for less.
            let spec =
                LockSpec { want_holder_ttl: word == WaitResult::NoQueue || limit.is_over(), ..spec.clone() };
            let tried = match mutex.wait_limit {
                Wait::No => attempt_past_splits(client, &spec, policy).await?,
                Wait::For(_) | Wait::Forever => attempt(client, &spec, policy, limit.left()).await?,
            };
            let refusal = match tried {
                Ok(won) => {
                    turn.on_taken();
                    return Ok(won.into_guard(client, &spec, turn));
                }
                Err(refusal) => refusal,
            };
            let was_called = turn.cohort(|share, _| share.on_refused());
            let retry_after = match refusal.reason {
                FailureReason::Contended { retry_after } | FailureReason::OnProbation { retry_after } => {
                    retry_after
                }
                FailureReason::NoQuorum | FailureReason::TooLate => None,
                FailureReason::NodesExcluded => break refusal,
            };
            line.on_refused(Refused { may_be_split: refusal.may_be_split(), was_called }, retry_after);
            if limit.is_over() {
                break refusal;
            }
            failures += 1;
            let is_taken = matches!(refusal.reason, FailureReason::Contended { .. });
            next = is_taken.then(|| turn.cohort(|share, _| share.next_after_refusal()));
        };
        Err(error_of(client, &spec, refusal))
    }
    .instrument(span)
    .await
}

/// Tries once, and again only where the votes may be split.
pub(super) async fn try_acquire(mutex: &Mutex) -> Result<Option<Guard>, AcquireError> {
    let (spec, policy) = mutex.checked_spec(false)?;
    let span = debug_span!(target: "quorlock::lock", "acquire", key = spec.key.as_str());
    async {
        let client = &mutex.client;
        is_here(client, &spec)?;
        client.ready().await;
        let Some(turn) = client.shared.queue.try_admit(&spec.key) else { return Ok(None) };
        match attempt_past_splits(client, &spec, policy).await? {
            Ok(won) => {
                turn.on_taken();
                Ok(Some(won.into_guard(client, &spec, turn)))
            }
            Err(AttemptFailure { reason: FailureReason::Contended { .. }, .. }) => Ok(None),
            Err(refusal) => Err(error_of(client, &spec, refusal)),
        }
    }
    .instrument(span)
    .await
}

/// Until when a caller keeps trying.
#[derive(Clone, Copy)]
enum WaitLimit {
    Never,
    At(DualTimestamp),
}

impl WaitLimit {
    fn of(wait: Wait) -> Self {
        match wait {
            Wait::No => Self::At(now()),
            Wait::For(span) => Self::At(now().plus(span)),
            Wait::Forever => Self::Never,
        }
    }

    /// What is left of the wait; nothing if it has no end.
    fn left(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::At(end) => Some(end.since(now())),
        }
    }

    fn is_over(self) -> bool {
        matches!(self, Self::At(end) if now().is_due(end))
    }

    /// This span, cut off at the end.
    fn cut(self, span: Duration) -> Duration {
        self.left().map_or(span, |left| left.min(span))
    }

    /// Waits for the bell, for this span at most and not past the end.
    async fn wait_for_wakeup(self, wakeup: &Notify, span: Duration) -> Result<(), Elapsed> {
        timeout(self.cut(span), wakeup.notified()).await
    }

    /// Sleeps, but not past the end: the last attempt comes right at it.
    async fn pause(self, span: Duration) {
        if !span.is_zero() {
            sleep(self.cut(span)).await;
        }
    }
}

/// A contender who waits for its turn among processes.
struct QueueWait<'a> {
    client: &'a Redlock,
    spec: &'a LockSpec,
    admission: &'a Admission,
    limit: WaitLimit,
    since: DualTimestamp,
    /// For how long others have the lock at most, as far as is known.
    retry_after: Option<Duration>,
    /// From when on it tries though the node with the line calls the lock taken.
    distrust_at: DualTimestamp,
    /// Whether the node with the line is believed.
    trust: Trust,
}

/// What ended a wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitResult {
    /// We were called.
    Notified,
    /// Nobody has the lock, or nobody has said so yet.
    Free,
    /// The node with the line calls it taken, and has for long been the only one to say so.
    Distrusted,
    /// Nothing is known: no node keeps lines, or the time is up.
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
            retry_after: None,
            distrust_at: now().plus(Trust::at_first(jitter())),
            trust: Trust::default(),
        }
    }

    /// An attempt came to nothing; the keys in the way of a quorum expire after this, if the nodes told.
    fn on_refused(&mut self, refused: Refused, retry_after: Option<Duration>) {
        self.retry_after = retry_after;
        let doubts_in = self.trust.on_refused(refused, retry_after, jitter());
        self.distrust_at = now().plus(doubts_in);
    }

    /// Waits until it makes sense to try, and not past the limit.
    async fn wait(&mut self, mut next: NextAction) -> WaitResult {
        let (mut looks, mut word) = (0, WaitResult::Free);
        while next != NextAction::Acquire {
            let wakeup = self.admission.wakeup();
            if next == NextAction::Enqueue {
                // Said before it is so: a call can come as soon as it is.
                self.admission.cohort(|share, _| share.on_enqueued());
                match self.enqueue().await {
                    Some(Vote::HeldByOther { remaining }) => self.retry_after = remaining,
                    Some(Vote::NotHeld) => {
                        self.admission.cohort(|share, waiting| share.on_free(looks > 0, waiting));
                        return WaitResult::Free;
                    }
                    _ => {
                        self.admission.cohort(|share, _| share.on_queue_lost());
                        return WaitResult::NoQueue;
                    }
                }
                looks += 1;
            }
            let patience =
                self.admission.cohort(|share, _| share.wait_limit(looks, self.retry_after, jitter()));
            if self.limit.is_over() {
                return WaitResult::NoQueue;
            }
            let doubts_in = self.distrust_at.since(now());
            let is_quiet = self.limit.wait_for_wakeup(&wakeup, patience.min(doubts_in)).await.is_err();
            let (after, was_found) =
                self.admission.cohort(|share, _| (share.next_after_refusal(), share.was_found()));
            word = if was_found { WaitResult::Free } else { WaitResult::Notified };
            next = match after {
                // One node may be wrong, and delays an attempt; it prevents none.
                NextAction::Wait if is_quiet && now().is_due(self.distrust_at) => {
                    return WaitResult::Distrusted;
                }
                // Whoever had the lock may be gone without a word.
                NextAction::Wait if is_quiet => NextAction::Enqueue,
                next => next,
            };
        }
        word
    }

    async fn enqueue(&self) -> Option<Vote> {
        let (key, waited, is_on_second) =
            (self.spec.key.clone(), now().since(self.since), self.trust.is_on_second_node());
        let shared = &self.client.shared;
        let span = self.limit.left().map(|left| left.saturating_add(shared.reply_timeout));
        let command =
            |reply| DriverCommand::Enqueue { id: shared.orders.id(), key, waited, is_on_second, reply };
        shared.call(span, command).await.ok()
    }
}

async fn admission(client: &Redlock, spec: &LockSpec, limit: WaitLimit) -> Result<Admission, AcquireError> {
    let queue = &client.shared.queue;
    if let Some(turn) = queue.try_admit(&spec.key) {
        return Ok(turn);
    }
    let turn = match limit {
        WaitLimit::Never => Some(queue.admit(&spec.key).await),
        WaitLimit::At(end) => timeout(end.since(now()), queue.admit(&spec.key)).await.ok(),
    };
    turn.ok_or_else(|| {
        let key = spec.key.shared();
        AcquireError::Contended { key, retry_after: None, replies: NodeReplies::empty() }
    })
}

/// The child of a fork has neither driver nor locks.
fn is_here(client: &Redlock, spec: &LockSpec) -> Result<(), AcquireError> {
    let here = client.shared.is_here();
    here.map_err(|why| AcquireError::unanswered(NoAnswer::NoDriver(why), &spec.key))
}

/// One attempt, and one or two more where votes may have been split: of those who try once at the same instant one is to
/// have the lock. Who was granted nothing leaves it to the others.
async fn attempt_past_splits(
    client: &Redlock,
    spec: &LockSpec,
    policy: RenewalPolicy,
) -> Result<Result<Won, AttemptFailure>, AcquireError> {
    for _ in 0..MAX_SPLITS {
        match last_attempt(client, spec, policy).await? {
            Err(refusal) if refusal.may_be_split() => sleep(backoff::split(jitter())).await,
            outcome => return Ok(outcome),
        }
    }
    last_attempt(client, spec, policy).await
}

/// The attempt of a caller who does not wait. Where connections have just broken, as idle ones do all at once when the
/// servers close them, it is made again when they are back, within the time that one attempt may take.
async fn last_attempt(
    client: &Redlock,
    spec: &LockSpec,
    policy: RenewalPolicy,
) -> Result<Result<Won, AttemptFailure>, AcquireError> {
    let patience = WaitLimit::At(now().plus(spec.params.attempt_timeout()));
    let has_broken = |vote: &Vote| {
        matches!(vote, Vote::Unknown(ReplyFailure::ConnectionLost | ReplyFailure::Disconnected(_)))
    };
    loop {
        let tried = attempt(client, spec, policy, Some(Duration::ZERO)).await?;
        let Err(AttemptFailure { reason: FailureReason::NoQuorum, votes }) = &tried else { return Ok(tried) };
        let left = patience.left().unwrap_or_default();
        let is_over = left.is_zero() || !votes.iter().any(has_broken);
        if is_over || !client.returned(left, |node| has_broken(&votes[node])).await {
            return Ok(tried);
        }
    }
}

/// One attempt, watched: dropped half-way, it tells the driver to undo it. The caller waits for so long, and for as long
/// as the attempt may take, if there is an end to it.
async fn attempt(
    client: &Redlock,
    spec: &LockSpec,
    policy: RenewalPolicy,
    left: Option<Duration>,
) -> Result<Result<Won, AttemptFailure>, AcquireError> {
    let mut ticket = CancelOnDrop { client: client.clone(), id: client.shared.orders.id(), is_open: true };
    let (id, key, spec) = (ticket.id, &spec.key, spec.clone());
    let span = left.map(|left| left.saturating_add(spec.params.attempt_timeout()));
    let answer = client.shared.call(span, |reply| DriverCommand::Acquire { id, spec, policy, reply }).await;
    match answer {
        Err(why) => {
            // A driver that goes on one day undoes it.
            ticket.is_open = matches!(why, NoAnswer::NoDriver(_));
            Err(AcquireError::unanswered(why, key))
        }
        Ok(Err(refusal)) => {
            ticket.is_open = false;
            Ok(Err(refusal))
        }
        // Between the last answer and here this task may have slept for long. What is handed over must be good; the
        // ticket, dropped open, undoes what is not.
        Ok(Ok(hold)) if !hold.is_valid() => {
            let vote = |node| {
                if hold.confirmed().contains(node) {
                    Vote::Granted
                } else {
                    Vote::Unknown(ReplyFailure::NotWaitedFor)
                }
            };
            let votes = client.shared.quorum.all().iter().map(vote).collect();
            Ok(Err(AttemptFailure { reason: FailureReason::TooLate, votes }))
        }
        Ok(Ok(hold)) => Ok(Ok(Won { ticket, hold })),
    }
}

/// A lock that was won and not yet handed over. Dropped, it is undone.
struct Won {
    ticket: CancelOnDrop,
    hold: Arc<SharedLease>,
}

impl Won {
    fn into_guard(mut self, client: &Redlock, spec: &LockSpec, turn: Admission) -> Guard {
        self.ticket.is_open = false;
        Guard::new(client.clone(), spec, self.ticket.id, Arc::clone(&self.hold), turn)
    }
}

/// An attempt that somebody waits for.
struct CancelOnDrop {
    client: Redlock,
    id: OperationId,
    is_open: bool,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.is_open {
            self.client.shared.orders.send(DriverCommand::Cancel(self.id));
        }
    }
}

fn error_of(client: &Redlock, spec: &LockSpec, refusal: AttemptFailure) -> AcquireError {
    let (key, replies) = (spec.key.shared(), client.replies(refusal.votes));
    match refusal.reason {
        FailureReason::Contended { retry_after } => AcquireError::Contended { key, retry_after, replies },
        FailureReason::NoQuorum => AcquireError::NoQuorum { key, replies },
        FailureReason::OnProbation { retry_after } => AcquireError::OnProbation { key, retry_after, replies },
        FailureReason::NodesExcluded => AcquireError::NodesExcluded { key, replies },
        FailureReason::TooLate => AcquireError::TooLate { key, replies },
    }
}

/// How often one who tries once tries again where votes may have been split.
const MAX_SPLITS: u32 = 2;
