//! Absences: which nodes no client reaches, and since when, as the other nodes know it.
//!
//! A client tells each node that it reaches which nodes of its list it reaches. A node keeps, for each node
//! that was not reached, the time of the first such report. A client that reaches that node clears it. So
//! clients that live for seconds learn together that a node is absent for long.
//!
//! Where one client reaches a node and another does not, the first would clear each report and the second add it
//! again, with a write at each reading by thousands of clients. So the first leaves the time at which it cleared a
//! report, and for a while after that no client adds another.

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
    /// Positions, and when a client that reaches the node cleared a report.
    cleared: Vec<(u8, u64)>,
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
        let (mut since, mut cleared) = (Vec::new(), Vec::new());
        for field in fields {
            let is_cleared = field.starts_with(CLEARED);
            let Some(pair) = pair(field.trim_start_matches(CLEARED)) else { return Self::default() };
            if is_cleared { cleared.push(pair) } else { since.push(pair) }
        }
        if list.is_some() { Self { list, since, cleared } } else { Self::default() }
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
        for (position, micros) in &self.cleared {
            let _ = write!(text, " {CLEARED}{position}:{micros}");
        }
        text
    }

    /// The reports after this client's, at this time of the node's clock; `None` if they stay the same. Reports
    /// of nodes that it reaches are cleared, and none is added within `pause` after that. Reports of `unreached`
    /// nodes are kept, and the nodes of these that are `absent` for long enough are added. Reports of clients with
    /// another list are dropped.
    #[must_use]
    pub fn after_report(
        &self,
        list: &NodeList,
        (unreached, absent): (NodeSet, NodeSet),
        micros: u64,
        pause: Duration,
    ) -> Option<Self> {
        let is_recent =
            |at: &u64| micros.checked_sub(*at).is_some_and(|it| Duration::from_micros(it) < pause);
        let cleared_at = |node| self.find(&self.cleared, list, node).filter(is_recent);
        let known = |node| self.find(&self.since, list, node).filter(|since| *since <= micros);
        let position = |node| list.position(node) as u8;
        let since: Vec<(u8, u64)> = unreached
            .iter()
            .filter_map(|node| {
                let is_new = absent.contains(node) && cleared_at(node).is_none();
                Some((position(node), known(node).or_else(|| is_new.then_some(micros))?))
            })
            .collect();
        let has_changed = since != self.since || self.list != Some(list.hash()) && !since.is_empty();
        let clears = |node| (!unreached.contains(node) && known(node).is_some()).then_some(micros);
        let cleared =
            list.nodes().iter().filter_map(|node| Some((position(node), clears(node).or(cleared_at(node))?)));
        has_changed.then(|| Self { list: Some(list.hash()), since, cleared: cleared.collect() })
    }

    /// For how long no client with this list has reached the node; zero if one has.
    #[must_use]
    pub fn duration(&self, list: &NodeList, node: NodeId, micros: u64) -> Duration {
        Duration::from_micros(
            self.find(&self.since, list, node).map_or(0, |since| micros.saturating_sub(since)),
        )
    }

    fn find(&self, times: &[(u8, u64)], list: &NodeList, node: NodeId) -> Option<u64> {
        let same_list = times.iter().filter(|_| self.list == Some(list.hash()));
        let found = same_list.into_iter().find(|(position, _)| usize::from(*position) == list.position(node));
        found.map(|(_, micros)| *micros)
    }
}

/// Marks the time of a clearing.
const CLEARED: char = 'c';

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_TTL: Duration = Duration::from_secs(30);

    /// A thousand clients look four times in each max ttl. Half of them reach node 2 and half do not. Returns the
    /// number of writes in an hour.
    fn writes_while_reports_flip(pause: Duration) -> usize {
        let list = NodeList::new(&["a", "b", "c"]);
        let node: NodeSet = [NodeId(2)].into_iter().collect();
        let (mut reports, mut writes) = (Absences::default(), 0);
        let interval = 7_500_000 / 1_000;
        for look in 0..480_000_u64 {
            let micros = 1_700_000_000_000_000 + look * interval;
            let unreached = if look % 2 == 0 { node } else { NodeSet::default() };
            if let Some(after) = reports.after_report(&list, (unreached, unreached), micros, pause) {
                reports = Absences::parse(&after.to_text());
                assert_eq!(reports, after);
                writes += 1;
            }
            assert!(reports.duration(&list, NodeId(2), micros) < MAX_TTL);
        }
        writes
    }

    #[test]
    fn where_only_some_clients_reach_a_node_its_report_is_written_and_cleared_once_in_a_pause() {
        assert_eq!(writes_while_reports_flip(MAX_TTL), 2 * 120);
        assert_eq!(writes_while_reports_flip(Duration::ZERO), 480_000, "without a pause, at each look");
    }

    #[test]
    fn a_node_that_is_lost_after_its_report_was_cleared_is_reported_after_the_pause() {
        let list = NodeList::new(&["a", "b", "c"]);
        let node: NodeSet = [NodeId(2)].into_iter().collect();
        let report = |reports: &Absences, unreached, micros| {
            reports.after_report(&list, (unreached, unreached), micros, MAX_TTL)
        };
        let reported = report(&Absences::default(), node, 1_000_000).expect("a report");
        let cleared = report(&reported, NodeSet::default(), 2_000_000).expect("it is cleared");
        assert_eq!(report(&cleared, node, 31_999_999), None);
        let reported = report(&cleared, node, 32_000_000).expect("a report");
        assert_eq!(
            reported.duration(&list, NodeId(2), 62_000_000),
            MAX_TTL,
            "it counts from the later report"
        );
        assert!(report(&cleared, node, 1_500_000).is_some(), "a clock that was set back ends the pause");
    }
}
