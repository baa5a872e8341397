//! Terminal modes after a command that was killed, and signals other than interrupts.

use std::fs;

use rustix::process::Signal;

use crate::processes::Process;
use crate::programs::{EDITOR, LISTENER};
use crate::terminal::{PROMPT, Terminal};
use crate::world::{World, send, wait, wait_until};

#[test]
fn an_editor_that_was_ended_with_a_lost_lock_leaves_a_usable_terminal() {
    for options in ["", "--foreground"] {
        let mut world = World::of(3);
        world.write("editor", EDITOR);
        let script =
            format!("quorlock run --ttl 2s {options} a -- python3 editor; echo \"code=$?\"; read go");
        let mut terminal = Terminal::script(&world, "sh", &script);
        terminal.wait_for("editing");
        assert!(!terminal.is_sane());
        for server in world.fleet.servers_mut() {
            server.pause();
        }
        terminal.wait_for("code=70");
        assert!(terminal.is_sane(), "{options}");
    }
}

#[test]
fn an_editor_that_was_killed_before_the_deadline_leaves_a_usable_terminal() {
    let mut world = World::of(3);
    let ignoring_term = format!("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{EDITOR}");
    world.write("editor", &ignoring_term);
    let script = "quorlock run --ttl 2s a -- python3 editor; echo \"code=$?\"; read go";
    let mut terminal = Terminal::script(&world, "sh", script);
    terminal.wait_for("editing");
    for server in world.fleet.servers_mut() {
        server.pause();
    }
    terminal.wait_for("code=70");
    assert!(terminal.is_sane());
}

/// Signals that are passed on, other than the ending ones; real-time signals by number.
const OTHER_SIGNALS: [&str; 10] = ["WINCH", "CONT", "ALRM", "VTALRM", "USR1", "USR2", "IO", "37", "50", "64"];

fn number(name: &str) -> i32 {
    match name {
        "WINCH" => 28,
        "CONT" => 18,
        "ALRM" => 14,
        "VTALRM" => 26,
        "USR1" => 10,
        "USR2" => 12,
        "IO" => 29,
        number => number.parse().expect("a number"),
    }
}

#[test]
fn signals_that_are_no_interrupts_reach_the_command_and_do_not_end_run() {
    let world = World::of(3);
    world.write("listener", LISTENER);
    for options in [&[][..], &["--foreground"]] {
        let command = [&["a", "--", "python3", "listener"][..], &OTHER_SIGNALS].concat();
        let mut run = world.quorlock(&[&["run"], options, &command].concat()).spawn().expect("a process");
        wait_until("the listener is ready", || world.read("signals") == "READY\n");
        for name in OTHER_SIGNALS {
            let kill =
                world.program("kill", &[&format!("-{}", number(name)), &run.id().to_string()]).status();
            assert!(kill.expect("kill").success());
            wait_until(name, || world.read("signals").lines().any(|received| received == name));
        }
        send(&run, Signal::TERM);
        assert_eq!(wait(&mut run).code(), Some(5), "{options:?}");
        let received = world.read("signals");
        for name in OTHER_SIGNALS {
            assert_eq!(
                received.lines().filter(|received| *received == name).count(),
                1,
                "{options:?} {name}: {received}"
            );
        }
        fs::remove_file(world.file("signals")).expect("a file");
    }
}

#[test]
fn a_stop_that_is_sent_to_run_stops_the_command_and_cont_continues_both() {
    let world = World::of(3);
    let script = "echo $$ > pid; while [ ! -e enough ]; do sleep 0.02; done; exit 6";
    let mut terminal = Terminal::bash(&world);
    terminal.type_line(&format!("quorlock run --ttl 30s a -- sh -c '{script}'"));
    let command = Process::of(world.read_pid("pid").as_raw_nonzero().get()).expect("a process");
    let run = terminal.run();
    run.send(Signal::TSTP);
    terminal.wait_for("Stopped");
    wait_until("the command is stopped too", || command.is_stopped());
    terminal.wait_for(PROMPT);
    terminal.type_line("fg");
    wait_until("both are continued", || !command.is_stopped() && !run.is_stopped());
    world.write("enough", "");
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.last_exit_code(), 6);
}

#[test]
fn a_resized_window_is_known_to_the_command() {
    let world = World::of(3);
    world.write("listener", LISTENER);
    for line in [
        "quorlock run a -- python3 listener WINCH",
        "echo x | quorlock run a -- python3 listener WINCH",
        "quorlock run --foreground a -- python3 listener WINCH",
    ] {
        let mut terminal = Terminal::script(&world, "sh", line);
        wait_until("the listener is ready", || world.read("signals") == "READY\n");
        terminal.resize();
        wait_until("the command receives WINCH", || world.read("signals").contains("WINCH"));
        terminal.run().send(Signal::TERM);
        assert_eq!(terminal.wait_for_end().code(), Some(5), "{line}");
        fs::remove_file(world.file("signals")).expect("a file");
    }
}
