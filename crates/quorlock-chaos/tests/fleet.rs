//! Tests of servers and fleets: their faults, and their cleanup.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use quorlock_chaos::{Data, Fleet, MovableAddress, Server, Setup, StartError, redis};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};

#[test]
fn each_server_of_a_fleet_replies_on_its_own_port() {
    let mut fleet = Fleet::start(5).expect("a fleet");
    let mut ports: Vec<u16> = fleet.servers().iter().map(Server::port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 5);
    assert_eq!(fleet.nodes(), fleet.urls().join(","));
    for server in fleet.servers_mut() {
        assert!(server.is_running());
        assert_eq!(server.command::<String>(&["PING"]).expect("a reply"), "PONG");
        let bound: (String, String) = server.command(&["CONFIG", "GET", "bind"]).expect("a reply");
        assert_eq!(bound.1, "127.0.0.1");
    }
}

#[test]
fn kept_data_survives_a_kill_and_the_port_and_url_stay() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    let (url, first) = (server.url(), server.pid());
    set_value(&server, "before");
    server.kill();
    assert!(!server.is_running());
    assert_eq!(server.pid(), None);
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err(), "a dead server refuses connections");
    server.restart(Data::Kept).expect("a restart");
    assert_eq!(value(&server).as_deref(), Some("before"));
    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), first);
}

#[test]
fn a_restart_without_data_loses_all_data() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    set_value(&server, "before");
    server.restart(Data::Empty).expect("a restart of a running server");
    assert_eq!(value(&server), None);
}

#[test]
fn a_snapshot_can_be_restored_repeatedly() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    set_value(&server, "old");
    let snapshot = server.snapshot().expect("a snapshot");
    for _ in 0..2 {
        set_value(&server, "new");
        server.restart(Data::Old(snapshot.clone())).expect("a restart");
        assert_eq!(value(&server).as_deref(), Some("old"));
    }
}

#[test]
fn a_wiped_server_has_no_data_after_a_restart_either() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    set_value(&server, "before");
    server.wipe().expect("a reply");
    assert_eq!(value(&server), None);
    server.restart(Data::Kept).expect("a restart");
    assert_eq!(value(&server), None);
}

#[test]
fn a_second_swap_of_databases_brings_the_data_back() {
    let server = Server::start(&Setup::new()).expect("a server");
    set_value(&server, "before");
    server.swap_databases().expect("a reply");
    assert_eq!(value(&server), None);
    server.swap_databases().expect("a reply");
    assert_eq!(value(&server).as_deref(), Some("before"));
}

#[test]
fn a_server_that_was_demoted_and_promoted_has_the_data_of_the_master() {
    let fleet = Fleet::start(2).expect("a fleet");
    set_value(&fleet[0], "own");
    let (pid, run_id) = (fleet[0].pid(), run_id(&fleet[0]));
    fleet[0].demote(&fleet[1]).expect("a replica");
    let error = fleet[0].command::<()>(&["SET", "key", "value"]).expect_err("a replica rejects writes");
    assert_eq!(error.code(), Some("READONLY"));
    fleet[0].promote().expect("a master");
    assert_eq!(value(&fleet[0]), None);
    set_value(&fleet[0], "after");
    assert_eq!((fleet[0].pid(), self::run_id(&fleet[0])), (pid, run_id), "it is the same process");
}

#[test]
fn a_moved_address_leads_to_the_other_server_and_breaks_its_connections() {
    let fleet = Fleet::start(2).expect("a fleet");
    set_value(&fleet[0], "first");
    set_value(&fleet[1], "second");
    let mut address = MovableAddress::of(&fleet[0]).expect("an address");
    let dial = |address: &MovableAddress| redis::Client::open(address.url())?.get_connection();
    let get = |connection: &mut redis::Connection| redis::cmd("GET").arg("key").query::<String>(connection);
    let mut before = dial(&address).expect("a connection");
    assert_eq!(get(&mut before).expect("a reply"), "first");
    address.move_to(&fleet[1]);
    get(&mut before).expect_err("the connection is closed");
    let mut after = dial(&address).expect("a connection");
    assert_eq!(get(&mut after).expect("a reply"), "second");
    drop(address);
    get(&mut after).expect_err("the connection is closed");
}

#[test]
fn a_paused_server_does_not_reply_until_it_is_resumed() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    let mut connection = server.connect(Duration::from_millis(200)).expect("a connection");
    for _ in 0..3 {
        server.pause();
        let error = redis::cmd("PING").query::<String>(&mut connection).expect_err("no reply");
        assert!(error.is_timeout(), "{error}");
        assert!(server.is_running(), "paused is not dead");
        server.resume();
        connection = server.connect(Duration::from_secs(5)).expect("a connection");
        redis::cmd("PING").query::<String>(&mut connection).expect("a reply");
        connection.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    }
}

/// A thread that still ran could grant a lock after its server was recorded as paused.
#[cfg(target_os = "linux")]
#[test]
fn every_thread_is_stopped_when_the_pause_returns() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    let tasks = format!("/proc/{}/task", server.pid().expect("alive"));
    for _ in 0..100 {
        server.pause();
        for task in fs::read_dir(&tasks).expect("threads") {
            let stat = fs::read_to_string(task.expect("a thread").path().join("stat")).expect("its state");
            assert!(stat.contains(") T "), "{stat}");
        }
        server.resume();
    }
}

#[test]
fn a_paused_server_can_be_killed_and_restarted() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    set_value(&server, "before");
    server.pause();
    server.kill();
    server.pause();
    server.resume();
    assert!(!server.is_running());
    server.restart(Data::Kept).expect("a restart");
    assert_eq!(value(&server).as_deref(), Some("before"));
}

#[test]
fn a_server_that_ends_by_itself_is_found_dead() {
    let mut server = Server::start(&Setup::new()).expect("a server");
    server.command::<()>(&["SHUTDOWN", "NOSAVE"]).expect_err("it closes the connection without a reply");
    within_ten_seconds("found dead", || !server.is_running());
    assert_eq!(server.pid(), None);
    server.restart(Data::Kept).expect("a restart");
}

#[test]
fn the_settings_of_a_setup_are_applied() {
    let parent = tempfile::tempdir().expect("a temp folder");
    let setup = Setup::new()
        .dir(parent.path())
        .password("secret")
        .unix_socket(true)
        .append_only(false)
        .args(["--maxmemory-policy", "allkeys-lru"]);
    let mut server = Server::start(&setup).expect("a server");
    assert!(server.url().contains(":secret@"));
    assert!(server.dir().starts_with(parent.path()));
    UnixStream::connect(server.unix_socket().expect("a socket")).expect("a connection");
    let policy: (String, String) = server.command(&["CONFIG", "GET", "maxmemory-policy"]).expect("a reply");
    assert_eq!(policy.1, "allkeys-lru");
    set_value(&server, "before");
    server.restart(Data::Kept).expect("a restart");
    assert_eq!(value(&server), None, "no data was written to disk");
    drop(server);
    assert_eq!(fs::read_dir(parent.path()).expect("the folder").count(), 0);
}

#[test]
fn a_server_that_cannot_start_reports_its_output_and_leaves_nothing_behind() {
    let parent = tempfile::tempdir().expect("a temp folder");
    let setup = Setup::new().dir(parent.path());
    match Server::start(&setup.clone().args(["--no-such-option", "1"])) {
        Err(StartError::Ended { log }) => assert!(log.contains("no-such-option"), "{log}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(Fleet::start_with(2, &setup.binary("/no/such/server")), Err(StartError::Ended { .. })));
    assert_eq!(fs::read_dir(parent.path()).expect("the folder").count(), 0);
}

#[test]
fn nothing_is_left_after_the_drop_of_running_paused_and_dead_servers() {
    let mut fleet = Fleet::start(3).expect("a fleet");
    let traces = traces(&fleet);
    assert!(traces.iter().all(Trace::exists));
    fleet[0].pause();
    fleet[1].kill();
    drop(fleet);
    for trace in &traces {
        assert!(!trace.exists(), "{trace:?}");
    }
}

#[test]
fn nothing_is_left_after_a_panic() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let panicked = thread::spawn(move || {
        let fleet = Fleet::start(2).expect("a fleet");
        sender.send(traces(&fleet)).expect("a receiver");
        panic!("on purpose");
    });
    let traces = receiver.recv().expect("traces");
    panicked.join().expect_err("it panicked");
    assert!(!traces.iter().any(Trace::exists));
}

/// The test runs itself again as the parent, which is killed with its whole process group. Servers and
/// watchdogs must not be in that group.
#[test]
fn nothing_is_left_after_the_parent_is_killed() {
    if env::var_os(DOOMED).is_some() {
        live_until_killed();
    }
    let mut parent = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "nothing_is_left_after_the_parent_is_killed", "--nocapture"])
        .env(DOOMED, "1")
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("a process");
    let output = BufReader::new(parent.stdout.take().expect("its output"));
    let traces: Vec<Trace> =
        output.lines().map_while(Result::ok).filter_map(|line| Trace::read(&line)).take(3).collect();
    assert_eq!(traces.len(), 3);
    assert!(traces.iter().all(Trace::exists));
    kill_process_group(Pid::from_child(&parent), Signal::KILL).expect("a kill");
    parent.wait().expect("a dead process");
    within_ten_seconds("nothing is left", || !traces.iter().any(Trace::exists));
}

/// Runs three servers in the states that differ for a watchdog: restarted with another process id, paused,
/// dead.
fn live_until_killed() -> ! {
    let mut fleet = Fleet::start(3).expect("a fleet");
    fleet[0].restart(Data::Kept).expect("a restart");
    let traces = traces(&fleet);
    fleet[1].pause();
    fleet[2].kill();
    for trace in traces {
        println!("\n{DOOMED} {} {}", trace.pid, trace.dir.display());
    }
    loop {
        thread::park();
    }
}

/// What a server can leave behind: its process, its folder, and a watchdog with that folder on its command
/// line.
#[derive(Debug)]
struct Trace {
    pid: u32,
    dir: PathBuf,
}

impl Trace {
    fn read(line: &str) -> Option<Self> {
        let (pid, dir) = line.strip_prefix(DOOMED)?.trim().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, dir: dir.into() })
    }

    fn exists(&self) -> bool {
        is_alive(self.pid) || self.dir.exists() || is_named_by_a_process(&self.dir)
    }
}

fn traces(fleet: &Fleet) -> Vec<Trace> {
    let trace = |server: &Server| Trace { pid: server.pid().expect("alive"), dir: server.dir().to_owned() };
    fleet.servers().iter().map(trace).collect()
}

/// Whether the process is alive. A zombie is not: its new parent may be slow to reap it.
fn is_alive(pid: u32) -> bool {
    if !cfg!(target_os = "linux") {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        return pid.is_some_and(|pid| test_kill_process(pid).is_ok());
    }
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Whether a process has the folder on its command line, as the watchdog does.
fn is_named_by_a_process(dir: &Path) -> bool {
    let dir = dir.display().to_string();
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes
        .filter_map(Result::ok)
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(&dir))
}

fn set_value(server: &Server, value: &str) {
    server.command::<()>(&["SET", "key", value]).expect("a reply");
}

fn value(server: &Server) -> Option<String> {
    server.command(&["GET", "key"]).expect("a reply")
}

fn run_id(server: &Server) -> String {
    let info: String = server.command(&["INFO", "server"]).expect("a reply");
    info.lines().find(|line| line.starts_with("run_id:")).expect("its run id").to_owned()
}

/// Waits until the condition is true. Panics after 10 s.
fn within_ten_seconds(description: &str, mut is_true: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_true() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("not within 10 s: {description}");
}

const DOOMED: &str = "QUORLOCK_CHAOS_DOOMED";
