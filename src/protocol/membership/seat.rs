//! One node's seat in the cluster.

use std::sync::Arc;
use std::time::Duration;

use super::super::marker::Look;
use super::super::mutant::{Mutant, is};
use super::super::sentinel::Sentinel;
use super::super::time::Moment;
use super::super::vote::{Bar, Doubt, Fault};
use super::Write;

/// What is known of one node's memory and clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seat {
    pub(super) is_up: bool,
    /// What it told last, kept also while it is away.
    pub(super) look: Option<Look>,
    pub(super) verdict: Verdict,
    /// The marker with which it was a member last.
    known: Option<Arc<str>>,
    /// It may not vote before this, by our own clock.
    pub(super) holds_back: Option<(Moment, Doubt)>,
    pub(super) clock: Sentinel,
    /// Whether it remembered nothing when we first met it.
    was_blank: bool,
    /// When `look` was received.
    seen_at: Option<Moment>,
    look_at: Option<Moment>,
    is_looking: bool,
    /// Why it did not tell, or would not be told, when it was asked last.
    pub(super) refusal: Option<Fault>,
    /// What it must be told to remember.
    to_write: Option<Write>,
    told: Standing,
}

/// What becomes of a node, by what it remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Nobody can tell yet.
    #[default]
    Undecided,
    /// It votes once it is past its probation.
    Member(Badge),
    /// It must be told to remember this cluster and charter.
    ToMark(Arc<str>),
    /// It may not vote.
    Barred(Bar),
}

/// What a node is expected to remember.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Badge {
    /// Its marker, to the letter.
    pub marker: Arc<str>,
    /// From when on it votes, in microseconds of its own clock.
    pub votes_from_micros: u64,
}

/// How a node stands, for people to see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Not decided yet.
    #[default]
    Undecided,
    /// It votes.
    Voting,
    /// It will vote when this has come on our boot clock.
    Doubtful(Moment, Doubt),
    /// It may not vote.
    Barred(Bar),
}

impl Seat {
    /// When it must be looked at again.
    pub(super) fn look_at(&self) -> Option<Moment> {
        self.look_at.filter(|_| self.is_up && !self.is_looking)
    }

    /// When it votes again, if people were told that it does not now.
    pub(super) fn votes_at(&self) -> Option<Moment> {
        self.holds_back.filter(|_| matches!(self.told, Standing::Doubtful(..))).map(|(until, _)| until)
    }

    /// The first of both.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        match (self.look_at(), self.votes_at()) {
            (Some(look), Some(votes)) => Some(look.earlier(votes)),
            (look, votes) => look.or(votes),
        }
    }

    pub(super) fn must_look(&self, now: Moment) -> bool {
        let is_due = self.look_at.is_some_and(|due| now.is_due(due));
        self.is_up && !self.is_looking && (is_due || self.to_write.is_some())
    }

    pub(super) fn look_out(&mut self) -> Option<Write> {
        self.is_looking = true;
        self.to_write.take()
    }

    /// The standing, if it is another than was told last.
    pub(super) fn change(&mut self, now: Moment) -> Option<Standing> {
        if self.holds_back.is_some_and(|(until, _)| now.is_due(until)) {
            self.holds_back = None;
        }
        if !self.is_up {
            // Why it is away is told by those who dial it; what it was worth must not be said over that.
            return None;
        }
        let standing = match (&self.verdict, self.holds_back) {
            (Verdict::ToMark(_), Some((until, doubt @ Doubt::Unmet)))
            | (Verdict::Member(_), Some((until, doubt))) => Standing::Doubtful(until, doubt),
            (Verdict::Undecided | Verdict::ToMark(_), _) => Standing::Undecided,
            (Verdict::Barred(bar), _) => Standing::Barred(bar.clone()),
            (Verdict::Member(_), None) => Standing::Voting,
        };
        if let (Standing::Doubtful(new, doubt), Standing::Doubtful(told, same)) = (&standing, &self.told)
            && doubt == same
            && new.since(*told) < WORTH_TELLING
            && told.since(*new) < WORTH_TELLING
        {
            return None;
        }
        (standing != self.told).then(|| {
            self.told = standing.clone();
            standing
        })
    }

    /// Whether its next answer may tell of another marker than the last.
    pub(super) fn is_being_asked(&self) -> bool {
        self.is_looking || self.to_write.is_some()
    }

    /// Whether it was a member of our cluster before.
    pub(super) fn was_member(&self) -> bool {
        self.known.is_some()
    }

    pub(super) fn leave(&mut self) {
        self.is_up = false;
        self.is_looking = false;
        self.to_write = None;
        self.look_at = None;
        // Whoever comes back is told of anew.
        self.told = Standing::Undecided;
    }

    pub(super) fn see(&mut self, look: Result<Look, Fault>, now: Moment, again: Moment) {
        self.is_looking = false;
        self.look_at = Some(again);
        match look {
            Ok(look) => {
                self.was_blank |= self.known.is_none() && look.marker.is_none();
                self.look = Some(look);
                self.seen_at = Some(now);
                self.refusal = None;
            }
            Err(fault) => self.refusal = Some(fault),
        }
    }

    /// It is not what we know; nobody asks it for votes until it was looked at.
    pub(super) fn doubt_it(&mut self, now: Moment) {
        self.verdict = Verdict::Undecided;
        self.look_at = Some(now);
    }

    pub(super) fn write(&mut self, identity: Arc<str>, backdate: Duration) {
        let replaces = self.look.as_ref().and_then(|look| look.marker.clone());
        self.to_write = Some(Write { replaces, identity, backdate });
    }

    pub(super) fn hold_back(&mut self, until: Moment, doubt: Doubt) {
        if self.holds_back.is_none_or(|(other, _)| !other.is_due(until)) {
            self.holds_back = Some((until, doubt));
        }
    }

    pub(super) fn decide(&mut self, verdict: Verdict, probation: Duration, takes_in: bool, now: Moment) {
        match &verdict {
            // Its probation begins when somebody else takes it in.
            Verdict::ToMark(_) if !takes_in => self.hold_back(now.plus(probation), Doubt::Unmet),
            Verdict::Member(badge) => {
                let has_changed = self.known.as_ref().is_some_and(|known| *known != badge.marker);
                if has_changed && !is(Mutant::NoProbation) && !is(Mutant::NoOwnClockWait) {
                    // Who knew it when it changed trusts no clock but its own for how long ago that was.
                    let probation = if is(Mutant::ShortProbation) { probation / 2 } else { probation };
                    self.hold_back(now.plus(probation), Doubt::Forgot);
                }
                let told_at = self.look.as_ref().map_or(0, |look| look.micros);
                let left = Duration::from_micros(badge.votes_from_micros.saturating_sub(told_at));
                let until = self.seen_at.unwrap_or(now).plus(left);
                if !now.is_due(until) {
                    let doubt = if self.was_blank { Doubt::New } else { Doubt::Forgot };
                    self.hold_back(until, doubt);
                }
                self.was_blank &= self.known.is_none();
                self.known = Some(badge.marker.clone());
            }
            Verdict::ToMark(identity) if self.is_up && !self.is_looking && self.to_write.is_none() => {
                self.write(identity.clone(), Duration::ZERO);
            }
            Verdict::Undecided | Verdict::ToMark(_) | Verdict::Barred(_) => {}
        }
        self.verdict = verdict;
    }
}

/// Two looks never agree to the microsecond when a probation ends.
const WORTH_TELLING: Duration = Duration::from_millis(100);
