//! Messages about problems: printed once, about the cause, with the fix first that loses no data.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use quorlock_chaos::Setup;
use serde_json::Value;

use crate::world::{World, output, quorlock};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

#[test]
fn a_message_common_to_all_nodes_is_printed_once() {
    let world = World::with(5, &Setup::new().password("right"));
    let urls_without_password =
        world.fleet.servers().iter().map(|server| format!("redis://127.0.0.1:{}", server.port()));
    let mut run = world.quorlock(&["run", "a", "-n", "--", "true"]);
    let excluded = output(run.env("QUORLOCK_NODES", urls_without_password.collect::<Vec<_>>().join(",")));
    assert_eq!((excluded.code, excluded.stderr.matches("NOAUTH").count()), (Some(77), 1), "{excluded:?}");
    // The nodes that had replied when the outcome was decided: at least a quorum.
    let one_line = excluded.stderr.matches(": login failed: NOAUTH").count() == 1;
    assert!(
        one_line && (excluded.stderr.contains("all 5 nodes: ") || excluded.stderr.contains(", 127.0.0.1:")),
        "{excluded:?}"
    );
    let closed = "redis://127.0.0.1:1,redis://127.0.0.1:2,redis://127.0.0.1:3";
    let unreachable = world.output(&["run", "a", "-w", "2s", "--nodes", closed, "--", "true"]);
    assert!(unreachable.stderr.contains("all 3 nodes: connection refused"), "{unreachable:?}");
    let mut init = world.quorlock(&["init"]);
    let excluded = output(init.env("QUORLOCK_NODES", format!("redis://127.0.0.1:{}", world.fleet[0].port())));
    assert!(
        excluded.code == Some(77) && excluded.stderr.contains("not all nodes admit this client"),
        "{excluded:?}"
    );
}

#[test]
fn doctor_does_not_blame_the_nodes_that_kept_their_markers() {
    let world = World::of(5);
    for server in &world.fleet.servers()[..3] {
        server.command::<()>(&["FLUSHALL"]).expect("a reply");
    }
    let report = world.output(&["doctor"]);
    assert_eq!(report.code, Some(1), "{report:?}");
    let lines_with =
        |word: &str| report.stdout.lines().filter(|line| line.contains(&format!("  {word}"))).count();
    // The others have recovered the lock cluster.
    assert_eq!((lines_with("probation  "), lines_with("up  ")), (3, 2), "{report:?}");
    assert!(report.stdout.contains("\nroster 2.0: 5 seats\n"), "{report:?}");
    assert_eq!(report.stdout.matches("casts no vote for").count(), 3, "{report:?}");
    assert!(!report.stdout.contains("fix these first"), "{report:?}");
    let text = "no lock can be acquired for ";
    let verdict = report.stdout.lines().find(|line| line.contains(text)).expect("a verdict");
    assert!(verdict.contains("wait until then"), "{verdict}");
    let status = world.output(&["status", "a"]);
    assert!(status.code == Some(69) && status.stdout.contains("2 of 5 nodes vote"), "{status:?}");
}

#[test]
fn doctor_json_reports_whether_a_lock_can_be_acquired() {
    let mut world = World::of(3);
    let summary_of = |world: &World| {
        let report_json = json(&world.output(&["doctor", "--json"]).stdout);
        ["healthy", "quorum", "votes", "can_acquire"].map(|name| report_json[name].clone())
    };
    assert_eq!(summary_of(&world), [true.into(), 2.into(), 3.into(), Value::Bool(true)]);
    world.fleet[0].kill();
    assert_eq!(summary_of(&world), [false.into(), 2.into(), 2.into(), Value::Bool(true)]);
    world.fleet[1].kill();
    assert_eq!(summary_of(&world), [false.into(), 2.into(), 1.into(), Value::Bool(false)]);
}

/// In an outage, operators try the first suggestion first.
#[test]
fn init_force_is_not_the_first_suggestion() {
    let world = World::uninitialized(3, None);
    assert_eq!(world.output(&["run", "a", "-n", "--", "true"]).code, Some(69));
    for args in [&["doctor"][..], &["init"], &["run", "a", "-n", "--", "true"]] {
        let report_json = world.output(args);
        let text = report_json.stdout + &report_json.stderr;
        let (wait, force) = (text.find("wait "), text.find("--force"));
        assert!(wait.is_some() && wait < force, "{args:?}: {text}");
    }
}

#[test]
fn every_command_lists_its_own_exit_codes_and_the_list_of_commands_none() {
    let help = |name: &[&str]| output(&mut quorlock(&[name, &["--help"]].concat())).stdout;
    for (name, codes) in [
        ("status", &["0", "1", "69", "77", "78"][..]),
        ("doctor", &["0", "1"]),
        ("dev", &["64", "69", "126", "127"]),
        ("force-release", &["0", "64", "69", "75"]),
        ("forget", &["0", "69", "75"]),
        ("chaos", &["0", "1", "2", "69", "74"]),
        ("bench", &["0", "69", "74", "130"]),
    ] {
        let help = help(&[name]);
        let listed = help.split_once("Exit codes:").unwrap_or_else(|| panic!("{name}: {help}")).1;
        for code in codes {
            assert!(
                listed.lines().any(|line| line.trim_start().starts_with(&format!("{code} "))),
                "{name} {code}: {help}"
            );
        }
    }
    assert!(!help(&[]).contains("Exit code"), "{}", help(&[]));
}

#[test]
fn dev_reports_missing_features_of_its_servers() {
    let nowhere = output(quorlock(&["dev", "--", "true"]).env("TMPDIR", "/no/such/folder"));
    assert_eq!(nowhere.code, Some(69), "{nowhere:?}");
    let text = ["/no/such/folder", "No such file or directory", "TMPDIR"];
    assert!(text.iter().all(|text| nowhere.stderr.contains(text)), "{nowhere:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let (silent, verbose) = (folder.path().join("mute"), folder.path().join("talks"));
    for (file, text) in [(&silent, "#!/bin/sh\nexit 1\n"), (&verbose, "#!/bin/sh\necho no memory\nexit 1\n")]
    {
        fs::write(file, text).expect("a file");
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("executable");
    }
    for (file, text) in [(&silent, "; it wrote no output\n"), (&verbose, "; it wrote:\nno memory\n")] {
        let failed = output(quorlock(&["dev", "--", "true"]).env("QUORLOCK_REDIS_SERVER", file));
        assert!(failed.code == Some(69) && failed.stderr.ends_with(text), "{failed:?}");
    }
    let one = output(&mut quorlock(&["dev", "-n", "1", "--", "true"]));
    assert!(one.code == Some(0) && one.stderr.contains(": 1 redis-server, "), "{one:?}");
}

#[test]
fn the_log_has_the_lock_name_of_every_reply() {
    let world = World::of(5);
    let log = output(world.quorlock(&["run", "a", "--", "true"]).env("RUST_LOG", "quorlock=debug"));
    assert_eq!(log.code, Some(0), "{log:?}");
    let replies: Vec<&str> = log.stderr.lines().filter(|line| line.contains(" reply received ")).collect();
    assert!(replies.iter().any(|line| line.contains("Release")), "{log:?}");
    assert!(replies.iter().all(|line| line.contains("key=\"a\"")), "{replies:#?}");
}
