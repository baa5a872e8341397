//! The HTML page: text is written here, and its script draws the plots from the embedded data.

use std::fmt::Write as _;

use quorlock_chaos::timeline::{escaped, filled};
use serde_json::json;

use super::percentiles::time_text;
use super::results::Results;
use super::text_report::{cells, contention, parts, settings_line, table, tasks, throughput};
use super::verdict::ordinal;

/// One self-contained HTML page: no network, one file to send around.
pub(super) fn page(figures: &Results) -> String {
    let verdict = sentence(&figures.verdict);
    filled(
        PAGE,
        &[
            ("{{title}}", escaped(&format!("{verdict} · quorlock bench"))),
            ("{{verdict}}", escaped(&verdict)),
            ("{{terms}}", escaped(&sentence(&settings_line(figures)))),
            ("{{about}}", escaped(&format!("{}.", figures.description))),
            ("{{command}}", escaped(&figures.command)),
            ("{{figures}}", tiles(figures)),
            ("{{notes}}", figures.notes.iter().map(|note| item(note)).collect()),
            ("{{throughput}}", escaped(&sentence(&throughput(figures)))),
            ("{{contention}}", contention(figures).map_or_else(String::new, |words| paragraph(&words))),
            ("{{times}}", times(figures)),
            ("{{nodes}}", nodes(figures)),
            ("{{waits for}}", escaped(&ordinal(figures.quorum, figures.nodes.len()))),
            ("{{text}}", escaped(&table(figures, usize::MAX))),
            ("{{script}}", SCRIPT.to_owned()),
            ("{{data}}", data(figures)),
        ],
    )
}

/// The data of the plots. In a script element only a `<` could end it.
fn data(figures: &Results) -> String {
    let names: Vec<&str> = figures.nodes.iter().map(|node| node.address.as_str()).collect();
    let ranks: Vec<_> = figures.nodes.iter().map(|node| node.rank).collect();
    let all = json!({
        "picture": figures.chart,
        "names": names,
        "ranks": ranks,
        "quorum": figures.quorum,
        "tasks": tasks(figures),
        "round_trip_us": figures.cost.round_trip_us,
        "write_us": figures.cost.write_us,
        "which": ordinal(figures.quorum, figures.nodes.len()),
    });
    all.to_string().replace('<', "\\u003c")
}

fn tiles(figures: &Results) -> String {
    let cost = &figures.cost;
    let us = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), time_text);
    let so_many = |times: Option<f64>| {
        times.map_or_else(String::new, |times| format!("; a lock takes {times:.2} times that"))
    };
    let named = |name: &str| name.to_owned();
    let mut list = vec![
        (named("to acquire a lock"), us(cost.acquire_us)),
        (named("to release it"), us(cost.release_us)),
        (
            format!("the round trip to a quorum{}", so_many(cost.acquire_per_round_trip)),
            us(cost.round_trip_us),
        ),
        (format!("the plain write on a quorum{}", so_many(cost.acquire_per_write)), us(cost.write_us)),
        (
            format!("locks a second, {}", tasks(figures)),
            format!("{:.0}", figures.throughput.locks_per_second),
        ),
    ];
    match (&figures.contention, figures.throughput.client_cpu_us_per_lock) {
        (Some(it), _) => {
            list.push((named("of the time a name was held"), format!("{:.0} %", it.held_share * 100.0)));
        }
        (None, Some(us)) => list.push((named("of the client's processor for each"), format!("{us:.0} µs"))),
        (None, None) => {}
    }
    if let Some(us) = cost.acquire_without_one_us.filter(|_| figures.killed.is_none()) {
        list.push((named("about, if one of the fastest died"), time_text(us)));
    }
    let tile = |(name, value): (String, String)| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>", escaped(&name), escaped(&value))
    };
    list.into_iter().map(tile).collect()
}

fn times(figures: &Results) -> String {
    let mut rows = String::new();
    for (name, part) in parts(figures) {
        let rate = part.locks_per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
        for (what, spread, rate) in [("acquire", part.acquire, rate.as_str()), ("release", part.release, "")]
        {
            let first = if what == "acquire" { escaped(&name) } else { String::new() };
            let _ = write!(rows, "<tr><th>{first}</th><td class=\"word\">{what}</td>");
            for cell in cells(spread) {
                let _ = write!(rows, "<td>{cell}</td>");
            }
            let _ = write!(rows, "<td>{rate}</td></tr>");
        }
    }
    rows
}

fn nodes(figures: &Results) -> String {
    let mut rows = String::new();
    for (place, node) in figures.nodes.iter().enumerate() {
        let class = if node.rank == Some(figures.quorum) { " class=\"last\"" } else { "" };
        let _ = write!(
            rows,
            "<tr{class}><th><i data-node=\"{place}\"></i>{}</th><td class=\"word\">{}</td>",
            escaped(&node.address),
            escaped(if node.server.is_empty() { "-" } else { &node.server }),
        );
        for spread in [node.alone.round_trip, node.load.round_trip, node.alone.write] {
            let [half, _, most, ..] = cells(spread);
            let _ = write!(rows, "<td>{half}</td><td>{most}</td>");
        }
        let _ = write!(rows, "<td>{}</td></tr>", node.missing_replies);
    }
    rows
}

fn item(words: &str) -> String {
    // A flag must not be broken at its dashes.
    let flag = |word: &str| match word.strip_prefix("--") {
        Some(_) => format!("<code>{word}</code>"),
        None => word.to_owned(),
    };
    let words: Vec<String> = escaped(&sentence(words)).split(' ').map(flag).collect();
    format!("<li>{}</li>", words.join(" "))
}

fn paragraph(words: &str) -> String {
    format!("<p>{}</p>", escaped(&sentence(words)))
}

/// With a capital and a full stop. An address stays as it is.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first = letters.next().map_or_else(String::new, |first| first.to_uppercase().collect());
    format!("{first}{}.", letters.as_str())
}

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
