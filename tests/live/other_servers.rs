//! Servers that are like Redis and are none, and servers that lack commands: told apart, and told why.

use quorlock::{AcquireError, ConnectError, ExclusionReason, NodeState, Redlock, RedlockBuilder};
use quorlock_chaos::{Server, Setup};

use crate::emulated_server::{
    DRAGONFLY, ENTERPRISE, GARNET, Guise, KEYDB_ACTIVE, KVROCKS, PROXY, StandIn, VALKEY_SENTINEL,
};
use crate::support::{initialize, secs};

fn over(url: &str) -> RedlockBuilder {
    Redlock::builder().nodes([url.to_owned()])
}

/// No lock is to be had there, and it is said at once that waiting does not help; why, in all of these words.
async fn check_barred(builder: RedlockBuilder, words: &[&str]) {
    let refused = builder.connect().await;
    let Err(ConnectError::NodesExcluded { nodes }) = &refused else {
        panic!("expected Refused, got {refused:?}")
    };
    let NodeState::Excluded(exclusion) = &nodes[0].state else { panic!("not barred: {nodes:?}") };
    for word in words {
        assert!(exclusion.to_string().contains(word), "{exclusion} does not say {word:?}");
    }
}

/// Locks are taken, renewed and released there, and nothing stays.
async fn check_locks(builder: RedlockBuilder, real: &Server) {
    let redlock = builder.connect().await.expect("let in");
    let guard = redlock.mutex("k").wait_timeout(secs(5)).acquire().await.expect("free");
    guard.extend(secs(20)).await.expect("renewed");
    guard.release().await.expect("released");
    assert!(!real.command::<bool>(&["EXISTS", "k"]).expect("asked"));
}

#[tokio::test]
async fn a_server_without_a_run_id_is_excluded_in_fenced_mode_and_serves_plain_mode() {
    let cases: [(Guise, &[&str], &str); 3] = [
        (DRAGONFLY, &["restart", "run_id", "plain mode"], "Dragonfly 1.31.0"),
        (KVROCKS, &["restart", "run_id", "plain mode"], "Kvrocks 2.9.0"),
        (ENTERPRISE, &["not allowed from script", "plain mode"], "Redis 7.4.0"),
    ];
    for (guise, words, name) in cases {
        let stand_in = StandIn::start(guise);
        check_barred(over(&stand_in.url()), words).await;
        check_locks(over(&stand_in.url()).plain(), stand_in.server()).await;
        let plain = over(&stand_in.url()).plain().connect().await.expect("let in");
        assert_eq!(plain.node_status().await[0].server, name);
    }
}

#[tokio::test]
async fn a_server_that_reports_no_memory_limit_is_not_excluded() {
    let stand_in = StandIn::start(GARNET);
    initialize(over(&stand_in.url()));
    check_locks(over(&stand_in.url()), stand_in.server()).await;
}

#[tokio::test]
async fn a_server_that_is_no_master_is_excluded_in_both_modes() {
    let stand_in = StandIn::start(KEYDB_ACTIVE);
    for builder in [over(&stand_in.url()), over(&stand_in.url()).plain()] {
        check_barred(builder, &[&ExclusionReason::Replica.to_string()]).await;
    }
}

#[tokio::test]
async fn a_valkey_sentinel_is_excluded() {
    let stand_in = StandIn::start(VALKEY_SENTINEL);
    for builder in [over(&stand_in.url()), over(&stand_in.url()).plain()] {
        check_barred(builder, &["Sentinel"]).await;
    }
}

#[tokio::test]
async fn plain_mode_works_through_a_proxy_that_routes_by_key() {
    let stand_in = StandIn::start(PROXY);
    check_locks(over(&stand_in.url()).plain(), stand_in.server()).await;
}

#[tokio::test]
async fn a_server_without_a_required_command_is_excluded_and_the_command_is_named() {
    let check = async |url: &str, command: &str| {
        for builder in [over(url), over(url).plain()] {
            check_barred(builder, &["a command is missing", command]).await;
        }
    };
    for command in ["EVAL", "EVALSHA"] {
        let server = Server::start(&renamed(command)).expect("started");
        check(&server.url(), command).await;
    }
    // By its INFO a real server is known to have started.
    check(&StandIn::start(Guise { missing: &["INFO"], ..PROXY }).url(), "INFO").await;
}

#[tokio::test]
async fn a_command_found_missing_at_the_first_acquire_excludes_the_node() {
    let server = Server::start(&renamed("SET")).expect("started");
    let redlock = over(&server.url()).plain().connect().await.expect("nobody has asked for it yet");
    let refused =
        redlock.mutex("k").wait_timeout(secs(5)).acquire().await.expect_err("waiting does not help");
    assert!(matches!(refused, AcquireError::NodesExcluded { .. }), "{refused:?}");
    assert!(refused.to_string().contains("unknown command"), "{refused}");
}

#[tokio::test]
async fn locks_work_without_optional_commands() {
    for command in ["SCRIPT", "CLIENT", "SUBSCRIBE", "PUBLISH", "HELLO"] {
        let server = Server::start(&renamed(command)).expect("started");
        initialize(over(&server.url()));
        check_locks(over(&server.url()), &server).await;
        check_locks(over(&server.url()).plain(), &server).await;
    }
}

fn renamed(command: &str) -> Setup {
    Setup::new().args(["--rename-command", command, ""])
}
