//! Shells under a lock, and nested locks: the terminal is lent down the chain and returned.

use rustix::process::Signal;

use crate::programs::READ_REPLY;
use crate::terminal::{CTRL_C, CTRL_Z, PROMPT, Terminal};
use crate::world::{World, wait_until};

/// The prompt of the inner shell.
const INNER: &str = "<inner> ";

#[test]
fn a_shell_with_jobs_of_its_own_works_under_a_lock() {
    let world = World::of(3);
    let mut terminal = Terminal::bash(&world);
    terminal.type_line("PS1='<inn''er> ' quorlock run --ttl 5s a -- bash --norc --noprofile -i");
    terminal.wait_for(INNER);
    terminal.type_line("sh -c 'echo began >> began; exec sleep 60'");
    wait_until("the job runs", || world.has_file("began"));
    terminal.type_keys(CTRL_Z);
    terminal.wait_for("Stopped");
    terminal.wait_for(INNER);
    let run = terminal.run();
    assert!(!run.is_stopped(), "the inner shell's job was stopped, so run must not stop");
    terminal.type_line("fg");
    terminal.wait_for("sleep 60");
    terminal.type_keys(CTRL_C);
    terminal.wait_for(INNER);
    terminal.type_line("echo inside=$?.");
    terminal.wait_for("inside=130");
    terminal.wait_for(INNER);
    assert_eq!(world.key_count("a"), 3);
    terminal.type_line("exit 9");
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.last_exit_code(), 9);
    assert_eq!(world.key_count("a"), 0);
}

#[test]
fn a_shell_that_is_killed_leaves_the_terminal_to_the_one_above() {
    let world = World::of(3);
    let mut terminal = Terminal::bash(&world);
    terminal.type_line("PS1='<inn''er> ' quorlock run a -- bash --norc --noprofile -i");
    terminal.wait_for(INNER);
    // The inner job has the terminal, in a group that only the inner shell knows.
    terminal.type_line("sh -c 'echo began >> began; exec sleep 60'");
    wait_until("the job runs", || world.has_file("began"));
    let inner = terminal
        .running()
        .into_iter()
        .find(|it| it.command_line() == "bash --norc --noprofile -i" && it.pid != terminal.leader());
    inner.expect("the inner shell").send(Signal::KILL);
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.last_exit_code(), 137);
    assert!(!terminal.running().iter().any(|it| it.comm == "sleep"), "the job outlived its shell");
    assert_eq!(world.key_count("a"), 0);
}

#[test]
fn a_lock_under_a_lock_has_the_terminal_too() {
    let world = World::of(3);
    world.write("prompt", READ_REPLY);
    let mut terminal = Terminal::bash(&world);
    for line in [
        "quorlock run --ttl 30s a -- quorlock run --ttl 30s b -- bash prompt",
        "quorlock run --ttl 30s a -- quorlock run --ttl 30s --foreground b -- bash prompt",
        "quorlock run --ttl 30s --foreground a -- quorlock run --ttl 30s b -- bash prompt",
        "quorlock run --ttl 30s a -- sh -c 'quorlock run --ttl 30s b -- bash prompt; exit $?'",
    ] {
        terminal.type_line(line);
        terminal.wait_for("Really? ");
        terminal.type_keys(CTRL_Z);
        terminal.wait_for("Stopped");
        terminal.wait_for(PROMPT);
        terminal.type_line("fg");
        terminal.wait_for("bash prompt");
        terminal.type_line("yes");
        terminal.wait_for("read: yes");
        terminal.wait_for(PROMPT);
        assert_eq!(terminal.last_exit_code(), 4, "{line}");
        assert_eq!(world.key_count("a") + world.key_count("b"), 0, "{line}");
        terminal.type_line(&format!("while :; do {line}; done"));
        terminal.wait_for("Really? ");
        terminal.type_keys(CTRL_C);
        terminal.wait_for(PROMPT);
        assert_eq!(terminal.last_exit_code(), 130, "{line}");
        assert_eq!(world.key_count("a") + world.key_count("b"), 0, "{line}");
    }
}

#[test]
fn a_command_that_does_not_stop_for_ctrl_z_goes_on_alone() {
    let world = World::of(3);
    let mut terminal = Terminal::bash(&world);
    world.write("stubborn", "trap '' TSTP; touch began; while [ ! -e enough ]; do sleep 0.02; done; exit 6");
    terminal.type_line("quorlock run --ttl 5s a -- sh stubborn");
    wait_until("the command runs", || world.has_file("began"));
    terminal.type_keys(CTRL_Z);
    // It would not be if run were stopped, too.
    world.wait_until_renewed("a");
    world.write("enough", "");
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.last_exit_code(), 6);
}
