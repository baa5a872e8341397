//! The picture of a run: a row for each client, and three figures of it side by side.
//!
//! The file says how it looks in a light and in a dark page; the viewer chooses.

use std::fmt::Write as _;

use crate::book::Book;
use crate::figures::{median, percentile, short};
use crate::ours::{FLOOR, GUARDED, QUORLOCK};
use crate::report::in_order;
use crate::rows;
use crate::worker::Threads;

/// One of the figures, on a logarithmic scale of its own.
struct Panel {
    title: &'static str,
    unit: &'static str,
    row: String,
    /// What the figures of the book are divided by.
    scale: f64,
}

/// The figures of one client in one panel.
struct Mark {
    low: f64,
    middle: f64,
    high: f64,
}

impl Mark {
    fn of(series: &[f64], scale: f64) -> Option<Self> {
        let figures: Vec<f64> = series.iter().map(|figure| figure / scale).collect();
        let at = |share| percentile(figures.clone(), share);
        (!figures.is_empty()).then(|| Self { low: at(0.0), middle: median(figures.clone()), high: at(1.0) })
    }

    fn is_finite(&self) -> bool {
        self.middle.is_finite()
    }
}

pub(crate) fn plot(book: &Book, date: &str) -> String {
    let panels = [
        Panel {
            title: "Acquire, one task",
            unit: "µs, p50: left is better",
            row: rows::acquire(5, Threads::All),
            scale: 1.0,
        },
        Panel {
            title: "Throughput, 64 tasks",
            unit: "1,000 locks/s: right is better",
            row: rows::per_second(64),
            scale: 1000.0,
        },
        Panel {
            title: "Acquire, one of five paused",
            unit: "ms, p50: left is better",
            row: rows::fault("paused after connect", rows::HURT),
            scale: 1000.0,
        },
    ];
    let mut names: Vec<&str> = panels.iter().flat_map(|panel| book.names_in(&panel.row)).collect();
    names.sort_unstable();
    names.dedup();
    let names = in_order(names);
    let height = TOP + names.len() as f64 * STEP + BOTTOM;
    let width = LEFT + panels.len() as f64 * (WIDTH + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"t d\">\n\
         <title id=\"t\">quorlock beside its peers</title>\n\
         <desc id=\"d\">Five Redis servers on one machine, {date}, {} rounds. Dots are medians, lines reach from the lowest to the highest \
         round. The figures are in the table of the same date.</desc>\n{STYLE}",
        book.rounds()
    );
    let _ = writeln!(svg, "<rect class=\"page\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>");
    for (place, name) in names.iter().enumerate() {
        let y = TOP + (place as f64 + 0.5) * STEP;
        if place % 2 == 0 {
            let (top, width) = (y - STEP / 2.0, width - 16.0);
            let _ = writeln!(
                svg,
                "<rect class=\"band\" x=\"8\" y=\"{top}\" width=\"{width}\" height=\"{STEP}\"/>"
            );
        }
        let (x, y) = (LEFT - 12.0, y + 4.0);
        let _ = writeln!(svg, "<text class=\"name {}\" x=\"{x}\" y=\"{y}\">{name}</text>", class(name));
    }
    for (place, panel) in panels.iter().enumerate() {
        let x = LEFT + place as f64 * (WIDTH + GAP);
        draw(&mut svg, book, panel, &names, x, height);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, book: &Book, panel: &Panel, names: &[&str], left: f64, height: f64) {
    let marks: Vec<Option<Mark>> =
        names.iter().map(|name| Mark::of(&book.series(&panel.row, name), panel.scale)).collect();
    let known = || marks.iter().flatten().filter(|mark| mark.is_finite());
    let least = known().map(|mark| mark.low).fold(f64::INFINITY, f64::min);
    let most = known().map(|mark| mark.high).filter(|high| high.is_finite()).fold(0.0, f64::max);
    let _ = writeln!(svg, "<text class=\"title\" x=\"{left}\" y=\"26\">{}</text>", panel.title);
    let _ = writeln!(svg, "<text class=\"unit\" x=\"{left}\" y=\"42\">{}</text>", panel.unit);
    if !least.is_finite() || least <= 0.0 {
        return;
    }
    // Room on the right for the figure beside the last dot.
    let (from, to) = (least.log10() - 0.08, most.log10() + 0.08);
    let room = WIDTH - LABEL;
    let place = |figure: f64| left + (figure.log10() - from) / (to - from) * room;
    let mut ten = from.ceil() as i32;
    while f64::from(ten) <= to {
        let (figure, bottom) = (10_f64.powi(ten), height - BOTTOM + 4.0);
        let x = place(figure);
        let _ =
            writeln!(svg, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
        let _ = writeln!(
            svg,
            "<text class=\"tick\" x=\"{x:.1}\" y=\"{}\">{}</text>",
            bottom + 13.0,
            tick(figure)
        );
        ten += 1;
    }
    for (row, (name, mark)) in names.iter().zip(&marks).enumerate() {
        let y = TOP + (row as f64 + 0.5) * STEP;
        let kind = class(name);
        match mark {
            None => {
                let _ = writeln!(svg, "<text class=\"none\" x=\"{left}\" y=\"{}\">–</text>", y + 4.0);
            }
            Some(mark) if mark.is_finite() => {
                let (low, middle) = (place(mark.low), place(mark.middle));
                let high = place(if mark.high.is_finite() { mark.high } else { most });
                let _ = writeln!(
                    svg,
                    "<line class=\"span {kind}\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y}\" y2=\"{y}\"/>\
                     <circle class=\"dot {kind}\" cx=\"{middle:.1}\" cy=\"{y}\" r=\"5\"/>\
                     <text class=\"value {kind}\" x=\"{:.1}\" y=\"{}\">{}</text>",
                    high.max(middle + 5.0) + 6.0,
                    y + 4.0,
                    short(mark.middle)
                );
            }
            Some(mark) => {
                let words = if mark.middle.is_nan() { "fails" } else { "no answer in 12 s" };
                let _ = writeln!(svg, "<text class=\"none\" x=\"{left}\" y=\"{}\">{words}</text>", y + 4.0);
            }
        }
    }
}

fn tick(figure: f64) -> String {
    if figure >= 1000.0 { format!("{:.0},000", figure / 1000.0) } else { format!("{figure}") }
}

fn class(name: &str) -> &'static str {
    match name {
        QUORLOCK | GUARDED => "ours",
        _ if name.starts_with(FLOOR) => "floor",
        _ => "theirs",
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
.tick { text-anchor: middle; } .name { text-anchor: end; } .name.ours, .value.ours { font-weight: 600; }
.grid { stroke: #d0d7de; stroke-width: 1; } .span { stroke-width: 2; stroke-linecap: round; opacity: .45; }
.span.ours { stroke: #0969da; } .dot.ours { fill: #0969da; } .span.theirs { stroke: #6e7781; } .dot.theirs { fill: #6e7781; }
.span.floor { stroke: #6e7781; } .dot.floor { fill: #ffffff; stroke: #6e7781; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .page { fill: #0d1117; } .band { fill: #161b22; }
.unit, .tick, .none { fill: #9198a1; } .grid { stroke: #30363d; }
.span.ours { stroke: #4493f8; } .dot.ours { fill: #4493f8; } .span.theirs { stroke: #9198a1; } .dot.theirs { fill: #9198a1; }
.span.floor { stroke: #9198a1; } .dot.floor { fill: #0d1117; stroke: #9198a1; }
}
</style>
";
