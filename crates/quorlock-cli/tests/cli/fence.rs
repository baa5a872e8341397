//! The fencing token in the environment of the command.

use std::fs;

use crate::world::{World, output};

const SHOW: [&str; 4] = ["--", "sh", "-c", "echo $QUORLOCK_FENCING_TOKEN/$QUORLOCK_FENCING_NONCE"];

fn token(world: &World, options: &[&str]) -> (u64, String) {
    let shown = world.output(&[&["run", "a"], options, &SHOW].concat());
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let (number, nonce) = shown.stdout.trim().split_once('/').expect("two words");
    assert!(nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()), "{shown:?}");
    (number.parse().expect("a number"), nonce.to_owned())
}

#[test]
fn every_run_has_a_larger_number_and_another_nonce() {
    let world = World::of(3);
    let tokens: Vec<_> = (0..4).map(|_| token(&world, &[])).collect();
    assert!(tokens.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1), "{tokens:?}");
}

#[test]
fn a_run_that_follows_a_larger_number_is_above_it() {
    let world = World::of(3);
    let largest = token(&world, &[]).0 + (1 << 40);
    let above = token(&world, &["--min-fencing-number", &largest.to_string()]).0;
    assert!(above > largest, "{above} is not above {largest}");
    assert!(token(&world, &[]).0 > above, "the nodes did not keep the larger number");
}

#[test]
fn an_invalid_min_fencing_number_is_a_usage_error() {
    let world = World::of(1);
    for options in [
        &["--min-fencing-number", "9007199254740992"][..],
        &["--mode", "plain", "--min-fencing-number", "5"],
        &["--min-fencing-number", "-1"],
    ] {
        let rejected = world.output(&[&["run", "a"], options, &SHOW].concat());
        assert_eq!((rejected.code, rejected.stdout.as_str()), (Some(64), ""), "{rejected:?}");
    }
}

#[test]
fn a_plain_run_has_no_fencing_token_and_hides_an_inherited_one() {
    let world = World::uninitialized(3, None);
    fs::write(world.file("conf.toml"), "mode = 'plain'").expect("a file");
    let inherited = [("QUORLOCK_FENCING_TOKEN", "7"), ("QUORLOCK_FENCING_NONCE", "8")];
    let plain = |options: &[&str], setting: Option<&str>| {
        let mut command = world.quorlock(&[&["run", "a", "-n"], options, &SHOW].concat());
        output(command.envs(inherited).envs(setting.map(|value| ("QUORLOCK_MODE", value))))
    };
    for (options, setting) in [
        (&["--mode", "plain"][..], None),
        (&[], Some("plain")),
        (&[], Some(" Plain")),
        (&["--config", "conf.toml"], None),
        (&["--mode=plain"], Some("fenced")),
    ] {
        let shown = plain(options, setting);
        assert_eq!(
            (shown.code, shown.stdout.as_str()),
            (Some(0), "/\n"),
            "{options:?} {setting:?}: {shown:?}"
        );
    }
    assert!(world.markers().iter().all(Option::is_none), "plain clients leave no marker");
    // The environment overrides the file: this client is fenced, and the nodes are not initialized.
    let fenced = plain(&["--config", "conf.toml"], Some("fenced"));
    assert_eq!((fenced.code, fenced.stdout.as_str()), (Some(69), ""), "{fenced:?}");
    assert_eq!(plain(&[], Some("perhaps")).code, Some(78), "an invalid variable is a configuration error");
}

#[test]
fn a_fenced_run_replaces_an_inherited_fencing_token() {
    let world = World::of(3);
    let mut command = world.quorlock(&[&["run", "a"], &SHOW[..]].concat());
    let shown = output(command.env("QUORLOCK_FENCING_TOKEN", "7").env("QUORLOCK_FENCING_NONCE", "8"));
    assert_eq!(shown.code, Some(0));
    assert!(!shown.stdout.starts_with("7/") && !shown.stdout.ends_with("/8\n"), "{shown:?}");
}
