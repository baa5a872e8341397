//! Nodes that are up and cast no vote: what `run`, `status` and `doctor` make of them.

use serde_json::Value;

use crate::world::{End, World, end, until};

fn json(end: &End) -> Value {
    serde_json::from_str(&end.out).expect("JSON")
}

/// What is said below the line of this node.
fn said_of(report: &End, world: &World, place: usize) -> String {
    let address = format!("127.0.0.1:{} ", world.fleet[place].port());
    let lines = report.out.lines().skip_while(|line| !line.contains(&address)).skip(1);
    lines.take_while(|line| line.starts_with(' ')).collect()
}

fn line_of(report: &End, world: &World, place: usize) -> String {
    let address = format!("127.0.0.1:{} ", world.fleet[place].port());
    report.out.lines().find(|line| line.contains(&address)).expect("a line for it").to_owned()
}

#[test]
fn a_client_that_only_reads_initializes_no_node() {
    let world = World::undeclared(3, None);
    let status = world.end(&["status", "a"]);
    assert_eq!(status.code, Some(69), "{status:?}");
    assert!(status.out.contains("not initialized") && status.out.contains("`quorlock init`"), "{status:?}");
    assert_eq!(json(&world.end(&["status", "a", "--json"]))["nodes"][1]["exclusion"], "uninitialized");
    let doctor = world.end(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.out.contains("run `quorlock init` once") && doctor.out.contains("30s"), "{doctor:?}");
    assert_eq!(world.end(&["force-release", "a", "--yes"]).code, Some(0));
    assert!(world.markers().iter().all(Option::is_none), "nothing was written");
}

#[test]
fn new_nodes_without_init_are_reported_and_are_on_probation() {
    let world = World::undeclared(3, None);
    let run = world.end(&["run", "a", "-n", "--", "touch", "ran"]);
    assert_eq!(run.code, Some(69), "{run:?}");
    assert_eq!(run.err.lines().count(), 1, "{run:?}");
    for words in [
        "no lock for ",
        " s more (until 20",
        "too few nodes vote",
        "wait until then, or, ",
        "`quorlock init --force`",
    ] {
        assert!(run.err.contains(words), "{words}: {run:?}");
    }
    let waited = world.end(&["run", "a", "--wait", "300ms", "--", "touch", "ran"]);
    assert_eq!((waited.code, waited.err.matches("waiting: ").count()), (Some(69), 1), "{waited:?}");
    let quiet = world.end(&["run", "a", "-q", "--wait", "100ms", "--", "touch", "ran"]);
    assert_eq!((quiet.code, quiet.err.as_str()), (Some(69), ""));
    assert!(!world.has("ran"));
    let init = world.end(&["init"]);
    assert_eq!(init.code, Some(0), "{init:?}");
    assert!(init.out.contains("nothing was changed") && init.out.contains("--force ends"), "{init:?}");
    assert_eq!(world.end(&["init", "--force"]).code, Some(0));
    assert_eq!(world.end(&["run", "a", "-n", "--", "touch", "ran"]).code, Some(0));
}

#[test]
fn a_waiting_run_outlasts_probation_and_reports_it_once() {
    let world = World::undeclared(3, Some("1s"));
    let run = world.end(&["run", "a", "--", "echo", "ran"]);
    assert_eq!((run.code, run.out.as_str()), (Some(0), "ran\n"), "{run:?}");
    assert_eq!(run.err.lines().count(), 1, "{run:?}");
    assert!(run.err.contains("waiting: no lock for "), "{run:?}");
    let next = world.end(&["run", "a", "-n", "--", "true"]);
    assert_eq!((next.code, next.err.as_str()), (Some(0), ""), "it is over for all: {next:?}");
}

#[test]
fn a_node_on_probation_is_shown_with_reason_and_remaining_time() {
    let world = World::lasting(3, "1h");
    world.fleet[1].wipe().expect("wiped");
    // Its probation begins with the first client that connects, also if that only reads.
    assert_eq!(world.markers()[1], None);
    let status = world.end(&["status", "a", "--json"]);
    assert_eq!(status.code, Some(0), "two of three vote: {status:?}");
    assert!(world.markers()[1].is_some());
    assert_eq!(world.end(&["doctor"]).code, Some(0), "nothing is to be mended");
    assert_eq!(world.end(&["run", "a", "-n", "--", "true"]).code, Some(0));

    let status = world.end(&["status", "a"]);
    let line = line_of(&status, &world, 1);
    assert!(line.contains("casts no vote for 3") && line.contains("may have forgotten"), "{status:?}");
    assert!(!line_of(&status, &world, 0).contains("no vote"), "{status:?}");
    let status = json(&world.end(&["status", "a", "--json"]));
    let node = &status["nodes"][1];
    assert_eq!((&node["votes"], &node["state"], &status["votes"]), (&false.into(), &"up".into(), &2.into()));
    assert_eq!(node["probation"]["reason"], "possible-data-loss", "{status}");
    let left = node["probation"]["remaining_ms"].as_u64().expect("a number");
    assert!((3_000_000..=3_660_000).contains(&left), "{status}");
    assert_eq!(
        (&status["nodes"][0]["votes"], &status["nodes"][0]["probation"]),
        (&true.into(), &Value::Null)
    );

    let doctor = world.end(&["doctor"]);
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
    let said = said_of(&doctor, &world, 1);
    assert!(said.contains("· casts no vote for 3") && said.contains("may have forgotten"), "{doctor:?}");
    let doctor = json(&world.end(&["doctor", "--json"]));
    assert_eq!((&doctor["healthy"], &doctor["nodes"][1]["votes"]), (&true.into(), &false.into()), "{doctor}");
    assert_eq!(doctor["nodes"][1]["probation"]["reason"], "possible-data-loss", "{doctor}");
}

/// As `docs/servers.md` has it: one after another, each when all vote.
#[test]
fn a_rolling_restart_costs_no_lock() {
    let mut world = World::lasting(3, "1s");
    let mut run = world.quorlock(&["run", "a", "--ttl", "1s", "--", "sleep", "8"]).spawn().expect("started");
    until("it has the lock", || world.end(&["status", "a"]).code == Some(1));
    for place in 0..3 {
        world.fleet[place].restart(quorlock_chaos::Data::Kept).expect("back");
        assert_eq!(world.end(&["doctor"]).code, Some(0), "one on probation is nothing to be mended");
        until("all vote", || !world.end(&["doctor", "--json"]).out.contains("\"votes\":false"));
    }
    assert_eq!(run.wait().expect("ended").code(), Some(0));
}

/// As `docs/servers.md` has it: all at once, and a look at them right afterwards.
#[test]
fn after_a_restart_of_all_servers_doctor_begins_their_probation() {
    let mut world = World::lasting(3, "1s");
    let before = world.markers();
    (0..3).for_each(|place| world.fleet[place].restart(quorlock_chaos::Data::Kept).expect("back"));
    let doctor = world.end(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.out.contains("no lock can be acquired for"), "{doctor:?}");
    assert!(world.markers().iter().zip(&before).all(|(now, before)| now != before), "they were told");
    until("it is over for all", || world.end(&["doctor"]).code == Some(0));
    let run = world.end(&["run", "a", "-n", "--", "true"]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "the first run of the night");
}

#[test]
fn nodes_on_probation_do_not_make_a_lock_free_in_status() {
    let world = World::of(5);
    world.take("a");
    assert_eq!(world.end(&["status", "a"]).code, Some(1));
    // A quorum still carries the cluster; the two others show no key, and one that voted has lost it.
    world.fleet[0].wipe().expect("wiped");
    world.fleet[1].wipe().expect("wiped");
    world.fleet[2].command::<()>(&["DEL", "a"]).expect("an answer");
    let status = world.end(&["status", "a"]);
    assert_eq!(status.code, Some(1), "three of five show no key, but only one of them can know: {status:?}");
    for server in &world.fleet.servers()[2..] {
        server.command::<()>(&["DEL", "a"]).expect("an answer");
    }
    assert_eq!(world.end(&["status", "a"]).code, Some(0), "three that vote show none");
}

#[test]
fn too_few_voting_nodes_are_a_problem_and_an_unknown_state() {
    let world = World::lasting(3, "1h");
    for place in [0, 1] {
        world.fleet[place].wipe().expect("wiped");
        // One at a time, so that a quorum is left to say which cluster it belongs to.
        until("a client has taken it in", || {
            world.end(&["run", "a", "-n", "--", "true"]);
            world.markers()[place].is_some()
        });
    }
    let status = world.end(&["status", "a"]);
    assert_eq!(status.code, Some(69), "{status:?}");
    assert!(status.out.contains("unknown: 1 of 3 nodes votes, 2 must, and do in 3"), "{status:?}");
    let doctor = world.end(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(
        doctor.out.contains("no lock can be acquired for 3")
            && doctor.out.contains("1 of 3 nodes vote and 2 must"),
        "{doctor:?}"
    );
    assert!(doctor.out.contains("quorlock init --force"), "{doctor:?}");
}

#[test]
fn nodes_with_other_settings_are_another_cluster() {
    let world = World::of(3);
    let run = world.end(&["run", "a", "--max-ttl", "5s", "--", "touch", "ran"]);
    assert_eq!((run.code, world.has("ran")), (Some(78), false), "{run:?}");
    let status = world.end(&["status", "a", "--quorum", "3"]);
    assert_eq!(status.code, Some(78), "{status:?}");
    let line = line_of(&status, &world, 0);
    assert!(line.contains("a quorum of 2") && line.contains("a quorum of 3"), "{status:?}");
    std::fs::write(world.file("conf.toml"), "max_ttl = '5s'").expect("a file");
    let by_file = ["run", "a", "-n", "--config", "conf.toml", "--", "true"];
    assert_eq!(world.end(&by_file).code, Some(78));
    let mut command = world.quorlock(&by_file);
    assert_eq!(end(command.env("QUORLOCK_MAX_TTL", "30s")).code, Some(0), "the environment wins");
    let doctor = world.end(&["doctor", "--max-ttl", "5s"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    for place in 0..3 {
        let said = said_of(&doctor, &world, place);
        assert!(said.contains("max ttl of 30s") && said.contains("--max-ttl"), "{doctor:?}");
    }
}

#[test]
fn a_node_that_evicts_keys_casts_no_vote() {
    let world = World::of(3);
    for (setting, value) in [("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")] {
        world.fleet[2].command::<()>(&["CONFIG", "SET", setting, value]).expect("an answer");
    }
    let status = world.end(&["status", "a"]);
    assert_eq!(status.code, Some(0), "two of three vote: {status:?}");
    assert!(line_of(&status, &world, 2).contains("evicts keys"), "{status:?}");
    let node = &json(&world.end(&["status", "a", "--json"]))["nodes"][2];
    assert_eq!((&node["exclusion"], &node["votes"]), (&"eviction-enabled".into(), &false.into()), "{node}");
    let doctor = world.end(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    let said = said_of(&doctor, &world, 2);
    assert!(said.contains("allkeys-lru") && said.contains("noeviction"), "{doctor:?}");
    assert_eq!(said.matches('✗').count(), 1, "said once: {doctor:?}");
    assert_eq!(world.end(&["run", "a", "-n", "--", "true"]).code, Some(0));
}

#[test]
fn a_node_without_permission_for_info_is_excluded_and_doctor_explains_it() {
    let world = World::of(3);
    let user = ["ACL", "SETUSER", "default", "-info"];
    world.fleet[1].command::<()>(&user).expect("an answer");
    let doctor = world.end(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    let said = said_of(&doctor, &world, 1);
    assert!(said.contains("+info") && said.contains("forgotten locks"), "{doctor:?}");
}

#[test]
fn blank_nodes_beside_an_unreachable_node_are_unverified() {
    let mut world = World::undeclared(3, None);
    world.fleet[0].kill();
    let doctor = world.end(&["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    let said = said_of(&doctor, &world, 1);
    assert!(
        said.contains("all of them, if the cluster is new") && said.contains("keeps the others"),
        "{doctor:?}"
    );
    assert!(said.contains('✗'), "it does not pass by itself: {doctor:?}");
    let status = world.end(&["status", "a"]);
    assert_eq!(status.code, Some(69), "two show no key, and may have forgotten it: {status:?}");
}
