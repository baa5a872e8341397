//! Help texts and versions.

use crate::world::{World, output, quorlock};

#[test]
fn the_help_of_run_lists_every_exit_code() {
    let help = output(&mut quorlock(&["run", "--help"]));
    assert_eq!(help.code, Some(0));
    let codes = help.stdout.split_once("Exit codes:").expect("a section").1;
    for code in ["128 +", "64", "69", "70", "71", "75", "77", "78", "126", "127"] {
        assert!(codes.contains(code), "{code} is missing");
    }
}

#[test]
fn the_help_teaches_by_example_and_asking_for_it_is_no_error() {
    let help = output(&mut quorlock(&["--help"]));
    assert_eq!(help.code, Some(0));
    for text in [
        "quorlock dev",
        "quorlock init",
        "quorlock run",
        "run",
        "init",
        "status",
        "force-release",
        "forget",
        "doctor",
        "dev",
    ] {
        assert!(help.stdout.contains(text), "{text} is missing");
    }
    assert_eq!(output(&mut quorlock(&["help", "--help"])).stdout, help.stdout);
    assert!(!help.stdout.contains("__reap"), "an internal subcommand is shown");
    assert_eq!(output(&mut quorlock(&["--version"])).code, Some(0));
}

#[test]
fn the_help_of_init_explains_force() {
    let help = output(&mut quorlock(&["init", "--help"]));
    assert_eq!(help.code, Some(0));
    for text in
        ["stop all its clients", "quorlock init --force", "max ttl", "quorlock:node", "69", "77", "78"]
    {
        assert!(help.stdout.contains(text), "{text} is missing: {}", help.stdout);
    }
}

#[test]
fn the_help_explains_force_release_and_exit_codes() {
    let help = |name: &str| output(&mut quorlock(&[name, "--help"])).stdout.replace('\n', " ");
    for (name, text) in [
        ("force-release", "KILL at once"),
        ("run", "KILL at once"),
        ("force-release", "also nodes of another lock cluster"),
        ("forget", "also nodes of another lock cluster"),
        ("forget", "120 bytes"),
    ] {
        assert!(help(name).contains(text), "{name}: {text} is missing");
    }
    for name in ["init", "status", "doctor", "force-release", "forget"] {
        assert!(help(name).contains("74   the output cannot be written to stdout"), "{name}");
    }
    for name in ["bench", "chaos"] {
        assert!(help(name).contains("could") && help(name).contains("  74   "), "{name}");
    }
    for name in ["force-release", "forget"] {
        let codes = help(name).split_once("Exit codes:").expect("a section").1.to_owned();
        assert!(["64", "69", "77", "78"].iter().all(|code| codes.contains(code)), "{name}: {codes}");
    }
}

#[test]
fn the_help_of_each_command_lists_its_exit_codes() {
    for (name, codes) in [
        ("init", &["0", "64", "69", "74", "77", "78"][..]),
        ("reconfigure", &["0", "64", "69", "74", "77", "78", "128 +"]),
        ("force-release", &["0", "64   usage error, or", "69", "74", "75", "77", "78"]),
        ("dev", &["64", "69", "78", "126", "127"]),
        ("chaos", &["0", "1", "2", "64", "69", "74", "78", "130"]),
        ("bench", &["0", "64", "69", "70", "74", "77", "78", "130"]),
    ] {
        let help = output(&mut quorlock(&[name, "--help"])).stdout;
        let listed = help.split_once("Exit codes:").expect("a section").1;
        for code in codes {
            assert!(listed.contains(&format!("\n  {code} ")), "{name}: {code} is missing: {listed}");
        }
    }
    let run = output(&mut quorlock(&["run", "--help"])).stdout;
    assert!(run.contains("usage errors (64)"), "{run}");
}

#[test]
fn the_help_of_reconfigure_begins_with_an_example_and_describes_its_own_flags() {
    let help = output(&mut quorlock(&["reconfigure", "--help"])).stdout;
    assert!(help.starts_with("export QUORLOCK_NODES="), "{help}");
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "held locks stay held",
        "each step takes the max ttl",
        "interrupted at any time, and run again",
        "--quorum <N> The number of nodes that make a lock after the change",
        "--nodes <URLS> The nodes in force now",
    ] {
        assert!(words.contains(text), "{text} is missing: {help}");
    }
    // The settings in force are on the nodes, so no variable sets them.
    for text in ["QUORLOCK_QUORUM", "QUORLOCK_MAX_TTL", "--fencing-retention", "--mode"] {
        assert!(!help.contains(text), "{text}: {help}");
    }
}

#[test]
fn no_secret_is_shown() {
    let mut help = quorlock(&["--help"]);
    help.env("QUORLOCK_NODES", "redis://:hunter2@127.0.0.1");
    assert!(!output(&mut help).stdout.contains("hunter2"));
    for nodes in ["redis://u:hunter2@127.0.0.1:1", "redis://u:hunter2@127.0.0.1:99999", "rodis://u:hunter2@h"]
    {
        let mut run = quorlock(&["run", "a", "-n", "--", "true"]);
        let stderr = output(run.env("QUORLOCK_NODES", nodes).env("RUST_LOG", "trace")).stderr;
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

#[test]
fn quiet_prints_nothing_and_a_closed_pipe_is_no_error() {
    let world = World::of(3);
    let end_of_run = world.output(&["run", "-q", "a", "--", "true"]);
    assert_eq!((end_of_run.stdout.as_str(), end_of_run.stderr.as_str()), ("", ""));
    let mut piped = std::process::Command::new("sh");
    piped.args([
        "-c",
        "{ sleep 0.2; \"$0\" status a; echo $? > code; } | true",
        env!("CARGO_BIN_EXE_quorlock"),
    ]);
    piped.env("QUORLOCK_NODES", world.fleet.nodes()).current_dir(world.file(""));
    output(&mut piped);
    assert_eq!(std::fs::read_to_string(world.file("code")).expect("a code"), "0\n");
}
