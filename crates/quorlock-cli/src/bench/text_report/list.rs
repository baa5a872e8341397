//! The tables as lists, for narrow terminals.

use quorlock_chaos::timeline::wrapped;

use super::{cells, mark, parts};
use crate::bench::percentiles::Percentiles;
use crate::bench::results::Results;

/// The times of each part.
pub(super) fn times(figures: &Results, columns: usize) -> String {
    let mut text = String::new();
    for (name, part) in parts(figures) {
        wrapped(&mut text, &name, columns, INDENT);
        for (what, spread) in [("acquire", part.acquire), ("release", part.release)] {
            let pairs = ["p50", "p90", "p99", "p99.9", "max"].iter().zip(cells(spread));
            let pairs: Vec<String> = pairs.map(|(name, cell)| whole(name, &cell)).collect();
            wrapped(&mut text, &format!("  {what}: {}", pairs.join(", ")), columns, INDENT);
        }
        if let Some(rate) = part.locks_per_second {
            wrapped(&mut text, &format!("  locks/s: {rate:.0}"), columns, INDENT);
        }
    }
    text.replace(TIE, " ")
}

/// The times of each node.
pub(super) fn nodes(figures: &Results, columns: usize) -> String {
    let mut text = String::new();
    for node in &figures.nodes {
        wrapped(&mut text, &format!("{}{}", node.address, mark(figures, node)), columns, INDENT);
        let pair = |spread: Option<Percentiles>| {
            let [half, _, most, ..] = cells(spread);
            format!("{}, {}", whole("p50", &half), whole("p99", &most))
        };
        for (what, spread) in [
            ("round trip, alone", node.alone.round_trip),
            ("with all tasks", node.load.round_trip),
            ("plain write, alone", node.alone.write),
        ] {
            wrapped(&mut text, &format!("  {what}: {}", pair(spread)), columns, INDENT);
        }
        wrapped(&mut text, &format!("  no answer: {}", node.missing_replies), columns, INDENT);
    }
    text.replace(TIE, " ")
}

/// A number with its name, not to be broken across lines.
fn whole(name: &str, cell: &str) -> String {
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
    fn no_line_is_wider_than_the_terminal_and_no_figure_is_left_out() {
        let spread =
            Percentiles { count: 9, p50_us: 1e3, p90_us: 2e3, p99_us: 3e3, p999_us: 4e3, max_us: 5e3 };
        let mut figures = Results { quorum: 2, mode: "fenced", tasks: 16, keys: 1, ..Results::default() };
        for address in ["127.0.0.1:10001", "127.0.0.1:10002", "127.0.0.1:10003"] {
            let mut node = Node { address: address.to_owned(), rank: Some(2), ..Node::default() };
            node.alone.round_trip = Some(spread);
            figures.nodes.push(node);
        }
        figures.alone.acquire = Some(spread);
        figures.load.acquire = Some(spread);
        figures.load.locks_per_second = Some(1234.0);
        figures.notes = vec!["a note that is longer than any line of a terminal of forty columns".to_owned()];
        figures.verdict = "a lock here costs 1.00 ms: 1.05 times the round trip to the node".to_owned();
        let words = |text: &str| {
            let mut words: Vec<String> = text
                .split([' ', '\n', ':', ','])
                .filter(|word| word.ends_with("00"))
                .map(Into::into)
                .collect();
            words.sort_unstable();
            words
        };
        let wide = table(&figures, usize::MAX);
        for columns in [40, 60, 80] {
            let text = table(&figures, columns);
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{columns}:\n{text}");
            assert_eq!(words(&text), words(&wide), "{text}");
        }
        assert!(wide.lines().any(|line| line.ends_with("the quorum's last") && line.chars().count() > 80));
    }
}
