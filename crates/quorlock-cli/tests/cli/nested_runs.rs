//! `run` inside `run`: what would wait for itself is refused, and nothing else is.

use std::fs;

use crate::world::{World, end, end_of, until};

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
            let nested = world.end(&[&["run", "a"], mode, &["--"], inner].concat());
            assert_eq!(nested.code, Some(64), "{inner:?}: {nested:?}");
            let line =
                "quorlock: lock \"a\": held by the `quorlock run` that started this one and waits for it";
            assert!(nested.err.contains(line), "{nested:?}");
        }
    }
    let at_once = world.end(&["run", "a", "--", PROGRAM, "run", "a", "-n", "--", "touch", "ran"]);
    assert_eq!(at_once.code, Some(75), "{at_once:?}");
    assert!(at_once.err.contains("that started this one"), "{at_once:?}");
    assert!(!world.has("ran"));
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
        let nested = world.end(&[&["run", "a", "--", PROGRAM], inner].concat());
        assert_eq!((nested.code, nested.err.as_str()), (Some(0), ""), "{inner:?}: {nested:?}");
    }
}

#[test]
fn a_process_that_left_its_session_inside_a_run_is_ended_and_not_waited_for() {
    let world = World::of(3);
    let script = "setsid \"$0\" run a -- touch ran; exit $?";
    let nested = world.end(&["run", "a", "--", "sh", "-c", script, PROGRAM]);
    assert_eq!(nested.code, Some(64), "{nested:?}");
    assert!(!world.has("ran"));
}

#[test]
fn a_process_outside_the_run_with_its_variables_waits_for_the_lock() {
    let world = World::of(3);
    let script = "echo \"$QUORLOCK_HELD\" > first; while [ ! -e enough ]; do sleep 0.02; done";
    let outer = world.quorlock(&["run", "a", "--", "sh", "-c", script]).spawn().expect("a process");
    until("it is held", || fs::read_to_string(world.file("first")).is_ok_and(|text| text.ends_with('\n')));
    let first = fs::read_to_string(world.file("first")).expect("a file");
    // As a job server does, which has the variables of who has sent the job.
    let said = fs::File::create(world.file("said")).expect("a file");
    let mut inner = world.quorlock(&["run", "a", "--", "sh", "-c", "echo \"$QUORLOCK_HELD\""]);
    let inner = inner.env("QUORLOCK_HELD", first.trim()).stderr(said).spawn().expect("a process");
    until("it waits, and says for whom", || {
        let said = fs::read_to_string(world.file("said")).unwrap_or_default();
        said.contains("waiting: held by a `quorlock run` whose QUORLOCK_HELD this process has")
    });
    fs::write(world.file("enough"), "").expect("a file");
    assert_eq!(end_of(outer).code, Some(0));
    let inner = end_of(inner);
    assert_eq!(inner.code, Some(0), "{inner:?}");
    assert!(inner.out.starts_with(first.trim()) && inner.out.len() > first.len(), "{first} {inner:?}");
}

/// Each container has a process 1, and small numbers are the same everywhere.
#[test]
fn the_process_number_alone_does_not_make_an_ancestor() {
    let world = World::of(3);
    let script = "echo \"$QUORLOCK_HELD\" > first; while [ ! -e enough ]; do sleep 0.02; done";
    let holds = ["run", "a", "--", "sh", "-c", script];
    // The first process of a container, where one may be made here; else one that says so.
    let mut outer = world.program("unshare", &[&["-pf", "--mount-proc", PROGRAM][..], &holds].concat());
    let is_contained = can_unshare();
    let outer = if is_contained { outer.spawn() } else { world.quorlock(&holds).spawn() };
    let outer = outer.expect("a process");
    until("it is held", || world.read("first").ends_with('\n'));
    let first = world.read("first");
    let (mark, process) = first.trim().split_once('@').expect("a mark and a process");
    let (number, rest) = process.split_once('.').unwrap_or((process, ""));
    assert!(!is_contained || number == "1", "{first}");
    for held in [format!("{mark}@1"), format!("{mark}@1.{rest}")] {
        let mut inner = world.quorlock(&["run", "a", "-w", "500ms", "--", "true"]);
        let inner = end(inner.env("QUORLOCK_HELD", &held));
        let said =
            inner.err.contains("waiting: held by a `quorlock run` whose QUORLOCK_HELD this process has");
        assert!(inner.code == Some(75) && said, "{held}: {inner:?}");
        let mut at_once = world.quorlock(&["run", "a", "-n", "--", "true"]);
        let at_once = end(at_once.env("QUORLOCK_HELD", &held));
        assert!(at_once.code == Some(75) && at_once.err.contains("whose QUORLOCK_HELD"), "{at_once:?}");
    }
    fs::write(world.file("enough"), "").expect("a file");
    assert_eq!(end_of(outer).code, Some(0));
}

/// It sees its ancestors with the outer `/proc` alone, and could not see its own processes then. Else it waits, and says
/// for what.
#[test]
fn a_nested_run_in_its_own_pid_namespace_is_refused_or_says_what_it_waits_for() {
    if !can_unshare() {
        return;
    }
    let world = World::of(3);
    let inside = |proc: &[&str], wait: &str| {
        let inner = [PROGRAM, "run", "a", "-w", wait, "--", "touch", "ran"];
        world.end(&[&["run", "a", "--", "unshare", "-pf"], proc, &inner].concat())
    };
    let sees = inside(&[], "1h");
    assert_eq!(sees.code, Some(70), "{sees:?}");
    assert!(sees.err.contains("/proc is of another PID namespace"), "{sees:?}");
    let is_blind = inside(&["--mount-proc"], "1s");
    assert_eq!(is_blind.code, Some(75), "{is_blind:?}");
    assert!(is_blind.err.contains("whose QUORLOCK_HELD this process has"), "{is_blind:?}");
    assert!(is_blind.err.contains("if that one waits for this process, neither ends"), "{is_blind:?}");
    assert!(!world.has("ran"));
}

fn can_unshare() -> bool {
    let tried = std::process::Command::new("unshare").args(["-pf", "--mount-proc", "true"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

#[test]
fn a_variable_that_outlived_its_lock_is_ignored() {
    let world = World::of(3);
    let first = world.end(&["run", "a", "--", "sh", "-c", "echo \"$QUORLOCK_HELD\""]).out;
    world.take("a");
    let mut stale = world.quorlock(&["run", "a", "-n", "--", "true"]);
    let stale = end(stale.env("QUORLOCK_HELD", first.trim()));
    assert_eq!(stale.code, Some(75), "{stale:?}");
    assert!(!stale.err.contains("started this one"), "{stale:?}");
    let mut free = world.quorlock(&["run", "b", "--", "true"]);
    assert_eq!(end(free.env("QUORLOCK_HELD", "nonsense 0@ @ 45bf80c1@1")).code, Some(0));
}
