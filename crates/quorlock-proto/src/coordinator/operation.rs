//! The operations that the coordinator runs, and when each is woken.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;

use crate::attempt::Attempt;
use crate::lease::{Lease, RenewalPolicy};
use crate::request::OperationId;
use crate::single_request::SingleRequest;
use crate::survey::Survey;
use crate::time::{BootTime, DualTimestamp};

/// A running operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct OperationEntry {
    pub(super) operation: Operation,
    /// When it is woken next.
    pub(super) alarm: BootTime,
}

impl OperationEntry {
    /// Sets the alarm for the operation's wake-up time, or leaves an earlier one. An early alarm costs one
    /// useless wake-up, and most locks are released before it.
    pub(super) fn set_alarm(&mut self, id: OperationId, alarms: &mut BTreeSet<(BootTime, OperationId)>) {
        let wake = self.operation.wake_at();
        if self.alarm == wake || self.alarm < wake && !self.operation.renews() {
            return;
        }
        if self.alarm != BootTime::NEVER {
            alarms.remove(&(self.alarm, id));
        }
        if wake != BootTime::NEVER {
            alarms.insert((wake, id));
        }
        self.alarm = wake;
    }
}

/// An operation. An attempt is boxed, because it is larger: otherwise each lease would take its memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Attempt(Box<AttemptEntry>),
    Lease(Lease),
    Survey(Survey),
    SingleRequest(SingleRequest),
}

impl Operation {
    pub(super) fn wake_at(&self) -> BootTime {
        let wake = match self {
            Self::Attempt(attempt_entry) => attempt_entry.attempt.wake_at().map(DualTimestamp::boot),
            Self::Lease(lease) => lease.wake_at(),
            Self::Survey(survey) => survey.wake_at().map(DualTimestamp::boot),
            Self::SingleRequest(single) => single.wake_at().map(DualTimestamp::boot),
        };
        wake.unwrap_or(BootTime::NEVER)
    }

    /// Whether this is a lease that was renewed before: an early alarm would wake it in vain at each renewal.
    fn renews(&self) -> bool {
        matches!(self, Self::Lease(lease) if lease.was_renewed())
    }

    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Attempt(attempt_entry) => attempt_entry.attempt.is_done(),
            Self::Lease(lease) => lease.is_done(),
            Self::Survey(survey) => survey.is_done(),
            Self::SingleRequest(single) => single.is_done(),
        }
    }
}

/// An attempt, and the renewal policy of its lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct AttemptEntry {
    pub(super) attempt: Attempt,
    pub(super) policy: RenewalPolicy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_operation_makes_a_lease_larger() {
        assert!(
            size_of::<Survey>() <= size_of::<Lease>() && size_of::<SingleRequest>() <= size_of::<Lease>()
        );
    }
}
