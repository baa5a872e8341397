//! What stands in the way of `reconfigure`: it is named, also by `--dry-run`.

use quorlock_chaos::MovableAddress;

use crate::world::{Output, World, json, output, wait_until};

/// Servers, the first three of which are a lock cluster.
fn world(servers: usize) -> World {
    let world = World::uninitialized(servers, Some("1s"));
    let init = output(world.quorlock(&["init"]).env("QUORLOCK_NODES", list(&world, &[0, 1, 2])));
    assert_eq!(init.code, Some(0), "{init:?}");
    world
}

fn list(world: &World, nodes: &[usize]) -> String {
    nodes.iter().map(|node| world.fleet[*node].url()).collect::<Vec<_>>().join(",")
}

fn reconfigure(world: &World, from: &str, to: &str, args: &[&str]) -> Output {
    let mut command = world.quorlock(&["reconfigure", "--to", to]);
    output(command.args(args).env("QUORLOCK_NODES", from))
}

/// Neither way changes the members, and each names what stands in the way.
#[track_caller]
fn both_say(world: &World, from: &str, to: &str, code: i32, texts: &[&str]) {
    let members = || world.markers()[..3].to_vec();
    let before = members();
    for args in [&["--dry-run"] as &[&str], &[]] {
        let ended = reconfigure(world, from, to, args);
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
        for text in texts {
            assert!(ended.stderr.contains(text), "{args:?} without {text:?}: {ended:?}");
        }
    }
    assert_eq!(members(), before);
}

#[test]
fn a_new_node_that_evicts_keys_is_named() {
    let world = world(4);
    for setting in [["maxmemory", "50mb"], ["maxmemory-policy", "allkeys-lru"]] {
        let _: String = world.fleet[3].command(&["CONFIG", "SET", setting[0], setting[1]]).expect("set");
    }
    let (from, to) = (list(&world, &[0, 1, 2]), list(&world, &[0, 1, 3]));
    both_say(&world, &from, &to, 77, &["cannot be a member: evicts keys", "noeviction"]);
}

/// The address of a member that is gone, and two addresses that both lead to it.
#[test]
fn a_member_under_another_address_is_named_and_node_names_keep_it() {
    let world = world(3);
    let moved = MovableAddress::of(&world.fleet[2]).expect("a port");
    let from = list(&world, &[0, 1, 2]);
    let to = format!("{},{}", list(&world, &[0, 1]), moved.url());
    let member = format!("127.0.0.1:{}, which is in force already", world.fleet[2].port());
    both_say(&world, &from, &to, 78, &[&member, "--node-names with the names in force"]);
    let renamed = from.replace("127.0.0.1", "localhost");
    both_say(&world, &from, &renamed, 78, &["which is in force already", "--node-names"]);
    // As the message says.
    let names = from.replace("redis://", "");
    let doctor = |nodes: &str, names: &str| {
        let mut command = world.quorlock(&["doctor"]);
        output(command.env("QUORLOCK_NODES", nodes).env("QUORLOCK_NODE_NAMES", names))
    };
    assert!(doctor(&renamed, "").stdout.contains("list of nodes"));
    for nodes in [&to, &renamed] {
        let kept = doctor(nodes, &names);
        assert!(kept.code == Some(0) && !kept.stdout.contains("list of nodes"), "{kept:?}");
    }
}

#[test]
fn a_new_node_whose_user_may_not_write_is_named() {
    let world = world(4);
    let user = "ACL SETUSER u on >p ~* +@read +eval +evalsha +script|load +info +time +client|setname";
    let _: String = world.fleet[3].command(&user.split(' ').collect::<Vec<_>>()).expect("a user");
    let from = list(&world, &[0, 1, 2]);
    let to = format!("{},redis://u:p@127.0.0.1:{}", list(&world, &[0, 1]), world.fleet[3].port());
    let ended = reconfigure(&world, &from, &to, &[]);
    assert_eq!(ended.code, Some(77), "{ended:?}");
    assert!(ended.stderr.contains("cannot be a member: permission missing"), "{ended:?}");
}

#[test]
fn a_dry_run_names_all_that_stands_in_the_way() {
    let mut world = world(5);
    let (from, to) = (list(&world, &[0, 1, 2]), list(&world, &[0, 3, 4]));
    let possible = reconfigure(&world, &from, &to, &["--dry-run"]);
    assert_eq!((possible.code, &*possible.stderr), (Some(0), ""), "{possible:?}");
    (3..5).for_each(|node| world.fleet[node].kill());
    let dead = reconfigure(&world, &from, &to, &["--dry-run", "--json"]);
    assert_eq!(dead.code, Some(69), "{dead:?}");
    for node in 3..5 {
        let text = format!("the new node 127.0.0.1:{} does not reply", world.fleet[node].port());
        assert!(dead.stderr.contains(&text), "{text}: {dead:?}");
    }
    assert_eq!(json(&dead)["obstacles"].as_array().map(Vec::len), Some(2), "{dead:?}");
    (1..3).for_each(|node| world.fleet[node].kill());
    let to = list(&world, &[0, 1]);
    let few = reconfigure(&world, &from, &to, &["--dry-run"]);
    assert_eq!(few.code, Some(69), "{few:?}");
    let ports = [1, 2].map(|node| format!("127.0.0.1:{}", world.fleet[node].port()));
    let text = format!("a majority of the members must reply, and these do not: {}", ports.join(", "));
    assert!(few.stderr.contains(&text), "{few:?}");
}

#[test]
fn members_that_were_not_reached_are_named_at_the_end() {
    let mut world = World::uninitialized(6, Some("1s"));
    let (from, to) = (list(&world, &[0, 1, 2, 3, 4]), list(&world, &[0, 1, 2, 3, 5]));
    let init = output(world.quorlock(&["init"]).env("QUORLOCK_NODES", &from));
    assert_eq!(init.code, Some(0), "{init:?}");
    world.fleet[0].pause();
    let done = reconfigure(&world, &from, &to, &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let text = format!("not reached: 127.0.0.1:{}; ", world.fleet[0].port());
    assert!(done.stdout.contains(&text), "{done:?}");
    world.fleet[0].resume();
    // Any client with the list in force tells it.
    wait_until("it knows", || {
        output(world.quorlock(&["run", "a", "--", "true"]).env("QUORLOCK_NODES", &to));
        let again = reconfigure(&world, &from, &to, &["--json"]);
        json(&again)["unreached"].as_array().is_some_and(Vec::is_empty)
    });
}

#[test]
fn a_change_that_loses_held_locks_is_announced() {
    let world = World::uninitialized(3, Some("1s"));
    let (one, three) = (list(&world, &[0]), list(&world, &[0, 1, 2]));
    let init = output(world.quorlock(&["init"]).env("QUORLOCK_NODES", &one));
    assert_eq!(init.code, Some(0), "{init:?}");
    let plan = reconfigure(&world, &one, &three, &["--dry-run"]);
    assert!(plan.code == Some(0) && plan.stdout.contains("\nheld locks are lost: "), "{plan:?}");
    let plan = json(&reconfigure(&world, &one, &three, &["--dry-run", "--json"]));
    assert!(plan["plan"]["loses_locks"] == true && plan["plan"]["steps"] == 2, "{plan}");
    let done = reconfigure(&world, &one, &three, &[]);
    assert!(done.code == Some(0) && done.stderr.contains("held locks are lost: "), "{done:?}");
    let plan = reconfigure(&world, &three, &one, &["--dry-run"]);
    assert!(plan.code == Some(0) && !plan.stdout.contains("held locks"), "{plan:?}");
}
