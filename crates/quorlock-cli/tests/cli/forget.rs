//! `forget`, and how long fences of free names are kept without it.

use serde_json::Value;

use crate::world::{World, wait_until};

fn fences(world: &World) -> usize {
    let count = |server: &quorlock_chaos::Server| {
        server.command::<Vec<String>>(&["KEYS", "quorlock:fence:*"]).expect("a reply").len()
    };
    world.fleet.servers().iter().map(count).sum()
}

#[test]
fn names_are_forgotten_on_every_node_and_reported_one_by_one() {
    let world = World::with_max_ttl(3, "2s");
    for name in ["order:1", "order:2"] {
        assert_eq!(world.output(&["run", "-q", "--ttl", "2s", name, "--", "true"]).code, Some(0));
    }
    assert_eq!(fences(&world), 6);
    let output = world.output(&["forget", "order:1", "order:2", "never:locked"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    for name in ["order:1", "order:2", "never:locked"] {
        assert!(output.stdout.contains(&format!("{name:?} is forgotten on 3 of 3 nodes")), "{output:?}");
    }
    wait_until("no node has their fences", || fences(&world) == 0);
}

#[test]
fn held_names_are_not_forgotten_and_free_names_are() {
    let world = World::of(3);
    world.set_other_owner("a");
    let output = world.output(&["forget", "--json", "a", "b"]);
    assert_eq!(output.code, Some(75), "{output:?}");
    let lines: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON, a line each")).collect();
    let outcomes: Vec<_> =
        lines.iter().map(|line| (line["name"].as_str(), line["outcome"].as_str())).collect();
    assert_eq!(outcomes, [(Some("a"), Some("held")), (Some("b"), Some("forgotten"))]);
    let replies = lines[1]["replies"].as_array().expect("a list");
    assert!(replies.len() == 3 && replies.iter().all(|reply| reply["reply"] == "not_held"), "{replies:?}");
    let output = world.output(&["forget", "a"]);
    assert!(output.stderr.contains("lock \"a\": not forgotten because it is held"), "{output:?}");
    assert_eq!(world.key_count("a"), 3);
    assert!(
        !output.stderr.contains("quorlock force-release"),
        "a key with a ttl expires by itself: {output:?}"
    );
    for server in world.fleet.servers() {
        server.command::<()>(&["PERSIST", "a"]).expect("a reply");
    }
    let output = world.output(&["forget", "a"]);
    assert!(
        output.stderr.contains("never expires") && output.stderr.contains("`quorlock force-release`"),
        "{output:?}"
    );
}

#[test]
fn without_a_quorum_nothing_is_called_forgotten_and_bad_input_is_rejected() {
    let mut world = World::of(3);
    assert_eq!(world.output(&["forget", ""]).code, Some(64));
    assert_eq!(world.output(&["forget"]).code, Some(64));
    let plain = world.output(&["forget", "--mode", "plain", "a"]);
    assert_eq!(plain.code, Some(64), "{plain:?}");
    (0..2).for_each(|node| world.fleet[node].kill());
    let output = world.output(&["forget", "a"]);
    assert_eq!(output.code, Some(69), "{output:?}");
    assert!(output.stderr.contains("a quorum"), "{output:?}");
}

#[test]
fn the_fencing_retention_is_the_same_for_all_clients() {
    let world = World::of(3);
    assert_eq!(world.output(&["run", "-q", "a", "--", "true"]).code, Some(0));
    for server in world.fleet.servers() {
        let remaining_ms: i64 = server.command(&["PTTL", "quorlock:fence:a"]).expect("a reply");
        assert!((3_500_000..=3_600_000).contains(&remaining_ms), "an hour: {remaining_ms}");
    }
    // That of the lock cluster counts.
    let other = world.output(&["run", "-n", "--fencing-retention", "2h", "a", "--", "true"]);
    assert_eq!(other.code, Some(0), "{other:?}");
    let remaining_ms: i64 = world.fleet[0].command(&["PTTL", "quorlock:fence:a"]).expect("a reply");
    assert!((3_500_000..=3_600_000).contains(&remaining_ms), "an hour: {remaining_ms}");
    let too_short = world.output(&["run", "-n", "--fencing-retention", "59s", "a", "--", "true"]);
    assert_eq!(too_short.code, Some(64), "{too_short:?}");
    assert!(too_short.stderr.contains("take at least 60s: twice the max ttl, or "), "{too_short:?}");
    assert_eq!(world.output(&["init", "--force", "--fencing-retention", "2h"]).code, Some(0));
    assert_eq!(world.output(&["run", "-n", "--fencing-retention", "2h", "a", "--", "true"]).code, Some(0));
}

#[test]
fn doctor_reports_how_many_fences_are_kept_and_leaves_no_key() {
    let world = World::with_max_ttl(1, "1s");
    for name in ["a", "b", "c"] {
        assert_eq!(world.output(&["run", "-q", name, "--", "true"]).code, Some(0));
    }
    let output = world.output(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(report["nodes"][0]["fences"]["count"], 3, "{report}");
    assert!(report["nodes"][0]["fences"]["bytes"].as_u64().is_some_and(|bytes| bytes > 300), "{report}");
    wait_until("the probe's fence is dropped", || fences(&world) == 3);
}
