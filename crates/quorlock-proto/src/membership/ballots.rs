//! Ballots: when the client may begin one.

use core::time::Duration;

use super::Membership;
use crate::roster::proposer::Outcome;
use crate::time::DualTimestamp;

/// When the client may begin a ballot. Thousands of clients see the same restart, so each waits for a random
/// time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Begin {
    NotNeeded,
    At(DualTimestamp),
    Now,
}

impl Membership {
    /// Whether something is to be chosen, as far as the client knows.
    pub(super) fn is_ballot_needed(&self) -> bool {
        self.begin != Begin::NotNeeded
    }

    /// Decides when the client may begin a ballot. After another client began one, it waits longer each time.
    pub(super) fn schedule_ballot(&mut self, outcome: Outcome, random: u64, now: DualTimestamp) {
        let is_scheduled = matches!(self.begin, Begin::At(_));
        match outcome {
            Outcome::Idle => (self.begin, self.lost_ballots) = (Begin::NotNeeded, 0),
            Outcome::Waiting if self.begin == Begin::NotNeeded => {
                self.begin = Begin::At(now.plus(up_to(MAX_BALLOT_DELAY, random)));
            }
            Outcome::Lost if !is_scheduled => {
                let longest = MAX_BALLOT_DELAY * (1 << self.lost_ballots.min(5));
                self.lost_ballots += 1;
                self.begin = Begin::At(now.plus(MAX_BALLOT_DELAY / 2 + up_to(longest, random)));
            }
            Outcome::Waiting | Outcome::Lost | Outcome::Pending => {}
        }
    }
}

pub(super) fn up_to(longest: Duration, random: u64) -> Duration {
    Duration::from_micros(random % longest.as_micros() as u64)
}

/// `SplitMix64` (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, 2014).
pub(super) const fn split_mix(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The longest wait before a first ballot.
const MAX_BALLOT_DELAY: Duration = Duration::from_millis(200);
