//! Says what keeps a `run` waiting: once, and again when it is of another kind.

use std::collections::BTreeSet;
use std::time::Duration;

use quorlock::OwnerHash;
use tokio::time::Instant;

use crate::exit;

/// What it is, as far as another one is worth a line: not how long it lasts, nor in which words a node is found to be away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitReason {
    /// No quorum has answered yet, one way or the other.
    Starting,
    /// A `run` around this one holds it, or so it was told.
    OuterRun,
    /// It holds it.
    Held(OwnerHash),
    /// A key that never expires is in the way.
    WithoutExpiry,
    OnProbation,
    TooLate,
    /// What keeps nodes from voting, whichever these are: how many are found so depends on when it is decided.
    Troubles(BTreeSet<String>),
}

/// Says it.
pub(crate) struct WaitReporter<'a> {
    name: &'a str,
    is_quiet: bool,
    last: Option<WaitReason>,
    /// From when on another holder is worth a line, and how much later after that one.
    holder_at: Option<Instant>,
    gap: Duration,
}

impl<'a> WaitReporter<'a> {
    pub(crate) fn new(name: &'a str, is_quiet: bool) -> Self {
        Self { name, is_quiet, last: None, holder_at: None, gap: FIRST_GAP }
    }

    /// Whether nothing is to be said, so that nothing need be looked at either.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// Unless it is what was said last.
    pub(crate) fn report(&mut self, kind: WaitReason, words: &str) {
        if self.is_worth_a_line(kind, Instant::now()) && !self.is_quiet {
            exit::eprint_line(&format!("{}: waiting: {words}", exit::lock(self.name)));
        }
    }

    fn is_worth_a_line(&mut self, mut told: WaitReason, now: Instant) -> bool {
        match (&self.last, &mut told) {
            (Some(_), WaitReason::Starting) => return false,
            (Some(last), told) if last == told => return false,
            // A trouble is over when something else is told. Until then, none is told twice.
            (Some(WaitReason::Troubles(before)), WaitReason::Troubles(troubles)) => {
                let is_news = !troubles.is_subset(before);
                troubles.extend(before.iter().cloned());
                self.last = Some(told);
                return is_news;
            }
            // A lock that goes from hand to hand is no news each time.
            (Some(WaitReason::Held(_)), WaitReason::Held(_)) if self.holder_at.is_some_and(|at| now < at) => {
                return false;
            }
            _ => {}
        }
        if let WaitReason::Held(_) = told {
            self.holder_at = Some(now + self.gap);
            self.gap = (self.gap * 2).min(LONGEST_GAP);
        }
        self.last = Some(told);
        true
    }
}

const FIRST_GAP: Duration = Duration::from_secs(5);
const LONGEST_GAP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn troubles(kinds: &[&str]) -> WaitReason {
        WaitReason::Troubles(kinds.iter().map(|kind| (*kind).to_owned()).collect())
    }

    fn held(mark: &str) -> WaitReason {
        WaitReason::Held(mark.parse().expect("a mark"))
    }

    #[test]
    fn an_outage_is_one_until_it_is_over() {
        let (mut teller, now) = (WaitReporter::new("a", true), Instant::now());
        let mut tell = |kind: &WaitReason| teller.is_worth_a_line(kind.clone(), now);
        assert!(tell(&WaitReason::Starting));
        let both = troubles(&["away", "LOADING"]);
        assert!(tell(&troubles(&["away"])) && !tell(&troubles(&["away"])));
        assert!(tell(&both), "one came back");
        assert!(!tell(&both) && !tell(&troubles(&["away"])), "and went again");
        assert!(tell(&troubles(&["OOM"])), "another trouble");
        assert!(tell(&held("45bf80c1")) && tell(&both), "another outage");
        assert!(
            tell(&WaitReason::WithoutExpiry)
                && !tell(&WaitReason::WithoutExpiry)
                && !tell(&WaitReason::Starting)
        );
    }

    #[test]
    fn a_lock_that_goes_from_hand_to_hand_is_told_less_and_less() {
        let (mut teller, began) = (WaitReporter::new("a", true), Instant::now());
        let mut told = Vec::new();
        for look in 0..60 {
            if teller.is_worth_a_line(held(&format!("{look:08x}")), began + Duration::from_secs(look * 10)) {
                told.push(look * 10);
            }
        }
        assert_eq!(told, [0, 10, 20, 40, 80, 140, 200, 260, 320, 380, 440, 500, 560]);
    }
}
