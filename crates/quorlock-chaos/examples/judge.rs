//! Judges a history read from standard input. Exit code 0 if every promise held.

use std::io;
use std::process::ExitCode;

use quorlock_chaos::history::{BadHistory, History};
use quorlock_chaos::judge::judge;

fn main() -> Result<ExitCode, BadHistory> {
    let verdict = judge(&History::read(io::stdin().lock())?);
    println!("{verdict}");
    for violation in &verdict.violations {
        println!("  {}", violation.words);
    }
    Ok(if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
