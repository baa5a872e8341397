//! Handing a held lock over to another process.

use super::{Coordinator, Operation, OperationId};
use crate::request::PreviousOwner;
use crate::time::DualTimestamp;
use core::time::Duration;

/// A lock that this process holds no more, and whose keys are left for an adoption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandedOverLock {
    /// The owner that the keys have.
    pub owner: PreviousOwner,
    /// The ttl of the lock.
    pub ttl: Duration,
    /// The deadline of the lock. A renewal in flight may keep the keys for longer.
    pub deadline: DualTimestamp,
}

impl Coordinator {
    /// Ends a held lock without a release, so that another process can adopt it. It is renewed no more. Emits
    /// nothing. Returns `None`, and changes nothing, if the lock is not held or its deadline has passed.
    ///
    /// The owner token is never sent again by this process. Requests in flight that carry it change no key that
    /// was adopted, because an adoption replaces the token.
    pub fn hand_over(&mut self, id: OperationId, now: DualTimestamp) -> Option<HandedOverLock> {
        let handed_over = match &self.operations.get(&id)?.operation {
            Operation::Lease(lease) if lease.is_held() && !now.is_past(lease.deadline()) => HandedOverLock {
                owner: PreviousOwner { token: lease.token(), fencing_number: lease.fencing_number() },
                ttl: lease.ttl(),
                deadline: lease.deadline(),
            },
            _ => return None,
        };
        self.end(id);
        Some(handed_over)
    }
}
