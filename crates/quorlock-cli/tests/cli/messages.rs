//! What is said where things are not well: once, of what it is, and with the harmless way on first.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use quorlock_chaos::Setup;
use serde_json::Value;

use crate::world::{World, end, quorlock};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

#[test]
fn a_message_common_to_all_nodes_is_printed_once() {
    let world = World::with(5, &Setup::new().password("right"));
    let bare = world.fleet.servers().iter().map(|server| format!("redis://127.0.0.1:{}", server.port()));
    let mut run = world.quorlock(&["run", "a", "-n", "--", "true"]);
    let refused = end(run.env("QUORLOCK_NODES", bare.collect::<Vec<_>>().join(",")));
    assert_eq!((refused.code, refused.err.matches("NOAUTH").count()), (Some(77), 1), "{refused:?}");
    // So many as had answered when it was clear: at least the quorum.
    let one_line = refused.err.matches(": login refused: NOAUTH").count() == 1;
    assert!(
        one_line && (refused.err.contains("all 5 nodes: ") || refused.err.contains(", 127.0.0.1:")),
        "{refused:?}"
    );
    let closed = "redis://127.0.0.1:1,redis://127.0.0.1:2,redis://127.0.0.1:3";
    let away = world.end(&["run", "a", "-w", "2s", "--nodes", closed, "--", "true"]);
    assert!(away.err.contains("all 3 nodes: connection refused"), "{away:?}");
    let mut init = world.quorlock(&["init"]);
    let refused = end(init.env("QUORLOCK_NODES", format!("redis://127.0.0.1:{}", world.fleet[0].port())));
    assert!(
        refused.code == Some(77) && refused.err.contains("not all nodes admit this client"),
        "{refused:?}"
    );
}

#[test]
fn doctor_does_not_blame_the_nodes_that_kept_their_markers() {
    let world = World::of(5);
    for server in &world.fleet.servers()[..3] {
        server.command::<()>(&["FLUSHALL"]).expect("an answer");
    }
    let ill = world.end(&["doctor"]);
    assert_eq!(ill.code, Some(1), "{ill:?}");
    let marked = |word: &str| ill.out.lines().filter(|line| line.contains(&format!("  {word}"))).count();
    assert_eq!((marked("blank  "), marked("excluded  ")), (3, 2), "{ill:?}");
    assert_eq!(ill.out.matches("· remembers a lock cluster without a quorum").count(), 2, "{ill:?}");
    assert!(!ill.out.contains("fix these first"), "{ill:?}");
    let words = "3 of 5 nodes are blank, and 2 remember a lock cluster without a quorum";
    let verdict = ill.out.lines().find(|line| line.contains(words)).expect("a verdict");
    assert!(
        verdict.contains("stop all clients, wait for the max ttl, and run `quorlock init --force`"),
        "{verdict}"
    );
    let status = world.end(&["status", "a"]);
    assert!(status.code == Some(78) && status.out.contains(words), "{status:?}");
}

#[test]
fn doctor_json_says_whether_a_lock_can_be_acquired() {
    let mut world = World::of(3);
    let of = |world: &World| {
        let told = json(&world.end(&["doctor", "--json"]).out);
        ["healthy", "quorum", "votes", "can_acquire"].map(|name| told[name].clone())
    };
    assert_eq!(of(&world), [true.into(), 2.into(), 3.into(), Value::Bool(true)]);
    world.fleet[0].kill();
    assert_eq!(of(&world), [false.into(), 2.into(), 2.into(), Value::Bool(true)]);
    world.fleet[1].kill();
    assert_eq!(of(&world), [false.into(), 2.into(), 0.into(), Value::Bool(false)]);
}

/// Which is the first thing that is tried in an outage.
#[test]
fn init_force_is_not_the_first_suggestion() {
    let world = World::undeclared(3, None);
    assert_eq!(world.end(&["run", "a", "-n", "--", "true"]).code, Some(69));
    for args in [&["doctor"][..], &["init"], &["run", "a", "-n", "--", "true"]] {
        let told = world.end(args);
        let text = told.out + &told.err;
        let (wait, force) = (text.find("wait "), text.find("--force"));
        assert!(wait.is_some() && wait < force, "{args:?}: {text}");
    }
}

#[test]
fn every_command_lists_its_own_exit_codes_and_the_list_of_commands_none() {
    let help = |name: &[&str]| end(&mut quorlock(&[name, &["--help"]].concat())).out;
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
    let nowhere = end(quorlock(&["dev", "--", "true"]).env("TMPDIR", "/no/such/folder"));
    assert_eq!(nowhere.code, Some(69), "{nowhere:?}");
    let words = ["/no/such/folder", "No such file or directory", "TMPDIR"];
    assert!(words.iter().all(|words| nowhere.err.contains(words)), "{nowhere:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let (mute, talks) = (folder.path().join("mute"), folder.path().join("talks"));
    for (file, text) in [(&mute, "#!/bin/sh\nexit 1\n"), (&talks, "#!/bin/sh\necho no memory\nexit 1\n")] {
        fs::write(file, text).expect("a file");
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("executable");
    }
    for (file, words) in [(&mute, "; it wrote no output\n"), (&talks, "; it wrote:\nno memory\n")] {
        let failed = end(quorlock(&["dev", "--", "true"]).env("QUORLOCK_REDIS_SERVER", file));
        assert!(failed.code == Some(69) && failed.err.ends_with(words), "{failed:?}");
    }
    let one = end(&mut quorlock(&["dev", "-n", "1", "--", "true"]));
    assert!(one.code == Some(0) && one.err.contains(": 1 redis-server, "), "{one:?}");
}

#[test]
fn the_log_has_the_lock_name_of_every_reply() {
    let world = World::of(5);
    let logged = end(world.quorlock(&["run", "a", "--", "true"]).env("RUST_LOG", "quorlock=debug"));
    assert_eq!(logged.code, Some(0), "{logged:?}");
    let replies: Vec<&str> = logged.err.lines().filter(|line| line.contains(" reply received ")).collect();
    assert!(replies.iter().any(|line| line.contains("Release")), "{logged:?}");
    assert!(replies.iter().all(|line| line.contains("key=\"a\"")), "{replies:#?}");
}
