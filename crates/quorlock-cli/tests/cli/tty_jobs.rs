//! Job control: a stopped command stops `run`, whose lock then runs out; `fg` in time goes on.
//!
//! What is stopped here loops in `bash`: `sh` may use vfork, and a child of that which is stopped before it has become its
//! program keeps its parent from being stopped, with or without `run`.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use crate::processes::{self, Process, family};
use crate::programs::{ASK, EDITOR};
use crate::terminal::{CTRL_C, CTRL_Z, PROMPT, Terminal};
use crate::world::{World, until};

#[test]
fn a_command_suspended_for_a_moment_goes_on() {
    let world = World::of(3);
    world.write("ask", &format!("echo $$ > pid; {ASK}"));
    for options in ["", "--foreground"] {
        let mut terminal = Terminal::bash(&world);
        terminal.line(&format!("quorlock run --ttl 30s {options} a -- bash ask"));
        terminal.until("Really? ");
        let command = world.process_in("pid");
        let run = terminal.run();
        terminal.type_keys(CTRL_Z);
        terminal.until("Stopped");
        terminal.until(PROMPT);
        assert!(command.is_stopped() && run.is_stopped(), "{options}: the shell was told the truth");
        assert_eq!(world.keys("a"), 3, "{options}");
        terminal.line("fg");
        terminal.until("bash ask");
        until("the command goes on", || !command.is_stopped());
        terminal.line("yes");
        terminal.until("told: yes");
        terminal.until(PROMPT);
        assert_eq!(terminal.status(), 4, "{options}");
        assert_eq!(world.keys("a"), 0, "{options}");
        fs::remove_file(world.file("pid")).expect("a file");
    }
}

#[test]
fn a_command_suspended_for_longer_than_the_ttl_loses_its_lock_and_ends() {
    let world = World::of(3);
    world.write("command", "trap '' TERM; echo $$ > pid; while :; do echo >> proof; sleep 0.02; done");
    for options in ["", "--foreground"] {
        let mut terminal = Terminal::bash(&world);
        terminal.line(&format!("quorlock run --ttl 2s {options} a -- bash command"));
        let command = world.process_in("pid");
        until("the command works", || world.has("proof"));
        terminal.type_keys(CTRL_Z);
        terminal.until("Stopped");
        terminal.until(PROMPT);
        // Nothing renews it.
        world.until_free("a");
        assert_eq!(
            world.end(&["run", "a", "-n", "--", "true"]).code,
            Some(0),
            "{options}: others have their turn"
        );
        until("the command is gone", || !command.is_alive());
        terminal.line("fg");
        terminal.until("lost");
        terminal.until(PROMPT);
        assert_eq!(terminal.status(), 70, "{options}");
        for file in ["pid", "proof"] {
            fs::remove_file(world.file(file)).expect("a file");
        }
    }
}

#[test]
fn a_command_in_the_background_that_reads_is_stopped_and_fg_lets_it_read() {
    let world = World::of(3);
    world.write("ask", ASK);
    for line in ["quorlock run --ttl 30s a -- bash ask &", "quorlock run --ttl 30s a -- bash ask <&0 &"] {
        let mut terminal = Terminal::bash(&world);
        terminal.line(line);
        terminal.until(PROMPT);
        let run = terminal.run();
        until("it is stopped", || run.is_stopped());
        terminal.line("jobs -l");
        terminal.until("tty input");
        terminal.until(PROMPT);
        terminal.line("fg");
        terminal.until("bash ask");
        until("it goes on", || !run.is_stopped());
        terminal.line("yes");
        terminal.until("told: yes");
        terminal.until(PROMPT);
        assert_eq!(terminal.status(), 4, "{line}");
    }
}

#[test]
fn a_command_sent_to_the_background_runs_until_it_reads() {
    let world = World::of(3);
    world.write("ask", &format!("echo $$ > pid; while [ ! -e go ]; do sleep 0.02; done; touch gone; {ASK}"));
    let mut terminal = Terminal::bash(&world);
    terminal.line("quorlock run --ttl 30s a -- bash ask");
    let command = world.process_in("pid");
    let run = terminal.run();
    terminal.type_keys(CTRL_Z);
    terminal.until("Stopped");
    terminal.until(PROMPT);
    terminal.line("bg");
    terminal.until(PROMPT);
    world.write("go", "");
    until("it goes on in the background", || world.has("gone"));
    until("it is stopped when it reads", || run.is_stopped() && command.is_stopped());
    terminal.line("jobs -l");
    terminal.until("tty input");
    terminal.until(PROMPT);
    terminal.line("fg");
    terminal.until("bash ask");
    until("it goes on", || !run.is_stopped());
    terminal.line("yes");
    terminal.until("told: yes");
    terminal.until(PROMPT);
    assert_eq!(terminal.status(), 4);
}

#[test]
fn a_suspended_command_without_a_job_control_shell_continues() {
    let world = World::of(3);
    world
        .write("command", "echo $$ > pid; while [ ! -e enough ]; do echo >> proof; sleep 0.02; done; exit 6");
    let mut terminal = Terminal::quorlock(&world, &["run", "--ttl", "2s", "a", "--", "bash", "command"]);
    let command = world.process_in("pid");
    terminal.type_keys(CTRL_Z);
    // It came, and was undone: the command works for longer than the ttl.
    for _ in 0..3 {
        sleep(Duration::from_secs(1));
        let lines = world.read("proof").len();
        until("the command works", || world.read("proof").len() > lines);
        assert!(command.is_alive());
    }
    assert_eq!(world.keys("a"), 3);
    world.write("enough", "");
    assert_eq!(terminal.end().code(), Some(6));
}

#[test]
fn an_interrupt_ends_a_command_without_a_job_control_shell() {
    let world = World::of(3);
    let mut terminal =
        Terminal::quorlock(&world, &["run", "a", "--", "sh", "-c", "echo $$ > pid; exec sleep 60"]);
    let command = world.process_in("pid");
    terminal.type_keys(CTRL_C);
    let status = terminal.end();
    assert_eq!(status.signal(), Some(2), "{status:?}");
    assert!(!command.is_alive());
    world.until_free("a");
}

#[test]
fn a_command_that_cannot_get_the_terminal_is_ended_with_a_message() {
    let world = World::of(3);
    // A group in the background whose starter is gone: the system stops no member of it.
    let orphan = "import os, subprocess
starter = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == starter:
    pass
os.setpgid(0, 0)
run = subprocess.run(['quorlock', 'run', 'a', '--', 'cat'], stderr=open('said', 'w'))
open('code', 'w').write(f'{run.returncode}\\n')
";
    world.write("orphan", orphan);
    let script = "python3 orphan; while [ ! -e enough ]; do sleep 0.02; done";
    let mut terminal = Terminal::script(&world, "sh", script);
    until("it ends", || world.has("code"));
    let said = world.read("said");
    assert!(said.starts_with("quorlock: ") && said.contains("terminal"), "{said}");
    assert_eq!(world.read("code"), "149\n", "{said}");
    assert_eq!(world.keys("a"), 0);
    world.write("enough", "");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn a_command_stopped_by_another_process_keeps_the_lock_and_is_reported() {
    let world = World::of(3);
    let script = "echo $$ > pid; while [ ! -e enough ]; do sleep 0.02; done; exit 6";
    for options in [&[][..], &["--foreground"]] {
        let args = [&["run", "--ttl", "1s"], options, &["a", "--", "sh", "-c", script]].concat();
        let mut terminal = Terminal::quorlock(&world, &args);
        let command = world.process_in("pid");
        command.send(Signal::STOP);
        terminal.until("quorlock: ");
        terminal.until("stopped");
        sleep(Duration::from_millis(2500));
        assert!(command.is_stopped(), "{options:?}");
        assert_eq!(world.keys("a"), 3, "{options:?}: it is renewed");
        command.send(Signal::CONT);
        world.write("enough", "");
        assert_eq!(terminal.end().code(), Some(6), "{options:?}");
        for file in ["pid", "enough"] {
            fs::remove_file(world.file(file)).expect("a file");
        }
    }
}

#[test]
fn closing_the_terminal_ends_everything() {
    let world = World::of(3);
    let command = "echo $$ > pid; exec sleep 600";
    world.write("editor", EDITOR);
    let suspended = |terminal: &mut Terminal| {
        terminal.type_keys(CTRL_Z);
        terminal.until("Stopped");
        terminal.until(PROMPT);
    };
    for (leader, stops) in
        [("bash", false), ("bash", true), ("editor", false), ("quorlock", false), ("foreground", false)]
    {
        let mut terminal = match leader {
            "bash" => {
                let terminal = Terminal::bash(&world);
                terminal.line(&format!("quorlock run --ttl 30s a -- sh -c '{command}'"));
                terminal
            }
            // What waits for keys and changes modes.
            "editor" => {
                let mut terminal = Terminal::bash(&world);
                terminal.line("quorlock run --ttl 30s a -- sh -c 'echo $$ > pid; exec python3 editor'");
                terminal.until("editing");
                terminal
            }
            "foreground" => {
                Terminal::quorlock(&world, &["run", "--foreground", "a", "--", "sh", "-c", command])
            }
            _ => Terminal::quorlock(&world, &["run", "--ttl", "30s", "a", "--", "sh", "-c", command]),
        };
        world.process_in("pid");
        if stops {
            suspended(&mut terminal);
        }
        let all = family(terminal.leader());
        assert!(all.len() > 2, "{all:?}");
        terminal.close();
        until("nothing of it is left", || !all.iter().any(Process::is_alive));
        assert!(processes::all().iter().all(|it| it.session != terminal.leader() || !it.is_alive()));
        // Given up, and not only run out.
        assert_eq!(world.keys("a"), 0, "{leader}, suspended: {stops}");
        fs::remove_file(world.file("pid")).expect("a file");
    }
}
