//! Measures the cost of fenced mode: the time of servers and caller, and how many network rounds an acquire
//! takes.
//!
//! Every round measures everything, and alternates between fenced mode and its reference. A ratio is the
//! median of the ratios within each round. `--quick` runs 3 rounds instead of 11.

mod caller;
mod server;
mod table;

use std::env;
use std::time::Instant;

use peers::Outcome;
use peers::machine::{load, machine};
use quorlock_chaos::{Fleet, Setup};
use tokio::runtime::{Builder, Runtime};

use caller::{Caller, Mode};
use server::{Load, Servers};
use table::Table;

fn main() -> Outcome<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let rounds = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => 11,
        ["--quick"] => 3,
        _ => return Err("known: --quick".into()),
    };
    let (begin, before) = (Instant::now(), load());
    let runtime = all_threads()?;
    let mut table = Table::default();
    let (fenced, single, plain) = (start(5)?, start(1)?, start(5)?);
    // The nodes of an initialized lock cluster vote at once.
    for fleet in [&fenced, &single] {
        runtime.block_on(quorlock::Redlock::builder().nodes(fleet.urls()).initialize())?;
    }
    let servers = [
        ("one node", runtime.block_on(Servers::connect(&single))?),
        ("five nodes", runtime.block_on(Servers::connect(&fenced))?),
    ];
    let caller = Caller { fenced: &fenced, plain: &plain };

    for round in 0..rounds {
        eprintln!("round {} of {rounds}, load {}", round + 1, load());
        let order = if round % 2 == 0 { Mode::BOTH } else { [Mode::Plain, Mode::Fenced] };
        for (nodes, servers) in &servers {
            for load in Load::ALL {
                runtime.block_on(servers.measure(&mut table, nodes, load, order))?;
            }
        }
        for (name, threads) in [("current thread", one_thread()?), ("multi-thread", all_threads()?)] {
            threads.block_on(caller.sequential(&mut table, order, name))?;
        }
        runtime.block_on(caller.throughput(&mut table, order))?;
        runtime.block_on(caller.fresh_names(&mut table))?;
        runtime.block_on(caller.contended(&mut table))?;
    }
    println!("Machine: {}. No append-only file.", machine(&fenced)?);
    println!(
        "{rounds} rounds in {:.0} s; load average {before} before, {} after.\n",
        begin.elapsed().as_secs_f64(),
        load()
    );
    println!("{}", table.to_markdown());
    Ok(())
}

fn start(count: usize) -> Outcome<Fleet> {
    Ok(Fleet::start_with(count, &Setup::new().append_only(false))?)
}

fn one_thread() -> Outcome<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn all_threads() -> Outcome<Runtime> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}
