//! `forget`, and how long names are remembered without it.

use serde_json::Value;

use crate::world::{World, until};

fn fences(world: &World) -> usize {
    let count = |server: &quorlock_chaos::Server| {
        server.command::<Vec<String>>(&["KEYS", "quorlock:fence:*"]).expect("an answer").len()
    };
    world.fleet.servers().iter().map(count).sum()
}

#[test]
fn names_are_forgotten_on_every_node_and_reported_one_by_one() {
    let world = World::lasting(3, "300ms");
    for name in ["order:1", "order:2"] {
        assert_eq!(world.end(&["run", "-q", "--ttl", "300ms", name, "--", "true"]).code, Some(0));
    }
    assert_eq!(fences(&world), 6);
    let end = world.end(&["forget", "order:1", "order:2", "never:locked"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    for name in ["order:1", "order:2", "never:locked"] {
        assert!(end.out.contains(&format!("{name:?} is forgotten on 3 of 3 nodes")), "{end:?}");
    }
    until("no node remembers them", || fences(&world) == 0);
}

#[test]
fn held_names_are_not_forgotten_and_free_names_are() {
    let world = World::of(3);
    world.take("a");
    let end = world.end(&["forget", "--json", "a", "b"]);
    assert_eq!(end.code, Some(75), "{end:?}");
    let lines: Vec<Value> =
        end.out.lines().map(|line| serde_json::from_str(line).expect("JSON, a line each")).collect();
    let told: Vec<_> = lines.iter().map(|line| (line["name"].as_str(), line["outcome"].as_str())).collect();
    assert_eq!(told, [(Some("a"), Some("held")), (Some("b"), Some("forgotten"))]);
    assert_eq!(lines[1]["nodes"].as_array().map(Vec::len), Some(3));
    let end = world.end(&["forget", "a"]);
    assert!(end.err.contains("lock \"a\": not forgotten because it is held"), "{end:?}");
    assert_eq!(world.keys("a"), 3);
    assert!(!end.err.contains("quorlock force-release"), "it runs out: {end:?}");
    for server in world.fleet.servers() {
        server.command::<()>(&["PERSIST", "a"]).expect("an answer");
    }
    let end = world.end(&["forget", "a"]);
    assert!(end.err.contains("never expires") && end.err.contains("`quorlock force-release`"), "{end:?}");
}

#[test]
fn without_a_quorum_nothing_is_called_forgotten_and_bad_input_is_refused() {
    let mut world = World::of(3);
    assert_eq!(world.end(&["forget", ""]).code, Some(64));
    assert_eq!(world.end(&["forget"]).code, Some(64));
    let plain = world.end(&["forget", "--mode", "plain", "a"]);
    assert_eq!(plain.code, Some(64), "{plain:?}");
    (0..2).for_each(|node| world.fleet[node].kill());
    let end = world.end(&["forget", "a"]);
    assert_eq!(end.code, Some(69), "{end:?}");
    assert!(end.err.contains("a quorum"), "{end:?}");
}

#[test]
fn the_fencing_retention_is_the_same_for_all_clients() {
    let world = World::of(3);
    assert_eq!(world.end(&["run", "-q", "a", "--", "true"]).code, Some(0));
    for server in world.fleet.servers() {
        let life: i64 = server.command(&["PTTL", "quorlock:fence:a"]).expect("an answer");
        assert!((3_500_000..=3_600_000).contains(&life), "an hour: {life}");
    }
    let other = world.end(&["run", "-n", "--fencing-retention", "2h", "a", "--", "true"]);
    assert_eq!(other.code, Some(78), "{other:?}");
    assert!(other.err.contains("fences kept for 2h"), "{other:?}");
    let bad = world.end(&["run", "-n", "--fencing-retention", "59s", "a", "--", "true"]);
    assert_eq!(bad.code, Some(64), "{bad:?}");
    assert!(bad.err.contains("take at least 60s: twice the max ttl, or "), "{bad:?}");
    assert_eq!(world.end(&["init", "--force", "--fencing-retention", "2h"]).code, Some(0));
    assert_eq!(world.end(&["run", "-n", "--fencing-retention", "2h", "a", "--", "true"]).code, Some(0));
}

#[test]
fn doctor_reports_how_many_fences_are_kept_and_leaves_no_key() {
    let world = World::lasting(1, "1s");
    for name in ["a", "b", "c"] {
        assert_eq!(world.end(&["run", "-q", name, "--", "true"]).code, Some(0));
    }
    let end = world.end(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&end.out).expect("JSON");
    assert_eq!(report["nodes"][0]["fences"]["count"], 3, "{report}");
    assert!(report["nodes"][0]["fences"]["bytes"].as_u64().is_some_and(|bytes| bytes > 300), "{report}");
    until("its probe is forgotten", || fences(&world) == 3);
}
