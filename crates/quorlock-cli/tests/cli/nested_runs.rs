//! `run` inside `run`: rejected only if it would wait for itself.

use std::fs;

use crate::world::{World, output, output_of, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_quorlock");

#[test]
fn a_run_inside_a_run_of_the_same_name_does_not_wait_for_itself() {
    let world = World::of(3);
    for inner in [
        &[PROGRAM, "run", "a", "--", "touch", "ran"][..],
        &["sh", "-c", "\"$0\" run a -w 1h -- touch ran; exit $?", PROGRAM],
        &[PROGRAM, "run", "b", "--", PROGRAM, "run", "a", "--", "touch", "ran"],
    ] {
        for mode in [&[][..], &["--mode", "plain"]] {
            let nested = world.output(&[&["run", "a"], mode, &["--"], inner].concat());
            assert_eq!(nested.code, Some(64), "{inner:?}: {nested:?}");
            let line =
                "quorlock: lock \"a\": held by the `quorlock run` that started this one and waits for it";
            assert!(nested.stderr.contains(line), "{nested:?}");
        }
    }
    let nonblocking = world.output(&["run", "a", "--", PROGRAM, "run", "a", "-n", "--", "touch", "ran"]);
    assert_eq!(nonblocking.code, Some(75), "{nonblocking:?}");
    assert!(nonblocking.stderr.contains("that started this one"), "{nonblocking:?}");
    assert!(!world.has_file("ran"));
}

#[test]
fn a_run_inside_a_run_of_another_lock_waits_normally() {
    let (world, others) = (World::of(3), World::of(1));
    let nodes = others.fleet.nodes();
    for inner in [
        &["run", "b", "--", "true"][..],
        &["run", "a", "--key-prefix", "mine:", "--", "true"],
        &["run", "a", "--nodes", &nodes, "--", "true"],
    ] {
        let nested = world.output(&[&["run", "a", "--", PROGRAM], inner].concat());
        assert_eq!((nested.code, nested.stderr.as_str()), (Some(0), ""), "{inner:?}: {nested:?}");
    }
}

#[test]
fn a_process_that_left_its_session_inside_a_run_is_ended_and_not_waited_for() {
    let world = World::of(3);
    let script = "setsid \"$0\" run a -- touch ran; exit $?";
    let nested = world.output(&["run", "a", "--", "sh", "-c", script, PROGRAM]);
    assert_eq!(nested.code, Some(64), "{nested:?}");
    assert!(!world.has_file("ran"));
}

#[test]
fn a_process_outside_the_run_with_its_variables_waits_for_the_lock() {
    let world = World::of(3);
    let script = "echo \"$QUORLOCK_HELD\" > first; while [ ! -e enough ]; do sleep 0.02; done";
    let outer = world.quorlock(&["run", "a", "--", "sh", "-c", script]).spawn().expect("a process");
    wait_until("the outer run holds the lock", || {
        fs::read_to_string(world.file("first")).is_ok_and(|text| text.ends_with('\n'))
    });
    let first = fs::read_to_string(world.file("first")).expect("a file");
    // As in a job server, which passes the client's variables to its jobs.
    let stderr = fs::File::create(world.file("stderr")).expect("a file");
    let mut inner = world.quorlock(&["run", "a", "--", "sh", "-c", "echo \"$QUORLOCK_HELD\""]);
    let inner = inner.env("QUORLOCK_HELD", first.trim()).stderr(stderr).spawn().expect("a process");
    wait_until("the inner run reports the outer run", || {
        let stderr = fs::read_to_string(world.file("stderr")).unwrap_or_default();
        stderr.contains("waiting: held by a `quorlock run` whose QUORLOCK_HELD this process has")
    });
    fs::write(world.file("enough"), "").expect("a file");
    assert_eq!(output_of(outer).code, Some(0));
    let inner = output_of(inner);
    assert_eq!(inner.code, Some(0), "{inner:?}");
    assert!(inner.stdout.starts_with(first.trim()) && inner.stdout.len() > first.len(), "{first} {inner:?}");
}

/// Each container has a process 1, and small pids recur everywhere.
#[test]
fn the_process_number_alone_does_not_make_an_ancestor() {
    let world = World::of(3);
    let script = "echo \"$QUORLOCK_HELD\" > first; while [ ! -e enough ]; do sleep 0.02; done";
    let run_args = ["run", "a", "--", "sh", "-c", script];
    // The first process of a container, if this user may make one.
    let mut outer = world.program("unshare", &[&["-pf", "--mount-proc", PROGRAM][..], &run_args].concat());
    let is_contained = can_unshare();
    let outer = if is_contained { outer.spawn() } else { world.quorlock(&run_args).spawn() };
    let outer = outer.expect("a process");
    wait_until("the outer run holds the lock", || world.read("first").ends_with('\n'));
    let first = world.read("first");
    let (owner, process) = first.trim().split_once('@').expect("an owner hash and a process");
    let (number, rest) = process.split_once('.').unwrap_or((process, ""));
    assert!(!is_contained || number == "1", "{first}");
    for variable in [format!("{owner}@1"), format!("{owner}@1.{rest}")] {
        let mut inner = world.quorlock(&["run", "a", "-w", "500ms", "--", "true"]);
        let inner = output(inner.env("QUORLOCK_HELD", &variable));
        let stderr =
            inner.stderr.contains("waiting: held by a `quorlock run` whose QUORLOCK_HELD this process has");
        assert!(inner.code == Some(75) && stderr, "{variable}: {inner:?}");
        let mut nonblocking = world.quorlock(&["run", "a", "-n", "--", "true"]);
        let nonblocking = output(nonblocking.env("QUORLOCK_HELD", &variable));
        assert!(
            nonblocking.code == Some(75) && nonblocking.stderr.contains("whose QUORLOCK_HELD"),
            "{nonblocking:?}"
        );
    }
    fs::write(world.file("enough"), "").expect("a file");
    assert_eq!(output_of(outer).code, Some(0));
}

/// With the outer `/proc` it sees its ancestors but not its own processes, so it is rejected. With its own
/// `/proc` it waits, and reports the reason.
#[test]
fn a_nested_run_in_its_own_pid_namespace_is_rejected_or_reports_what_it_waits_for() {
    if !can_unshare() {
        return;
    }
    let world = World::of(3);
    let inside = |proc: &[&str], wait: &str| {
        let inner = [PROGRAM, "run", "a", "-w", wait, "--", "touch", "ran"];
        world.output(&[&["run", "a", "--", "unshare", "-pf"], proc, &inner].concat())
    };
    let outer_proc = inside(&[], "1h");
    assert_eq!(outer_proc.code, Some(71), "{outer_proc:?}");
    assert!(outer_proc.stderr.contains("/proc is of another PID namespace"), "{outer_proc:?}");
    let own_proc = inside(&["--mount-proc"], "1s");
    assert_eq!(own_proc.code, Some(75), "{own_proc:?}");
    assert!(own_proc.stderr.contains("whose QUORLOCK_HELD this process has"), "{own_proc:?}");
    assert!(own_proc.stderr.contains("if that one waits for this process, neither ends"), "{own_proc:?}");
    assert!(!world.has_file("ran"));
}

fn can_unshare() -> bool {
    let check = std::process::Command::new("unshare").args(["-pf", "--mount-proc", "true"]).output();
    check.is_ok_and(|check| check.status.success())
}

#[test]
fn a_variable_that_outlived_its_lock_is_ignored() {
    let world = World::of(3);
    let first = world.output(&["run", "a", "--", "sh", "-c", "echo \"$QUORLOCK_HELD\""]).stdout;
    world.set_other_owner("a");
    let mut stale = world.quorlock(&["run", "a", "-n", "--", "true"]);
    let stale = output(stale.env("QUORLOCK_HELD", first.trim()));
    assert_eq!(stale.code, Some(75), "{stale:?}");
    assert!(!stale.stderr.contains("started this one"), "{stale:?}");
    let mut free = world.quorlock(&["run", "b", "--", "true"]);
    assert_eq!(output(free.env("QUORLOCK_HELD", "nonsense 0@ @ 45bf80c1@1")).code, Some(0));
}
