//! The results as text for a terminal.

mod list;

use std::fmt::Write as _;

use quorlock_chaos::checker::counted;
use quorlock_chaos::timeline::wrapped;

use super::percentiles::{Percentiles, time_text};
use super::results::{Node, PhaseResult, Results};

/// The whole report: a table of times, a table of nodes, notes, and the verdict. A table that is too wide
/// becomes a list.
pub(super) fn table(results: &Results, columns: usize) -> String {
    let mut text = String::new();
    wrapped(&mut text, &settings_line(results), columns, "  ");
    text.push('\n');
    let has_room = |table: &String| table.lines().all(|line| line.chars().count() <= columns);
    let drawn = Some(times(results)).filter(has_room);
    text.push_str(&drawn.unwrap_or_else(|| list::times(results, columns)));
    text.push('\n');
    wrapped(&mut text, &throughput(results), columns, "  ");
    if let Some(contention) = contention(results) {
        wrapped(&mut text, &contention, columns, "  ");
    }
    text.push('\n');
    let drawn = Some(nodes(results)).filter(has_room);
    text.push_str(&drawn.unwrap_or_else(|| list::nodes(results, columns)));
    text.push('\n');
    for note in &results.notes {
        wrapped(&mut text, &format!("· {note}"), columns, "  ");
    }
    wrapped(&mut text, &results.verdict, columns, "  ");
    text
}

/// The conditions of the measurement.
pub(super) fn settings_line(results: &Results) -> String {
    let servers = results.nodes.iter().filter_map(|node| node.server.as_ref());
    let mut servers: Vec<String> = servers.map(ToString::to_string).collect();
    servers.dedup();
    let hold = if results.hold_us > 0.0 {
        format!("each held for {}", time_text(results.hold_us))
    } else {
        "released at once".to_owned()
    };
    format!(
        "{} ({}), a quorum of {}, {} locks of {}; one task alone for {:.1} s, then {} on {} for {:.1} s; {hold}",
        counted(results.nodes.len(), "node"),
        servers.join(", "),
        results.quorum,
        results.mode,
        time_text(results.ttl_ms as f64 * 1e3),
        results.alone.seconds,
        tasks(results),
        counted(results.keys, "name"),
        results.load.seconds,
    )
}

/// The number of tasks, with the noun.
pub(super) fn tasks(results: &Results) -> String {
    counted(results.tasks, "task")
}

/// The phases of the run, each with its name.
pub(super) fn parts(results: &Results) -> Vec<(String, &PhaseResult)> {
    let tasks = tasks(results);
    let mut parts = vec![("alone".to_owned(), &results.alone)];
    match &results.killed {
        None => parts.push((tasks, &results.load)),
        Some(killed) => {
            parts.push((format!("{tasks}, before"), &killed.before));
            parts.push((format!("{tasks}, one dead"), &killed.down));
            parts.push((format!("{tasks}, restarted"), &killed.back));
        }
    }
    parts
}

/// The cells of a row of percentiles.
pub(super) fn cells(percentiles: Option<Percentiles>) -> [String; 5] {
    let Some(it) = percentiles else { return std::array::from_fn(|_| "-".to_owned()) };
    [it.p50_us, it.p90_us, it.p99_us, it.p999_us, it.max_us].map(time_text)
}

fn times(results: &Results) -> String {
    let mut text = String::new();
    let parts = parts(results);
    let width = parts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut line = |name: &str, what: &str, cells: [String; 5], rate: &str| {
        let cells = cells.map(|cell| format!("{cell:>9}")).join(" ");
        let line = format!("{name:width$}  {what:7}  {cells}  {rate:>9}");
        let _ = writeln!(text, "{}", line.trim_end());
    };
    line("", "", ["p50", "p90", "p99", "p99.9", "max"].map(ToOwned::to_owned), "locks/s");
    for (name, part) in parts {
        line(
            &name,
            "acquire",
            cells(part.acquire),
            &part.locks_per_second.map_or("-".to_owned(), |rate| format!("{rate:.0}")),
        );
        line("", "release", cells(part.release), "");
    }
    text
}

/// The throughput of all tasks.
pub(super) fn throughput(results: &Results) -> String {
    let it = &results.throughput;
    if results.load.locks == 0 {
        return format!("{} together took no lock", tasks(results));
    }
    let mut text = format!("{:.0} locks a second", it.locks_per_second);
    if let Some((cpu, commands)) = it.client_cpu_us_per_lock.zip(it.commands_per_lock) {
        let _ = write!(
            text,
            ", each with {cpu:.0} µs of the client's processor and {commands:.1} Redis commands"
        );
    }
    if results.tasks > 1 {
        let _ = match it.max_per_min {
            Some(times) => {
                write!(
                    text,
                    "; each task had {} to {} (as 1 to {times:.2})",
                    it.min_per_task, it.max_per_task
                )
            }
            None => write!(text, "; some task had none, and another {}", it.max_per_task),
        };
    }
    if it.longest_waiting_us > LONG_WAIT_US {
        let _ = write!(
            text,
            "; waiting at the end: {}, the longest for {}",
            counted(it.waiting_at_the_end, "task"),
            time_text(it.longest_waiting_us)
        );
    }
    text
}

/// The effect of tasks waiting for each other.
pub(super) fn contention(results: &Results) -> Option<String> {
    let it = results.contention.as_ref()?;
    let mut text = format!(
        "each name was held {:.0} % of the time, and handed off {:.0} times a second",
        it.held_share * 100.0,
        it.hand_offs_per_second
    );
    if let Some((gap, held)) = it.hand_off.zip(it.held) {
        let _ = write!(
            text,
            ", which took {} (p99 {}); held for {}",
            time_text(gap.p50_us),
            time_text(gap.p99_us),
            time_text(held.p50_us)
        );
    }
    Some(text)
}

fn nodes(results: &Results) -> String {
    let mut text = String::new();
    let width = results.nodes.iter().map(|node| node.address.len()).max().unwrap_or(0).max(4);
    let _ = writeln!(
        text,
        "{:width$}  {:>21}   {:>21}   {:>21}   {:>8}",
        "", "round trip, alone", "with all tasks", "plain write, alone", "no"
    );
    let _ = writeln!(
        text,
        "{:width$}  {:>10} {:>10}   {:>10} {:>10}   {:>10} {:>10}   {:>8}",
        "node", "p50", "p99", "p50", "p99", "p50", "p99", "reply"
    );
    for node in &results.nodes {
        let pair = |percentiles: Option<Percentiles>| {
            let [median, _, p99, ..] = cells(percentiles);
            format!("{median:>10} {p99:>10}")
        };
        let last_of_quorum = last_of_quorum(results, node);
        let _ = writeln!(
            text,
            "{:width$}  {}   {}   {}   {:>8}{last_of_quorum}",
            node.address,
            pair(node.alone.round_trip),
            pair(node.load.round_trip),
            pair(node.alone.write),
            node.missing_replies,
        );
    }
    text
}

/// The marker of the node that a lock waits for.
fn last_of_quorum(results: &Results, node: &Node) -> &'static str {
    if node.rank == Some(results.quorum) && results.nodes.len() > 1 { " ← the quorum's last" } else { "" }
}

/// A wait that is worth reporting.
const LONG_WAIT_US: f64 = 1e6;
