//! `reconfigure`: the nodes, the quorum and the max ttl change while locks are acquired and held.

use std::fs::File;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::world::{Output, World, json, output, output_of, quorlock, send, wait, wait_until};

/// Servers, the first three of which are a lock cluster.
fn world(servers: usize) -> World {
    let world = World::uninitialized(servers, Some("1s"));
    let init = output(&mut with_list(&world, &[0, 1, 2], &["init"]));
    assert_eq!(init.code, Some(0), "{init:?}");
    world
}

fn list(world: &World, nodes: &[usize]) -> String {
    nodes.iter().map(|node| world.fleet[*node].url()).collect::<Vec<_>>().join(",")
}

/// `quorlock` with this list of nodes.
fn with_list(world: &World, nodes: &[usize], args: &[&str]) -> Command {
    let mut command = world.quorlock(args);
    command.env("QUORLOCK_NODES", list(world, nodes));
    command
}

fn reconfigure(world: &World, from: &[usize], to: &[usize], args: &[&str]) -> Command {
    let mut command = with_list(world, from, &["reconfigure", "--to", &list(world, to)]);
    command.args(args);
    command
}

/// Runs a reconfiguration to its end. No line on stderr repeats the one before.
#[track_caller]
fn reconfigured(world: &World, from: &[usize], to: &[usize], args: &[&str]) -> Output {
    let done = output(&mut reconfigure(world, from, to, args));
    assert_eq!(done.code, Some(0), "{done:?}");
    let mut lines: Vec<&str> = done.stderr.lines().collect();
    let count = lines.len();
    lines.dedup();
    assert_eq!(lines.len(), count, "a line is repeated: {done:?}");
    done
}

/// Appends the number after the last one. It finds two holders at once: they append the same number.
const COUNT_ON: &str = "n=$(wc -l < log); sleep 0.02; echo $((n + 1)) >> log";

/// Starts a process that counts on under the lock, one `run` after another, until there is a file `stop`.
fn counting(world: &World, nodes: &[usize]) -> Child {
    let script = "while [ ! -e stop ]; do quorlock run -q -w 2s c -- sh -c \"$0\" && echo >> succeeded; done";
    let mut command = world.program("sh", &["-c", script, COUNT_ON]);
    command.env("QUORLOCK_NODES", list(world, nodes));
    command.spawn().expect("a process")
}

fn numbers(world: &World) -> Vec<usize> {
    world.read("log").lines().map(|line| line.parse().expect("a number")).collect()
}

#[test]
fn three_nodes_become_five_and_three_others_while_processes_lock() {
    let world = world(5);
    world.write("log", "");
    let lists: [&[usize]; 6] =
        [&[0, 1, 2], &[0, 1, 2], &[0, 1, 2, 3, 4], &[0, 1, 2, 3, 4], &[1, 2, 3], &[2, 3, 4]];
    let mut clients = lists.map(|list| counting(&world, list));
    wait_until("they count", || numbers(&world).len() > 5);
    let five = reconfigured(&world, &[0, 1, 2], &[0, 1, 2, 3, 4], &[]);
    assert!(five.stdout.contains("5 nodes, a quorum of 3, a max ttl of 1s\n"), "{five:?}");
    let at_five = numbers(&world).len();
    let three = reconfigured(&world, &[0, 1, 2, 3, 4], &[2, 3, 4], &[]);
    assert!(three.stdout.contains("3 nodes, a quorum of 2, a max ttl of 1s\n"), "{three:?}");
    let at_three = numbers(&world).len();
    assert!(at_three > at_five, "no lock was acquired meanwhile");
    wait_until("they count on", || numbers(&world).len() > at_three + 5);
    world.write("stop", "");
    for client in &mut clients {
        wait(client);
    }
    let numbers = numbers(&world);
    let lost = numbers.iter().zip(1..).find(|(number, line)| *number != line);
    assert_eq!(lost, None, "two processes held the lock at once");
    let succeeded = world.read("succeeded").lines().count();
    assert!((1..=numbers.len()).contains(&succeeded), "{succeeded} of {}", numbers.len());
    // The first list names one of the three nodes.
    let outdated = output(&mut with_list(&world, &[0, 1, 2], &["run", "c", "--", "true"]));
    assert_eq!(outdated.code, Some(78), "{outdated:?}");
    assert!(outdated.stderr.contains("give this client the list in force (--nodes"), "{outdated:?}");
}

#[test]
fn a_node_is_exchanged_and_clients_with_the_earlier_list_get_a_message() {
    let world = world(4);
    let name = |node: usize| format!("127.0.0.1:{}", world.fleet[node].port());
    let done = reconfigured(&world, &[0, 1, 2], &[0, 1, 3], &[]);
    let changed = format!("{} added, {} removed: epoch 1.1, 3 nodes", name(3), name(2));
    assert!(done.stderr.contains(&changed), "{done:?}");
    assert!(done.stdout.starts_with("reconfigured: epoch 1.1, 3 nodes"), "{done:?}");
    assert!(done.stdout.contains(&format!("\n  {}\n", name(3))) && !done.stdout.contains(&name(2)));
    assert!(done.stdout.contains("give all clients this list of nodes now"), "{done:?}");
    let again = reconfigured(&world, &[0, 1, 2], &[0, 1, 3], &["-q"]);
    assert!(again.stdout.starts_with("nothing was to be changed: epoch 1.1, "), "{again:?}");
    assert_eq!(again.stderr, "");
    // The command waits until its own `run` has printed the line.
    let until_reported = "until grep -q 'this list of nodes' err; do sleep 0.05; done; sleep 0.1";
    let mut run = with_list(&world, &[0, 1, 2], &["run", "c", "--", "sh", "-c", until_reported]);
    run.stderr(File::create(world.file("err")).expect("a file"));
    assert_eq!(output(&mut run).code, Some(0), "{}", world.read("err"));
    assert_eq!(world.read("err").lines().count(), 1, "{}", world.read("err"));
    assert!(world.read("err").contains("give this client the list in force"), "{}", world.read("err"));
    let quiet = output(&mut with_list(&world, &[0, 1, 2], &["run", "-q", "c", "--", "sleep", "0.3"]));
    assert_eq!((quiet.code, &*quiet.stderr), (Some(0), ""));
    let current = output(&mut with_list(&world, &[0, 1, 3], &["run", "c", "--", "sleep", "0.3"]));
    assert_eq!((current.code, &*current.stderr), (Some(0), ""));
    let doctor = output(&mut with_list(&world, &[0, 1, 2], &["doctor"]));
    assert!(doctor.stdout.contains("outdated since a `quorlock reconfigure`"), "{doctor:?}");
    assert!(doctor.stdout.contains("it is not one of the lock cluster's nodes any more"), "{doctor:?}");
    let doctor = output(&mut with_list(&world, &[0, 1, 3], &["doctor"]));
    assert!(!doctor.stdout.contains("outdated") && !doctor.stdout.contains("changed hands"), "{doctor:?}");
}

/// Programs reach the nodes under other addresses than the command, and name them.
#[test]
fn nodes_with_names_are_exchanged_and_no_warning_is_printed() {
    let world = World::uninitialized(4, Some("1s"));
    let named = |nodes: &[usize], names: &str, args: &[&str]| {
        let mut command = with_list(&world, nodes, args);
        output(command.env("QUORLOCK_NODE_NAMES", names))
    };
    assert_eq!(named(&[0, 1, 2], "a,b,c", &["init"]).code, Some(0));
    // The same nodes, named by their addresses: the list is none that could be outdated.
    for names in ["", "a,b,c", "c,a,b"] {
        let run = named(&[0, 1, 2], names, &["run", "c", "--", "sleep", "0.3"]);
        assert_eq!((run.code, &*run.stderr), (Some(0), ""), "{names}");
    }
    let unnamed = named(&[0, 1, 2], "", &["doctor"]);
    assert!(unnamed.stdout.contains("--node-names): it names the same nodes otherwise; "), "{unnamed:?}");
    let doctor = named(&[0, 1, 2], "a,b,c", &["doctor"]);
    assert!(!doctor.stdout.contains("list of nodes"), "{doctor:?}");
    let to = list(&world, &[0, 1, 3]);
    let args = ["reconfigure", "--to", &to];
    let without_names = named(&[0, 1, 2], "a,b,c", &args);
    assert_eq!(without_names.code, Some(64), "{without_names:?}");
    assert!(without_names.stderr.contains("--to-names: ") && without_names.stderr.contains("is new, and"));
    let unnamed = named(&[0, 1, 2], "", &args);
    assert!(unnamed.code == Some(78) && unnamed.stderr.contains("--node-names"), "{unnamed:?}");
    let done = named(&[0, 1, 2], "a,b,c", &[&args[..], &["--to-names", "a,b,d"]].concat());
    assert!(done.stdout.starts_with("reconfigured: epoch 1.1, 3 nodes"), "{done:?}");
    let doctor = named(&[0, 1, 3], "a,b,d", &["doctor"]);
    assert!(!doctor.stdout.contains("list of nodes"), "{doctor:?}");
    let outdated = named(&[0, 1, 2], "a,b,c", &["run", "c", "--", "sleep", "0.3"]);
    assert!(outdated.stderr.contains("--node-names if programs set them"), "{outdated:?}");
}

#[test]
fn the_quorum_and_the_max_ttl_change_under_a_held_lock() {
    let world = world(3);
    let nodes = [0, 1, 2];
    let script = "touch held; while [ ! -e over ]; do sleep 0.05; done";
    let holder = with_list(&world, &nodes, &["run", "c", "--", "sh", "-c", script]).spawn().expect("spawned");
    wait_until("the lock is held", || world.has_file("held"));
    let args = ["reconfigure", "--quorum", "3", "--max-ttl", "2s", "--json"];
    let done = output(&mut with_list(&world, &nodes, &args));
    assert_eq!(done.code, Some(0), "{done:?}");
    let report = json(&done);
    assert_eq!(report["outcome"], "reconfigured", "{report}");
    assert_eq!((&report["quorum"], &report["max_ttl_ms"]), (&3.into(), &2_000.into()), "{report}");
    assert_eq!(report["nodes"].as_array().map(Vec::len), Some(3), "{report}");
    assert!(report["to_add"] == Value::Array(vec![]) && report["plan"].is_null(), "{report}");
    world.write("over", "");
    assert_eq!(output_of(holder).code, Some(0), "the lock stayed held");
    // No variable is the goal, and none is used: the settings in force are on the nodes.
    let mut same = with_list(&world, &nodes, &["reconfigure", "--max-ttl", "2s", "--json"]);
    let same = json(&output(same.env("QUORLOCK_FENCING_RETENTION", "1ms").env("QUORLOCK_QUORUM", "99")));
    assert_eq!((&same["outcome"], &same["quorum"]), (&"unchanged".into(), &3.into()), "{same}");
}

#[test]
fn a_killed_reconfiguration_is_run_again() {
    let world = world(5);
    let (from, to) = (&[0, 1, 2], &[0, 1, 2, 3, 4]);
    for millis in [20, 60, 120, 400, 900, 1_500] {
        let mut child = reconfigure(&world, from, to, &[]).spawn().expect("spawned");
        sleep(Duration::from_millis(millis));
        let _ = child.kill();
        wait(&mut child);
        let run = output(&mut with_list(&world, from, &["run", "-w", "20s", "c", "--", "true"]));
        assert_eq!(run.code, Some(0), "after {millis} ms: {run:?}");
    }
    let done = reconfigured(&world, from, to, &[]);
    assert!(done.stdout.contains("5 nodes, a quorum of 3"), "{done:?}");
    let doctor = output(&mut with_list(&world, to, &["doctor"]));
    assert!(doctor.code == Some(0) && !doctor.stdout.contains("this list"), "{doctor:?}");
}

#[test]
fn a_dry_run_changes_nothing() {
    let world = world(6);
    let before = world.markers();
    let name = |node: usize| format!("127.0.0.1:{}", world.fleet[node].port());
    let args = &["--dry-run", "--max-ttl", "500ms"];
    let plan = output(&mut reconfigure(&world, &[0, 1, 2], &[0, 1, 3, 4, 5], args));
    assert_eq!(plan.code, Some(0), "{plan:?}");
    for text in [
        "in force: epoch 1.0, 3 nodes, a quorum of 2, a max ttl of 1s\n".to_owned(),
        format!("to exchange: {} for ", name(2)),
        "\nto add: ".to_owned(),
        "\nthe quorum becomes 3\nthe max ttl becomes 500ms\n5 steps, about 5s in all: ".to_owned(),
    ] {
        assert!(plan.stdout.contains(&text), "{text}: {plan:?}");
    }
    let plan = output(&mut reconfigure(&world, &[0, 1, 2], &[0, 1, 3, 4, 5], &["--dry-run", "--json"]));
    let plan = json(&plan);
    assert_eq!((&plan["outcome"], &plan["plan"]["steps"]), (&"dry_run".into(), &3.into()), "{plan}");
    assert_eq!(plan["to_remove"], Value::from(vec![name(2)]), "{plan}");
    let nothing = output(&mut reconfigure(&world, &[0, 1, 2], &[2, 1, 0], &["--dry-run"]));
    assert!(nothing.stdout.ends_with("\nnothing is to be changed\n"), "{nothing:?}");
    assert_eq!(world.markers(), before);
    // Locks of the roster before may run.
    assert_eq!(output(&mut with_list(&world, &[0, 1, 2], &["reconfigure", "--quorum", "3"])).code, Some(0));
    let later = output(&mut with_list(&world, &[0, 1, 2], &["reconfigure", "--quorum", "2", "--dry-run"]));
    assert!(later.stdout.contains("\n1 step, about 2s in all: "), "{later:?}");
}

#[test]
fn other_lists_and_nodes_that_are_not_blank_are_rejected() {
    let world = world(6);
    assert_eq!(output(&mut with_list(&world, &[3, 4, 5], &["init"])).code, Some(0));
    let before = world.markers();
    let other = output(&mut reconfigure(&world, &[0, 1], &[0, 1], &[]));
    assert_eq!(other.code, Some(78), "{other:?}");
    assert!(other.stderr.contains("give as --nodes the list in force"), "{other:?}");
    let foreign = output(&mut reconfigure(&world, &[0, 1, 2], &[0, 1, 3], &[]));
    assert_eq!(foreign.code, Some(78), "{foreign:?}");
    assert!(foreign.stderr.contains("another lock cluster") && foreign.stderr.contains("must be blank"));
    assert_eq!(world.markers(), before);
    let blank = World::uninitialized(3, None);
    let blank = blank.output(&["reconfigure", "--max-ttl", "1s"]);
    assert_eq!(blank.code, Some(69), "{blank:?}");
    assert!(blank.stderr.contains("`quorlock init`"), "{blank:?}");
}

#[test]
fn an_interrupt_ends_it_with_the_code_of_the_signal() {
    let mut world = world(4);
    world.fleet[3].kill();
    let args = ["run", "-w", "20s", "c", "--", "true"];
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = reconfigure(&world, &[0, 1, 2], &[0, 1, 2, 3], &["--json"]);
        command.stderr(File::create(world.file("err")).expect("a file"));
        let child = command.spawn().expect("spawned");
        wait_until("it waits", || world.read("err").contains("waiting for the new node"));
        send(&child, signal);
        let ended = output_of(child);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert_eq!(json(&ended)["outcome"], "interrupted", "{ended:?}");
        assert!(
            world.read("err").ends_with("run the same command again to go on\n"),
            "{}",
            world.read("err")
        );
        assert_eq!(output(&mut with_list(&world, &[0, 1, 2], &args)).code, Some(0));
    }
}

#[test]
fn usage_errors_name_the_flag() {
    for (args, code, message) in [
        (&[][..], 64, "nothing to change: give --to, --quorum or --max-ttl"),
        (&["--dry-run"], 64, "nothing to change"),
        (&["--to", ""], 64, "--to: no URL given"),
        (&["--to", "http://h"], 64, "--to: node 1 of 1: the URL cannot be used"),
        (&["--to", "redis://a,redis://a"], 64, "--to: a:6379 is named twice"),
        (&["--quorum", "1"], 64, "--quorum: "),
        (&["--quorum", "4"], 64, "--quorum: a quorum of 4 is more than the 3 nodes"),
        (&["--to", "redis://a", "--quorum", "2"], 64, "--quorum: a quorum of 2 is more than the 1 node"),
        (&["--max-ttl", "9h"], 64, "--max-ttl: a max ttl of 9h"),
        (&["--fencing-retention", "9h", "--quorum", "3"], 64, "--fencing-retention: "),
        (&["--mode", "plain", "--quorum", "3"], 64, "--mode plain: "),
        (&["--quorum", "3", "x"], 64, "unexpected argument"),
    ] {
        let mut command = quorlock(&["reconfigure"]);
        command
            .args(args)
            .env("QUORLOCK_NODES", "redis://127.0.0.1:1,redis://127.0.0.1:2,redis://127.0.0.1:3");
        let output = output(&mut command);
        assert_eq!(output.code, Some(code), "{args:?}: {output:?}");
        assert!(output.stderr.contains(message), "{args:?}: {output:?}");
    }
    let mut command = quorlock(&["reconfigure", "--quorum", "1"]);
    let unreachable = output(command.env("QUORLOCK_NODES", "redis://127.0.0.1:1"));
    assert_eq!(unreachable.code, Some(69), "{unreachable:?}");
    // Only the list after uses TLS, or only the list before, or none.
    let certificate = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/good.pem");
    let (plain, tls) = ("redis://127.0.0.1:1", "rediss://127.0.0.1:2");
    for (from, to, code) in [(plain, tls, 69), (tls, plain, 69), (plain, plain, 64)] {
        let mut command = quorlock(&["reconfigure", "--to", to, "--tls-ca", certificate]);
        let output = output(command.env("QUORLOCK_NODES", from));
        assert_eq!(output.code, Some(code), "{from} to {to}: {output:?}");
        let is_rejected = output.stderr.contains("--tls-ca: authorities are given");
        assert_eq!(is_rejected, code == 64, "{from} to {to}: {output:?}");
    }
    let mut command = quorlock(&["reconfigure", "--quorum", "1"]);
    let plain = output(command.env("QUORLOCK_NODES", "redis://a").env("QUORLOCK_MODE", "plain"));
    assert_eq!(plain.code, Some(78), "{plain:?}");
}
