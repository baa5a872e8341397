//! Settings from flags, environment variables and the file.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use quorlock_chaos::Setup;

use crate::world::{World, output, quorlock};

const VARIABLES: [&str; 18] = [
    "QUORLOCK_CONFIG",
    "QUORLOCK_NODE_NAMES",
    "QUORLOCK_USERNAME",
    "QUORLOCK_PASSWORD",
    "QUORLOCK_PASSWORD_FILE",
    "QUORLOCK_PASSWORD_COMMAND",
    "QUORLOCK_KEY_PREFIX",
    "QUORLOCK_QUORUM",
    "QUORLOCK_MODE",
    "QUORLOCK_MAX_TTL",
    "QUORLOCK_FENCING_RETENTION",
    "QUORLOCK_CLOCK_DRIFT",
    "QUORLOCK_REPLY_TIMEOUT",
    "QUORLOCK_DIAL_TIMEOUT",
    "QUORLOCK_TLS_CA",
    "QUORLOCK_TLS_CERT",
    "QUORLOCK_TLS_KEY",
    "QUORLOCK_REDIS_SERVER",
];

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set_for_any_command() {
    let world = World::of(1);
    for (args, code) in [
        (&["run", "a", "--", "true"][..], 0),
        (&["init"], 0),
        (&["status", "a"], 0),
        (&["force-release", "--yes", "a"], 0),
        (&["forget", "a"], 0),
        (&["doctor"], 0),
        (&["bench", "--duration", "1", "--tasks", "1"], 0),
        (&["dev", "-q", "-n", "1", "--", "true"], 0),
    ] {
        let mut command = world.quorlock(args);
        let output = output(command.envs(VARIABLES.map(|name| (name, ""))));
        assert_eq!(output.code, Some(code), "{args:?}: {output:?}");
    }
    for name in VARIABLES {
        let blank = if ["QUORLOCK_PASSWORD", "QUORLOCK_KEY_PREFIX"].contains(&name) { "" } else { " \n" };
        let output = output(world.quorlock(&["run", "a", "-n", "--", "true"]).env(name, blank));
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{name}");
    }
    let without_nodes = output(quorlock(&["status", "a"]).env("QUORLOCK_NODES", " "));
    assert!(
        without_nodes.code == Some(78) && without_nodes.stderr.contains("no nodes given"),
        "{without_nodes:?}"
    );
}

#[test]
fn a_variable_that_cannot_work_is_named_and_a_flag_beats_it() {
    let world = World::of(1);
    for (name, value) in [
        ("QUORLOCK_NODES", "http://h"),
        ("QUORLOCK_CONFIG", "missing.toml"),
        ("QUORLOCK_PASSWORD_FILE", "missing"),
        ("QUORLOCK_QUORUM", "most"),
        ("QUORLOCK_QUORUM", "2"),
        ("QUORLOCK_MODE", "perhaps"),
        ("QUORLOCK_MAX_TTL", "soon"),
        ("QUORLOCK_FENCING_RETENTION", "1s"),
        ("QUORLOCK_KEY_PREFIX", "quorlock:"),
        ("QUORLOCK_CLOCK_DRIFT", "1%"),
        ("QUORLOCK_REPLY_TIMEOUT", "0"),
        ("QUORLOCK_DIAL_TIMEOUT", "2h"),
        ("QUORLOCK_TLS_CA", "missing"),
        ("QUORLOCK_TLS_KEY", "missing"),
    ] {
        for args in [&["run", "a", "--", "touch", "ran"][..], &["status", "a"], &["doctor"], &["init"]] {
            let output = output(world.quorlock(args).env(name, value));
            assert_eq!(output.code, Some(78), "{args:?}: {output:?}");
            assert!(output.stderr.starts_with(&format!("quorlock: {name}: ")), "{args:?}: {output:?}");
        }
    }
    assert!(!world.has_file("ran"));
    let bytes = std::ffi::OsStr::from_bytes(b"\xff");
    let not_utf8 = output(world.quorlock(&["status", "a"]).env("QUORLOCK_PASSWORD", bytes));
    assert!(not_utf8.code == Some(78) && not_utf8.stderr.contains("QUORLOCK_PASSWORD: "), "{not_utf8:?}");
    let overridden = output(world.quorlock(&["status", "a", "--quorum", "1"]).env("QUORLOCK_QUORUM", "most"));
    assert_eq!(overridden.code, Some(0), "{overridden:?}");
}

#[test]
fn paths_in_a_file_are_relative_to_it_and_errors_have_line_and_field() {
    let world = World::with(1, &Setup::new().password("right"));
    let url = format!("redis://127.0.0.1:{}", world.fleet[0].port());
    fs::create_dir(world.file("sub")).expect("a folder");
    let file = |text: &str| fs::write(world.file("sub/conf.toml"), text).expect("a file");
    let status = |variables: &[(&str, &str)]| {
        let mut command = quorlock(&["status", "a", "--config", "sub/conf.toml"]);
        output(command.current_dir(world.file("")).envs(variables.iter().copied()))
    };
    file(&format!("nodes = '{url},'\npassword_file = 'secret'\nreply_timeout = 1\n"));
    fs::write(world.file("sub/secret"), "right\n").expect("a file");
    assert_eq!(status(&[]).code, Some(0), "{:?}", status(&[]));
    assert_eq!(
        status(&[("QUORLOCK_PASSWORD", "wrong")]).code,
        Some(77),
        "the environment overrides the file"
    );
    fs::write(world.file("sub/secret"), "wrong").expect("a file");
    assert_eq!(
        status(&[("QUORLOCK_PASSWORD", "right\r\n")]).code,
        Some(0),
        "a line end is not part of the password"
    );
    fs::write(world.file("sub/secret"), "\n").expect("a file");
    let empty = status(&[]);
    assert!(empty.stderr.contains("sub/conf.toml: line 2: password_file: the file is empty"), "{empty:?}");
    file(&format!("nodes = '{url}'\n\nquorum = '1'\n"));
    let wrong = status(&[]);
    assert_eq!(wrong.code, Some(78));
    assert!(wrong.stderr.contains("sub/conf.toml: line 3: quorum: expected a whole number"), "{wrong:?}");
}

#[test]
fn tls_settings_without_tls_nodes_are_an_error() {
    let world = World::of(1);
    fs::write(world.file("ca.pem"), "").expect("a file");
    let output = world.output(&["status", "a", "--tls-ca", "ca.pem"]);
    assert_eq!(output.code, Some(64), "{output:?}");
    assert!(
        output.stderr.starts_with("quorlock: --tls-ca: ") && output.stderr.contains("rediss://"),
        "{output:?}"
    );
    let without_key = world.output(&["status", "a", "--tls-cert", "ca.pem"]);
    assert!(
        without_key.code == Some(64) && without_key.stderr.contains("together with --tls-key"),
        "{without_key:?}"
    );
}

#[test]
fn a_bare_number_counts_seconds() {
    let world = World::of(1);
    world.set_other_owner("held");
    for wait in ["1", "0.4"] {
        let held =
            world.output(&["run", "held", "-w", wait, "--ttl", "5", "--kill-after", "1", "--", "true"]);
        assert_eq!(held.code, Some(75), "-w {wait}: {held:?}");
    }
    let output =
        output(world.quorlock(&["run", "a", "--ttl", "31", "--", "true"]).env("QUORLOCK_MAX_TTL", "30"));
    assert!(output.code == Some(64) && output.stderr.contains("a ttl of 31s"), "{output:?}");
}

#[test]
fn settings_for_other_nodes_do_not_apply_to_dev() {
    let program = env!("CARGO_BIN_EXE_quorlock");
    for args in [
        &["dev", "-q", "-n", "1", "--", program, "run", "a", "--", "true"][..],
        &["bench", "--dev", "1", "--duration", "1", "--tasks", "1"],
    ] {
        let output = output(quorlock(args).envs(OTHER_SETTINGS));
        assert_eq!(output.code, Some(0), "{output:?}");
    }
}

#[test]
fn a_user_without_permissions_is_pointed_to_plain_mode_by_its_flag() {
    let world = World::of(1);
    let rights = "ACL SETUSER ann on >pw ~lock:* -@all +set +get +del +pexpire +pttl +eval +evalsha +script|load +info";
    let args: Vec<&str> = rights.split(' ').collect();
    world.fleet[0].command::<()>(&args).expect("a user");
    let mut status = world.quorlock(&["run", "lock:a", "-n", "--", "true"]);
    let output = output(status.envs([("QUORLOCK_USERNAME", "ann"), ("QUORLOCK_PASSWORD", "pw")]));
    assert!(output.code == Some(77) && output.stderr.contains("`--mode plain`"), "{output:?}");
    assert!(!output.stderr.contains("plain()"), "{output:?}");
}

const OTHER_SETTINGS: [(&str, &str); 11] = [
    ("QUORLOCK_NODES", "redis://127.0.0.1:1"),
    ("QUORLOCK_CONFIG", "/none"),
    ("QUORLOCK_USERNAME", "ann"),
    ("QUORLOCK_PASSWORD", "b"),
    ("QUORLOCK_PASSWORD_FILE", "/none"),
    ("QUORLOCK_QUORUM", "3"),
    ("QUORLOCK_MAX_TTL", "9s"),
    ("QUORLOCK_FENCING_RETENTION", "2h"),
    ("QUORLOCK_MODE", "perhaps"),
    ("QUORLOCK_CLOCK_DRIFT", "1%"),
    ("QUORLOCK_TLS_CA", "/none"),
];
