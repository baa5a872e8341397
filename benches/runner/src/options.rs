//! The command line of the bench.

use std::path::PathBuf;

use crate::Outcome;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) rounds: usize,
    /// The parts to measure; all if empty.
    pub(crate) only: Vec<String>,
    /// The file of the results.
    pub(crate) results: Option<PathBuf>,
    /// The folder for table and plot.
    pub(crate) report: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> Outcome<Self> {
        let mut options = Self { rounds: 11, only: Vec::new(), results: None, report: None };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--quick" => options.rounds = 3,
                "--rounds" => options.rounds = value()?.parse()?,
                "--only" => options.only.push(value()?.clone()),
                "--results" => options.results = Some(value()?.into()),
                "--report" => options.report = Some(value()?.into()),
                // cargo passes this to every bench.
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

const KNOWN: &str = "known: --quick, --rounds N, --only PART, --results FILE, --report FOLDER";
