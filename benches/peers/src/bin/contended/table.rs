//! Figures, round by round, and the tables and goals that they come to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use peers::stats::{median, short};

use crate::case::{Case, Distance};
use crate::run::Figures;

/// Every figure of every way in every case and round.
#[derive(Default)]
pub(crate) struct Table {
    rows: BTreeMap<Case, BTreeMap<String, Vec<Figures>>>,
}

type Figure = fn(&Figures) -> f64;

impl Table {
    pub(crate) fn put(&mut self, case: Case, way: &str, figures: Figures) {
        self.rows.entry(case).or_default().entry(way.to_owned()).or_default().push(figures);
    }

    /// Medians over the rounds.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = String::new();
        let mut last = None;
        for (case, ways) in &self.rows {
            let head = (case.round_trip, case.hold);
            if last != Some(head) {
                last = Some(head);
                let (round_trip, hold) = (case.round_trip.name(), short(case.hold_millis()));
                let _ = write!(
                    text,
                    "\n**Hold {hold} ms, round trip {round_trip} ms**\n\n| processes x tasks | way |"
                );
                for (name, _) in COLUMNS {
                    let _ = write!(text, " {name} |");
                }
                let _ = writeln!(text, "\n|---|---|{}", "--:|".repeat(COLUMNS.len()));
            }
            for (way, rounds) in ways {
                let _ = write!(text, "| {} x {} | {way} |", case.processes, case.tasks);
                for (_, figure) in COLUMNS {
                    let _ = write!(text, " {} |", short(median(rounds.iter().map(figure).collect())));
                }
                text.push('\n');
            }
        }
        text
    }

    /// What is promised, and whether this run bears it out.
    pub(crate) fn goals(&self) -> String {
        let mut goals = Goals(vec!["| goal | way | measured | met |\n|---|---|--:|---|".to_owned()]);
        let ours: Vec<String> = (self.rows.values())
            .flat_map(BTreeMap::keys)
            .filter(|way| !way.starts_with("rslock"))
            .cloned()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        for way in &ours {
            for (case, ways) in &self.rows {
                self.goals_of(&mut goals, way, *case, ways);
            }
        }
        goals.0.join("\n")
    }

    fn goals_of(&self, goals: &mut Goals, way: &str, case: Case, ways: &BTreeMap<String, Vec<Figures>>) {
        let Some(rounds) = ways.get(way) else { return };
        let own = |figure: Figure| median(rounds.iter().map(figure).collect());
        let (hold, near) = (case.hold.as_micros(), case.round_trip == Distance::Near);
        // Round by round, beside this way in one process.
        let beside_one = |figure: Figure| {
            let one = Case { processes: 1, tasks: case.processes * case.tasks, ..case };
            let one = self.rows.get(&one).and_then(|ways| ways.get(way))?;
            Some(median(rounds.iter().zip(one).map(|(ours, one)| figure(ours) / figure(one)).collect()))
        };
        // Round by round, beside the peer that did best in it.
        let beside_best = |figure: Figure| {
            let peers: Vec<_> = ways.iter().filter(|(way, _)| way.starts_with("rslock")).collect();
            let ratios = rounds.iter().enumerate().filter_map(|(round, ours)| {
                let theirs = peers.iter().filter_map(|(_, rounds)| rounds.get(round)).map(figure);
                theirs.reduce(f64::min).map(|best| figure(ours) / best)
            });
            let ratios: Vec<f64> = ratios.collect();
            (!ratios.is_empty()).then(|| median(ratios))
        };
        match (near, hold, case.processes) {
            (true, 1000, 1) => {
                goals.add(
                    "one process: held for 75 % of the time",
                    way,
                    Some(own(|it| it.held)),
                    AtLeast(0.75),
                );
                goals.add(
                    "one process: most / fewest of a task",
                    way,
                    Some(own(|it| it.task_spread)),
                    AtMost(1.1),
                );
                let waits = own(|it| it.wait_p99 * it.per_second / 1e3) / (case.tasks as f64);
                goals.add("one process: wait p99 / (tasks x period)", way, Some(waits), AtMost(1.3));
                goals.add(
                    "one process: commands per hand-over",
                    way,
                    Some(own(|it| it.commands)),
                    AtMost(12.0),
                );
            }
            (true, 1000, 4) => {
                goals.add(
                    "four: hand-overs beside one process",
                    way,
                    beside_one(|it| it.per_second),
                    AtLeast(0.9),
                );
                goals.add(
                    "four: most / fewest of a process",
                    way,
                    Some(own(|it| it.process_spread)),
                    AtMost(1.5),
                );
                goals.add(
                    "four: wait p99 beside the best peer",
                    way,
                    beside_best(|it| it.wait_p99),
                    AtMost(0.5),
                );
                goals.add(
                    "four: client CPU beside the best peer",
                    way,
                    beside_best(|it| it.cpu),
                    AtMost(0.33),
                );
            }
            (true, 1000, 16) => {
                goals.add(
                    "sixteen: hand-overs beside one process",
                    way,
                    beside_one(|it| it.per_second),
                    AtLeast(0.7),
                );
                goals.add("sixteen: starved tasks", way, Some(own(|it| it.starved)), AtMost(0.0));
            }
            (false, 100_000, 4 | 16) => {
                let gap = own(|it| it.gap / it.round_trip);
                let name = format!("{} far: gap from giving up, in round trips", case.processes);
                goals.add(&name, way, Some(gap), AtMost(1.5));
                let gap = own(|it| it.gap_from_answer / it.round_trip);
                let name = format!("{} far: gap from the answer, in round trips", case.processes);
                goals.add(&name, way, Some(gap), AtMost(1.5));
                let name = format!("{} far: commands per waiting second and process", case.processes);
                goals.add(&name, way, Some(own(|it| it.waiting_commands)), AtMost(4.0));
            }
            _ => {}
        }
        let left = rounds.iter().map(|it| it.leftover).fold(0.0, f64::max);
        if left > 0.0 {
            goals.add("keys left behind (worst run)", way, Some(left), AtMost(0.0));
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
    fn add(&mut self, goal: &str, way: &str, measured: Option<f64>, bound: Bound) {
        let Some(measured) = measured else { return };
        let (words, is_met) = match bound {
            AtMost(limit) => (format!("at most {limit}"), measured <= limit),
            AtLeast(limit) => (format!("at least {limit}"), measured >= limit),
        };
        let met = if is_met { "yes" } else { "NO" };
        self.0.push(format!("| {goal}: {words} | {way} | {measured:.2} | {met} |"));
    }
}

const COLUMNS: [(&str, Figure); 15] = [
    ("hand-overs/s", |it| it.per_second),
    ("held", |it| it.held),
    ("task max/min", |it| it.task_spread),
    ("process max/min", |it| it.process_spread),
    ("starved", |it| it.starved),
    ("wait p50 ms", |it| it.wait_median),
    ("wait p99 ms", |it| it.wait_p99),
    ("wait max ms", |it| it.wait_longest),
    ("client CPU us", |it| it.cpu),
    ("commands", |it| it.commands),
    ("commands/waiting s", |it| it.waiting_commands),
    ("round trip ms", |it| it.round_trip),
    ("gap p50 ms", |it| it.gap),
    ("gap from answer ms", |it| it.gap_from_answer),
    ("left", |it| it.leftover),
];
