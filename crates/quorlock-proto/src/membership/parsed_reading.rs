//! What the texts in a marker reading say.

use super::member::Member;
use crate::marker::{Marker, MarkerReading};
use crate::roster::absence::Absences;
use crate::roster::fnv;
use crate::roster::record::Record;

/// The texts of a reading, parsed once: each evaluation uses those of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ParsedReading {
    /// The marker; `None` if the node has none, or a value that is not a marker.
    pub(super) marker: Option<Marker>,
    /// The record that the marker has the hash of.
    pub(super) record: Option<Record>,
    pub(super) absences: Absences,
}

impl ParsedReading {
    pub(super) fn new(reading: &MarkerReading) -> Self {
        let marker = reading.marker.as_deref().and_then(Marker::parse);
        let record = marker.as_ref().and_then(|marker| {
            let text = reading.record.as_deref().filter(|text| fnv(text.bytes()) == marker.record_hash)?;
            Record::parse(marker.seat, marker.was_member, text)
        });
        Self { marker, record, absences: absences_in(reading) }
    }
}

impl Member {
    /// Parses the texts of this reading. Most readings repeat the texts of the one before.
    pub(super) fn parse_reading(&mut self, reading: &MarkerReading) {
        match &self.reading {
            Some(before) if before.marker == reading.marker && before.record == reading.record => {
                if before.absences != reading.absences {
                    self.parsed.absences = absences_in(reading);
                }
            }
            _ => self.parsed = ParsedReading::new(reading),
        }
    }
}

fn absences_in(reading: &MarkerReading) -> Absences {
    reading.absences.as_deref().map(Absences::parse).unwrap_or_default()
}
