//! `run` inside `run`: what would wait for itself is refused, and nothing else is.

use std::fs;

use crate::world::{World, end, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_quorlock");

#[test]
fn a_run_inside_a_run_of_the_same_name_does_not_wait_for_itself() {
    let world = World::of(3);
    for inner in [
        &[PROGRAM, "run", "a", "--", "touch", "ran"][..],
        &["sh", "-c", "\"$0\" run a -w 1h -- touch ran; exit $?", PROGRAM],
        &[PROGRAM, "run", "b", "--", PROGRAM, "run", "a", "--", "touch", "ran"],
    ] {
        for mode in [&[][..], &["--plain"]] {
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
fn a_run_inside_a_run_of_another_lock_is_none_of_that() {
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
fn what_was_started_under_a_lock_and_outlives_it_may_take_it() {
    let world = World::of(3);
    // While it is held: it has left the session, and waits for its turn, as it says.
    let script = "setsid \"$0\" run a -- sh -c 'echo \"$QUORLOCK_HELD\" > later' 2> said & \
                  while [ ! -s said ]; do sleep 0.02; done; echo \"$QUORLOCK_HELD\" > first";
    let outer = world.end(&["run", "a", "--", "sh", "-c", script, PROGRAM]);
    assert_eq!(outer.code, Some(0), "{outer:?}");
    until("it has its turn", || fs::read_to_string(world.file("later")).is_ok_and(|text| !text.is_empty()));
    let said = fs::read_to_string(world.file("said")).expect("a file");
    assert!(said.contains("waiting: held by the `quorlock run` that started this one"), "{said}");
    let [first, later] = ["first", "later"].map(|name| fs::read_to_string(world.file(name)).expect("a file"));
    assert!(later.starts_with(first.trim()) && later.len() > first.len(), "{first} {later}");
    // And when it has long been given up, whoever holds it now.
    world.take("a");
    let mut stale = world.quorlock(&["run", "a", "-n", "--", "true"]);
    let stale = end(stale.env("QUORLOCK_HELD", first.trim()));
    assert_eq!(stale.code, Some(75), "{stale:?}");
    assert!(!stale.err.contains("started this one"), "{stale:?}");
    let mut free = world.quorlock(&["run", "b", "--", "true"]);
    assert_eq!(end(free.env("QUORLOCK_HELD", "nonsense 0@ @ 45bf80c1@1")).code, Some(0));
}
