//! The exit codes of `run`, which scripts rely on.

use std::fs;

use quorlock_chaos::Setup;

use crate::world::{World, output, quorlock};

fn check(world: &World, args: &[&str], code: i32) {
    let output = world.output(args);
    assert_eq!(output.code, Some(code), "{args:?}: {output:?}");
    assert!(output.stderr.lines().count() <= 1 || code == 64, "more than one line: {output:?}");
}

#[test]
fn the_exit_code_of_the_command_is_passed_on() {
    let world = World::of(3);
    check(&world, &["run", "a", "--", "true"], 0);
    check(&world, &["run", "a", "--", "sh", "-c", "exit 7"], 7);
    check(&world, &["run", "a", "--", "sh", "-c", "kill -KILL $$"], 137);
    check(&world, &["run", "a", "--foreground", "--", "sh", "-c", "kill -TERM $$"], 143);
}

#[test]
fn a_command_that_cannot_be_run_has_the_exit_code_of_a_shell() {
    let world = World::of(3);
    fs::write(world.file("plain"), "").expect("a file");
    check(&world, &["run", "a", "--", "./plain"], 126);
    check(&world, &["run", "a", "--", "no-such-command"], 127);
    assert_eq!(world.key_count("a"), 0, "the lock was not released");
}

#[test]
fn a_lock_held_by_others_is_a_conflict() {
    let world = World::of(3);
    world.set_other_owner("a");
    let ran = ["--", "touch", "ran"];
    let with = |options: &[&'static str]| [&["run", "a"], options, &ran].concat();
    check(&world, &with(&["-n"]), 75);
    check(&world, &with(&["--wait", "300ms"]), 75);
    check(&world, &with(&["-n", "-E", "9"]), 9);
    let skipped = world.output(&with(&["-n", "--on-conflict", "skip"]));
    assert_eq!((skipped.code, skipped.stderr.as_str()), (Some(0), ""), "output would make cron send a mail");
    assert!(!world.has_file("ran"), "the command was run");
}

#[test]
fn no_quorum_within_the_wait_has_its_own_exit_code() {
    let mut world = World::of(3);
    world.fleet[0].kill();
    check(&world, &["run", "a", "-n", "--", "true"], 0);
    world.fleet[1].kill();
    check(&world, &["run", "a", "-n", "--", "true"], 69);
    let output = world.output(&["run", "a", "--wait", "500ms", "--", "true"]);
    assert_eq!(output.code, Some(69), "{output:?}");
}

#[test]
fn a_command_line_that_makes_no_sense_is_a_usage_error() {
    let world = World::of(1);
    for args in [
        &["run", "a", "--no-such-flag", "--", "true"][..],
        &["run", "a"],
        &["run", "a", "--wait", "5 apples", "--", "true"],
        &["run", "a", "-n", "--wait", "5s", "--", "true"],
        &["run", "", "--", "true"],
        &["run", "quorlock:mine", "--", "true"],
        &["run", "a", "--ttl", "1ms", "--", "true"],
        &["no-such-command"],
        &[],
    ] {
        check(&world, args, 64);
    }
}

#[test]
fn an_invalid_configuration_has_its_own_exit_code() {
    let world = World::of(3);
    let with = |nodes: &str| {
        let mut command = world.quorlock(&["run", "a", "-n", "--", "touch", "ran"]);
        output(command.env("QUORLOCK_NODES", nodes))
    };
    for nodes in ["", "http://127.0.0.1", "redis://127.0.0.1:99999"] {
        assert_eq!(with(nodes).code, Some(78), "{nodes}");
    }
    // A new lock cluster needs every node. In one that exists, the others may be a quorum.
    let blank = World::uninitialized(2, None);
    let twice = format!("{},redis://localhost:{}", blank.fleet.nodes(), blank.fleet[0].port());
    let output = with(&twice);
    assert_eq!(output.code, Some(78), "one server under two URLs: {output:?}");
    check(&world, &["run", "a", "--quorum", "1", "--", "touch", "ran"], 64);
    let from_environment =
        crate::world::output(world.quorlock(&["run", "a", "--", "touch", "ran"]).env("QUORLOCK_QUORUM", "1"));
    assert_eq!(
        from_environment.code,
        Some(78),
        "an invalid variable is a configuration error: {from_environment:?}"
    );
    fs::write(world.file("conf.toml"), "qourum = 3").expect("a file");
    check(&world, &["run", "a", "--config", "conf.toml", "--", "touch", "ran"], 78);
    check(&world, &["run", "a", "--config", "missing.toml", "--", "touch", "ran"], 64);
    assert!(!world.has_file("ran"), "the command was run");
}

#[test]
fn a_wrong_password_ends_the_waiting_at_once() {
    let world = World::with(3, &Setup::new().password("right"));
    let urls_without_password =
        world.fleet.servers().iter().map(|server| format!("redis://127.0.0.1:{}", server.port()));
    let urls_without_password = urls_without_password.collect::<Vec<_>>().join(",");
    fs::write(world.file("password"), "right\n").expect("a file");
    let run = |settings: &[(&str, &str)]| {
        let mut command = world.quorlock(&["run", "a", "--", "true"]);
        output(command.env("QUORLOCK_NODES", &urls_without_password).envs(settings.iter().copied()))
    };
    let wrong = run(&[("QUORLOCK_PASSWORD", "not-that-one")]);
    assert_eq!(wrong.code, Some(77), "{wrong:?}");
    assert!(!wrong.stderr.contains("not-that-one"), "passwords are not shown: {wrong:?}");
    assert_eq!(run(&[]).code, Some(77));
    let status = output(world.quorlock(&["status", "a"]).env("QUORLOCK_NODES", &urls_without_password));
    assert_eq!(status.code, Some(77), "{status:?}");
    assert_eq!(run(&[("QUORLOCK_PASSWORD", "right")]).code, Some(0));
    assert_eq!(run(&[("QUORLOCK_PASSWORD_FILE", "password"), ("QUORLOCK_PASSWORD", "x")]).code, Some(0));
}

#[test]
fn the_environment_overrides_the_file() {
    let world = World::of(3);
    let file = format!("nodes = {:?}\nkey_prefix = 'file:'\nreply_timeout = '400ms'\n", world.fleet.urls());
    fs::write(world.file("conf.toml"), file).expect("a file");
    let show = "touch held; while [ ! -e done ]; do sleep 0.02; done";
    let mut command = quorlock(&["run", "a", "--config", "conf.toml", "--", "sh", "-c", show]);
    command.current_dir(world.file(""));
    let child = command.spawn().expect("a process");
    crate::world::wait_until("held", || world.has_file("held"));
    assert_eq!((world.key_count("a"), world.key_count("file:a")), (0, 3));
    fs::write(world.file("done"), "").expect("a file");
    assert_eq!(crate::world::output_of(child).code, Some(0));
    let mut command = quorlock(&["run", "a", "--config", "conf.toml", "--", "true"]);
    command.current_dir(world.file("")).env("QUORLOCK_NODES", "redis://127.0.0.1:99999");
    assert_eq!(output(&mut command).code, Some(78));
}

#[test]
fn a_wait_of_zero_or_nearly_zero_tries_once() {
    let world = World::of(3);
    for wait in ["0", "0s", "1ns", "1ms", "20ms"] {
        let output = world.output(&["run", "free", "--wait", wait, "--", "true"]);
        assert_eq!(
            (output.code, output.stderr.as_str()),
            (Some(0), ""),
            "--wait {wait}: all nodes are up, and the lock is free"
        );
    }
    world.set_other_owner("held");
    for wait in ["0", "1ns", "1ms"] {
        let output = world.output(&["run", "held", "--wait", wait, "--", "true"]);
        assert_eq!(output.code, Some(75), "--wait {wait}: {output:?}");
        assert!(output.stderr.starts_with("quorlock: lock \"held\": held by another client"), "{output:?}");
    }
}

#[test]
fn a_wait_beyond_the_largest_span_never_ends() {
    let world = World::of(3);
    let args = ["run", "a", "--wait", "18446744073709551615s", "--", "true"];
    check(&world, &args, 0);
    world.set_other_owner("a");
    let child = world.quorlock(&args).spawn().expect("a process");
    std::thread::sleep(std::time::Duration::from_millis(500));
    for server in world.fleet.servers() {
        server.command::<()>(&["DEL", "a"]).expect("deleted");
    }
    let output = crate::world::output_of(child);
    assert_eq!(output.code, Some(0), "{output:?}");
}

#[test]
fn every_span_is_accepted_or_rejected_with_a_message() {
    let world = World::of(1);
    let spans = ["0s", "1ns", "1ms", "1h", "365days", "18446744073709551615s", "18446744073709551615years"];
    let commands: [(&[&str], &[&str], &[&str]); 8] = [
        (
            &["run", "a", "-n"],
            &["--ttl", "--kill-after", "--max-ttl", "--reply-timeout", "--dial-timeout"],
            &["--", "true"],
        ),
        (&["run", "a"], &["--wait"], &["--", "true"]),
        (&["run", "a", "-n", "--mode", "plain"], &["--ttl", "--kill-after"], &["--", "true"]),
        (&["status", "a"], &["--max-ttl", "--reply-timeout", "--dial-timeout"], &[]),
        (&["force-release", "a", "--yes"], &["--max-ttl", "--reply-timeout", "--dial-timeout"], &[]),
        (&["doctor"], &["--max-ttl", "--reply-timeout", "--dial-timeout"], &[]),
        (&["init"], &["--max-ttl", "--reply-timeout", "--dial-timeout"], &[]),
        (
            &["bench", "--duration", "1", "--tasks", "1"],
            &["--hold", "--ttl", "--reply-timeout", "--dial-timeout"],
            &[],
        ),
    ];
    for (command, flags, rest) in commands {
        for flag in flags {
            for span in spans {
                let works = command[0] == "bench"
                    && ["1ns", "1ms", "1h", "0s"].contains(&span)
                    && flag.ends_with("timeout");
                if works {
                    // Skipped, because each would run for a second. Other commands cover these values.
                    continue;
                }
                check_span(&world, &[command, &[*flag, span], rest].concat());
            }
        }
    }
    for span in spans {
        check_span(&world, &["dev", "-q", "-n", "1", "--max-ttl", span, "--", "true"]);
        fs::write(world.file("conf.toml"), format!("reply_timeout = '{span}'\ndial_timeout = '{span}'"))
            .expect("a file");
        check_span(&world, &["run", "a", "-n", "--config", "conf.toml", "--", "true"]);
    }
}

/// The command ends with a documented exit code, with a message on failure, and without a panic.
#[track_caller]
fn check_span(world: &World, args: &[&str]) {
    let output = world.output(args);
    let code = output.code.expect("it was not killed");
    assert!([0, 1, 64, 69, 78].contains(&code), "{args:?}: {output:?}");
    assert!(!output.stderr.contains("panicked"), "{args:?}: {output:?}");
    assert!(!output.stderr.contains("unknown"), "the test names a setting that does not exist: {output:?}");
    assert!(code == 0 || !output.stderr.is_empty() || !output.stdout.is_empty(), "{args:?}: {output:?}");
}

#[test]
fn a_name_that_is_too_long_is_rejected_with_a_message() {
    let world = World::of(1);
    let name = "n".repeat((1 << 16) + 1);
    for args in
        [&["run", &name, "--", "touch", "ran"][..], &["status", &name], &["force-release", "--yes", &name]]
    {
        let output = world.output(args);
        assert_eq!(output.code, Some(64), "{:?}: {}", args[0], output.stderr);
        assert!(
            output.stderr.contains("65536 bytes") && output.stderr.len() < 1_000,
            "{:?}: {}",
            args[0],
            output.stderr
        );
    }
    let longest = &name[1..];
    check(&world, &["run", longest, "--", "true"], 0);
    let prefix = world.output(&["run", "a", "--key-prefix", &name, "--", "true"]);
    assert_eq!(prefix.code, Some(64), "{prefix:?}");
    assert!(!world.has_file("ran"));
}

#[test]
fn messages_about_a_lock_begin_with_its_name() {
    let mut world = World::of(3);
    world.set_other_owner("nightly");
    let check_name = |output: &crate::world::Output| {
        assert!(output.stderr.starts_with("quorlock: lock \"nightly\": "), "{output:?}");
        assert_eq!(output.stderr.matches("nightly").count(), output.stderr.lines().count(), "{output:?}");
    };
    check_name(&world.output(&["run", "nightly", "-n", "--", "true"]));
    check_name(&world.output(&["run", "nightly", "-n", "--ttl", "1ms", "--", "true"]));
    check_name(&world.output(&["force-release", "nightly"]));
    for server in world.fleet.servers_mut() {
        server.kill();
    }
    check_name(&world.output(&["run", "nightly", "-n", "--", "true"]));
    check_name(&world.output(&["run", "nightly", "--wait", "1500ms", "--", "true"]));
}
