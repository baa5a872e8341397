//! quorlock beside its peers: the redis crate used by hand, and rslock.
//!
//! Five real servers, every client in every round, in an order that changes with the round. Read the ratios: the
//! absolute figures are the machine's. `--quick` runs 3 rounds instead of 11; `--only NAME` (sequential, throughput,
//! faults, lateness, takeover; may be repeated) runs a part.

mod client;
mod measure;
mod table;

use std::env;
use std::time::Instant;

use peers::Outcome;
use peers::figures::{median, percentile};
use peers::machine::{load, machine};
use quorlock_chaos::{Fleet, Setup};

use client::Peer;
use measure::{ALL_THREADS, Fault, LATENESS, LEFT_OVER, ONE_THREAD, PAUSED_THROUGHPUT, THROUGHPUT};
use table::Table;

fn main() -> Outcome<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [flag, name, urls @ ..] = args.as_slice()
        && flag == "--hold"
    {
        return measure::hold(Peer::of_name(name).ok_or("--hold: unknown client")?, urls);
    }
    let options = Options::of(&args)?;
    let begin = Instant::now();
    let before = load();
    let mut fleet = Fleet::start_with(5, &Setup::new().append_only(false))?;
    let mut table = Table::default();
    for round in 0..options.rounds {
        eprintln!("round {} of {}, load {}", round + 1, options.rounds, load());
        one_round(&mut fleet, &mut table, &options, round)?;
    }
    println!("{} 5 x redis-server, no append-only file.", machine(&fleet)?);
    println!(
        "{} rounds in {:.0} s; load average {before} before, {} after.\n",
        options.rounds,
        begin.elapsed().as_secs_f64(),
        load()
    );
    println!("{}\n{}", table.to_markdown(), goals(&table));
    Ok(())
}

struct Options {
    rounds: usize,
    /// Everything if empty.
    only: Vec<String>,
}

impl Options {
    fn of(args: &[String]) -> Outcome<Self> {
        let mut options = Self { rounds: 11, only: Vec::new() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => options.rounds = 3,
                "--only" => options.only.push(args.next().ok_or("--only needs a name")?.clone()),
                other => return Err(format!("unknown option {other:?}; known: --quick, --only NAME").into()),
            }
        }
        Ok(options)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == part)
    }
}

fn one_round(fleet: &mut Fleet, table: &mut Table, options: &Options, round: usize) -> Outcome<()> {
    let order = Peer::order(round);
    if options.wants("sequential") {
        for threads in [ONE_THREAD, ALL_THREADS] {
            for peer in order {
                measure::sequential(fleet, table, peer, threads)?;
            }
        }
    }
    if options.wants("throughput") {
        for peer in order {
            measure::throughput(fleet, table, peer)?;
        }
    }
    if options.wants("faults") {
        for fault in Fault::ALL {
            for peer in order {
                measure::fault(fleet, table, peer, fault, round)?;
            }
        }
    }
    if options.wants("lateness") {
        measure::lateness(fleet, table)?;
    }
    if options.wants("takeover") {
        for peer in order {
            measure::takeover(fleet, table, peer)?;
        }
    }
    Ok(())
}

/// What quorlock promises of itself, and whether this run bears it out.
fn goals(table: &Table) -> String {
    let mut lines = vec!["| goal | measured | met |\n|---|--:|---|".to_owned()];
    let mut check = |goal: &str, measured: Option<f64>, is_met: &dyn Fn(f64) -> bool| {
        if let Some(measured) = measured.filter(|figure| figure.is_finite()) {
            let met = if is_met(measured) { "yes" } else { "NO" };
            lines.push(format!("| {goal} | {measured:.2} | {met} |"));
        }
    };
    for threads in [ONE_THREAD, ALL_THREADS] {
        for what in ["acquire", "release"] {
            for peer in [Peer::ByHand, Peer::Rslock] {
                let ratio = table.ratio(&format!("{what} p50, {threads} (us)"), peer);
                let goal = format!("{what} p50, {threads}: at most that of {}", peer.name());
                check(&goal, ratio, &|ratio| ratio <= 1.0);
            }
        }
    }
    let ratio = table.ratio(THROUGHPUT, Peer::Rslock);
    check("throughput with 64 tasks: at least 1.5 x rslock's", ratio, &|ratio| ratio >= 1.5);
    let ours = |name: &str| table.figures(name, Peer::Quorlock).to_vec();
    for (fault, before) in Fault::ALL {
        let title = fault.title(before);
        let ratio = median(ours(&format!("{title}: acquire p50 / healthy")));
        check(&format!("{title}: acquire p50 at most 1.25 x healthy"), Some(ratio), &|ratio| ratio <= 1.25);
        let longest = ours(&format!("{title}: longest acquire (ms)"));
        let goal = format!("{title}: longest of 1,000 acquires below 50 ms");
        check(&format!("{goal} (median round)"), Some(median(longest.clone())), &|longest| longest < 50.0);
        check(&format!("{goal} (worst round)"), Some(percentile(longest, 1.0)), &|longest| longest < 50.0);
    }
    let share = ours(PAUSED_THROUGHPUT);
    let goal = "one of five paused for long: at least 0.7 x the healthy throughput";
    check(goal, Some(median(share)), &|share| share >= 0.7);
    check(
        "lost signal before the deadline (ms, worst round)",
        Some(percentile(ours(LATENESS), 0.0)),
        &|ms| ms > 0.0,
    );
    check("keys left over (worst run)", Some(percentile(ours(LEFT_OVER), 1.0)), &|keys| keys == 0.0);
    lines.join("\n")
}
