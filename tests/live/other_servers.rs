//! Redis-like servers and servers without certain commands: which are excluded, and the reported reason.

use quorlock::error::ConnectError;
use quorlock::node::{ExclusionReason, NodeState};
use quorlock::{AcquireError, Redlock, RedlockBuilder};
use quorlock_chaos::{Server, Setup};

use crate::emulated_server::{
    DRAGONFLY, ENTERPRISE, EmulatedServer, GARNET, KEYDB_ACTIVE, KVROCKS, PROXY, ServerProfile,
    VALKEY_SENTINEL,
};
use crate::support::{initialize, secs};

fn builder_for(url: &str) -> RedlockBuilder {
    Redlock::builder().nodes([url.to_owned()])
}

/// Connecting fails at once with `NodesExcluded`, and the reason contains all of these texts.
async fn check_excluded(builder: RedlockBuilder, texts: &[&str]) {
    let result = builder.connect().await;
    let Err(ConnectError::NodesExcluded { nodes, .. }) = &result else {
        panic!("expected NodesExcluded, got {result:?}")
    };
    let NodeState::Excluded(exclusion) = &nodes[0].state else { panic!("not excluded: {nodes:?}") };
    for text in texts {
        assert!(exclusion.to_string().contains(text), "{exclusion} does not contain {text:?}");
    }
}

/// A lock is acquired, renewed and released there, and leaves no key.
async fn check_locks(builder: RedlockBuilder, server: &Server) {
    let redlock = builder.connect().await.expect("connected");
    let guard = redlock.mutex("k").wait_timeout(secs(5)).acquire().await.expect("free");
    guard.extend(secs(20)).await.expect("renewed");
    guard.release().await.expect("released");
    assert!(!server.command::<bool>(&["EXISTS", "k"]).expect("a reply"));
}

#[tokio::test]
async fn a_server_without_a_run_id_is_excluded_in_fenced_mode_and_serves_plain_mode() {
    let cases: [(ServerProfile, &[&str], &str); 3] = [
        (DRAGONFLY, &["restart", "run_id", "plain mode"], "Dragonfly 1.31.0"),
        (KVROCKS, &["restart", "run_id", "plain mode"], "Kvrocks 2.9.0"),
        (ENTERPRISE, &["not allowed from script", "plain mode"], "Redis 7.4.0"),
    ];
    for (profile, texts, name) in cases {
        let emulated = EmulatedServer::start(profile);
        check_excluded(builder_for(&emulated.url()), texts).await;
        check_locks(builder_for(&emulated.url()).mode(quorlock::Mode::Plain), emulated.server()).await;
        let plain =
            builder_for(&emulated.url()).mode(quorlock::Mode::Plain).connect().await.expect("connected");
        let server = plain.node_status().await[0].server.clone().expect("it was reached");
        assert_eq!(server.to_string(), name);
    }
}

#[tokio::test]
async fn a_server_that_reports_no_memory_limit_is_not_excluded() {
    let emulated = EmulatedServer::start(GARNET);
    initialize(builder_for(&emulated.url()));
    check_locks(builder_for(&emulated.url()), emulated.server()).await;
}

#[tokio::test]
async fn a_server_that_is_no_master_is_excluded_in_both_modes() {
    let emulated = EmulatedServer::start(KEYDB_ACTIVE);
    for builder in [builder_for(&emulated.url()), builder_for(&emulated.url()).mode(quorlock::Mode::Plain)] {
        check_excluded(builder, &[&ExclusionReason::Replica.to_string()]).await;
    }
}

#[tokio::test]
async fn a_valkey_sentinel_is_excluded() {
    let emulated = EmulatedServer::start(VALKEY_SENTINEL);
    for builder in [builder_for(&emulated.url()), builder_for(&emulated.url()).mode(quorlock::Mode::Plain)] {
        check_excluded(builder, &["Sentinel"]).await;
    }
}

#[tokio::test]
async fn plain_mode_works_through_a_proxy_that_routes_by_key() {
    let emulated = EmulatedServer::start(PROXY);
    check_locks(builder_for(&emulated.url()).mode(quorlock::Mode::Plain), emulated.server()).await;
}

#[tokio::test]
async fn a_server_without_a_required_command_is_excluded_and_the_command_is_named() {
    let check = async |url: &str, command: &str| {
        for builder in [builder_for(url), builder_for(url).mode(quorlock::Mode::Plain)] {
            check_excluded(builder, &["a command is missing", command]).await;
        }
    };
    for command in ["EVAL", "EVALSHA"] {
        let server = Server::start(&setup_without(command)).expect("server starts");
        check(&server.url(), command).await;
    }
    // Starting a real server needs `INFO`, so this command is missing on an emulated one.
    check(&EmulatedServer::start(ServerProfile { missing: &["INFO"], ..PROXY }).url(), "INFO").await;
}

#[tokio::test]
async fn a_command_found_missing_at_the_first_acquire_excludes_the_node() {
    let server = Server::start(&setup_without("SET")).expect("server starts");
    let redlock = builder_for(&server.url())
        .mode(quorlock::Mode::Plain)
        .connect()
        .await
        .expect("the command was not sent yet");
    let error = redlock.mutex("k").wait_timeout(secs(5)).acquire().await.expect_err("fails without waiting");
    assert!(matches!(error, AcquireError::NodesExcluded { .. }), "{error:?}");
    assert!(error.to_string().contains("unknown command"), "{error}");
}

#[tokio::test]
async fn locks_work_without_optional_commands() {
    for command in ["SCRIPT", "CLIENT", "SUBSCRIBE", "PUBLISH", "HELLO"] {
        let server = Server::start(&setup_without(command)).expect("server starts");
        initialize(builder_for(&server.url()));
        check_locks(builder_for(&server.url()), &server).await;
        check_locks(builder_for(&server.url()).mode(quorlock::Mode::Plain), &server).await;
    }
}

fn setup_without(command: &str) -> Setup {
    Setup::new().args(["--rename-command", command, ""])
}
