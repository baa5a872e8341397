//! `force-release`: which lock it frees, what happens to its holder, and its messages.

use std::process::Child;

use crate::world::{World, end_of, send, until};
use rustix::process::Signal;

/// A live holder, and the hash that `status` shows of it.
fn holder(world: &World, more: &[&str]) -> (Child, String) {
    let args = [&["run", "a", "--ttl", "1500ms"], more, &["--", "sh", "-c", "touch began; exec sleep 60"]];
    let child = world.quorlock(&args.concat()).spawn().expect("a process");
    until("the command runs", || world.has("began"));
    until("its key is on every node", || world.keys("a") == world.fleet.len());
    std::fs::remove_file(world.file("began")).expect("a file");
    (child, hash(world))
}

fn hash(world: &World) -> String {
    let status = world.end(&["status", "a", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&status.out).expect("JSON");
    shown["holder"].as_str().expect("a holder").to_owned()
}

#[test]
fn a_released_lock_ends_the_command_of_its_holder_and_stays_free() {
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
fn force_releasing_a_plain_lock_says_that_its_holder_must_be_stopped() {
    let world = World::of(3);
    world.take("a");
    let released = world.end(&["force-release", "a", "--yes", "--mode", "plain"]);
    assert_eq!(released.code, Some(0), "{released:?}");
    assert!(released.err.contains("plain") && released.err.contains("stop it"), "{released:?}");
    let nothing = world.end(&["force-release", "a", "--yes", "--mode", "plain"]);
    assert_eq!((nothing.code, nothing.err.as_str()), (Some(0), ""));
    world.take("a");
    let fenced = world.end(&["force-release", "a", "--yes"]);
    assert_eq!((fenced.code, fenced.err.as_str()), (Some(0), ""));
    let help = world.end(&["force-release", "--help"]);
    assert!(help.out.contains("--mode plain") && help.out.contains("stop the holder first"), "{help:?}");
}

#[test]
fn it_reports_its_result() {
    let world = World::of(3);
    world.take("a");
    let released = world.end(&["force-release", "a", "--yes"]);
    let message = "\"a\" is released: its key was deleted on 3 of 3 nodes; a live holder learns this at its next renewal, within \
                 a third of its ttl, and does not take it again\n";
    assert!(released.out.ends_with(message), "{released:?}");
    let nothing = world.end(&["force-release", "a", "--yes"]);
    assert!(nothing.out.ends_with("\"a\" was not locked: none of 3 nodes had its key\n"), "{nothing:?}");
}

#[test]
fn a_live_plain_holder_takes_a_released_lock_again_as_announced() {
    let world = World::of(3);
    let (child, hash) = holder(&world, &["--mode", "plain"]);
    let released = world.end(&["force-release", "a", "--yes", "--mode", "plain", "--if-holder", &hash]);
    assert_eq!(released.code, Some(0), "{released:?}");
    assert!(
        released.err.contains("takes it again at its next renewal") && released.err.contains("stop it"),
        "{released:?}"
    );
    until("it is back", || world.keys("a") == 3);
    send(&child, Signal::TERM);
    assert_eq!(end_of(child).code, Some(143));
}

#[test]
fn if_holder_frees_the_lock_of_that_holder_and_of_no_later_one() {
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
    assert!(spared.err.contains(&format!("another holder than #{old} has it")), "{spared:?}");
    assert_eq!(spared.out.matches("of another holder, left alone").count(), 5, "{spared:?}");
    assert_eq!((world.keys("a"), hash(&world)), (5, new.clone()));
    let shown = world.end(&["force-release", "a", "--yes", "--json", "--if-holder", &old]);
    assert!(shown.code == Some(75) && shown.out.contains("\"outcome\":\"another holder\""), "{shown:?}");
    let released = world.end(&["force-release", "a", "--yes", "--if-holder", &format!("#{new}")]);
    assert_eq!(released.code, Some(0), "{released:?}");
    let end = end_of(later);
    assert_eq!(end.code, Some(70), "{end:?}");
    assert_eq!(world.keys("a"), 0, "and it did not come back");
}

#[test]
fn a_holder_is_not_called_released_while_it_may_have_a_quorum() {
    let mut world = World::of(5);
    world.take("a");
    let hash = hash(&world);
    (0..3).for_each(|place| world.fleet[place].kill());
    let half = world.end(&["force-release", "a", "--yes", "--if-holder", &hash]);
    assert_eq!(half.code, Some(69), "{half:?}");
    assert!(half.err.contains("deleted on 2 of 5 nodes, and 3 must"), "{half:?}");
}

#[test]
fn a_malformed_hash_is_refused_before_anything_is_deleted() {
    let world = World::of(1);
    world.take("a");
    for bad in ["", "#", "45bf80c", "#45bf80c1a", "45bf80cg", "a-holder"] {
        let refused = world.end(&["force-release", "a", "--yes", "--if-holder", bad]);
        assert_eq!((refused.code, world.keys("a")), (Some(64), 1), "{refused:?}");
    }
}

#[test]
fn for_a_key_of_another_type_no_holder_is_mentioned() {
    let world = World::of(3);
    for mode in [&[][..], &["--mode", "plain"]] {
        for server in world.fleet.servers() {
            server.command::<()>(&["RPUSH", "a", "x"]).expect("a key");
        }
        let released = world.end(&[&["force-release", "--yes", "a"], mode].concat());
        assert_eq!(released.code, Some(0), "{released:?}");
        let line =
            "\"a\" is released: its key was deleted on 3 of 3 nodes; it was of another type, not a lock\n";
        assert!(released.out.ends_with(line) && released.err.is_empty(), "{released:?}");
    }
}
