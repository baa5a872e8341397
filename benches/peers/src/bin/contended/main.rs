//! One lock that many want: how it is handed over, inside a process and between processes.
//!
//! Five real servers; every way of waiting in every round, in an order that changes with the round. The contenders are
//! processes of their own. Read the ratios: the absolute figures are the machine's.

mod case;
mod run;
mod table;
mod way;
mod worker;

use std::env;
use std::time::{Duration, Instant};

use peers::Outcome;
use peers::machine::{load, machine};

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
    println!("{} 5 x redis-server, no append-only file.", machine(&world.fleet)?);
    println!(
        "{} rounds in {:.0} s; load average {before} before, {} after.",
        options.rounds,
        begin.elapsed().as_secs_f64(),
        load()
    );
    println!("{}\n{}", table.to_markdown(), table.goals());
    Ok(())
}

struct Options {
    rounds: usize,
    cases: Vec<Case>,
    ways: Vec<Way>,
    /// Other builds of this program, whose library waits in another way.
    beside: Vec<(String, String)>,
}

impl Options {
    fn of(args: &[String]) -> Outcome<Self> {
        let (mut rounds, mut span, mut is_goals_only) = (5, Duration::from_secs(3), false);
        let (mut ways, mut beside) = (Vec::new(), Vec::new());
        let (mut holds, mut processes, mut trips) = (Vec::new(), Vec::new(), Vec::new());
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
        Ok(Self { rounds, cases, ways, beside })
    }
}

const KNOWN: &str = "--quick, --rounds N, --seconds S, --goals, --way NAME, --hold MS, --processes N, --trip 0.1|2, \
                     --beside NAME=PROGRAM";
