//! Servers that refuse while a cluster is founded on them: what they say, every command tells.

use quorlock_chaos::{Server, Setup};

use crate::world::{World, end, until};

const LOOKS: [(&[&str], i32); 2] = [(&["doctor"], 1), (&["status", "a"], 69)];
const RUN: &[&str] = &["run", "-w", "1s", "a", "--", "true"];

/// Runs these commands, as this user if one is named. Each ends with its code, and tells this word of each of the three
/// servers.
fn check(world: &World, user: Option<&str>, told_as: &str, commands: &[(&[&str], i32)]) {
    for (words, code) in commands.iter().copied() {
        let mut command = world.quorlock(words);
        if let Some(user) = user {
            command.env("QUORLOCK_USERNAME", user).env("QUORLOCK_PASSWORD", "secret");
        }
        let ended = end(&mut command);
        assert_eq!(ended.code, Some(code), "{words:?}: {ended:?}");
        let text = format!("{}{}", ended.out, ended.err);
        let says = |server: &&Server| {
            if let Some((_, told)) = text.split_once("all 3 nodes: ") {
                return told.contains(told_as);
            }
            let (_, mut told) =
                text.split_once(&format!("127.0.0.1:{}", server.port())).expect("told of each");
            // The same words are said once, behind all who say them.
            while let Some(others) = told.strip_prefix(", 127.0.0.1:") {
                told = others.trim_start_matches(|char: char| char.is_ascii_digit());
            }
            // Up to the next node's words.
            told.split("127.0.0.1:").next().unwrap_or_default().contains(told_as)
        };
        // Two nodes decide, so the client does not wait for the third.
        let count = world.fleet.servers().iter().filter(says).count();
        assert!(count >= if words == RUN { 2 } else { 3 }, "{words:?} does not say {told_as:?}: {ended:?}");
    }
}

#[test]
fn write_errors_of_servers_are_reported_verbatim() {
    for (word, spoil) in [("NOREPLICAS", lack_replicas as fn(&Server)), ("MISCONF", fail_to_save)] {
        let world = World::undeclared(3, None);
        world.fleet.servers().iter().for_each(spoil);
        check(&world, None, word, &LOOKS);
        for (look, _) in LOOKS {
            let told = world.end(look).out;
            let advice = told.lines().find(|line| line.contains("not initialized")).expect("advice");
            assert!(advice.contains("fix these first: 127.0.0.1:"), "{told}");
        }
        check(&world, None, word, &[(RUN, 69), (&["init"], 69), (&["init", "--force"], 69)]);
        let json = world.end(&["init", "--json"]).out;
        let told: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let refusal = told["nodes"][2]["refusal"].as_str().expect("a refusal");
        assert!(told["state"] == "rejected" && refusal.contains(word), "{told}");
        check(&world, None, word, &LOOKS);
    }
}

fn lack_replicas(server: &Server) {
    server.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).expect("an answer");
}

/// There is something in the way of its snapshot, so it takes no writes until it has made one.
fn fail_to_save(server: &Server) {
    std::fs::create_dir(server.dir().join("data").join("dump.rdb")).expect("a folder");
    server.command::<()>(&["CONFIG", "SET", "save", "3600 1"]).expect("an answer");
    server.command::<()>(&["BGSAVE"]).expect("an answer");
    until("it has failed", || {
        let info: String = server.command(&["INFO", "persistence"]).expect("an answer");
        info.contains("rdb_last_bgsave_status:err")
    });
}

/// They let a cluster be declared, for what goes into the place of something else needs no room.
#[test]
fn out_of_memory_errors_of_servers_are_reported_verbatim() {
    let world = World::undeclared_with(3, &Setup::new().args(["--maxmemory", "1"]), None);
    check(&world, None, "OOM", &LOOKS);
    let init = world.end(&["init"]);
    assert_eq!(init.code, Some(0), "{init:?}");
    check(&world, None, "OOM", &[(RUN, 69), (&["doctor"], 1)]);
}

#[test]
fn blank_servers_beside_one_that_lacks_a_command_are_not_blamed() {
    let world = World::undeclared(2, None);
    let lacking = Server::start(&Setup::new().args(["--rename-command", "EVAL", ""])).expect("a server");
    let nodes = format!("{},{}", world.fleet.nodes(), lacking.url());
    for look in [&["doctor"][..], &["status", "a"]] {
        let told = end(world.quorlock(look).env("QUORLOCK_NODES", &nodes));
        let address = format!("127.0.0.1:{}", lacking.port());
        assert!(told.out.contains(&format!("fix these first: {address}")), "{told:?}");
        assert!(!told.out.contains("bring them up"), "{told:?}");
    }
}

#[test]
fn a_user_without_the_right_to_write_the_marker_gets_that_message() {
    let world = World::undeclared(3, None);
    let rights = ["ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@all", "-set"];
    let grant = |server: &Server| server.command::<()>(&rights).expect("an answer");
    world.fleet.servers().iter().for_each(grant);
    check(&world, Some("reader"), "permission missing", &[(RUN, 77), (&["init"], 77)]);
}
