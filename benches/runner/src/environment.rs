//! The environment of a run, printed above its tables: machine, compiler and date.

use quorlock_chaos::Fleet;

use crate::Outcome;
use crate::machine::{first_output_line, machine, today};

pub(crate) fn environment(fleet: &Fleet) -> Outcome<Vec<(String, String)>> {
    let mut environment = vec![("machine".to_owned(), machine(fleet)?)];
    if let Some(version) = first_output_line("rustc", &["--version"]) {
        environment.push(("version".to_owned(), version));
    }
    if let Some(date) = today() {
        environment.push(("date".to_owned(), date));
    }
    Ok(environment)
}
