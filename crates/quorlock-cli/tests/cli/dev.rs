//! `dev`: temporary servers while a command runs.

use std::fs;
use std::net::TcpStream;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::world::{output, output_of, quorlock, send, wait, wait_until};

/// A command that writes its nodes to a file and waits for the file `enough`, or for the end of its parent.
const WAIT_SCRIPT: &str = "
    echo $QUORLOCK_NODES > nodes.part; mv nodes.part nodes
    while [ ! -e enough ] && kill -0 $PPID; do sleep 0.02; done
    exit 6";

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temp folder")
}

fn addresses(folder: &TempDir) -> Vec<String> {
    let file = folder.path().join("nodes");
    wait_until("the command runs", || file.exists());
    let nodes = fs::read_to_string(file).expect("a file");
    nodes.trim().split(',').map(|url| url.trim_start_matches("redis://").to_owned()).collect()
}

fn is_served(address: &str) -> bool {
    TcpStream::connect(address).is_ok()
}

#[test]
fn the_command_finds_its_nodes() {
    let program = env!("CARGO_BIN_EXE_quorlock");
    let inner = [program, "run", "a", "--", "sh", "-c", "echo $QUORLOCK_NODES; exit 3"];
    let output =
        output(quorlock(&["dev", "-n", "3", "--"]).args(inner).env("QUORLOCK_PASSWORD", "of-others"));
    assert_eq!(output.code, Some(3), "{output:?}");
    assert_eq!(output.stdout.matches("redis://127.0.0.1:").count(), 3, "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "one line reports the servers: {output:?}");
}

#[test]
fn its_nodes_are_one_cluster_that_votes_at_once() {
    let program = env!("CARGO_BIN_EXE_quorlock");
    let show = "echo $QUORLOCK_MAX_TTL; test -n \"$QUORLOCK_FENCING_TOKEN\"";
    let inner = [program, "run", "a", "-n", "--", "sh", "-c", show];
    for (options, max_ttl) in [(&[][..], ""), (&["--max-ttl", "2s"], "2s")] {
        let mut command = quorlock(&[&["dev", "-n", "3"], options, &["--"]].concat());
        // Settings for other nodes, which must be ignored.
        command.envs([("QUORLOCK_MAX_TTL", "7s"), ("QUORLOCK_MODE", "plain"), ("QUORLOCK_QUORUM", "3")]);
        let output = output(command.args(inner));
        assert_eq!((output.code, output.stdout.trim()), (Some(0), max_ttl), "{output:?}");
    }
    let invalid = output(&mut quorlock(&["dev", "--max-ttl", "2days", "--", "true"]));
    assert_eq!(invalid.code, Some(64), "{invalid:?}");
}

#[test]
fn without_a_command_it_is_the_shell() {
    let output = output(quorlock(&["dev", "-q", "-n", "1"]).env("SHELL", "/bin/pwd"));
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    assert!(output.stdout.starts_with('/'), "{output:?}");
}

#[test]
fn no_server_outlives_the_command() {
    let folder = folder();
    let mut command = quorlock(&["dev", "-n", "3", "--", "sh", "-c", WAIT_SCRIPT]);
    let dev = command.current_dir(folder.path()).spawn().expect("a process");
    let addresses = addresses(&folder);
    assert_eq!(addresses.len(), 3);
    assert!(addresses.iter().all(|address| is_served(address)));
    fs::write(folder.path().join("enough"), "").expect("a file");
    assert_eq!(output_of(dev).code, Some(6));
    assert!(!addresses.iter().any(|address| is_served(address)));
}

#[test]
fn a_signal_goes_to_the_command_and_the_servers_go_with_it() {
    let folder = folder();
    let mut command = quorlock(&["dev", "-n", "3", "--", "sh", "-c", WAIT_SCRIPT]);
    let dev = command.current_dir(folder.path()).spawn().expect("a process");
    let addresses = addresses(&folder);
    send(&dev, Signal::TERM);
    assert_eq!(output_of(dev).code, Some(143));
    assert!(!addresses.iter().any(|address| is_served(address)));
}

#[test]
fn no_server_outlives_a_dev_that_is_killed() {
    let folder = folder();
    let mut command = quorlock(&["dev", "-n", "3", "--", "sh", "-c", WAIT_SCRIPT]);
    let mut dev = command.current_dir(folder.path()).spawn().expect("a process");
    let addresses = addresses(&folder);
    send(&dev, Signal::KILL);
    wait(&mut dev);
    wait_until("the servers are gone", || !addresses.iter().any(|address| is_served(address)));
}

#[test]
fn a_missing_redis_server_is_reported_with_an_install_hint() {
    let output = output(quorlock(&["dev", "--", "true"]).env("QUORLOCK_REDIS_SERVER", "/no/such/server"));
    let mut chaos = quorlock(&["chaos", "--duration", "5"]);
    let chaos = crate::world::output(chaos.env("QUORLOCK_REDIS_SERVER", "/no/such/server"));
    assert!(chaos.code == Some(78) && !chaos.stderr.contains("/no/such"), "{chaos:?}");
    assert_eq!(output.code, Some(78), "{output:?}");
    assert!(output.stderr.contains("apt-get install redis-server"), "{output:?}");
    assert!(
        output.stderr.starts_with("quorlock: QUORLOCK_REDIS_SERVER: ") && !output.stderr.contains("/no/such"),
        "{output:?}"
    );
}
