//! The end of a command: what it leaves running, and a release that is not confirmed.

use std::time::Duration;

use quorlock_chaos::Server;

use crate::processes::all;
use crate::world::{World, end_of, is_alive, now, until};

const EITHER_WAY: [&[&str]; 2] = [&[], &["--foreground"]];

#[test]
fn leftover_processes_get_term_and_a_grace_period() {
    for options in EITHER_WAY {
        let world = World::of(3);
        // Each in a group or a session of its own, and one in neither.
        world.write(
            "worker",
            "trap 'sleep 0.5; echo bye >> heard; exit 0' TERM; echo $$ >> up; while :; do sleep 0.02; done",
        );
        let script = "sh worker & setsid sh worker & (timeout 60 sh worker &)
            while [ \"$(wc -l < up)\" -lt 3 ]; do sleep 0.02; done 2>/dev/null; exit 4";
        let end = world.end(&[&["run"], options, &["a", "--", "sh", "-c", script]].concat());
        assert_eq!(end.code, Some(4), "{options:?}: {end:?}");
        assert_eq!(world.read("heard"), "bye\nbye\nbye\n", "{options:?}: {end:?}");
        // Shells have words of their own for what ends by a signal.
        let said: Vec<_> = end.err.lines().filter(|line| line.starts_with("quorlock: ")).collect();
        assert!(matches!(said[..], [line] if line.contains("still running")), "{options:?}: {end:?}");
        assert_eq!(world.running(), [], "{options:?}");
        assert_eq!(world.keys("a"), 0);
    }
}

#[test]
fn the_message_about_leftover_processes_has_their_number_and_names() {
    let world = World::of(3);
    let script = "sleep 61 & sleep 62 & sleep 63 & exit 0";
    let end = world.end(&["run", "a", "--", "sh", "-c", script]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(end.err.lines().count(), 1, "{end:?}");
    assert!(end.err.contains("3 processes") && end.err.contains("sleep"), "{end:?}");
    let end = world.end(&["run", "a", "--", "sh", "-c", "sleep 61 & exit 0"]);
    assert!(end.err.contains("1 process ") && end.err.contains("sleep"), "{end:?}");
}

#[test]
fn leftover_processes_that_ignore_term_are_killed_after_the_grace_period() {
    for options in EITHER_WAY {
        let world = World::of(3);
        world.write("deaf", "trap '' TERM HUP; echo $$ > pid; while :; do echo >> proof; sleep 0.02; done");
        let script =
            "setsid sh deaf & while [ ! -e proof ]; do sleep 0.02; done; date +%s%3N > ended; exit 4";
        let args = [&["run", "--kill-after", "1s"], options, &["a", "--", "sh", "-c", script]].concat();
        let end = world.end(&args);
        let took = now() - world.read("ended").trim().parse::<u64>().expect("a time");
        assert_eq!(end.code, Some(4), "{end:?}");
        assert!(!is_alive(world.pid_in("pid")), "{options:?}: {end:?}");
        assert!((900..6000).contains(&took), "{options:?}: {took} ms");
        assert_eq!(end.err.lines().count(), 1, "{options:?}: {end:?}");
        assert_eq!(world.keys("a"), 0);
    }
}

#[test]
fn the_lock_is_held_until_no_process_is_left() {
    let world = World::of(3);
    world.write("slow", "trap 'echo > told' TERM; touch up; while [ ! -e enough ]; do sleep 0.02; done");
    let script = "sh slow & while [ ! -e up ]; do sleep 0.02; done; exit 4";
    let args = ["run", "--ttl", "2s", "--kill-after", "20s", "a", "--", "sh", "-c", script];
    let run = world.quorlock(&args).spawn().expect("a process");
    until("what is left was told to end", || world.has("told"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(world.end(&["run", "-n", "a", "--", "true"]).code, Some(75), "it is renewed meanwhile");
    world.write("enough", "");
    assert_eq!(end_of(run).code, Some(4));
}

#[test]
fn without_leftover_processes_there_is_no_message_and_no_delay() {
    let world = World::of(3);
    for options in EITHER_WAY {
        let args =
            [&["run"], options, &["a", "--", "sh", "-c", "sleep 0.05 & wait; date +%s%3N > ended"]].concat();
        // The best of some, for the machine is shared.
        let took = (0..5).map(|_| {
            let end = world.end(&args);
            let took = now() - world.read("ended").trim().parse::<u64>().expect("a time");
            assert_eq!((end.code, end.err.as_str()), (Some(0), ""), "{options:?}");
            took
        });
        let took = took.min().expect("a time");
        assert!(took < 400, "{options:?}: {took} ms");
    }
}

#[test]
fn a_release_that_no_node_confirms_is_reported() {
    let world = World::of(3);
    let script = "touch began; while [ ! -e enough ]; do sleep 0.02; done; exit 6";
    let run = world.quorlock(&["run", "a", "--", "sh", "-c", script]).spawn().expect("a process");
    until("the command runs", || world.has("began"));
    for server in world.fleet.servers() {
        server.command::<()>(&["CLIENT", "PAUSE", "4000", "ALL"]).expect("an answer");
    }
    world.write("enough", "");
    let end = end_of(run);
    assert_eq!(end.code, Some(6), "the command did its work: {end:?}");
    assert_eq!(end.err.lines().count(), 1, "{end:?}");
    assert!(end.err.starts_with("quorlock: ") && end.err.contains("release"), "{end:?}");
}

#[test]
fn after_a_loss_run_ends_with_its_command() {
    let mut world = World::of(3);
    let script = "trap 'date +%s%3N > ended; exit 0' TERM; touch began; while :; do sleep 0.02; done";
    let args = ["run", "--ttl", "3s", "a", "--", "sh", "-c", script];
    let run = world.quorlock(&args).spawn().expect("a process");
    until("the command runs", || world.has("began"));
    world.fleet.servers_mut().iter_mut().for_each(Server::pause);
    let end = end_of(run);
    let took = now() - world.read("ended").trim().parse::<u64>().expect("a time");
    assert_eq!(end.code, Some(70), "{end:?}");
    assert!(took < 1500, "{took} ms after its command: {end:?}");
}

#[test]
fn no_zombie_and_no_helper_stays() {
    let world = World::of(3);
    let run =
        world.quorlock(&["run", "a", "--", "sh", "-c", "sleep 0.1 & exit 0"]).spawn().expect("a process");
    let number = run.id() as i32;
    assert_eq!(end_of(run).code, Some(0));
    assert!(!all().iter().any(|it| it.parent == number));
    assert_eq!(world.running(), []);
}
