//! After the command's end: processes that it left running, and an unconfirmed release.

use std::time::Duration;

use quorlock_chaos::Server;

use crate::processes::all;
use crate::world::{World, is_alive, now, output_of, wait_until};

const FOREGROUND_OPTIONS: [&[&str]; 2] = [&[], &["--foreground"]];

#[test]
fn leftover_processes_get_term_and_a_grace_period() {
    for options in FOREGROUND_OPTIONS {
        let world = World::of(3);
        // One worker in a new session, one in a new group, one in the command's group.
        world.write(
            "worker",
            "trap 'sleep 0.5; echo bye >> log; exit 0' TERM; echo $$ >> up; while :; do sleep 0.02; done",
        );
        let script = "sh worker & setsid sh worker & (timeout 60 sh worker &)
            while [ \"$(wc -l < up)\" -lt 3 ]; do sleep 0.02; done 2>/dev/null; exit 4";
        let output = world.output(&[&["run"], options, &["a", "--", "sh", "-c", script]].concat());
        assert_eq!(output.code, Some(4), "{options:?}: {output:?}");
        assert_eq!(world.read("log"), "bye\nbye\nbye\n", "{options:?}: {output:?}");
        // Shells print other lines about processes that a signal ended.
        let messages: Vec<_> = output.stderr.lines().filter(|line| line.starts_with("quorlock: ")).collect();
        assert!(matches!(messages[..], [line] if line.contains("still running")), "{options:?}: {output:?}");
        assert_eq!(world.running(), [], "{options:?}");
        assert_eq!(world.key_count("a"), 0);
    }
}

#[test]
fn the_message_about_leftover_processes_has_their_number_and_names() {
    let world = World::of(3);
    let script = "sleep 61 & sleep 62 & sleep 63 & exit 0";
    let output = world.output(&["run", "a", "--", "sh", "-c", script]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    assert!(output.stderr.contains("3 processes") && output.stderr.contains("sleep"), "{output:?}");
    let output = world.output(&["run", "a", "--", "sh", "-c", "sleep 61 & exit 0"]);
    assert!(output.stderr.contains("1 process ") && output.stderr.contains("sleep"), "{output:?}");
}

#[test]
fn leftover_processes_that_ignore_term_are_killed_after_the_grace_period() {
    for options in FOREGROUND_OPTIONS {
        let world = World::of(3);
        world.write(
            "stubborn",
            "trap '' TERM HUP; echo $$ > pid; while :; do echo >> proof; sleep 0.02; done",
        );
        let script =
            "setsid sh stubborn & while [ ! -e proof ]; do sleep 0.02; done; date +%s%3N > ended; exit 4";
        let args = [&["run", "--kill-after", "1s"], options, &["a", "--", "sh", "-c", script]].concat();
        let output = world.output(&args);
        let elapsed = now() - world.read("ended").trim().parse::<u64>().expect("a time");
        assert_eq!(output.code, Some(4), "{output:?}");
        assert!(!is_alive(world.read_pid("pid")), "{options:?}: {output:?}");
        assert!((900..6000).contains(&elapsed), "{options:?}: {elapsed} ms");
        assert_eq!(output.stderr.lines().count(), 1, "{options:?}: {output:?}");
        assert_eq!(world.key_count("a"), 0);
    }
}

#[test]
fn the_lock_is_held_until_no_process_is_left() {
    let world = World::of(3);
    world.write("slow", "trap 'echo > got-term' TERM; touch up; while [ ! -e enough ]; do sleep 0.02; done");
    let script = "sh slow & while [ ! -e up ]; do sleep 0.02; done; exit 4";
    let args = ["run", "--ttl", "2s", "--kill-after", "20s", "a", "--", "sh", "-c", script];
    let run = world.quorlock(&args).spawn().expect("a process");
    wait_until("the leftover process got TERM", || world.has_file("got-term"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(
        world.output(&["run", "-n", "a", "--", "true"]).code,
        Some(75),
        "the lock was not renewed meanwhile"
    );
    world.write("enough", "");
    assert_eq!(output_of(run).code, Some(4));
}

#[test]
fn without_leftover_processes_there_is_no_message_and_no_delay() {
    let world = World::of(3);
    for options in FOREGROUND_OPTIONS {
        let args =
            [&["run"], options, &["a", "--", "sh", "-c", "sleep 0.05 & wait; date +%s%3N > ended"]].concat();
        // The shortest of five, because the machine is shared.
        let elapsed = (0..5).map(|_| {
            let output = world.output(&args);
            let elapsed = now() - world.read("ended").trim().parse::<u64>().expect("a time");
            assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{options:?}");
            elapsed
        });
        let elapsed = elapsed.min().expect("a time");
        assert!(elapsed < 400, "{options:?}: {elapsed} ms");
    }
}

#[test]
fn a_release_that_no_node_confirms_is_reported() {
    let world = World::of(3);
    let script = "touch began; while [ ! -e enough ]; do sleep 0.02; done; exit 6";
    let run = world.quorlock(&["run", "a", "--", "sh", "-c", script]).spawn().expect("a process");
    wait_until("the command runs", || world.has_file("began"));
    for server in world.fleet.servers() {
        server.command::<()>(&["CLIENT", "PAUSE", "4000", "ALL"]).expect("a reply");
    }
    world.write("enough", "");
    let output = output_of(run);
    assert_eq!(output.code, Some(6), "the command's exit code counts: {output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    assert!(output.stderr.starts_with("quorlock: ") && output.stderr.contains("release"), "{output:?}");
}

#[test]
fn after_a_loss_run_ends_with_its_command() {
    let mut world = World::of(3);
    let script = "trap 'date +%s%3N > ended; exit 0' TERM; touch began; while :; do sleep 0.02; done";
    let args = ["run", "--ttl", "3s", "a", "--", "sh", "-c", script];
    let run = world.quorlock(&args).spawn().expect("a process");
    wait_until("the command runs", || world.has_file("began"));
    world.fleet.servers_mut().iter_mut().for_each(Server::pause);
    let output = output_of(run);
    let elapsed = now() - world.read("ended").trim().parse::<u64>().expect("a time");
    assert_eq!(output.code, Some(70), "{output:?}");
    assert!(elapsed < 1500, "{elapsed} ms after its command: {output:?}");
}

#[test]
fn no_zombie_and_no_helper_stays() {
    let world = World::of(3);
    let run =
        world.quorlock(&["run", "a", "--", "sh", "-c", "sleep 0.1 & exit 0"]).spawn().expect("a process");
    let number = run.id() as i32;
    assert_eq!(output_of(run).code, Some(0));
    assert!(!all().iter().any(|it| it.parent == number));
    assert_eq!(world.running(), []);
}
