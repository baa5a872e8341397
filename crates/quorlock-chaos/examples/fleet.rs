//! Servers for a script to break. It says their URLs, joined by commas, then does what each line of its input says
//! (`kill 2`, `restart 2`, `pause 2`, `resume 2`, counted from 0; a restart keeps the data) and answers `done`. All of
//! them go when the input ends.
//!
//! `fleet COUNT`

use std::error::Error;
use std::io;

use quorlock_chaos::{Data, Fleet};

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).ok_or("how many servers?")?.parse()?;
    let mut fleet = Fleet::start(count)?;
    println!("{}", fleet.nodes());
    for order in io::stdin().lines() {
        let order = order?;
        let (act, place) = order.split_once(' ').ok_or("an order is an act and a place")?;
        let server =
            fleet.servers_mut().get_mut(place.parse::<usize>()?).ok_or("no server has that place")?;
        match act {
            "kill" => server.kill(),
            "restart" => server.restart(Data::Kept)?,
            "pause" => server.pause(),
            "resume" => server.resume(),
            _ => return Err(format!("nobody can {act} a server").into()),
        }
        println!("done");
    }
    Ok(())
}
