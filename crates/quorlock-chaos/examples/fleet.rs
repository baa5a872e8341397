//! Starts servers for a script to break. It prints their URLs, joined by commas, then executes each line of its input
//! (`kill 2`, `restart 2`, `pause 2`, `resume 2`, counted from 0; a restart keeps the data) and answers `done`. All
//! servers end when the input ends.
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
        let (act, place) = command.split_once(' ').ok_or("a command is an action and a number")?;
        let server =
            fleet.servers_mut().get_mut(place.parse::<usize>()?).ok_or("no server has that number")?;
        match act {
            "kill" => server.kill(),
            "restart" => server.restart(Data::Kept)?,
            "pause" => server.pause(),
            "resume" => server.resume(),
            _ => return Err(format!("unknown action {act}").into()),
        }
        println!("done");
    }
    Ok(())
}
