//! What is asked for on the command line.

use std::path::PathBuf;

use crate::Outcome;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) rounds: usize,
    /// Everything if empty.
    pub(crate) only: Vec<String>,
    /// Where the figures are kept.
    pub(crate) figures: Option<PathBuf>,
    /// The folder for table and plot.
    pub(crate) report: Option<PathBuf>,
}

impl Options {
    pub(crate) fn of(args: &[String]) -> Outcome<Self> {
        let mut options = Self { rounds: 11, only: Vec::new(), figures: None, report: None };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--quick" => options.rounds = 3,
                "--rounds" => options.rounds = value()?.parse()?,
                "--only" => options.only.push(value()?.clone()),
                "--figures" => options.figures = Some(value()?.into()),
                "--report" => options.report = Some(value()?.into()),
                // What cargo says to every bench.
                "--bench" => {}
                _ => return Err(format!("unknown option {arg:?}; {KNOWN}").into()),
            }
        }
        Ok(options)
    }

    pub(crate) fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == part)
    }
}

const KNOWN: &str = "known: --quick, --rounds N, --only PART, --figures FILE, --report FOLDER";
