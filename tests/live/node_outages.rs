//! Dead, paused and restarted nodes: locks work while a quorum is up.

use quorlock::error::ConnectError;
use quorlock::node::{NodeReply, NodeState, ReplyFailure};
use quorlock::{AcquireError, Redlock};
use quorlock_chaos::{Data, Server};
use tokio::time::{Instant, timeout};

use crate::support::{
    builder, client, eventually, fenced, fenced_with_max_ttl, initialize, is_up, is_voting, key_count,
    millis, plain, secs,
};

/// Acquires and releases 200 locks in 30 s. A client that waited for the missing node once per lock would
/// take longer.
async fn many_locks(redlock: &Redlock) {
    let all = async {
        for name in 0..200 {
            let guard = redlock.mutex(format!("k{name}")).acquire().await.expect("a quorum is up");
            guard.release().await.expect("a quorum confirms");
        }
    };
    timeout(secs(30), all).await.expect("a missing node costs no time");
}

#[tokio::test]
async fn a_node_killed_or_paused_before_connect_costs_no_time() {
    for fault in [Server::kill, Server::pause] {
        let mut fleet = fenced(5);
        fault(&mut fleet[1]);
        let redlock = builder(&fleet).connect().await.expect("four of five");
        many_locks(&redlock).await;
        fleet[1].restart(Data::Kept).expect("restarted");
        eventually("the node is reconnected", || async { redlock.node_status().await.iter().all(is_up) })
            .await;
        redlock.shutdown(secs(10)).await.expect("no pending release");
        assert_eq!(key_count(&fleet), 0);
    }
}

#[tokio::test]
async fn a_node_killed_or_paused_after_connect_costs_no_time() {
    for fault in [Server::kill, Server::pause] {
        let mut fleet = fenced(5);
        let redlock = client(&fleet).await;
        fault(&mut fleet[3]);
        many_locks(&redlock).await;
        fleet[3].resume();
        if !fleet[3].is_running() {
            fleet[3].restart(Data::Kept).expect("restarted");
        }
        redlock.shutdown(secs(10)).await.expect("no pending release");
        assert_eq!(key_count(&fleet), 0);
    }
}

#[tokio::test]
async fn a_wait_without_a_quorum_fails_and_locks_are_granted_when_the_quorum_is_back() {
    for (fault, mut fleet) in [
        (Server::kill as fn(&mut Server), fenced_with_max_ttl(5, secs(2))),
        (Server::pause, fenced(5)),
        (Server::kill, plain(5)),
    ] {
        let redlock = client(&fleet).await;
        fleet.servers_mut()[..3].iter_mut().for_each(fault);
        let began = Instant::now();
        let error = redlock
            .mutex("k")
            .wait_timeout(secs(1))
            .acquire()
            .await
            .expect_err("two of five nodes are no quorum");
        assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
        let AcquireError::NoQuorum { replies, .. } = error else {
            panic!("expected NoQuorum, got {error:?}")
        };
        assert!(replies.iter().filter(|(_, reply)| matches!(reply, NodeReply::Failed(_))).count() >= 3);

        let waiting = tokio::spawn({
            let redlock = redlock.clone();
            async move { redlock.mutex("k").acquire().await }
        });
        for server in &mut fleet.servers_mut()[..3] {
            server.resume();
            if !server.is_running() {
                server.restart(Data::Kept).expect("restarted");
            }
        }
        let guard =
            timeout(secs(20), waiting).await.expect("ends in time").expect("no panic").expect("granted");
        assert!(guard.is_valid());
        drop(guard);
        redlock.shutdown(secs(10)).await.expect("no pending release");
        assert_eq!(key_count(&fleet), 0);
    }
}

#[tokio::test]
async fn all_nodes_restarted_one_by_one_are_reconnected() {
    for mut fleet in [fenced_with_max_ttl(3, secs(1)), plain(3)] {
        let redlock = client(&fleet).await;
        for node in 0..3 {
            fleet[node].restart(Data::Kept).expect("restarted");
            let guard = redlock.mutex("k").wait_timeout(secs(10)).acquire().await.expect("a quorum is up");
            guard.release().await.expect("a quorum confirms");
            eventually("it votes again", || async { redlock.node_status().await.iter().all(is_voting) })
                .await;
        }
    }
}

#[tokio::test]
async fn a_failed_connect_reports_the_state_of_each_node() {
    let mut fleet = fenced(3);
    fleet[0].kill();
    fleet[2].pause();
    let began = Instant::now();
    let startup = builder(&fleet).connect_timeout(millis(1500)).connect().await;
    assert!(began.elapsed() < secs(5));
    let Err(ConnectError::NoQuorum { nodes, .. }) = startup else {
        panic!("expected NoQuorum, got {startup:?}")
    };
    assert!(
        matches!(&nodes[0].state, NodeState::Down { reason: cause, .. } if cause.contains("refused")),
        "{nodes:?}"
    );
    assert_eq!(nodes[1].state, NodeState::Up, "one node cannot serve a lock, but knows its roster");
    assert!(
        matches!(&nodes[2].state, NodeState::Down { reason: cause, .. } if cause.contains("no reply")),
        "{nodes:?}"
    );
}

#[tokio::test]
async fn a_lazy_client_starts_without_nodes_and_fails_at_the_first_attempt() {
    let mut fleet = fenced(3);
    let redlock = builder(&fleet).connect_lazy().expect("built");
    let guard = redlock.mutex("k").try_acquire().await.expect("waits for the dials");
    drop(guard.expect("free"));
    fleet.servers_mut().iter_mut().for_each(Server::kill);
    let redlock = builder(&fleet).connect_lazy().expect("built");
    let error = redlock.mutex("k").try_acquire().await.expect_err("no node is up");
    let AcquireError::NoQuorum { replies, .. } = error else { panic!("expected NoQuorum, got {error:?}") };
    assert!(
        replies.iter().all(|(_, reply)| matches!(reply, NodeReply::Failed(ReplyFailure::Disconnected(_)))),
        "{replies}"
    );
}

#[tokio::test]
async fn a_node_can_be_reached_by_a_unix_socket() {
    let setup = quorlock_chaos::Setup::new().unix_socket(true);
    let server = Server::start(&setup).expect("server starts");
    let path = server.unix_socket().expect("present");
    let builder = Redlock::builder().nodes([format!("unix:{}", path.display())]);
    initialize(builder.clone());
    let redlock = builder.connect().await.expect("up");
    let guard = redlock.mutex("k").acquire().await.expect("free");
    assert!(server.command::<bool>(&["EXISTS", "k"]).expect("a reply"));
    guard.release().await.expect("released");
}
