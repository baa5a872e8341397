//! Job control: stopping the command stops `run`, and its lock expires unless `fg` continues both in time.
//!
//! The stopped commands are `bash` scripts. `sh` may use vfork: a child that is stopped before it executes
//! its program keeps its parent from being stopped, with or without `run`.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use crate::processes::{self, Process, process_tree};
use crate::programs::{EDITOR, READ_REPLY};
use crate::terminal::{CTRL_C, CTRL_Z, PROMPT, Terminal};
use crate::world::{World, wait_until};

#[test]
fn a_command_suspended_for_a_moment_goes_on() {
    let world = World::of(3);
    world.write("prompt", &format!("echo $$ > pid; {READ_REPLY}"));
    for options in ["", "--foreground"] {
        let mut terminal = Terminal::bash(&world);
        terminal.type_line(&format!("quorlock run --ttl 30s {options} a -- bash prompt"));
        terminal.wait_for("Really? ");
        let command = world.read_process("pid");
        let run = terminal.run();
        terminal.type_keys(CTRL_Z);
        terminal.wait_for("Stopped");
        terminal.wait_for(PROMPT);
        assert!(
            command.is_stopped() && run.is_stopped(),
            "{options}: the shell reports a stop that did not happen"
        );
        assert_eq!(world.key_count("a"), 3, "{options}");
        terminal.type_line("fg");
        terminal.wait_for("bash prompt");
        wait_until("the command is continued", || !command.is_stopped());
        terminal.type_line("yes");
        terminal.wait_for("read: yes");
        terminal.wait_for(PROMPT);
        assert_eq!(terminal.last_exit_code(), 4, "{options}");
        assert_eq!(world.key_count("a"), 0, "{options}");
        fs::remove_file(world.file("pid")).expect("a file");
    }
}

#[test]
fn a_command_suspended_for_longer_than_the_ttl_loses_its_lock_and_ends() {
    let world = World::of(3);
    world.write("command", "trap '' TERM; echo $$ > pid; while :; do echo >> proof; sleep 0.02; done");
    for options in ["", "--foreground"] {
        let mut terminal = Terminal::bash(&world);
        terminal.type_line(&format!("quorlock run --ttl 2s {options} a -- bash command"));
        let command = world.read_process("pid");
        wait_until("the command works", || world.has_file("proof"));
        terminal.type_keys(CTRL_Z);
        terminal.wait_for("Stopped");
        terminal.wait_for(PROMPT);
        // The lock is not renewed.
        world.wait_until_free("a");
        assert_eq!(
            world.output(&["run", "a", "-n", "--", "true"]).code,
            Some(0),
            "{options}: another client gets the lock"
        );
        wait_until("the command is gone", || !command.is_alive());
        terminal.type_line("fg");
        terminal.wait_for("lost");
        terminal.wait_for(PROMPT);
        assert_eq!(terminal.last_exit_code(), 70, "{options}");
        for file in ["pid", "proof"] {
            fs::remove_file(world.file(file)).expect("a file");
        }
    }
}

#[test]
fn a_command_in_the_background_that_reads_is_stopped_and_fg_lets_it_read() {
    let world = World::of(3);
    world.write("prompt", READ_REPLY);
    for line in ["quorlock run --ttl 30s a -- bash prompt &", "quorlock run --ttl 30s a -- bash prompt <&0 &"]
    {
        let mut terminal = Terminal::bash(&world);
        terminal.type_line(line);
        terminal.wait_for(PROMPT);
        let run = terminal.run();
        wait_until("run is stopped", || run.is_stopped());
        terminal.wait_for_job("tty input");
        terminal.type_line("fg");
        terminal.wait_for("bash prompt");
        wait_until("run is continued", || !run.is_stopped());
        terminal.type_line("yes");
        terminal.wait_for("read: yes");
        terminal.wait_for(PROMPT);
        assert_eq!(terminal.last_exit_code(), 4, "{line}");
    }
}

#[test]
fn a_command_sent_to_the_background_runs_until_it_reads() {
    let world = World::of(3);
    world.write(
        "prompt",
        &format!("echo $$ > pid; while [ ! -e go ]; do sleep 0.02; done; touch gone; {READ_REPLY}"),
    );
    let mut terminal = Terminal::bash(&world);
    terminal.type_line("quorlock run --ttl 30s a -- bash prompt");
    let command = world.read_process("pid");
    let run = terminal.run();
    terminal.type_keys(CTRL_Z);
    terminal.wait_for("Stopped");
    terminal.wait_for(PROMPT);
    terminal.type_line("bg");
    terminal.wait_for(PROMPT);
    world.write("go", "");
    wait_until("the command continues in the background", || world.has_file("gone"));
    wait_until("run and command are stopped when the command reads", || {
        run.is_stopped() && command.is_stopped()
    });
    terminal.wait_for_job("tty input");
    terminal.type_line("fg");
    terminal.wait_for("bash prompt");
    wait_until("run is continued", || !run.is_stopped());
    terminal.type_line("yes");
    terminal.wait_for("read: yes");
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.last_exit_code(), 4);
}

#[test]
fn a_suspended_command_without_a_job_control_shell_continues() {
    let world = World::of(3);
    world
        .write("command", "echo $$ > pid; while [ ! -e enough ]; do echo >> proof; sleep 0.02; done; exit 6");
    let mut terminal = Terminal::quorlock(&world, &["run", "--ttl", "2s", "a", "--", "bash", "command"]);
    let command = world.read_process("pid");
    terminal.type_keys(CTRL_Z);
    // The stop was reverted: the command works for longer than the ttl.
    for _ in 0..3 {
        sleep(Duration::from_secs(1));
        let lines = world.read("proof").len();
        wait_until("the command works", || world.read("proof").len() > lines);
        assert!(command.is_alive());
    }
    assert_eq!(world.key_count("a"), 3);
    world.write("enough", "");
    assert_eq!(terminal.wait_for_end().code(), Some(6));
}

#[test]
fn an_interrupt_ends_a_command_without_a_job_control_shell() {
    let world = World::of(3);
    let mut terminal =
        Terminal::quorlock(&world, &["run", "a", "--", "sh", "-c", "echo $$ > pid; exec sleep 60"]);
    let command = world.read_process("pid");
    terminal.type_keys(CTRL_C);
    let status = terminal.wait_for_end();
    assert_eq!(status.signal(), Some(2), "{status:?}");
    assert!(!command.is_alive());
    world.wait_until_free("a");
}

#[test]
fn a_command_that_cannot_get_the_terminal_is_ended_with_a_message() {
    let world = World::of(3);
    // An orphaned background group: the kernel does not stop its members.
    let orphan = "import os, subprocess
starter = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == starter:
    pass
os.setpgid(0, 0)
run = subprocess.run(['quorlock', 'run', 'a', '--', 'cat'], stderr=open('stderr', 'w'))
open('code', 'w').write(f'{run.returncode}\\n')
";
    world.write("orphan", orphan);
    let script = "python3 orphan; while [ ! -e enough ]; do sleep 0.02; done";
    let mut terminal = Terminal::script(&world, "sh", script);
    wait_until("run has ended", || !world.read("code").is_empty());
    let stderr = world.read("stderr");
    assert!(stderr.starts_with("quorlock: ") && stderr.contains("terminal"), "{stderr}");
    assert_eq!(world.read("code"), "149\n", "{stderr}");
    assert_eq!(world.key_count("a"), 0);
    world.write("enough", "");
    assert_eq!(terminal.wait_for_end().code(), Some(0));
}

#[test]
fn a_command_stopped_by_another_process_keeps_the_lock_and_is_reported() {
    let world = World::of(3);
    let script = "echo $$ > pid; while [ ! -e enough ]; do sleep 0.02; done; exit 6";
    for options in [&[][..], &["--foreground"]] {
        let args = [&["run", "--ttl", "5s"], options, &["a", "--", "sh", "-c", script]].concat();
        let mut terminal = Terminal::quorlock(&world, &args);
        let command = world.read_process("pid");
        command.send(Signal::STOP);
        terminal.wait_for("quorlock: ");
        terminal.wait_for("stopped");
        world.wait_until_renewed("a");
        assert!(command.is_stopped(), "{options:?}");
        command.send(Signal::CONT);
        world.write("enough", "");
        assert_eq!(terminal.wait_for_end().code(), Some(6), "{options:?}");
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
    let suspend = |terminal: &mut Terminal| {
        terminal.type_keys(CTRL_Z);
        terminal.wait_for("Stopped");
        terminal.wait_for(PROMPT);
    };
    for (leader, is_suspended) in
        [("bash", false), ("bash", true), ("editor", false), ("quorlock", false), ("foreground", false)]
    {
        let mut terminal = match leader {
            "bash" => {
                let terminal = Terminal::bash(&world);
                terminal.type_line(&format!("quorlock run --ttl 30s a -- sh -c '{command}'"));
                terminal
            }
            // A program in raw mode that waits for keys.
            "editor" => {
                let mut terminal = Terminal::bash(&world);
                terminal.type_line("quorlock run --ttl 30s a -- sh -c 'echo $$ > pid; exec python3 editor'");
                terminal.wait_for("editing");
                terminal
            }
            "foreground" => {
                Terminal::quorlock(&world, &["run", "--foreground", "a", "--", "sh", "-c", command])
            }
            _ => Terminal::quorlock(&world, &["run", "--ttl", "30s", "a", "--", "sh", "-c", command]),
        };
        world.read_process("pid");
        if is_suspended {
            suspend(&mut terminal);
        }
        let all = process_tree(terminal.leader());
        assert!(all.len() > 2, "{all:?}");
        terminal.close();
        wait_until("all processes have ended", || !all.iter().any(Process::is_alive));
        assert!(processes::all().iter().all(|it| it.session != terminal.leader() || !it.is_alive()));
        // Released, not only expired.
        assert_eq!(world.key_count("a"), 0, "{leader}, suspended: {is_suspended}");
        fs::remove_file(world.file("pid")).expect("a file");
    }
}
