//! The plot of a run as SVG: a row for each client, and three metrics side by side.
//!
//! The file has styles for light and dark pages; the viewer chooses.

use std::fmt::Write as _;

use crate::metrics;
use crate::own_clients::{BASELINE, FENCED, QUORLOCK};
use crate::report::in_order;
use crate::results_store::ResultsStore;
use crate::stats::{median, percentile, short};
use crate::worker::Threads;

/// A metric on its own logarithmic scale.
struct Panel {
    title: &'static str,
    unit: &'static str,
    metric: String,
    /// The divisor of the stored values.
    scale: f64,
}

/// The lowest, median and highest value of one client in one panel.
struct ValueRange {
    low: f64,
    middle: f64,
    high: f64,
}

impl ValueRange {
    fn new(series: &[f64], scale: f64) -> Option<Self> {
        let values: Vec<f64> = series.iter().map(|value| value / scale).collect();
        let at = |share| percentile(values.clone(), share);
        (!values.is_empty()).then(|| Self { low: at(0.0), middle: median(values.clone()), high: at(1.0) })
    }

    fn is_finite(&self) -> bool {
        self.middle.is_finite()
    }
}

pub(crate) fn plot(store: &ResultsStore, date: &str) -> String {
    let panels = [
        Panel {
            title: "Acquire, one task",
            unit: "µs, p50: left is better",
            metric: metrics::acquire(5, Threads::All),
            scale: 1.0,
        },
        Panel {
            title: "Throughput, 64 tasks",
            unit: "1,000 locks/s: right is better",
            metric: metrics::per_second(64),
            scale: 1000.0,
        },
        Panel {
            title: "Acquire, one of five paused",
            unit: "ms, p50: left is better",
            metric: metrics::fault("paused after connect", metrics::FAULT_P50),
            scale: 1000.0,
        },
    ];
    let mut names: Vec<&str> = panels.iter().flat_map(|panel| store.clients_in(&panel.metric)).collect();
    names.sort_unstable();
    names.dedup();
    let names = in_order(names);
    let height = TOP + names.len() as f64 * STEP + BOTTOM;
    let width = LEFT + panels.len() as f64 * (WIDTH + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"t d\">\n\
         <title id=\"t\">quorlock and its peers</title>\n\
         <desc id=\"d\">Five Redis servers on one machine, {date}, {} rounds. Dots are medians, lines reach from the lowest to the highest \
         round. The values are in the table of the same date.</desc>\n{STYLE}",
        store.rounds()
    );
    let _ = writeln!(svg, "<rect class=\"page\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>");
    for (index, name) in names.iter().enumerate() {
        let y = TOP + (index as f64 + 0.5) * STEP;
        if index % 2 == 0 {
            let (top, width) = (y - STEP / 2.0, width - 16.0);
            let _ = writeln!(
                svg,
                "<rect class=\"band\" x=\"8\" y=\"{top}\" width=\"{width}\" height=\"{STEP}\"/>"
            );
        }
        let (x, y) = (LEFT - 12.0, y + 4.0);
        let _ = writeln!(svg, "<text class=\"name {}\" x=\"{x}\" y=\"{y}\">{name}</text>", css_class(name));
    }
    for (index, panel) in panels.iter().enumerate() {
        let x = LEFT + index as f64 * (WIDTH + GAP);
        draw(&mut svg, store, panel, &names, x, height);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, store: &ResultsStore, panel: &Panel, names: &[&str], left: f64, height: f64) {
    let ranges: Vec<Option<ValueRange>> =
        names.iter().map(|name| ValueRange::new(&store.series(&panel.metric, name), panel.scale)).collect();
    let known = || ranges.iter().flatten().filter(|range| range.is_finite());
    let least = known().map(|range| range.low).fold(f64::INFINITY, f64::min);
    let most = known().map(|range| range.high).filter(|high| high.is_finite()).fold(0.0, f64::max);
    let _ = writeln!(svg, "<text class=\"title\" x=\"{left}\" y=\"26\">{}</text>", panel.title);
    let _ = writeln!(svg, "<text class=\"unit\" x=\"{left}\" y=\"42\">{}</text>", panel.unit);
    if !least.is_finite() || least <= 0.0 {
        return;
    }
    // Leaves space on the right for the label of the last dot.
    let (from, to) = (least.log10() - 0.08, most.log10() + 0.08);
    let plot_width = WIDTH - LABEL;
    let to_x = |value: f64| left + (value.log10() - from) / (to - from) * plot_width;
    let mut exponent = from.ceil() as i32;
    while f64::from(exponent) <= to {
        let (value, bottom) = (10_f64.powi(exponent), height - BOTTOM + 4.0);
        let x = to_x(value);
        let _ =
            writeln!(svg, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
        let _ =
            writeln!(svg, "<text class=\"tick\" x=\"{x:.1}\" y=\"{}\">{}</text>", bottom + 13.0, tick(value));
        exponent += 1;
    }
    for (row, (name, range)) in names.iter().zip(&ranges).enumerate() {
        let y = TOP + (row as f64 + 0.5) * STEP;
        let class = css_class(name);
        match range {
            None => {
                let _ = writeln!(svg, "<text class=\"none\" x=\"{left}\" y=\"{}\">–</text>", y + 4.0);
            }
            Some(range) if range.is_finite() => {
                let (low, middle) = (to_x(range.low), to_x(range.middle));
                let high = to_x(if range.high.is_finite() { range.high } else { most });
                let _ = writeln!(
                    svg,
                    "<line class=\"span {class}\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y}\" y2=\"{y}\"/>\
                     <circle class=\"dot {class}\" cx=\"{middle:.1}\" cy=\"{y}\" r=\"5\"/>\
                     <text class=\"value {class}\" x=\"{:.1}\" y=\"{}\">{}</text>",
                    high.max(middle + 5.0) + 6.0,
                    y + 4.0,
                    short(range.middle)
                );
            }
            Some(range) => {
                let text = if range.middle.is_nan() { "fails" } else { "no reply in 12 s" };
                let _ = writeln!(svg, "<text class=\"none\" x=\"{left}\" y=\"{}\">{text}</text>", y + 4.0);
            }
        }
    }
}

fn tick(value: f64) -> String {
    if value >= 1000.0 { format!("{:.0},000", value / 1000.0) } else { format!("{value}") }
}

fn css_class(name: &str) -> &'static str {
    match name {
        QUORLOCK | FENCED => "own",
        _ if name.starts_with(BASELINE) => "baseline",
        _ => "peer",
    }
}

const LEFT: f64 = 160.0;
const WIDTH: f64 = 220.0;
const GAP: f64 = 24.0;
const LABEL: f64 = 44.0;
const TOP: f64 = 54.0;
const STEP: f64 = 26.0;
const BOTTOM: f64 = 30.0;
const STYLE: &str = "<style>
text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #24292f; }
.page { fill: #ffffff; } .band { fill: #f6f8fa; }
.title { font-weight: 600; font-size: 13px; } .unit, .tick, .none { fill: #57606a; font-size: 11px; }
.tick { text-anchor: middle; } .name { text-anchor: end; } .name.own, .value.own { font-weight: 600; }
.grid { stroke: #d0d7de; stroke-width: 1; } .span { stroke-width: 2; stroke-linecap: round; opacity: .45; }
.span.own { stroke: #0969da; } .dot.own { fill: #0969da; } .span.peer { stroke: #6e7781; } .dot.peer { fill: #6e7781; }
.span.baseline { stroke: #6e7781; } .dot.baseline { fill: #ffffff; stroke: #6e7781; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .page { fill: #0d1117; } .band { fill: #161b22; }
.unit, .tick, .none { fill: #9198a1; } .grid { stroke: #30363d; }
.span.own { stroke: #4493f8; } .dot.own { fill: #4493f8; } .span.peer { stroke: #9198a1; } .dot.peer { fill: #9198a1; }
.span.baseline { stroke: #9198a1; } .dot.baseline { fill: #0d1117; stroke: #9198a1; }
}
</style>
";
