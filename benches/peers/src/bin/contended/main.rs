//! Measures how one contended lock is handed off, inside a process and between processes.
//!
//! Every round runs every strategy of waiting on five real servers, in an order that rotates with the round.
//! Each client is a separate process. Read the ratios: absolute values depend on the machine.

mod case;
mod run;
mod strategy;
mod table;
mod worker;

use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs};

use peers::Outcome;
use peers::machine::{self, load, machine};

use case::Case;
use run::Testbed;
use strategy::Strategy;
use table::Table;

fn main() -> Outcome<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [flag, strategy, rest @ ..] = args.as_slice()
        && flag == "--worker"
        && rest.len() > 5
    {
        let (case, urls) = rest.split_at(5);
        return worker::work(
            Strategy::from_name(strategy).ok_or("--worker: unknown strategy")?,
            Case::from_args(case)?,
            urls,
        );
    }
    let options = Options::parse(&args)?;
    let (begin, before) = (Instant::now(), load());
    let testbed = Testbed::start()?;
    let mut table = Table::default();
    let this_program = env::current_exe()?.to_string_lossy().into_owned();
    // Each strategy has the program of its processes, and its name in the table.
    let mut strategies: Vec<(Strategy, String, String)> = (options.strategies.iter())
        .map(|strategy| (*strategy, this_program.clone(), strategy.name()))
        .collect();
    for (name, program) in &options.other_builds {
        let own = options.strategies.iter().filter(|strategy| strategy.is_quorlock());
        strategies
            .extend(own.map(|strategy| (*strategy, program.clone(), format!("{}, {name}", strategy.name()))));
    }
    for round in 0..options.rounds {
        for case in &options.cases {
            eprintln!("round {} of {}, {case:?}, load {}", round + 1, options.rounds, load());
            for index in 0..strategies.len() {
                let (strategy, program, name) = &strategies[(index + round) % strategies.len()];
                table.add(*case, name, testbed.run(program, *strategy, *case)?);
            }
        }
    }
    let (machine, seconds, after) = (machine(&testbed.fleet)?, begin.elapsed().as_secs(), load());
    let header = format!(
        "- {machine}, five servers; a proxy before each adds two milliseconds\n\
         - Rounds: {}, in {seconds} s; load average {before} before and {after} after.\n{EXPLANATION}",
        options.rounds
    );
    let text = format!("{header}\n## Goals\n\n{}\n\n## Results\n{}", table.goals(), table.to_markdown());
    let Some(folder) = &options.report else {
        println!("{text}");
        return Ok(());
    };
    let date = machine::today().ok_or("`date` printed no date")?;
    fs::write(
        folder.join(format!("contended-{date}.md")),
        format!("# One contended lock, {date}\n\n{text}"),
    )?;
    Ok(())
}

struct Options {
    rounds: usize,
    cases: Vec<Case>,
    strategies: Vec<Strategy>,
    /// Name and path of other builds of this program, whose library waits differently.
    other_builds: Vec<(String, String)>,
    /// The folder for the tables; without it they are printed.
    report: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> Outcome<Self> {
        let (mut rounds, mut duration, mut is_goals_only) = (5, Duration::from_secs(3), false);
        let (mut strategies, mut other_builds) = (Vec::new(), Vec::new());
        let (mut holds, mut processes, mut round_trips) = (Vec::new(), Vec::new(), Vec::new());
        let mut report = None;
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--quick" => rounds = 1,
                "--rounds" => rounds = value()?.parse()?,
                "--seconds" => duration = Duration::from_secs_f64(value()?.parse()?),
                "--goals" => is_goals_only = true,
                "--strategy" => {
                    let name = value()?;
                    strategies
                        .push(Strategy::from_name(name).ok_or_else(|| format!("unknown strategy {name:?}"))?);
                }
                "--hold" => holds.push(Duration::from_secs_f64(value()?.parse::<f64>()? / 1e3)),
                "--processes" => processes.push(value()?.parse::<usize>()?),
                "--round-trip" => round_trips.push(value()?.clone()),
                "--beside" => {
                    let (name, program) = value()?.split_once('=').ok_or("--beside NAME=PROGRAM")?;
                    other_builds.push((name.to_owned(), program.to_owned()));
                }
                "--report" => report = Some(value()?.into()),
                other => return Err(format!("unknown option {other:?}; known: {KNOWN}").into()),
            }
        }
        if strategies.is_empty() {
            strategies = Strategy::ALL.to_vec();
        }
        let mut cases = Case::all(duration);
        cases.retain(|case| {
            (holds.is_empty() || holds.contains(&case.hold))
                && (processes.is_empty() || processes.contains(&case.processes))
                && (round_trips.is_empty()
                    || round_trips.iter().any(|round_trip| round_trip == case.round_trip.name()))
                && (!is_goals_only || case.has_goal())
        });
        Ok(Self { rounds, cases, strategies, other_builds, report })
    }
}

const KNOWN: &str = "--quick, --rounds N, --seconds S, --goals, --strategy NAME, --hold MS, --processes N, --round-trip 0.1|2, \
                     --beside NAME=PROGRAM, --report FOLDER";

const EXPLANATION: &str = "\
- Every value is the median of the rounds. Clients and servers share the machine: read the ratios.
- *Held*: the share of the time. *Wait*: from the request to the grant. *Starved*: tasks that never held the lock. \
*CPU*, *commands*: of all clients and of all servers, per hand-off. *Commands/waiting s*: commands beyond ten per hand-off, per \
process and second of waiting. *Gap*: from the start of the release to the next grant; *from reply*: from the reply to the release. \
*Left*: leftover keys.
";
