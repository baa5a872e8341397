//! Terminals shared with other processes: programs that stop themselves, new groups and sessions,
//! substitutions, and keys typed during start and end.

use rustix::process::{Pid, Signal, test_kill_process_group};

use crate::processes::Process;
use crate::programs::READ_REPLY;
use crate::terminal::{CTRL_C, CTRL_Z, PROMPT, Terminal};
use crate::world::{World, wait_until};

#[test]
fn a_command_that_stops_itself_when_ctrl_z_is_typed_stops_run() {
    let world = World::of(3);
    // As `top`, `nano` and a shell's `suspend` do.
    world.write("editor", "echo $$ > pid; stty raw; kill -STOP $$; stty -raw; echo back; exit 4");
    for options in ["", "--foreground"] {
        let mut terminal = Terminal::bash(&world);
        terminal.type_line(&format!("quorlock run --ttl 30s {options} a -- bash editor"));
        terminal.wait_for("Stopped");
        terminal.wait_for(PROMPT);
        let command = world.read_process("pid");
        assert!(command.is_stopped());
        terminal.type_line("fg");
        terminal.wait_for("back");
        terminal.wait_for(PROMPT);
        assert_eq!(terminal.last_exit_code(), 4, "{options}");
        std::fs::remove_file(world.file("pid")).expect("a file");
    }
}

#[test]
fn a_command_that_makes_a_group_of_its_own_keeps_the_terminal_and_goes_on_after_a_stop() {
    let world = World::of(3);
    world.write("prompt", &format!("echo $$ > pid; {READ_REPLY}"));
    for line in [
        "quorlock run --ttl 30s a -- timeout 60 bash prompt",
        "quorlock run --ttl 30s a -- timeout 60 bash prompt 2> err",
    ] {
        let mut terminal = Terminal::bash(&world);
        terminal.type_line(line);
        let command = world.read_process("pid");
        terminal.type_keys(CTRL_Z);
        terminal.wait_for("Stopped");
        terminal.wait_for(PROMPT);
        wait_until("command and run are stopped", || command.is_stopped());
        terminal.type_line("fg");
        wait_until("the command is continued", || !command.is_stopped());
        terminal.type_line("please");
        terminal.wait_for("read: please");
        terminal.wait_for(PROMPT);
        assert_eq!(terminal.last_exit_code(), 4, "{line}");
        std::fs::remove_file(world.file("pid")).expect("a file");
    }
}

#[test]
fn a_command_that_writes_to_a_file_reads_the_terminal() {
    let world = World::of(3);
    let mut terminal = Terminal::bash(&world);
    terminal.type_line("quorlock run a -- timeout 20 head -n 1 > file");
    terminal.run();
    wait_until("the command runs", || terminal.running().iter().any(|it| it.comm == "head"));
    terminal.type_line("typed");
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.last_exit_code(), 0);
    assert_eq!(world.read("file"), "typed\n");
}

#[test]
fn the_group_of_the_command_has_a_leader() {
    // `sudo` treats a group without a leader as orphaned, and ends its command when that is stopped.
    let world = World::of(3);
    let script = "ps -o pgid= -p $$ | tr -d ' ' > group; while [ ! -e enough ]; do sleep 0.02; done";
    let mut terminal = Terminal::bash(&world);
    terminal.type_line(&format!("quorlock run a -- sh -c \"{}\"", script.replace('$', "\\$")));
    let group = world.read_pid("group");
    assert!(Process::of(group.as_raw_nonzero().get()).is_some_and(|leader| leader.is_alive()));
    assert!(test_kill_process_group(group).is_ok());
    world.write("enough", "");
    terminal.wait_for(PROMPT);
}

#[test]
fn in_a_substitution_the_command_reads_the_terminal() {
    let world = World::of(3);
    world.write("prompt", "read v < /dev/tty; echo \"$v\"");
    let mut terminal = Terminal::bash(&world);
    for line in [
        "x=$(quorlock run a -- sh prompt); echo \"got-$x.\"",
        "trap '' TTIN TTOU TSTP; quorlock run a -- sh prompt | sed s/^/got-/",
    ] {
        terminal.type_line(line);
        wait_until("the command reads", || {
            terminal.running().iter().any(|it| it.command_line() == "sh prompt")
        });
        terminal.type_line("typed");
        terminal.wait_for("got-typed");
        terminal.wait_for(PROMPT);
    }
}

#[test]
fn an_interrupt_reaches_a_command_that_has_begun_a_session() {
    let world = World::of(3);
    let mut terminal = Terminal::bash(&world);
    terminal.type_line("quorlock run a -- setsid sh -c 'echo $$ > pid; exec sleep 60'");
    let command = world.read_process("pid");
    terminal.type_keys(CTRL_C);
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.last_exit_code(), 130);
    assert!(!command.is_alive());
}

#[test]
fn an_interrupt_at_any_moment_of_the_start_ends_the_loop() {
    let world = World::of(3);
    for options in ["", "--foreground"] {
        for wait in 0..8_u64 {
            let mut terminal = Terminal::bash(&world);
            terminal
                .type_line(&format!("while :; do echo round; quorlock run {options} a -- sleep 60; done"));
            terminal.wait_for("round");
            let run = terminal.run();
            std::thread::sleep(std::time::Duration::from_millis(wait * 3));
            terminal.type_keys(CTRL_C);
            terminal.wait_for(PROMPT);
            assert_eq!(terminal.last_exit_code(), 130, "{options} {wait}");
            assert!(!run.is_alive());
            world.wait_until_free("a");
        }
    }
}

#[test]
fn an_interrupt_after_the_commands_end_ends_the_loop() {
    let world = World::of(3);
    // The leftover process ignores both signals.
    let left = "(trap \"\" TERM INT; echo 1 > left; exec sleep 3) & exit 0";
    let mut terminal = Terminal::bash(&world);
    terminal.type_line(&format!(
        "while :; do echo round; quorlock run --kill-after 2s a -- sh -c '{left}'; done"
    ));
    terminal.wait_for("still running");
    terminal.type_keys(CTRL_C);
    terminal.wait_for(PROMPT);
    assert_eq!(terminal.last_exit_code(), 130);
    // Also while the lock is being released.
    let mut world = World::of(3);
    let mut terminal = Terminal::bash(&world);
    terminal.type_line("while :; do echo round; quorlock run a -- sh -c 'touch began; while [ ! -e enough ]; do sleep 0.02; done; touch ended'; done");
    wait_until("the command runs", || world.has_file("began"));
    world.fleet.servers_mut().iter_mut().for_each(quorlock_chaos::Server::pause);
    world.write("enough", "");
    wait_until("the command has ended", || world.has_file("ended"));
    terminal.type_keys(CTRL_C);
    terminal.wait_for(PROMPT);
    world.fleet.servers_mut().iter_mut().for_each(quorlock_chaos::Server::resume);
    assert_eq!(terminal.last_exit_code(), 130);
}

#[test]
fn a_stop_right_after_fg_is_a_stop() {
    let world = World::of(3);
    world.write("prompt", READ_REPLY);
    for _ in 0..5 {
        let mut terminal = Terminal::bash(&world);
        terminal.type_line("quorlock run --ttl 30s --kill-after 1s a -- bash prompt &");
        terminal.wait_for(PROMPT);
        let run = terminal.run();
        wait_until("run is stopped", || run.is_stopped());
        run.send(Signal::CONT);
        run.send(Signal::TSTP);
        // The order of the two is unknown, but the stop must win.
        wait_until("command and run are stopped", || {
            run.is_stopped()
                && terminal.running().iter().any(|it| it.command_line() == "bash prompt" && it.is_stopped())
        });
        terminal.type_line("fg");
        terminal.type_line("please");
        terminal.wait_for("read: please");
        assert!(Pid::from_raw(run.pid).is_some());
    }
}
