//! The machines on a board: which are there, and when each wants to be woken.

use std::collections::BTreeSet;

use super::OperationId;
use crate::attempt::Attempt;
use crate::lease::{Lease, RenewalPolicy};
use crate::survey::Survey;
use crate::time::{BootTime, DualTimestamp};

/// One machine that runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct OperationEntry {
    pub(super) operation: Operation,
    /// When it is to be woken.
    pub(super) alarm: BootTime,
}

impl OperationEntry {
    /// Sets the alarm for when the machine wants to be woken, or leaves one that rings before: that costs a look in
    /// vain, and most locks are given up before it.
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

/// Boxed but for the lease, so that many leases cost what a lease costs and not what the largest machine does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Attempt(Box<AttemptEntry>),
    Lease(Lease),
    Survey(Box<Survey>),
}

impl Operation {
    pub(super) fn wake_at(&self) -> BootTime {
        let wake = match self {
            Self::Attempt(bid) => bid.attempt.wake_at().map(DualTimestamp::boot),
            Self::Lease(lease) => lease.wake_at(),
            Self::Survey(survey) => survey.wake_at().map(DualTimestamp::boot),
        };
        wake.unwrap_or(BootTime::NEVER)
    }

    /// Whether this is a lease that lives on: it is renewed time and again, and would look in vain each time.
    fn renews(&self) -> bool {
        matches!(self, Self::Lease(lease) if lease.was_renewed())
    }

    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Attempt(bid) => bid.attempt.is_done(),
            Self::Lease(lease) => lease.is_done(),
            Self::Survey(survey) => survey.is_done(),
        }
    }
}

/// An attempt, and how its lock is to be held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct AttemptEntry {
    pub(super) attempt: Attempt,
    pub(super) policy: RenewalPolicy,
}
