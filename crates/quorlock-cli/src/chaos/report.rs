//! The files that a run writes: the timeline, and the events.

use std::io;
use std::path::{Path, PathBuf};

use quorlock_chaos::Outcome;
use quorlock_chaos::checker::Verdict;
use quorlock_chaos::history::History;
use quorlock_chaos::timeline::{html_with_controls, text};

use crate::args::ChaosArgs;
use crate::exit::{self, Failure};
use crate::output::print;
use crate::progress::{COLUMNS, columns};
use crate::report_file;

/// Checks before the run that the files can be written.
pub(super) fn check(args: &ChaosArgs) -> Result<(), Failure> {
    if args.json && is_terminal(args.report.as_deref()) {
        let message = "--json and --report - both print to standard output: give --report a file";
        return Err(Failure::new(exit::USAGE, message));
    }
    let report = args.report.as_deref().filter(|file| !is_terminal(Some(file)));
    for (flag, file) in [("--report", report), ("--history", args.history.as_deref())] {
        file.map_or(Ok(()), |file| report_file::check(flag, file))?;
    }
    Ok(())
}

/// Writes the requested files, and returns their names. Each negative control with an unexcused violation
/// gets a separate timeline.
pub(super) fn write(args: &ChaosArgs, outcome: &Outcome) -> Result<Vec<PathBuf>, Failure> {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    if let Some(report) = &args.report {
        let failed = outcome.controls.iter().enumerate().filter(|(_, (_, verdict))| !verdict.passed());
        let failed = failed
            .map(|(index, (history, verdict))| (of_control(report, index + 1), history, verdict, &[][..]));
        let controls: Vec<&Verdict> = outcome.controls.iter().map(|(_, verdict)| verdict).collect();
        let run = (report.clone(), &outcome.history, &outcome.verdict, &controls[..]);
        for (file, history, verdict, controls) in std::iter::once(run).chain(failed) {
            if is_terminal(Some(report)) {
                print(&format!("\n{}", text(history, verdict, columns(io::stdout()))));
            } else {
                let timeline = timeline(&file, history, verdict, controls);
                files.push((file, timeline));
            }
        }
    }
    if let Some(history) = &args.history {
        let events = outcome.history.events().iter();
        files.push((history.clone(), events.map(|event| event.line() + "\n").collect()));
    }
    let written = |(file, text): (PathBuf, String)| report_file::write(&file, &text).map(|()| file);
    files.into_iter().map(written).collect()
}

fn is_terminal(report: Option<&Path>) -> bool {
    report == Some(Path::new("-"))
}

fn timeline(file: &Path, history: &History, verdict: &Verdict, controls: &[&Verdict]) -> String {
    if file.extension().is_some_and(|end| end == "txt") {
        text(history, verdict, COLUMNS)
    } else {
        html_with_controls(history, verdict, controls)
    }
}

/// `out.html` becomes `out.control-1.html`.
fn of_control(report: &Path, number: usize) -> PathBuf {
    let end = report.extension().map_or_else(String::new, |end| format!(".{}", end.to_string_lossy()));
    report.with_extension(format!("control-{number}{end}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_has_a_file_beside_the_report() {
        assert_eq!(of_control(Path::new("a/out.html"), 1), Path::new("a/out.control-1.html"));
        assert_eq!(of_control(Path::new("out"), 2), Path::new("out.control-2"));
    }
}
