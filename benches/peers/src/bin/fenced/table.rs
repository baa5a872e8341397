//! Figures, round by round, and what they come to.

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
    /// What fenced mode is compared with; empty if with nothing.
    reference: Vec<f64>,
}

/// What fenced / reference is to be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    None,
}

impl Table {
    /// A round's pair of figures.
    pub(crate) fn put(&mut self, name: &str, goal: Goal, fenced: f64, reference: Option<f64>) {
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
            let (goal, reached) = row.goal.judge(median(ratios.clone()));
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
        let place = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), goal, fenced: Vec::new(), reference: Vec::new() });
            self.rows.len() - 1
        });
        &mut self.rows[place]
    }
}

impl Goal {
    fn judge(self, ratio: f64) -> (String, &'static str) {
        let (words, is_reached) = match self {
            Self::AtMost(most) => (format!("at most {}", short(most)), ratio <= most),
            Self::AtLeast(least) => (format!("at least {}", short(least)), ratio >= least),
            Self::None => return ("-".to_owned(), "-"),
        };
        (words, if is_reached { "yes" } else { "NO" })
    }
}
