//! Tests of settings from all sources. No error shows a secret.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::args::{Args, Stopped};

mod secrets;
mod typed;

const URLS: &str = "redis://a,redis://b,redis://c";

/// Resolves the settings from these variables and this file.
fn resolve_from(variables: &[(&str, &str)], file: Option<&Path>) -> Result<Cluster, Failure> {
    let config = file.map(|file| ("QUORLOCK_CONFIG", file.to_str().expect("a name in UTF-8")));
    let lookup = |name: &str| {
        let found = variables.iter().copied().chain(config).find(|(it, _)| *it == name);
        found.map(|(_, value)| OsString::from(value))
    };
    resolve(NodeArgs::default(), &lookup)
}

fn file_of(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temp folder");
    let file = folder.path().join("conf.toml");
    fs::write(&file, text).expect("a file");
    (folder, file)
}

#[track_caller]
fn check_invalid(outcome: Result<Cluster, Failure>, text: &str) {
    let failure = outcome.err().expect("rejected");
    assert_eq!(failure.code, exit::CONFIG);
    assert!(failure.message.contains(text), "{text:?} is not in {:?}", failure.message);
}

#[test]
fn a_blank_variable_counts_as_unset() {
    for variable in variables().filter(|it| it != "QUORLOCK_NODES") {
        for blank in ["", " ", "\n", " \t\r\n"] {
            let literal = ["QUORLOCK_PASSWORD", "QUORLOCK_KEY_PREFIX"].contains(&&*variable);
            if literal && !blank.is_empty() {
                continue;
            }
            let cluster = resolve_from(&[("QUORLOCK_NODES", URLS), (&variable, blank)], None);
            let cluster = cluster.unwrap_or_else(|failure| panic!("{variable}={blank:?}: {failure:?}"));
            assert_eq!((cluster.quorum, cluster.max_ttl), (2, Some(MAX_TTL)), "{variable}");
        }
    }
    check_invalid(resolve_from(&[("QUORLOCK_NODES", " \n")], None), "no nodes given");
}

#[test]
fn an_error_names_the_invalid_variable() {
    for (field, value, text) in [
        ("NODES", "http://h", "node 1 of 1: the URL cannot be used"),
        ("NODES", "redis://a,redis://a", "named twice"),
        ("NODE_NAMES", "a,b", "2 names for 3 nodes"),
        ("NODE_NAMES", "a,,b", "expected names separated by commas"),
        ("CONFIG", "/no/such/file", "No such file"),
        ("PASSWORD_FILE", "/no/such/file", "No such file"),
        ("PASSWORD_FILE", "/dev/null", "the file is empty"),
        ("KEY_PREFIX", "quorlock:", "may not start with"),
        ("QUORUM", "many", "a whole number"),
        ("QUORUM", "4", "more than the 3 nodes"),
        ("MAX_TTL", "abc", "a number and a unit, such as 10s"),
        ("MAX_TTL", "2h", "a max ttl of 2h"),
        ("FENCING_RETENTION", "0", "fences kept for 0s"),
        ("MODE", "maybe", "fenced or plain"),
        ("CLOCK_DRIFT", "1%", "expected a fraction, such as 0.01"),
        ("REPLY_TIMEOUT", "0", "a reply timeout of 0s"),
        ("DIAL_TIMEOUT", "-1", "a number and a unit"),
        ("TLS_CA", "/no/such/file", "No such file"),
    ] {
        let variable = format!("QUORLOCK_{field}");
        let outcome = resolve_from(&[(&variable, value), ("QUORLOCK_NODES", URLS)], None);
        let failure = outcome.err().expect(value);
        assert_eq!(failure.code, exit::CONFIG);
        assert!(failure.message.starts_with(&format!("{variable}: ")), "{}", failure.message);
        assert!(failure.message.contains(text), "{}", failure.message);
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_an_error() {
    use std::os::unix::ffi::OsStringExt as _;
    for variable in ["QUORLOCK_PASSWORD", "QUORLOCK_USERNAME", "QUORLOCK_NODES"] {
        let lookup = |name: &str| match name {
            name if name == variable => Some(OsString::from_vec(vec![0xff])),
            "QUORLOCK_NODES" => Some(URLS.into()),
            _ => None,
        };
        check_invalid(resolve(NodeArgs::default(), &lookup), &format!("{variable}: not valid UTF-8"));
    }
}

#[test]
fn an_error_in_a_file_names_its_line_and_field() {
    for (text, message) in [
        ("\n\nquorum = \"4\"", "conf.toml: line 3: quorum: expected a whole number"),
        ("max_ttl = 'abc'", "conf.toml: line 1: max_ttl: expected a number and a unit"),
        ("reply_timeout = -1", "conf.toml: line 1: reply_timeout: expected a number and a unit"),
        ("nodes = [\n'redis://a'", "conf.toml: line 2: not valid TOML: unclosed array"),
        ("nodes = 3", "conf.toml: line 1: nodes: expected strings in quotes"),
        ("node_names = [3]", "conf.toml: line 1: node_names: expected strings in quotes, as in [\"a\""),
        (
            "nodes = 'redis://a,redis://b'\nnode_names = ['a', 'a']",
            "line 2: node_names: two nodes have one name",
        ),
        ("nodes = []", "conf.toml: line 1: nodes: no URL given"),
        ("mode = true", "conf.toml: line 1: mode: expected fenced or plain"),
        ("clock_drift = '1%'", "conf.toml: line 1: clock_drift: expected a fraction, such as 0.01"),
        ("username = ' '", "conf.toml: line 1: username: it is empty"),
        ("key_prefix = 3", "conf.toml: line 1: key_prefix: expected a string in quotes"),
        ("# a\nqourum = 3", "conf.toml: line 2: unknown setting; did you mean quorum?"),
        ("key-prefix = 'a'", "conf.toml: line 1: unknown setting; did you mean key_prefix?"),
        ("colour = 3", "conf.toml: line 1: unknown setting; known are nodes, node_names, username,"),
        ("password = 'a'", "conf.toml: line 1: no password is allowed here"),
        ("nodes = 'redis://a'\nquorum = 3", "conf.toml: line 2: quorum: a quorum of 3 is more"),
        ("\nnodes = 'redis://a,http://b'", "conf.toml: line 2: nodes: node 2 of 2: the URL cannot be used"),
        ("nodes = 'redis://a'\ntls_ca = 'conf.toml'", "conf.toml: line 2: tls_ca: authorities are given"),
        ("nodes = 'rediss://a'\ntls_ca = 'none.pem'", "conf.toml: line 2: tls_ca: No such file"),
        ("nodes = 'rediss://a'\ntls_key = 'conf.toml'", "line 2: tls_key: it goes together with tls_cert"),
    ] {
        let (_folder, file) = file_of(text);
        check_invalid(resolve_from(&[], Some(&file)), message);
    }
}

#[test]
fn a_file_takes_a_list_as_one_string_and_a_duration_as_a_number() {
    let (_folder, file) = file_of("nodes = ['redis://a', 'redis://b,redis://c']");
    assert_eq!(
        resolve_from(&[], Some(&file)).map(|cluster| cluster.urls.join(",")).ok().as_deref(),
        Some(URLS)
    );
    let (_folder, file) =
        file_of(&format!("nodes = '{URLS}'\nmax_ttl = 20\nfencing_retention = 0.5e2\nmode = 'fenced'"));
    check_invalid(resolve_from(&[], Some(&file)), "fencing_retention: expected a number and a unit");
    let (_folder, file) = file_of(&format!("nodes = '{URLS}'\nmax_ttl = 20\ndial_timeout = 0.5"));
    let cluster = resolve_from(&[], Some(&file)).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!((cluster.urls.len(), cluster.max_ttl), (3, Some(Duration::from_secs(20))));
    assert_eq!(cluster.dial_timeout, Duration::from_millis(500));
    let cluster = resolve_from(&[("QUORLOCK_MAX_TTL", "25"), ("QUORLOCK_QUORUM", "3")], Some(&file));
    let cluster = cluster.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!((cluster.quorum, cluster.max_ttl), (3, Some(Duration::from_secs(25))));
}

#[test]
fn paths_in_a_file_are_relative_to_its_folder() {
    let (folder, file) = file_of(&format!("nodes = '{URLS}'\npassword_file = 'secret'"));
    check_invalid(resolve_from(&[], Some(&file)), "line 2: password_file: No such file");
    fs::write(folder.path().join("secret"), "\n").expect("a file");
    check_invalid(resolve_from(&[], Some(&file)), "line 2: password_file: the file is empty");
    // A password in the environment overrides a password file in the file.
    assert!(resolve_from(&[("QUORLOCK_PASSWORD", "a")], Some(&file)).is_ok());
    fs::write(folder.path().join("secret"), "a\n").expect("a file");
    assert!(resolve_from(&[], Some(&file)).is_ok());
}
