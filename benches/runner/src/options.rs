//! The command line of the bench.

use std::path::PathBuf;

use clap::Parser;
use clap::builder::PossibleValuesParser;

use crate::parts;

/// Compares lock clients on real servers, which they use in turn.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// The number of rounds; with 0, only stored results are reported.
    #[arg(long, default_value_t = 11, default_value_if("quick", "true", "3"))]
    pub(crate) rounds: usize,
    /// Measures 3 rounds, unless --rounds is given.
    #[arg(long)]
    quick: bool,
    /// A part to measure; may be repeated. Defaults to all parts.
    #[arg(long, value_parser = PossibleValuesParser::new(parts::ALL.map(|(name, _)| name)))]
    only: Vec<String>,
    /// The file of the results.
    #[arg(long)]
    pub(crate) results: Option<PathBuf>,
    /// The folder for table and plot.
    #[arg(long)]
    pub(crate) report: Option<PathBuf>,
    /// Ignored: cargo passes this to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    pub(crate) fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(line.split(' '))
    }

    #[test]
    fn quick_is_three_rounds_and_unknown_parts_are_rejected() {
        let rounds = |line| parse(line).expect("a valid command line").rounds;
        assert_eq!(
            ["bench --bench", "bench --quick", "bench --quick --rounds 5", "bench --rounds 0"].map(rounds),
            [11, 3, 5, 0]
        );
        let some = parse("bench --only work --only faults").expect("a valid command line");
        assert!(some.wants("work") && some.wants("faults") && !some.wants("leases"));
        assert!(parse("bench --only worc").is_err());
    }
}
