//! Checks a history from standard input. The exit code is 0 if every invariant held.
//!
//! An argument names a file for the HTML page; `-` draws the chart as text. `--json` prints the verdict as
//! JSON and always exits with 0.

use std::io;
use std::process::ExitCode;

use quorlock_chaos::checker::check_history;
use quorlock_chaos::history::History;
use quorlock_chaos::timeline::{html, text};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let history = History::read(io::stdin().lock())?;
    let verdict = check_history(&history);
    match std::env::args_os().nth(1) {
        Some(json) if json == "--json" => {
            println!("{}", serde_json::to_string(&verdict)?);
            return Ok(ExitCode::SUCCESS);
        }
        Some(dash) if dash == "-" => print!("{}", text(&history, &verdict, 80)),
        Some(page) => std::fs::write(page, html(&history, &verdict))?,
        None => {
            println!("{verdict}");
            for violation in &verdict.violations {
                println!("  {}", violation.message);
            }
        }
    }
    Ok(if verdict.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
