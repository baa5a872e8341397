//! `run` in normal operation: the lock, the command's environment, signals, and the end.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::thread;

use rustix::process::Signal;

use crate::world::{World, is_alive, output_of, send, wait_until};

#[test]
fn the_lock_is_held_while_the_command_runs_and_gone_from_every_node_after() {
    let world = World::of(5);
    let script = "touch began; while [ ! -e enough ]; do sleep 0.02; done";
    let child = world.quorlock(&["run", "a", "--", "sh", "-c", script]).spawn().expect("a process");
    wait_until("the command runs", || world.has_file("began"));
    wait_until("the slower nodes have the key too", || world.key_count("a") == 5);
    assert_eq!(world.output(&["run", "a", "-n", "--", "true"]).code, Some(75));
    fs::write(world.file("enough"), "").expect("a file");
    assert_eq!(output_of(child).code, Some(0));
    assert_eq!(world.key_count("a"), 0);
}

#[test]
fn a_lock_outlives_its_ttl_while_the_command_runs() {
    let world = World::of(3);
    let args = ["run", "a", "--ttl", "600ms", "--", "sh", "-c", "touch began; sleep 2; echo done"];
    let child = world.quorlock(&args).spawn().expect("a process");
    wait_until("the command runs", || world.has_file("began"));
    thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(world.output(&["run", "a", "-n", "--", "true"]).code, Some(75));
    let output = output_of(child);
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "done\n"), "{output:?}");
}

#[test]
fn two_commands_of_one_name_run_one_after_the_other() {
    let world = World::of(3);
    let script = "mkdir here || echo overlap >> bad; sleep 0.03; rmdir here; echo x >> runs";
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let output = world.output(&["run", "a", "--", "sh", "-c", script]);
                    assert_eq!(output.code, Some(0), "{output:?}");
                }
            });
        }
    });
    assert!(!world.has_file("bad"), "two commands ran at once");
    assert_eq!(fs::read_to_string(world.file("runs")).expect("a file").lines().count(), 16);
}

#[test]
fn stdin_and_stdout_belong_to_the_command() {
    let world = World::of(3);
    for more in [&[][..], &["--foreground"]] {
        let args = [&["run", "a"], more, &["--", "cat"]].concat();
        let mut child = world.quorlock(&args).stdin(Stdio::piped()).spawn().expect("a process");
        child.stdin.take().expect("a pipe").write_all(b"one\ntwo\n").expect("a reader");
        let output = output_of(child);
        assert_eq!(
            (output.code, output.stdout.as_str(), output.stderr.as_str()),
            (Some(0), "one\ntwo\n", "")
        );
    }
}

#[test]
fn the_command_knows_the_name() {
    let world = World::of(3);
    let output = world.output(&["run", "orders:42", "--", "sh", "-c", "echo $QUORLOCK_LOCK_NAME"]);
    assert_eq!(output.stdout, "orders:42\n");
}

#[test]
fn signals_reach_the_command_and_its_exit_code_counts() {
    let world = World::of(3);
    let script =
        "trap 'echo got; exit 5' INT TERM HUP QUIT USR1 USR2; touch ready; while :; do sleep 0.02; done";
    for more in [&[][..], &["--foreground"]] {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2] {
            let args = [&["run", "a"], more, &["--", "sh", "-c", script]].concat();
            let child = world.quorlock(&args).spawn().expect("a process");
            wait_until("the command is ready", || world.has_file("ready"));
            fs::remove_file(world.file("ready")).expect("a file");
            send(&child, signal);
            let output = output_of(child);
            assert_eq!(
                (output.code, output.stdout.as_str()),
                (Some(5), "got\n"),
                "{signal:?} {more:?}: {output:?}"
            );
        }
    }
    assert_eq!(world.key_count("a"), 0);
}

#[test]
fn an_ignored_hang_up_stays_ignored() {
    let world = World::of(3);
    let program = env!("CARGO_BIN_EXE_quorlock");
    let inner = "touch ready; while [ ! -e enough ]; do sleep 0.02; done; exit 3";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh", program, "run", "a", "--", "sh", "-c", inner]);
    command.env("QUORLOCK_NODES", world.fleet.nodes()).current_dir(world.file("")).stdin(Stdio::null());
    let child = command.spawn().expect("a process");
    wait_until("the command is ready", || world.has_file("ready"));
    send(&child, Signal::HUP);
    fs::write(world.file("enough"), "").expect("a file");
    assert_eq!(output_of(child).code, Some(3));
}

#[test]
fn a_signal_ends_the_waiting_and_nothing_is_left_behind() {
    let world = World::of(3);
    // One node of three has no key, so every attempt sets a key there and must release it.
    world.fleet[0].command::<()>(&["SET", "a", "another owner", "PX", "600000"]).expect("a key");
    world.fleet[1].command::<()>(&["SET", "a", "another owner", "PX", "600000"]).expect("a key");
    // Reset, because initialization has counted SET commands.
    world.fleet[2].command::<()>(&["CONFIG", "RESETSTAT"]).expect("a reply");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let child = world.quorlock(&["run", "a", "--", "touch", "ran"]).spawn().expect("a process");
        wait_until("run has made an attempt", || {
            let stats: String = world.fleet[2].command(&["INFO", "commandstats"]).expect("a reply");
            stats.contains("cmdstat_set:")
        });
        send(&child, signal);
        assert_eq!(output_of(child).code, Some(code));
        assert_eq!(world.key_count("a"), 2, "a key of the cancelled attempt is left");
        world.fleet[2].command::<()>(&["CONFIG", "RESETSTAT"]).expect("a reply");
    }
    assert!(!world.has_file("ran"));
}

#[test]
fn processes_that_the_command_leaves_running_end_with_it() {
    let world = World::of(3);
    let script = "trap '' TERM; (while :; do sleep 0.05; done) & echo $! > left; exit 4";
    let output = world.output(&["run", "a", "--kill-after", "500ms", "--", "sh", "-c", script]);
    assert_eq!(output.code, Some(4), "{output:?}");
    assert!(!is_alive(world.read_pid("left")), "the leftover process outlived the release");
}

#[test]
fn waiting_outlasts_missing_nodes() {
    // The returning nodes are on probation for the max ttl. One of them alone is not enough: of the two others, one is
    // down, so no majority of the members remembers the roster.
    let mut world = World::with_max_ttl(3, "1s");
    world.fleet[0].kill();
    world.fleet[1].kill();
    let child = world.quorlock(&["run", "a", "--", "true"]).spawn().expect("a process");
    thread::sleep(std::time::Duration::from_millis(300));
    world.fleet[0].restart(quorlock_chaos::Data::Kept).expect("a server");
    thread::sleep(std::time::Duration::from_millis(300));
    world.fleet[1].restart(quorlock_chaos::Data::Kept).expect("a server");
    let output = output_of(child);
    assert_eq!(output.code, Some(0), "{output:?}");
}
