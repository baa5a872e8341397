//! `bench`: measures, tells, touches nothing of others, and leaves nothing behind.

use std::collections::BTreeSet;
use std::time::Duration;

use quorlock_chaos::{DirectionRule, LinkRules, Proxy};
use rustix::process::Signal;
use serde_json::Value;

use crate::chaos::children_of;
use crate::world::{End, World, end, end_of, quorlock, send, until};

fn json(end: &End) -> Value {
    serde_json::from_str(&end.out).unwrap_or_else(|_| panic!("no JSON: {end:?}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// All keys on all servers.
fn keys(world: &World) -> BTreeSet<String> {
    let keys = |server: &quorlock_chaos::Server| server.command::<Vec<String>>(&["KEYS", "*"]).expect("keys");
    world.fleet.servers().iter().flat_map(keys).collect()
}

fn is_spread(spread: &Value) -> bool {
    let figures = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(|name| number(&spread[name]));
    number(&spread["count"]) > 0.0 && figures[0] > 0.0 && figures.is_sorted()
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
    // Meant for other nodes.
    command.envs([("QUORLOCK_NODES", "redis://127.0.0.1:1"), ("QUORLOCK_PASSWORD", "of-others")]);
    let end = end(command.arg(&page));
    let told = json(&end);
    assert_eq!((end.code, end.err.as_str()), (Some(0), ""), "{end:?}");
    assert_eq!(told["verdict"].as_str().map(|it| it.starts_with("a lock here costs ")), Some(true), "{told}");
    assert_eq!((&told["quorum"], &told["tasks"], &told["keys"]), (&2.into(), &4.into(), &4.into()));
    assert_eq!(told["mode"], "fenced");
    for part in ["alone", "load"] {
        assert!(is_spread(&told[part]["acquire"]) && is_spread(&told[part]["release"]), "{told}");
        assert_eq!(told[part]["locks"], told[part]["acquire"]["count"], "{told}");
    }
    let cost = &told["cost"];
    let ratio = number(&cost["acquire_us"]) / number(&cost["round_trip_us"]);
    assert!((ratio - number(&cost["acquire_per_round_trip"])).abs() < 0.001, "{cost}");
    let throughput = &told["throughput"];
    // Two commands at the least to each node of a quorum.
    assert!(number(&throughput["commands_per_lock"]) >= 4.0, "{throughput}");
    assert!(number(&throughput["client_cpu_us_per_lock"]) > 0.0, "{throughput}");
    assert!(number(&throughput["fewest"]) <= number(&throughput["most"]), "{throughput}");
    let nodes = told["nodes"].as_array().expect("nodes");
    let ranks: BTreeSet<u64> = nodes.iter().filter_map(|node| node["rank"].as_u64()).collect();
    assert_eq!((nodes.len(), ranks), (3, BTreeSet::from([1, 2, 3])), "{told}");
    assert!(nodes.iter().all(|node| is_spread(&node["alone"]["round_trip"])), "{told}");
    assert_eq!(
        (&told["killed"], &told["contention"], &told["left"]["keys"]),
        (&Value::Null, &Value::Null, &Value::Array(vec![]))
    );

    let page = std::fs::read_to_string(page).expect("a page");
    let data =
        page.split_once("id=\"data\">").and_then(|(_, rest)| rest.split_once("</script>")).expect("data").0;
    let data: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["picture"]["nodes"].as_array().map(Vec::len), Some(3));
    assert!(data["picture"]["slices"].as_array().is_some_and(|slices| !slices.is_empty()));
    for words in [&told["about"], &told["command"]] {
        assert!(words.as_str().is_some_and(|words| page.contains(words)), "{words}");
    }
    let command = told["command"].as_str().expect("text");
    assert!(command.starts_with("quorlock bench --dev 3 --duration 1 --tasks 4"), "{command}");
    assert!(!page.contains("{{") && !page.contains("src=") && !page.contains("href="), "all is in it");
}

#[test]
fn a_bench_on_existing_nodes_touches_and_leaves_no_other_keys() {
    let world = World::of(3);
    world.take("a");
    let before = keys(&world);
    let plain = world.end(&["bench", "--duration", "1", "--tasks", "3", "--hold", HOLD, "--mode", "plain"]);
    assert_eq!(plain.code, Some(0), "{plain:?}");
    assert_eq!(keys(&world), before, "plain locks leave nothing at all");
    let fenced =
        world.end(&["bench", "--duration", "1", "--tasks", "3", "--hold", HOLD, "--key-prefix", "mine:"]);
    assert_eq!(fenced.code, Some(0), "{fenced:?}");
    let more: Vec<String> = keys(&world).difference(&before).cloned().collect();
    assert_eq!(more.len(), 3, "a number for each name: {more:?}");
    assert!(more.iter().all(|key| key.starts_with("quorlock:fence:mine:quorlock-bench:")), "{more:?}");
    for server in world.fleet.servers() {
        for key in &more {
            let left: i64 = server.command(&["PTTL", key]).expect("an answer");
            assert!((-2..=31_000).contains(&left) && left != -1, "{key} stays for {left} ms");
        }
    }
    assert!(fenced.out.contains("no key of this run is left"), "{fenced:?}");
    assert!(fenced.out.contains("fencing numbers of 3 names are, and expire within 31 s"), "{fenced:?}");
    let verdict = fenced.out.lines().last().expect("a line");
    assert!(
        verdict.starts_with("a lock here costs ") && verdict.contains("the second-fastest node"),
        "{verdict}"
    );
}

#[test]
fn a_killed_dev_node_comes_back() {
    let end = end(&mut quorlock(&[
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
    assert_eq!(end.code, Some(0), "{end:?}");
    let told = json(&end);
    let killed = &told["killed"];
    let parts = ["before", "down", "back"].map(|part| killed[part]["locks"].as_u64().expect("a count"));
    assert!(parts.iter().all(|locks| *locks > 0), "locks go on without it: {killed}");
    assert_eq!(parts.iter().sum::<u64>(), told["load"]["locks"].as_u64().expect("a count"));
    let nodes = told["nodes"].as_array().expect("nodes");
    let silent: Vec<&Value> = nodes.iter().filter(|node| number(&node["unanswered"]) > 0.0).collect();
    assert_eq!(silent.iter().map(|node| &node["node"]).collect::<Vec<_>>(), [&killed["node"]], "{told}");
    let besides = told["notes"].to_string();
    assert!(besides.contains("was dead, a lock cost"), "{besides}");
    assert_eq!(told["left"]["keys"], Value::Array(vec![]), "{told}");
}

#[test]
fn invalid_arguments_are_reported_before_any_server_starts() {
    let world = World::of(1);
    for (args, word) in [
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
        let end = world.end(&[&["bench"], args].concat());
        assert_eq!(end.code, Some(64), "{args:?}: {end:?}");
        assert!(end.err.contains(word), "{args:?}: {word} is missing from: {}", end.err);
    }
    assert_eq!(world.fleet[0].command::<String>(&["PING"]).expect("it lives"), "PONG");
    let none = end(&mut quorlock(&["bench"]));
    assert_eq!(none.code, Some(78), "{none:?}");
    let away = end(&mut quorlock(&["bench", "--nodes", "redis://127.0.0.1:1"]));
    assert_eq!(away.code, Some(69), "{away:?}");
}

#[test]
fn a_bench_does_not_initialize_blank_nodes() {
    let world = World::undeclared(3, None);
    let end = world.end(&["bench", "--duration", "1"]);
    assert_eq!(end.code, Some(69), "{end:?}");
    assert!(end.err.contains("quorlock init"), "{end:?}");
    assert_eq!(keys(&world), BTreeSet::new());
}

#[test]
fn a_node_that_is_down_is_reported_and_not_waited_for() {
    let mut world = World::of(3);
    world.fleet[2].kill();
    let end = world.end(&["bench", "--duration", "1", "--tasks", "2", "--hold", HOLD, "--json"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let told = json(&end);
    let dead = &told["nodes"][2];
    assert_eq!((&dead["votes"], &dead["rank"]), (&Value::Bool(false), &Value::Null), "{told}");
    assert_eq!(dead["unanswered"], dead["looks"], "{told}");
    let besides = told["notes"].to_string();
    assert!(
        besides.contains("does not vote") && besides.contains("if one dies, no lock can be granted"),
        "{besides}"
    );
    assert_eq!(told["left"]["unasked"][0], dead["node"], "{told}");
}

#[test]
fn tasks_that_want_the_same_name_hold_it_one_after_another() {
    let world = World::of(3);
    let args = ["bench", "--duration", "2", "--tasks", "4", "--keys", "1", "--hold", "500us", "--json"];
    let end = world.end(&args);
    assert_eq!(end.code, Some(0), "{end:?}");
    let told = json(&end);
    let contention = &told["contention"];
    let share = number(&contention["held_share"]);
    assert!(share > 0.0 && share <= 1.0, "one holder at a time: {contention}");
    assert!(number(&contention["held"]["p50_us"]) >= 499.0, "{contention}");
    assert!(is_spread(&contention["hand_over"]), "{contention}");
    let throughput = &told["throughput"];
    assert!(
        number(&throughput["most"]) - number(&throughput["fewest"]) <= 2.0,
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
    let end = end(&mut command);
    assert_eq!(end.code, Some(0), "{end:?}");
    let told = json(&end);
    let node = &told["nodes"][1];
    assert_eq!(node["rank"], 3, "{told}");
    assert!(number(&node["alone"]["round_trip"]["p50_us"]) >= 150_000.0, "{told}");
    let words = format!("{} is slow", node["node"].as_str().expect("text"));
    assert!(told["notes"].to_string().contains(&words), "{told}");
}

#[test]
fn a_bench_that_is_ended_early_releases_its_locks() {
    let world = World::of(3);
    let run = world.quorlock(&["bench", "--duration", "60", "--hold", "100ms"]).spawn().expect("a process");
    until("it holds locks", || keys(&world).iter().any(|key| key.starts_with("quorlock-bench:")));
    send(&run, Signal::INT);
    let end = end_of(run);
    assert_eq!(end.code, Some(130), "{end:?}");
    assert!(end.err.contains("no key of this run is left"), "{end:?}");
    let left: Vec<String> =
        keys(&world).into_iter().filter(|key| key.starts_with("quorlock-bench:")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Servers that take no writes keep what is to be given back.
#[test]
fn keys_left_by_an_interrupted_bench_are_reported_with_another_exit_code() {
    let world = World::of(3);
    let owner = || {
        let name = keys(&world).into_iter().find(|key| key.starts_with("quorlock-bench:"))?;
        world.fleet[0].command::<Option<String>>(&["GET", &name]).expect("an answer")
    };
    let args = ["bench", "--duration", "60", "--tasks", "2", "--hold", "3s", "--ttl", "25s"];
    let run = world.quorlock(&args).spawn().expect("a process");
    // What is held for no time comes before what is measured.
    until("it holds a lock for a while", || {
        let before = owner();
        std::thread::sleep(Duration::from_millis(300));
        before.is_some() && before == owner()
    });
    for server in world.fleet.servers() {
        server.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).expect("an answer");
    }
    send(&run, Signal::INT);
    let end = end_of(run);
    assert!(owner().is_some(), "{end:?}");
    assert_eq!(end.code, Some(70), "{end:?}");
    assert!(end.out.contains("THIS RUN ARE LEFT"), "{end:?}");
    let words = end.err.lines().last().expect("a line");
    assert!(words.contains("interrupted after ") && words.contains("3 keys of this run are left"), "{end:?}");
    assert!(!words.contains("released"), "{end:?}");
}

#[test]
fn results_measured_before_an_interrupt_are_reported() {
    let world = World::of(3);
    for (seconds, is_alone) in [("60", true), ("5", false)] {
        let page = world.file("page.html");
        let mut command =
            world.quorlock(&["bench", "--duration", seconds, "--tasks", "2", "--hold", HOLD, "--json"]);
        let run = command.arg("--report").arg(&page).spawn().expect("a process");
        // A fifth of the time one task is alone, with the first name.
        let name = if is_alone { ":0" } else { ":1" };
        until("it holds locks", || {
            keys(&world).iter().any(|key| key.starts_with("quorlock-bench") && key.ends_with(name))
        });
        std::thread::sleep(Duration::from_millis(700));
        send(&run, Signal::INT);
        let end = end_of(run);
        let told = json(&end);
        assert_eq!((end.code, &told["interrupted"]), (Some(130), &Value::Bool(true)), "{end:?}");
        assert!(is_spread(&told["alone"]["acquire"]), "{end:?}");
        assert_eq!(told["load"]["locks"].as_u64() == Some(0), is_alone, "{end:?}");
        assert!(std::fs::read_to_string(&page).is_ok_and(|page| page.contains("A lock here costs")));
    }
    let run = world
        .quorlock(&["bench", "--duration", "60", "--tasks", "2", "--hold", HOLD])
        .spawn()
        .expect("a process");
    until("it holds locks", || keys(&world).iter().any(|key| key.starts_with("quorlock-bench")));
    std::thread::sleep(Duration::from_millis(700));
    send(&run, Signal::INT);
    let end = end_of(run);
    assert!(end.code == Some(130) && end.out.contains("a lock here costs "), "{end:?}");
    assert!(end.err.contains("interrupted after "), "{end:?}");
}

/// A minute's measuring is not thrown away for a file.
#[test]
fn an_unwritable_report_is_detected_first_and_loses_no_results() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("nowhere/x.html");
    let before = end(quorlock(&["bench", "--dev", "1", "--duration", "60", "--report"]).arg(&nowhere));
    assert_eq!(before.code, Some(64), "{before:?}");
    assert!(before.err.contains("nowhere/x.html"), "{before:?}");
    // It goes while the measuring is on.
    let there = folder.path().join("there");
    std::fs::create_dir(&there).expect("a folder");
    let mut command =
        quorlock(&["bench", "--dev", "1", "--duration", "1", "--tasks", "1", "--hold", HOLD, "--json"]);
    let run = command.arg("--report").arg(there.join("x.html")).spawn().expect("a process");
    until("its server is started", || !children_of(run.id()).is_empty());
    std::fs::remove_dir(&there).expect("it was empty");
    let after = end_of(run);
    assert_eq!(after.code, Some(74), "{after:?}");
    assert!(after.err.contains("not written") && is_spread(&json(&after)["load"]["acquire"]), "{after:?}");
}

#[test]
fn no_line_of_the_table_ends_in_blanks() {
    let table =
        end(&mut quorlock(&["bench", "--dev", "1", "--duration", "1", "--tasks", "2", "--hold", HOLD]));
    assert_eq!(table.code, Some(0), "{table:?}");
    assert!(table.out.lines().all(|line| line.trim_end() == line), "{}", table.out);
}

#[test]
fn its_help_says_what_it_does_to_your_servers_and_teaches_by_example() {
    let help = end(&mut quorlock(&["bench", "--help"]));
    assert_eq!(help.code, Some(0), "{help:?}");
    for words in [
        "Nothing of yours is touched",
        "never killed",
        "quorlock bench --dev",
        "quorlock bench --nodes",
        "69",
        "78",
    ] {
        assert!(help.out.contains(words), "{words} is missing: {}", help.out);
    }
}

/// Long enough to leave the machine to the tests that run beside.
const HOLD: &str = "5ms";
