//! The HTML report: this module writes the text, and a script in the page draws the plots from embedded data.

use askama::Template;
use serde::Serialize;

use super::percentiles::time_text;
use super::results::{ChartData, PhaseResult, Results};
use super::text_report::{cells, contention, parts, settings_line, table, tasks, throughput};
use super::verdict::ordinal;

/// The values that the template shows. It escapes all of them except the script and its data.
#[derive(Template)]
#[template(path = "bench.html")]
struct Page<'a> {
    results: &'a Results,
    verdict: String,
    settings: String,
    tiles: Vec<(String, String)>,
    slowest_needed: String,
    throughput: String,
    contention: Option<String>,
    parts: Vec<(String, &'a PhaseResult)>,
    text: String,
    data: PageData<'a>,
}

/// One self-contained HTML page: no network, one file to send around.
pub(super) fn page(results: &Results) -> String {
    let page = Page {
        results,
        verdict: sentence(&results.verdict),
        settings: sentence(&settings_line(results)),
        tiles: tiles(results),
        slowest_needed: ordinal(results.quorum, results.nodes.len()),
        throughput: sentence(&throughput(results)),
        contention: contention(results).as_deref().map(sentence),
        parts: parts(results),
        text: table(results, usize::MAX),
        data: PageData { results, chart: &results.chart, load_label: tasks(results) },
    };
    page.to_string()
}

/// What the script of the page reads: the results, and the data of the plots.
#[derive(Serialize)]
struct PageData<'a> {
    #[serde(flatten)]
    results: &'a Results,
    chart: &'a ChartData,
    load_label: String,
}

/// The results at the top of the page: name and value.
fn tiles(results: &Results) -> Vec<(String, String)> {
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
    list
}

/// The text as a sentence: with a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map_or_else(String::new, |first| first.to_uppercase().collect());
    format!("{first}{}.", letters.as_str())
}

const SCRIPT: &str = include_str!("page.js");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_flags_of_notes_are_code() {
        let notes = vec!["use --hold <b>, not --keys".to_owned()];
        let page = page(&Results { notes, command: "</script>".to_owned(), ..Results::default() });
        assert!(
            page.contains("<li>Use <code>--hold</code> &#60;b&#62;, not <code>--keys.</code></li>"),
            "{page}"
        );
        assert!(page.contains("<code>&#60;/script&#62;</code>"), "{page}");
    }
}
