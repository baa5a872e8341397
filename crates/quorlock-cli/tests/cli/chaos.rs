//! `chaos`: breaks what it started, judges, tells, and leaves nothing behind.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt as _;

use quorlock_chaos::history::{EventKind, History};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::world::{End, end, is_alive, quorlock, send, until, wait};

#[test]
fn a_short_run_keeps_the_invariants_and_reports_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let [report, events] = ["out.html", "out.jsonl"].map(|name| folder.path().join(name));
    let mut run = quorlock(&["chaos", "--duration", "10", "--seed", "7", "--faults", FAULTS, "--json"]);
    let end = end(run.arg("--report").arg(&report).arg("--history").arg(&events));
    let told: Value = serde_json::from_str(&end.out).unwrap_or_else(|_| panic!("no JSON: {end:?}"));
    assert_eq!(told["violations"], Value::Array(Vec::new()), "{end:?}");
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(told["seed"], 7);
    assert!(told["seconds"].as_f64().expect("a number") >= 10.0);
    assert!(told["acquisitions"].as_u64().expect("a number") > 20, "{told}");
    let faults = told["faults"].as_object().expect("by kind");
    for kind in ["kill", "pause", "partition", "client-stop", "client-kill"] {
        assert!(faults.get(kind).and_then(Value::as_u64) > Some(0), "no {kind}: {told}");
    }
    assert!(told["expected"].is_array() && told.get("slowest_recovery_ms").is_some(), "{told}");
    let replay = "quorlock chaos --servers 5 --clients 8 --duration 10s --seed 7 --faults ";
    assert!(told["replay"].as_str().expect("text").starts_with(replay), "{told}");
    let page = std::fs::read_to_string(report).expect("a page");
    assert!(page.contains("<svg"), "{}", page.len());
    let about = told["about"].as_str().expect("text");
    assert!(about.contains("quorlock 0.") && about.starts_with("20") && page.contains(about), "{about}");

    // The judge goes by when a fault was done, not only by when it was meant to be.
    let events = BufReader::new(File::open(events).expect("a history"));
    let history = History::read(events).expect("every line is an event");
    let told =
        |is: &dyn Fn(&EventKind) -> bool| history.events().iter().filter(|event| is(&event.kind)).count();
    let on_nodes = told(&|what| matches!(what, EventKind::Fault(fault) if !fault.nodes.is_empty()));
    assert!(on_nodes > 0, "{history:?}");
    assert_eq!(told(&|what| matches!(what, EventKind::FaultApplied { .. })), on_nodes);
    assert_eq!(told(&|what| matches!(what, EventKind::FaultEnding { .. })), on_nodes);

    // And by what is stored on the nodes, also where a client cannot reach them.
    for wanted in 0..5 {
        let seen = told(&|what| {
            matches!(what, EventKind::Sampled { node, keys, .. }
                if *node == wanted && keys.values().any(|key| key.owner.is_some() && key.fence.is_some()))
        });
        assert!(seen > 5, "node {wanted}: {seen}");
    }
}

/// The shortest run that is allowed has a fault; one that had none is no success.
#[test]
fn a_run_without_an_effective_fault_says_that_nothing_was_tested() {
    // Clocks cannot be set where nothing can be compiled.
    let folder = tempfile::tempdir().expect("a folder");
    let compiler = folder.path().join("cc");
    std::fs::write(&compiler, "#!/bin/sh\nexit 1\n").expect("a file");
    std::fs::set_permissions(&compiler, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());
    let shortest = |faults: &'static str, more: &'static [&'static str]| {
        let (args, path) =
            ([&["chaos", "--duration", "5", "--seed", "3", "--faults", faults], more].concat(), path.clone());
        std::thread::spawn(move || end(quorlock(&args).env("PATH", path)))
    };
    let some = shortest("kill", &["--json"]);
    let (none, in_json) = (shortest("clock-jump", &[]), shortest("clock-jump", &["--json"]));
    let [some, none, in_json] = [some, none, in_json].map(|run| run.join().expect("an end"));
    let told = |end: &End| -> Value {
        serde_json::from_str(&end.out).unwrap_or_else(|_| panic!("no JSON: {end:?}"))
    };
    assert_eq!((some.code, &told(&some)["tested"]), (Some(0), &Value::Bool(true)), "{some:?}");
    assert!(told(&some)["faults"]["kill"].as_u64() > Some(0), "{some:?}");
    assert_eq!(none.code, Some(2), "{none:?}");
    assert!(none.out.starts_with("NOTHING WAS TESTED"), "{none:?}");
    assert_eq!((in_json.code, &told(&in_json)["tested"]), (Some(2), &Value::Bool(false)), "{in_json:?}");
}

#[test]
fn invalid_arguments_are_reported_before_any_server_starts() {
    let wrong = end(&mut quorlock(&["chaos", "--faults", "kill,earthquake"]));
    assert_eq!(wrong.code, Some(64), "{wrong:?}");
    for part in ["earthquake", "half-open", "client-stop", "all"] {
        assert!(wrong.err.contains(part), "{part} is missing from: {}", wrong.err);
    }
    for args in
        [["--servers", "2"], ["--clients", "1"], ["--duration", "1"], ["--seed", "x"], ["--faults", ","]]
    {
        let wrong = end(&mut quorlock(&[["chaos"].as_slice(), &args].concat()));
        assert_eq!(wrong.code, Some(64), "{args:?}: {wrong:?}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("nowhere/out");
    for option in ["--report", "--history"] {
        let wrong = end(&mut quorlock(&["chaos", option, nowhere.to_str().expect("text")]));
        assert_eq!(wrong.code, Some(64), "{option}: {wrong:?}");
        assert!(wrong.err.contains("nowhere/out"), "{option}: {}", wrong.err);
    }
    for faults in ["stale-key", "kill,stale-key"] {
        let short = end(&mut quorlock(&["chaos", "--duration", "10", "--faults", faults]));
        let words = "stale-key needs at least --duration 11s: the keys stay for up to 5 s";
        assert!(short.code == Some(64) && short.err.contains(words), "{short:?}");
    }
    let both = end(&mut quorlock(&["chaos", "--json", "--report", "-"]));
    assert_eq!(both.code, Some(64), "{both:?}");
    let none = end(quorlock(&["chaos", "--server", "/no/such/server"]).env_remove("QUORLOCK_REDIS_SERVER"));
    assert_eq!(none.code, Some(69), "{none:?}");
    assert!(none.err.contains("/no/such/server"), "{}", none.err);
}

/// Neither processes, also when many of them stand still, nor files.
#[test]
fn nothing_outlives_a_run_that_is_ended_early() {
    for signal in [Signal::INT, Signal::KILL] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut run = quorlock(&["chaos", "--duration", "60", "--faults", "pause,client-stop,clock-jump"])
            .env("TMPDIR", folder.path())
            .spawn()
            .expect("a process");
        let mut children = Vec::new();
        until("servers, clients and those who watch them", || {
            children = children_of(run.id());
            children.len() >= (6 + 8) * 2
        });
        send(&run, signal);
        let status = wait(&mut run);
        if signal == Signal::INT {
            assert_eq!(status.code(), Some(130));
        }
        until("all are gone", || !children.iter().any(|child| is_alive(*child)));
        until("no file is left", || std::fs::read_dir(folder.path()).expect("a look").next().is_none());
    }
}

pub(crate) fn children_of(parent: u32) -> Vec<Pid> {
    let mut children = Vec::new();
    // Each thread has children of its own.
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    for thread in threads {
        let list = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    children
}

const FAULTS: &str = "kill,pause,partition,client-stop,client-kill";
