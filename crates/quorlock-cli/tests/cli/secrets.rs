//! No output shows a password, for all kinds of errors. (The unit tests have thousands of cases.)

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::world::{Output, World, output, quorlock};

const SECRETS: [&str; 9] = [
    "hunter2",
    "hunter2,hunter2",
    "hunter2/hunter2",
    "hunter2?hunter2",
    "hunter2#hunter2",
    "hunter2:hunter2",
    "hunter2@hunter2",
    "hunter2@hunter2,hunter2/hunter2",
    "12,hunter2",
];

#[track_caller]
fn check(output: &Output, what: &str) {
    assert!(!output.stderr.contains("hunter2") && !output.stdout.contains("hunter2"), "{what}: {output:?}");
    assert!(!output.stderr.contains("panicked"), "{what}: {output:?}");
}

#[test]
fn no_url_is_printed_with_its_password() {
    let folder = tempfile::tempdir().expect("a temp folder");
    let file = folder.path().join("conf.toml");
    for secret in SECRETS {
        let url = format!("redis://ann:{secret}@127.0.0.1:1");
        let status = |args: &[&str]| {
            let mut command = quorlock(&[&["status", "x", "--dial-timeout", "100ms"], args].concat());
            command.env("RUST_LOG", "trace");
            command
        };
        check(&output(status(&[]).env("QUORLOCK_NODES", &url)), &url);
        check(&output(&mut status(&["--nodes", &url])), &url);
        check(&output(&mut status(&[&url])), &url);
        check(&output(&mut status(&["--quorum", &url])), &url);
        for text in [format!("nodes = \"{url}\""), format!("nodes = {url}"), format!("\"{url}\" = 1")] {
            fs::write(&file, &text).expect("a file");
            check(&output(&mut status(&["--config", file.to_str().expect("text")])), &text);
        }
    }
}

#[test]
fn a_password_with_a_comma_works_if_percent_encoded() {
    let world = World::of(1);
    let user = ["ACL", "SETUSER", "ann", "on", ">a,b/c?d#e:f@g%h", "~*", "&*", "+@all"];
    world.fleet[0].command::<()>(&user).expect("a user");
    let port = world.fleet[0].port();
    let url = |password: &str| format!("redis://ann:{password}@127.0.0.1:{port}");
    for (char, escaped) in [(",", "%2C"), ("/", "%2F"), ("?", "%3F"), ("#", "%23")] {
        let unescaped = output(quorlock(&["status", "x"]).env("QUORLOCK_NODES", url(&format!("a{char}b"))));
        assert!(unescaped.code == Some(78) && unescaped.stderr.contains(escaped), "{char}: {unescaped:?}");
    }
    let nodes = url("a%2Cb%2Fc%3Fd%23e:f@g%25h");
    let mut command = quorlock(&["status", "x"]);
    let good = output(command.env("QUORLOCK_NODES", &nodes).env("RUST_LOG", "trace"));
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(!good.stderr.contains("a,b/c") && !good.stderr.contains("a%2Cb"), "{good:?}");
}

/// A server that repeats the credentials in its error reply, as some proxies do.
fn serve_echoed_credentials() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"-ERR bad AUTH ann hunter2/hunter2 (hunter2/hunter2)\r\n");
            // Reads to the end, because closing with unread data would discard the reply.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    port
}

#[test]
fn a_server_that_echoes_the_credentials_does_not_leak_them() {
    let port = serve_echoed_credentials();
    let nodes = format!("redis://ann:hunter2%2Fhunter2@127.0.0.1:{port}");
    for args in [
        &["status", "x"][..],
        &["status", "--json", "x"],
        &["run", "x", "-n", "--", "true"],
        &["doctor"],
        &["init"],
        &["force-release", "--yes", "x"],
        &["forget", "x"],
        &["bench", "--duration", "1"],
    ] {
        for level in ["off", "trace"] {
            let output = output(quorlock(args).env("QUORLOCK_NODES", &nodes).env("RUST_LOG", level));
            check(&output, &format!("{args:?}"));
            assert!(
                output.stdout.contains("bad AUTH ann …") || output.stderr.contains("bad AUTH ann …"),
                "{args:?}: {output:?}"
            );
        }
    }
}

#[test]
fn no_variable_and_no_file_shows_what_is_in_it() {
    let world = World::of(1);
    for value in ["hunter2", "redis://:hunter2@h", "-----BEGIN PRIVATE KEY-----\nhunter2"] {
        for field in [
            "config",
            "node_names",
            "username",
            "password",
            "password_file",
            "password_command",
            "quorum",
            "max_ttl",
            "fencing_retention",
            "mode",
        ] {
            for args in [&["run", "x", "-n", "--", "true"][..], &["doctor"]] {
                let mut command = world.quorlock(args);
                let variable = format!("QUORLOCK_{}", field.to_uppercase());
                let output = output(command.env(&variable, value).env("RUST_LOG", "trace"));
                check(&output, &format!("{variable}={value}"));
            }
        }
        for field in [
            "username",
            "password_file",
            "password_command",
            "password",
            "quorum",
            "tls_ca",
            "tls_cert",
            "tls_key",
            "clock_drift",
        ] {
            fs::write(world.file("conf.toml"), format!("{field} = '''{value}'''")).expect("a file");
            check(&world.output(&["status", "x", "--config", "conf.toml"]), field);
            let flag = format!("--{}", field.replace('_', "-"));
            check(&world.output(&["status", "x", &flag, value]), &flag);
        }
    }
}
