//! What `run` says while it waits, and of what it says nothing.

use std::fs::{self, File};
use std::process::Stdio;

use quorlock_chaos::Data;

use crate::world::{World, end_of, until};

fn refuse_writes(world: &World) {
    for server in world.fleet.servers() {
        server.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).expect("an answer");
    }
}

#[test]
fn servers_that_refuse_are_told_once_and_only_by_who_waits() {
    let world = World::of(3);
    refuse_writes(&world);
    let waited = world.end(&["run", "a", "-w", "2s", "--", "true"]);
    assert_eq!((waited.code, waited.err.matches("waiting: ").count()), (Some(69), 1), "{waited:?}");
    let line = waited.err.lines().next().expect("a line");
    assert!(line.starts_with("quorlock: lock \"a\": waiting: ") && line.contains("NOREPLICAS"), "{waited:?}");
    let quiet = world.end(&["run", "a", "-q", "-w", "500ms", "--", "true"]);
    assert_eq!((quiet.code, quiet.err.as_str()), (Some(69), ""));
    for at_once in [&["-n"][..], &["--wait", "0"]] {
        let tried = world.end(&[&["run", "a"], at_once, &["--", "true"]].concat());
        assert_eq!((tried.code, tried.err.lines().count()), (Some(69), 1), "{tried:?}");
        assert!(!tried.err.contains("waiting"), "{tried:?}");
    }
}

#[test]
fn servers_that_die_while_it_waits_are_told_and_so_is_what_changes() {
    let mut world = World::lasting(3, "1s");
    world.take("a");
    world.fleet[2].command::<()>(&["CONFIG", "RESETSTAT"]).expect("an answer");
    let mut run = world.quorlock(&["run", "a", "--ttl", "1s", "--", "true"]);
    run.stderr(Stdio::from(File::create(world.file("said")).expect("a file")));
    let child = run.spawn().expect("a process");
    until("it has tried", || {
        let stats: String = world.fleet[2].command(&["INFO", "commandstats"]).expect("an answer");
        stats.contains("cmdstat_eval")
    });
    assert_eq!(said(&world), "", "a lock that is held is waited for without a word");
    world.fleet[0].kill();
    world.fleet[1].kill();
    until("it says so", || said(&world).contains("waiting: "));
    let (first, dead) = (said(&world), world.fleet[0].port().to_string());
    let line = first.lines().next().expect("a line");
    assert!(line.contains("too few nodes vote: ") && line.contains(&dead), "{first}");
    world.fleet[2].command::<()>(&["DEL", "a"]).expect("an answer");
    for place in [0, 1] {
        world.fleet[place].restart(Data::Kept).expect("back");
        world.fleet[place].command::<()>(&["DEL", "a"]).expect("an answer");
    }
    assert_eq!(end_of(child).code, Some(0));
    let said = said(&world);
    assert!(said.lines().count() <= 5, "nothing is said again and again: {said}");
}

/// Each try of its start takes five seconds.
#[test]
fn nodes_that_are_away_from_the_start_are_told_once() {
    let mut world = World::of(3);
    world.fleet[0].kill();
    world.fleet[1].kill();
    let run = world.end(&["run", "a", "--wait", "11s", "--", "true"]);
    assert_eq!((run.code, run.err.matches("waiting: ").count()), (Some(69), 1), "{run:?}");
}

fn said(world: &World) -> String {
    fs::read_to_string(world.file("said")).expect("text")
}
