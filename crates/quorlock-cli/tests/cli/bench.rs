//! `bench`: measures and reports, touches no other keys, and leaves no key behind.

use std::collections::BTreeSet;
use std::time::Duration;

use quorlock_chaos::{DirectionRule, LinkRules, Proxy};
use rustix::process::Signal;
use serde_json::Value;

use crate::chaos::children_of;
use crate::world::{World, json, output, output_of, quorlock, send, wait_until};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// All keys on all servers.
fn keys(world: &World) -> BTreeSet<String> {
    let keys = |server: &quorlock_chaos::Server| server.command::<Vec<String>>(&["KEYS", "*"]).expect("keys");
    world.fleet.servers().iter().flat_map(keys).collect()
}

fn is_percentiles(percentiles: &Value) -> bool {
    let values = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(|name| number(&percentiles[name]));
    number(&percentiles["count"]) > 0.0 && values[0] > 0.0 && values.is_sorted()
}

#[test]
fn dev_servers_are_measured_and_reported_in_json_and_html() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("bench.html");
    let mut command = quorlock(&[
        "bench",
        "--dev",
        "3",
        "--duration",
        "1",
        "--tasks",
        "4",
        "--hold",
        HOLD,
        "--json",
        "--report",
    ]);
    // Settings for other nodes, which must be ignored.
    command.envs([("QUORLOCK_NODES", "redis://127.0.0.1:1"), ("QUORLOCK_PASSWORD", "of-others")]);
    let output = output(command.arg(&page));
    let report = json(&output);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    assert_eq!(
        report["verdict"].as_str().map(|it| it.starts_with("a lock here costs ")),
        Some(true),
        "{report}"
    );
    assert_eq!((&report["quorum"], &report["tasks"], &report["keys"]), (&2.into(), &4.into(), &4.into()));
    assert_eq!(report["mode"], "fenced");
    for part in ["alone", "load"] {
        assert!(
            is_percentiles(&report[part]["acquire"]) && is_percentiles(&report[part]["release"]),
            "{report}"
        );
        assert_eq!(report[part]["locks"], report[part]["acquire"]["count"], "{report}");
    }
    let cost = &report["cost"];
    let ratio = number(&cost["acquire_us"]) / number(&cost["round_trip_us"]);
    assert!((ratio - number(&cost["acquire_per_round_trip"])).abs() < 0.001, "{cost}");
    let throughput = &report["throughput"];
    // At least two commands to each node of a quorum.
    assert!(number(&throughput["commands_per_lock"]) >= 4.0, "{throughput}");
    assert!(number(&throughput["client_cpu_us_per_lock"]) > 0.0, "{throughput}");
    assert!(number(&throughput["min_per_task"]) <= number(&throughput["max_per_task"]), "{throughput}");
    let nodes = report["nodes"].as_array().expect("nodes");
    let ranks: BTreeSet<u64> = nodes.iter().filter_map(|node| node["rank"].as_u64()).collect();
    assert_eq!((nodes.len(), ranks), (3, BTreeSet::from([1, 2, 3])), "{report}");
    assert!(nodes.iter().all(|node| is_percentiles(&node["alone"]["round_trip"])), "{report}");
    assert_eq!(
        (&report["killed"], &report["contention"], &report["leftovers"]["keys"]),
        (&Value::Null, &Value::Null, &Value::Array(vec![]))
    );

    let page = std::fs::read_to_string(page).expect("a page");
    let data =
        page.split_once("id=\"data\">").and_then(|(_, rest)| rest.split_once("</script>")).expect("data").0;
    let data: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["chart"]["nodes"].as_array().map(Vec::len), Some(3));
    assert_eq!((&data["cost"], &data["nodes"]), (cost, &report["nodes"]));
    assert!(data["chart"]["slices"].as_array().is_some_and(|slices| !slices.is_empty()));
    for text in [&report["description"], &report["command"]] {
        assert!(text.as_str().is_some_and(|text| page.contains(text)), "{text}");
    }
    let command = report["command"].as_str().expect("text");
    assert!(command.starts_with("quorlock bench --dev 3 --duration 1 --tasks 4"), "{command}");
    assert!(
        !page.contains("{{") && !page.contains("src=") && !page.contains("href="),
        "the page has no placeholder and loads nothing"
    );
}

#[test]
fn a_bench_on_existing_nodes_touches_and_leaves_no_other_keys() {
    let world = World::of(3);
    world.set_other_owner("a");
    let before = keys(&world);
    let plain =
        world.output(&["bench", "--duration", "1", "--tasks", "3", "--hold", HOLD, "--mode", "plain"]);
    assert_eq!(plain.code, Some(0), "{plain:?}");
    assert_eq!(keys(&world), before, "plain locks leave nothing at all");
    let fenced =
        world.output(&["bench", "--duration", "1", "--tasks", "3", "--hold", HOLD, "--key-prefix", "mine:"]);
    assert_eq!(fenced.code, Some(0), "{fenced:?}");
    let added: Vec<String> = keys(&world).difference(&before).cloned().collect();
    assert_eq!(added.len(), 3, "one fence for each name: {added:?}");
    assert!(added.iter().all(|key| key.starts_with("quorlock:fence:mine:quorlock-bench:")), "{added:?}");
    for server in world.fleet.servers() {
        for key in &added {
            let left: i64 = server.command(&["PTTL", key]).expect("a reply");
            assert!((-2..=31_000).contains(&left) && left != -1, "{key} has a ttl of {left} ms");
        }
    }
    assert!(fenced.stdout.contains("no key of this run is left"), "{fenced:?}");
    assert!(fenced.stdout.contains("fencing numbers of 3 names are, and expire within 31 s"), "{fenced:?}");
    let verdict = fenced.stdout.lines().last().expect("a line");
    assert!(
        verdict.starts_with("a lock here costs ") && verdict.contains("the second-fastest node"),
        "{verdict}"
    );
}

#[test]
fn a_killed_dev_node_comes_back() {
    let output = output(&mut quorlock(&[
        "bench",
        "--dev",
        "3",
        "--duration",
        "3",
        "--tasks",
        "4",
        "--hold",
        HOLD,
        "--kill-one",
        "--json",
    ]));
    assert_eq!(output.code, Some(0), "{output:?}");
    let report = json(&output);
    let killed = &report["killed"];
    let parts = ["before", "down", "back"].map(|part| killed[part]["locks"].as_u64().expect("a count"));
    assert!(parts.iter().all(|locks| *locks > 0), "locks are granted in every phase: {killed}");
    assert_eq!(parts.iter().sum::<u64>(), report["load"]["locks"].as_u64().expect("a count"));
    let nodes = report["nodes"].as_array().expect("nodes");
    let without_reply: Vec<&Value> =
        nodes.iter().filter(|node| number(&node["missing_replies"]) > 0.0).collect();
    assert_eq!(
        without_reply.iter().map(|node| &node["node"]).collect::<Vec<_>>(),
        [&killed["node"]],
        "{report}"
    );
    let all_notes = report["notes"].to_string();
    assert!(all_notes.contains("was dead, a lock cost"), "{all_notes}");
    assert_eq!(report["leftovers"]["keys"], Value::Array(vec![]), "{report}");
}

#[test]
fn invalid_arguments_are_reported_before_any_server_starts() {
    let world = World::of(1);
    for (args, text) in [
        (&["--kill-one"][..], "never killed"),
        (&["--dev", "2", "--kill-one"], "none can be spared"),
        (&["--dev", "3", "--kill-one", "--duration", "2"], "--duration 3s"),
        (&["--dev", "3", "--nodes", "redis://127.0.0.1:1"], "leave out --nodes"),
        (&["--dev", "10"], "1..=9"),
        (&["--tasks", "2", "--keys", "3"], "more --keys than --tasks"),
        (&["--tasks", "0"], "1..=1024"),
        (&["--duration", "0"], "1s to 1h"),
        (&["--hold", "1 apple"], "--hold: expected a number and a unit"),
        (&["--hold", "8s"], "take a shorter one"),
        (&["--ttl", "31s", "--duration", "1"], "longest"),
        (&["--ttl", "1ms", "--duration", "1"], "ttl"),
    ] {
        let output = world.output(&[&["bench"], args].concat());
        assert_eq!(output.code, Some(64), "{args:?}: {output:?}");
        assert!(output.stderr.contains(text), "{args:?}: {text} is missing from: {}", output.stderr);
    }
    assert_eq!(world.fleet[0].command::<String>(&["PING"]).expect("a reply"), "PONG");
    let without_nodes = output(&mut quorlock(&["bench"]));
    assert_eq!(without_nodes.code, Some(78), "{without_nodes:?}");
    let unreachable = output(&mut quorlock(&["bench", "--nodes", "redis://127.0.0.1:1"]));
    assert_eq!(unreachable.code, Some(69), "{unreachable:?}");
}

#[test]
fn a_bench_does_not_initialize_blank_nodes() {
    let world = World::uninitialized(3, None);
    let output = world.output(&["bench", "--duration", "1"]);
    assert_eq!(output.code, Some(69), "{output:?}");
    assert!(output.stderr.contains("quorlock init"), "{output:?}");
    assert_eq!(keys(&world), BTreeSet::new());
}

#[test]
fn a_node_that_is_down_is_reported_and_not_waited_for() {
    let mut world = World::of(3);
    world.fleet[2].kill();
    let output = world.output(&["bench", "--duration", "1", "--tasks", "2", "--hold", HOLD, "--json"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let report = json(&output);
    let dead = &report["nodes"][2];
    assert_eq!((&dead["is_voting"], &dead["rank"]), (&Value::Bool(false), &Value::Null), "{report}");
    assert_eq!(dead["missing_replies"], dead["samples"], "{report}");
    let all_notes = report["notes"].to_string();
    assert!(
        all_notes.contains("does not vote") && all_notes.contains("if one dies, no lock can be granted"),
        "{all_notes}"
    );
    assert_eq!(report["leftovers"]["unchecked"][0], dead["node"], "{report}");
}

#[test]
fn tasks_that_want_the_same_name_hold_it_one_after_another() {
    let world = World::of(3);
    let args = ["bench", "--duration", "2", "--tasks", "4", "--keys", "1", "--hold", "500us", "--json"];
    let output = world.output(&args);
    assert_eq!(output.code, Some(0), "{output:?}");
    let report = json(&output);
    let contention = &report["contention"];
    let share = number(&contention["held_share"]);
    assert!(share > 0.0 && share <= 1.0, "one holder at a time: {contention}");
    assert!(number(&contention["held"]["p50_us"]) >= 499.0, "{contention}");
    assert!(is_percentiles(&contention["hand_off"]), "{contention}");
    let throughput = &report["throughput"];
    assert!(
        number(&throughput["max_per_task"]) - number(&throughput["min_per_task"]) <= 2.0,
        "first come, first served: {throughput}"
    );
}

#[test]
fn a_slow_node_is_named() {
    let world = World::of(3);
    let proxy = Proxy::in_front_of(&world.fleet[1], 1).expect("a proxy");
    let slow = DirectionRule::Delay { delay: Duration::from_millis(150), jitter: Duration::ZERO };
    proxy.set(0, LinkRules { to_server: slow, to_client: DirectionRule::Forward });
    let urls = [world.fleet[0].url(), proxy.url(0), world.fleet[2].url()].join(",");
    let mut command = world.quorlock(&[
        "bench",
        "--duration",
        "5",
        "--tasks",
        "2",
        "--hold",
        HOLD,
        "--json",
        "--nodes",
        &urls,
    ]);
    let output = output(&mut command);
    assert_eq!(output.code, Some(0), "{output:?}");
    let report = json(&output);
    let node = &report["nodes"][1];
    assert_eq!(node["rank"], 3, "{report}");
    assert!(number(&node["alone"]["round_trip"]["p50_us"]) >= 150_000.0, "{report}");
    let text = format!("{} is slow", node["node"].as_str().expect("text"));
    assert!(report["notes"].to_string().contains(&text), "{report}");
}

#[test]
fn a_bench_that_is_ended_early_releases_its_locks() {
    let world = World::of(3);
    let run = world.quorlock(&["bench", "--duration", "60", "--hold", "100ms"]).spawn().expect("a process");
    wait_until("bench holds locks", || keys(&world).iter().any(|key| key.starts_with("quorlock-bench:")));
    send(&run, Signal::INT);
    let output = output_of(run);
    assert_eq!(output.code, Some(130), "{output:?}");
    assert!(output.stderr.contains("no key of this run is left"), "{output:?}");
    let left: Vec<String> =
        keys(&world).into_iter().filter(|key| key.starts_with("quorlock-bench:")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Servers that reject writes keep the keys that the bench tries to release.
#[test]
fn keys_left_by_an_interrupted_bench_are_reported_with_another_exit_code() {
    let world = World::of(3);
    let owner = || {
        let name = keys(&world).into_iter().find(|key| key.starts_with("quorlock-bench:"))?;
        world.fleet[0].command::<Option<String>>(&["GET", &name]).expect("a reply")
    };
    let args = ["bench", "--duration", "60", "--tasks", "2", "--hold", "3s", "--ttl", "25s"];
    let run = world.quorlock(&args).spawn().expect("a process");
    // Warm-up locks, which are released at once, come before the measured ones.
    wait_until("bench holds a lock for 300 ms", || {
        let owner_before = owner();
        std::thread::sleep(Duration::from_millis(300));
        owner_before.is_some() && owner_before == owner()
    });
    for server in world.fleet.servers() {
        server.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).expect("a reply");
    }
    send(&run, Signal::INT);
    let output = output_of(run);
    assert!(owner().is_some(), "{output:?}");
    assert_eq!(output.code, Some(70), "{output:?}");
    assert!(output.stdout.contains("THIS RUN ARE LEFT"), "{output:?}");
    let text = output.stderr.lines().last().expect("a line");
    assert!(
        text.contains("interrupted after ") && text.contains("3 keys of this run are left"),
        "{output:?}"
    );
    assert!(!text.contains("released"), "{output:?}");
}

#[test]
fn results_measured_before_an_interrupt_are_reported() {
    let world = World::of(3);
    for (seconds, is_alone) in [("60", true), ("5", false)] {
        let page = world.file("page.html");
        let mut command =
            world.quorlock(&["bench", "--duration", seconds, "--tasks", "2", "--hold", HOLD, "--json"]);
        let run = command.arg("--report").arg(&page).spawn().expect("a process");
        // For the first fifth of the time, one task runs with the first name.
        let name = if is_alone { ":0" } else { ":1" };
        wait_until("bench holds locks", || {
            keys(&world).iter().any(|key| key.starts_with("quorlock-bench") && key.ends_with(name))
        });
        std::thread::sleep(Duration::from_millis(700));
        send(&run, Signal::INT);
        let output = output_of(run);
        let report = json(&output);
        assert_eq!((output.code, &report["interrupted"]), (Some(130), &Value::Bool(true)), "{output:?}");
        assert!(is_percentiles(&report["alone"]["acquire"]), "{output:?}");
        assert_eq!(report["load"]["locks"].as_u64() == Some(0), is_alone, "{output:?}");
        assert!(std::fs::read_to_string(&page).is_ok_and(|page| page.contains("A lock here costs")));
    }
    let run = world
        .quorlock(&["bench", "--duration", "60", "--tasks", "2", "--hold", HOLD])
        .spawn()
        .expect("a process");
    wait_until("bench holds locks", || keys(&world).iter().any(|key| key.starts_with("quorlock-bench")));
    std::thread::sleep(Duration::from_millis(700));
    send(&run, Signal::INT);
    let output = output_of(run);
    assert!(output.code == Some(130) && output.stdout.contains("a lock here costs "), "{output:?}");
    assert!(output.stderr.contains("interrupted after "), "{output:?}");
}

/// An unwritable file must not discard the results of a long run.
#[test]
fn an_unwritable_report_is_detected_first_and_loses_no_results() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("nowhere/x.html");
    let first = output(quorlock(&["bench", "--dev", "1", "--duration", "60", "--report"]).arg(&nowhere));
    assert_eq!(first.code, Some(64), "{first:?}");
    assert!(first.stderr.contains("nowhere/x.html"), "{first:?}");
    // The folder is removed during the run.
    let removed_folder = folder.path().join("there");
    std::fs::create_dir(&removed_folder).expect("a folder");
    let mut command =
        quorlock(&["bench", "--dev", "1", "--duration", "1", "--tasks", "1", "--hold", HOLD, "--json"]);
    let run = command.arg("--report").arg(removed_folder.join("x.html")).spawn().expect("a process");
    wait_until("the server has started", || !children_of(run.id()).is_empty());
    std::fs::remove_dir(&removed_folder).expect("it was empty");
    let second = output_of(run);
    assert_eq!(second.code, Some(74), "{second:?}");
    assert!(
        second.stderr.contains("not written") && is_percentiles(&json(&second)["load"]["acquire"]),
        "{second:?}"
    );
}

#[test]
fn no_line_of_the_table_ends_in_blanks() {
    let table =
        output(&mut quorlock(&["bench", "--dev", "1", "--duration", "1", "--tasks", "2", "--hold", HOLD]));
    assert_eq!(table.code, Some(0), "{table:?}");
    assert!(table.stdout.lines().all(|line| line.trim_end() == line), "{}", table.stdout);
}

#[test]
fn the_help_explains_the_effect_on_servers_and_has_examples() {
    let help = output(&mut quorlock(&["bench", "--help"]));
    assert_eq!(help.code, Some(0), "{help:?}");
    for text in [
        "Nothing of yours is touched",
        "never killed",
        "quorlock bench --dev",
        "quorlock bench --nodes",
        "69",
        "78",
    ] {
        assert!(help.stdout.contains(text), "{text} is missing: {}", help.stdout);
    }
}

/// Long enough to leave processor time for tests that run in parallel.
const HOLD: &str = "5ms";
