//! Passwords that change: a file that is read, and a command that is run, for each login.

use std::process::Command;

use quorlock_chaos::Setup;

use crate::world::{Output, World, output, output_of, quorlock, wait_until};

/// Servers with a user `locker`, whom only this password admits, and a command line for that user.
fn world_of_user(password: &str) -> World {
    let world = World::of(3);
    set_password(&world, password);
    world
}

fn set_password(world: &World, password: &str) {
    let password = format!(">{password}");
    for server in world.fleet.servers() {
        let args = ["ACL", "SETUSER", "locker", "on", "resetpass", &password, "~*", "&*", "+@all"];
        server.command::<()>(&args).expect("a user");
    }
}

/// The number of servers with a connection of `locker`.
fn logged_in(world: &World) -> usize {
    let list =
        |server: &quorlock_chaos::Server| server.command::<String>(&["CLIENT", "LIST"]).expect("a list");
    world.fleet.servers().iter().filter(|server| list(server).contains(" user=locker ")).count()
}

fn status(world: &World, command: &str) -> Output {
    world.output(&["status", "a", "--username", "locker", "--password-command", command])
}

/// Runs a job with these flags, changes the password, and closes all connections. The job keeps its lock.
fn check_rotation(flags: &[&str]) {
    let world = world_of_user("one");
    world.write("secret", "one\n");
    let job = ["--", "sh", "-c", "touch held; while [ ! -e done ]; do sleep 0.02; done"];
    let args = [&["run", "a", "--ttl", "3s", "--username", "locker"], flags, &job].concat();
    let run = world.quorlock(&args).spawn().expect("a process");
    wait_until("the job runs", || world.has_file("held"));
    for password in ["two", "three"] {
        world.write("secret", &format!("{password}\n"));
        set_password(&world, password);
        for server in world.fleet.servers() {
            server.command::<usize>(&["CLIENT", "KILL", "USER", "locker"]).expect("killed");
        }
        wait_until("the client has logged in again", || logged_in(&world) == 3);
    }
    world.write("done", "");
    let output = output_of(run);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{flags:?}");
    assert_eq!(world.key_count("a"), 0, "{flags:?}");
}

#[test]
fn a_changed_password_file_is_read_at_the_next_login() {
    check_rotation(&["--password-file", "secret"]);
}

#[test]
fn a_password_command_is_run_at_each_login() {
    check_rotation(&["--password-command", "cat secret"]);
}

/// As `--password-file <(…)` in a shell: a second read would find nothing.
#[test]
fn a_password_in_a_pipe_is_read_once() {
    let world = world_of_user("one");
    let script = "echo one | quorlock status a --username locker --password-file /dev/stdin";
    let status = output(&mut world.program("sh", &["-c", script]));
    assert_eq!(status.code, Some(0), "{status:?}");
}

#[test]
fn the_first_line_of_a_password_command_is_the_password() {
    let world = world_of_user("o n$e");
    for command in ["echo 'o n$e'", "printf 'o n$e\\r\\nlocker\\n'; exit 0; echo never", "printf 'o n$e'"] {
        let status = status(&world, command);
        assert_eq!(status.code, Some(0), "{command}: {status:?}");
    }
}

#[test]
fn a_failed_password_command_is_reported_with_what_it_wrote_to_stderr() {
    let world = world_of_user("one");
    for (command, text) in [
        ("echo one; echo the vault is sealed >&2; exit 3", "exit code 3: the vault is sealed"),
        ("seq 9 >&2; exit 1", "exit code 1: 7; 8; 9"),
        ("false", "exit code 1"),
        ("kill -KILL $$", "exit code 137"),
        ("true", "its output has no password in the first line"),
        ("echo; echo one", "its output has no password in the first line"),
        ("yes", "its output is too long"),
        (r"printf '\377\n'", "its output is not valid UTF-8"),
        // A password by mistake.
        ("hunter2", "exit code 127: "),
        ("echo hunter2; echo hunter2 is wrong >&2; exit 5", "exit code 5: … is wrong"),
    ] {
        let status = status(&world, command);
        assert_eq!(status.code, Some(69), "{command}: {status:?}");
        let text = format!("credentials: --password-command: {text}");
        assert!(status.stdout.contains(&text), "{command}: {status:?}");
        assert!(!status.stdout.contains("hunter2"), "{command}: {status:?}");
    }
    // `run` waits for all its children.
    let args =
        ["run", "a", "-n", "--username", "locker", "--password-command", "echo no >&2; exit 3", "--", "true"];
    let run = world.output(&args);
    assert!(run.code == Some(69) && run.stderr.contains("--password-command: exit code 3: no"), "{run:?}");
    let doctor = world.output(&["doctor", "--username", "locker", "--password-command", "false"]);
    assert!(doctor.stdout.contains("check --password-file or --password-command"), "{doctor:?}");
}

#[test]
fn a_password_command_that_hangs_is_killed_with_what_it_has_started() {
    let world = world_of_user("one");
    let hang = "sleep 1000 & echo $! > pid; wait";
    let status = status(&world, hang);
    assert_eq!(status.code, Some(69), "{status:?}");
    assert!(
        status.stdout.contains("credentials: no reply within 1s: is the dial timeout too short"),
        "{status:?}"
    );
    let sleep = world.read_process("pid");
    wait_until("the process has ended", || !sleep.is_alive());
}

#[test]
fn a_password_command_gets_the_node_and_no_secrets() {
    let world = world_of_user("one");
    let command = "env > seen; echo one";
    let mut run = world.quorlock(&["run", "a", "--username", "locker", "--", "true"]);
    let run = output(run.envs([("QUORLOCK_PASSWORD_COMMAND", command), ("QUORLOCK_PASSWORD", "unused")]));
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let (environment, nodes) = (world.read("seen"), world.fleet.nodes());
    assert!(!environment.contains("unused") && !environment.contains(&nodes), "{environment}");
    let node = environment.lines().find_map(|line| line.strip_prefix("QUORLOCK_NODE=")).unwrap_or_default();
    assert!(nodes.contains(&format!("redis://{node}")) && !node.is_empty(), "{environment}");
}

#[test]
fn one_setting_for_the_password_excludes_the_other_of_the_same_source() {
    let world = World::with(1, &Setup::new().password("right"));
    let url = format!("redis://127.0.0.1:{}", world.fleet[0].port());
    world.write("secret", "right");
    world.write("wrong", "wrong");
    let status = |flags: &[&str], variables: &[(&str, &str)]| {
        let mut command: Command = quorlock(&[&["status", "a", "--nodes", &url], flags].concat());
        output(command.current_dir(world.file("")).envs(variables.iter().copied()))
    };
    let (good, bad) = (["--password-command", "cat secret"], ["--password-file", "wrong"]);
    let both = status(&[good, bad].concat(), &[]);
    let text = "quorlock: --password-command: cannot be used with --password-file; leave one out";
    assert!(both.code == Some(64) && both.stderr.contains(text), "{both:?}");
    let in_variables = [("QUORLOCK_PASSWORD_FILE", "wrong"), ("QUORLOCK_PASSWORD_COMMAND", "cat secret")];
    let both = status(&[], &in_variables);
    let text = "QUORLOCK_PASSWORD_COMMAND: cannot be used with QUORLOCK_PASSWORD_FILE; leave one out";
    assert!(both.code == Some(78) && both.stderr.contains(text), "{both:?}");
    world.write("conf.toml", "password_command = 'cat secret'\npassword_file = 'wrong'");
    let config = ["--config", "conf.toml"];
    let both = status(&config, &[]);
    let text = "conf.toml: line 2: password_file: cannot be used with password_command; leave one out";
    assert!(both.code == Some(78) && both.stderr.contains(text), "{both:?}");

    for (flags, variables) in [
        (&good[..], &in_variables[..1]),
        (&good, &[("QUORLOCK_PASSWORD", "wrong")]),
        (&[], &[in_variables[1], ("QUORLOCK_PASSWORD", "wrong")]),
        (&["--password-file", "secret"], &[("QUORLOCK_PASSWORD_COMMAND", "cat wrong")]),
    ] {
        let status = status(flags, variables);
        assert_eq!(status.code, Some(0), "{flags:?} {variables:?}: {status:?}");
    }
    world.write("conf.toml", "password_command = 'cat secret'");
    assert_eq!(status(&config, &[]).code, Some(0), "a command in the file");
    assert_eq!(status(&config, &[("QUORLOCK_PASSWORD", "wrong")]).code, Some(77), "a variable overrides it");
    world.write("conf.toml", "password_file = 'wrong'");
    assert_eq!(status(&config, &in_variables[1..]).code, Some(0), "a variable overrides the other setting");
}
