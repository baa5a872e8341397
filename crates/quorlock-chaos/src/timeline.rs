//! Draws a history: as a page for browsers, and as text for terminals.
//!
//! Both show the same chart: a lane for each node, each key and each client's task, and over them the violations, with
//! the events around each.

mod chart_data;
mod narrative;
mod page;
mod text;

use crate::checker::Verdict;
use crate::history::History;
pub use page::{escaped, filled};
pub use text::wrapped;

/// One self-contained HTML page: no network, one file to send around.
#[must_use]
pub fn html(history: &History, verdict: &Verdict) -> String {
    page::page(history, verdict, &[])
}

/// The same, with the results of the negative controls.
#[must_use]
pub fn html_with_controls(history: &History, verdict: &Verdict, controls: &[&Verdict]) -> String {
    page::page(history, verdict, controls)
}

/// Lanes of characters, `columns` wide, and then the violations.
#[must_use]
pub fn text(history: &History, verdict: &Verdict, columns: usize) -> String {
    text::text(history, verdict, columns)
}
