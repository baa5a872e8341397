//! Numbers, round by round, and what they come to.

use std::fmt::Write as _;

use peers::figures::{cell, median};

use crate::client::Peer;

/// Every figure of every peer in every round.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    /// For each of [`Peer::ALL`], one figure per round.
    figures: [Vec<f64>; 3],
}

impl Table {
    pub(crate) fn put(&mut self, name: &str, peer: Peer, figure: f64) {
        let place = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), figures: [const { Vec::new() }; 3] });
            self.rows.len() - 1
        });
        self.rows[place].figures[peer as usize].push(figure);
    }

    /// The figures of a peer, one per round; none if it was not measured.
    pub(crate) fn figures(&self, name: &str, peer: Peer) -> &[f64] {
        self.rows.iter().find(|row| row.name == name).map_or(&[], |row| &row.figures[peer as usize])
    }

    /// quorlock's figure over the peer's: the median of the rounds' own ratios.
    pub(crate) fn ratio(&self, name: &str, peer: Peer) -> Option<f64> {
        let (ours, theirs) = (self.figures(name, Peer::Quorlock), self.figures(name, peer));
        let ratios = || ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        (!ours.is_empty() && ours.len() == theirs.len()).then(|| median(ratios()))
    }

    /// Medians over the rounds with the lowest and the highest, and ratios.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = String::from(
            "| median of the rounds (lowest-highest) | quorlock | redis crate by hand | rslock | quorlock / by hand | quorlock / rslock |\n|---|--:|--:|--:|--:|--:|\n",
        );
        for row in &self.rows {
            let _ = write!(text, "| {} |", row.name);
            for figures in &row.figures {
                let _ = write!(text, " {} |", cell(figures));
            }
            for peer in [Peer::ByHand, Peer::Rslock] {
                let ratio = self.ratio(&row.name, peer).filter(|ratio| ratio.is_finite());
                let _ = write!(text, " {} |", ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")));
            }
            text.push('\n');
        }
        text
    }
}
