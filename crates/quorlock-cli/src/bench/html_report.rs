//! The HTML report: this module writes the text, and a script in the page draws the plots from embedded data.

use std::fmt::Write as _;

use quorlock_chaos::timeline::{escaped, filled};
use serde::Serialize;

use super::percentiles::time_text;
use super::results::{ChartData, Results};
use super::text_report::{cells, contention, parts, settings_line, table, tasks, throughput};
use super::verdict::ordinal;

/// One self-contained HTML page: no network, one file to send around.
pub(super) fn page(results: &Results) -> String {
    let verdict = sentence(&results.verdict);
    filled(
        PAGE,
        &[
            ("{{title}}", escaped(&format!("{verdict} · quorlock bench"))),
            ("{{verdict}}", escaped(&verdict)),
            ("{{settings}}", escaped(&sentence(&settings_line(results)))),
            ("{{about}}", escaped(&format!("{}.", results.description))),
            ("{{command}}", escaped(&results.command)),
            ("{{results}}", tiles(results)),
            ("{{notes}}", results.notes.iter().map(|note| item(note)).collect()),
            ("{{throughput}}", escaped(&sentence(&throughput(results)))),
            ("{{contention}}", contention(results).map_or_else(String::new, |text| paragraph(&text))),
            ("{{times}}", times(results)),
            ("{{nodes}}", nodes(results)),
            ("{{slowest needed}}", escaped(&ordinal(results.quorum, results.nodes.len()))),
            ("{{text}}", escaped(&table(results, usize::MAX))),
            ("{{script}}", SCRIPT.to_owned()),
            ("{{data}}", data(results)),
        ],
    )
}

/// What the script of the page reads: the results, and the data of the plots.
#[derive(Serialize)]
struct PageData<'a> {
    #[serde(flatten)]
    results: &'a Results,
    chart: &'a ChartData,
    load_label: String,
}

/// The page's data as JSON. `<` is escaped, because it could end the script element.
fn data(results: &Results) -> String {
    let data = PageData { results, chart: &results.chart, load_label: tasks(results) };
    serde_json::to_string(&data).unwrap_or_default().replace('<', "\\u003c")
}

fn tiles(results: &Results) -> String {
    let cost = &results.cost;
    let us = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), time_text);
    let times_that = |times: Option<f64>| {
        times.map_or_else(String::new, |times| format!("; a lock takes {times:.2} times that"))
    };
    let named = |name: &str| name.to_owned();
    let mut list = vec![
        (named("to acquire a lock"), us(cost.acquire_us)),
        (named("to release it"), us(cost.release_us)),
        (
            format!("the round trip to a quorum{}", times_that(cost.acquire_per_round_trip)),
            us(cost.round_trip_us),
        ),
        (format!("the plain write on a quorum{}", times_that(cost.acquire_per_write)), us(cost.write_us)),
        (
            format!("locks a second, {}", tasks(results)),
            format!("{:.0}", results.throughput.locks_per_second),
        ),
    ];
    match (&results.contention, results.throughput.client_cpu_us_per_lock) {
        (Some(it), _) => {
            list.push((named("of the time a name was held"), format!("{:.0} %", it.held_share * 100.0)));
        }
        (None, Some(us)) => list.push((named("of the client's processor for each"), format!("{us:.0} µs"))),
        (None, None) => {}
    }
    if let Some(us) = cost.acquire_without_one_us.filter(|_| results.killed.is_none()) {
        list.push((named("about, if one of the fastest died"), time_text(us)));
    }
    let tile = |(name, value): (String, String)| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>", escaped(&name), escaped(&value))
    };
    list.into_iter().map(tile).collect()
}

fn times(results: &Results) -> String {
    let mut rows = String::new();
    for (name, part) in parts(results) {
        let rate = part.locks_per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
        for (what, percentiles, rate) in
            [("acquire", part.acquire, rate.as_str()), ("release", part.release, "")]
        {
            let first = if what == "acquire" { escaped(&name) } else { String::new() };
            let _ = write!(rows, "<tr><th>{first}</th><td class=\"word\">{what}</td>");
            for cell in cells(percentiles) {
                let _ = write!(rows, "<td>{cell}</td>");
            }
            let _ = write!(rows, "<td>{rate}</td></tr>");
        }
    }
    rows
}

fn nodes(results: &Results) -> String {
    let mut rows = String::new();
    for (index, node) in results.nodes.iter().enumerate() {
        let class = if node.rank == Some(results.quorum) { " class=\"last\"" } else { "" };
        let _ = write!(
            rows,
            "<tr{class}><th><i data-node=\"{index}\"></i>{}</th><td class=\"word\">{}</td>",
            escaped(&node.address),
            escaped(&node.server.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)),
        );
        for percentiles in [node.alone.round_trip, node.load.round_trip, node.alone.write] {
            let [half, _, most, ..] = cells(percentiles);
            let _ = write!(rows, "<td>{half}</td><td>{most}</td>");
        }
        let _ = write!(rows, "<td>{}</td></tr>", node.missing_replies);
    }
    rows
}

fn item(text: &str) -> String {
    // As code, so that browsers do not break a flag at its dashes.
    let flag = |part: &str| match part.strip_prefix("--") {
        Some(_) => format!("<code>{part}</code>"),
        None => part.to_owned(),
    };
    let text: Vec<String> = escaped(&sentence(text)).split(' ').map(flag).collect();
    format!("<li>{}</li>", text.join(" "))
}

fn paragraph(text: &str) -> String {
    format!("<p>{}</p>", escaped(&sentence(text)))
}

/// The text as a sentence: with a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map_or_else(String::new, |first| first.to_uppercase().collect());
    format!("{first}{}.", letters.as_str())
}

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
