//! `chaos`: injects faults into its own servers, checks and reports, and leaves nothing behind.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt as _;

use quorlock_chaos::history::{EventKind, History};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::world::{Output, is_alive, output, quorlock, send, wait, wait_until};

#[test]
fn a_short_run_keeps_the_invariants_and_reports_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let [report, events] = ["out.html", "out.jsonl"].map(|name| folder.path().join(name));
    let mut run = quorlock(&["chaos", "--duration", "10", "--seed", "7", "--faults", FAULTS, "--json"]);
    let output = output(run.arg("--report").arg(&report).arg("--history").arg(&events));
    let json: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {output:?}"));
    assert_eq!(json["violations"], Value::Array(Vec::new()), "{output:?}");
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(json["seed"], 7);
    assert!(json["seconds"].as_f64().expect("a number") >= 10.0);
    assert!(json["acquisitions"].as_u64().expect("a number") > 20, "{json}");
    let faults = json["faults"].as_object().expect("by kind");
    for kind in ["kill", "pause", "partition", "client-stop", "client-kill"] {
        assert!(faults.get(kind).and_then(Value::as_u64) > Some(0), "no {kind}: {json}");
    }
    assert!(json["expected"].is_array() && json.get("slowest_recovery_ms").is_some(), "{json}");
    let replay = "quorlock chaos --servers 5 --clients 8 --duration 10s --seed 7 --faults ";
    assert!(json["replay"].as_str().expect("text").starts_with(replay), "{json}");
    let page = std::fs::read_to_string(report).expect("a page");
    assert!(page.contains("<svg"), "{}", page.len());
    let about = json["description"].as_str().expect("text");
    assert!(about.contains("quorlock 0.") && about.starts_with("20") && page.contains(about), "{about}");

    // The checker needs the times at which each fault was applied and began to end, not only the plan.
    let events = BufReader::new(File::open(events).expect("a history"));
    let history = History::read(events).expect("every line is an event");
    let count = |matches: &dyn Fn(&EventKind) -> bool| {
        history.events().iter().filter(|event| matches(&event.kind)).count()
    };
    let on_nodes = count(&|kind| matches!(kind, EventKind::Fault(fault) if !fault.nodes.is_empty()));
    assert!(on_nodes > 0, "{history:?}");
    assert_eq!(count(&|kind| matches!(kind, EventKind::FaultApplied { .. })), on_nodes);
    assert_eq!(count(&|kind| matches!(kind, EventKind::FaultEnding { .. })), on_nodes);

    // It also needs samples of the keys on each node, including nodes that clients cannot reach.
    for index in 0..5 {
        let samples = count(&|kind| {
            matches!(kind, EventKind::Sampled { node, keys, .. }
                if *node == index && keys.values().any(|key| key.owner.is_some() && key.fence.is_some()))
        });
        assert!(samples > 5, "node {index}: {samples}");
    }
}

/// The shortest allowed run has a fault. A run without any fault is not a success.
#[test]
fn a_run_without_an_effective_fault_reports_that_nothing_was_tested() {
    // Clock faults need a compiler, so a compiler that fails makes them unavailable.
    let folder = tempfile::tempdir().expect("a folder");
    let compiler = folder.path().join("cc");
    std::fs::write(&compiler, "#!/bin/sh\nexit 1\n").expect("a file");
    std::fs::set_permissions(&compiler, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());
    let shortest_run = |faults: &'static str, more: &'static [&'static str]| {
        // Two clients: more would, on a busy machine, try again before a holder can set a missing key again.
        let args = ["chaos", "--duration", "5", "--clients", "2", "--seed", "3", "--faults", faults];
        let (args, path) = ([&args, more].concat(), path.clone());
        std::thread::spawn(move || output(quorlock(&args).env("PATH", path)))
    };
    let with_fault = shortest_run("kill", &["--json"]);
    let (without_fault, without_fault_json) =
        (shortest_run("clock-jump", &[]), shortest_run("clock-jump", &["--json"]));
    let [with_fault, without_fault, without_fault_json] =
        [with_fault, without_fault, without_fault_json].map(|run| run.join().expect("an end"));
    let json = |output: &Output| -> Value {
        serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {output:?}"))
    };
    assert_eq!(
        (with_fault.code, &json(&with_fault)["tested"]),
        (Some(0), &Value::Bool(true)),
        "{with_fault:?}"
    );
    assert!(json(&with_fault)["faults"]["kill"].as_u64() > Some(0), "{with_fault:?}");
    assert_eq!(without_fault.code, Some(2), "{without_fault:?}");
    assert!(without_fault.stdout.starts_with("NOTHING WAS TESTED"), "{without_fault:?}");
    assert_eq!(
        (without_fault_json.code, &json(&without_fault_json)["tested"]),
        (Some(2), &Value::Bool(false)),
        "{without_fault_json:?}"
    );
}

#[test]
fn invalid_arguments_are_reported_before_any_server_starts() {
    let rejected = output(&mut quorlock(&["chaos", "--faults", "kill,earthquake"]));
    assert_eq!(rejected.code, Some(64), "{rejected:?}");
    for part in ["earthquake", "half-open", "client-stop", "all"] {
        assert!(rejected.stderr.contains(part), "{part} is missing from: {}", rejected.stderr);
    }
    for args in
        [["--servers", "2"], ["--clients", "1"], ["--duration", "1"], ["--seed", "x"], ["--faults", ","]]
    {
        let rejected = output(&mut quorlock(&[["chaos"].as_slice(), &args].concat()));
        assert_eq!(rejected.code, Some(64), "{args:?}: {rejected:?}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("nowhere/out");
    for option in ["--report", "--history"] {
        let rejected = output(&mut quorlock(&["chaos", option, nowhere.to_str().expect("text")]));
        assert_eq!(rejected.code, Some(64), "{option}: {rejected:?}");
        assert!(rejected.stderr.contains("nowhere/out"), "{option}: {}", rejected.stderr);
    }
    for faults in ["stale-key", "kill,stale-key"] {
        let short = output(&mut quorlock(&["chaos", "--duration", "10", "--faults", faults]));
        let message = "stale-key needs at least --duration 11s: the keys stay for up to 5 s";
        assert!(short.code == Some(64) && short.stderr.contains(message), "{short:?}");
    }
    let short = output(&mut quorlock(&["chaos", "--duration", "16", "--faults", "reconfiguration"]));
    let message = "reconfiguration needs at least --duration 17s: there are two exchanges";
    assert!(short.code == Some(64) && short.stderr.contains(message), "{short:?}");
    let rejected = output(&mut quorlock(&["chaos", "--json", "--report", "-"]));
    assert_eq!(rejected.code, Some(64), "{rejected:?}");
    let rejected =
        output(quorlock(&["chaos", "--server", "/no/such/server"]).env_remove("QUORLOCK_REDIS_SERVER"));
    assert_eq!(rejected.code, Some(69), "{rejected:?}");
    assert!(rejected.stderr.contains("/no/such/server"), "{}", rejected.stderr);
}

/// Neither processes, also if many of them are stopped, nor files.
#[test]
fn nothing_outlives_a_run_that_is_ended_early() {
    for signal in [Signal::INT, Signal::KILL] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut run = quorlock(&["chaos", "--duration", "60", "--faults", "pause,client-stop,clock-jump"])
            .env("TMPDIR", folder.path())
            .spawn()
            .expect("a process");
        let mut children = Vec::new();
        wait_until("servers, clients and their watchdogs", || {
            children = children_of(run.id());
            children.len() >= (6 + 8) * 2
        });
        send(&run, signal);
        let status = wait(&mut run);
        if signal == Signal::INT {
            assert_eq!(status.code(), Some(130));
        }
        wait_until("all children have ended", || !children.iter().any(|child| is_alive(*child)));
        wait_until("no file is left", || {
            std::fs::read_dir(folder.path()).expect("a status").next().is_none()
        });
    }
}

pub(crate) fn children_of(parent: u32) -> Vec<Pid> {
    let mut children = Vec::new();
    // Each thread has a separate list of children.
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    for thread in threads {
        let list = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    children
}

const FAULTS: &str = "kill,pause,partition,client-stop,client-kill";
