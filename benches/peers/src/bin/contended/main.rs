//! One lock that many want: how it is handed over, inside a process and between processes.
//!
//! Five real servers; every way of waiting in every round, in an order that changes with the round. The contenders are
//! processes of their own. Read the ratios: the absolute figures are the machine's.

mod case;
mod run;
mod table;
mod way;
mod worker;

use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs};

use peers::Outcome;
use peers::machine::{self, load, machine};

use case::Case;
use run::World;
use table::Table;
use way::Way;

fn main() -> Outcome<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [flag, way, rest @ ..] = args.as_slice()
        && flag == "--work"
        && rest.len() > 5
    {
        let (case, urls) = rest.split_at(5);
        return worker::work(Way::of_name(way).ok_or("--work: unknown way")?, Case::of_words(case)?, urls);
    }
    let options = Options::of(&args)?;
    let (begin, before) = (Instant::now(), load());
    let world = World::start()?;
    let mut table = Table::default();
    let itself = env::current_exe()?.to_string_lossy().into_owned();
    // Each with the program whose processes contend, and the name it has in the table.
    let mut ways: Vec<(Way, String, String)> =
        (options.ways.iter()).map(|way| (*way, itself.clone(), way.name())).collect();
    for (name, program) in &options.beside {
        let ours = options.ways.iter().filter(|way| way.is_ours());
        ways.extend(ours.map(|way| (*way, program.clone(), format!("{}, {name}", way.name()))));
    }
    for round in 0..options.rounds {
        for case in &options.cases {
            eprintln!("round {} of {}, {case:?}, load {}", round + 1, options.rounds, load());
            for place in 0..ways.len() {
                let (way, program, name) = &ways[(place + round) % ways.len()];
                table.put(*case, name, world.run(program, *way, *case)?);
            }
        }
    }
    let (machine, seconds, after) = (machine(&world.fleet)?, begin.elapsed().as_secs(), load());
    let about = format!(
        "- {machine}, five servers; two milliseconds are made by a proxy before each\n\
         - Rounds: {}, in {seconds} s; load average {before} before and {after} after.\n{ABOUT}",
        options.rounds
    );
    let text = format!("{about}\n## Goals\n\n{}\n\n## Figures\n{}", table.goals(), table.to_markdown());
    let Some(folder) = &options.report else {
        println!("{text}");
        return Ok(());
    };
    let date = machine::today().ok_or("`date` does not tell the date")?;
    fs::write(
        folder.join(format!("contended-{date}.md")),
        format!("# One lock that many want, {date}\n\n{text}"),
    )?;
    Ok(())
}

struct Options {
    rounds: usize,
    cases: Vec<Case>,
    ways: Vec<Way>,
    /// Other builds of this program, whose library waits in another way.
    beside: Vec<(String, String)>,
    /// The folder for the tables, which else go to the terminal.
    report: Option<PathBuf>,
}

impl Options {
    fn of(args: &[String]) -> Outcome<Self> {
        let (mut rounds, mut span, mut is_goals_only) = (5, Duration::from_secs(3), false);
        let (mut ways, mut beside) = (Vec::new(), Vec::new());
        let (mut holds, mut processes, mut trips) = (Vec::new(), Vec::new(), Vec::new());
        let mut report = None;
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--quick" => rounds = 1,
                "--rounds" => rounds = value()?.parse()?,
                "--seconds" => span = Duration::from_secs_f64(value()?.parse()?),
                "--goals" => is_goals_only = true,
                "--way" => {
                    let name = value()?;
                    ways.push(Way::of_name(name).ok_or_else(|| format!("unknown way {name:?}"))?);
                }
                "--hold" => holds.push(Duration::from_secs_f64(value()?.parse::<f64>()? / 1e3)),
                "--processes" => processes.push(value()?.parse::<usize>()?),
                "--trip" => trips.push(value()?.clone()),
                "--beside" => {
                    let (name, program) = value()?.split_once('=').ok_or("--beside NAME=PROGRAM")?;
                    beside.push((name.to_owned(), program.to_owned()));
                }
                "--report" => report = Some(value()?.into()),
                other => return Err(format!("unknown option {other:?}; known: {KNOWN}").into()),
            }
        }
        if ways.is_empty() {
            ways = Way::ALL.to_vec();
        }
        let mut cases = Case::all(span);
        cases.retain(|case| {
            (holds.is_empty() || holds.contains(&case.hold))
                && (processes.is_empty() || processes.contains(&case.processes))
                && (trips.is_empty() || trips.iter().any(|trip| trip == case.round_trip.name()))
                && (!is_goals_only || case.has_goal())
        });
        Ok(Self { rounds, cases, ways, beside, report })
    }
}

const KNOWN: &str = "--quick, --rounds N, --seconds S, --goals, --way NAME, --hold MS, --processes N, --trip 0.1|2, \
                     --beside NAME=PROGRAM, --report FOLDER";

const ABOUT: &str = "\
- Every figure is the median of the rounds. Clients and servers share the machine: read the ratios.
- *Held*: the share of the time. *Wait*: from asking to having. *Starved*: tasks that never had it. \
*CPU*, *commands*: of all clients and of all servers for each hand-over. *Commands/waiting s*: beyond ten for each hand-over, by \
process and second of waiting. *Gap*: from giving up to the next grant; *from answer*: from the answer to its release to that. \
*Left*: keys that stayed behind.
";
