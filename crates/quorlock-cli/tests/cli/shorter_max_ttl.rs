//! A shorter max ttl under the locks of running commands.

use std::process::Child;

use crate::world::{World, json, output_of, send, wait_until};

/// Starts `run` for a lock of 6 s, whose command runs until there is a file `stop`.
fn start(world: &World, options: &[&str]) -> Child {
    let command = ["--", "sh", "-c", "echo > started; until [ -e stop ]; do sleep 0.05; done"];
    let args = [&["run", "k"], options, &command].concat();
    let child = world.quorlock(&args).spawn().expect("a process");
    wait_until("the command runs", || world.has_file("started"));
    child
}

/// With the margins of the earlier ttl, the command would get TERM 2 s before a deadline that is 1.5 s away after
/// each renewal.
#[test]
fn a_command_runs_on_when_the_max_ttl_becomes_shorter_than_its_margins() {
    let world = World::with_max_ttl(3, "6s");
    let mut run = start(&world, &[]);
    let waiting = world.quorlock(&["run", "-q", "k", "--", "true"]).spawn().expect("a process");
    // It goes on until the longer probation is over, longer than this test waits.
    let reconfigure =
        world.quorlock(&["reconfigure", "-q", "--max-ttl", "1500ms"]).spawn().expect("a process");
    let is_short = |server: &quorlock_chaos::Server| {
        let left = server.command::<i64>(&["PTTL", "k"]).expect("a reply");
        (1..=1500).contains(&left)
    };
    wait_until("the lock has the shorter ttl only", || {
        let has_ended = run.try_wait().expect("a status").is_some();
        has_ended || world.fleet.servers().iter().all(is_short)
    });
    world.write("stop", "");
    let ended = output_of(run);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    // It had waited with the ttl of before.
    let ended = output_of(waiting);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    // The probe is no longer than the max ttl of this client, and than the one in force.
    for max_ttl in ["6s", "1s"] {
        let doctor = json(&world.output(&["doctor", "--json", "--max-ttl", max_ttl]));
        assert_eq!(doctor["can_acquire"], true, "{doctor}");
    }
    send(&reconfigure, rustix::process::Signal::TERM);
    output_of(reconfigure);
}
