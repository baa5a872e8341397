//! Taking a lock: a turn in the line, then one attempt after another.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout, timeout_at};
use tracing::{Instrument, debug_span};

use super::client::Redlock;
use super::error::AcquireError;
use super::guard::Guard;
use super::mutex::{Mutex, Wait};
use super::queue::Turn;
use super::report::Report;
use crate::driver::{Hold, Order, jitter};
use crate::protocol::attempt::{Refusal, Why};
use crate::protocol::backoff;
use crate::protocol::board::Id;
use crate::protocol::claim::Claim;
use crate::protocol::lease::Tenure;
use crate::protocol::vote::{Fault, Vote};

/// Tries until the lock is ours, the wait is over, or waiting cannot help.
pub(super) async fn acquire(mutex: &Mutex) -> Result<Guard, AcquireError> {
    let (claim, tenure) = mutex.claim(true)?;
    let span = debug_span!("acquire", key = claim.key.as_str());
    async {
        let limit = Limit::of(mutex.wait);
        let client = &mutex.client;
        match mutex.wait {
            // Reaching the nodes counts as waiting.
            Wait::For(span) => drop(timeout(span, client.ready()).await),
            Wait::No | Wait::Forever => client.ready().await,
        }
        let turn = take_turn(client, &claim, limit).await?;
        limit.pause(turn.pause).await;
        let mut failures = 0;
        let refusal = loop {
            let refusal = match attempt(client, &claim, tenure).await? {
                Ok(won) => return Ok(won.into_guard(client, &claim, turn)),
                Err(refusal) => refusal,
            };
            let retry_after = match refusal.why {
                Why::Contended { retry_after } | Why::OnProbation { retry_after } => retry_after,
                Why::NoQuorum | Why::TooLate => None,
                Why::Barred => break refusal,
            };
            if limit.is_over() {
                break refusal;
            }
            failures += 1;
            limit.pause(backoff::retry(failures, retry_after, jitter())).await;
        };
        Err(error_of(client, refusal))
    }
    .instrument(span)
    .await
}

/// Tries once.
pub(super) async fn try_acquire(mutex: &Mutex) -> Result<Option<Guard>, AcquireError> {
    let (claim, tenure) = mutex.claim(false)?;
    let span = debug_span!("acquire", key = claim.key.as_str());
    async {
        let client = &mutex.client;
        client.ready().await;
        let Some(turn) = client.shared.queue.try_turn(&claim.key) else { return Ok(None) };
        match attempt(client, &claim, tenure).await? {
            Ok(won) => Ok(Some(won.into_guard(client, &claim, turn))),
            Err(Refusal { why: Why::Contended { .. }, .. }) => Ok(None),
            Err(refusal) => Err(error_of(client, refusal)),
        }
    }
    .instrument(span)
    .await
}

/// Until when a caller keeps trying.
#[derive(Clone, Copy)]
enum Limit {
    Never,
    At(tokio::time::Instant),
}

impl Limit {
    fn of(wait: Wait) -> Self {
        let now = tokio::time::Instant::now();
        match wait {
            Wait::No => Self::At(now),
            Wait::For(span) => now.checked_add(span).map_or(Self::Never, Self::At),
            Wait::Forever => Self::Never,
        }
    }

    fn is_over(self) -> bool {
        matches!(self, Self::At(end) if tokio::time::Instant::now() >= end)
    }

    /// Sleeps, but not past the end: the last attempt comes right at it.
    async fn pause(self, span: Duration) {
        match self {
            _ if span.is_zero() => {}
            Self::Never => sleep(span).await,
            Self::At(end) => drop(timeout_at(end, sleep(span)).await),
        }
    }
}

async fn take_turn(client: &Redlock, claim: &Claim, limit: Limit) -> Result<Turn, AcquireError> {
    let queue = &client.shared.queue;
    if let Some(turn) = queue.try_turn(&claim.key) {
        return Ok(turn);
    }
    let turn = match limit {
        Limit::Never => Some(queue.turn(&claim.key).await),
        Limit::At(end) => timeout_at(end, queue.turn(&claim.key)).await.ok(),
    };
    turn.ok_or_else(|| AcquireError::Held { retry_after: None, report: Report::empty() })
}

/// One attempt, watched: dropped half-way, it tells the driver to undo it.
async fn attempt(
    client: &Redlock,
    claim: &Claim,
    tenure: Tenure,
) -> Result<Result<Won, Refusal>, AcquireError> {
    let mut ticket = Ticket { client: client.clone(), id: client.shared.orders.id(), is_open: true };
    let (id, claim) = (ticket.id, claim.clone());
    let answer = client.shared.ask(|reply| Order::Acquire { id, claim, tenure, reply }).await;
    match answer {
        None => {
            ticket.is_open = false;
            Err(AcquireError::Closed)
        }
        Some(Err(refusal)) => {
            ticket.is_open = false;
            Ok(Err(refusal))
        }
        // Between the last answer and here this task may have slept for long. What is handed over must be good; the
        // ticket, dropped open, undoes what is not.
        Some(Ok(hold)) if !hold.is_valid() => {
            let vote = |node| {
                if hold.confirmed().contains(node) { Vote::Granted } else { Vote::Unknown(Fault::Silent) }
            };
            let votes = client.shared.quorum.all().iter().map(vote).collect();
            Ok(Err(Refusal { why: Why::TooLate, votes }))
        }
        Some(Ok(hold)) => Ok(Ok(Won { ticket, hold })),
    }
}

/// A lock that was won and not yet handed over. Dropped, it is undone.
struct Won {
    ticket: Ticket,
    hold: Arc<Hold>,
}

impl Won {
    fn into_guard(mut self, client: &Redlock, claim: &Claim, turn: Turn) -> Guard {
        self.ticket.is_open = false;
        Guard::new(client.clone(), claim.clone(), self.ticket.id, Arc::clone(&self.hold), turn)
    }
}

/// An attempt that somebody waits for.
struct Ticket {
    client: Redlock,
    id: Id,
    is_open: bool,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_open {
            self.client.shared.orders.send(Order::Abandon(self.id));
        }
    }
}

fn error_of(client: &Redlock, refusal: Refusal) -> AcquireError {
    let report = client.report(refusal.votes);
    match refusal.why {
        Why::Contended { retry_after } => AcquireError::Held { retry_after, report },
        Why::NoQuorum => AcquireError::NoQuorum { report },
        Why::OnProbation { retry_after } => AcquireError::OnProbation { retry_after, report },
        Why::Barred => AcquireError::Refused { report },
        Why::TooLate => AcquireError::TooLate { report },
    }
}
