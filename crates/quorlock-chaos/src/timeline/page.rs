//! Writes the HTML page. Its script draws the chart from embedded data.

use std::fmt::Write as _;

use super::chart_data::ChartData;
use super::narrative::events_around;
use super::text::text;
use crate::checker::{Verdict, counted, times};
use crate::history::{Effect, Event, EventKind, History};

pub(super) fn page(history: &History, verdict: &Verdict, control_verdicts: &[&Verdict]) -> String {
    let data = ChartData::of(history, verdict).map(|chart| serde_json::to_string(&chart));
    let data = data.and_then(Result::ok).unwrap_or_else(|| "null".to_owned());
    let fields = [
        ("{{title}}", escaped(&title(verdict))),
        ("{{status}}", if verdict.passed() && verdict.tested() { "good" } else { "bad" }.to_owned()),
        ("{{verdict}}", escaped(&headline(verdict))),
        ("{{settings}}", escaped(&settings_line(history, verdict))),
        ("{{totals}}", totals(verdict)),
        ("{{faults}}", faults(verdict)),
        ("{{controls}}", controls(history, verdict, control_verdicts)),
        ("{{description}}", description(history)),
        ("{{replay}}", escaped(&verdict.replay)),
        ("{{violations}}", violations(history, verdict)),
        ("{{text}}", escaped(&text(history, verdict, 110))),
        ("{{script}}", format!("{STYLE_SCRIPT}\n{SCRIPT}")),
        // Only `</script` could end the script element, so `<` is escaped.
        ("{{data}}", data.replace('<', "\\u003c")),
    ];
    filled(PAGE, &fields)
}

/// Fills a template: replaces each field (`{{name}}`) with its text. Inserted text is not searched again.
#[must_use]
pub fn filled(template: &str, fields: &[(&str, String)]) -> String {
    let mut page = String::new();
    let mut rest = template;
    while let Some(from) = rest.find("{{") {
        let (before, placeholder) = rest.split_at(from);
        page.push_str(before);
        let field = fields.iter().find(|(name, _)| placeholder.starts_with(name));
        let (name, text) = field.map_or(("{{", "{{"), |(name, text)| (*name, text.as_str()));
        page.push_str(text);
        rest = &placeholder[name.len()..];
    }
    page + rest
}

fn headline(verdict: &Verdict) -> String {
    match verdict.violations.len() {
        0 if verdict.tested() => "Every invariant held".to_owned(),
        0 => "Every invariant held, but no fault tested one".to_owned(),
        1 => "1 invariant violated".to_owned(),
        count => format!("{count} invariants violated"),
    }
}

fn title(verdict: &Verdict) -> String {
    format!("{} · quorlock chaos, seed {}", headline(verdict), verdict.seed)
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
fn totals(verdict: &Verdict) -> String {
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
    let entry =
        |(name, value): (&str, String)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escaped(&value));
    list.into_iter().map(entry).collect()
}

fn span(millis: f64) -> String {
    match millis {
        long if long >= 10_000.0 => format!("{:.1} s", long / 1e3),
        long if long >= 1_000.0 => format!("{:.2} s", long / 1e3),
        long if long >= 10.0 => format!("{long:.0} ms"),
        short => format!("{short:.1} ms"),
    }
}

fn faults(verdict: &Verdict) -> String {
    let fault = |(kind, count): (&String, &usize)| format!("<li>{} <b>{count}</b></li>", escaped(kind));
    verdict.faults.iter().map(fault).collect()
}

/// When and where the run took place, if recorded.
fn description(history: &History) -> String {
    let description = history.settings().map_or("", |settings| &settings.description);
    if description.is_empty() { String::new() } else { format!("<p>{}</p>", escaped(description)) }
}

/// The excused violations, and the results of the negative controls.
fn controls(history: &History, verdict: &Verdict, control_verdicts: &[&Verdict]) -> String {
    let mut text = String::new();
    for case in &verdict.expected {
        let _ = write!(
            text,
            "<li class=\"expected\">{} <b>{}</b>, {}: {}</li>",
            link_to_time(history, case.at),
            case.invariant,
            times(case.count),
            escaped(&case.excuse)
        );
    }
    for control in std::iter::once(&verdict).chain(control_verdicts).flat_map(|verdict| &verdict.controls) {
        let (name, invariant) = (escaped(&control.name), control.invariant);
        let _ = match control.count {
            0 => write!(
                text,
                "<li class=\"idle\"><b>{name}</b> detected nothing: it should have violated “{invariant}”, and did not</li>",
            ),
            count => write!(
                text,
                "<li class=\"control\">negative control: {name} violated “{invariant}” {}, as it should</li>",
                times(count)
            ),
        };
    }
    if text.is_empty() {
        text
    } else {
        format!("<h2>Excused violations and negative controls</h2><ul class=\"controls\">{text}</ul>")
    }
}

fn violations(history: &History, verdict: &Verdict) -> String {
    if verdict.violations.is_empty() {
        return String::new();
    }
    let mut text = "<h2>Violations</h2><ol class=\"violations\">".to_owned();
    for (index, violation) in verdict.violations.iter().take(MAX_VIOLATIONS).enumerate() {
        let open = if index == 0 { " open" } else { "" };
        let _ = write!(
            text,
            "<li id=\"violation-{index}\">{} <b>{}</b> {}\
             <details{open}><summary>events around it</summary><table>",
            link_to_time(history, violation.at),
            violation.invariant,
            escaped(&violation.message),
        );
        for line in events_around(history, violation) {
            let class = if line.is_evidence { " class=\"evidence\"" } else { "" };
            let relative = (i128::from(line.at) - i128::from(violation.at)) as f64 / 1e6;
            let _ = write!(
                text,
                "<tr{class}><td>{relative:+.3} ms</td><td>{}</td><td>{}</td></tr>",
                escaped(&line.actor),
                escaped(&line.description)
            );
        }
        text.push_str("</table></details></li>");
    }
    text.push_str("</ol>");
    if verdict.violations.len() > MAX_VIOLATIONS {
        let _ = write!(text, "<p>… and {} more.</p>", verdict.violations.len() - MAX_VIOLATIONS);
    }
    text
}

/// A button that shows this moment in the chart.
fn link_to_time(history: &History, at: u64) -> String {
    let began = history.events().first().map_or(0, |event| event.at);
    let micros = at.saturating_sub(began) / 1_000;
    format!("<button type=\"button\" data-micros=\"{micros}\">{:.3} s</button>", micros as f64 / 1e6)
}

/// Escapes text for a page, so that none of it is read as markup.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            char => safe.push(char),
        }
    }
    safe
}

/// The number of violations shown in full.
const MAX_VIOLATIONS: usize = 50;

const PAGE: &str = include_str!("page.html");
const STYLE_SCRIPT: &str = include_str!("style.js");
const SCRIPT: &str = include_str!("page.js");
