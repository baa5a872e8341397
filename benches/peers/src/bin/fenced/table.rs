//! The values of all rounds, and the table computed from them.

use std::fmt::Write as _;

use peers::stats::{cell, median, short};

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    goal: Goal,
    fenced: Vec<f64>,
    /// The values of the reference; empty if there is none.
    reference: Vec<f64>,
}

/// The goal for the ratio fenced / reference.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    None,
}

impl Table {
    /// Adds the pair of values of a round.
    pub(crate) fn add(&mut self, name: &str, goal: Goal, fenced: f64, reference: Option<f64>) {
        let row = self.row(name, goal);
        row.fenced.push(fenced);
        row.reference.extend(reference);
    }

    pub(crate) fn to_markdown(&self) -> String {
        let mut text = String::from(
            "| median of the rounds (lowest-highest) | fenced | reference | fenced / reference | goal | reached |\n\
             |---|--:|--:|--:|--:|---|\n",
        );
        for row in &self.rows {
            let ratios: Vec<f64> =
                row.fenced.iter().zip(&row.reference).map(|(fenced, reference)| fenced / reference).collect();
            let (goal, reached) = row.goal.evaluate(median(ratios.clone()));
            let (fenced, reference) = (cell(&row.fenced), cell(&row.reference));
            let _ = writeln!(
                text,
                "| {} | {fenced} | {reference} | {} | {goal} | {reached} |",
                row.name,
                cell(&ratios)
            );
        }
        text
    }

    fn row(&mut self, name: &str, goal: Goal) -> &mut Row {
        let index = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), goal, fenced: Vec::new(), reference: Vec::new() });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }
}

impl Goal {
    fn evaluate(self, ratio: f64) -> (String, &'static str) {
        let (text, is_reached) = match self {
            Self::AtMost(most) => (format!("at most {}", short(most)), ratio <= most),
            Self::AtLeast(least) => (format!("at least {}", short(least)), ratio >= least),
            Self::None => return ("-".to_owned(), "-"),
        };
        (text, if is_reached { "yes" } else { "NO" })
    }
}
