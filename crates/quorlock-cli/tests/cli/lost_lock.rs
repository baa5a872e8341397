//! Loss of the lock, or of `run` itself: no process of the command lives past the deadline.

use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::world::{World, is_alive, modified_at, now, output_of, send, wait, wait_until};

/// A command with a child. Both ignore TERM, and append to a file every 10 ms.
const STUBBORN: &str = "
    trap '' TERM
    (while :; do echo >> proof; sleep 0.01; done) & echo $! > grandchild
    echo $$ > leader
    while :; do echo >> proof; sleep 0.01; done";

struct Stubborn {
    run: Child,
    leader: Pid,
    grandchild: Pid,
}

impl Stubborn {
    fn start(world: &World, options: &[&str]) -> Self {
        let args = [&["run", "a"], options, &["--", "sh", "-c", STUBBORN]].concat();
        let run = world.quorlock(&args).spawn().expect("a process");
        let (leader, grandchild) = (world.read_pid("leader"), world.read_pid("grandchild"));
        wait_until("the command is at work", || world.has_file("proof"));
        Self { run, leader, grandchild }
    }

    fn is_alive(&self) -> bool {
        is_alive(self.leader) || is_alive(self.grandchild)
    }
}

fn pause_all(world: &mut World) {
    for server in world.fleet.servers_mut() {
        server.pause();
    }
}

#[test]
fn when_no_node_replies_the_whole_group_is_dead_before_the_deadline() {
    let mut world = World::of(3);
    let command = Stubborn::start(&world, &["--ttl", "3s"]);
    pause_all(&mut world);
    // No renewal begins after this, so no deadline is later.
    let deadline = now() + 3000;
    wait_until("the group is dead", || !command.is_alive());
    assert!(modified_at(&world.file("proof")) < deadline, "a process lived past the deadline");
    let output = output_of(command.run);
    assert_eq!(output.code, Some(70), "{output:?}");
}

#[test]
fn a_command_that_handles_term_has_its_grace_period() {
    let mut world = World::of(3);
    let script = "trap 'echo put away; exit 0' TERM; touch ready; while :; do sleep 0.02; done";
    let args = ["run", "a", "--ttl", "3s", "--", "sh", "-c", script];
    let run = world.quorlock(&args).spawn().expect("a process");
    wait_until("the command is ready", || world.has_file("ready"));
    pause_all(&mut world);
    let output = output_of(run);
    assert_eq!((output.code, output.stdout.as_str()), (Some(70), "put away\n"), "{output:?}");
}

#[test]
fn a_short_pause_of_all_nodes_does_no_harm() {
    let mut world = World::of(3);
    let args = [
        "run",
        "a",
        "--ttl",
        "9s",
        "--kill-after",
        "1s",
        "--",
        "sh",
        "-c",
        "touch ready; sleep 12; echo fine",
    ];
    let run = world.quorlock(&args).spawn().expect("a process");
    wait_until("the command is ready", || world.has_file("ready"));
    pause_all(&mut world);
    sleep(Duration::from_secs(4));
    for server in world.fleet.servers_mut() {
        server.resume();
    }
    let output = output_of(run);
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "fine\n"), "{output:?}");
}

#[test]
fn a_lock_taken_by_others_ends_the_command_early() {
    let world = World::of(3);
    let command = Stubborn::start(&world, &["--ttl", "30s", "--kill-after", "0s"]);
    world.set_other_owner("a");
    let taken_at = now();
    let output = output_of(command.run);
    assert_eq!(output.code, Some(70), "{output:?}");
    assert!(now() < taken_at + 25_000, "only the deadline ended the command");
    assert!(!is_alive(command.leader) && !is_alive(command.grandchild));
    assert_eq!(world.key_count("a"), 3, "keys of the other owner were deleted");
}

#[test]
fn the_group_ends_with_a_killed_run() {
    let world = World::with_max_ttl(3, "10min");
    let mut command = Stubborn::start(&world, &["--ttl", "10min"]);
    send(&command.run, Signal::KILL);
    wait(&mut command.run);
    wait_until("the group is dead", || !command.is_alive());
}

#[test]
fn in_the_foreground_the_command_ends_with_a_killed_run() {
    let world = World::with_max_ttl(3, "10min");
    let args =
        ["run", "a", "--ttl", "10min", "--foreground", "--", "sh", "-c", "echo $$ > leader; exec sleep 600"];
    let mut run = world.quorlock(&args).spawn().expect("a process");
    let leader = world.read_pid("leader");
    send(&run, Signal::KILL);
    wait(&mut run);
    wait_until("the command is dead", || !is_alive(leader));
}

#[test]
fn the_group_is_dead_before_the_deadline_though_run_is_stopped() {
    let world = World::of(3);
    let command = Stubborn::start(&world, &["--ttl", "2s"]);
    send(&command.run, Signal::STOP);
    let deadline = now() + 2000;
    wait_until("the group is dead", || !command.is_alive());
    assert!(modified_at(&world.file("proof")) < deadline, "a process lived past the deadline");
    send(&command.run, Signal::CONT);
    let output = output_of(command.run);
    assert_eq!(output.code, Some(70), "{output:?}");
}

#[test]
fn in_the_foreground_the_command_is_dead_before_the_deadline_too() {
    let mut world = World::of(3);
    let script = "trap '' TERM; touch ready; while :; do echo >> proof; sleep 0.01; done";
    let args = ["run", "a", "--ttl", "2s", "--foreground", "--", "sh", "-c", script];
    let run = world.quorlock(&args).spawn().expect("a process");
    wait_until("the command is ready", || world.has_file("ready"));
    pause_all(&mut world);
    let deadline = now() + 2000;
    let output = output_of(run);
    assert_eq!(output.code, Some(70), "{output:?}");
    assert!(modified_at(&world.file("proof")) < deadline, "a process lived past the deadline");
}

#[test]
fn a_lock_stolen_meanwhile_is_reported_at_the_end() {
    let world = World::of(3);
    let script = "touch began; while [ ! -e enough ]; do sleep 0.02; done";
    let child =
        world.quorlock(&["run", "a", "--ttl", "30s", "--", "sh", "-c", script]).spawn().expect("a process");
    wait_until("the command runs", || world.has_file("began"));
    world.set_other_owner("a");
    std::fs::write(world.file("enough"), "").expect("a file");
    let output = output_of(child);
    assert_eq!(output.code, Some(70), "no renewal ran, so only the release detects the loss: {output:?}");
    assert!(output.stderr.starts_with("quorlock: lock \"a\": lost"), "{output:?}");
}
