//! Messages of usage errors.

use crate::world::{World, output, quorlock};

#[track_caller]
fn check(args: &[&str], code: i32, message: &str) {
    let output = output(quorlock(args).env("QUORLOCK_NODES", "redis://127.0.0.1:1"));
    assert_eq!(output.code, Some(code), "{args:?}: {output:?}");
    assert!(
        output.stderr.starts_with("quorlock: ") && output.stderr.contains(message),
        "{args:?}: {output:?}"
    );
    assert!(
        !output.stderr.contains("--nodes <URLS>") && !output.stderr.contains("as a value"),
        "{args:?}: {output:?}"
    );
}

#[test]
fn a_command_without_dashes_gets_a_hint() {
    check(&["run", "x", "true"], 64, "the command goes behind --: quorlock run x -- true\n");
    check(&["run", "a b", "sleep", "5"], 64, "the command goes behind --: quorlock run 'a b' -- sleep …\n");
    check(
        &["run", "--ttl", "5s", "x", "true"],
        64,
        "the command goes behind --: quorlock run … -- COMMAND\n",
    );
    check(&["dev", "sh", "-c", "true"], 64, "the command goes behind --: quorlock dev -- sh …\n");
    check(&["run", "x"], 64, "the command is missing: quorlock run x -- COMMAND\n");
    check(&["run", "x", "--"], 64, "the command is missing: quorlock run x -- COMMAND\n");
    check(&["run", "--", "true"], 64, "the lock's name is missing: quorlock run NAME -- COMMAND\n");
    check(&["run"], 64, "the lock's name is missing");
    check(&[], 64, "quorlock: no subcommand given\n\nDistributed locks over");
    // 127, as in a shell.
    check(&["run", "x", "--", ""], 127, "the command's name is empty");
    check(&["dev", "--", ""], 127, "the command's name is empty");
    check(&["run", "x", "y", "--", "true"], 64, "unexpected argument");
}

#[test]
fn a_flag_before_its_subcommand_gets_a_hint() {
    check(
        &["--nodes", "redis://a", "run", "x", "--", "true"],
        64,
        "--nodes goes behind the command that it is for: quorlock run --nodes …\n",
    );
    check(&["--probe", "x", "doctor"], 64, "quorlock doctor --probe …\n");
    check(&["--no-such-flag", "doctor"], 64, "unexpected argument '--no-such-flag'");
}

#[test]
fn conflicting_flags_and_invalid_text_are_reported_by_flag() {
    use std::os::unix::ffi::OsStrExt as _;
    for (args, message) in [
        (&["run", "--wait", "1", "-n", "x", "--", "true"][..], "--wait: cannot be used with --nonblock"),
        (&["status", "--quorum", "1", "--quorum", "2", "x"], "quorlock: --quorum: given more than once\n"),
        (&["run", "-q", "-q", "x", "--", "true"], "quorlock: --quiet: given more than once\n"),
        (
            &["run", "--min-fencing-number", "99999999999999999999", "x", "--", "true"],
            "--min-fencing-number: the number is too large\n",
        ),
        (&["chaos", "--report", "/no/x"], "quorlock: --report: /no/x: No such file"),
        (&["chaos", "--history", "/no/x"], "quorlock: --history: /no/x: No such file"),
        (&["bench", "--report", "/no/x"], "quorlock: --report: /no/x: No such file"),
        (&["chaos", "--faults", "none"], "quorlock: --faults: there is no fault"),
        (&["dev", "--max-ttl", "2h", "--", "true"], "quorlock: --max-ttl: a max ttl of 2h"),
    ] {
        check(args, 64, message);
    }
    let bytes = |bytes: &'static [u8]| std::ffi::OsStr::from_bytes(bytes);
    for (args, message) in [
        (&[bytes(b"--quorum"), bytes(b"\xff")][..], "quorlock: --quorum: not valid UTF-8\n"),
        (&[bytes(b"--username=\xff")], "quorlock: --username: not valid UTF-8"),
        (&[bytes(b"\xff")], "quorlock: argument 2: not valid UTF-8"),
    ] {
        let output = output(quorlock(&["status"]).args(args));
        assert!(output.code == Some(64) && output.stderr.starts_with(message), "{output:?}");
    }
}

#[test]
fn a_lock_that_can_never_be_acquired_is_not_waited_for() {
    let long = "n".repeat(70_000);
    let world = World::of(1);
    for (args, message) in [
        (&["--ttl", "99h", "x"][..], "quorlock: lock \"x\": --ttl: a ttl of 99h"),
        (&["--ttl", "1ms", "x"], "quorlock: lock \"x\": --ttl: a ttl of 1ms is too short"),
        (
            &["--min-fencing-number", "18446744073709551615", "x"],
            "quorlock: lock \"x\": --min-fencing-number: a minimum fencing number of 1844",
        ),
        (
            &["--min-fencing-number", "1", "--mode", "plain", "x"],
            "quorlock: lock \"x\": --min-fencing-number: a plain client",
        ),
        (&["--key-prefix", "quorlock", ":x"], "the name starts with `quorlock:`"),
        (&[""], "quorlock: a lock needs a name"),
        (&[&long], "the name is too long"),
    ] {
        let args = [&["run"], args, &["--", "true"]].concat();
        // With unreachable nodes, which `run` would wait for forever, and with a reachable one.
        check(&args, 64, message);
        let output = world.output(&args);
        assert!(output.code == Some(64) && output.stderr.contains(message), "{output:?}");
    }
}

#[test]
fn an_invalid_value_is_reported_by_its_flag() {
    let span = "expected a number and a unit, such as 10s\n";
    for flag in
        ["--ttl", "--wait", "-w", "--kill-after", "--max-ttl", "--fencing-retention", "--reply-timeout"]
    {
        for value in ["abc", "-1", "-1s", "", "10 parsecs", "--"] {
            let name = if flag == "-w" { "--wait" } else { flag };
            check(&["run", flag, value, "x", "--", "true"], 64, &format!("quorlock: {name}: {span}"));
        }
    }
    for (flag, value, message) in [
        ("--clock-drift", "1%", "expected a fraction, such as 0.01"),
        ("--quorum", "-1", "expected a whole number, such as 3"),
        ("--quorum", "abc", "expected a whole number, such as 3"),
        ("--conflict-exit-code", "abc", "expected a whole number, such as 3"),
        ("--min-fencing-number", "", "expected a whole number, such as 3"),
        ("--conflict-exit-code", "-1", "-1 is not in 0..=255"),
        ("--conflict-exit-code", "256", "256 is not in 0..=255"),
        ("--on-conflict", "weep", "expected one of fail, skip"),
        ("--config", "", "a value is missing"),
        ("--nodes", "", "no URL given"),
        ("--nodes", ",", "no URL given"),
        ("--username", "", "a value is missing"),
        ("--password-command", "", "a value is missing"),
    ] {
        check(&["run", flag, value, "x", "--", "true"], 64, &format!("quorlock: {flag}: {message}"));
    }
    check(&["run", "--ttl", "0", "-n", "x", "--", "true"], 64, "--ttl: a ttl of 0s is too short");
    check(&["status", "--mode=maybe", "x"], 64, "quorlock: --mode: expected fenced or plain\n");
    check(&["status", "--max-ttl", "1y", "x"], 64, "quorlock: --max-ttl: a max ttl of 1y cannot work");
    check(
        &["status", "--reply-timeout", "0s", "x"],
        64,
        "quorlock: --reply-timeout: a reply timeout of 0s is out of range",
    );
}
