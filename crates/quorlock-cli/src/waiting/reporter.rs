//! Reports why a `run` waits: once, and again when the reason changes.

use std::collections::BTreeSet;
use std::time::Duration;

use quorlock::inspect::OwnerHash;
use tokio::time::Instant;

use crate::exit;

/// The reason to wait. A change of it is reported; a change of duration or wording is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitReason {
    /// No quorum has replied yet.
    Starting,
    /// An outer `run` holds the lock, according to the environment.
    OuterRun,
    /// This owner holds the lock.
    Contended(OwnerHash),
    /// A key that never expires is in the way.
    WithoutExpiry,
    OnProbation,
    TooLate,
    /// The kinds of problems because of which nodes do not vote. Their number
    /// depends on timing and does not count.
    NodeProblems(BTreeSet<String>),
}

/// Prints each new reason on stderr.
pub(crate) struct WaitReporter<'a> {
    name: &'a str,
    is_quiet: bool,
    last: Option<WaitReason>,
    /// The time from which another holder is reported.
    holder_at: Option<Instant>,
    /// The delay after that report.
    gap: Duration,
}

impl<'a> WaitReporter<'a> {
    pub(crate) fn new(name: &'a str, is_quiet: bool) -> Self {
        Self { name, is_quiet, last: None, holder_at: None, gap: FIRST_GAP }
    }

    /// Whether nothing is printed, so that no inspection is needed.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// Prints the reason, unless it was printed last.
    pub(crate) fn report(&mut self, kind: WaitReason, message: &str) {
        if self.record_if_new(kind, Instant::now()) && !self.is_quiet {
            exit::eprint_line(&format!("{}: waiting: {message}", exit::lock(self.name)));
        }
    }

    /// Records a reason. Returns whether it is to be reported.
    fn record_if_new(&mut self, mut reason: WaitReason, now: Instant) -> bool {
        match (&self.last, &mut reason) {
            (Some(_), WaitReason::Starting) => return false,
            (Some(last), reason) if last == reason => return false,
            // An outage ends with another reason. Until then, no problem is reported twice.
            (Some(WaitReason::NodeProblems(before)), WaitReason::NodeProblems(problems)) => {
                let is_new_reason = !problems.is_subset(before);
                problems.extend(before.iter().cloned());
                self.last = Some(reason);
                return is_new_reason;
            }
            // A lock that changes holders often is not reported each time.
            (Some(WaitReason::Contended(_)), WaitReason::Contended(_))
                if self.holder_at.is_some_and(|at| now < at) =>
            {
                return false;
            }
            _ => {}
        }
        if let WaitReason::Contended(_) = reason {
            self.holder_at = Some(now + self.gap);
            self.gap = (self.gap * 2).min(LONGEST_GAP);
        }
        self.last = Some(reason);
        true
    }
}

const FIRST_GAP: Duration = Duration::from_secs(5);
const LONGEST_GAP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn node_problems(kinds: &[&str]) -> WaitReason {
        WaitReason::NodeProblems(kinds.iter().map(|kind| (*kind).to_owned()).collect())
    }

    fn contended(owner: &str) -> WaitReason {
        WaitReason::Contended(owner.parse().expect("an owner hash"))
    }

    #[test]
    fn an_outage_is_reported_once_until_it_is_over() {
        let (mut reporter, now) = (WaitReporter::new("a", true), Instant::now());
        let mut is_new_reason = |kind: &WaitReason| reporter.record_if_new(kind.clone(), now);
        assert!(is_new_reason(&WaitReason::Starting));
        let both = node_problems(&["away", "LOADING"]);
        assert!(is_new_reason(&node_problems(&["away"])) && !is_new_reason(&node_problems(&["away"])));
        assert!(is_new_reason(&both), "one came back");
        assert!(!is_new_reason(&both) && !is_new_reason(&node_problems(&["away"])), "and went again");
        assert!(is_new_reason(&node_problems(&["OOM"])), "another problem");
        assert!(is_new_reason(&contended("45bf80c1")) && is_new_reason(&both), "another outage");
        assert!(
            is_new_reason(&WaitReason::WithoutExpiry)
                && !is_new_reason(&WaitReason::WithoutExpiry)
                && !is_new_reason(&WaitReason::Starting)
        );
    }

    #[test]
    fn frequent_changes_of_the_holder_are_reported_less_and_less_often() {
        let (mut reporter, start) = (WaitReporter::new("a", true), Instant::now());
        let mut reported_at = Vec::new();
        for step in 0..60 {
            if reporter
                .record_if_new(contended(&format!("{step:08x}")), start + Duration::from_secs(step * 10))
            {
                reported_at.push(step * 10);
            }
        }
        assert_eq!(reported_at, [0, 10, 20, 40, 80, 140, 200, 260, 320, 380, 440, 500, 560]);
    }
}
