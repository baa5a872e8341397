//! Draws a history as an HTML page and as text for terminals.
//!
//! Both show the same chart: a lane for each node, each key and each client task, and the violations with the
//! events around them.

mod chart_data;
mod narrative;
mod page;
mod text;

use crate::checker::Verdict;
use crate::history::History;
pub use text::wrapped;

/// The history and its verdict as one self-contained HTML page.
#[must_use]
pub fn html(history: &History, verdict: &Verdict) -> String {
    page::page(history, verdict, &[])
}

/// The history, its verdict and the results of the negative controls as one self-contained HTML page.
#[must_use]
pub fn html_with_controls(history: &History, verdict: &Verdict, controls: &[&Verdict]) -> String {
    page::page(history, verdict, controls)
}

/// The history and its verdict as text, `columns` wide: lanes of characters, and then the violations.
#[must_use]
pub fn text(history: &History, verdict: &Verdict, columns: usize) -> String {
    text::text(history, verdict, columns)
}
