//! Ends a lock for another process that adopts it.

use tokio::sync::oneshot;

use super::{LeaseEntry, PendingCalls};
use quorlock_proto::coordinator::{Coordinator, HandedOverLock};
use quorlock_proto::lease::LossReason;
use quorlock_proto::request::OperationId;
use quorlock_proto::time::DualTimestamp;

impl PendingCalls {
    /// Ends a held lock and replies with what an adoption needs, or with the reason of its loss. If the guard was
    /// dropped meanwhile, it has marked the lock as released. Then nothing is done, because its release follows.
    pub(super) fn hand_over(
        &mut self,
        id: OperationId,
        reply: oneshot::Sender<Result<HandedOverLock, LossReason>>,
        coordinator: &mut Coordinator,
        now: DualTimestamp,
    ) {
        let Some(LeaseEntry(lease)) = self.leases.get(&id) else { return };
        // Reads the clock, and records the loss if the deadline has passed.
        if !lease.is_valid() {
            if let Some(reason) = lease.loss_reason() {
                let _ = reply.send(Err(reason));
            }
            return;
        }
        let Some(handed_over) = coordinator.hand_over(id, now) else {
            let _ = reply.send(Err(LossReason::Expired));
            return;
        };
        // No view of the lock is valid from here on, so none is when the caller gets the ticket.
        lease.mark_released();
        // Other tasks here may contend for the lock, as against a holder in any other process.
        lease.return_admission();
        self.leases.remove(&id);
        self.renewals.remove(&id);
        let _ = reply.send(Ok(handed_over));
    }
}
