//! Messages of `run` while it waits: which reasons are reported, and how often.

use std::fs::{self, File};
use std::process::Stdio;

use quorlock_chaos::{Data, Server};

use crate::world::{World, now, output_of, wait_until};

fn reject_writes(world: &World) {
    for server in world.fleet.servers() {
        server.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).expect("a reply");
    }
}

#[test]
fn excluded_nodes_are_reported_once_and_only_while_waiting() {
    let world = World::of(3);
    reject_writes(&world);
    let waited = world.output(&["run", "a", "-w", "2s", "--", "true"]);
    assert_eq!((waited.code, waited.stderr.matches("waiting: ").count()), (Some(69), 1), "{waited:?}");
    let line = waited.stderr.lines().next().expect("a line");
    assert!(line.starts_with("quorlock: lock \"a\": waiting: ") && line.contains("NOREPLICAS"), "{waited:?}");
    let quiet = world.output(&["run", "a", "-q", "-w", "500ms", "--", "true"]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(69), ""));
    for at_once in [&["-n"][..], &["--wait", "0"]] {
        let once = world.output(&[&["run", "a"], at_once, &["--", "true"]].concat());
        assert_eq!((once.code, once.stderr.lines().count()), (Some(69), 1), "{once:?}");
        assert!(!once.stderr.contains("waiting"), "{once:?}");
    }
}

#[test]
fn servers_that_die_during_the_wait_are_reported_with_every_change() {
    let mut world = World::with_max_ttl(3, "1s");
    world.set_other_owner("a");
    let mut run = world.quorlock(&["run", "a", "--ttl", "1s", "--", "true"]);
    run.stderr(Stdio::from(File::create(world.file("stderr")).expect("a file")));
    let child = run.spawn().expect("a process");
    // Only a contended attempt queues. A handshake is no sign of one: it calls the same commands.
    wait_until("run has made an attempt", || {
        let is_queued = |server: &Server| server.command(&["EXISTS", "quorlock:waiters:a"]).expect("a reply");
        world.fleet.servers().iter().any(is_queued)
    });
    assert_eq!(stderr_text(&world), "", "a held lock is reported only after a delay");
    world.fleet[0].kill();
    world.fleet[1].kill();
    wait_until("the outage is reported", || stderr_text(&world).contains("waiting: "));
    let (first, dead) = (stderr_text(&world), world.fleet[0].port().to_string());
    let line = first.lines().next().expect("a line");
    assert!(line.contains("too few nodes vote: ") && line.contains(&dead), "{first}");
    world.fleet[2].command::<()>(&["DEL", "a"]).expect("a reply");
    for index in [0, 1] {
        world.fleet[index].restart(Data::Kept).expect("back");
        world.fleet[index].command::<()>(&["DEL", "a"]).expect("a reply");
    }
    assert_eq!(output_of(child).code, Some(0));
    let stderr_text = stderr_text(&world);
    assert!(stderr_text.lines().count() <= 5, "a message is repeated: {stderr_text}");
}

/// Each attempt to connect takes five seconds.
#[test]
fn nodes_unreachable_from_the_start_are_reported_once() {
    let mut world = World::of(3);
    world.fleet[0].kill();
    world.fleet[1].kill();
    let run = world.output(&["run", "a", "--wait", "11s", "--", "true"]);
    assert_eq!((run.code, run.stderr.matches("waiting: ").count()), (Some(69), 1), "{run:?}");
}

/// Reported once although the wait goes on, and not with --quiet.
#[test]
fn the_holder_is_reported_once_after_a_while() {
    let world = World::of(3);
    let holder = world.quorlock(&["run", "a", "--", "sleep", "60"]).spawn().expect("a process");
    wait_until("the lock is held", || world.key_count("a") == 3);
    let status = world.output(&["status", "a", "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let run_waiting =
        |more: &[&str]| world.output(&[&["run", "a", "-w", "5s"], more, &["--", "true"]].concat());
    let reported = run_waiting(&[]);
    assert_eq!((reported.code, reported.stderr.matches("waiting: ").count()), (Some(75), 1), "{reported:?}");
    let line = format!(
        "quorlock: lock \"a\": waiting: held by #{} for ",
        status["holder"]["owner"].as_str().expect("a hash")
    );
    assert!(
        reported.stderr.starts_with(&line) && reported.stderr.contains("s more, unless renewed"),
        "{reported:?}"
    );
    let quiet = run_waiting(&["-q"]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(75), ""));
    crate::world::send(&holder, rustix::process::Signal::TERM);
    assert_eq!(output_of(holder).code, Some(143));
}

#[test]
fn a_key_without_expiry_is_reported_as_such() {
    let world = World::of(3);
    for server in world.fleet.servers() {
        server.command::<()>(&["SET", "a", "x"]).expect("a key");
        server.command::<()>(&["RPUSH", "b", "x"]).expect("a key");
    }
    for (name, kind) in [("a", "#2961e24b, a key that"), ("b", "a key of another type that")] {
        let text = format!("held by {kind} never expires: see `quorlock status`, `quorlock force-release`");
        let once = world.output(&["run", name, "-n", "--", "true"]);
        assert_eq!(
            (once.code, once.stderr.as_str()),
            (Some(75), &*format!("quorlock: lock {name:?}: {text}\n"))
        );
        let waited = world.output(&["run", name, "-w", "3s", "--", "true"]);
        assert_eq!(waited.code, Some(75), "{waited:?}");
        assert!(
            waited.stderr.starts_with(&format!("quorlock: lock {name:?}: waiting: {text}\n")),
            "{waited:?}"
        );
    }
}

/// `run` inspects the lock at intervals. An outage is reported once, although the errors of its nodes change.
#[test]
fn each_change_during_the_wait_is_reported_once() {
    let mut world = World::of(3);
    world.set_other_owner("a");
    let (run, mut next_line) = waiter(&world, &[]);
    let first = next_line("held by #");
    for index in [0, 1] {
        world.fleet[index].pause();
    }
    let outage = next_line("too few nodes vote: ");
    // Until connections time out and dials fail.
    std::thread::sleep(std::time::Duration::from_secs(8));
    for index in [0, 1] {
        world.fleet[index].resume();
    }
    wait_until("the holder is reported again", || stderr_text(&world).matches("held by #").count() == 2);
    let second = next_line("held by #");
    assert_eq!(second.split(" for ").next(), first.split(" for ").next(), "{outage}");
    for server in world.fleet.servers() {
        server.command::<()>(&["SET", "a", "another"]).expect("a key");
    }
    next_line("a key that never expires");
    assert_eq!(stderr_text(&world).lines().count(), 4, "{}", stderr_text(&world));
    for server in world.fleet.servers() {
        server.command::<()>(&["DEL", "a"]).expect("a reply");
    }
    assert_eq!(output_of(run).code, Some(0));
}

#[test]
fn a_change_of_holder_is_reported() {
    let world = World::of(3);
    world.set_other_owner("a");
    let (run, mut next_line) = waiter(&world, &[]);
    let first = next_line("held by #");
    for server in world.fleet.servers() {
        server.command::<()>(&["SET", "a", "another", "PX", "600000"]).expect("a key");
    }
    let second = next_line("held by #");
    assert_ne!(second.split(" for ").next(), first.split(" for ").next());
    crate::world::send(&run, rustix::process::Signal::TERM);
    assert_eq!(output_of(run).code, Some(143));
}

#[test]
fn missing_replies_are_reported_after_a_delay_and_late_replies_are_not() {
    let mut world = World::of(3);
    for index in [0, 1] {
        world.fleet[index].kill();
    }
    let began = now();
    let (run, mut next_line) = waiter(&world, &[]);
    next_line("no quorum of nodes");
    assert!(now() - began < 4_000, "after {} ms", now() - began);
    for index in [0, 1] {
        world.fleet[index].restart(Data::Kept).expect("back");
    }
    // Ended here, because the returning nodes are on probation.
    crate::world::send(&run, rustix::process::Signal::TERM);
    assert_eq!(output_of(run).code, Some(143));
    // Also with a long dial timeout.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("redis://{}", silent.local_addr().expect("an address"));
    let began = now();
    let (run, mut next_line) = waiter(&world, &["--dial-timeout", "20s", "--nodes", &silent]);
    next_line("no quorum of nodes has replied yet");
    assert!(now() - began < 10_000, "after {} ms", now() - began);
    crate::world::send(&run, rustix::process::Signal::TERM);
    assert_eq!(output_of(run).code, Some(143));
    let mut late = World::of(3);
    for index in [0, 1] {
        late.fleet[index].kill();
    }
    let began = now();
    let run = late
        .quorlock(&["run", "a", "--mode", "plain", "-w", "20s", "--", "true"])
        .spawn()
        .expect("a process");
    for index in [0, 1] {
        late.fleet[index].restart(Data::Kept).expect("back");
    }
    let is_in_time = now() - began < 1_000;
    let output = output_of(run);
    assert!(output.code == Some(0) && (!is_in_time || output.stderr.is_empty()), "{output:?}");
}

/// Starts a waiting `run` of lock `a`. Returns it with a function that awaits its next line, which must
/// contain a text.
fn waiter(world: &World, more: &[&str]) -> (std::process::Child, impl FnMut(&str) -> String + use<>) {
    let mut run = world.quorlock(&[&["run", "a"], more, &["--", "true"]].concat());
    run.stderr(Stdio::from(File::create(world.file("stderr")).expect("a file")));
    let run = run.spawn().expect("a process");
    let (mut line_count, file) = (0, world.file("stderr"));
    let next_line = move |text: &str| {
        let stderr_text = || fs::read_to_string(&file).expect("text");
        let line = || stderr_text().lines().nth(line_count).map(ToOwned::to_owned);
        wait_until(text, || line().is_some());
        let line = line().expect("a line");
        assert!(line.contains("waiting: ") && line.contains(text), "{text}: {}", stderr_text());
        line_count += 1;
        line
    };
    (run, next_line)
}

/// A node without a reply may still reply, but with two unreachable nodes there is no quorum.
#[test]
fn a_single_try_does_not_wait_for_nodes_without_a_quorum() {
    let world = World::of(2);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("redis://{}", silent.local_addr().expect("an address"));
    let closed = ["redis://127.0.0.1:1", "redis://127.0.0.1:2"];
    let nodes = [closed[0], closed[1], &silent].join(",");
    let began = now();
    let once = world.output(&["run", "a", "-n", "--dial-timeout", "20s", "--nodes", &nodes, "--", "true"]);
    assert_eq!(once.code, Some(69), "{once:?}");
    assert!(once.stderr.contains("127.0.0.1:1, 127.0.0.1:2: connection refused"), "{once:?}");
    assert!(now() - began < 10_000, "{} ms", now() - began);
    // One unreachable node and two that reply are enough.
    let nodes = format!("{},{}", closed[0], world.fleet.nodes());
    let acquired = world.output(&["run", "a", "-n", "--mode", "plain", "--nodes", &nodes, "--", "true"]);
    assert_eq!(acquired.code, Some(0), "{acquired:?}");
}

fn stderr_text(world: &World) -> String {
    fs::read_to_string(world.file("stderr")).expect("text")
}
