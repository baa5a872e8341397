//! What stands on top of a table: where it was measured, and with what.

use std::process::Command;

use quorlock_chaos::Fleet;

use crate::Outcome;
use crate::machine::machine;

pub(crate) fn about(fleet: &Fleet) -> Outcome<Vec<(String, String)>> {
    let mut about = vec![("machine".to_owned(), machine(fleet)?)];
    if let Some(version) = said("rustc", &["--version"]) {
        about.push(("version".to_owned(), version));
    }
    if let Some(date) = said("date", &["-u", "+%Y-%m-%d"]) {
        about.push(("date".to_owned(), date));
    }
    Ok(about)
}

/// The first line that a program says, if it is there.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}
