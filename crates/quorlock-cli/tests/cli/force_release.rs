//! `force-release`: the freed lock, the effect on its holder, and the messages.

use std::process::Child;

use crate::world::{World, output_of, send, wait_until};
use rustix::process::Signal;

/// Starts a holder. Returns it with its owner hash from `status`.
fn holder(world: &World, more: &[&str]) -> (Child, String) {
    let args = [&["run", "a", "--ttl", "1500ms"], more, &["--", "sh", "-c", "touch began; exec sleep 60"]];
    let child = world.quorlock(&args.concat()).spawn().expect("a process");
    wait_until("the command runs", || world.has_file("began"));
    wait_until("the key is on every node", || world.key_count("a") == world.fleet.len());
    std::fs::remove_file(world.file("began")).expect("a file");
    (child, hash(world))
}

fn hash(world: &World) -> String {
    let status = world.output(&["status", "a", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
    shown["holder"]["owner"].as_str().expect("a holder").to_owned()
}

#[test]
fn a_released_lock_ends_the_command_of_its_holder_and_stays_free() {
    let world = World::of(3);
    let args = ["run", "a", "--ttl", "1500ms", "--", "sh", "-c", "touch began; exec sleep 60"];
    let child = world.quorlock(&args).spawn().expect("a process");
    wait_until("the command runs", || world.has_file("began"));
    assert_eq!(world.output(&["force-release", "a", "--yes"]).code, Some(0));
    let output = output_of(child);
    assert_eq!(output.code, Some(70), "{output:?}");
    assert!(output.stderr.contains("lock \"a\": lost"), "{output:?}");
    assert_eq!((world.key_count("a"), world.output(&["status", "a"]).code), (0, Some(0)));
}

#[test]
fn force_releasing_a_plain_lock_warns_that_its_holder_must_be_stopped() {
    let world = World::of(3);
    world.set_other_owner("a");
    let released = world.output(&["force-release", "a", "--yes", "--mode", "plain"]);
    assert_eq!(released.code, Some(0), "{released:?}");
    assert!(released.stderr.contains("plain") && released.stderr.contains("stop it"), "{released:?}");
    let again = world.output(&["force-release", "a", "--yes", "--mode", "plain"]);
    assert_eq!((again.code, again.stderr.as_str()), (Some(0), ""));
    world.set_other_owner("a");
    let fenced = world.output(&["force-release", "a", "--yes"]);
    assert_eq!((fenced.code, fenced.stderr.as_str()), (Some(0), ""));
    let help = world.output(&["force-release", "--help"]);
    assert!(
        help.stdout.contains("--mode plain") && help.stdout.contains("stop the holder first"),
        "{help:?}"
    );
}

#[test]
fn it_reports_its_result() {
    let world = World::of(3);
    world.set_other_owner("a");
    let released = world.output(&["force-release", "a", "--yes"]);
    let message = "\"a\" is released: its key was deleted on 3 of 3 nodes; a live holder learns this at its next renewal, within \
                 a third of its ttl, and does not take it again\n";
    assert!(released.stdout.ends_with(message), "{released:?}");
    let again = world.output(&["force-release", "a", "--yes"]);
    assert!(again.stdout.ends_with("\"a\" was not locked: none of 3 nodes had its key\n"), "{again:?}");
}

#[test]
fn a_live_plain_holder_takes_a_released_lock_again_as_announced() {
    let world = World::of(3);
    let (child, hash) = holder(&world, &["--mode", "plain"]);
    let released = world.output(&["force-release", "a", "--yes", "--mode", "plain", "--if-holder", &hash]);
    assert_eq!(released.code, Some(0), "{released:?}");
    assert!(
        released.stderr.contains("takes it again at its next renewal") && released.stderr.contains("stop it"),
        "{released:?}"
    );
    wait_until("the key is on all nodes again", || world.key_count("a") == 3);
    send(&child, Signal::TERM);
    assert_eq!(output_of(child).code, Some(143));
}

#[test]
fn if_holder_frees_the_lock_of_that_holder_and_of_no_later_one() {
    let world = World::of(5);
    let (first, old) = holder(&world, &[]);
    send(&first, Signal::TERM);
    assert_eq!(output_of(first).code, Some(143));
    let released_before = world.output(&["force-release", "a", "--yes", "--if-holder", &old]);
    assert_eq!(released_before.code, Some(0), "{released_before:?}");
    assert!(
        released_before
            .stdout
            .ends_with(&format!("\"a\" is not held by #{old} any more: nothing was deleted\n")),
        "{released_before:?}"
    );
    let (later, new) = holder(&world, &[]);
    let kept = world.output(&["force-release", "a", "--yes", "--if-holder", &old]);
    assert_eq!(kept.code, Some(75), "{kept:?}");
    assert!(kept.stderr.contains(&format!("another holder than #{old} has it")), "{kept:?}");
    assert_eq!(kept.stdout.matches("of another holder, left alone").count(), 5, "{kept:?}");
    assert_eq!((world.key_count("a"), hash(&world)), (5, new.clone()));
    let shown = world.output(&["force-release", "a", "--yes", "--json", "--if-holder", &old]);
    assert!(shown.code == Some(75) && shown.stdout.contains("\"outcome\":\"another_holder\""), "{shown:?}");
    let released = world.output(&["force-release", "a", "--yes", "--if-holder", &format!("#{new}")]);
    assert_eq!(released.code, Some(0), "{released:?}");
    let output = output_of(later);
    assert_eq!(output.code, Some(70), "{output:?}");
    assert_eq!(world.key_count("a"), 0, "the key came back");
}

#[test]
fn a_holder_is_not_called_released_while_it_may_have_a_quorum() {
    let mut world = World::of(5);
    world.set_other_owner("a");
    let hash = hash(&world);
    (0..3).for_each(|index| world.fleet[index].kill());
    let partial = world.output(&["force-release", "a", "--yes", "--if-holder", &hash]);
    assert_eq!(partial.code, Some(69), "{partial:?}");
    assert!(partial.stderr.contains("deleted on 2 of 5 nodes, and 3 must"), "{partial:?}");
}

#[test]
fn a_malformed_hash_is_rejected_before_anything_is_deleted() {
    let world = World::of(1);
    world.set_other_owner("a");
    for bad in ["", "#", "45bf80c", "#45bf80c1a", "45bf80cg", "a-holder"] {
        let rejected = world.output(&["force-release", "a", "--yes", "--if-holder", bad]);
        assert_eq!((rejected.code, world.key_count("a")), (Some(64), 1), "{rejected:?}");
    }
}

#[test]
fn for_a_key_of_another_type_no_holder_is_mentioned() {
    let world = World::of(3);
    for mode in [&[][..], &["--mode", "plain"]] {
        for server in world.fleet.servers() {
            server.command::<()>(&["RPUSH", "a", "x"]).expect("a key");
        }
        let released = world.output(&[&["force-release", "--yes", "a"], mode].concat());
        assert_eq!(released.code, Some(0), "{released:?}");
        let line =
            "\"a\" is released: its key was deleted on 3 of 3 nodes; it was of another type, not a lock\n";
        assert!(released.stdout.ends_with(line) && released.stderr.is_empty(), "{released:?}");
    }
}
