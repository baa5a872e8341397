//! What stands on top of a table: where it was measured, and with what.

use quorlock_chaos::Fleet;

use crate::Outcome;
use crate::machine::{machine, said, today};

pub(crate) fn about(fleet: &Fleet) -> Outcome<Vec<(String, String)>> {
    let mut about = vec![("machine".to_owned(), machine(fleet)?)];
    if let Some(version) = said("rustc", &["--version"]) {
        about.push(("version".to_owned(), version));
    }
    if let Some(date) = today() {
        about.push(("date".to_owned(), date));
    }
    Ok(about)
}
