//! Nodes that are up and cast no vote: how `run`, `status` and `doctor` report them.

use serde_json::Value;

use crate::world::{Output, World, findings_of, json, wait_until};

fn line_of(report: &Output, world: &World, index: usize) -> String {
    let address = format!("127.0.0.1:{} ", world.fleet[index].port());
    report.stdout.lines().find(|line| line.contains(&address)).expect("a line for it").to_owned()
}

#[test]
fn a_client_that_only_reads_initializes_no_node() {
    let world = World::uninitialized(3, None);
    let status = world.output(&["status", "a"]);
    assert_eq!(status.code, Some(69), "{status:?}");
    assert!(
        status.stdout.contains("not initialized") && status.stdout.contains("`quorlock init`"),
        "{status:?}"
    );
    assert_eq!(
        json(&world.output(&["status", "a", "--json"]))["nodes"][1]["state"]["excluded"],
        "uninitialized"
    );
    let doctor = world.output(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(
        doctor.stdout.contains("run `quorlock init` once") && doctor.stdout.contains("30s"),
        "{doctor:?}"
    );
    assert_eq!(world.output(&["force-release", "a", "--yes"]).code, Some(0));
    assert!(world.markers().iter().all(Option::is_none), "a read-only client wrote a marker");
}

#[test]
fn new_nodes_without_init_are_reported_and_are_on_probation() {
    let world = World::uninitialized(3, None);
    let run = world.output(&["run", "a", "-n", "--", "touch", "ran"]);
    assert_eq!(run.code, Some(69), "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    for text in [
        "no lock for ",
        " s more (until 20",
        "too few nodes vote",
        "wait until then, or, ",
        "`quorlock init --force`",
    ] {
        assert!(run.stderr.contains(text), "{text}: {run:?}");
    }
    let waited = world.output(&["run", "a", "--wait", "300ms", "--", "touch", "ran"]);
    assert_eq!((waited.code, waited.stderr.matches("waiting: ").count()), (Some(69), 1), "{waited:?}");
    let quiet = world.output(&["run", "a", "-q", "--wait", "100ms", "--", "touch", "ran"]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(69), ""));
    assert!(!world.has_file("ran"));
    let init = world.output(&["init"]);
    assert_eq!(init.code, Some(0), "{init:?}");
    assert!(init.stdout.contains("nothing was changed") && init.stdout.contains("--force ends"), "{init:?}");
    assert_eq!(world.output(&["init", "--force"]).code, Some(0));
    assert_eq!(world.output(&["run", "a", "-n", "--", "touch", "ran"]).code, Some(0));
}

#[test]
fn a_waiting_run_outlasts_probation_and_reports_it_once() {
    let world = World::uninitialized(3, Some("1s"));
    let run = world.output(&["run", "a", "--", "echo", "ran"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "ran\n"), "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    assert!(run.stderr.contains("waiting: no lock for "), "{run:?}");
    let next = world.output(&["run", "a", "-n", "--", "true"]);
    assert_eq!(
        (next.code, next.stderr.as_str()),
        (Some(0), ""),
        "the probation is over for all clients: {next:?}"
    );
}

#[test]
fn a_node_on_probation_is_shown_with_reason_and_remaining_time() {
    let world = World::with_max_ttl(3, "1h");
    world.fleet[1].wipe().expect("wiped");
    // Its probation begins with the first client that connects, also with a read-only one.
    assert_eq!(world.markers()[1], None);
    let status = world.output(&["status", "a", "--json"]);
    assert_eq!(status.code, Some(0), "two of three vote: {status:?}");
    assert!(world.markers()[1].is_some());
    assert_eq!(world.output(&["doctor"]).code, Some(0), "a node on probation is not a problem");
    assert_eq!(world.output(&["run", "a", "-n", "--", "true"]).code, Some(0));

    let status = world.output(&["status", "a"]);
    let line = line_of(&status, &world, 1);
    assert!(line.contains("casts no vote for 3") && line.contains("may have lost its data"), "{status:?}");
    assert!(!line_of(&status, &world, 0).contains("no vote"), "{status:?}");
    let status = json(&world.output(&["status", "a", "--json"]));
    let node = &status["nodes"][1];
    assert_eq!(
        (&node["is_voting"], &node["state"], &status["votes"]),
        (&false.into(), &"up".into(), &2.into())
    );
    assert_eq!(node["probation"]["reason"], "possible_data_loss", "{status}");
    let remaining = node["probation"]["remaining_ms"].as_u64().expect("a number");
    assert!((3_000_000..=3_660_000).contains(&remaining), "{status}");
    assert_eq!(
        (&status["nodes"][0]["is_voting"], &status["nodes"][0]["probation"]),
        (&true.into(), &Value::Null)
    );

    let doctor = world.output(&["doctor"]);
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
    let findings = findings_of(&doctor, &world, 1);
    assert!(
        findings.contains("· casts no vote for 3") && findings.contains("may have lost its data"),
        "{doctor:?}"
    );
    let doctor = json(&world.output(&["doctor", "--json"]));
    assert_eq!(
        (&doctor["healthy"], &doctor["nodes"][1]["is_voting"]),
        (&true.into(), &false.into()),
        "{doctor}"
    );
    assert_eq!(doctor["nodes"][1]["probation"]["reason"], "possible_data_loss", "{doctor}");
}

/// As `docs/servers.md` describes it: one server at a time, each after all nodes vote again.
#[test]
fn a_rolling_restart_costs_no_lock() {
    let mut world = World::with_max_ttl(3, "1s");
    let mut run = world.quorlock(&["run", "a", "--ttl", "1s", "--", "sleep", "8"]).spawn().expect("started");
    wait_until("run holds the lock", || world.output(&["status", "a"]).code == Some(1));
    for index in 0..3 {
        world.fleet[index].restart(quorlock_chaos::Data::Kept).expect("back");
        assert_eq!(world.output(&["doctor"]).code, Some(0), "a node on probation is not a problem");
        wait_until("all vote", || {
            !world.output(&["doctor", "--json"]).stdout.contains("\"is_voting\":false")
        });
    }
    assert_eq!(run.wait().expect("ended").code(), Some(0));
}

/// As `docs/servers.md` describes it: all servers at once, and then `doctor`.
#[test]
fn after_a_restart_of_all_servers_doctor_begins_their_probation() {
    let mut world = World::with_max_ttl(3, "1s");
    let before = world.markers();
    (0..3).for_each(|index| world.fleet[index].restart(quorlock_chaos::Data::Kept).expect("back"));
    let doctor = world.output(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.stdout.contains("no lock can be acquired for"), "{doctor:?}");
    assert!(
        world.markers().iter().zip(&before).all(|(now, before)| now != before),
        "a marker was not rewritten"
    );
    wait_until("the probation of all nodes is over", || world.output(&["doctor"]).code == Some(0));
    let run = world.output(&["run", "a", "-n", "--", "true"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "a lock is granted at once");
}

#[test]
fn nodes_on_probation_do_not_make_a_lock_free_in_status() {
    let world = World::of(5);
    world.set_other_owner("a");
    assert_eq!(world.output(&["status", "a"]).code, Some(1));
    // Three nodes still have the marker, and one of them has no key. The two wiped nodes have no key either.
    world.fleet[0].wipe().expect("wiped");
    world.fleet[1].wipe().expect("wiped");
    world.fleet[2].command::<()>(&["DEL", "a"]).expect("a reply");
    let status = world.output(&["status", "a"]);
    assert_eq!(status.code, Some(1), "three of five show no key, but only one of them votes: {status:?}");
    for server in &world.fleet.servers()[2..] {
        server.command::<()>(&["DEL", "a"]).expect("a reply");
    }
    assert_eq!(world.output(&["status", "a"]).code, Some(0), "three voting nodes show no key");
}

#[test]
fn too_few_voting_nodes_are_a_problem_and_an_unknown_state() {
    let world = World::with_max_ttl(3, "1h");
    for index in [0, 1] {
        world.fleet[index].wipe().expect("wiped");
        // One at a time, so that a quorum still knows the lock cluster.
        wait_until("the node is in the lock cluster again", || {
            world.output(&["run", "a", "-n", "--", "true"]);
            world.markers()[index].is_some()
        });
    }
    let status = world.output(&["status", "a"]);
    assert_eq!(status.code, Some(69), "{status:?}");
    assert!(status.stdout.contains("unknown: 1 of 3 nodes votes, 2 must, and do in 3"), "{status:?}");
    let doctor = world.output(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(
        doctor.stdout.contains("no lock can be acquired for 3")
            && doctor.stdout.contains("1 of 3 nodes vote and 2 must"),
        "{doctor:?}"
    );
    assert!(doctor.stdout.contains("quorlock init --force"), "{doctor:?}");
}

#[test]
fn clients_follow_the_settings_of_the_lock_cluster() {
    let world = World::of(3);
    for settings in [["--max-ttl", "5s"], ["--quorum", "3"], ["--fencing-retention", "9h"]] {
        for args in [&["run", "a", "-n"][..], &["status", "a"], &["doctor"]] {
            let command: &[&str] = if args[0] == "run" { &["--", "true"] } else { &[] };
            let output = world.output(&[args, &settings, command].concat());
            assert_eq!(output.code, Some(0), "{args:?} {settings:?}: {output:?}");
        }
    }
    let doctor = json(&world.output(&["doctor", "--json", "--quorum", "3"]));
    assert_eq!(doctor["quorum"], 2, "{doctor}");
    let doctor = world.output(&["doctor", "--max-ttl", "5s"]);
    assert!(doctor.stdout.contains("max ttl of 30s") && doctor.stdout.contains("--max-ttl"), "{doctor:?}");
}

#[test]
fn a_node_that_evicts_keys_casts_no_vote() {
    let world = World::of(3);
    for (setting, value) in [("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")] {
        world.fleet[2].command::<()>(&["CONFIG", "SET", setting, value]).expect("a reply");
    }
    let status = world.output(&["status", "a"]);
    assert_eq!(status.code, Some(0), "two of three vote: {status:?}");
    assert!(line_of(&status, &world, 2).contains("evicts keys"), "{status:?}");
    let node = &json(&world.output(&["status", "a", "--json"]))["nodes"][2];
    assert_eq!(
        (&node["state"]["excluded"], &node["is_voting"]),
        (&"eviction_enabled".into(), &false.into()),
        "{node}"
    );
    let doctor = world.output(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    let findings = findings_of(&doctor, &world, 2);
    assert!(findings.contains("allkeys-lru") && findings.contains("noeviction"), "{doctor:?}");
    assert_eq!(findings.matches('✗').count(), 1, "not exactly one problem: {doctor:?}");
    assert_eq!(world.output(&["run", "a", "-n", "--", "true"]).code, Some(0));
}

#[test]
fn a_node_without_permission_for_info_is_excluded_and_doctor_explains_it() {
    let world = World::of(3);
    let user = ["ACL", "SETUSER", "default", "-info"];
    world.fleet[1].command::<()>(&user).expect("a reply");
    let doctor = world.output(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    let findings = findings_of(&doctor, &world, 1);
    assert!(findings.contains("+info") && findings.contains("forgotten locks"), "{doctor:?}");
}

#[test]
fn blank_nodes_beside_an_unreachable_node_are_unverified() {
    let mut world = World::uninitialized(3, None);
    world.fleet[0].kill();
    let doctor = world.output(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    let findings = findings_of(&doctor, &world, 1);
    assert!(
        findings.contains("all of them, if the lock cluster is new")
            && findings.contains("see the state of the other nodes"),
        "{doctor:?}"
    );
    assert!(findings.contains('✗'), "not reported as a problem: {doctor:?}");
    let status = world.output(&["status", "a"]);
    assert_eq!(status.code, Some(69), "two nodes show no key, but may have forgotten it: {status:?}");
}
