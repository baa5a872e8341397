//! What `run` says while it waits, and of what it says nothing.

use std::fs::{self, File};
use std::process::Stdio;

use quorlock_chaos::Data;

use crate::world::{World, end_of, now, until};

fn refuse_writes(world: &World) {
    for server in world.fleet.servers() {
        server.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).expect("an answer");
    }
}

#[test]
fn excluded_nodes_are_reported_once_and_only_while_waiting() {
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
fn servers_that_die_during_the_wait_are_reported_with_every_change() {
    let mut world = World::lasting(3, "1s");
    world.take("a");
    world.fleet[2].command::<()>(&["CONFIG", "RESETSTAT"]).expect("an answer");
    let mut run = world.quorlock(&["run", "a", "--ttl", "1s", "--", "true"]);
    run.stderr(Stdio::from(File::create(world.file("said")).expect("a file")));
    let child = run.spawn().expect("a process");
    until("it has tried", || {
        let stats: String = world.fleet[2].command(&["INFO", "commandstats"]).expect("an answer");
        stats.contains("cmdstat_pttl")
    });
    assert_eq!(said(&world), "", "a lock that is held is waited for without a word at first");
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
fn nodes_unreachable_from_the_start_are_reported_once() {
    let mut world = World::of(3);
    world.fleet[0].kill();
    world.fleet[1].kill();
    let run = world.end(&["run", "a", "--wait", "11s", "--", "true"]);
    assert_eq!((run.code, run.err.matches("waiting: ").count()), (Some(69), 1), "{run:?}");
}

/// Once, though it goes on; and not to who wants to hear nothing.
#[test]
fn the_holder_is_reported_once_after_a_while() {
    let world = World::of(3);
    let holder = world.quorlock(&["run", "a", "--", "sleep", "60"]).spawn().expect("a process");
    until("it is held", || world.keys("a") == 3);
    let status = world.end(&["status", "a", "--json"]).out;
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let waits = |more: &[&str]| world.end(&[&["run", "a", "-w", "5s"], more, &["--", "true"]].concat());
    let loud = waits(&[]);
    assert_eq!((loud.code, loud.err.matches("waiting: ").count()), (Some(75), 1), "{loud:?}");
    let line = format!(
        "quorlock: lock \"a\": waiting: held by #{} for ",
        status["holder"].as_str().expect("a hash")
    );
    assert!(loud.err.starts_with(&line) && loud.err.contains("s more, unless renewed"), "{loud:?}");
    let quiet = waits(&["-q"]);
    assert_eq!((quiet.code, quiet.err.as_str()), (Some(75), ""));
    crate::world::send(&holder, rustix::process::Signal::TERM);
    assert_eq!(end_of(holder).code, Some(143));
}

#[test]
fn a_key_without_expiry_is_reported_as_such() {
    let world = World::of(3);
    for server in world.fleet.servers() {
        server.command::<()>(&["SET", "a", "x"]).expect("a key");
        server.command::<()>(&["RPUSH", "b", "x"]).expect("a key");
    }
    for (name, kind) in [("a", "#2961e24b, a key that"), ("b", "a key of another type that")] {
        let words = format!("held by {kind} never expires: see `quorlock status`, `quorlock force-release`");
        let tried = world.end(&["run", name, "-n", "--", "true"]);
        assert_eq!(
            (tried.code, tried.err.as_str()),
            (Some(75), &*format!("quorlock: lock {name:?}: {words}\n"))
        );
        let waited = world.end(&["run", name, "-w", "3s", "--", "true"]);
        assert_eq!(waited.code, Some(75), "{waited:?}");
        assert!(
            waited.err.starts_with(&format!("quorlock: lock {name:?}: waiting: {words}\n")),
            "{waited:?}"
        );
    }
}

/// It looks again now and then. An outage is one, in however many words nodes are found to be away.
#[test]
fn each_change_during_the_wait_is_reported_once() {
    let mut world = World::of(3);
    world.take("a");
    let (run, mut tells) = waiter(&world, &[]);
    let first = tells("held by #");
    for place in [0, 1] {
        world.fleet[place].pause();
    }
    let outage = tells("too few nodes vote: ");
    // Until connections are given up, and dialed again in vain.
    std::thread::sleep(std::time::Duration::from_secs(8));
    for place in [0, 1] {
        world.fleet[place].resume();
    }
    until("it is over", || said(&world).matches("held by #").count() == 2);
    let again = tells("held by #");
    assert_eq!(again.split(" for ").next(), first.split(" for ").next(), "{outage}");
    for server in world.fleet.servers() {
        server.command::<()>(&["SET", "a", "another"]).expect("a key");
    }
    tells("a key that never expires");
    assert_eq!(said(&world).lines().count(), 4, "{}", said(&world));
    for server in world.fleet.servers() {
        server.command::<()>(&["DEL", "a"]).expect("an answer");
    }
    assert_eq!(end_of(run).code, Some(0));
}

#[test]
fn a_change_of_holder_is_reported() {
    let world = World::of(3);
    world.take("a");
    let (run, mut tells) = waiter(&world, &[]);
    let first = tells("held by #");
    for server in world.fleet.servers() {
        server.command::<()>(&["SET", "a", "another", "PX", "600000"]).expect("a key");
    }
    let another = tells("held by #");
    assert_ne!(another.split(" for ").next(), first.split(" for ").next());
    crate::world::send(&run, rustix::process::Signal::TERM);
    assert_eq!(end_of(run).code, Some(143));
}

#[test]
fn missing_replies_are_reported_after_a_delay_and_late_replies_are_not() {
    let mut world = World::of(3);
    for place in [0, 1] {
        world.fleet[place].kill();
    }
    let began = now();
    let (run, mut tells) = waiter(&world, &[]);
    tells("no quorum of nodes");
    assert!(now() - began < 4_000, "after {} ms", now() - began);
    for place in [0, 1] {
        world.fleet[place].restart(Data::Kept).expect("back");
    }
    // They may have forgotten locks, which is for another test.
    crate::world::send(&run, rustix::process::Signal::TERM);
    assert_eq!(end_of(run).code, Some(143));
    // However long a dial may take.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("redis://{}", silent.local_addr().expect("an address"));
    let began = now();
    let (run, mut tells) = waiter(&world, &["--dial-timeout", "20s", "--nodes", &silent]);
    tells("no quorum of nodes has replied yet");
    assert!(now() - began < 10_000, "after {} ms", now() - began);
    crate::world::send(&run, rustix::process::Signal::TERM);
    assert_eq!(end_of(run).code, Some(143));
    let mut late = World::of(3);
    for place in [0, 1] {
        late.fleet[place].kill();
    }
    let began = now();
    let run = late
        .quorlock(&["run", "a", "--mode", "plain", "-w", "20s", "--", "true"])
        .spawn()
        .expect("a process");
    for place in [0, 1] {
        late.fleet[place].restart(Data::Kept).expect("back");
    }
    let is_in_time = now() - began < 1_000;
    let end = end_of(run);
    assert!(end.code == Some(0) && (!is_in_time || end.err.is_empty()), "{end:?}");
}

/// A `run` of lock `a` that waits, and what awaits its next line, in which these words are to be.
fn waiter(world: &World, more: &[&str]) -> (std::process::Child, impl FnMut(&str) -> String + use<>) {
    let mut run = world.quorlock(&[&["run", "a"], more, &["--", "true"]].concat());
    run.stderr(Stdio::from(File::create(world.file("said")).expect("a file")));
    let run = run.spawn().expect("a process");
    let (mut seen, file) = (0, world.file("said"));
    let tells = move |words: &str| {
        let said = || fs::read_to_string(&file).expect("text");
        let line = || said().lines().nth(seen).map(ToOwned::to_owned);
        until(words, || line().is_some());
        let line = line().expect("a line");
        assert!(line.contains("waiting: ") && line.contains(words), "{words}: {}", said());
        seen += 1;
        line
    };
    (run, tells)
}

/// A node that is silent may still answer; but two that refuse leave no quorum.
#[test]
fn a_single_try_does_not_wait_for_nodes_without_a_quorum() {
    let world = World::of(2);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("redis://{}", silent.local_addr().expect("an address"));
    let closed = ["redis://127.0.0.1:1", "redis://127.0.0.1:2"];
    let nodes = [closed[0], closed[1], &silent].join(",");
    let began = now();
    let tried = world.end(&["run", "a", "-n", "--dial-timeout", "20s", "--nodes", &nodes, "--", "true"]);
    assert_eq!(tried.code, Some(69), "{tried:?}");
    assert!(tried.err.contains("127.0.0.1:1, 127.0.0.1:2: connection refused"), "{tried:?}");
    assert!(now() - began < 10_000, "{} ms", now() - began);
    // One that refuses and two that answer are enough.
    let nodes = format!("{},{}", closed[0], world.fleet.nodes());
    let had = world.end(&["run", "a", "-n", "--mode", "plain", "--nodes", &nodes, "--", "true"]);
    assert_eq!(had.code, Some(0), "{had:?}");
}

fn said(world: &World) -> String {
    fs::read_to_string(world.file("said")).expect("text")
}
