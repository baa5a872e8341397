//! The state that `run` inherits from its parent: ignored or blocked signals, few file descriptors, pid 1.
//! And commands that cannot be started.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;

use rustix::process::Signal;

use crate::processes::{Process, all, process_tree};
use crate::programs::is_root;
use crate::world::{Output, World, output, output_of, send, wait, wait_until};

/// For `python3`: executes a command with SIGCHLD ignored, or all signals blocked, by its first argument.
const STARTER: &str = "
import os, signal, sys
how, command = sys.argv[1], sys.argv[2:]
if how == 'ignore':
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
else:
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
os.execvp(command[0], command)
";

/// The command ended without a panic: with success, or with one of quorlock's exit codes and a message.
#[track_caller]
pub(crate) fn check_no_panic(output: &Output, context: &str) {
    assert!(
        !output.stderr.contains("panicked") && !output.stderr.contains("backtrace"),
        "{context}: {output:?}"
    );
    match output.code {
        Some(0) => {}
        Some(64..=78 | 126 | 127) => {
            assert!(output.stderr.starts_with("quorlock: "), "{context}: {output:?}");
        }
        _ => panic!("{context}: {output:?}"),
    }
}

#[test]
fn a_parent_that_ignores_sigchld_gets_the_exit_code_too() {
    let world = World::of(3);
    world.write("starter", STARTER);
    for args in [
        &["quorlock", "run", "a", "--", "sh", "-c", "exit 5"][..],
        &["quorlock", "run", "--foreground", "a", "--", "sh", "-c", "exit 5"],
        &["quorlock", "dev", "-q", "-n", "1", "--", "sh", "-c", "exit 5"],
    ] {
        let output = output(&mut world.program("python3", &[&["starter", "ignore"], args].concat()));
        assert_eq!((output.code, output.stderr.as_str()), (Some(5), ""), "{args:?}");
    }
    // The command inherits the ignored signals of the parent, and no others.
    let args = ["starter", "ignore", "quorlock", "run", "a", "--", "grep", "SigIgn", "/proc/self/status"];
    let output = output(&mut world.program("python3", &args));
    let mask = output.stdout.trim().rsplit('\t').next().unwrap_or_default().to_owned();
    let mask = u64::from_str_radix(&mask, 16).expect("a mask");
    assert_eq!(mask & (1 << 12), 0, "SIGPIPE is ignored: {output:?}");
}

#[test]
fn blocked_signals_work() {
    let world = World::of(3);
    world.write("starter", STARTER);
    for options in [&[][..], &["--foreground"]] {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let command = ["a", "--", "sh", "-c", "touch began; exec sleep 60"];
            let args = [&["starter", "block", "quorlock", "run"], options, &command].concat();
            let mut run = world.program("python3", &args).spawn().expect("a process");
            wait_until("the command runs", || world.has_file("began"));
            send(&run, signal);
            let status = wait(&mut run);
            let code = status.code().or(status.signal().map(|signal| signal + 128));
            assert_eq!(code, Some(128 + signal.as_raw()), "{options:?}");
            assert_eq!(world.key_count("a"), 0);
            fs::remove_file(world.file("began")).expect("a file");
        }
    }
    let args = ["starter", "block", "quorlock", "run", "a", "--", "grep", "SigBlk", "/proc/self/status"];
    let output = output(&mut world.program("python3", &args));
    assert_eq!(output.stdout, "SigBlk:\t0000000000000000\n", "{output:?}");
}

/// For `python3`: prints the state that a process inherits. The C library uses the signals 32 and 33 itself.
const PROBE: &str = "
import os, resource, signal, sys
own = ['QUORLOCK_LOCK_NAME', 'QUORLOCK_FENCING_TOKEN', 'QUORLOCK_FENCING_NONCE', 'QUORLOCK_HELD']
print(sorted((name, value) for name, value in os.environb.items() if name.decode() not in own))
print([os.fsencode(word) for word in sys.argv], os.getcwd(), oct(os.umask(0)), os.nice(0), os.sched_getaffinity(0))
print([(limit, resource.getrlimit(getattr(resource, limit))) for limit in dir(resource) if limit.startswith('RLIMIT_')])
print(sorted(int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + fd)))
print(open('/proc/self/oom_score_adj').read(), os.getresuid(), os.getresgid(), os.getgroups())
print([line for line in open('/proc/self/status') if line.startswith(('SigBlk', 'NoNewPrivs', 'Cap'))])
ignored = [int(line.split()[1], 16) for line in open('/proc/self/status') if line.startswith('SigIgn')]
print([number for number in range(1, 65) if ignored[0] >> number - 1 & 1 and number not in (32, 33)])
if os.path.exists('/proc/self/fd/9'):
    os.write(9, b'nine')
";

#[test]
fn the_command_inherits_everything_else_from_the_parent_of_run() {
    let world = World::of(3);
    world.write("probe", PROBE);
    for (before, after) in [
        ("", ""),
        ("umask 027; cd /; exec 9>$HERE/nine 7<$HERE/probe; ulimit -n 200; ulimit -c 0;", ""),
        ("export ODD=$(printf 'a\\377\\nb');", "'' 'two  words' '--' '--help' \"$(printf 'a\\377')\""),
        ("exec <&-;", ""),
        ("trap '' HUP USR1 WINCH;", ""),
    ] {
        let shown_by = |prefix: &str| {
            let script = format!("{before} exec {prefix} nice -n 3 python3 \"$HERE/probe\" {after}");
            let mut command = world.program("sh", &["-c", &script]);
            let output =
                output(command.env("HERE", world.file("").to_str().expect("text").trim_end_matches('/')));
            assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{script}");
            output.stdout
        };
        // `run` replaces a closed stdin by an empty one.
        let plain =
            shown_by(if before.contains("<&-") { "sh -c 'exec \"$@\" </dev/null' sh" } else { "env" });
        for options in ["", "--foreground"] {
            assert_eq!(shown_by(&format!("quorlock run {options} a --")), plain, "{before} {options}");
        }
        if world.has_file("nine") {
            assert_eq!(world.read("nine"), "nine");
        }
    }
}

#[test]
fn a_hang_up_that_nohup_keeps_away_is_kept_from_the_command_too() {
    let world = World::of(3);
    let args = ["nohup", "quorlock", "run", "a", "--", "grep", "SigIgn", "/proc/self/status"];
    let output = output(&mut world.program("env", &args));
    let mask = output.stdout.trim().rsplit('\t').next().unwrap_or_default().to_owned();
    assert_eq!(u64::from_str_radix(&mask, 16).expect("a mask") & 1, 1, "{output:?}");
}

/// `quorlock run` as the first process of a container. The command writes `began` and waits for `enough`.
fn container(world: &World, options: &[&str], script: &str) -> (std::process::Child, Process) {
    world.write("command", script);
    let args = [&["-fp", "--mount-proc", "quorlock", "run"], options, &["a", "--", "sh", "command"]].concat();
    let outside = world.program("unshare", &args).spawn().expect("a process");
    wait_until("the command runs", || world.has_file("began"));
    let first = process_tree(outside.id() as i32).into_iter().find(|it| it.comm == "quorlock").expect("run");
    (outside, first)
}

fn zombies_of(first: &Process) -> Vec<Process> {
    all().into_iter().filter(|it| it.parent == first.pid && it.state == 'Z').collect()
}

#[test]
fn the_first_process_of_a_container_waits_for_every_orphan() {
    if !is_root() {
        return;
    }
    let world = World::of(3);
    let script = "
        for i in 1 2 3; do (sleep 0.1 & echo $! >> orphans); done
        (setsid sh -c 'sleep 0.1 & echo $! >> orphans')
        touch began; while [ ! -e enough ]; do sleep 0.02; done; exit 6";
    for options in [&[][..], &["--foreground"]] {
        let (outside, first) = container(&world, options, script);
        let is_shell = |pid: i32| Process::of(pid).is_some_and(|parent| parent.comm == "sh");
        // Short sleeps of the command itself are children of a shell.
        let reaped = || {
            let left = process_tree(first.pid);
            !left.iter().any(|it| it.comm == "sleep" && !is_shell(it.parent))
        };
        wait_until("the command's orphans are reaped while it runs", reaped);
        // Also orphans of a process that entered the container from outside.
        let target = first.pid.to_string();
        let enter = ["-t", &target, "-p", "-m", "sh", "-c", "sleep 0.1 & exec true"];
        assert_eq!(output(&mut world.program("nsenter", &enter)).code, Some(0));
        wait_until("the foreign orphan has ended", || {
            !all().iter().any(|it| it.parent == first.pid && it.comm == "sleep" && it.state != 'Z')
        });
        wait_until("the orphan is reaped", || zombies_of(&first).is_empty());
        assert!(first.is_alive());
        world.write("enough", "");
        assert_eq!(output_of(outside).code, Some(6), "{options:?}");
        for file in ["began", "enough", "orphans"] {
            fs::remove_file(world.file(file)).expect("a file");
        }
        assert_eq!(world.key_count("a"), 0);
    }
}

#[test]
fn the_first_process_of_a_container_heeds_term() {
    if !is_root() {
        return;
    }
    let world = World::of(3);
    let with_handler = "trap 'exit 7' TERM; touch began; while :; do sleep 0.02; done";
    for (script, code) in [("touch began; exec sleep 60", 143), (with_handler, 7)] {
        let (outside, first) = container(&world, &[], script);
        first.send(Signal::TERM);
        assert_eq!(output_of(outside).code, Some(code), "{script}");
        assert_eq!(world.key_count("a"), 0);
        fs::remove_file(world.file("began")).expect("a file");
    }
}

#[test]
fn a_low_limit_of_open_files_gives_a_clear_message_at_worst() {
    let world = World::of(3);
    for files in (4..=24).rev() {
        let script = format!("ulimit -n {files}; exec quorlock run -n a -- true");
        let output = output(&mut world.program("sh", &["-c", &script]));
        check_no_panic(&output, &script);
        world.wait_until_free("a");
    }
}

fn executable(world: &World, name: &str, text: &str) {
    world.write(name, text);
    fs::set_permissions(world.file(name), fs::Permissions::from_mode(0o755)).expect("permissions");
}

#[test]
fn a_script_without_a_first_line_is_run_by_sh() {
    let world = World::of(3);
    executable(&world, "plain", "echo \"got $1\"; exit 3\n");
    for options in [&[][..], &["--foreground"]] {
        let output = world.output(&[&["run"], options, &["a", "--", "./plain", "one two"]].concat());
        assert_eq!((output.code, output.stdout.as_str()), (Some(3), "got one two\n"), "{output:?}");
    }
}

#[test]
fn a_command_that_cannot_be_started_is_reported_with_the_cause() {
    let world = World::of(3);
    executable(&world, "bad", "#!/no/such/interpreter\n");
    world.write("mine", "echo\n");
    for (program, codes, args) in [
        ("no-such-command", [127, 127], "no-such-command"),
        ("./missing", [127, 127], "./missing"),
        ("./mine", [126, 126], "./mine"),
        ("/", [126, 126], "/"),
        ("", [127, 127], "empty"),
        ("./bad", [126, 127], "interpreter"),
    ] {
        for options in [&[][..], &["--foreground"]] {
            let output = world.output(&[&["run"], options, &["a", "--", program]].concat());
            assert!(codes.iter().any(|code| output.code == Some(*code)), "{program:?}: {output:?}");
            assert!(
                output.stderr.starts_with("quorlock: ") && output.stderr.contains(args),
                "{program:?}: {output:?}"
            );
            assert_eq!(output.stderr.lines().count(), 1, "{program:?}: {output:?}");
            assert_eq!(world.key_count("a"), 0, "{program:?}");
        }
    }
}

#[test]
fn a_command_in_the_group_of_a_script_does_not_hang_up_stopped_processes() {
    let world = World::of(3);
    // The script leads a session without a shell above, as under `cron`. A process of its group is stopped.
    let script = "trap 'echo hung up >> log' HUP
        sleep 600 & stopped=$!; kill -STOP $stopped
        quorlock run --foreground a -- true
        quorlock run a -- true
        sleep 0.2; ps -o stat= -p $stopped > state; kill -KILL $stopped";
    world.write("script", script);
    let output = output(&mut world.program("setsid", &["--wait", "sh", "script"]));
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        world.read("state").starts_with('T'),
        "the stopped process was continued: {}",
        world.read("state")
    );
    assert!(!world.has_file("log"));
}
