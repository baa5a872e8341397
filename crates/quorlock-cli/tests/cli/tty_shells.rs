//! Shells under a lock, and a lock under a lock: the terminal passes down and comes back up.

use rustix::process::Signal;

use crate::programs::ASK;
use crate::terminal::{CTRL_C, CTRL_Z, PROMPT, Terminal};
use crate::world::{World, until};

/// The prompt of a shell in the shell.
const INNER: &str = "<inner> ";

#[test]
fn a_shell_with_jobs_of_its_own_works_under_a_lock() {
    let world = World::of(3);
    let mut terminal = Terminal::bash(&world);
    terminal.line("PS1='<inn''er> ' quorlock run --ttl 5s a -- bash --norc --noprofile -i");
    terminal.until(INNER);
    terminal.line("sh -c 'echo began >> began; exec sleep 60'");
    until("the job runs", || world.has("began"));
    terminal.type_keys(CTRL_Z);
    terminal.until("Stopped");
    terminal.until(INNER);
    let run = terminal.run();
    assert!(!run.is_stopped(), "the job was stopped, and the shell over it was not");
    terminal.line("fg");
    terminal.until("sleep 60");
    terminal.type_keys(CTRL_C);
    terminal.until(INNER);
    terminal.line("echo inside=$?.");
    terminal.until("inside=130");
    terminal.until(INNER);
    assert_eq!(world.keys("a"), 3);
    terminal.line("exit 9");
    terminal.until(PROMPT);
    assert_eq!(terminal.status(), 9);
    assert_eq!(world.keys("a"), 0);
}

#[test]
fn a_shell_that_is_killed_leaves_the_terminal_to_the_one_above() {
    let world = World::of(3);
    let mut terminal = Terminal::bash(&world);
    terminal.line("PS1='<inn''er> ' quorlock run a -- bash --norc --noprofile -i");
    terminal.until(INNER);
    // The job inside has the terminal, in a group that only that shell knows.
    terminal.line("sh -c 'echo began >> began; exec sleep 60'");
    until("the job runs", || world.has("began"));
    let inner = terminal
        .running()
        .into_iter()
        .find(|it| it.words() == "bash --norc --noprofile -i" && it.pid != terminal.leader());
    inner.expect("the shell inside").send(Signal::KILL);
    terminal.until(PROMPT);
    assert_eq!(terminal.status(), 137);
    assert!(!terminal.running().iter().any(|it| it.comm == "sleep"), "the job went with its shell");
    assert_eq!(world.keys("a"), 0);
}

#[test]
fn a_lock_under_a_lock_has_the_terminal_too() {
    let world = World::of(3);
    world.write("ask", ASK);
    let mut terminal = Terminal::bash(&world);
    for line in [
        "quorlock run --ttl 30s a -- quorlock run --ttl 30s b -- bash ask",
        "quorlock run --ttl 30s a -- quorlock run --ttl 30s --foreground b -- bash ask",
        "quorlock run --ttl 30s --foreground a -- quorlock run --ttl 30s b -- bash ask",
        "quorlock run --ttl 30s a -- sh -c 'quorlock run --ttl 30s b -- bash ask; exit $?'",
    ] {
        terminal.line(line);
        terminal.until("Really? ");
        terminal.type_keys(CTRL_Z);
        terminal.until("Stopped");
        terminal.until(PROMPT);
        terminal.line("fg");
        terminal.until("bash ask");
        terminal.line("yes");
        terminal.until("told: yes");
        terminal.until(PROMPT);
        assert_eq!(terminal.status(), 4, "{line}");
        assert_eq!(world.keys("a") + world.keys("b"), 0, "{line}");
        terminal.line(&format!("while :; do {line}; done"));
        terminal.until("Really? ");
        terminal.type_keys(CTRL_C);
        terminal.until(PROMPT);
        assert_eq!(terminal.status(), 130, "{line}");
        assert_eq!(world.keys("a") + world.keys("b"), 0, "{line}");
    }
}

#[test]
fn a_command_that_does_not_stop_for_ctrl_z_goes_on_alone() {
    let world = World::of(3);
    let mut terminal = Terminal::bash(&world);
    world.write("deaf", "trap '' TSTP; touch began; while [ ! -e enough ]; do sleep 0.02; done; exit 6");
    terminal.line("quorlock run --ttl 2s a -- sh deaf");
    until("the command runs", || world.has("began"));
    terminal.type_keys(CTRL_Z);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(world.keys("a"), 3, "run was not stopped: its command was not");
    world.write("enough", "");
    terminal.until(PROMPT);
    assert_eq!(terminal.status(), 6);
}
