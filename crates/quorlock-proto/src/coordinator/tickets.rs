//! Handing a held lock over to another process.

use core::time::Duration;

use super::advance::RELEASE_SLACK;
use super::{Coordinator, Operation};
use crate::lease::Lease;
use crate::pipeline::PendingRelease;
use crate::quorum::NodeSet;
use crate::request::{OperationId, OwnerToken, PreviousOwner, RequestKind};
use crate::time::DualTimestamp;

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
    /// Requests in flight that carry the owner token change no key that was adopted, because an adoption replaces the
    /// token. They may set the key on a node after the adoption has passed there, so a release follows each of them.
    pub fn hand_over(&mut self, id: OperationId, now: DualTimestamp) -> Option<HandedOverLock> {
        let Operation::Lease(lease) = &self.operations.get(&id)?.operation else { return None };
        if !lease.is_held() || now.is_past(lease.deadline()) {
            return None;
        }
        let handed_over = HandedOverLock {
            owner: PreviousOwner { token: lease.token(), fencing_number: lease.fencing_number() },
            ttl: lease.ttl(),
            deadline: lease.deadline(),
        };
        let release = previous_key(lease, lease.token());
        // Without a confirmed quorum, the other nodes may have the keys that the adoption needs.
        let nodes = if self.current_quorum().is_met(lease.confirmed().len()) {
            lease.possibly_set().without(lease.confirmed())
        } else {
            NodeSet::EMPTY
        };
        self.end(id);
        self.send_or_queue_release(nodes, &release, now);
        Some(handed_over)
    }
}

/// The release of a key that this lock's previous owner may have on a node that takes no part in an adoption, or may
/// set there later. No other request deletes it, so it would be in the way of the next holder for a ttl.
pub(super) fn previous_key(lease: &Lease, previous: OwnerToken) -> PendingRelease {
    PendingRelease {
        operation: NO_OPERATION,
        key: lease.key().clone(),
        token: previous,
        kind: RequestKind::Release,
        useful_until: lease.keys_until().plus(RELEASE_SLACK),
    }
}

/// The id of no operation: the votes of these releases have no listener.
const NO_OPERATION: OperationId = OperationId::MAX;
