//! Draws the chart as text. No line is wider than the terminal except the replay command, which is to be copied.

use std::fmt::Write as _;

use super::chart_data::{ChartData, Lane, Segment, State};
use super::narrative::around;
use crate::checker::{Verdict, times};
use crate::history::History;

pub(super) fn text(history: &History, verdict: &Verdict, columns: usize) -> String {
    let mut text = String::new();
    wrapped(&mut text, &verdict.to_string(), columns, "  ");
    let Some(picture) = ChartData::of(history, verdict) else { return text };
    let _ = writeln!(text, "replay: {}", verdict.replay);
    if let Some(about) =
        history.settings().map(|settings| &settings.description).filter(|about| !about.is_empty())
    {
        wrapped(&mut text, about, columns, "  ");
    }
    text.push('\n');
    let whole = columns;

    let lanes = || picture.nodes.iter().chain(&picture.keys).chain(&picture.clients);
    let names = lanes().map(|lane| lane.name.chars().count()).max().unwrap_or(0).clamp(8, 20);
    let columns = columns.saturating_sub(names + 2).max(20);
    let mut row = |name: &str, cells: &str| {
        let name: String = name.chars().take(names).collect();
        text.push_str(format!("{name:>names$}  {cells}").trim_end());
        text.push('\n');
    };

    row("seconds", &axis(picture.to, columns));
    let broken = picture.broken.iter().map(|at| (*at, at + 1));
    if !picture.broken.is_empty() {
        row("broken", &marks(broken, picture.to, columns, 'V'));
    }
    row("no quorum", &marks(picture.outages.iter().copied(), picture.to, columns, '#'));
    for lane in &picture.nodes {
        row(&lane.name, &cells(lane, picture.to, columns, '-', |_, state| letter(state)));
    }
    for lane in &picture.keys {
        row(
            &lane.name,
            &cells(lane, picture.to, columns, ' ', |bars, state| match state {
                State::Holding => holder(bars),
                state => letter(state),
            }),
        );
    }
    for lane in &picture.clients {
        row(&lane.name, &cells(lane, picture.to, columns, ' ', |_, state| letter(state)));
    }
    text.push('\n');
    for (name, signs) in LEGEND {
        legend(&mut text, name, signs, whole);
    }
    report(&mut text, history, verdict, whole);
    text
}

/// Appends text, wrapped to lines of at most `columns` characters where words are not longer than that; all lines but
/// the first start with `indent`.
pub fn wrapped(text: &mut String, words: &str, columns: usize, indent: &str) {
    let mut line = String::new();
    // Leading spaces of the first line stay.
    let begins = words.len() - words.trim_start().len();
    line.push_str(&words[..begins]);
    let mut is_fresh = true;
    for word in words[begins..].split(' ') {
        if !is_fresh && line.chars().count() + 1 + word.chars().count() > columns {
            let _ = writeln!(text, "{}", line.trim_end());
            indent.clone_into(&mut line);
            is_fresh = true;
        }
        if !is_fresh {
            line.push(' ');
        }
        line.push_str(word);
        is_fresh = false;
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

/// A legend of these lanes' signs, with as many per line as fit.
fn legend(text: &mut String, name: &str, signs: &[&str], columns: usize) {
    const INDENT: usize = 9;
    let mut line = format!("{name:INDENT$}");
    for sign in signs {
        let has_some = line.len() > INDENT;
        if has_some && line.chars().count() + 3 + sign.chars().count() > columns {
            let _ = writeln!(text, "{line}");
            line = format!("{:INDENT$}{sign}", "");
        } else {
            let _ = write!(line, "{}{sign}", if has_some { "   " } else { "" });
        }
    }
    wrapped(text, &line, columns, &" ".repeat(INDENT));
}

/// An axis of round seconds, with as many labels as fit.
fn axis(to: u64, columns: usize) -> String {
    let column = |micros: u64| place(micros, micros + 1, to, columns).start;
    let steps = (0..).flat_map(|zeros| [1, 2, 5].map(|digit| digit * 10_u64.pow(zeros)));
    let mut steps = steps.take_while(|step| *step < to);
    let Some(step) = steps.find(|step| column(*step) >= TICK) else { return "|0".to_owned() };
    let digits = if step < 1_000 {
        6
    } else if step < 1_000_000 {
        3
    } else {
        0
    };
    let mut axis = String::new();
    for tick in (0..=to).step_by(step as usize) {
        let at = column(tick);
        let label = format!("|{:.digits$}", tick as f64 / 1e6);
        if at + label.len() <= columns {
            let _ = write!(axis, "{}{label}", " ".repeat(at.saturating_sub(axis.len())));
        }
    }
    axis
}

/// The columns that a span covers: at least one.
fn place(from: u64, to: u64, whole: u64, columns: usize) -> std::ops::Range<usize> {
    let column = |at: u64| (u128::from(at) * columns as u128 / u128::from(whole)) as usize;
    let first = column(from).min(columns - 1);
    first..column(to.saturating_sub(1)).clamp(first, columns - 1) + 1
}

fn marks(spans: impl Iterator<Item = (u64, u64)>, whole: u64, columns: usize, mark: char) -> String {
    let mut cells = vec![' '; columns];
    for (from, to) in spans {
        cells[place(from, to, whole, columns)].fill(mark);
    }
    cells.into_iter().collect()
}

/// The lane as characters: each column shows the most important state in it.
fn cells(
    lane: &Lane,
    whole: u64,
    columns: usize,
    empty: char,
    letter: impl Fn(&[&Segment], State) -> char,
) -> String {
    let mut shown: Vec<Vec<&Segment>> = vec![Vec::new(); columns];
    for bar in &lane.spans {
        for cell in &mut shown[place(bar.from, bar.to, whole, columns)] {
            cell.push(bar);
        }
    }
    let cell = |bars: &Vec<&Segment>| {
        let state = bars.iter().map(|bar| bar.state).max();
        state.map_or(empty, |state| letter(bars, state))
    };
    shown.iter().map(cell).collect()
}

/// The one process that held the key in this column, or a sign for several in sequence.
fn holder(bars: &[&Segment]) -> char {
    let mut processes: Vec<u32> = bars.iter().map(|bar| bar.process).collect();
    processes.dedup();
    match processes[..] {
        [process] => DIGITS.chars().nth(process as usize).unwrap_or('@'),
        _ => '*',
    }
}

fn letter(state: State) -> char {
    match state {
        State::Waiting => '.',
        State::Holding => 'o',
        State::Touched => '+',
        State::Probation => '?',
        State::Slow => '~',
        State::Clock => 'c',
        State::RejectsWrites => 'm',
        State::Unreachable => '/',
        State::Paused => '=',
        State::Down => 'x',
        State::DataLoss => '!',
        State::Lost => 'L',
        State::ExpectedOverlap => '&',
        State::Overlap => '#',
    }
}

fn report(text: &mut String, history: &History, verdict: &Verdict, columns: usize) {
    let began = history.events().first().map_or(0, |event| event.at);
    let seconds = |at: u64| at.saturating_sub(began) as f64 / 1e9;
    for case in &verdict.expected {
        let words = format!("\nexpected: {} ({}): {}", case.invariant, times(case.count), case.excuse);
        wrapped(text, &words, columns, "  ");
    }
    for control in verdict.idle_controls() {
        let words =
            format!("\nno test: {} should have violated {}, and did not", control.name, control.invariant);
        wrapped(text, &words, columns, "  ");
    }
    for violation in verdict.violations.iter().take(SHOWN) {
        let at = seconds(violation.at);
        let words = format!("\nBROKEN at {at:.3} s: {}: {}", violation.invariant, violation.message);
        wrapped(text, &words, columns, "  ");
        for line in around(history, violation) {
            let sign = if line.is_evidence { '>' } else { ' ' };
            let words = format!("  {sign} {:>10.6} s  {:<12} {}", seconds(line.at), line.who, line.what);
            wrapped(text, &words, columns, &" ".repeat(31.min(columns / 4)));
        }
    }
    if let Some(more) = verdict.violations.len().checked_sub(SHOWN + 1) {
        let _ = writeln!(text, "\n... and {} more", more + 1);
    }
}

/// How many columns a tick of the axis needs at least.
const TICK: usize = 9;

/// How many violations are shown in full.
const SHOWN: usize = 20;

/// Processes as single letters: zero to nine, then a is ten and A is thirty-six; past Z an @.
const DIGITS: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

const LEGEND: [(&str, &[&str]); 3] = [
    (
        "nodes",
        &[
            "- up",
            "x down",
            "= paused",
            "/ unreachable",
            "~ slow",
            "m rejects writes",
            "c clock off",
            "! data loss",
            "? on probation",
            "+ hit, but votes",
        ],
    ),
    (
        "keys",
        &[
            "1 held by process 1",
            "(a: 10, A: 36, @: past 61)",
            "* by several in sequence",
            "# by two at once",
            "& the same, excused",
        ],
    ),
    ("clients", &[". waits", "o holds", "L lost", "= stopped", "x killed"]),
];
