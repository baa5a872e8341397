//! Errors of servers during initialization: every command reports the server's own error.

use quorlock_chaos::{Server, Setup};

use crate::world::{World, output, wait_until};

const READ_COMMANDS: [(&[&str], i32); 2] = [(&["doctor"], 1), (&["status", "a"], 69)];
const RUN: &[&str] = &["run", "-w", "1s", "a", "--", "true"];

/// Runs these commands, as this user if given. Each ends with its code, and reports this error for each of
/// the three servers.
fn check(world: &World, user: Option<&str>, expected: &str, commands: &[(&[&str], i32)]) {
    for (args, code) in commands.iter().copied() {
        let mut command = world.quorlock(args);
        if let Some(user) = user {
            command.env("QUORLOCK_USERNAME", user).env("QUORLOCK_PASSWORD", "secret");
        }
        let output = output(&mut command);
        assert_eq!(output.code, Some(code), "{args:?}: {output:?}");
        let text = format!("{}{}", output.stdout, output.stderr);
        let has_message = |server: &&Server| {
            if let Some((_, message)) = text.split_once("all 3 nodes: ") {
                return message.contains(expected);
            }
            let (_, mut message) =
                text.split_once(&format!("127.0.0.1:{}", server.port())).expect("a message for each server");
            // Nodes with the same message share one line, with all addresses before it.
            while let Some(rest) = message.strip_prefix(", 127.0.0.1:") {
                message = rest.trim_start_matches(|char: char| char.is_ascii_digit());
            }
            // Up to the next node's address.
            message.split("127.0.0.1:").next().unwrap_or_default().contains(expected)
        };
        // `run` does not wait for the third node, because two decide the attempt.
        let count = world.fleet.servers().iter().filter(has_message).count();
        assert!(
            count >= if args == RUN { 2 } else { 3 },
            "{args:?} does not report {expected:?}: {output:?}"
        );
    }
}

#[test]
fn write_errors_of_servers_are_reported_verbatim() {
    for (error, break_server) in
        [("NOREPLICAS", require_a_replica as fn(&Server)), ("MISCONF", make_snapshots_fail)]
    {
        let world = World::uninitialized(3, None);
        world.fleet.servers().iter().for_each(break_server);
        check(&world, None, error, &READ_COMMANDS);
        for (args, _) in READ_COMMANDS {
            let output = world.output(args).stdout;
            let advice = output.lines().find(|line| line.contains("not initialized")).expect("advice");
            assert!(advice.contains("fix these first: 127.0.0.1:"), "{output}");
        }
        check(&world, None, error, &[(RUN, 69), (&["init"], 69), (&["init", "--force"], 69)]);
        let json = world.output(&["init", "--json"]).stdout;
        let output: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let reply = output["replies"][2]["reply"]["failed"]["transient_error"].as_str().expect("an error");
        assert!(output["outcome"] == "rejected" && reply.contains(error), "{output}");
        check(&world, None, error, &READ_COMMANDS);
    }
}

fn require_a_replica(server: &Server) {
    server.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).expect("a reply");
}

/// A folder blocks the snapshot file, so saving fails and the server rejects writes.
fn make_snapshots_fail(server: &Server) {
    std::fs::create_dir(server.dir().join("data").join("dump.rdb")).expect("a folder");
    server.command::<()>(&["CONFIG", "SET", "save", "3600 1"]).expect("a reply");
    server.command::<()>(&["BGSAVE"]).expect("a reply");
    wait_until("the snapshot has failed", || {
        let info: String = server.command(&["INFO", "persistence"]).expect("a reply");
        info.contains("rdb_last_bgsave_status:err")
    });
}

/// `init` succeeds, because replacing a value needs no more memory.
#[test]
fn out_of_memory_errors_of_servers_are_reported_verbatim() {
    let world = World::uninitialized_with(3, &Setup::new().args(["--maxmemory", "1"]), None);
    check(&world, None, "OOM", &READ_COMMANDS);
    let init = world.output(&["init"]);
    assert_eq!(init.code, Some(0), "{init:?}");
    check(&world, None, "OOM", &[(RUN, 69), (&["doctor"], 1)]);
}

#[test]
fn blank_servers_beside_one_that_lacks_a_command_are_not_blamed() {
    let world = World::uninitialized(2, None);
    let without_eval = Server::start(&Setup::new().args(["--rename-command", "EVAL", ""])).expect("a server");
    let nodes = format!("{},{}", world.fleet.nodes(), without_eval.url());
    for args in [&["doctor"][..], &["status", "a"]] {
        let result = output(world.quorlock(args).env("QUORLOCK_NODES", &nodes));
        let address = format!("127.0.0.1:{}", without_eval.port());
        assert!(result.stdout.contains(&format!("fix these first: {address}")), "{result:?}");
        assert!(!result.stdout.contains("bring them up"), "{result:?}");
    }
}

#[test]
fn a_user_without_the_right_to_write_the_marker_gets_that_message() {
    let world = World::uninitialized(3, None);
    let rights = ["ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@all", "-set"];
    let grant = |server: &Server| server.command::<()>(&rights).expect("a reply");
    world.fleet.servers().iter().for_each(grant);
    check(&world, Some("reader"), "permission missing", &[(RUN, 77), (&["init"], 77)]);
}
