//! `status`, `force-release` and `doctor`.

use quorlock_chaos::{Server, Setup};
use serde_json::Value;

use crate::world::{End, World, end, until};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn status_distinguishes_free_held_and_unknown() {
    let mut world = World::of(3);
    let free = world.end(&["status", "a"]);
    assert_eq!(free.code, Some(0), "{free:?}");
    assert!(free.out.contains("\"a\" is free"), "{free:?}");
    world.take("a");
    let held = world.end(&["status", "a"]);
    assert_eq!(held.code, Some(1), "{held:?}");
    for url in world.fleet.urls() {
        let address = url.trim_start_matches("redis://");
        assert!(held.out.lines().any(|line| line.contains(address) && line.contains('#')), "{held:?}");
    }
    world.fleet[0].kill();
    world.fleet[1].kill();
    let unknown = world.end(&["status", "a"]);
    assert_eq!(unknown.code, Some(69), "{unknown:?}");
}

#[test]
fn status_reports_a_key_without_expiry_and_a_key_that_is_no_lock() {
    let world = World::of(3);
    for server in world.fleet.servers() {
        server.command::<()>(&["SET", "endless", "x"]).expect("a key");
        server.command::<()>(&["LPUSH", "list", "x"]).expect("a key");
    }
    let endless = world.end(&["status", "endless"]);
    assert_eq!(endless.code, Some(1), "{endless:?}");
    let verdict = "\"endless\" is held by #2961e24b, a key that never expires: free it with `quorlock force-release`, if no process will\n";
    assert!(endless.out.ends_with(verdict) && !endless.out.contains("renewed"), "{endless:?}");
    let list = world.end(&["status", "list"]);
    assert_eq!(list.code, Some(1), "{list:?}");
    let line = "a key of another type, which is no lock, without expiry";
    assert_eq!(list.out.matches(line).count(), 3, "{list:?}");
    assert!(list.out.contains("\"list\" is held by a key of another type that never expires"), "{list:?}");
    world.take("a");
    let spans = world.end(&["status", "a"]).out;
    let spans: Vec<&str> =
        spans.split(" for ").skip(1).filter_map(|rest| rest.split(" more").next()).collect();
    let is_in_tenths = |span: &&str| {
        span.strip_suffix(" s").is_some_and(|number| number.split('.').nth(1).is_some_and(|it| it.len() == 1))
    };
    assert!(spans.len() == 4 && spans.iter().all(is_in_tenths), "all in one form: {spans:?}");
}

#[test]
fn status_speaks_json() {
    let world = World::of(3);
    world.take("a");
    world.fleet[2].command::<()>(&["DEL", "a"]).expect("an answer");
    let end = world.end(&["status", "a", "--json"]);
    assert_eq!(end.code, Some(1));
    let status = json(&end.out);
    assert_eq!((&status["state"], &status["quorum"]), (&Value::from("held"), &Value::from(2)));
    let remaining = status["remaining_ms"].as_u64().expect("a number");
    assert!((500_000..=600_000).contains(&remaining), "{status}");
    assert_eq!(status["nodes"][0]["holder"], status["holder"]);
    assert_eq!(status["nodes"][2]["held"], false);
}

#[test]
fn force_release_deletes_nothing_without_yes() {
    let world = World::of(3);
    for server in world.fleet.servers() {
        server.command::<()>(&["LPUSH", "a", "x"]).expect("a key");
    }
    let asked = world.end(&["force-release", "a"]);
    assert_eq!((asked.code, world.keys("a")), (Some(64), 3), "{asked:?}");
    assert!(asked.err.contains("--yes"), "{asked:?}");
    let released = world.end(&["force-release", "a", "--yes"]);
    assert_eq!((released.code, world.keys("a")), (Some(0), 0), "{released:?}");
    let again = world.end(&["force-release", "a", "--yes", "--json"]);
    assert_eq!(json(&again.out)["deleted"], 0, "{again:?}");
    assert_eq!(world.end(&["run", "a", "-n", "--", "true"]).code, Some(0));
}

#[test]
fn doctor_reports_healthy_nodes_as_healthy() {
    let world = World::of(3);
    let fine = world.end(&["doctor"]);
    assert_eq!(fine.code, Some(0), "{fine:?}");
    assert!(fine.out.contains("\nhealthy\n"), "{fine:?}");
    assert_eq!(world.keys("quorlock-doctor:probe"), 0, "it leaves nothing behind");
    let report = json(&world.end(&["doctor", "--json"]).out);
    assert_eq!(report["healthy"], true, "{report}");
    assert!(report["nodes"][2]["round_trip_us"].as_u64().is_some(), "{report}");
}

#[test]
fn doctor_names_the_dead_node_and_the_replica() {
    let mut world = World::of(5);
    let [dead, replica] = [0, 1].map(|place| world.fleet[place].port().to_string());
    world.fleet[0].kill();
    // None of ours: a master's first replica changes its replication id, and that looks as if its data had changed.
    let master = Server::start(&Setup::new()).expect("a redis-server");
    let port = master.port().to_string();
    world.fleet[1].command::<()>(&["REPLICAOF", "127.0.0.1", &port]).expect("an answer");
    let ill = world.end(&["doctor"]);
    assert_eq!(ill.code, Some(1), "{ill:?}");
    for (port, word) in [(dead, "check that it is running"), (replica, "replica")] {
        let mut lines = ill.out.lines().skip_while(|line| !line.contains(&format!("127.0.0.1:{port} ")));
        let is_told = lines.nth(1).is_some_and(|line| line.contains('✗') && line.contains(word));
        assert!(is_told, "{ill:?}");
    }
    assert!(!ill.out.contains("no lock can be acquired"), "three of five still lock: {ill:?}");
    world.fleet[2].kill();
    assert!(world.end(&["doctor"]).out.contains("no lock can be acquired"));
}

#[test]
fn status_of_a_key_that_is_denied_is_a_refusal_and_no_outage() {
    let world = World::of(3);
    for server in world.fleet.servers() {
        let user = ["ACL", "SETUSER", "some", "on", ">secret", "~quorlock:*", "~mine:*", "&*", "+@all"];
        server.command::<()>(&user).expect("an answer");
    }
    for (name, code) in [("mine:a", 0), ("theirs:a", 77)] {
        let mut status = world.quorlock(&["status", name, "--username", "some"]);
        let status = end(status.env("QUORLOCK_PASSWORD", "secret"));
        assert_eq!(status.code, Some(code), "{status:?}");
    }
}

/// What a server says itself is no reason to ask whether it runs.
#[test]
fn doctor_reports_a_server_that_replies_as_running() {
    let world = World::with(3, &Setup::new().args(["--lua-time-limit", "10"]));
    let busy = world.fleet[0].url();
    let mut busy = quorlock_chaos::redis::Client::open(busy).and_then(|it| it.get_connection()).expect("up");
    let script = quorlock_chaos::redis::cmd("EVAL").arg("while true do end").arg(0).get_packed_command();
    busy.send_packed_command(&script).expect("sent");
    until("it is busy", || world.fleet[0].command::<()>(&["PING"]).is_err());
    let ill = world.end(&["doctor"]);
    world.fleet[0].command::<()>(&["SCRIPT", "KILL"]).expect("ended");
    assert_eq!(ill.code, Some(1), "{ill:?}");
    assert!(ill.out.contains("BUSY") && !ill.out.contains("check that it is running"), "{ill:?}");
}

#[test]
fn a_renamed_server_command_is_named_and_not_waited_for() {
    let world = World::undeclared_with(1, &Setup::new().args(["--rename-command", "EVAL", ""]), None);
    let ill = world.end(&["doctor"]);
    assert_eq!(ill.code, Some(1), "{ill:?}");
    // Redis 6.2 quotes otherwise.
    let names = |text: &str| text.replace('`', "'").contains("unknown command 'EVAL'");
    assert!(names(&ill.out) && !ill.out.contains("check that it is running"), "{ill:?}");
    for plain in [&[][..], &["--mode", "plain"]] {
        let refused = world.end(&[&["run"], plain, &["-w", "10s", "a", "--", "true"]].concat());
        assert_eq!(refused.code, Some(77), "{refused:?}");
        assert!(names(&refused.err) && !refused.err.contains("waiting"), "{refused:?}");
    }
}

#[test]
fn doctor_warns_of_settings_that_endanger_locks() {
    let world =
        World::with(2, &Setup::new().args(["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]));
    let ill = world.end(&["doctor"]);
    assert_eq!(ill.code, Some(1), "{ill:?}");
    for word in ["allkeys-lru", "noeviction", "even number"] {
        assert!(ill.out.contains(word), "{word}: {ill:?}");
    }
    let forgetful = World::with(3, &Setup::new().append_only(false));
    let note = forgetful.end(&["doctor"]);
    assert_eq!(note.code, Some(0), "a note is no fault: {note:?}");
    assert!(note.out.contains("appendonly yes"), "{note:?}");
}

#[test]
fn doctor_reports_missing_permissions_and_failed_logins() {
    let world = World::of(3);
    for server in world.fleet.servers() {
        let user = ["ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", "-set"];
        server.command::<()>(&user).expect("an answer");
    }
    let doctor = |password: &str| {
        let mut command = world.quorlock(&["doctor", "--username", "limited"]);
        end(command.env("QUORLOCK_PASSWORD", password))
    };
    let limited = doctor("secret");
    assert_eq!(limited.code, Some(1), "{limited:?}");
    assert!(limited.out.contains("permission missing"), "{limited:?}");
    assert_eq!(limited.out.matches("ACL SETUSER").count(), 1, "said once for all: {limited:?}");
    let wrong = doctor("mistaken");
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.out.contains("--password-file") && !wrong.out.contains("mistaken"), "{wrong:?}");
}

/// Makes a user of these rights on all servers, and has the doctor look with it. Redis 6.2 gives new users all channels.
fn doctor_as(world: &World, name: &str, rights: &[&str]) -> End {
    for server in world.fleet.servers() {
        let user = ["ACL", "SETUSER", name, "reset", "resetchannels", "on", ">secret"];
        let words: Vec<&str> = user.into_iter().chain(rights.iter().copied()).collect();
        server.command::<()>(&words).expect("an answer");
    }
    end(world.quorlock(&["doctor", "--username", name]).env("QUORLOCK_PASSWORD", "secret"))
}

#[test]
fn the_documented_permissions_are_sufficient_and_all_necessary() {
    let world = World::of(3);
    let lines = include_str!("../../../../docs/servers.md").lines();
    let rights: Vec<&str> = lines
        .filter_map(|line| line.strip_prefix("ACL SETUSER locks "))
        .flat_map(|rights| rights.split(' '))
        .filter(|word| !["on", ">secret", "resetchannels"].contains(word))
        .collect();
    let fine = doctor_as(&world, "locks", &rights);
    assert!(fine.out.contains("\nhealthy\n"), "{fine:?}");
    // It says of these what they are good for.
    let good_to_have = ["+select", "+script|load", "+client|setname", "+scan", "+dbsize"];
    for lacking in ["+scan", "+dbsize"] {
        let others: Vec<&str> = rights.iter().copied().filter(|other| *other != lacking).collect();
        let blind = doctor_as(&world, "locks", &others);
        assert!(
            blind.code == Some(0) && blind.out.contains("  -  append-only"),
            "without {lacking}: {blind:?}"
        );
    }
    let needed = rights.iter().filter(|it| !good_to_have.contains(it));
    for one in needed {
        let others: Vec<&str> = rights.iter().copied().filter(|other| other != one).collect();
        let ill = doctor_as(&world, "locks", &others);
        assert_eq!(ill.code, Some(1), "without {one}: {ill:?}");
        assert!(ill.out.contains("ACL SETUSER"), "without {one}: {ill:?}");
    }
}

#[test]
fn the_permissions_that_doctor_names_are_sufficient() {
    let world = World::of(3);
    let ill = doctor_as(&world, "new", &["+info", "+eval"]);
    assert_eq!(ill.code, Some(1), "{ill:?}");
    let (_, remedy) = ill.out.split_once("ACL SETUSER … ").expect("a remedy");
    let rights: Vec<&str> = remedy.lines().next().expect("a line").split(' ').collect();
    let healthy = doctor_as(&world, "new", &rights);
    assert!(healthy.out.contains("\nhealthy\n"), "{healthy:?}");
}

#[test]
fn doctor_names_the_permissions_of_the_wait_queue() {
    let world = World::of(3);
    let ill = doctor_as(&world, "uncalled", &["~*", "&*", "+@all", "-publish"]);
    assert_eq!(ill.code, Some(1), "{ill:?}");
    for word in ["ask again and again", "'publish'", "+publish", "quorlock:waiters:*"] {
        assert!(ill.out.contains(word), "{word}: {ill:?}");
    }
}

#[test]
fn a_missing_permission_to_release_is_reported_as_that() {
    let world = World::of(3);
    let ill = doctor_as(&world, "keeper", &["~*", "&*", "+@all", "-del"]);
    assert_eq!(ill.code, Some(1), "{ill:?}");
    assert!(ill.out.contains("a lock can be acquired and not released"), "{ill:?}");
    assert!(!ill.out.contains("no lock can be acquired"), "{ill:?}");
}

/// As `status` ends, where so many nodes refuse us that no quorum is left.
#[test]
fn force_release_and_forget_distinguish_an_exclusion_from_an_outage() {
    let mut world = World::with(3, &Setup::new().password("right"));
    let bare = world.fleet.servers().iter().map(|server| format!("redis://127.0.0.1:{}", server.port()));
    let bare = bare.collect::<Vec<_>>().join(",");
    for words in [&["forget", "a"][..], &["force-release", "a", "--yes"]] {
        let refused = end(world.quorlock(words).env("QUORLOCK_NODES", &bare));
        assert_eq!(refused.code, Some(77), "{refused:?}");
        assert!(refused.err.starts_with("quorlock: lock \"a\": not "), "{refused:?}");
        assert!(!refused.err.contains("again"), "{refused:?}");
    }
    let other = world.end(&["forget", "a", "--max-ttl", "5s"]);
    assert_eq!(other.code, Some(78), "{other:?}");
    for server in world.fleet.servers() {
        let user = ["ACL", "SETUSER", "some", "on", ">secret", "~quorlock:*", "~mine:*", "&*", "+@all"];
        server.command::<()>(&user).expect("an answer");
    }
    let urls = bare.replace("redis://", "redis://some:secret@");
    for (name, code) in [("mine:a", 0), ("theirs:a", 77)] {
        for words in [&["forget", name][..], &["force-release", name, "--yes"]] {
            let ended = end(world.quorlock(words).env("QUORLOCK_NODES", &urls));
            assert_eq!(ended.code, Some(code), "{ended:?}");
        }
    }
    world.fleet[0].kill();
    world.fleet[1].kill();
    for words in [&["forget", "a"][..], &["force-release", "a", "--yes"]] {
        let away = world.end(words);
        assert_eq!(away.code, Some(69), "{away:?}");
        assert!(away.err.starts_with("quorlock: lock \"a\": not ") && away.err.contains("again"), "{away:?}");
    }
}

#[test]
fn doctor_finds_one_server_named_twice() {
    let world = World::of(3);
    let nodes = format!("{},redis://localhost:{}", world.fleet.nodes(), world.fleet[0].port());
    let mut command = world.quorlock(&["doctor"]);
    let ill = end(command.env("QUORLOCK_NODES", nodes));
    assert_eq!(ill.code, Some(1), "{ill:?}");
    assert!(ill.out.contains("same server"), "{ill:?}");
}
