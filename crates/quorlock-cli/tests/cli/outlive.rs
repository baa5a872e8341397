//! No process of a command outlives its lock, in any group or session, not
//! even if `run` or its reaper is killed.

use std::os::unix::process::CommandExt;
use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use quorlock_chaos::Server;
use rustix::process::Signal;

use crate::processes::{Process, process_tree, reaper_of};
use crate::programs::{DAEMON, SESSION, TICK, is_root};
use crate::world::{World, modified_at, now, output_of, send, wait, wait_until};

const TTL: &str = "4s";
const TTL_MILLIS: u64 = 4000;

/// Commands that leave their group, session or parent. Each appends to the file `PROOF` while it lives.
const ESCAPES: [&str; 7] = [
    "exec sh tick PROOF",
    "exec timeout 60 sh tick PROOF",
    "exec setsid sh tick PROOF",
    "(setsid sh tick PROOF &); exec sh tick PROOF",
    "exec python3 daemon PROOF",
    "exec python3 session PROOF",
    "exec quorlock run --ttl 30s PROOF-inside -- sh tick PROOF",
];

/// A running command under its lock.
struct Job {
    name: String,
    run: Child,
    /// All its processes except `run` itself.
    others: Vec<Process>,
}

impl Job {
    /// Starts each command with each of the options, and waits until all run.
    fn start_all(world: &World, commands: &[&str], options: &[&[&str]]) -> Vec<Self> {
        for (file, program) in [("tick", TICK), ("daemon", DAEMON), ("session", SESSION)] {
            world.write(file, program);
        }
        let mut started = Vec::new();
        for (number, command) in commands.iter().enumerate() {
            for options in options {
                let name = format!("proof-{number}{}", options.concat());
                let script = command.replace("PROOF", &name);
                let args = [&["run", "--ttl", TTL], *options, &[&name, "--", "sh", "-c", &script]].concat();
                // Through `program`, so that the command finds `quorlock` in PATH too.
                // In a group of its own: the group of all tests may be orphaned, and then the end of another
                // test's process continues the `run`s in it that are stopped here.
                let run = world.program("quorlock", &args).process_group(0).spawn().expect("a process");
                started.push(Self { name, run, others: Vec::new() });
            }
        }
        for job in &mut started {
            wait_until(&job.name, || world.has_file(&job.name));
            let all = process_tree(job.run.id() as i32);
            job.others = all.into_iter().filter(|it| it.pid != job.run.id() as i32).collect();
        }
        started
    }

    fn send_all(jobs: &[Self], signal: Signal) {
        for job in jobs {
            send(&job.run, signal);
        }
    }
}

/// Waits until only `run` processes are left, and checks that no command ran past the deadline.
#[track_caller]
fn check_gone(world: &World, jobs: &[Job], deadline: u64) {
    let remaining = || {
        let is_run = |it: &Process| jobs.iter().any(|job| job.run.id() as i32 == it.pid);
        let mut remaining: Vec<Process> = world.running().into_iter().filter(|it| !is_run(it)).collect();
        remaining.extend(jobs.iter().flat_map(|job| &job.others).filter(|it| it.is_alive()).cloned());
        remaining
    };
    while !remaining().is_empty() && now() < deadline + 1000 {
        sleep(Duration::from_millis(10));
    }
    let listed: Vec<String> =
        remaining().iter().map(|it| format!("{} {}: {}", it.pid, it.state, it.command_line())).collect();
    assert!(listed.is_empty(), "still alive: {listed:#?}");
    for job in jobs {
        assert!(modified_at(&world.file(&job.name)) < deadline, "{} ran past the deadline", job.name);
    }
}

const FOREGROUND_OPTIONS: [&[&str]; 2] = [&[], &["--foreground"]];

#[test]
fn no_process_escapes_when_the_lock_is_lost() {
    let mut world = World::of(3);
    let jobs = Job::start_all(&world, &ESCAPES, &FOREGROUND_OPTIONS);
    world.fleet.servers_mut().iter_mut().for_each(Server::pause);
    check_gone(&world, &jobs, now() + TTL_MILLIS);
    for job in jobs {
        let output = output_of(job.run);
        assert_eq!(output.code, Some(70), "{}: {output:?}", job.name);
    }
}

#[test]
fn no_process_escapes_when_run_is_killed() {
    let world = World::of(3);
    let mut jobs = Job::start_all(&world, &ESCAPES, &FOREGROUND_OPTIONS);
    Job::send_all(&jobs, Signal::KILL);
    let deadline = now() + TTL_MILLIS;
    for job in &mut jobs {
        wait(&mut job.run);
    }
    check_gone(&world, &jobs, deadline);
}

#[test]
fn no_process_escapes_when_run_is_frozen() {
    let world = World::of(3);
    let jobs = Job::start_all(&world, &ESCAPES, &FOREGROUND_OPTIONS);
    Job::send_all(&jobs, Signal::STOP);
    check_gone(&world, &jobs, now() + TTL_MILLIS);
    Job::send_all(&jobs, Signal::CONT);
    for job in jobs {
        let output = output_of(job.run);
        assert_eq!(output.code, Some(70), "{}: {output:?}", job.name);
    }
}

/// Commands that signal their own group: with every signal that can be ignored, or with stops, while a
/// process outside of the group goes on.
const SELF_SIGNALLING: [&str; 3] = [
    "trap '' HUP INT QUIT USR1 USR2 PIPE ALRM TERM TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR 37 50 64;
     for signal in HUP INT QUIT USR1 USR2 PIPE ALRM TERM TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR 37 50 64;
     do kill -$signal 0; done; exec sh tick PROOF",
    "trap '' TSTP TTIN TTOU; kill -TTIN 0; kill -TTOU 0; kill -TSTP 0; exec sh tick PROOF",
    "(setsid sh tick PROOF &); while [ ! -e PROOF ]; do sleep 0.02; done; kill -STOP 0",
];

#[test]
fn a_command_that_signals_its_own_group_does_not_outlive_a_frozen_run() {
    let world = World::of(3);
    let jobs = Job::start_all(&world, &SELF_SIGNALLING, &[&[]]);
    Job::send_all(&jobs, Signal::STOP);
    check_gone(&world, &jobs, now() + TTL_MILLIS);
}

#[test]
fn a_command_that_signals_its_own_group_does_not_outlive_a_killed_run() {
    let world = World::of(3);
    let mut jobs = Job::start_all(&world, &SELF_SIGNALLING, &[&[]]);
    Job::send_all(&jobs, Signal::KILL);
    let deadline = now() + TTL_MILLIS;
    for job in &mut jobs {
        wait(&mut job.run);
    }
    check_gone(&world, &jobs, deadline);
}

#[test]
fn in_a_container_no_process_outlives_a_killed_run() {
    if !is_root() {
        return;
    }
    let world = World::of(3);
    world.write("tick", TICK);
    world.write(
        "first",
        "quorlock run --ttl 4s a -- sh fighter & wait; while [ ! -e enough ]; do sleep 0.05; done",
    );
    // In a container the kernel sends no HUP and CONT to processes that a killed process leaves stopped.
    world.write("fighter", &SELF_SIGNALLING[1].replace("PROOF", "proof"));
    let mut container =
        world.program("unshare", &["-fp", "--mount-proc", "sh", "first"]).spawn().expect("a process");
    wait_until("the command works", || world.has_file("proof"));
    let run = process_tree(container.id() as i32)
        .into_iter()
        .find(|it| it.command_line().contains("quorlock run"))
        .expect("run");
    let process_tree = process_tree(run.pid);
    run.send(Signal::KILL);
    let deadline = now() + TTL_MILLIS;
    wait_until("all processes have ended", || !process_tree.iter().any(Process::is_alive));
    assert!(modified_at(&world.file("proof")) < deadline);
    world.write("enough", "");
    wait(&mut container);
}

#[test]
fn a_killed_reaper_is_reported_and_the_command_ends() {
    let world = World::of(3);
    let jobs = Job::start_all(&world, &ESCAPES, &FOREGROUND_OPTIONS);
    for job in &jobs {
        reaper_of(job.run.id() as i32).expect("a reaper").send(Signal::KILL);
    }
    let others: Vec<Process> = jobs.iter().flat_map(|job| job.others.clone()).collect();
    for job in jobs {
        let output = output_of(job.run);
        assert!(output.stderr.contains("reaper"), "{}: {output:?}", job.name);
        assert_ne!(output.code, Some(0), "{}: {output:?}", job.name);
    }
    assert!(!others.iter().any(Process::is_alive));
    assert_eq!(world.running(), []);
}

#[test]
fn a_command_does_not_outlive_run_and_reaper_killed_at_once() {
    let world = World::of(3);
    let mut jobs = Job::start_all(&world, &ESCAPES[..1], &FOREGROUND_OPTIONS);
    for job in &mut jobs {
        let reaper = reaper_of(job.run.id() as i32).expect("a reaper");
        reaper.send(Signal::KILL);
        send(&job.run, Signal::KILL);
    }
    let deadline = now() + TTL_MILLIS;
    for job in &mut jobs {
        wait(&mut job.run);
    }
    check_gone(&world, &jobs, deadline);
}

#[test]
fn a_reaper_that_was_stopped_is_continued() {
    let world = World::of(3);
    let jobs = Job::start_all(&world, &ESCAPES, &FOREGROUND_OPTIONS);
    let reapers: Vec<_> = jobs.iter().filter_map(|job| reaper_of(job.run.id() as i32)).collect();
    assert_eq!(reapers.len(), jobs.len());
    for reaper in &reapers {
        reaper.send(Signal::STOP);
    }
    // A stop may arrive late, so the reapers must be seen running in 20 checks in a row.
    let mut stable_checks = 0;
    wait_until("all reapers run", || {
        stable_checks = if reapers.iter().any(Process::is_stopped) { 0 } else { stable_checks + 1 };
        stable_checks > 20
    });
    Job::send_all(&jobs, Signal::STOP);
    check_gone(&world, &jobs, now() + TTL_MILLIS);
}

#[test]
fn the_reaper_shows_its_run_in_ps() {
    let world = World::of(3);
    let script = "touch began; while [ ! -e enough ]; do sleep 0.02; done";
    let run = world.quorlock(&["run", "nightly job", "--", "sh", "-c", script]).spawn().expect("a process");
    wait_until("the command runs", || world.has_file("began"));
    let reaper = reaper_of(run.id() as i32).expect("a reaper");
    assert_eq!(reaper.comm, "lock-reaper");
    assert_eq!(reaper.command_line(), "quorlock: reaper of \"nightly job\"");
    world.write("enough", "");
    assert_eq!(output_of(run).code, Some(0));
}
