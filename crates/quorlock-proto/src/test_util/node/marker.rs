//! The reading of a marker, with a write before it.

use std::sync::Arc;

use super::scripts::parse_lua_number;
use super::{DataKey, DataValue, MAX_FENCE, SimulatedNode};
use crate::marker::{Incarnation, MarkerReading};
use crate::membership::{MarkerWrite, NodeWrite};
use crate::roster::voting_time::MarkerTime;

impl SimulatedNode {
    /// The stored marker, after a write if one was requested: `lua/read_marker.lua`.
    pub fn read_marker(&mut self, write: Option<&NodeWrite>, nanos: u64) -> MarkerReading {
        // A real server has removed expired keys by itself by now.
        self.remove_expired(nanos);
        let incarnation = self.incarnation();
        let now = self.clock_micros(nanos);
        match write {
            Some(NodeWrite::Marker(write)) => self.write_marker(write, &incarnation, now),
            Some(NodeWrite::Absences { replaces, text })
                if self.text(&DataKey::Absences).as_deref() == replaces.as_deref() =>
            {
                self.set_text(DataKey::Absences, text);
            }
            Some(NodeWrite::Absences { .. }) | None => {}
        }
        let marker: Option<Arc<str>> = self.marker().filter(|text| !text.is_empty()).map(Arc::from);
        let latest_micros = self.valid_number(&DataKey::Clock);
        if let Some(period) = marker.as_deref().and_then(clock_note_period)
            && now > latest_micros + period
        {
            self.set_text(DataKey::Clock, &now.to_string());
        }
        MarkerReading {
            marker,
            record: self.text(&DataKey::Record).map(Arc::from),
            incarnation,
            evicts: self.evicts,
            micros: now,
            latest_micros,
            highest_number: self.valid_number(&DataKey::HighestAheadOfClock),
            absences: self.text(&DataKey::Absences).map(Arc::from),
        }
    }

    fn write_marker(&mut self, write: &MarkerWrite, incarnation: &Incarnation, now: u64) {
        let MarkerWrite {
            replaces,
            incarnation: expected,
            identity,
            record,
            time,
            written_micros,
            base_micros,
        } = write;
        let is_same = self.marker().as_deref().unwrap_or_default() == replaces.as_deref().unwrap_or_default();
        if !is_same || expected.as_ref().is_some_and(|expected| expected != incarnation) {
            return;
        }
        let time = match time {
            MarkerTime::After(span) => now + span.as_micros() as u64,
            MarkerTime::At(micros) => *micros,
        };
        let marker = format!("{identity} {} {time} {written_micros} {base_micros}", incarnation.as_str());
        self.set_text(DataKey::Marker, &marker);
        self.set_text(DataKey::Record, record);
    }

    fn set_text(&mut self, key: DataKey, text: &str) {
        self.data.insert(key, DataValue { value: Some(text.as_bytes().to_vec()), expires: None });
    }

    pub(super) fn highest_ahead_of_clock(&self) -> u64 {
        let highest = self
            .data
            .get(&DataKey::HighestAheadOfClock)
            .and_then(|entry| parse_lua_number(entry.value.as_deref()?));
        highest.filter(|highest| *highest < MAX_FENCE as f64).unwrap_or(0.0) as u64
    }

    fn marker(&self) -> Option<String> {
        match self.data.get(&DataKey::Marker)?.value {
            Some(_) => self.text(&DataKey::Marker),
            None => Some("of another type".to_owned()),
        }
    }
}

/// How often a node with this marker notes its clock, in microseconds: four times in a max ttl.
fn clock_note_period(marker: &str) -> Option<u64> {
    let mut fields = marker.split(' ');
    let max_ttl_millis = (fields.next() == Some("quorlock4")).then(|| fields.next()).flatten()?;
    max_ttl_millis.parse::<u64>().ok().map(|millis| millis * 250)
}
