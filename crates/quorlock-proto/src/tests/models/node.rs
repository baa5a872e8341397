//! A model of a node with one key: what the scripts in `src/node/lua` do that matters to safety.

use crate::mutant::{Mutant, enabled};
use crate::request::RequestKind;
use crate::vote::{ProbationReason, ReplyFailure, Vote};

use super::bounds::ModelMutant;

/// The contents of a node. Owners are numbered from 1; times are ticks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Node {
    /// The owner of the key; 0 if it is free.
    pub(crate) owner: u8,
    /// The tick at which the key expires.
    pub(crate) expires_at: u8,
    /// The largest fencing number given out; 0 if there is no record.
    pub(crate) fence: u32,
    /// How many data losses it had; this identifies its marker.
    pub(crate) incarnation: u8,
    /// The tick at which its current data began.
    pub(crate) data_since: u8,
}

/// A request in flight.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct InFlightRequest {
    /// See [`request_kind`].
    pub(crate) kind: u8,
    pub(crate) round: u8,
    /// In ticks.
    pub(crate) ttl: u8,
    /// The incarnation whose marker the client expects.
    pub(crate) expected_incarnation: u8,
    /// Its reply is dropped, because the connection broke or the operation has ended.
    pub(crate) is_orphaned: bool,
    /// The fencing number sent in place of the lock's own; 0 if none.
    pub(crate) number_override: u32,
}

/// A reply in flight.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct InFlightReply {
    /// See [`request_kind`].
    pub(crate) kind: u8,
    pub(crate) round: u8,
    pub(crate) result: ScriptResult,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum ScriptResult {
    #[default]
    Granted,
    GrantedWithFence(u32),
    HeldByOther,
    NotHeld,
    FencedOut(u32),
    OnProbation,
    MarkerMismatch,
}

/// The inputs of a script besides the request and the node.
#[derive(Clone, Copy)]
pub(crate) struct ScriptContext {
    pub(crate) now: u8,
    pub(crate) owner: u8,
    /// The lock's fencing number; for an `Acquire` the one that the node gives; 0 in plain mode.
    pub(crate) fencing_number: u32,
    /// Whether the node's probation is over.
    pub(crate) may_vote: bool,
    pub(crate) mutant: Option<ModelMutant>,
}

impl Node {
    pub(crate) fn run(&mut self, request: InFlightRequest, context: ScriptContext) -> ScriptResult {
        if request.expected_incarnation != self.incarnation {
            return ScriptResult::MarkerMismatch;
        }
        if !context.may_vote {
            return ScriptResult::OnProbation;
        }
        let has_mutant = |mutant| context.mutant == Some(mutant);
        let is_plain = context.fencing_number == 0;
        let is_own_key = self.owner == context.owner;
        match request_kind(request.kind) {
            RequestKind::Acquire if self.owner == 0 => {
                self.set_key(request, context);
                if is_plain {
                    ScriptResult::Granted
                } else {
                    ScriptResult::GrantedWithFence(context.fencing_number)
                }
            }
            RequestKind::Reacquire if self.owner == 0 && self.fence > context.fencing_number && !is_plain => {
                ScriptResult::FencedOut(self.fence)
            }
            RequestKind::Reacquire if self.owner == 0 => {
                self.set_key(request, context);
                ScriptResult::Granted
            }
            RequestKind::Acquire | RequestKind::Reacquire => ScriptResult::HeldByOther,
            RequestKind::RaiseFence if has_mutant(ModelMutant::RaiseIgnoresOwnerAndFence) => {
                self.fence = context.fencing_number;
                ScriptResult::Granted
            }
            RequestKind::RaiseFence
                if has_mutant(ModelMutant::RaiseIgnoresOwner) && self.fence < context.fencing_number =>
            {
                self.fence = context.fencing_number;
                ScriptResult::Granted
            }
            RequestKind::Renew if self.owner == 0 && enabled(Mutant::ResurrectingRenewal) => {
                self.set_key(request, context);
                ScriptResult::Granted
            }
            RequestKind::RaiseFence | RequestKind::Renew if self.owner == 0 => ScriptResult::NotHeld,
            RequestKind::RaiseFence | RequestKind::Renew if !is_own_key => ScriptResult::HeldByOther,
            RequestKind::RaiseFence if self.fence > context.fencing_number => {
                ScriptResult::FencedOut(self.fence)
            }
            RequestKind::RaiseFence => {
                self.fence = context.fencing_number;
                ScriptResult::Granted
            }
            RequestKind::Renew => {
                let expires_at = context.now + request.ttl;
                self.expires_at = if has_mutant(ModelMutant::RenewalShortens) {
                    expires_at
                } else {
                    expires_at.max(self.expires_at)
                };
                if self.fence > context.fencing_number {
                    return ScriptResult::FencedOut(self.fence);
                }
                self.fence = context.fencing_number;
                ScriptResult::Granted
            }
            _ => unreachable!("releases are separate events, and the models send no other request"),
        }
    }

    fn set_key(&mut self, request: InFlightRequest, context: ScriptContext) {
        self.owner = context.owner;
        self.expires_at = context.now + request.ttl;
        self.fence = context.fencing_number;
    }

    pub(crate) fn clear_key(&mut self) {
        self.owner = 0;
        self.expires_at = 0;
    }
}

impl ScriptResult {
    /// The vote that the coordinator derives from it.
    pub(crate) fn vote(self, protocol_number: impl Fn(u32) -> u64) -> Vote {
        match self {
            Self::Granted => Vote::Granted,
            Self::GrantedWithFence(fencing_number) => Vote::Fenced(protocol_number(fencing_number)),
            Self::HeldByOther => Vote::HeldByOther { remaining: None },
            Self::NotHeld => Vote::NotHeld,
            Self::FencedOut(fence) => Vote::FencedOut { fence: protocol_number(fence) },
            Self::OnProbation => Vote::OnProbation {
                remaining: std::time::Duration::from_millis(1),
                reason: ProbationReason::PossibleDataLoss,
            },
            Self::MarkerMismatch => Vote::Unknown(ReplyFailure::MarkerMismatch),
        }
    }
}

/// The request kinds by code, so that requests can be sorted and packed.
pub(crate) const REQUEST_KINDS: [RequestKind; 4] =
    [RequestKind::Acquire, RequestKind::RaiseFence, RequestKind::Renew, RequestKind::Reacquire];

pub(crate) fn request_kind(code: u8) -> RequestKind {
    REQUEST_KINDS[usize::from(code)]
}

pub(crate) fn kind_code(kind: RequestKind) -> u8 {
    REQUEST_KINDS.iter().position(|other| *other == kind).expect("a request kind of the models") as u8
}
