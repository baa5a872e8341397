//! Records: what a server stores of the roster, and the writes that change it.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use super::{Roster, SeatId};
use crate::mutant::{Mutant, enabled};

/// The number of a proposal: a count, then the client that proposes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ballot {
    /// Larger than every count that the client has seen.
    pub count: u32,
    /// The client. Two clients with one id would both believe in their proposal.
    pub client: u64,
}

impl Ballot {
    fn parse(text: &str) -> Option<Self> {
        let (count, client) = text.split_once(' ')?;
        Some(Self { count: count.parse().ok()?, client: u64::from_str_radix(client, 16).ok()? })
    }
}

/// A text that is neither empty nor valid.
struct Malformed;

/// Parses a part that may be missing: its text is empty then.
fn optional<T>(text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Malformed> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some).ok_or(Malformed) }
}

/// What a server remembers of its lock cluster. All of it is lost with the server's data, and void once its
/// incarnation differs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// The seat of this incarnation.
    pub seat: SeatId,
    /// Whether a roster has had its seat. Otherwise the server waits for one.
    pub was_member: bool,
    /// The latest roster that the server has learned, which was chosen.
    pub roster: Option<Arc<Roster>>,
    /// The server takes part in no smaller ballot on the next roster. It casts no vote meanwhile.
    pub promised: Option<Ballot>,
    /// The proposal that it accepted last.
    pub accepted: Option<(Ballot, Arc<Roster>)>,
}

/// A change of a record. A server carries it out only if its record is still the one that the client read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RecordWrite {
    /// A server without memory gets this seat. It keeps the roster of its data, as a hint.
    DrawSeat(SeatId),
    /// Promise to take part in no smaller ballot.
    Promise(Ballot),
    /// Accept this proposal.
    Accept(Ballot, Arc<Roster>),
    /// This roster was chosen.
    Carry(Arc<Roster>),
}

impl Record {
    /// The record after a write; `hint` is the roster in the data of a server without memory.
    #[must_use]
    pub fn after(this: Option<&Self>, hint: Option<&Arc<Roster>>, write: &RecordWrite) -> Option<Self> {
        if let RecordWrite::DrawSeat(seat) = write {
            let roster = this.and_then(|it| it.roster.as_ref()).or(hint).cloned();
            return Some(Self { seat: *seat, was_member: false, roster, promised: None, accepted: None });
        }
        let mut record = this?.clone();
        match write {
            RecordWrite::DrawSeat(_) => {}
            RecordWrite::Promise(ballot) => record.promised = Some(*ballot),
            RecordWrite::Accept(_, roster) if enabled(Mutant::InForceByCount) => {
                return Self::after(this, hint, &RecordWrite::Carry(roster.clone()));
            }
            RecordWrite::Accept(ballot, proposal) => record.accepted = Some((*ballot, proposal.clone())),
            RecordWrite::Carry(roster) => {
                record.was_member |= roster.has(record.seat);
                record.roster = Some(roster.clone());
                (record.promised, record.accepted) = (None, None);
            }
        }
        Some(record)
    }

    /// The text that the server stores beside its marker: roster, promise and accepted proposal.
    #[must_use]
    pub fn to_text(&self) -> String {
        let roster = self.roster.as_ref().map(|it| it.to_text()).unwrap_or_default();
        let ballot = |it: &Ballot| format!("{} {:x}", it.count, it.client);
        let promised = self.promised.as_ref().map(ballot).unwrap_or_default();
        let accepted =
            self.accepted.as_ref().map(|(it, proposal)| format!("{};{}", ballot(it), proposal.to_text()));
        format!("{roster};{promised};{}", accepted.unwrap_or_else(|| ";".into()))
    }

    /// The record of a server with this seat, from its text; `None` for any other text.
    #[must_use]
    pub fn parse(seat: SeatId, was_member: bool, text: &str) -> Option<Self> {
        let mut fields = text.split(';');
        let roster = optional(fields.next()?, Roster::parse).ok()?.map(Arc::new);
        let promised = optional(fields.next()?, Ballot::parse).ok()?;
        let ballot = optional(fields.next()?, Ballot::parse).ok()?;
        let proposal = optional(fields.next()?, Roster::parse).ok()?.map(Arc::new);
        let record = Self { seat, was_member, roster, promised, accepted: ballot.zip(proposal) };
        fields.next().is_none().then_some(record)
    }

    /// Whether the server is a member of this roster, sealed or not.
    #[must_use]
    pub fn is_member_of(&self, roster: &Roster) -> bool {
        self.roster.as_deref() == Some(roster) && roster.has(self.seat)
    }

    /// Whether it takes part in the choice of the next roster, and so casts no vote.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.promised.is_some() && !enabled(Mutant::PromiseDoesNotSeal)
    }
}
