//! A fault over time: what it does to its nodes, and when.

use super::Span;
use crate::history::{Effect, Fault, Settings};

/// A fault and the time in which it had effects.
pub(crate) struct FaultWindow<'a> {
    pub(crate) fault: &'a Fault,
    /// From its first event until it ended, or until the end of the run.
    pub(crate) span: Span,
    /// Whether it ended before the end of the run.
    pub(crate) has_ended: bool,
    /// An upper bound for the time at which it was fully applied.
    pub(super) applied_by: u64,
    /// A lower bound for the time at which its effects began to end.
    pub(super) ends_from: u64,
}

impl FaultWindow<'_> {
    /// Whether the fault may stop a node from voting. A constant clock offset has no influence on votes.
    pub(crate) fn affects_votes(&self) -> bool {
        !self.fault.effects.iter().all(|effect| matches!(effect, Effect::ClockOffset { .. }))
    }

    /// Whether some or all clients cannot use the fault's nodes during the fault.
    pub(crate) fn is_unavailable(&self, settings: &Settings) -> bool {
        self.fault.effects.iter().any(|effect| match effect {
            Effect::Down
            | Effect::Paused
            | Effect::Unreachable
            | Effect::RejectsWrites
            | Effect::LeavesRoster
            // Some clients reach one server there, and some another.
            | Effect::AddressMoved => true,
            // A delay of half the reply timeout is enough, because a busy machine may add the rest.
            Effect::Slow { ms } => *ms * 2 >= settings.reply_timeout_ms,
            Effect::DataLoss { .. }
            | Effect::StaleKey
            | Effect::ClockStep { .. }
            | Effect::ClockOffset { .. }
            | Effect::ClockRate { .. } => false,
        })
    }

    /// Whether the fault leaves a stale key on its nodes. Such a node is reachable, but cannot grant that
    /// key's lock.
    pub(crate) fn has_stale_key(&self) -> bool {
        self.fault.effects.contains(&Effect::StaleKey)
    }

    /// Whether the fault's nodes go on probation after the fault: they may have lost data, or their clocks
    /// were changed.
    pub(crate) fn goes_on_probation(&self, settings: &Settings) -> bool {
        self.fault.effects.iter().any(|effect| match effect {
            Effect::Down
            | Effect::DataLoss { .. }
            | Effect::AddressMoved
            | Effect::LeavesRoster
            | Effect::ClockStep { .. } => true,
            Effect::ClockRate { ppm } => ppm.unsigned_abs() > u64::from(settings.drift_ppm),
            _ => false,
        })
    }

    /// The fault's clock steps: the span in which each happened, and its microseconds. A step happens between
    /// the event that announces it and the event that confirms it.
    pub(super) fn steps(&self) -> impl Iterator<Item = (Span, i64)> {
        let applied = Span { from: self.span.from, to: self.applied_by };
        let reverted = self.has_ended.then_some(Span { from: self.ends_from, to: self.span.to });
        self.fault.effects.iter().flat_map(move |effect| {
            let micros = if let Effect::ClockStep { micros } = effect { *micros } else { 0 };
            [Some((applied, micros)), reverted.map(|when| (when, -micros))].into_iter().flatten()
        })
    }

    /// How many nanoseconds this fault may have advanced a node's clock within `span`. A fast clock counts
    /// for at most one `ttl`.
    pub(super) fn max_clock_gain(&self, span: Span, ttl: u64) -> u64 {
        let steps = self.steps().filter(|(when, _)| span.may_contain_instant_of(*when));
        let stepped = steps.map(|(_, micros)| micros.max(0).unsigned_abs() * 1_000).sum::<u64>();
        let drifted = self.fault.effects.iter().filter_map(|effect| match effect {
            Effect::ClockRate { ppm } => {
                let time = self.span.intersection(span)?.len().min(ttl);
                Some(time / 1_000_000 * ppm.max(&0).unsigned_abs())
            }
            _ => None,
        });
        stepped + drifted.sum::<u64>()
    }

    /// The clock offset that this fault causes at `at`. The offset of a clock that ran too fast or too slow
    /// stays after the fault.
    pub(super) fn offset_micros(&self, at: u64) -> i64 {
        let elapsed = Span { from: self.span.from, to: self.span.to.min(at) }.len() as i64;
        let offset = |effect: &Effect| match effect {
            Effect::ClockStep { micros }
                if self.span.from <= at && (at < self.span.to || !self.has_ended) =>
            {
                *micros
            }
            Effect::ClockOffset { micros } if self.span.from <= at => *micros,
            Effect::ClockRate { ppm } => elapsed / 1_000 * ppm / 1_000_000,
            _ => 0,
        };
        self.fault.effects.iter().map(offset).sum()
    }
}
