//! A node with one key: what the scripts in `src/node/lua` do, as far as it matters to safety.

use crate::mutant::{Mutant, enabled};
use crate::request::RequestKind;
use crate::vote::{ProbationReason, ReplyFailure, Vote};

use super::bounds::Slip;

/// What is on a node. Owners are tokens, counted from 1; times are ticks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Node {
    /// Whose the key is; 0 if it is nobody's.
    pub(crate) owner: u8,
    /// The first tick at which the key is gone.
    pub(crate) expires: u8,
    /// The largest number given out; 0 if none is remembered.
    pub(crate) fence: u32,
    /// How many times it forgot everything, and so which marker it has.
    pub(crate) life: u8,
    /// Since when.
    pub(crate) since: u8,
}

/// A question on its way.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Command {
    pub(crate) phase: u8,
    pub(crate) round: u8,
    /// In ticks.
    pub(crate) ttl: u8,
    /// The marker that the client knew.
    pub(crate) life: u8,
    /// Nobody hears the answer: its connection broke, or its machine has ended.
    pub(crate) is_ghost: bool,
    /// The number shown in place of the lock's own, if another.
    pub(crate) past: u32,
}

/// An answer on its way.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Reply {
    pub(crate) phase: u8,
    pub(crate) round: u8,
    pub(crate) said: Said,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Said {
    #[default]
    Granted,
    Fenced(u32),
    Held,
    Missing,
    Outranked(u32),
    Doubtful,
    Changed,
}

/// What a command meets at the node, besides the node itself.
#[derive(Clone, Copy)]
pub(crate) struct Meeting {
    pub(crate) now: u8,
    pub(crate) owner: u8,
    /// The lock's number, once it has one; for a grant the number that the node gives. 0 in plain mode.
    pub(crate) number: u32,
    /// Whether the node may vote yet.
    pub(crate) may_vote: bool,
    pub(crate) slip: Option<Slip>,
}

impl Node {
    pub(crate) fn run(&mut self, command: Command, at: Meeting) -> Said {
        if command.life != self.life {
            return Said::Changed;
        }
        if !at.may_vote {
            return Said::Doubtful;
        }
        let slips = |slip| at.slip == Some(slip);
        let is_plain = at.number == 0;
        let is_ours = self.owner == at.owner;
        match phase(command.phase) {
            RequestKind::Acquire if self.owner == 0 => {
                self.take(command, at);
                if is_plain { Said::Granted } else { Said::Fenced(at.number) }
            }
            RequestKind::Reacquire if self.owner == 0 && self.fence > at.number && !is_plain => {
                Said::Outranked(self.fence)
            }
            RequestKind::Reacquire if self.owner == 0 => {
                self.take(command, at);
                Said::Granted
            }
            RequestKind::Acquire | RequestKind::Reacquire => Said::Held,
            RequestKind::RaiseFence if slips(Slip::RaiseAlways) => {
                self.fence = at.number;
                Said::Granted
            }
            RequestKind::RaiseFence if slips(Slip::RaiseWithoutOwner) && self.fence < at.number => {
                self.fence = at.number;
                Said::Granted
            }
            RequestKind::Renew if self.owner == 0 && enabled(Mutant::ResurrectingRenewal) => {
                self.take(command, at);
                Said::Granted
            }
            RequestKind::RaiseFence | RequestKind::Renew if self.owner == 0 => Said::Missing,
            RequestKind::RaiseFence | RequestKind::Renew if !is_ours => Said::Held,
            RequestKind::RaiseFence if self.fence > at.number => Said::Outranked(self.fence),
            RequestKind::RaiseFence => {
                self.fence = at.number;
                Said::Granted
            }
            RequestKind::Renew => {
                let asked = at.now + command.ttl;
                self.expires = if slips(Slip::Shortens) { asked } else { asked.max(self.expires) };
                if self.fence > at.number {
                    return Said::Outranked(self.fence);
                }
                self.fence = at.number;
                Said::Granted
            }
            _ => unreachable!("undos are made apart, and nothing else is asked"),
        }
    }

    fn take(&mut self, command: Command, at: Meeting) {
        self.owner = at.owner;
        self.expires = at.now + command.ttl;
        self.fence = at.number;
    }

    /// The key is gone.
    pub(crate) fn lapse(&mut self) {
        self.owner = 0;
        self.expires = 0;
    }
}

impl Said {
    /// The vote that the board makes of it.
    pub(crate) fn vote(self, wide: impl Fn(u32) -> u64) -> Vote {
        match self {
            Self::Granted => Vote::Granted,
            Self::Fenced(number) => Vote::Fenced(wide(number)),
            Self::Held => Vote::HeldByOther { remaining: None },
            Self::Missing => Vote::NotHeld,
            Self::Outranked(fence) => Vote::FencedOut { fence: wide(fence) },
            Self::Doubtful => Vote::OnProbation {
                remaining: std::time::Duration::from_millis(1),
                reason: ProbationReason::PossibleDataLoss,
            },
            Self::Changed => Vote::Unknown(ReplyFailure::MarkerMismatch),
        }
    }
}

/// Phases by number, so that questions can be sorted and packed.
pub(crate) const PHASES: [RequestKind; 4] =
    [RequestKind::Acquire, RequestKind::RaiseFence, RequestKind::Renew, RequestKind::Reacquire];

pub(crate) fn phase(number: u8) -> RequestKind {
    PHASES[usize::from(number)]
}

pub(crate) fn number_of(phase: RequestKind) -> u8 {
    PHASES.iter().position(|other| *other == phase).expect("a question that a model can put") as u8
}
