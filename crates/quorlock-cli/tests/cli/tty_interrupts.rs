//! Interrupts (Ctrl-C, Ctrl-\), typed or sent: each reaches the command once, and ends a loop around `run`.

use std::os::unix::process::ExitStatusExt as _;

use rustix::process::Signal;

use crate::processes::Process;
use crate::programs::LISTENER;
use crate::terminal::{CTRL_BACKSLASH, CTRL_C, PROMPT, Terminal};
use crate::world::{World, wait_until};

/// Command lines with stdin, stdout and process group in all combinations.
const COMMAND_LINES: [&str; 6] = [
    "quorlock run a -- python3 listener INT USR1",
    "echo x | quorlock run a -- python3 listener INT USR1",
    "quorlock run a -- python3 listener INT USR1 | cat",
    "quorlock run --foreground a -- python3 listener INT USR1",
    "echo x | quorlock run --foreground a -- python3 listener INT USR1",
    "quorlock run --foreground a -- python3 listener INT USR1 | cat",
];

/// Interrupts the listener in each command line, and checks that it receives INT once.
#[track_caller]
fn check_received_once(interrupt: impl Fn(&Terminal, &Process)) {
    let world = World::of(3);
    world.write("listener", LISTENER);
    for line in COMMAND_LINES {
        let mut terminal = Terminal::bash(&world);
        terminal.type_line(line);
        wait_until("the listener is ready", || world.read("signals") == "READY\n");
        let run = terminal.run();
        interrupt(&terminal, &run);
        wait_until("the listener receives INT", || world.read("signals").contains("INT"));
        // Signals stay in order, so after USR1 no further INT can arrive.
        run.send(Signal::USR1);
        wait_until("the listener receives USR1", || world.read("signals").contains("USR1"));
        run.send(Signal::TERM);
        terminal.wait_for(PROMPT);
        let received = world.read("signals");
        assert_eq!(received.matches("INT").count(), 1, "{line}: {received}");
        std::fs::remove_file(world.file("signals")).expect("a file");
        world.wait_until_free("a");
    }
}

#[test]
fn a_typed_interrupt_comes_once() {
    check_received_once(|terminal, _| terminal.type_keys(CTRL_C));
}

#[test]
fn an_interrupt_sent_to_run_comes_once() {
    check_received_once(|_, run| run.send(Signal::INT));
}

/// A loop of three commands, of which the second must not start.
const LOOP: &str =
    "for i in 1 2 3; do echo round-$i; quorlock run a -- sh -c 'echo began-$$ >> began; exec sleep 60'; done";

fn until_began(world: &World) {
    wait_until("the command runs", || world.read("began").ends_with('\n'));
}

#[test]
fn an_interrupt_leaves_a_loop_of_an_interactive_shell() {
    let world = World::of(3);
    let mut terminal = Terminal::bash(&world);
    for (line, keys, code) in [
        (LOOP, CTRL_C, 130),
        ("while :; do quorlock run a -- sh -c 'echo began >> began; exec sleep 60'; done", CTRL_C, 130),
        (
            "while :; do quorlock run --foreground a -- sh -c 'echo began >> began; exec sleep 60'; done",
            CTRL_C,
            130,
        ),
        ("quorlock run a -- sh -c 'echo began >> began; exec sleep 60'", CTRL_BACKSLASH, 131),
    ] {
        let _ = std::fs::remove_file(world.file("began"));
        terminal.type_line(line);
        until_began(&world);
        terminal.type_keys(keys);
        terminal.wait_for(PROMPT);
        assert_eq!(terminal.last_exit_code(), code, "{line}");
        assert_eq!(world.read("began").lines().count(), 1, "{line}");
        assert_eq!(world.key_count("a"), 0, "{line}");
    }
}

#[test]
fn an_interrupt_ends_a_script() {
    let world = World::of(3);
    let endless = "while :; do quorlock run a -- sh -c 'echo began >> began; exec sleep 60'; done";
    for shell in ["bash", "sh"] {
        for script in [LOOP, endless, &LOOP.replace("run a", "run --foreground a")] {
            let _ = std::fs::remove_file(world.file("began"));
            let mut terminal = Terminal::script(&world, shell, script);
            until_began(&world);
            terminal.type_keys(CTRL_C);
            let status = terminal.wait_for_end();
            assert_eq!(status.signal(), Some(2), "{shell}: {script}: {status:?}");
            assert_eq!(world.read("began").lines().count(), 1, "{shell}: {script}");
            world.wait_until_free("a");
        }
    }
}

#[test]
fn a_command_that_handles_the_interrupt_lets_the_loop_continue() {
    let world = World::of(3);
    let command = "trap 'exit 0' INT; echo began >> began; while :; do sleep 0.02; done";
    world.write("command", command);
    let script = "for i in 1 2 3; do quorlock run a -- bash command; echo code=$?; done";
    let mut terminal = Terminal::script(&world, "bash", script);
    for round in 1..=3 {
        wait_until("the command runs", || world.read("began").lines().count() == round);
        terminal.type_keys(CTRL_C);
        terminal.wait_for("code=0");
    }
    assert_eq!(terminal.wait_for_end().code(), Some(0));
}

#[test]
fn run_dies_of_the_same_signal_as_its_command() {
    let world = World::of(3);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let script = "echo began >> began; exec sleep 60";
        let mut terminal = Terminal::quorlock(&world, &["run", "a", "--", "sh", "-c", script]);
        until_began(&world);
        terminal.run().send(signal);
        let status = terminal.wait_for_end();
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status:?}");
        assert_eq!(world.key_count("a"), 0, "the lock was not released");
        std::fs::remove_file(world.file("began")).expect("a file");
    }
}

#[test]
fn an_interrupt_while_it_waits_for_the_lock_leaves_the_loop_too() {
    let world = World::of(3);
    world.set_other_owner("a");
    let mut terminal = Terminal::bash(&world);
    terminal.type_line("for i in 1 2 3; do echo round-$i; quorlock run a -- touch ran; done");
    terminal.wait_for("round-1");
    let run = terminal.run();
    wait_until("run waits", || {
        let clients: String = world.fleet[0].command(&["CLIENT", "LIST"]).expect("a reply");
        clients.contains("quorlock")
    });
    terminal.type_keys(CTRL_C);
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.last_exit_code(), 130);
    assert!(!run.is_alive());
    assert!(!terminal.screen().contains("round-2") && !world.has_file("ran"));
}
