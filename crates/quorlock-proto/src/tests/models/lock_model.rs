//! The lock model: its events, the situations that it must cover, and its fencing numbers and times.

use std::time::Duration;

use crate::lease_params::{Drift, LeaseParams};
use crate::quorum::Quorum;
use crate::request::RequestKind;
use crate::roster::voting_time::probation_of;
use crate::time::DualTimestamp;
use crate::vote::Vote;

use super::bounds::{AfterDataLoss, Bounds, Clock, FencingNumbers, ModelMutant};
use super::canonical::{Permutation, client_permutations};
use super::node::{InFlightRequest, ScriptResult, request_kind};
use super::state::{Channel, Progress, State};

/// A [`Model`](super::search::Model) of clients that run the shipped attempts and leases against nodes.
pub(crate) struct LockModel {
    pub(crate) bounds: Bounds,
    pub(crate) quorum: Quorum,
    pub(crate) params: LeaseParams,
    pub(crate) extension_params: Vec<LeaseParams>,
    /// For each tick: when a node whose data began at that tick may vote, by the shipped marker, in µs.
    votes_from: Vec<u64>,
    /// The permutations under which a state's fingerprint stays the same.
    pub(crate) client_permutations: Vec<Permutation>,
}

/// An event in the life of a contender, a node or the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The contender's attempt starts, and sends a request to every node.
    Start {
        contender: u8,
    },
    /// A request reaches its node, which may choose a fencing number.
    RequestArrives {
        contender: u8,
        node: u8,
        index: u8,
        fencing_number: u32,
    },
    /// A pending release reaches its node.
    ReleaseArrives {
        contender: u8,
        node: u8,
    },
    /// A reply reaches its contender.
    ReplyArrives {
        contender: u8,
        node: u8,
        index: u8,
    },
    /// The connection breaks: replies are lost, but requests in flight may still arrive.
    Disconnect {
        contender: u8,
        node: u8,
    },
    TimerFires {
        contender: u8,
    },
    /// The attempt is cancelled, or its lease released.
    CancelOrRelease {
        contender: u8,
    },
    Extend {
        contender: u8,
        params: u8,
    },
    /// The key expires, in a model without time.
    KeyExpires {
        node: u8,
    },
    /// The node loses all data.
    DataLoss {
        node: u8,
    },
    Tick,
}

/// A situation that explorations must cover; otherwise they prove little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Situation {
    /// Two attempts ran at once.
    ConcurrentAttempts,
    LockWon,
    /// A lock was won in its second round.
    SecondRound,
    /// A node raised its fence, and the client never received the reply.
    RaiseReplyLost,
    /// A node granted an `Acquire` after its attempt had ended.
    LateGrant,
    /// A node voted that its fence is larger than the lock's fencing number.
    FencedOutVote,
    /// A lock was won before the previous holder had released.
    WonBeforeRelease,
    AttemptFailed,
    /// An extension moved a deadline.
    DeadlineMoved,
    KeyReacquired,
    LockLost,
    /// A request with an earlier marker arrived after a data loss.
    MarkerMismatch,
    OnProbation,
    /// A node voted again after a data loss.
    VoteAfterDataLoss,
    /// A key was reacquired although the node's fence was larger, because that number was never issued.
    ReacquiredPastLargerFence,
    /// A lease counted a node that has its key and a larger fence.
    LargerFenceCounted,
}

impl LockModel {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let quorum = Quorum::new(bounds.nodes, bounds.quorum_size).expect("a valid quorum");
        let ttl = if let Clock::Ticks { ttl, .. } = bounds.clock { ttl } else { 100 };
        let params_of = |ticks: u8| {
            let drift = Drift::new(0.0).expect("no drift");
            let attempt_timeout = Some(Duration::from_millis(1));
            LeaseParams::new(TICK * u32::from(ticks), drift, attempt_timeout, TICK)
                .expect("valid lease parameters")
        };
        let probation = probation_of(TICK * u32::from(ttl)).as_micros() as u64;
        // Without a probation, a node votes at all times.
        let votes_from =
            |tick: u8| if probation == 0 { 0 } else { wall_micros(tick_micros(tick)) + probation };
        Self {
            bounds,
            quorum,
            params: params_of(ttl),
            extension_params: bounds.extension_ttls.iter().map(|ticks| params_of(*ticks)).collect(),
            votes_from: (0..=bounds.horizon()).map(votes_from).collect(),
            client_permutations: client_permutations(bounds.attempts_per_client, bounds.mutant),
        }
    }

    /// The owner of a contender's keys, by number; 0 is a free key.
    pub(crate) fn owner(&self, contender: usize) -> u8 {
        let is_reused = self.bounds.mutant == Some(ModelMutant::TokenReused);
        1 + if is_reused { self.bounds.client(contender) as u8 } else { contender as u8 }
    }

    pub(crate) fn is_timed(&self) -> bool {
        self.bounds.clock != Clock::None
    }

    /// The fencing number of the operations for a number of this model.
    pub(crate) fn protocol_number(&self, fencing_number: u32) -> u64 {
        if self.bounds.fencing_numbers == FencingNumbers::FromClock {
            wall_micros(fencing_number)
        } else {
            u64::from(fencing_number)
        }
    }

    pub(crate) fn model_number(&self, fencing_number: u64) -> u32 {
        let base = if self.bounds.fencing_numbers == FencingNumbers::FromClock { WALL_MICROS } else { 0 };
        u32::try_from(fencing_number - base).expect("a fencing number of this model")
    }

    /// Whether the node's probation is over.
    pub(crate) fn may_vote(&self, state: &State, node: usize) -> bool {
        wall_micros(tick_micros(state.now)) >= self.votes_from_micros(state, node)
    }

    fn votes_from_micros(&self, state: &State, node: usize) -> u64 {
        let node = &state.nodes[node];
        let is_marked = self.bounds.after_data_loss == AfterDataLoss::Probation && node.incarnation > 0;
        if is_marked { self.votes_from[usize::from(node.data_since)] } else { 0 }
    }

    /// The fencing number that a request carries.
    pub(crate) const fn sent_fencing_number(
        state: &State,
        contender: usize,
        request: InFlightRequest,
    ) -> u32 {
        if request.number_override > 0 {
            request.number_override
        } else {
            state.contenders[contender].fencing_number
        }
    }

    /// The fencing number that the script gives with a grant, if clocks agree.
    pub(crate) fn number_from_clock(&self, state: &State, contender: usize, node: usize) -> u32 {
        let now = tick_micros(state.now);
        let fence = state.nodes[node].fence;
        let last = if fence == 0 { now - TOLERANCE } else { fence };
        let base = u32::try_from(self.votes_from_micros(state, node).saturating_sub(WALL_MICROS))
            .expect("within the horizon");
        let hint = tick_micros(state.contenders[contender].started_at);
        if hint > last && hint > base && hint <= now + TOLERANCE { hint } else { last.max(base) + 1 }
    }

    pub(crate) fn timestamp(tick: u8) -> DualTimestamp {
        let span = TICK * u32::from(tick);
        DualTimestamp::new(BOOT_NANOS, WALL_MICROS * 1000 + u64::from(FIRST_MICROS) * 1000).plus(span)
    }

    /// Every fencing number that a node or a contender may still compare, sorted.
    pub(crate) fn numbers_in_use(&self, state: &State) -> Vec<u32> {
        if !self.bounds.is_fenced() {
            return Vec::new();
        }
        let mut numbers: Vec<u32> = state.nodes.iter().map(|node| node.fence).collect();
        for (contender, channels) in state.contenders.iter().zip(&state.channels) {
            let is_number_in_use = |channel: &Channel| {
                channel.requests.items().iter().any(|it| request_kind(it.kind) != RequestKind::Acquire)
            };
            if contender.is_number_issued || !contender.has_ended() || channels.iter().any(is_number_in_use) {
                numbers.push(contender.fencing_number);
            }
            if let Progress::Attempting(attempt) = &contender.progress
                && attempt.fencing_number().is_none()
            {
                let votes = attempt.round().votes();
                numbers.extend(votes.filter_map(|vote| match vote {
                    Vote::Fenced(fencing_number) => Some(self.model_number(*fencing_number)),
                    _ => None,
                }));
            }
            for reply in channels.iter().flat_map(|channel| channel.replies.items()) {
                if let ScriptResult::GrantedWithFence(fencing_number) = reply.result {
                    numbers.push(fencing_number);
                }
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|number| *number > 0);
        numbers
    }
}

pub(crate) fn contender_name(contender: usize) -> char {
    char::from(b'a' + contender as u8)
}

const fn tick_micros(tick: u8) -> u32 {
    FIRST_MICROS + tick as u32 * TICK.as_micros() as u32
}

const fn wall_micros(micros: u32) -> u64 {
    WALL_MICROS + micros as u64
}

/// The shortest valid ttl. A deadline lies 2 ms before the ttl ends, between two ticks: so a lock ends at the
/// tick at which its first key may expire.
pub(crate) const TICK: Duration = Duration::from_millis(10);
const BOOT_NANOS: u64 = 1_000_000_000_000;
const WALL_MICROS: u64 = 1_700_000_000_000_000;
const FIRST_MICROS: u32 = 1_000_000;
/// The largest clock difference, in µs, that `acquire_fenced.lua` tolerates.
const TOLERANCE: u32 = 250_000;
