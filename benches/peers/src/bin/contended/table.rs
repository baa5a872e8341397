//! The results of all rounds, and the tables and goals computed from them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use peers::stats::{median, short};

use crate::case::{Case, Distance};
use crate::run::Results;

/// The results of every case, strategy and round.
#[derive(Default)]
pub(crate) struct Table {
    rows: BTreeMap<Case, BTreeMap<String, Vec<Results>>>,
}

type Metric = fn(&Results) -> f64;

impl Table {
    pub(crate) fn add(&mut self, case: Case, strategy: &str, results: Results) {
        self.rows.entry(case).or_default().entry(strategy.to_owned()).or_default().push(results);
    }

    /// Medians over the rounds.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = String::new();
        let mut last = None;
        for (case, strategies) in &self.rows {
            let section = (case.round_trip, case.hold);
            if last != Some(section) {
                last = Some(section);
                let (round_trip, hold) = (case.round_trip.name(), short(case.hold_millis()));
                let _ = write!(
                    text,
                    "\n**Hold {hold} ms, round trip {round_trip} ms**\n\n| processes x tasks | strategy |"
                );
                for (name, _) in COLUMNS {
                    let _ = write!(text, " {name} |");
                }
                let _ = writeln!(text, "\n|---|---|{}", "--:|".repeat(COLUMNS.len()));
            }
            for (strategy, rounds) in strategies {
                let _ = write!(text, "| {} x {} | {strategy} |", case.processes, case.tasks);
                for (_, metric) in COLUMNS {
                    let _ = write!(text, " {} |", short(median(rounds.iter().map(metric).collect())));
                }
                text.push('\n');
            }
        }
        text
    }

    /// The goals, and whether this run meets them.
    pub(crate) fn goals(&self) -> String {
        let mut goals = Goals(vec!["| goal | strategy | measured | met |\n|---|---|--:|---|".to_owned()]);
        let own: Vec<String> = (self.rows.values())
            .flat_map(BTreeMap::keys)
            .filter(|strategy| !strategy.starts_with("rslock"))
            .cloned()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        for strategy in &own {
            for (case, strategies) in &self.rows {
                self.goals_of(&mut goals, strategy, *case, strategies);
            }
        }
        goals.0.join("\n")
    }

    fn goals_of(
        &self,
        goals: &mut Goals,
        strategy: &str,
        case: Case,
        strategies: &BTreeMap<String, Vec<Results>>,
    ) {
        let Some(rounds) = strategies.get(strategy) else { return };
        let value = |metric: Metric| median(rounds.iter().map(metric).collect());
        let (hold, near) = (case.hold.as_micros(), case.round_trip == Distance::Near);
        // The ratio to the same strategy in one process, within each round.
        let ratio_to_one = |metric: Metric| {
            let one = Case { processes: 1, tasks: case.processes * case.tasks, ..case };
            let one = self.rows.get(&one).and_then(|strategies| strategies.get(strategy))?;
            Some(median(rounds.iter().zip(one).map(|(own, one)| metric(own) / metric(one)).collect()))
        };
        // The ratio to the best peer, within each round.
        let ratio_to_best = |metric: Metric| {
            let peers: Vec<_> =
                strategies.iter().filter(|(strategy, _)| strategy.starts_with("rslock")).collect();
            let ratios = rounds.iter().enumerate().filter_map(|(round, own)| {
                let values = peers.iter().filter_map(|(_, rounds)| rounds.get(round)).map(metric);
                values.reduce(f64::min).map(|best| metric(own) / best)
            });
            let ratios: Vec<f64> = ratios.collect();
            (!ratios.is_empty()).then(|| median(ratios))
        };
        match (near, hold, case.processes) {
            (true, 1000, 1) => {
                goals.add(
                    "one process: held for 75 % of the time",
                    strategy,
                    Some(value(|results| results.held)),
                    AtLeast(0.75),
                );
                goals.add(
                    "one process: most / fewest of a task",
                    strategy,
                    Some(value(|results| results.task_spread)),
                    AtMost(1.1),
                );
                let waits =
                    value(|results| results.wait_p99 * results.per_second / 1e3) / (case.tasks as f64);
                goals.add("one process: wait p99 / (tasks x period)", strategy, Some(waits), AtMost(1.3));
                goals.add(
                    "one process: commands per hand-off",
                    strategy,
                    Some(value(|results| results.commands)),
                    AtMost(12.0),
                );
            }
            (true, 1000, 4) => {
                goals.add(
                    "four: hand-offs relative to one process",
                    strategy,
                    ratio_to_one(|results| results.per_second),
                    AtLeast(0.9),
                );
                goals.add(
                    "four: most / fewest of a process",
                    strategy,
                    Some(value(|results| results.process_spread)),
                    AtMost(1.5),
                );
                goals.add(
                    "four: wait p99 relative to the best peer",
                    strategy,
                    ratio_to_best(|results| results.wait_p99),
                    AtMost(0.5),
                );
                goals.add(
                    "four: client CPU relative to the best peer",
                    strategy,
                    ratio_to_best(|results| results.cpu),
                    AtMost(0.33),
                );
            }
            (true, 1000, 16) => {
                goals.add(
                    "sixteen: hand-offs relative to one process",
                    strategy,
                    ratio_to_one(|results| results.per_second),
                    AtLeast(0.7),
                );
                goals.add(
                    "sixteen: starved tasks",
                    strategy,
                    Some(value(|results| results.starved)),
                    AtMost(0.0),
                );
            }
            (false, 100_000, 4 | 16) => {
                let gap = value(|results| results.gap / results.round_trip);
                let name = format!("{} far: gap from the release, in round trips", case.processes);
                goals.add(&name, strategy, Some(gap), AtMost(1.5));
                let gap = value(|results| results.gap_from_reply / results.round_trip);
                let name = format!("{} far: gap from the reply, in round trips", case.processes);
                goals.add(&name, strategy, Some(gap), AtMost(1.5));
                let name = format!("{} far: commands per waiting second and process", case.processes);
                goals.add(&name, strategy, Some(value(|results| results.waiting_commands)), AtMost(4.0));
            }
            _ => {}
        }
        let leftover = rounds.iter().map(|results| results.leftover).fold(0.0, f64::max);
        if leftover > 0.0 {
            goals.add("keys left behind (worst run)", strategy, Some(leftover), AtMost(0.0));
        }
    }
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}
use Bound::{AtLeast, AtMost};

struct Goals(Vec<String>);

impl Goals {
    fn add(&mut self, goal: &str, strategy: &str, measured: Option<f64>, bound: Bound) {
        let Some(measured) = measured else { return };
        let (limit, is_met) = match bound {
            AtMost(limit) => (format!("at most {limit}"), measured <= limit),
            AtLeast(limit) => (format!("at least {limit}"), measured >= limit),
        };
        let met = if is_met { "yes" } else { "NO" };
        self.0.push(format!("| {goal}: {limit} | {strategy} | {measured:.2} | {met} |"));
    }
}

const COLUMNS: [(&str, Metric); 15] = [
    ("hand-offs/s", |results| results.per_second),
    ("held", |results| results.held),
    ("task max/min", |results| results.task_spread),
    ("process max/min", |results| results.process_spread),
    ("starved", |results| results.starved),
    ("wait p50 ms", |results| results.wait_median),
    ("wait p99 ms", |results| results.wait_p99),
    ("wait max ms", |results| results.wait_longest),
    ("client CPU us", |results| results.cpu),
    ("commands", |results| results.commands),
    ("commands/waiting s", |results| results.waiting_commands),
    ("round trip ms", |results| results.round_trip),
    ("gap p50 ms", |results| results.gap),
    ("gap from reply ms", |results| results.gap_from_reply),
    ("left", |results| results.leftover),
];
