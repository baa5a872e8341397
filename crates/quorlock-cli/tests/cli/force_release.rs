//! `break`: whose lock, what becomes of its holder, and what is said.

use std::process::Child;

use crate::world::{World, end_of, send, until};
use rustix::process::Signal;

/// A holder that lives, and the hash that `status` shows of it.
fn holder(world: &World, more: &[&str]) -> (Child, String) {
    let args = [&["run", "a", "--ttl", "1500ms"], more, &["--", "sh", "-c", "touch began; exec sleep 60"]];
    let child = world.quorlock(&args.concat()).spawn().expect("a process");
    until("the command runs", || world.has("began"));
    until("it stands everywhere", || world.keys("a") == world.fleet.len());
    std::fs::remove_file(world.file("began")).expect("a file");
    (child, hash(world))
}

fn hash(world: &World) -> String {
    let status = world.end(&["status", "a", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&status.out).expect("JSON");
    told["holder"].as_str().expect("a holder").to_owned()
}

#[test]
fn a_broken_lock_ends_the_command_of_its_holder_and_stays_free() {
    let world = World::of(3);
    let args = ["run", "a", "--ttl", "1500ms", "--", "sh", "-c", "touch began; exec sleep 60"];
    let child = world.quorlock(&args).spawn().expect("a process");
    until("the command runs", || world.has("began"));
    assert_eq!(world.end(&["force-release", "a", "--yes"]).code, Some(0));
    let end = end_of(child);
    assert_eq!(end.code, Some(70), "{end:?}");
    assert!(end.err.contains("lock \"a\": lost"), "{end:?}");
    assert_eq!((world.keys("a"), world.end(&["status", "a"]).code), (0, Some(0)));
}

#[test]
fn breaking_a_plain_lock_says_that_its_holder_must_be_stopped() {
    let world = World::of(3);
    world.take("a");
    let broken = world.end(&["force-release", "a", "--yes", "--mode", "plain"]);
    assert_eq!(broken.code, Some(0), "{broken:?}");
    assert!(broken.err.contains("plain") && broken.err.contains("stop it"), "{broken:?}");
    let nothing = world.end(&["force-release", "a", "--yes", "--mode", "plain"]);
    assert_eq!((nothing.code, nothing.err.as_str()), (Some(0), ""));
    world.take("a");
    let fenced = world.end(&["force-release", "a", "--yes"]);
    assert_eq!((fenced.code, fenced.err.as_str()), (Some(0), ""));
    let help = world.end(&["force-release", "--help"]);
    assert!(help.out.contains("--mode plain") && help.out.contains("stop the holder first"), "{help:?}");
}

#[test]
fn break_says_what_came_of_it() {
    let world = World::of(3);
    world.take("a");
    let broken = world.end(&["force-release", "a", "--yes"]);
    let words = "\"a\" is broken: its key was deleted on 3 of 3 nodes; a holder that lives is told at its next renewal, within \
                 a third of its ttl, and does not take it again\n";
    assert!(broken.out.ends_with(words), "{broken:?}");
    let nothing = world.end(&["force-release", "a", "--yes"]);
    assert!(nothing.out.ends_with("\"a\" was not locked: none of 3 nodes had its key\n"), "{nothing:?}");
}

#[test]
fn a_plain_lock_that_is_broken_is_taken_again_by_a_holder_that_lives_as_it_was_said() {
    let world = World::of(3);
    let (child, hash) = holder(&world, &["--mode", "plain"]);
    let broken = world.end(&["force-release", "a", "--yes", "--mode", "plain", "--if-holder", &hash]);
    assert_eq!(broken.code, Some(0), "{broken:?}");
    assert!(
        broken.err.contains("takes it again at its next renewal") && broken.err.contains("stop it"),
        "{broken:?}"
    );
    until("it is back", || world.keys("a") == 3);
    send(&child, Signal::TERM);
    assert_eq!(end_of(child).code, Some(143));
}

#[test]
fn the_holder_that_was_looked_at_is_broken_and_no_later_one() {
    let world = World::of(5);
    let (first, old) = holder(&world, &[]);
    send(&first, Signal::TERM);
    assert_eq!(end_of(first).code, Some(143));
    let gone = world.end(&["force-release", "a", "--yes", "--if-holder", &old]);
    assert_eq!(gone.code, Some(0), "{gone:?}");
    assert!(
        gone.out.ends_with(&format!("\"a\" is not held by #{old} any more: nothing was deleted\n")),
        "{gone:?}"
    );
    let (later, new) = holder(&world, &[]);
    let spared = world.end(&["force-release", "a", "--yes", "--if-holder", &old]);
    assert_eq!(spared.code, Some(75), "{spared:?}");
    assert!(spared.err.contains(&format!("held by another than #{old} by now")), "{spared:?}");
    assert_eq!(spared.out.matches("another's, left alone").count(), 5, "{spared:?}");
    assert_eq!((world.keys("a"), hash(&world)), (5, new.clone()));
    let told = world.end(&["force-release", "a", "--yes", "--json", "--if-holder", &old]);
    assert!(told.code == Some(75) && told.out.contains("\"outcome\":\"another holder\""), "{told:?}");
    let broken = world.end(&["force-release", "a", "--yes", "--if-holder", &format!("#{new}")]);
    assert_eq!(broken.code, Some(0), "{broken:?}");
    let end = end_of(later);
    assert_eq!(end.code, Some(70), "{end:?}");
    assert_eq!(world.keys("a"), 0, "and it did not come back");
}

#[test]
fn one_holder_is_not_called_broken_while_it_may_have_a_quorum() {
    let mut world = World::of(5);
    world.take("a");
    let hash = hash(&world);
    (0..3).for_each(|place| world.fleet[place].kill());
    let half = world.end(&["force-release", "a", "--yes", "--if-holder", &hash]);
    assert_eq!(half.code, Some(69), "{half:?}");
    assert!(half.err.contains("deleted on 2 of 5 nodes, and 3 must"), "{half:?}");
}

#[test]
fn what_is_no_hash_is_refused_before_anything_is_deleted() {
    let world = World::of(1);
    world.take("a");
    for bad in ["", "#", "45bf80c", "#45bf80c1a", "45bf80cg", "somebody"] {
        let refused = world.end(&["force-release", "a", "--yes", "--if-holder", bad]);
        assert_eq!((refused.code, world.keys("a")), (Some(64), 1), "{refused:?}");
    }
}

/// Nobody holds a list.
#[test]
fn of_a_key_that_is_no_lock_no_holder_is_spoken_of() {
    let world = World::of(3);
    for mode in [&[][..], &["--mode", "plain"]] {
        for server in world.fleet.servers() {
            server.command::<()>(&["RPUSH", "a", "x"]).expect("a key");
        }
        let broken = world.end(&[&["force-release", "--yes", "a"], mode].concat());
        assert_eq!(broken.code, Some(0), "{broken:?}");
        let line =
            "\"a\" is broken: its key was deleted on 3 of 3 nodes; it was of another type, and no lock\n";
        assert!(broken.out.ends_with(line) && broken.err.is_empty(), "{broken:?}");
    }
}
