//! Starts servers and injects faults into them, on command of a script.
//!
//! It prints the URLs, joined by commas. Then it executes each line of its input (`kill 2`, `restart 2`,
//! `pause 2`, `resume 2`) and prints `done`. Servers are counted from 0; a restart keeps the data. All
//! servers end with the input.
//!
//! `fleet COUNT`

use std::error::Error;
use std::io;

use quorlock_chaos::{Data, Fleet};

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).ok_or("how many servers?")?.parse()?;
    let mut fleet = Fleet::start(count)?;
    println!("{}", fleet.nodes());
    for command in io::stdin().lines() {
        let command = command?;
        let (action, index) = command.split_once(' ').ok_or("a command is an action and a number")?;
        let server =
            fleet.servers_mut().get_mut(index.parse::<usize>()?).ok_or("no server has that number")?;
        match action {
            "kill" => server.kill(),
            "restart" => server.restart(Data::Kept)?,
            "pause" => server.pause(),
            "resume" => server.resume(),
            _ => return Err(format!("unknown action {action}").into()),
        }
        println!("done");
    }
    Ok(())
}
