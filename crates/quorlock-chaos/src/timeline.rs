//! What happened, drawn: a page for browsers, and a form for terminals.
//!
//! Both show the same picture: a lane for each node, each key and each client's task, and over them
//! the violations, with the events around each.

mod chart_data;
mod narrative;
mod page;
mod text;

use crate::checker::Verdict;
use crate::history::History;
pub use page::{escaped, filled};
pub use text::wrapped;

/// One page that holds all it needs: no network, one file to send around.
#[must_use]
pub fn html(history: &History, verdict: &Verdict) -> String {
    page::page(history, verdict, &[])
}

/// The same, with what the runs beside it showed in which something was done that no lock of this kind survives.
#[must_use]
pub fn html_with_controls(history: &History, verdict: &Verdict, controls: &[&Verdict]) -> String {
    page::page(history, verdict, controls)
}

/// Lanes of letters, `columns` wide, and then what was broken.
#[must_use]
pub fn text(history: &History, verdict: &Verdict, columns: usize) -> String {
    text::text(history, verdict, columns)
}
