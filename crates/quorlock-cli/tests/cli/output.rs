//! Output that cannot be written, and output of many processes in one file.

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use crate::world::{Output, World, output_of, quorlock, wait};

/// Runs a command whose stdout is a full disk.
#[cfg(target_os = "linux")]
fn output_to_full_disk(command: &mut Command) -> Output {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("a disk that is full");
    output_of(command.stdout(full).spawn().expect("a process"))
}

#[cfg(target_os = "linux")]
#[test]
fn a_failed_write_to_stdout_is_an_error_of_every_command() {
    let world = World::of(1);
    for args in [
        &["--help"][..],
        &["--version"],
        &["help", "run"],
        &["run", "--help"],
        &["init"],
        &["init", "--json"],
        &["status", "a"],
        &["status", "--json", "a"],
        &["force-release", "--yes", "a"],
        &["force-release", "--yes", "--json", "a"],
        &["forget", "a"],
        &["forget", "--json", "a"],
        &["doctor"],
        &["doctor", "--json"],
        &["bench", "--duration", "1", "--tasks", "1"],
        &["bench", "--duration", "1", "--tasks", "1", "--json"],
        &["chaos", "--duration", "5", "--servers", "3", "--clients", "2", "--faults", "pause", "--json"],
    ] {
        let output = output_to_full_disk(&mut world.quorlock(args));
        assert_eq!(output.code, Some(74), "{args:?}: {output:?}");
        assert!(
            output.stderr.ends_with("to stdout: No space left on device (os error 28)\n"),
            "{args:?}: {output:?}"
        );
    }
    // The command's own failure overrides the write error.
    let output = output_to_full_disk(&mut world.quorlock(&["init", "--json", "--quorum", "7"]));
    assert_eq!(output.code, Some(64), "{output:?}");
    let output = output_to_full_disk(&mut world.quorlock(&["run", "a", "--", "sh", "-c", "exit 3"]));
    assert_eq!(
        (output.code, output.stderr.as_str()),
        (Some(3), ""),
        "run itself writes nothing to stdout: {output:?}"
    );
}

#[test]
fn a_full_stdout_is_an_error_and_a_closed_pipe_is_not() {
    let world = World::of(1);
    let unwritable = File::open("/dev/null").expect("for reading");
    let output = output_of(world.quorlock(&["status", "a"]).stdout(unwritable).spawn().expect("a process"));
    assert_eq!(output.code, Some(74), "{output:?}");
    for args in [&["status", "a"][..], &["doctor"], &["--help"]] {
        let mut child = world.quorlock(args).spawn().expect("a process");
        // The reader closes the pipe before or during the output.
        drop(child.stdout.take());
        assert_eq!(wait(&mut child).code(), Some(0), "{args:?}");
    }
}

/// The writes of a process to stderr, one by one: a datagram socket keeps their boundaries.
fn writes(command: &mut Command) -> Vec<String> {
    let (receiver, sender) = UnixDatagram::pair().expect("two sockets");
    let mut child = command.stderr(Stdio::from(OwnedFd::from(sender))).spawn().expect("a process");
    // So that only the child has the sending end.
    command.stderr(Stdio::null());
    wait(&mut child);
    receiver.set_nonblocking(true).expect("a socket");
    let mut buffer = vec![0; 1 << 16];
    let mut all = Vec::new();
    while let Ok(length @ 1..) = receiver.recv(&mut buffer) {
        all.push(String::from_utf8(buffer[..length].to_vec()).expect("text"));
    }
    all
}

#[test]
fn each_message_is_one_write() {
    let world = World::of(1);
    world.set_other_owner("held");
    for args in [
        &["status", "a", "--quorum", "7"][..],
        &["status"],
        &["run", "a", "true"],
        &["run", "a", "--ttl", "x", "--", "true"],
        &["run", "held", "-n", "--", "true"],
        &["init", "--max-ttl", "5s"],
        &[],
    ] {
        let writes = writes(&mut world.quorlock(args));
        assert!(matches!(&writes[..], [all] if all.ends_with('\n')), "{args:?}: {writes:?}");
    }
    let log = writes(world.quorlock(&["run", "a", "--", "true"]).env("RUST_LOG", "debug"));
    let is_line = |write: &String| write.matches('\n').count() == 1 && write.ends_with('\n');
    assert!(!log.is_empty() && log.iter().all(is_line), "{log:?}");
}

#[test]
fn lines_of_many_processes_in_one_file_are_not_mixed() {
    let folder = tempfile::tempdir().expect("a temp folder");
    let path = folder.path().join("log");
    let log = OpenOptions::new().create(true).append(true).open(&path).expect("a file");
    // Two kinds of messages that need no server: a configuration error and a usage error.
    let start = |number: usize| -> Child {
        let args = [&["status", "a"][..], &["run", "a", "--ttl", "x", "--", "true"]][number % 2];
        let stderr = log.try_clone().expect("the same file");
        quorlock(args).stdout(Stdio::null()).stderr(stderr).spawn().expect("a process")
    };
    for mut child in (0..200).map(start).collect::<Vec<_>>() {
        wait(&mut child);
    }
    let text = fs::read_to_string(&path).expect("text");
    let count = |line: &str| text.lines().filter(|it| *it == line).count();
    let invalid_ttl = "quorlock: --ttl: expected a number and a unit, such as 10s";
    let no_nodes = text.lines().find(|line| line.starts_with("quorlock: no nodes given: ")).expect("a line");
    assert_eq!((count(invalid_ttl), count(no_nodes), text.lines().count()), (100, 100, 200), "{text}");
}
