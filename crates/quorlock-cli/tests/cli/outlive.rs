//! Nothing of a command outlives its lock, whatever group, session or parent it has, and whichever of quorlock's processes is gone.

use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use quorlock_chaos::Server;
use rustix::process::Signal;

use crate::processes::{Process, family, reaper_of};
use crate::programs::{DAEMON, SESSION, TICK, is_root};
use crate::world::{World, end_of, now, send, touched, until, wait};

const TTL: &str = "4s";
const TTL_MILLIS: u64 = 4000;

/// Commands that try to get away. Each has `PROOF` for the file that it writes to as long as it lives.
const ESCAPES: [&str; 7] = [
    "exec sh tick PROOF",
    "exec timeout 60 sh tick PROOF",
    "exec setsid sh tick PROOF",
    "(setsid sh tick PROOF &); exec sh tick PROOF",
    "exec python3 daemon PROOF",
    "exec python3 session PROOF",
    "exec quorlock run --ttl 30s PROOF-inside -- sh tick PROOF",
];

/// One command under its lock, at work.
struct Work {
    name: String,
    run: Child,
    /// All that belongs to it, but `run` itself.
    others: Vec<Process>,
}

impl Work {
    /// Starts each of the commands with each of the options, and waits until all are at work.
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
                // Found by name from inside, too.
                let run = world.program("quorlock", &args).spawn().expect("a process");
                started.push(Self { name, run, others: Vec::new() });
            }
        }
        for work in &mut started {
            until(&work.name, || world.has(&work.name));
            let all = family(work.run.id() as i32);
            work.others = all.into_iter().filter(|it| it.pid != work.run.id() as i32).collect();
        }
        started
    }

    fn send_all(works: &[Self], signal: Signal) {
        for work in works {
            send(&work.run, signal);
        }
    }
}

/// Waits until nothing but `run`s is left, and sees who went on after the deadline.
#[track_caller]
fn check_gone(world: &World, works: &[Work], deadline: u64) {
    let left = || {
        let is_run = |it: &Process| works.iter().any(|work| work.run.id() as i32 == it.pid);
        let mut left: Vec<Process> = world.running().into_iter().filter(|it| !is_run(it)).collect();
        left.extend(works.iter().flat_map(|work| &work.others).filter(|it| it.is_alive()).cloned());
        left
    };
    while !left().is_empty() && now() < deadline + 1000 {
        sleep(Duration::from_millis(10));
    }
    let shown: Vec<String> =
        left().iter().map(|it| format!("{} {}: {}", it.pid, it.state, it.words())).collect();
    assert!(shown.is_empty(), "still there: {shown:#?}");
    for work in works {
        assert!(touched(&world.file(&work.name)) < deadline, "{} went on past the deadline", work.name);
    }
}

const EITHER_WAY: [&[&str]; 2] = [&[], &["--foreground"]];

#[test]
fn no_process_escapes_when_the_lock_is_lost() {
    let mut world = World::of(3);
    let works = Work::start_all(&world, &ESCAPES, &EITHER_WAY);
    world.fleet.servers_mut().iter_mut().for_each(Server::pause);
    check_gone(&world, &works, now() + TTL_MILLIS);
    for work in works {
        let end = end_of(work.run);
        assert_eq!(end.code, Some(70), "{}: {end:?}", work.name);
    }
}

#[test]
fn no_process_escapes_when_run_is_killed() {
    let world = World::of(3);
    let mut works = Work::start_all(&world, &ESCAPES, &EITHER_WAY);
    Work::send_all(&works, Signal::KILL);
    let deadline = now() + TTL_MILLIS;
    for work in &mut works {
        wait(&mut work.run);
    }
    check_gone(&world, &works, deadline);
}

#[test]
fn no_process_escapes_when_run_is_frozen() {
    let world = World::of(3);
    let works = Work::start_all(&world, &ESCAPES, &EITHER_WAY);
    Work::send_all(&works, Signal::STOP);
    check_gone(&world, &works, now() + TTL_MILLIS);
    Work::send_all(&works, Signal::CONT);
    for work in works {
        let end = end_of(work.run);
        assert_eq!(end.code, Some(70), "{}: {end:?}", work.name);
    }
}

/// Commands that turn on their own group: everything in it gets every signal that can be ignored; or is stopped,
/// while one outside goes on.
const FIGHTERS: [&str; 3] = [
    "trap '' HUP INT QUIT USR1 USR2 PIPE ALRM TERM TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR 37 50 64;
     for signal in HUP INT QUIT USR1 USR2 PIPE ALRM TERM TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR 37 50 64;
     do kill -$signal 0; done; exec sh tick PROOF",
    "trap '' TSTP TTIN TTOU; kill -TTIN 0; kill -TTOU 0; kill -TSTP 0; exec sh tick PROOF",
    "(setsid sh tick PROOF &); while [ ! -e PROOF ]; do sleep 0.02; done; kill -STOP 0",
];

#[test]
fn a_command_that_signals_its_own_group_does_not_outlive_a_frozen_run() {
    let world = World::of(3);
    let works = Work::start_all(&world, &FIGHTERS, &[&[]]);
    Work::send_all(&works, Signal::STOP);
    check_gone(&world, &works, now() + TTL_MILLIS);
}

#[test]
fn a_command_that_signals_its_own_group_does_not_outlive_a_killed_run() {
    let world = World::of(3);
    let mut works = Work::start_all(&world, &FIGHTERS, &[&[]]);
    Work::send_all(&works, Signal::KILL);
    let deadline = now() + TTL_MILLIS;
    for work in &mut works {
        wait(&mut work.run);
    }
    check_gone(&world, &works, deadline);
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
    // There the system sends no HUP and CONT to what a killed process leaves stopped.
    world.write("fighter", &FIGHTERS[1].replace("PROOF", "proof"));
    let mut container =
        world.program("unshare", &["-fp", "--mount-proc", "sh", "first"]).spawn().expect("a process");
    until("the command works", || world.has("proof"));
    let run = family(container.id() as i32)
        .into_iter()
        .find(|it| it.words().contains("quorlock run"))
        .expect("run");
    let family = family(run.pid);
    run.send(Signal::KILL);
    let deadline = now() + TTL_MILLIS;
    until("nothing is left", || !family.iter().any(Process::is_alive));
    assert!(touched(&world.file("proof")) < deadline);
    world.write("enough", "");
    wait(&mut container);
}

#[test]
fn a_killed_reaper_is_reported_and_the_command_ends() {
    let world = World::of(3);
    let works = Work::start_all(&world, &ESCAPES, &EITHER_WAY);
    for work in &works {
        reaper_of(work.run.id() as i32).expect("a reaper").send(Signal::KILL);
    }
    let others: Vec<Process> = works.iter().flat_map(|work| work.others.clone()).collect();
    for work in works {
        let end = end_of(work.run);
        assert!(end.err.contains("reaper"), "{}: {end:?}", work.name);
        assert_ne!(end.code, Some(0), "{}: {end:?}", work.name);
    }
    assert!(!others.iter().any(Process::is_alive));
    assert_eq!(world.running(), []);
}

#[test]
fn a_command_does_not_outlive_run_and_reaper_killed_at_once() {
    let world = World::of(3);
    let mut works = Work::start_all(&world, &ESCAPES[..1], &EITHER_WAY);
    for work in &mut works {
        let reaper = reaper_of(work.run.id() as i32).expect("a reaper");
        reaper.send(Signal::KILL);
        send(&work.run, Signal::KILL);
    }
    let deadline = now() + TTL_MILLIS;
    for work in &mut works {
        wait(&mut work.run);
    }
    check_gone(&world, &works, deadline);
}

#[test]
fn a_reaper_that_was_stopped_is_continued() {
    let world = World::of(3);
    let works = Work::start_all(&world, &ESCAPES, &EITHER_WAY);
    let reapers: Vec<_> = works.iter().filter_map(|work| reaper_of(work.run.id() as i32)).collect();
    assert_eq!(reapers.len(), works.len());
    for reaper in &reapers {
        reaper.send(Signal::STOP);
    }
    // A stop may take a moment to come; after it, `run` has seen to each.
    let mut looks = 0;
    until("all reapers go on", || {
        looks = if reapers.iter().any(Process::is_stopped) { 0 } else { looks + 1 };
        looks > 20
    });
    Work::send_all(&works, Signal::STOP);
    check_gone(&world, &works, now() + TTL_MILLIS);
}

#[test]
fn the_reaper_shows_its_run_in_ps() {
    let world = World::of(3);
    let script = "touch began; while [ ! -e enough ]; do sleep 0.02; done";
    let run = world.quorlock(&["run", "nightly job", "--", "sh", "-c", script]).spawn().expect("a process");
    until("the command runs", || world.has("began"));
    let reaper = reaper_of(run.id() as i32).expect("a reaper");
    assert_eq!(reaper.comm, "lock-reaper");
    assert_eq!(reaper.words(), "quorlock: reaper of \"nightly job\"");
    world.write("enough", "");
    assert_eq!(end_of(run).code, Some(0));
}
