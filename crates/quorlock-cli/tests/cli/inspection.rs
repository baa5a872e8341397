//! `status`, `force-release` and `doctor`: states, findings and exit codes.

use quorlock_chaos::{Server, Setup};
use serde_json::Value;

use crate::world::{Output, World, output, wait_until};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn status_distinguishes_free_held_and_unknown() {
    let mut world = World::of(3);
    let free = world.output(&["status", "a"]);
    assert_eq!(free.code, Some(0), "{free:?}");
    assert!(free.stdout.contains("\"a\" is free"), "{free:?}");
    world.set_other_owner("a");
    let held = world.output(&["status", "a"]);
    assert_eq!(held.code, Some(1), "{held:?}");
    for url in world.fleet.urls() {
        let address = url.trim_start_matches("redis://");
        assert!(held.stdout.lines().any(|line| line.contains(address) && line.contains('#')), "{held:?}");
    }
    world.fleet[0].kill();
    world.fleet[1].kill();
    let unknown = world.output(&["status", "a"]);
    assert_eq!(unknown.code, Some(69), "{unknown:?}");
}

#[test]
fn status_reports_a_key_without_expiry_and_a_key_that_is_no_lock() {
    let world = World::of(3);
    for server in world.fleet.servers() {
        server.command::<()>(&["SET", "endless", "x"]).expect("a key");
        server.command::<()>(&["LPUSH", "list", "x"]).expect("a key");
    }
    let endless = world.output(&["status", "endless"]);
    assert_eq!(endless.code, Some(1), "{endless:?}");
    let verdict = "\"endless\" is held by #2961e24b, a key that never expires: free it with `quorlock force-release`, if no process will\n";
    assert!(endless.stdout.ends_with(verdict) && !endless.stdout.contains("renewed"), "{endless:?}");
    let list = world.output(&["status", "list"]);
    assert_eq!(list.code, Some(1), "{list:?}");
    let line = "a key of another type, which is no lock, without expiry";
    assert_eq!(list.stdout.matches(line).count(), 3, "{list:?}");
    assert!(list.stdout.contains("\"list\" is held by a key of another type that never expires"), "{list:?}");
    world.set_other_owner("a");
    let durations = world.output(&["status", "a"]).stdout;
    let durations: Vec<&str> =
        durations.split(" for ").skip(1).filter_map(|rest| rest.split(" more").next()).collect();
    let is_in_tenths = |span: &&str| {
        span.strip_suffix(" s").is_some_and(|number| number.split('.').nth(1).is_some_and(|it| it.len() == 1))
    };
    assert!(
        durations.len() == 4 && durations.iter().all(is_in_tenths),
        "all have the same format: {durations:?}"
    );
}

#[test]
fn status_prints_json() {
    let world = World::of(3);
    world.set_other_owner("a");
    world.fleet[2].command::<()>(&["DEL", "a"]).expect("a reply");
    let output = world.output(&["status", "a", "--json"]);
    assert_eq!(output.code, Some(1));
    let status = json(&output.stdout);
    assert_eq!((&status["state"], &status["quorum"]), (&Value::from("held"), &Value::from(2)));
    let remaining = status["holder"]["remaining_ms"].as_u64().expect("a number");
    assert!((500_000..=600_000).contains(&remaining), "{status}");
    let [first, last] = [0, 2].map(|index| &status["nodes"][index]["reply"]["inspected"]["holder"]);
    assert_eq!((&first["owner"], last), (&status["holder"]["owner"], &"unheld".into()), "{status}");
}

#[test]
fn force_release_deletes_nothing_without_yes() {
    let world = World::of(3);
    for server in world.fleet.servers() {
        server.command::<()>(&["LPUSH", "a", "x"]).expect("a key");
    }
    let without_yes = world.output(&["force-release", "a"]);
    assert_eq!((without_yes.code, world.key_count("a")), (Some(64), 3), "{without_yes:?}");
    assert!(without_yes.stderr.contains("--yes"), "{without_yes:?}");
    let released = world.output(&["force-release", "a", "--yes"]);
    assert_eq!((released.code, world.key_count("a")), (Some(0), 0), "{released:?}");
    let again = world.output(&["force-release", "a", "--yes", "--json"]);
    assert_eq!(json(&again.stdout)["deleted"], 0, "{again:?}");
    assert_eq!(world.output(&["run", "a", "-n", "--", "true"]).code, Some(0));
}

#[test]
fn doctor_reports_healthy_nodes_as_healthy() {
    let world = World::of(3);
    let healthy = world.output(&["doctor"]);
    assert_eq!(healthy.code, Some(0), "{healthy:?}");
    assert!(healthy.stdout.contains("\nhealthy\n"), "{healthy:?}");
    assert_eq!(world.key_count("quorlock-doctor:probe"), 0, "the probe's key is left");
    let report = json(&world.output(&["doctor", "--json"]).stdout);
    assert_eq!(report["healthy"], true, "{report}");
    assert!(report["nodes"][2]["round_trip_us"].as_u64().is_some(), "{report}");
}

#[test]
fn doctor_names_the_dead_node_and_the_replica() {
    let mut world = World::of(5);
    let [dead, replica] = [0, 1].map(|index| world.fleet[index].port().to_string());
    world.fleet[0].kill();
    // A separate master: a node's first replica would change its replication id, which looks like data loss.
    let master = Server::start(&Setup::new()).expect("a redis-server");
    let port = master.port().to_string();
    world.fleet[1].command::<()>(&["REPLICAOF", "127.0.0.1", &port]).expect("a reply");
    let report = world.output(&["doctor"]);
    assert_eq!(report.code, Some(1), "{report:?}");
    for (port, text) in [(dead, "check that it is running"), (replica, "replica")] {
        let mut lines =
            report.stdout.lines().skip_while(|line| !line.contains(&format!("127.0.0.1:{port} ")));
        let is_reported = lines.nth(1).is_some_and(|line| line.contains('✗') && line.contains(text));
        assert!(is_reported, "{report:?}");
    }
    assert!(!report.stdout.contains("no lock can be acquired"), "three of five nodes suffice: {report:?}");
    world.fleet[2].kill();
    assert!(world.output(&["doctor"]).stdout.contains("no lock can be acquired"));
}

#[test]
fn status_of_a_key_that_is_denied_is_an_exclusion_and_no_outage() {
    let world = World::of(3);
    for server in world.fleet.servers() {
        let user = ["ACL", "SETUSER", "some", "on", ">secret", "~quorlock:*", "~mine:*", "&*", "+@all"];
        server.command::<()>(&user).expect("a reply");
    }
    for (name, code) in [("mine:a", 0), ("theirs:a", 77)] {
        let mut status = world.quorlock(&["status", name, "--username", "some"]);
        let status = output(status.env("QUORLOCK_PASSWORD", "secret"));
        assert_eq!(status.code, Some(code), "{status:?}");
    }
}

/// An error reply proves that the server runs, so the doctor does not suggest checking that.
#[test]
fn doctor_reports_a_server_that_replies_as_running() {
    let world = World::with(3, &Setup::new().args(["--lua-time-limit", "10"]));
    let busy = world.fleet[0].url();
    let mut busy = quorlock_chaos::redis::Client::open(busy).and_then(|it| it.get_connection()).expect("up");
    let script = quorlock_chaos::redis::cmd("EVAL").arg("while true do end").arg(0).get_packed_command();
    busy.send_packed_command(&script).expect("sent");
    wait_until("the server is busy", || world.fleet[0].command::<()>(&["PING"]).is_err());
    let report = world.output(&["doctor"]);
    world.fleet[0].command::<()>(&["SCRIPT", "KILL"]).expect("ended");
    assert_eq!(report.code, Some(1), "{report:?}");
    assert!(
        report.stdout.contains("BUSY") && !report.stdout.contains("check that it is running"),
        "{report:?}"
    );
}

#[test]
fn a_renamed_server_command_is_named_and_not_waited_for() {
    let world = World::uninitialized_with(1, &Setup::new().args(["--rename-command", "EVAL", ""]), None);
    let report = world.output(&["doctor"]);
    assert_eq!(report.code, Some(1), "{report:?}");
    // Redis 6.2 uses other quotes.
    let names = |text: &str| text.replace('`', "'").contains("unknown command 'EVAL'");
    assert!(names(&report.stdout) && !report.stdout.contains("check that it is running"), "{report:?}");
    for plain in [&[][..], &["--mode", "plain"]] {
        let excluded = world.output(&[&["run"], plain, &["-w", "10s", "a", "--", "true"]].concat());
        assert_eq!(excluded.code, Some(77), "{excluded:?}");
        assert!(names(&excluded.stderr) && !excluded.stderr.contains("waiting"), "{excluded:?}");
    }
}

#[test]
fn doctor_warns_of_settings_that_endanger_locks() {
    let world =
        World::with(2, &Setup::new().args(["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]));
    let report = world.output(&["doctor"]);
    assert_eq!(report.code, Some(1), "{report:?}");
    for text in ["allkeys-lru", "noeviction", "even number"] {
        assert!(report.stdout.contains(text), "{text}: {report:?}");
    }
    let without_aof = World::with(3, &Setup::new().append_only(false));
    let warned = without_aof.output(&["doctor"]);
    assert_eq!(warned.code, Some(0), "a warning is not a problem: {warned:?}");
    assert!(warned.stdout.contains("appendonly yes"), "{warned:?}");
}

#[test]
fn doctor_reports_missing_permissions_and_failed_logins() {
    let world = World::of(3);
    for server in world.fleet.servers() {
        let user = ["ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", "-set"];
        server.command::<()>(&user).expect("a reply");
    }
    let doctor = |password: &str| {
        let mut command = world.quorlock(&["doctor", "--username", "limited"]);
        output(command.env("QUORLOCK_PASSWORD", password))
    };
    let limited = doctor("secret");
    assert_eq!(limited.code, Some(1), "{limited:?}");
    assert!(limited.stdout.contains("permission missing"), "{limited:?}");
    assert_eq!(
        limited.stdout.matches("ACL SETUSER").count(),
        1,
        "the fix is not printed exactly once: {limited:?}"
    );
    let wrong = doctor("mistaken");
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.stdout.contains("--password-file") && !wrong.stdout.contains("mistaken"), "{wrong:?}");
}

/// Runs `doctor` as a new user with these permissions. `resetchannels`,
/// because Redis 6.2 grants all channels.
fn doctor_as(world: &World, name: &str, rights: &[&str]) -> Output {
    for server in world.fleet.servers() {
        let user = ["ACL", "SETUSER", name, "reset", "resetchannels", "on", ">secret"];
        let args: Vec<&str> = user.into_iter().chain(rights.iter().copied()).collect();
        server.command::<()>(&args).expect("a reply");
    }
    output(world.quorlock(&["doctor", "--username", name]).env("QUORLOCK_PASSWORD", "secret"))
}

#[test]
fn the_documented_permissions_are_sufficient_and_all_necessary() {
    let world = World::of(3);
    let lines = include_str!("../../../../docs/servers.md").lines();
    let rights: Vec<&str> = lines
        .filter_map(|line| line.strip_prefix("ACL SETUSER locks "))
        .flat_map(|rights| rights.split(' '))
        .filter(|text| !["on", ">secret", "resetchannels"].contains(text))
        .collect();
    let healthy = doctor_as(&world, "locks", &rights);
    assert!(healthy.stdout.contains("\nhealthy\n"), "{healthy:?}");
    // docs/servers.md explains what these are for.
    let optional = ["+select", "+script|load", "+client|setname", "+scan", "+dbsize"];
    for missing in ["+scan", "+dbsize"] {
        let remaining_rights: Vec<&str> = rights.iter().copied().filter(|other| *other != missing).collect();
        let healthy_without = doctor_as(&world, "locks", &remaining_rights);
        assert!(
            healthy_without.code == Some(0) && healthy_without.stdout.contains("  -  append-only"),
            "without {missing}: {healthy_without:?}"
        );
    }
    let needed = rights.iter().filter(|it| !optional.contains(it));
    for missing in needed {
        let remaining_rights: Vec<&str> = rights.iter().copied().filter(|other| other != missing).collect();
        let report = doctor_as(&world, "locks", &remaining_rights);
        assert_eq!(report.code, Some(1), "without {missing}: {report:?}");
        assert!(report.stdout.contains("ACL SETUSER"), "without {missing}: {report:?}");
    }
}

#[test]
fn the_permissions_that_doctor_names_are_sufficient() {
    let world = World::of(3);
    let report = doctor_as(&world, "new", &["+info", "+eval"]);
    assert_eq!(report.code, Some(1), "{report:?}");
    let (_, remedy) = report.stdout.split_once("ACL SETUSER … ").expect("a remedy");
    let rights: Vec<&str> = remedy.lines().next().expect("a line").split(' ').collect();
    let healthy = doctor_as(&world, "new", &rights);
    assert!(healthy.stdout.contains("\nhealthy\n"), "{healthy:?}");
}

#[test]
fn doctor_names_the_permissions_of_the_wait_queue() {
    let world = World::of(3);
    let report = doctor_as(&world, "uncalled", &["~*", "&*", "+@all", "-publish"]);
    assert_eq!(report.code, Some(1), "{report:?}");
    for text in ["which poll instead", "'publish'", "+publish", "quorlock:waiters:*"] {
        assert!(report.stdout.contains(text), "{text}: {report:?}");
    }
}

#[test]
fn a_missing_permission_to_release_is_reported_as_that() {
    let world = World::of(3);
    let report = doctor_as(&world, "keeper", &["~*", "&*", "+@all", "-del"]);
    assert_eq!(report.code, Some(1), "{report:?}");
    assert!(report.stdout.contains("a lock can be acquired and not released"), "{report:?}");
    assert!(!report.stdout.contains("no lock can be acquired"), "{report:?}");
}

/// The same exit code as that of `status`, if so many nodes exclude this client that no quorum is left.
#[test]
fn force_release_and_forget_distinguish_an_exclusion_from_an_outage() {
    let mut world = World::with(3, &Setup::new().password("right"));
    let urls_without_password =
        world.fleet.servers().iter().map(|server| format!("redis://127.0.0.1:{}", server.port()));
    let urls_without_password = urls_without_password.collect::<Vec<_>>().join(",");
    for args in [&["forget", "a"][..], &["force-release", "a", "--yes"]] {
        let excluded = output(world.quorlock(args).env("QUORLOCK_NODES", &urls_without_password));
        assert_eq!(excluded.code, Some(77), "{excluded:?}");
        assert!(excluded.stderr.starts_with("quorlock: lock \"a\": not "), "{excluded:?}");
        assert!(!excluded.stderr.contains("again"), "{excluded:?}");
    }
    // One of three nodes: fewer than the lock cluster's quorum.
    let one = world.fleet[0].url();
    for (command, code) in [("forget", 78), ("status", 78)] {
        let other = output(world.quorlock(&[command, "a"]).env("QUORLOCK_NODES", &one));
        assert_eq!(other.code, Some(code), "{other:?}");
    }
    for server in world.fleet.servers() {
        let user = ["ACL", "SETUSER", "some", "on", ">secret", "~quorlock:*", "~mine:*", "&*", "+@all"];
        server.command::<()>(&user).expect("a reply");
    }
    let urls = urls_without_password.replace("redis://", "redis://some:secret@");
    for (name, code) in [("mine:a", 0), ("theirs:a", 77)] {
        for args in [&["forget", name][..], &["force-release", name, "--yes"]] {
            let output = output(world.quorlock(args).env("QUORLOCK_NODES", &urls));
            assert_eq!(output.code, Some(code), "{output:?}");
        }
    }
    world.fleet[0].kill();
    world.fleet[1].kill();
    for args in [&["forget", "a"][..], &["force-release", "a", "--yes"]] {
        let unreachable = world.output(args);
        assert_eq!(unreachable.code, Some(69), "{unreachable:?}");
        assert!(
            unreachable.stderr.starts_with("quorlock: lock \"a\": not ")
                && unreachable.stderr.contains("again"),
            "{unreachable:?}"
        );
    }
}

#[test]
fn doctor_finds_one_server_named_twice() {
    let world = World::of(3);
    let nodes = format!("{},redis://localhost:{}", world.fleet.nodes(), world.fleet[0].port());
    let mut command = world.quorlock(&["doctor"]);
    let report = output(command.env("QUORLOCK_NODES", nodes));
    assert_eq!(report.code, Some(1), "{report:?}");
    assert!(report.stdout.contains("same server"), "{report:?}");
}
