//! The tables as lists, for narrow terminals.

use quorlock_chaos::timeline::wrapped;

use super::{cells, last_of_quorum, parts};
use crate::bench::percentiles::Percentiles;
use crate::bench::results::Results;

/// The times of each phase.
pub(super) fn times(results: &Results, columns: usize) -> String {
    let mut text = String::new();
    for (name, part) in parts(results) {
        wrapped(&mut text, &name, columns, INDENT);
        for (what, percentiles) in [("acquire", part.acquire), ("release", part.release)] {
            let pairs = ["p50", "p90", "p99", "p99.9", "max"].iter().zip(cells(percentiles));
            let pairs: Vec<String> = pairs.map(|(name, cell)| unbreakable(name, &cell)).collect();
            wrapped(&mut text, &format!("  {what}: {}", pairs.join(", ")), columns, INDENT);
        }
        if let Some(rate) = part.locks_per_second {
            wrapped(&mut text, &format!("  locks/s: {rate:.0}"), columns, INDENT);
        }
    }
    text.replace(TIE, " ")
}

/// The times of each node.
pub(super) fn nodes(results: &Results, columns: usize) -> String {
    let mut text = String::new();
    for node in &results.nodes {
        wrapped(&mut text, &format!("{}{}", node.address, last_of_quorum(results, node)), columns, INDENT);
        let pair = |percentiles: Option<Percentiles>| {
            let [median, _, p99, ..] = cells(percentiles);
            format!("{}, {}", unbreakable("p50", &median), unbreakable("p99", &p99))
        };
        for (what, percentiles) in [
            ("round trip, alone", node.alone.round_trip),
            ("with all tasks", node.load.round_trip),
            ("plain write, alone", node.alone.write),
        ] {
            wrapped(&mut text, &format!("  {what}: {}", pair(percentiles)), columns, INDENT);
        }
        wrapped(&mut text, &format!("  no reply: {}", node.missing_replies), columns, INDENT);
    }
    text.replace(TIE, " ")
}

/// A number with its name, with non-breaking spaces.
fn unbreakable(name: &str, cell: &str) -> String {
    format!("{name} {cell}").replace(' ', TIE)
}

/// A non-breaking space.
const TIE: &str = "\u{a0}";
const INDENT: &str = "    ";

#[cfg(test)]
mod tests {
    use crate::bench::percentiles::Percentiles;
    use crate::bench::results::{Node, Results};
    use crate::bench::text_report::table;

    #[test]
    fn a_narrow_table_fits_the_terminal_and_keeps_all_numbers() {
        let percentiles =
            Percentiles { count: 9, p50_us: 1e3, p90_us: 2e3, p99_us: 3e3, p999_us: 4e3, max_us: 5e3 };
        let mut results = Results { quorum: 2, mode: "fenced", tasks: 16, keys: 1, ..Results::default() };
        for address in ["127.0.0.1:10001", "127.0.0.1:10002", "127.0.0.1:10003"] {
            let mut node = Node { address: address.to_owned(), rank: Some(2), ..Node::default() };
            node.alone.round_trip = Some(percentiles);
            results.nodes.push(node);
        }
        results.alone.acquire = Some(percentiles);
        results.load.acquire = Some(percentiles);
        results.load.locks_per_second = Some(1234.0);
        results.notes = vec!["a note that is longer than any line of a terminal of forty columns".to_owned()];
        results.verdict = "a lock here costs 1.00 ms: 1.05 times the round trip to the node".to_owned();
        let numbers = |text: &str| {
            let mut numbers: Vec<String> = text
                .split([' ', '\n', ':', ','])
                .filter(|number| number.ends_with("00"))
                .map(Into::into)
                .collect();
            numbers.sort_unstable();
            numbers
        };
        let wide = table(&results, usize::MAX);
        for columns in [40, 60, 80] {
            let text = table(&results, columns);
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{columns}:\n{text}");
            assert_eq!(numbers(&text), numbers(&wide), "{text}");
        }
        assert!(wide.lines().any(|line| line.ends_with("the quorum's last") && line.chars().count() > 80));
    }
}
