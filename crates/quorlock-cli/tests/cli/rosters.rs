//! The roster in `doctor`, and `init --without-unreachable`.

use std::fs::File;

use quorlock_chaos::{Data, MovableAddress, Server, Setup};

use crate::world::{World, findings_of, json, output, output_of, wait_until};

#[test]
fn doctor_shows_the_roster_and_the_seats_that_changed_hands() {
    let mut world = World::with_max_ttl(3, "1s");
    let doctor = world.output(&["doctor"]);
    assert!(doctor.stdout.contains("\nroster 1.0: 3 seats\n"), "{doctor:?}");
    assert!(!doctor.stdout.contains("changed hands"), "{doctor:?}");
    world.fleet[1].restart(Data::Empty).expect("restarted");
    wait_until("its seat changes hands", || {
        let doctor = world.output(&["doctor"]);
        doctor.stdout.contains("\nroster 1.1: 3 seats\n")
    });
    let doctor = world.output(&["doctor"]);
    assert_eq!(doctor.code, Some(0), "a change is no problem: {doctor:?}");
    assert!(findings_of(&doctor, &world, 1).contains("· its seat changed hands "), "{doctor:?}");
    assert_eq!(doctor.stdout.matches("changed hands").count(), 1, "{doctor:?}");
    let report = json(&world.output(&["doctor", "--json"]));
    assert_eq!(report["roster"], "1.1", "{report}");
    let seat = &report["nodes"][1]["seat"];
    assert_eq!((&seat["epoch"], &seat["is_vacant"]), (&"1.1".into(), &false.into()), "{report}");
    assert!(seat["changed_at"].is_u64() && report["nodes"][0]["seat"]["changed_at"].is_null(), "{report}");
}

#[test]
fn init_without_unreachable_leaves_a_vacant_seat_which_the_server_takes_later() {
    let mut world = World::uninitialized(3, Some("3s"));
    world.fleet[2].kill();
    let init = world.output(&["init"]);
    assert_eq!(init.code, Some(69), "{init:?}");
    assert!(init.stderr.contains("--without-unreachable"), "the way out is not named: {init:?}");
    let init = world.output(&["init", "--without-unreachable"]);
    assert_eq!(init.code, Some(0), "{init:?}");
    let early = world.output(&["run", "a", "-n", "--", "true"]);
    assert_eq!(early.code, Some(69), "the unreachable server may have locks: {early:?}");
    let late = world.output(&["run", "a", "-w", "20s", "--", "true"]);
    assert_eq!(late.code, Some(0), "{late:?}");
    let doctor = world.output(&["doctor"]);
    assert!(doctor.stdout.contains("\nroster 1.0: 3 seats, 1 vacant\n"), "{doctor:?}");
    assert!(findings_of(&doctor, &world, 2).contains("its seat is vacant"), "{doctor:?}");
    world.fleet[2].restart(Data::Empty).expect("started");
    wait_until("it votes", || {
        let report = json(&world.output(&["doctor", "--json"]));
        report["votes"] == 3 && report["nodes"][2]["seat"]["is_vacant"] == false
    });
}

/// A founding or a recovery waits for the absent node only for a while, and the messages say for how long at most.
#[test]
fn a_run_that_waits_for_an_absent_node_says_for_how_long_at_most() {
    let says_how_long = |message: &str| {
        let words = message.split_once("gets a seat without them in at most ").map(|(_, rest)| rest);
        let seconds = words.and_then(|rest| rest.split_once(" s;")).and_then(|(text, _)| text.parse().ok());
        // The max ttl, and a second until an absence is reported, and a quarter of the max ttl between two looks.
        seconds.is_some_and(|it: f64| it > 1.0 && it < 30.0)
    };
    let mut world = World::uninitialized(3, Some("20s"));
    world.fleet[2].kill();
    let run = world.output(&["run", "a", "-w", "3s", "--", "true"]);
    assert!(run.code == Some(69) && says_how_long(&run.stderr), "{run:?}");
    check_shown(&world, &says_how_long);
    let mut world = World::with_max_ttl(3, "20s");
    world.fleet[2].kill();
    (0..2).for_each(|node| world.fleet[node].restart(Data::Empty).expect("restarted"));
    let run = world.output(&["run", "a", "-w", "3s", "--", "true"]);
    assert!(run.code == Some(69) && says_how_long(&run.stderr), "{run:?}");
    check_shown(&world, &says_how_long);
}

/// `status` and `doctor` found nothing themselves, and show how long the nodes that reply wait for the absent one.
#[track_caller]
fn check_shown(world: &World, says_how_long: &dyn Fn(&str) -> bool) {
    for args in [&["status", "a"][..], &["doctor"]] {
        let shown = world.output(args);
        assert!(says_how_long(&shown.stdout), "{args:?}: {shown:?}");
        let report = json(&world.output(&[args, &["--json"]].concat()));
        let left = report["nodes"][0]["seat_within_ms"].as_u64();
        assert!(left.is_some_and(|it| (1_000..30_000).contains(&it)), "{args:?}: {report}");
    }
}

/// A minute is not enough: the seat becomes vacant after ten max TTLs, and after five minutes at least.
#[test]
fn the_time_until_the_seat_of_an_absent_node_becomes_vacant_is_shown() {
    let mut world = World::with_max_ttl(3, "1s");
    world.fleet[2].kill();
    // Its clients report the absence after a second.
    assert_eq!(world.output(&["run", "a", "--", "sleep", "2"]).code, Some(0));
    for args in [&["status", "a"][..], &["doctor"]] {
        let shown = world.output(args);
        let words = "its seat becomes vacant in at most 4m 5";
        assert_eq!(shown.stdout.matches(words).count(), 1, "{args:?}: {shown:?}");
        let report = json(&world.output(&[args, &["--json"]].concat()));
        let left = |node: usize| report["nodes"][node]["vacant_within_ms"].as_u64();
        assert!(left(2).is_some_and(|it| (240_000..301_000).contains(&it)), "{args:?}: {report}");
        assert_eq!(left(0), None, "{args:?}: {report}");
    }
    world.fleet[2].restart(Data::Kept).expect("restarted");
    let doctor = world.output(&["doctor"]);
    assert!(!doctor.stdout.contains("becomes vacant"), "{doctor:?}");
}

#[test]
fn doctor_warns_of_another_list_of_nodes() {
    let world = World::with_max_ttl(3, "1s");
    let usual = world.output(&["doctor"]);
    assert!(!usual.stdout.contains("this list of nodes"), "{usual:?}");
    // The same servers under another name.
    let other = world.fleet.nodes().replacen("127.0.0.1", "localhost", 1);
    let doctor = output(world.quorlock(&["doctor"]).env("QUORLOCK_NODES", &other));
    assert_eq!(doctor.code, Some(0), "locks work: {doctor:?}");
    assert!(doctor.stdout.contains("· this list of nodes is not the list"), "{doctor:?}");
    let run = output(world.quorlock(&["run", "a", "-n", "--", "true"]).env("QUORLOCK_NODES", &other));
    assert_eq!(run.code, Some(0), "{run:?}");
    // Another database of one server: that node is new to the lock cluster, and gets no seat.
    let other = format!("{}/1", world.fleet.nodes());
    let doctor = output(world.quorlock(&["doctor"]).env("QUORLOCK_NODES", &other));
    assert!(doctor.stdout.contains("· this list of nodes is not the list"), "{doctor:?}");
    assert!(doctor.stdout.contains("another list of nodes"), "{doctor:?}");
    assert_eq!(doctor.code, Some(1), "one node casts no vote: {doctor:?}");
    let run = output(world.quorlock(&["run", "a", "-n", "--", "true"]).env("QUORLOCK_NODES", &other));
    assert_eq!(run.code, Some(0), "enough of its nodes are members: {run:?}");
}

/// An address may lead to a wrong server for a while. The others are a quorum.
#[test]
fn run_goes_on_with_a_warning_when_an_address_leads_to_a_wrong_server() {
    let (world, other) = (World::of(3), World::of(1));
    let mut address = MovableAddress::of(&world.fleet[0]).expect("a port");
    let nodes = [address.url(), world.fleet[1].url(), world.fleet[2].url()].join(",");
    let command = |args: &[&str]| {
        let mut command = world.quorlock(args);
        command.env("QUORLOCK_NODES", &nodes);
        command
    };
    assert_eq!(output(&mut command(&["init", "--force"])).code, Some(0));
    for (server, problem) in
        [(&other.fleet[0], "another lock cluster"), (&world.fleet[1], "the same server as node ")]
    {
        address.move_to(server);
        // The command waits until its own `run` has printed the line.
        let until_warned = "until grep -q 'casts no vote' err; do sleep 0.05; done; sleep 0.1";
        world.write("err", "");
        let mut run = command(&["run", "a", "-w", "20s", "--", "sh", "-c", until_warned]);
        run.stderr(File::create(world.file("err")).expect("a file"));
        assert_eq!(output(&mut run).code, Some(0), "{}", world.read("err"));
        let lines = world.read("err");
        assert!(lines.lines().count() == 1 && lines.contains(problem), "{lines}");
        assert!(lines.contains("locks go on with the other nodes"), "{lines}");
        let quiet = output(&mut command(&["run", "a", "-q", "--", "true"]));
        assert_eq!((quiet.code, &*quiet.stderr), (Some(0), ""));
        // A new lock cluster needs every node.
        let init = output(&mut command(&["init"]));
        assert!(init.code == Some(78) && init.stderr.contains(problem), "{init:?}");
    }
}

/// The new server and one of the other nodes would be a quorum.
#[test]
fn an_address_that_moves_while_a_lock_is_held_makes_no_second_holder_and_is_shown() {
    let world = World::uninitialized(3, Some("3s"));
    let blank = Server::start(&Setup::new()).expect("server starts");
    let mut address = MovableAddress::of(&world.fleet[1]).expect("a port");
    let nodes = [world.fleet[0].url(), address.url(), world.fleet[2].url()].join(",");
    let command = |args: &[&str]| {
        let mut command = world.quorlock(args);
        command.env("QUORLOCK_NODES", &nodes);
        command
    };
    let init = output(&mut command(&["init"]));
    assert_eq!(init.code, Some(0), "{init:?}");
    let script = "touch held; while [ ! -e over ]; do sleep 0.05; done";
    let holder = command(&["run", "a", "--ttl", "2s", "--", "sh", "-c", script]).spawn().expect("a process");
    wait_until("the lock is held", || world.has_file("held"));
    address.move_new_connections_to(&blank);
    wait_until("the new server votes", || {
        let second = output(&mut command(&["run", "a", "-n", "--", "true"]));
        assert_ne!(second.code, Some(0), "a second holder: {second:?}");
        let report = json(&output(&mut command(&["doctor", "--json"])));
        report["votes"] == 3 && report["nodes"][1]["seat"]["changed_at"].is_u64()
    });
    let doctor = output(&mut command(&["doctor"]));
    assert!(doctor.stdout.contains("its address has moved to another server"), "{doctor:?}");
    let second = output(&mut command(&["run", "a", "-n", "--", "true"]));
    assert_eq!(second.code, Some(75), "{second:?}");
    world.write("over", "");
    assert_eq!(output_of(holder).code, Some(0), "the holder kept its lock");
    let next = output(&mut command(&["run", "a", "-w", "20s", "--", "true"]));
    assert_eq!(next.code, Some(0), "{next:?}");
}

/// Neither a majority of the members nor a recovery: the node that remembers may know of locks that the unreachable one has.
#[test]
fn where_no_seat_can_change_the_messages_name_the_way_out() {
    let mut world = World::with_max_ttl(3, "1s");
    world.fleet[2].kill();
    world.fleet[1].restart(Data::Empty).expect("restarted");
    // Longer than the max ttl: an absence ends this wait for new servers only.
    let run = world.output(&["run", "a", "-w", "3s", "--", "true"]);
    assert_eq!(run.code, Some(69), "{run:?}");
    for message in [&run.stderr, &world.output(&["status", "a"]).stdout, &world.output(&["doctor"]).stdout] {
        assert!(message.contains("more nodes must reply to give it a seat"), "{message}");
        assert!(message.contains("quorlock init --without-unreachable"), "{message}");
    }
    let address = format!("fix these first: 127.0.0.1:{}", world.fleet[2].port());
    let doctor = world.output(&["doctor"]);
    assert!(doctor.stdout.contains(&address), "{doctor:?}");
    let init = world.output(&["init", "--without-unreachable"]);
    assert_eq!(init.code, Some(0), "{init:?}");
    let run = world.output(&["run", "a", "-w", "20s", "--", "true"]);
    assert_eq!(run.code, Some(0), "{run:?}");
}
