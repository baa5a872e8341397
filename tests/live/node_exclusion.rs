//! Unsuitable nodes and settings: replicas, Redis Cluster nodes, bad passwords, missing permissions, full
//! memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorlock::error::ConnectError;
use quorlock::event::Event;
use quorlock::node::{ExclusionReason, NodeReply, NodeState, ReplyFailure};
use quorlock::{AcquireError, Mode, Redlock};
use quorlock_chaos::{LinkRules, MovableAddress, Proxy, Server, Setup};

use crate::support::{
    LockCluster, blank_servers, builder, client, eventually, fenced, fenced_with_max_ttl, is_up, plain, secs,
    with_setup,
};

#[tokio::test]
async fn one_server_under_two_urls_is_rejected() {
    let fleet = blank_servers(2);
    let duplicate = format!("redis://localhost:{}", fleet[0].port());
    let urls = [fleet[0].url(), fleet[1].url(), duplicate];
    let result = Redlock::builder().nodes(urls).connect().await;
    let Err(ConnectError::InvalidNodeList { reason, .. }) = result else {
        panic!("expected InvalidNodeList, got {result:?}")
    };
    assert!(reason.to_string().contains("same server"), "{reason}");
}

/// The address may lead to that server only for a while. The server casts one vote, through whichever address was
/// reached first.
#[tokio::test]
async fn an_address_that_leads_to_another_node_is_left_out_while_a_quorum_votes() {
    for (wrong, right) in [(0, 1), (1, 0)] {
        let mut fleet = blank_servers(3);
        let mut addresses: Vec<_> =
            (0..3).map(|node| MovableAddress::of(&fleet[node]).expect("a port")).collect();
        let urls: Vec<String> = addresses.iter().map(MovableAddress::url).collect();
        let builder = || Redlock::builder().nodes(urls.clone());
        builder().initialize().await.expect("blank servers");
        addresses[wrong].move_to(&fleet[right]);
        let redlock = builder().connect().await.expect("two of three servers");
        let guard = redlock.mutex("k").acquire().await.expect("free");
        let states: Vec<_> = redlock.node_status().await.into_iter().map(|node| node.state).collect();
        let is_duplicate =
            |state: &&NodeState| matches!(state, NodeState::Excluded(ExclusionReason::DuplicateServer(_)));
        assert_eq!(states.iter().filter(is_duplicate).count(), 1, "{states:?}");
        let keys = |node: usize| fleet[node].command::<usize>(&["EXISTS", "k"]).expect("a reply");
        assert_eq!([wrong, right, 2].map(keys), [0, 1, 1]);
        guard.release().await.expect("held until then");
        // Two of the three addresses lead to one server: no quorum is left, whatever they say.
        fleet[2].pause();
        let alone = builder().connect_timeout(secs(1)).connect().await;
        fleet[2].resume();
        assert!(matches!(alone, Err(ConnectError::NoQuorum { .. })), "{alone:?}");
    }
}

/// Otherwise one server casts two votes.
#[tokio::test]
async fn a_node_that_returns_while_another_url_reaches_its_server_is_excluded() {
    let fleet = blank_servers(2);
    let proxies = [(); 2].map(|()| Proxy::in_front_of(&fleet[0], 1).expect("a port"));
    let urls = [proxies[0].url(0), proxies[1].url(0), fleet[1].url()];
    proxies[1].set(0, LinkRules::PARTITIONED);
    let redlock = Redlock::builder().nodes(urls).mode(Mode::Plain).connect().await.expect("nodes 0 and 2");
    let states =
        || async { redlock.node_status().await.into_iter().map(|node| node.state).collect::<Vec<_>>() };
    let switch = |down: usize, up: usize| {
        proxies[down].set(0, LinkRules::PARTITIONED);
        proxies[down].reset(0);
        proxies[up].set(0, LinkRules::OPEN);
        proxies[up].reset(0);
    };
    switch(0, 1);
    eventually("node 1 is up", || async { states().await[1] == NodeState::Up }).await;
    proxies[0].set(0, LinkRules::OPEN);
    let duplicate = NodeState::Excluded(ExclusionReason::DuplicateServer(1));
    eventually("node 0 is dialed again", || async {
        !matches!(states().await[0], NodeState::Down { .. } | NodeState::Connecting)
    })
    .await;
    assert_eq!(states().await[..2], [duplicate, NodeState::Up]);
}

#[tokio::test]
async fn a_redis_cluster_node_is_rejected() {
    // A Redis Cluster bus listens 10,000 ports above, so ports above 55535 fail; Redis 6.2 has no setting for
    // it.
    let setup = Setup::new().args(["--cluster-enabled", "yes"]);
    let cluster = (0..50).find_map(|_| Server::start(&setup).ok()).expect("server starts");
    let fleet = blank_servers(2);
    let urls = [fleet[0].url(), cluster.url(), fleet[1].url()];
    let result = Redlock::builder().nodes(urls).connect().await;
    assert!(matches!(result, Err(ConnectError::InvalidNodeList { .. })), "{result:?}");
}

#[tokio::test]
async fn a_replica_is_excluded_until_it_is_a_master_again() {
    let fleet = fenced_with_max_ttl(3, secs(2));
    // The master is not one of the nodes, because a server takes a new replication id when it gets its first
    // replica.
    let master = blank_servers(1);
    let master = master[0].port().to_string();
    fleet[1].command::<()>(&["REPLICAOF", "127.0.0.1", &master]).expect("demoted");
    let redlock = builder(&fleet).connect().await.expect("two of three");
    assert_eq!(redlock.node_status().await[1].state, NodeState::Excluded(ExclusionReason::Replica));
    let guard = redlock.mutex("k").acquire().await.expect("two of three");
    guard.release().await.expect("released");
    fleet[1].command::<()>(&["REPLICAOF", "NO", "ONE"]).expect("promoted");
    eventually("the node votes again", || async { is_up(&redlock.node_status().await[1]) }).await;
}

#[tokio::test]
async fn a_node_demoted_after_connect_casts_no_vote() {
    let fleet = fenced(3);
    let redlock = client(&fleet).await;
    let master = blank_servers(1);
    let master = master[0].port().to_string();
    fleet[2].command::<()>(&["REPLICAOF", "127.0.0.1", &master]).expect("demoted");
    eventually("the node is excluded", || async {
        let guard = redlock.mutex("k").acquire().await.expect("two of three");
        guard.release().await.expect("released");
        redlock.node_status().await[2].state == NodeState::Excluded(ExclusionReason::Replica)
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_fails_at_once_and_is_never_shown() {
    let fleet = with_setup(3, &Setup::new().password("s3cret"), true);
    let urls = |password: &str| -> Vec<String> {
        let ports = fleet.servers().iter().map(Server::port);
        ports.map(|port| format!("redis://:{password}@127.0.0.1:{port}")).collect()
    };
    let builder = |urls: Vec<String>| Redlock::builder().mode(Mode::Plain).nodes(urls);
    let bad = builder(urls("wr0ng"));
    assert!(!format!("{bad:?}").contains("wr0ng"));
    let error = bad.connect().await.expect_err("wrong password");
    assert!(matches!(error, ConnectError::NodesExcluded { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("wr0ng"));

    let good = builder(urls("s3cret")).connect().await.expect("connected");
    assert!(!format!("{good:?} {:?}", good.node_status().await).contains("s3cret"));
    let lazy = builder(urls("wr0ng")).connect_lazy().expect("built");
    let error = lazy.mutex("k").acquire().await.expect_err("fails without waiting");
    assert!(matches!(error, AcquireError::NodesExcluded { .. }), "{error:?}");

    let default_password = builder(fleet.urls()).password("s3cret");
    drop(default_password.connect().await.expect("accepts the password of the builder"));

    let mixed = [urls("s3cret")[0].clone(), urls("wr0ng")[1].clone(), urls("s3cret")[2].clone()];
    let mixed = builder(mixed.to_vec()).connect().await.expect("two of three nodes accept the password");
    drop(mixed.mutex("k").acquire().await.expect("two of three"));
    assert!(matches!(
        &mixed.node_status().await[1].state,
        NodeState::Excluded(ExclusionReason::AuthFailed(_))
    ));
}

#[tokio::test]
async fn a_user_with_only_the_required_permissions_can_lock() {
    let permissions = "on >pw resetkeys ~lock:* resetchannels -@all +set +get +del +pexpire +pttl +eval +evalsha \
                  +script|load +info +client|setname";
    check_permissions(plain(3), permissions).await;
    check_permissions(fenced(3), &format!("{permissions} +time ~quorlock:*")).await;
}

/// A user with these permissions can lock; without one of them the node is excluded.
async fn check_permissions(fleet: LockCluster, permissions: &str) {
    for server in fleet.servers() {
        let args: Vec<&str> =
            ["ACL", "SETUSER", "locker"].into_iter().chain(permissions.split(' ')).collect();
        server.command::<()>(&args).expect("ACL user created");
    }
    let redlock = builder(&fleet).username("locker").password("pw").connect().await.expect("connected");
    let guard = redlock.mutex("lock:a").acquire().await.expect("its own keys");
    guard.extend(secs(20)).await.expect("renewed");
    guard.release().await.expect("released");
    let error = redlock.mutex("other").acquire().await.expect_err("no permission for the key");
    let AcquireError::NodesExcluded { replies, .. } = error else {
        panic!("expected NodesExcluded, got {error:?}")
    };
    assert!(
        replies
            .iter()
            .any(|(_, reply)| matches!(reply, NodeReply::Excluded(ExclusionReason::PermissionDenied(_)))),
        "{replies}"
    );

    for server in fleet.servers() {
        server.command::<()>(&["ACL", "SETUSER", "locker", "-script"]).expect("changed");
    }
    let redlock = builder(&fleet).username("locker").password("pw").connect().await.expect("connected");
    let guard = redlock.mutex("lock:a").acquire().await.expect("its own keys");
    guard.release().await.expect("scripts are sent as text");

    for server in fleet.servers() {
        server.command::<()>(&["ACL", "SETUSER", "locker", "-eval"]).expect("changed");
    }
    let result = builder(&fleet).username("locker").password("pw").connect().await;
    assert!(
        matches!(result, Err(ConnectError::NodesExcluded { .. })),
        "a user without EVAL must not lock: {result:?}"
    );
}

#[tokio::test]
async fn a_node_with_full_memory_casts_no_vote_and_still_releases() {
    for fleet in [fenced(3), plain(3)] {
        let redlock = client(&fleet).await;
        let guard = redlock.mutex("k").acquire().await.expect("free");
        for server in fleet.servers() {
            server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).expect("set");
        }
        let error =
            redlock.mutex("other").wait_timeout(Duration::ZERO).acquire().await.expect_err("memory is full");
        let AcquireError::NoQuorum { replies, .. } = error else {
            panic!("expected NoQuorum, got {error:?}")
        };
        let full = |reply: &NodeReply| matches!(reply, NodeReply::Failed(ReplyFailure::TransientError(args)) if args.contains("OOM"));
        assert!(replies.iter().any(|(_, reply)| full(reply)), "{replies}");
        guard.release().await.expect("deleting needs no room");
    }
}

#[tokio::test]
async fn a_plain_client_warns_of_evicting_nodes_and_an_even_number_of_nodes() {
    let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
    let evicting = Setup::new().args(["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"]);
    let fleet = with_setup(2, &evicting, true);
    let listener = Arc::clone(&warnings);
    let redlock = builder(&fleet)
        .on_event(move |event: &Event| {
            let warning = match event {
                Event::NodeWarning { warning, .. } => warning.to_string(),
                Event::Warning { warning, .. } => warning.to_string(),
                _ => return,
            };
            listener.lock().expect("not poisoned").push(warning);
        })
        .connect()
        .await
        .expect("a warning does not prevent connecting");
    eventually("both nodes are up", || async { redlock.node_status().await.iter().all(is_up) }).await;
    let warnings = warnings.lock().expect("not poisoned").clone();
    assert!(warnings.iter().any(|warning| warning.contains("even number")), "{warnings:?}");
    assert_eq!(warnings.iter().filter(|warning| warning.contains("noeviction")).count(), 2, "{warnings:?}");
}

#[tokio::test]
async fn a_server_that_is_not_redis_is_excluded() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let url = format!("redis://127.0.0.1:{port}");
    let result = Redlock::builder().nodes([url]).connect().await;
    assert!(matches!(result, Err(ConnectError::NodesExcluded { .. })), "{result:?}");
}
