//! A killed or stopped reaper, and other disturbances between `run` and its reaper.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use crate::processes::{Process, process_tree, reaper_of};
use crate::world::{World, output_of, send, wait, wait_until};

#[test]
fn no_descendant_of_a_killed_reaper_is_overlooked() {
    let world = World::of(3);
    world.write("child", "trap '' TERM; echo $$ >> up; while :; do sleep 0.02; done");
    let script = "sh child & setsid sh child & (sh child &) ; wait; sleep 60";
    for round in 0..15 {
        let args = ["run", "--kill-after", "100ms", "a", "--", "sh", "-c", script];
        let run = world.quorlock(&args).spawn().expect("a process");
        wait_until("all children run", || world.read("up").lines().count() == 3);
        let all: Vec<_> =
            process_tree(run.id() as i32).into_iter().filter(|it| it.command_line() == "sh child").collect();
        // More than three, if a fork has not executed `sleep` yet.
        assert!(all.len() >= 3, "{all:?}");
        reaper_of(run.id() as i32).expect("a reaper").send(Signal::KILL);
        let output = output_of(run);
        assert!(output.stderr.contains("reaper"), "{round}: {output:?}");
        assert!(!all.iter().any(Process::is_alive), "{round}: {output:?}");
        std::fs::remove_file(world.file("up")).expect("a file");
    }
}

#[test]
fn processes_started_before_run_are_not_ended() {
    let world = World::of(3);
    // A child of the process that then executes `run`.
    let script = "sleep 600 > /dev/null 2>&1 & echo $! > sidecar; exec quorlock run a -- sh -c 'touch began; sleep 600'";
    let run = world.program("sh", &["-c", script]).spawn().expect("a process");
    wait_until("the command runs", || world.has_file("began"));
    let sidecar = world.read_process("sidecar");
    reaper_of(run.id() as i32).expect("a reaper").send(Signal::KILL);
    output_of(run);
    assert!(sidecar.is_alive());
    sidecar.send(Signal::KILL);
}

#[test]
fn a_command_killed_with_its_reaper_handles_an_interrupt() {
    let world = World::of(3);
    world.write("child", "trap '' TERM INT; echo $$ > up; while :; do sleep 0.02; done");
    let args = ["run", "--kill-after", "1h", "--ttl", "30s", "a", "--", "sh", "-c", "setsid sh child & wait"];
    let mut run = world.quorlock(&args).spawn().expect("a process");
    let child = world.read_process("up");
    reaper_of(run.id() as i32).expect("a reaper").send(Signal::KILL);
    // Its grace period is an hour, until TERM ends it.
    sleep(Duration::from_millis(300));
    assert!(child.is_alive());
    send(&run, Signal::TERM);
    wait(&mut run);
    assert!(!child.is_alive());
}

#[test]
fn signals_arrive_in_order_also_unnamed_ones() {
    let world = World::of(3);
    world.write("listener", crate::programs::LISTENER);
    let args = ["run", "a", "--", "python3", "listener", "34", "35", "36", "USR1"];
    let mut run = world.quorlock(&args).spawn().expect("a process");
    wait_until("the listener is ready", || world.read("signals") == "READY\n");
    let script = format!("for s in 34 35 36; do kill -$s {0}; sleep 0.1; done; kill -USR1 {0}", run.id());
    assert!(world.program("sh", &["-c", &script]).status().expect("a shell").success());
    wait_until("all signals are received", || world.read("signals").contains("USR1"));
    assert_eq!(world.read("signals"), "READY\n34\n35\n36\nUSR1\n");
    send(&run, Signal::TERM);
    assert_eq!(wait(&mut run).code(), Some(5));
}

#[test]
fn a_stderr_without_a_reader_ends_no_command() {
    let world = World::of(3);
    let (reader, writer) = UnixStream::pair().expect("a socket");
    writer.set_nonblocking(true).expect("a socket");
    let full = vec![b'x'; 1 << 16];
    while (&writer).write(&full).is_ok() {}
    while (&writer).write(b"x").is_ok() {}
    writer.set_nonblocking(false).expect("a socket");
    let script = "echo $$ > pid; i=0; while [ $i -lt 250 ]; do sleep 0.02; i=$((i+1)); done; exit 6";
    let mut command = world.quorlock(&["run", "--ttl", "2s", "a", "--", "sh", "-c", script]);
    command.stderr(Stdio::from(std::os::fd::OwnedFd::from(writer)));
    let mut run = command.spawn().expect("a process");
    drop(command);
    let pid = world.read_process("pid");
    // Each stop prints a line.
    for _ in 0..3 {
        pid.send(Signal::STOP);
        sleep(Duration::from_millis(100));
        pid.send(Signal::CONT);
    }
    assert_eq!(wait(&mut run).code(), Some(6));
    drop(reader);
}

#[test]
fn a_reaper_that_was_stopped_at_its_start_is_continued() {
    let world = World::of(3);
    // Stopped as early as possible, perhaps before it has started the command.
    for _ in 0..6 {
        let mut run = world.quorlock(&["run", "--ttl", "2s", "a", "--", "true"]).spawn().expect("a process");
        let mut reaper = None;
        while reaper.is_none() && run.try_wait().expect("a status").is_none() {
            reaper =
                process_tree(run.id() as i32).into_iter().find(|it| it.command_line().contains("reaper of"));
        }
        if let Some(reaper) = reaper {
            reaper.send(Signal::STOP);
        }
        assert_eq!(wait(&mut run).code(), Some(0));
        world.wait_until_free("a");
    }
}

#[test]
fn processes_that_work_for_an_ended_command_are_reported() {
    let mut world = World::of(3);
    let sleep_path = world.program("sh", &["-c", "command -v sleep"]).output().expect("a shell").stdout;
    std::fs::copy(String::from_utf8_lossy(&sleep_path).trim(), world.file("ssh")).expect("a copy");
    let run = world.quorlock(&["run", "--ttl", "2s", "a", "--", "sh", "-c", "touch began; ./ssh 60; exit 1"]);
    let run = { run }.spawn().expect("a process");
    wait_until("the command runs", || world.has_file("began"));
    world.fleet.servers_mut().iter_mut().for_each(quorlock_chaos::Server::pause);
    let output = output_of(run);
    assert_eq!(output.code, Some(70), "{output:?}");
    assert_eq!(output.stderr.matches("work that other processes do for them").count(), 1, "{output:?}");
    assert!(output.stderr.contains("(ssh "), "{output:?}");
}
