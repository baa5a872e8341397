//! Redis-like servers and servers without certain commands: which are excluded, and the reported reason.

use std::sync::{Arc, Mutex};

use quorlock::error::ConnectError;
use quorlock::event::Event;
use quorlock::node::NodeState;
use quorlock::{AcquireError, Redlock, RedlockBuilder};
use quorlock_chaos::{Server, Setup};

use crate::emulated_server::profiles::{DRAGONFLY, GARNET, PASS, SERVICES, Verdict};
use crate::emulated_server::{EmulatedServer, ServerProfile};
use crate::support::{eventually, initialize, is_up, secs};

fn builder_for(url: &str) -> RedlockBuilder {
    Redlock::builder().nodes([url.to_owned()])
}

/// Connecting fails at once because the node is excluded, and the reason contains all of these texts.
async fn check_excluded(builder: RedlockBuilder, texts: &[&str]) {
    let reason = match builder.connect().await {
        Err(ConnectError::NodesExcluded { nodes, .. }) => match &nodes[0].state {
            NodeState::Excluded(reason) => reason.to_string(),
            state => panic!("not excluded: {state:?}"),
        },
        // The list is wrong: no fix on the node helps.
        Err(ConnectError::InvalidNodeList { reason, .. }) => reason.to_string(),
        other => panic!("expected an exclusion, got {other:?}"),
    };
    for text in texts {
        assert!(reason.contains(text), "{reason} does not contain {text:?}");
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

fn plain(url: &str) -> RedlockBuilder {
    builder_for(url).mode(quorlock::Mode::Plain)
}

/// `doctor` on the same services: the command's tests.
#[tokio::test]
async fn each_service_serves_both_modes_or_is_excluded_with_words() {
    for service in SERVICES {
        println!("{}", service.name);
        let emulated = EmulatedServer::start(service.profile);
        let url = emulated.url();
        match service.verdict {
            Verdict::Works => {
                initialize(builder_for(&url));
                check_locks(builder_for(&url), emulated.server()).await;
                check_locks(plain(&url), emulated.server()).await;
            }
            Verdict::Plain(texts) => {
                check_excluded(builder_for(&url), texts).await;
                check_locks(plain(&url), emulated.server()).await;
            }
            Verdict::Excluded(texts) => {
                check_excluded(builder_for(&url), texts).await;
                check_excluded(plain(&url), texts).await;
            }
        }
    }
}

#[tokio::test]
async fn the_server_of_an_excluded_node_is_named() {
    let server = Server::start(&setup_without("EVAL")).expect("server starts");
    let redlock = builder_for(&server.url()).connect_lazy().expect("valid");
    let nodes = redlock.node_status().await;
    assert!(matches!(nodes[0].state, NodeState::Excluded(_)), "{nodes:?}");
    assert!(nodes[0].server.as_ref().is_some_and(|server| !server.version.is_empty()), "{nodes:?}");
}

#[tokio::test]
async fn a_proxy_that_keeps_the_connection_while_the_server_restarts_is_recognized() {
    let emulated = EmulatedServer::start(GARNET);
    // The marker is read every half second.
    let builder = || builder_for(&emulated.url()).max_ttl(secs(2));
    initialize(builder());
    let excluded = Arc::new(Mutex::new(Vec::new()));
    let reasons = Arc::clone(&excluded);
    let on_event = move |event: &Event| {
        if let Event::NodeExcluded { reason, .. } = event {
            reasons.lock().expect("no panic").push(reason.to_string());
        }
    };
    let redlock = builder().on_event(on_event).connect().await.expect("connected");
    emulated.change_info("run_id:4b1f6d7a", "run_id:5c2f6d7a");
    eventually("the node is excluded", || async { !excluded.lock().expect("no panic").is_empty() }).await;
    assert!(excluded.lock().expect("no panic")[0].contains("a proxy"), "{excluded:?}");
    redlock.shutdown(secs(1)).await.expect("nothing is held");
}

/// A lock is granted; the change is made; a new client finds the node on probation.
async fn check_probation_after(emulated: EmulatedServer, change: impl FnOnce(&EmulatedServer)) {
    let builder = || builder_for(&emulated.url()).max_ttl(secs(60));
    initialize(builder());
    let before = builder().connect().await.expect("connected");
    let guard = before.mutex("k").try_acquire().await.expect("a quorum").expect("free");
    change(&emulated);
    let after = builder().connect_lazy().expect("valid");
    let acquired = after.mutex("other").wait_timeout(secs(2)).acquire().await;
    assert!(acquired.is_err(), "a lock on a node that may have lost data: {acquired:?}");
    let nodes = after.node_status().await;
    assert!(is_up(&nodes[0]) && nodes[0].probation.is_some(), "{nodes:?}");
    drop(guard);
}

#[tokio::test]
async fn the_clock_of_a_server_whose_info_has_no_time_is_read_by_script() {
    let emulated = EmulatedServer::start(DRAGONFLY);
    initialize(builder_for(&emulated.url()));
    let redlock = builder_for(&emulated.url()).connect().await.expect("connected");
    let offset = redlock.node_status().await[0].clock_offset_micros.expect("known");
    // The same machine; the error is half of the handshake, which the dial timeout bounds.
    assert!(offset.unsigned_abs() < 1_000_000, "{offset}");
}

#[tokio::test]
async fn a_restart_of_dragonfly_is_detected_by_its_replication_id() {
    check_probation_after(EmulatedServer::start(DRAGONFLY), |emulated| {
        emulated.change_info("master_replid:c7a9e3b0", "master_replid:d8bafd41");
        emulated.disconnect();
    })
    .await;
}

#[tokio::test]
async fn a_change_of_role_of_dragonfly_is_detected_on_a_living_connection() {
    // It was a replica for a moment, and is a master again with the data of the other. A later version may have a
    // run id.
    for run_id in ["", "run_id:4b1f6d7a9c3e58b20d6f7a1c4e9b3d5f8a2c6e0b\n"] {
        let emulated = EmulatedServer::start(DRAGONFLY);
        emulated.change_info("process_id:1\n", &format!("process_id:1\n{run_id}"));
        check_probation_after(emulated, |emulated| {
            emulated.change_info("cmdstat_GET:", "cmdstat_REPLICAOF:calls=2,usec=9\ncmdstat_GET:");
        })
        .await;
    }
}

#[tokio::test]
async fn keys_that_garnet_has_dropped_are_detected_by_the_addresses_of_its_log() {
    check_probation_after(EmulatedServer::start(GARNET), |emulated| {
        emulated.change_info("Log.HeadAddress:64", "Log.HeadAddress:33554432");
    })
    .await;
}

#[tokio::test]
async fn a_server_whose_ids_do_not_show_a_change_of_role_is_excluded() {
    // With a run id, but a constant replication id: only Garnet has no roles.
    let emulated = EmulatedServer::start(ServerProfile { info: CONSTANT_REPLICATION_ID, ..PASS });
    check_excluded(builder_for(&emulated.url()), &["lacks master_replid"]).await;
    // Without the addresses of its log, keys that Garnet drops would go unnoticed.
    let emulated = EmulatedServer::start(GARNET);
    emulated.change_info("Log.HeadAddress:64\n", "");
    check_excluded(builder_for(&emulated.url()), &["lacks Log.HeadAddress"]).await;
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
    check(&EmulatedServer::start(ServerProfile { missing: &["INFO"], ..PASS }).url(), "INFO").await;
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

const CONSTANT_REPLICATION_ID: &str = "# Server\nredis_version:7.0.0\nrun_id:4b1f6d7a9c3e58b20d6f7a1c4e9b3d5f8a2c6e0b\n\n\
                                       # Replication\nrole:master\n\
                                       master_replid:0000000000000000000000000000000000000000\n";
