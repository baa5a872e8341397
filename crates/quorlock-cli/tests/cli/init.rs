//! `init`: servers declared a cluster.

use quorlock::{InitOutcome, Redlock};
use quorlock_chaos::Setup;
use serde_json::Value;

use crate::world::{World, end};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn new_servers_vote_at_once_after_init_and_a_second_init_changes_nothing() {
    let world = World::undeclared(3, None);
    let fresh = world.end(&["init"]);
    assert_eq!(fresh.code, Some(0), "{fresh:?}");
    assert!(
        fresh.out.contains("a new lock cluster") && fresh.out.contains("3 nodes, a quorum of 2"),
        "{fresh:?}"
    );
    assert!(fresh.out.contains("a max ttl of 30s, fences kept for 1h: give all"), "{fresh:?}");
    assert_eq!(world.end(&["run", "a", "-n", "--", "true"]).code, Some(0), "no client waits");
    let markers = world.markers();
    assert!(markers.iter().all(Option::is_some), "{markers:?}");
    let again = world.end(&["init"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.out.contains("already a lock cluster; nothing was changed"), "{again:?}");
    assert_eq!(world.markers(), markers);
}

#[test]
fn it_speaks_json() {
    let world = World::undeclared(3, Some("20s"));
    let fresh = json(&world.end(&["init", "--json", "--quorum", "3"]).out);
    assert_eq!(
        (&fresh["state"], &fresh["quorum"]),
        (&Value::from("initialized"), &Value::from(3)),
        "{fresh}"
    );
    assert_eq!(fresh["max_ttl_ms"], 20_000, "{fresh}");
    assert_eq!(fresh["fencing_retention_ms"], 3_600_000, "{fresh}");
    assert_eq!(
        (&fresh["nodes"][2]["state"], &fresh["nodes"][2]["votes"]),
        (&"up".into(), &true.into()),
        "{fresh}"
    );
    let again = json(&world.end(&["init", "--json", "--quorum", "3"]).out);
    assert_eq!(again["state"], "already-initialized", "{again}");
    let refused = world.end(&["init", "--json"]);
    assert_eq!(refused.code, Some(78), "{refused:?}");
    let refused = json(&refused.out);
    assert_eq!(
        (&refused["state"], &refused["nodes"][0]["exclusion"]),
        (&"not-empty".into(), &"cluster-mismatch".into())
    );
}

#[test]
fn other_settings_need_force_and_then_hold_for_all_clients() {
    let world = World::of(3);
    let before = world.markers();
    let refused = world.end(&["init", "--max-ttl", "5s"]);
    assert_eq!(refused.code, Some(78), "{refused:?}");
    for url in world.fleet.urls() {
        let address = url.trim_start_matches("redis://");
        let line = refused.err.lines().find(|line| line.contains(address)).expect("a line for each node");
        assert!(line.contains("max ttl of 30s") && line.contains("max ttl of 5s"), "{refused:?}");
    }
    assert!(refused.err.contains("--force") && refused.err.contains("stopped"), "{refused:?}");
    assert_eq!(world.markers(), before, "nothing was changed");
    let forced = world.end(&["init", "--force", "--max-ttl", "5s", "--fencing-retention", "2h"]);
    assert!(forced.out.contains("fences kept for 2h"), "{forced:?}");
    let forced = world.end(&["init", "--force", "--max-ttl", "5s"]);
    assert_eq!(forced.code, Some(0), "{forced:?}");
    assert!(forced.out.contains("a new lock cluster"), "{forced:?}");
    let run = |longest: &str| world.end(&["run", "a", "-n", "--max-ttl", longest, "--", "true"]).code;
    assert_eq!((run("5s"), run("30s")), (Some(0), Some(78)));
}

#[test]
fn forced_init_makes_one_cluster_of_blank_and_other_nodes() {
    let world = World::of(3);
    world.fleet[0].wipe().expect("wiped");
    world.fleet[1].wipe().expect("wiped");
    let refused = world.end(&["init"]);
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert_eq!(
        refused.err.lines().filter(|line| line.ends_with("  uninitialized")).count(),
        2,
        "{refused:?}"
    );
    assert_eq!(world.end(&["init", "--force"]).code, Some(0));
    assert_eq!(world.end(&["run", "a", "-n", "--", "true"]).code, Some(0));
}

#[test]
fn one_node_that_lost_its_marker_is_reported_by_init() {
    let world = World::of(3);
    world.fleet[1].wipe().expect("wiped");
    let told = world.end(&["init"]);
    assert_eq!(told.code, Some(0), "the two others say what it is: {told:?}");
    let port = world.fleet[1].port().to_string();
    let line = told.out.lines().find(|line| line.contains(&port)).expect("a line for it");
    assert!(line.contains("casts no vote for"), "{told:?}");
    assert!(told.out.contains("already a lock cluster"), "{told:?}");
    assert_eq!(told.out.matches("127.0.0.1:").count(), 1, "nothing is to be said of the others: {told:?}");
}

#[test]
fn all_nodes_must_be_there() {
    let mut world = World::undeclared(3, None);
    world.fleet[2].kill();
    for force in [&[][..], &["--force"]] {
        let missing = world.end(&[&["init"], force].concat());
        assert_eq!(missing.code, Some(69), "{missing:?}");
        let address = format!("127.0.0.1:{}", world.fleet[2].port());
        let line = missing.err.lines().find(|line| line.contains(&address)).expect("a line for it");
        assert!(line.contains("refused"), "{missing:?}");
    }
    world.fleet[2].restart(quorlock_chaos::Data::Kept).expect("back");
    let blank = world.markers();
    assert!(blank.iter().all(Option::is_none), "nothing was changed: {blank:?}");
}

#[test]
fn excluded_nodes_and_unreachable_nodes_have_different_messages() {
    let world = World::with(3, &Setup::new().password("right"));
    let bare = world.fleet.servers().iter().map(|server| format!("redis://127.0.0.1:{}", server.port()));
    let bare = bare.collect::<Vec<_>>().join(",");
    let refused = end(world.quorlock(&["init"]).env("QUORLOCK_NODES", bare));
    assert_eq!(refused.code, Some(77), "{refused:?}");
    assert_eq!(refused.err.matches("login refused").count(), 3, "{refused:?}");
    let nodes = format!("{},{}", world.fleet.nodes(), world.fleet[0].url().replace("127.0.0.1", "localhost"));
    let twice = end(world.quorlock(&["init"]).env("QUORLOCK_NODES", nodes));
    assert_eq!(twice.code, Some(78), "{twice:?}");
    assert!(twice.err.contains("same server"), "{twice:?}");
}

#[test]
fn init_is_rejected_in_plain_mode() {
    let world = World::undeclared(1, None);
    let plain = world.end(&["init", "--mode", "plain"]);
    assert_eq!(plain.code, Some(64), "{plain:?}");
    assert!(plain.err.starts_with("quorlock: --mode plain: "), "{plain:?}");
    let set = end(world.quorlock(&["init"]).env("QUORLOCK_MODE", "plain"));
    assert_eq!(set.code, Some(78), "what is set is configuration: {set:?}");
    assert_eq!(world.markers(), [None]);
}

#[tokio::test]
async fn the_command_and_the_library_agree_on_the_default_settings() {
    let world = World::of(3);
    let init = Redlock::builder().nodes(world.fleet.urls()).init(false).await;
    assert_eq!(init.expect("a cluster"), InitOutcome::AlreadyInitialized);
}
