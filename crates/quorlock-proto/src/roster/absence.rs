//! Absences: which nodes no client reaches, and since when, as the other nodes know it.
//!
//! A client tells each node that it reaches which nodes of its list it reaches. A node keeps, for each node
//! that was not reached, the time of the first such report. A client that reaches that node clears it. So
//! clients that live for seconds learn together that a node is absent for long.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::time::Duration;

use super::{ListHash, NodeList};
use crate::quorum::{NodeId, NodeSet};

/// A node's absence reports: a text that the node stores and does not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Absences {
    list: Option<ListHash>,
    /// Positions in the sorted list, and since when, in microseconds of the reporting node's clock.
    since: Vec<(u8, u64)>,
}

impl Absences {
    /// Parses the text; any other text is no report.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut fields = text.split(' ');
        let list = fields.next().and_then(|it| u64::from_str_radix(it, 16).ok()).map(ListHash);
        let pair = |field: &str| {
            let (position, micros) = field.split_once(':')?;
            Some((position.parse().ok()?, micros.parse().ok()?))
        };
        let since: Option<Vec<(u8, u64)>> = fields.map(pair).collect();
        since.filter(|_| list.is_some()).map_or_else(Self::default, |since| Self { list, since })
    }

    /// The text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(text, "{:016x}", self.list.map_or(0, |it| it.0));
        for (position, micros) in &self.since {
            let _ = write!(text, " {position}:{micros}");
        }
        text
    }

    /// The reports after this client's, at this time of the node's clock; `None` if they stay the same. Reports
    /// of nodes that it reaches are dropped, reports of `unreached` nodes are kept, and the nodes of these that
    /// are `absent` for long enough are added. Reports of clients with another list are dropped.
    #[must_use]
    pub fn after_report(
        &self,
        list: &NodeList,
        unreached: NodeSet,
        absent: NodeSet,
        micros: u64,
    ) -> Option<Self> {
        let since: Vec<(u8, u64)> = unreached
            .iter()
            .filter_map(|node| {
                let known = self.since_micros(list, node).filter(|since| *since <= micros);
                let since = known.or_else(|| absent.contains(node).then_some(micros))?;
                Some((list.position(node) as u8, since))
            })
            .collect();
        let has_changed = since != self.since || self.list != Some(list.hash()) && !since.is_empty();
        has_changed.then(|| Self { list: Some(list.hash()), since })
    }

    /// For how long no client with this list has reached the node; zero if one has.
    #[must_use]
    pub fn duration(&self, list: &NodeList, node: NodeId, micros: u64) -> Duration {
        Duration::from_micros(self.since_micros(list, node).map_or(0, |since| micros.saturating_sub(since)))
    }

    fn since_micros(&self, list: &NodeList, node: NodeId) -> Option<u64> {
        let same_list = self.since.iter().filter(|_| self.list == Some(list.hash()));
        let found = same_list.into_iter().find(|(position, _)| usize::from(*position) == list.position(node));
        found.map(|(_, since)| *since)
    }
}
