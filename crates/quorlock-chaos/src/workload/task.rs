//! A client task: repeatedly acquires a lock, writes under it, and releases it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use quorlock::error::{ExtendError, ReleaseError};
use quorlock::node::NodeReply;
use quorlock::{AcquireError, Guard, Mutex, Redlock};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::ClientSpec;
use super::event_writer::EventWriter;
use super::store::{Store, Stores};
use crate::history::{self, EventKind, FailureReason, LockKind};
use crate::seeded_rng::SeededRng;

pub(super) struct Task {
    spec: Arc<ClientSpec>,
    redlock: Redlock,
    stores: Arc<Stores>,
    writer: EventWriter,
    rng: SeededRng,
    stop: CancellationToken,
}

impl Task {
    pub(super) fn new(
        spec: Arc<ClientSpec>,
        redlock: Redlock,
        stores: Arc<Stores>,
        number: u32,
        stop: CancellationToken,
    ) -> Self {
        let writer = EventWriter::new(spec.process, number);
        let rng = SeededRng::for_part(spec.seed, (u64::from(spec.process) << 16) + u64::from(number));
        Self { spec, redlock, stores, writer, rng, stop }
    }

    pub(super) async fn run(mut self) {
        loop {
            let pause = self.millis(0, 60);
            let stop = self.stop.clone();
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                break;
            }
            self.writer.next_attempt();
            if let Err(message) = self.attempt().await {
                self.writer.write(EventKind::UnexpectedError { message });
            }
        }
        self.writer.write(EventKind::Finished);
    }

    /// One attempt, from the request to the release. It returns only unexpected errors.
    async fn attempt(&mut self) -> Result<(), String> {
        let key = self.rng.between(0, self.spec.keys.len() as u64 - 1) as usize;
        let wait_ms = *self.rng.pick(&self.spec.waits_ms);
        let is_renewed = self.rng.draw_chance(85);
        let ttl_ms = self.spec.ttl_ms;
        let name = self.spec.keys[key].clone();
        let mutex = self.redlock.mutex(&name).ttl(Duration::from_millis(ttl_ms)).auto_renew(is_renewed);
        let mutex = mutex.wait_timeout(Duration::from_millis(wait_ms));
        self.writer.write(EventKind::Waiting { keys: vec![name], kind: LockKind::Mutex, ttl_ms, wait_ms });
        let Some(guard) = self.acquire(mutex).await? else { return Ok(()) };
        let deadline = guard.deadline().boot_time().as_nanos() as u64;
        let token = guard.fencing_token();
        self.writer.write(EventKind::Granted {
            deadline,
            fencing_number: token.map(|token| token.number),
            nonce: token.map(|token| format!("{:032x}", token.nonce)),
            spare_nodes: guard.spare_nodes(),
        });
        let outcome = self.use_lock(&guard, key).await;
        self.release(guard).await.and(outcome)
    }

    /// Acquires the lock. None if that failed for an expected reason, or the future was dropped.
    async fn acquire(&mut self, mutex: Mutex) -> Result<Option<Guard>, String> {
        let cancel_after = self.cancel_after(8, 0, 40);
        let stop = self.stop.clone();
        let acquired = stop.run_until_cancelled(until_dropped(cancel_after, mutex.acquire())).await.flatten();
        let Some(acquired) = acquired else {
            self.writer.write(EventKind::Cancelled);
            return Ok(None);
        };
        let reason = match acquired {
            Ok(guard) => return Ok(Some(guard)),
            Err(AcquireError::Contended { .. }) => FailureReason::Contended,
            // A busy machine may delay the driver's reply.
            Err(AcquireError::NoQuorum { .. } | AcquireError::NoDriver { .. }) => FailureReason::NoQuorum,
            Err(AcquireError::OnProbation { .. }) => FailureReason::OnProbation,
            Err(AcquireError::NodesExcluded { .. }) => FailureReason::NodesExcluded,
            Err(AcquireError::TooLate { .. }) => FailureReason::TooLate,
            Err(error) => return Err(error.to_string()),
        };
        self.writer.write(EventKind::Failed { reason });
        Ok(None)
    }

    /// Writes under the lock for a random time, or until the lock is lost.
    async fn use_lock(&mut self, guard: &Guard, key: usize) -> Result<(), String> {
        let stores = Arc::clone(&self.stores);
        let mut remaining = if self.rng.draw_chance(self.spec.very_long_holds) {
            self.millis(self.spec.ttl_ms * 5 / 2, self.spec.ttl_ms * 7 / 2)
        } else if self.rng.draw_chance(self.spec.long_holds) {
            self.millis(self.spec.ttl_ms, self.spec.ttl_ms * 5 / 2)
        } else if self.rng.draw_chance(80) {
            self.millis(1, 20)
        } else {
            self.millis(20, 200)
        };
        let mut lost = pin!(guard.lost());
        while !remaining.is_zero() {
            self.check_validity(guard);
            // The holder checks, then writes. Its process may be stopped in between for any time.
            sleep(self.millis(0, 15)).await;
            self.write(guard, key, &stores, true).await?;
            if self.rng.draw_chance(15) {
                self.extend(guard).await?;
            }
            let step = self.millis(5, 60).min(remaining);
            remaining -= step;
            let is_lost = timeout(step, &mut lost).await.is_ok();
            if is_lost {
                return self.after_loss(guard, key, &stores).await;
            }
        }
        if self.check_validity(guard) {
            return Ok(());
        }
        // The deadline has passed, so the loss signal must come. The checker decides whether it is late.
        if timeout(SIGNAL_TIMEOUT, &mut lost).await.is_ok() {
            return self.after_loss(guard, key, &stores).await;
        }
        Ok(())
    }

    /// Continues after the loss of the lock. Half of the tasks write once more: only a store that checks
    /// tokens can reject such a write.
    async fn after_loss(&mut self, guard: &Guard, key: usize, stores: &Stores) -> Result<(), String> {
        self.writer.write(EventKind::Lost { reason: "the loss signal came".to_owned() });
        self.check_validity(guard);
        if self.rng.draw_chance(50) {
            sleep(self.millis(0, self.spec.ttl_ms)).await;
            self.write(guard, key, stores, false).await?;
            self.check_validity(guard);
        }
        Ok(())
    }

    /// Checks whether the lock is valid. The recorded time is from before the check.
    fn check_validity(&self, guard: &Guard) -> bool {
        let at = history::now();
        let valid = guard.is_valid();
        let (deadline, spare_nodes) = (guard.deadline().boot_time().as_nanos() as u64, guard.spare_nodes());
        self.writer.write_at(at, EventKind::Validated { valid, deadline, spare_nodes });
        valid
    }

    async fn write(
        &self,
        guard: &Guard,
        key: usize,
        stores: &Stores,
        both_stores: bool,
    ) -> Result<(), String> {
        // Plain locks have no token.
        let Some(token) = guard.fencing_token() else { return Ok(()) };
        let fenced = [(stores.fenced(key), true), (stores.unfenced(key), false)];
        for (store, is_fenced) in fenced.into_iter().filter(|(_, is_fenced)| *is_fenced || both_stores) {
            let Some(reply) = store.write(token).await.map_err(|error| message_of(store, &error))? else {
                continue;
            };
            self.writer.write(EventKind::Wrote {
                store: store.name.clone(),
                position: reply.position,
                fencing_number: is_fenced.then_some(token.number),
                nonce: is_fenced.then(|| format!("{:032x}", token.nonce)),
                accepted: reply.accepted,
            });
        }
        Ok(())
    }

    async fn extend(&mut self, guard: &Guard) -> Result<(), String> {
        let cancel_after = self.cancel_after(10, 0, 3);
        let ttl = Duration::from_millis(self.spec.ttl_ms);
        let extended = until_dropped(cancel_after, guard.extend(ttl)).await;
        if let Some(Err(error @ (ExtendError::InvalidInput(_) | ExtendError::Closed { .. }))) = extended {
            return Err(error.to_string());
        }
        // Records the new state: extended, unconfirmed, lost, or dropped.
        self.check_validity(guard);
        Ok(())
    }

    async fn release(&mut self, guard: Guard) -> Result<(), String> {
        self.writer.write(EventKind::Releasing);
        if self.spec.cancels && self.rng.draw_chance(10) {
            drop(guard);
            self.writer.write(EventKind::Cancelled);
            return Ok(());
        }
        let cancel_after = self.cancel_after(8, 0, 3);
        let confirmed = match until_dropped(cancel_after, guard.release()).await {
            Some(Ok(outcome)) => outcome.confirmed,
            Some(Err(ReleaseError::Lost { replies, .. })) => {
                let is_gone = |reply: &NodeReply| {
                    matches!(
                        reply,
                        NodeReply::Granted { .. } | NodeReply::NotHeld | NodeReply::HeldByOther { .. }
                    )
                };
                replies.iter().filter(|(_, reply)| is_gone(reply)).count() >= self.redlock.quorum()
            }
            Some(Err(error)) => return Err(error.to_string()),
            None => {
                self.writer.write(EventKind::Cancelled);
                return Ok(());
            }
        };
        self.writer.write(EventKind::Released { confirmed });
        Ok(())
    }

    /// The time after which a future is dropped: with this chance in percent, if the client drops futures at
    /// all.
    fn cancel_after(&mut self, percent: u64, from_ms: u64, to_ms: u64) -> Option<Duration> {
        let is_cancelled = self.rng.draw_chance(percent);
        let cancel_after = Duration::from_micros(self.rng.between(from_ms * 1_000, to_ms * 1_000));
        (is_cancelled && self.spec.cancels).then_some(cancel_after)
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.between(from, to))
    }
}

/// Awaits a future. None if it was dropped before it completed.
async fn until_dropped<T>(cancel_after: Option<Duration>, future: impl Future<Output = T>) -> Option<T> {
    match cancel_after {
        Some(cancel_after) => timeout(cancel_after, future).await.ok(),
        None => Some(future.await),
    }
}

fn message_of(store: &Store, error: &std::io::Error) -> String {
    format!("the store {}: {error}", store.name)
}

/// The timeout for a loss signal that must come.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(5);
