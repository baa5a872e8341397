//! Draws the chart as text. No line is wider than the terminal, except the replay command, which must stay
//! copyable.

use std::fmt::Write as _;

use super::chart_data::{ChartData, Lane, Segment, State};
use super::narrative::events_around;
use crate::checker::{Verdict, times};
use crate::history::History;

pub(super) fn text(history: &History, verdict: &Verdict, columns: usize) -> String {
    let mut text = String::new();
    wrapped(&mut text, &verdict.to_string(), columns, "  ");
    let Some(chart) = ChartData::of(history, verdict) else { return text };
    let _ = writeln!(text, "replay: {}", verdict.replay);
    if let Some(description) =
        history.settings().map(|settings| &settings.description).filter(|description| !description.is_empty())
    {
        wrapped(&mut text, description, columns, "  ");
    }
    text.push('\n');
    let total_columns = columns;
    let lanes = || chart.nodes.iter().chain(&chart.keys).chain(&chart.clients);
    let name_columns = lanes().map(|lane| lane.name.chars().count()).max().unwrap_or(0).clamp(8, 20);
    let columns = columns.saturating_sub(name_columns + 2).max(20);
    let mut row = |name: &str, cells: &str| {
        let name: String = name.chars().take(name_columns).collect();
        text.push_str(format!("{name:>name_columns$}  {cells}").trim_end());
        text.push('\n');
    };

    row("seconds", &axis(chart.to, columns));
    let violations = chart.violations.iter().map(|at| (*at, at + 1));
    if !chart.violations.is_empty() {
        row("violations", &marks(violations, chart.to, columns, 'V'));
    }
    row("no quorum", &marks(chart.outages.iter().copied(), chart.to, columns, '#'));
    for lane in &chart.nodes {
        row(&lane.name, &cells(lane, chart.to, columns, '-', |_, state| state_char(state)));
    }
    for lane in &chart.keys {
        row(
            &lane.name,
            &cells(lane, chart.to, columns, ' ', |segments, state| match state {
                State::Holding => holder(segments),
                state => state_char(state),
            }),
        );
    }
    for lane in &chart.clients {
        row(&lane.name, &cells(lane, chart.to, columns, ' ', |_, state| state_char(state)));
    }
    text.push('\n');
    for (name, signs) in LEGEND {
        legend(&mut text, name, signs, total_columns);
    }
    report(&mut text, history, verdict, total_columns);
    text
}

/// Appends a paragraph, wrapped at spaces to lines of at most `columns` characters. All lines but the first
/// start with `indent`.
pub fn wrapped(text: &mut String, paragraph: &str, columns: usize, indent: &str) {
    let mut line = String::new();
    // Keeps leading spaces of the first line.
    let indent_len = paragraph.len() - paragraph.trim_start().len();
    line.push_str(&paragraph[..indent_len]);
    let mut is_line_start = true;
    for word in paragraph[indent_len..].split(' ') {
        if !is_line_start && line.chars().count() + 1 + word.chars().count() > columns {
            let _ = writeln!(text, "{}", line.trim_end());
            indent.clone_into(&mut line);
            is_line_start = true;
        }
        if !is_line_start {
            line.push(' ');
        }
        line.push_str(word);
        is_line_start = false;
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

/// Appends the legend of a section's signs, with as many per line as fit.
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

/// A time axis with ticks at round seconds, as many as fit.
fn axis(to: u64, columns: usize) -> String {
    let column = |micros: u64| columns_of(micros, micros + 1, to, columns).start;
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

/// The columns of a span, at least one.
fn columns_of(from: u64, to: u64, total: u64, columns: usize) -> std::ops::Range<usize> {
    let column = |at: u64| (u128::from(at) * columns as u128 / u128::from(total)) as usize;
    let first = column(from).min(columns - 1);
    first..column(to.saturating_sub(1)).clamp(first, columns - 1) + 1
}

fn marks(spans: impl Iterator<Item = (u64, u64)>, total: u64, columns: usize, mark: char) -> String {
    let mut cells = vec![' '; columns];
    for (from, to) in spans {
        cells[columns_of(from, to, total, columns)].fill(mark);
    }
    cells.into_iter().collect()
}

/// A lane as characters: each column shows the most important state in it.
fn cells(
    lane: &Lane,
    total: u64,
    columns: usize,
    empty: char,
    char_of: impl Fn(&[&Segment], State) -> char,
) -> String {
    let mut shown: Vec<Vec<&Segment>> = vec![Vec::new(); columns];
    for segment in &lane.spans {
        for cell in &mut shown[columns_of(segment.from, segment.to, total, columns)] {
            cell.push(segment);
        }
    }
    let cell = |segments: &Vec<&Segment>| {
        let state = segments.iter().map(|segment| segment.state).max();
        state.map_or(empty, |state| char_of(segments, state))
    };
    shown.iter().map(cell).collect()
}

/// The process that held the key in this column, or `*` for several in sequence.
fn holder(segments: &[&Segment]) -> char {
    let mut processes: Vec<u32> = segments.iter().map(|segment| segment.process).collect();
    processes.dedup();
    match processes[..] {
        [process] => DIGITS.chars().nth(process as usize).unwrap_or('@'),
        _ => '*',
    }
}

fn state_char(state: State) -> char {
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
        State::LeftRoster => '<',
        State::AddressMoved => '>',
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
        let paragraph = format!("\nexpected: {} ({}): {}", case.invariant, times(case.count), case.excuse);
        wrapped(text, &paragraph, columns, "  ");
    }
    for control in verdict.idle_controls() {
        let paragraph =
            format!("\nnot tested: {} should have violated {}, and did not", control.name, control.invariant);
        wrapped(text, &paragraph, columns, "  ");
    }
    for violation in verdict.violations.iter().take(MAX_VIOLATIONS) {
        let at = seconds(violation.at);
        let paragraph = format!("\nVIOLATION at {at:.3} s: {}: {}", violation.invariant, violation.message);
        wrapped(text, &paragraph, columns, "  ");
        for line in events_around(history, violation) {
            let sign = if line.is_evidence { '>' } else { ' ' };
            let paragraph =
                format!("  {sign} {:>10.6} s  {:<12} {}", seconds(line.at), line.actor, line.description);
            wrapped(text, &paragraph, columns, &" ".repeat(31.min(columns / 4)));
        }
    }
    if let Some(more) = verdict.violations.len().checked_sub(MAX_VIOLATIONS + 1) {
        let _ = writeln!(text, "\n... and {} more", more + 1);
    }
}

/// The minimum number of columns between ticks of the axis.
const TICK: usize = 9;

/// The number of violations shown in full.
const MAX_VIOLATIONS: usize = 20;

/// Processes as single characters: 0 to 9, then a for 10 and A for 36.
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
            "< not in the roster",
            "> address moved",
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
