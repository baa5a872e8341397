//! Writes the HTML page. Its script draws the chart from embedded data.

use askama::Template;

use super::chart_data::ChartData;
use super::narrative::{Line, events_around};
use super::text::text;
use crate::checker::{ControlResult, Verdict, Violation, counted, times};
use crate::history::{Effect, Event, EventKind, History};

/// The values that the template shows. It escapes all of them except the scripts and their data.
#[derive(Template)]
#[template(path = "timeline.html")]
struct Page<'a> {
    history: &'a History,
    verdict: &'a Verdict,
    is_good: bool,
    headline: String,
    settings: String,
    /// When and where the run took place; empty if not recorded.
    description: &'a str,
    controls: Vec<&'a ControlResult>,
    data: Option<ChartData>,
}

pub(super) fn page(history: &History, verdict: &Verdict, control_verdicts: &[&Verdict]) -> String {
    let verdicts = std::iter::once(&verdict).chain(control_verdicts);
    let page = Page {
        history,
        verdict,
        is_good: verdict.passed() && verdict.tested(),
        headline: headline(verdict),
        settings: settings_line(history, verdict),
        description: history.settings().map_or("", |settings| &settings.description),
        controls: verdicts.flat_map(|verdict| &verdict.controls).collect(),
        data: ChartData::of(history, verdict),
    };
    page.to_string()
}

fn headline(verdict: &Verdict) -> String {
    match verdict.violations.len() {
        0 if verdict.tested() => "Every invariant held".to_owned(),
        0 => "Every invariant held, but no fault tested one".to_owned(),
        1 => "1 invariant violated".to_owned(),
        count => format!("{count} invariants violated"),
    }
}

fn settings_line(history: &History, verdict: &Verdict) -> String {
    let Some(settings) = history.settings() else { return "no settings were recorded".to_owned() };
    let is_killed = |event: &&Event| match &event.kind {
        EventKind::Fault(fault) => !fault.processes.is_empty() && fault.effects.contains(&Effect::Down),
        _ => false,
    };
    let killed = history.events().iter().filter(is_killed).count();
    let clients = verdict.totals.processes.saturating_sub(killed);
    let clients =
        if clients == 1 { "1 client process".to_owned() } else { format!("{clients} client processes") };
    let replaced = if killed > 0 { format!(" ({killed} more for killed ones)") } else { String::new() };
    format!(
        "{} ({}), quorum {}, {clients}{replaced}, {:.1} s, {} locks, max ttl {} ms, drift {} %, seed {}",
        counted(settings.nodes, "node"),
        settings.server,
        settings.quorum,
        verdict.seconds,
        if settings.fenced { "fenced" } else { "plain" },
        settings.max_ttl_ms,
        f64::from(settings.drift_ppm) / 1e4,
        settings.seed,
    )
}

/// The totals of the run, as a list of names and values.
fn totals(verdict: &Verdict) -> Vec<(&'static str, String)> {
    let faults: usize = verdict.faults.values().sum();
    let expected: usize = verdict.expected.iter().map(|case| case.count).sum();
    let totals = &verdict.totals;
    let mut list = vec![
        ("locks acquired", verdict.acquisitions.to_string()),
        ("faults", faults.to_string()),
        ("violations", verdict.violations.len().to_string()),
    ];
    if expected > 0 {
        list.push(("excused violations", expected.to_string()));
    }
    list.push(("slowest recovery", verdict.slowest_recovery_ms.map_or("none needed".to_owned(), span)));
    if let Some([median, p99, max]) = totals.wait_ms {
        list.push(("wait: median · p99 · max", format!("{} · {} · {}", span(median), span(p99), span(max))));
    }
    list.push(("locks lost", totals.lost.to_string()));
    let checked = match totals.redundancy_checked {
        0 => "none".to_owned(),
        count => counted(count, "lock"),
    };
    list.push(("checked for redundancy", checked));
    list.push(("writes rejected", totals.rejected_writes.to_string()));
    list.push(("slowest loss signal", totals.slowest_signal_ms.map_or("in time".to_owned(), span)));
    list
}

fn span(millis: f64) -> String {
    match millis {
        long if long >= 10_000.0 => format!("{:.1} s", long / 1e3),
        long if long >= 1_000.0 => format!("{:.2} s", long / 1e3),
        long if long >= 10.0 => format!("{long:.0} ms"),
        short => format!("{short:.1} ms"),
    }
}

/// The time since the start of the run, in microseconds.
fn micros_since_start(history: &History, at: u64) -> u64 {
    let began = history.events().first().map_or(0, |event| event.at);
    at.saturating_sub(began) / 1_000
}

/// The signed time from the violation to the event, in milliseconds.
fn millis_from(violation: &Violation, event: &Line) -> f64 {
    (i128::from(event.at) - i128::from(violation.at)) as f64 / 1e6
}

/// The number of violations shown in full.
const MAX_VIOLATIONS: usize = 50;

const STYLE_SCRIPT: &str = include_str!("style.js");
const SCRIPT: &str = include_str!("page.js");
