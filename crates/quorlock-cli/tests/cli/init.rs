//! `init`: makes servers a lock cluster.

use quorlock::{InitOutcome, Redlock};
use quorlock_chaos::{Data, Setup};
use serde_json::Value;

use crate::world::{World, output};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn new_servers_vote_at_once_after_init_and_a_second_init_changes_nothing() {
    let world = World::uninitialized(3, None);
    let first = world.output(&["init"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(
        first.stdout.contains("a new lock cluster") && first.stdout.contains("3 nodes, a quorum of 2"),
        "{first:?}"
    );
    assert!(first.stdout.contains("a max ttl of 30s, fences kept for 1h: give all"), "{first:?}");
    assert_eq!(
        world.output(&["run", "a", "-n", "--", "true"]).code,
        Some(0),
        "the nodes do not vote at once"
    );
    let markers = world.markers();
    assert!(markers.iter().all(Option::is_some), "{markers:?}");
    let again = world.output(&["init"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.stdout.contains("already a lock cluster; nothing was changed"), "{again:?}");
    assert_eq!(world.markers(), markers);
}

#[test]
fn init_prints_json() {
    let world = World::uninitialized(3, Some("20s"));
    let first = json(&world.output(&["init", "--json", "--quorum", "3"]).stdout);
    assert_eq!(
        (&first["outcome"], &first["quorum"]),
        (&Value::from("initialized"), &Value::from(3)),
        "{first}"
    );
    assert_eq!(first["max_ttl_ms"], 20_000, "{first}");
    assert_eq!(first["fencing_retention_ms"], 3_600_000, "{first}");
    assert_eq!(
        (&first["nodes"][2]["state"], &first["nodes"][2]["is_voting"]),
        (&"up".into(), &true.into()),
        "{first}"
    );
    let again = json(&world.output(&["init", "--json", "--quorum", "3"]).stdout);
    assert_eq!(again["outcome"], "already_initialized", "{again}");
    let rejected = world.output(&["init", "--json"]);
    assert_eq!(rejected.code, Some(78), "{rejected:?}");
    let rejected = json(&rejected.stdout);
    let settings = &rejected["nodes"][0]["seat"]["settings"];
    assert!(rejected["outcome"] == "not_blank" && settings["quorum"] == 3, "{rejected}");
}

#[test]
fn other_settings_need_a_reconfiguration_or_force() {
    let world = World::of(3);
    let before = world.markers();
    let rejected = world.output(&["init", "--max-ttl", "5s"]);
    assert_eq!(rejected.code, Some(78), "{rejected:?}");
    for url in world.fleet.urls() {
        let address = url.trim_start_matches("redis://");
        let line = rejected.stderr.lines().find(|line| line.contains(address)).expect("a line for each node");
        assert!(line.contains("in a lock cluster with") && line.contains("max ttl of 30s"), "{rejected:?}");
    }
    for text in ["`quorlock reconfigure`", "--force", "stopped"] {
        assert!(rejected.stderr.contains(text), "{text}: {rejected:?}");
    }
    let args = ["init", "--without-unreachable", "--max-ttl", "5s", "--json"];
    let rejected = world.output(&args);
    assert_eq!(rejected.code, Some(78), "{rejected:?}");
    assert!(rejected.stderr.contains("with other settings, which are in force"), "{rejected:?}");
    assert!(
        rejected.stderr.contains("max ttl of 30s") && rejected.stderr.contains("reconfigure"),
        "{rejected:?}"
    );
    assert_eq!(json(&rejected.stdout)["outcome"], "not_blank", "{rejected:?}");
    let same = world.output(&["init", "--without-unreachable"]);
    assert_eq!(same.code, Some(0), "{same:?}");
    assert!(same.stdout.starts_with("already a lock cluster; nothing was changed\n"), "{same:?}");
    assert_eq!(world.markers(), before, "nothing was changed");
    let forced = world.output(&["init", "--force", "--max-ttl", "5s", "--fencing-retention", "2h"]);
    assert!(forced.stdout.contains("fences kept for 2h"), "{forced:?}");
    let forced = world.output(&["init", "--force", "--max-ttl", "5s"]);
    assert_eq!(forced.code, Some(0), "{forced:?}");
    assert!(forced.stdout.contains("a new lock cluster"), "{forced:?}");
    let run = |max_ttl: &str| world.output(&["run", "a", "-n", "--max-ttl", max_ttl, "--", "true"]).code;
    assert_eq!((run("5s"), run("30s")), (Some(0), Some(0)), "clients follow the max ttl");
    let long = world.output(&["run", "a", "-n", "--ttl", "6s", "--", "true"]);
    assert_eq!(long.code, Some(64), "{long:?}");
    assert!(long.stderr.contains("--ttl: a ttl of 6s is longer than the max ttl of 5s"), "{long:?}");
}

#[test]
fn forced_init_makes_one_cluster_of_blank_and_other_nodes() {
    let world = World::of(3);
    world.fleet[0].wipe().expect("wiped");
    world.fleet[1].wipe().expect("wiped");
    // The third node knows the lock cluster, and both get their seats back. Their locks may be lost.
    let init = world.output(&["init"]);
    assert_eq!(init.code, Some(0), "{init:?}");
    assert!(init.stdout.contains("nothing was changed"), "{init:?}");
    assert_eq!(init.stdout.matches("casts no vote for").count(), 2, "{init:?}");
    assert_eq!(world.output(&["run", "a", "-n", "--", "true"]).code, Some(69));
    assert_eq!(world.output(&["init", "--force"]).code, Some(0));
    assert_eq!(world.output(&["run", "a", "-n", "--", "true"]).code, Some(0));
}

#[test]
fn one_node_that_lost_its_marker_is_reported_by_init() {
    let world = World::of(3);
    world.fleet[1].wipe().expect("wiped");
    let init = world.output(&["init"]);
    assert_eq!(init.code, Some(0), "the two others know the lock cluster: {init:?}");
    let port = world.fleet[1].port().to_string();
    let line = init.stdout.lines().find(|line| line.contains(&port)).expect("a line for it");
    assert!(line.contains("casts no vote for"), "{init:?}");
    assert!(init.stdout.contains("already a lock cluster"), "{init:?}");
    assert_eq!(
        init.stdout.matches("127.0.0.1:").count(),
        1,
        "only the node without a marker is listed: {init:?}"
    );
}

#[test]
fn all_nodes_must_be_there() {
    let mut world = World::uninitialized(3, None);
    world.fleet[2].kill();
    for force in [&[][..], &["--force"]] {
        let missing = world.output(&[&["init"], force].concat());
        assert_eq!(missing.code, Some(69), "{missing:?}");
        let address = format!("127.0.0.1:{}", world.fleet[2].port());
        let line = missing.stderr.lines().find(|line| line.contains(&address)).expect("a line for it");
        assert!(line.contains("refused"), "{missing:?}");
    }
    world.fleet[2].restart(Data::Kept).expect("back");
    let blank = world.markers();
    assert!(blank.iter().all(Option::is_none), "nothing was changed: {blank:?}");
}

#[test]
fn excluded_nodes_and_unreachable_nodes_have_different_messages() {
    let world = World::with(3, &Setup::new().password("right"));
    let urls_without_password =
        world.fleet.servers().iter().map(|server| format!("redis://127.0.0.1:{}", server.port()));
    let urls_without_password = urls_without_password.collect::<Vec<_>>().join(",");
    let rejected = output(world.quorlock(&["init"]).env("QUORLOCK_NODES", urls_without_password));
    assert_eq!(rejected.code, Some(77), "{rejected:?}");
    assert_eq!(rejected.stderr.matches("login failed").count(), 3, "{rejected:?}");
    let nodes = format!("{},{}", world.fleet.nodes(), world.fleet[0].url().replace("127.0.0.1", "localhost"));
    let twice = output(world.quorlock(&["init"]).env("QUORLOCK_NODES", nodes));
    assert_eq!(twice.code, Some(78), "{twice:?}");
    assert!(twice.stderr.contains("same server"), "{twice:?}");
}

#[test]
fn init_is_rejected_in_plain_mode() {
    let world = World::uninitialized(1, None);
    let plain = world.output(&["init", "--mode", "plain"]);
    assert_eq!(plain.code, Some(64), "{plain:?}");
    assert!(plain.stderr.starts_with("quorlock: --mode plain: "), "{plain:?}");
    let from_environment = output(world.quorlock(&["init"]).env("QUORLOCK_MODE", "plain"));
    assert_eq!(
        from_environment.code,
        Some(78),
        "an invalid variable is a configuration error: {from_environment:?}"
    );
    assert_eq!(world.markers(), [None]);
}

#[tokio::test]
async fn the_command_and_the_library_agree_on_the_default_settings() {
    let world = World::of(3);
    let init = Redlock::builder().nodes(world.fleet.urls()).initialize().await;
    assert_eq!(init.expect("a cluster"), InitOutcome::AlreadyInitialized);
}

/// The servers that were removed, a mixed list, and servers of which nothing but their data names a lock cluster.
#[test]
fn a_list_that_is_not_in_force_is_rejected_at_once() {
    let mut world = World::uninitialized(4, Some("1s"));
    let list = |world: &World, nodes: &[usize]| -> String {
        nodes.iter().map(|node| world.fleet[*node].url()).collect::<Vec<_>>().join(",")
    };
    let (before, after) = (list(&world, &[0, 1, 2]), list(&world, &[3, 1, 2]));
    let with =
        |world: &World, nodes: &str, args: &[&str]| output(world.quorlock(args).env("QUORLOCK_NODES", nodes));
    assert_eq!(with(&world, &before, &["init"]).code, Some(0));
    let exchanged = with(&world, &before, &["reconfigure", "--to", &after]);
    assert_eq!(exchanged.code, Some(0), "{exchanged:?}");
    for is_restarted in [false, true] {
        for args in [&["init"] as &[&str], &["init", "--without-unreachable"]] {
            let rejected = with(&world, &before, args);
            assert_eq!(rejected.code, Some(78), "{is_restarted} {args:?}: {rejected:?}");
            assert!(rejected.stderr.contains("not the list in force"), "{rejected:?}");
            assert!(rejected.stderr.contains("reconfigure"), "{rejected:?}");
        }
        (0..3).for_each(|node| world.fleet[node].restart(Data::Kept).expect("restarted"));
    }
}
