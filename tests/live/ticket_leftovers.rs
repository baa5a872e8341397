//! What a lock that was handed over leaves on the nodes.

use quorlock_chaos::{DirectionRule, LinkRules, Proxy};

use crate::support::{builder, client, eventually, fenced, is_voting, millis, nodes_with_key, plain, secs};

/// The previous holder's requests reach one node after the adoption. Their key would block the name for a ttl, once
/// another node is down.
#[tokio::test]
async fn a_slow_link_of_the_previous_holder_leaves_no_key() {
    for mut cluster in [fenced(3), plain(3)] {
        let proxy = Proxy::in_front_of(&cluster[2], 1).expect("a port");
        let mut urls = cluster.urls();
        urls[2] = proxy.url(0);
        let slow = builder(&cluster).nodes(urls).connect().await.expect("a quorum");
        eventually("every node votes", || async { slow.node_status().await.iter().all(is_voting) }).await;
        proxy.set(0, LinkRules::delayed(millis(50), millis(0)));
        let fast = client(&cluster).await;
        let guard = slow.mutex("k").ttl(secs(15)).acquire().await.expect("free");
        let ticket = guard.into_ticket().await.expect("held");
        fast.adopt(&ticket).await.expect("held").release().await.expect("held until then");
        eventually("no node has the key", || async { nodes_with_key(&cluster, "k") == 0 }).await;
        slow.shutdown(secs(10)).await.expect("no pending release");
        cluster[0].kill();
        let next = fast.mutex("k").ttl(secs(5)).try_acquire().await.expect("a quorum");
        next.expect("free").release().await.expect("held until then");
    }
}

/// The adopter reaches one node only after the adoption.
#[tokio::test]
async fn a_node_that_the_adopter_did_not_reach_keeps_no_key() {
    for cluster in [fenced(3), plain(3)] {
        let holder = client(&cluster).await;
        let proxy = Proxy::in_front_of(&cluster[2], 1).expect("a port");
        let mut urls = cluster.urls();
        urls[2] = proxy.url(0);
        let adopter = builder(&cluster).nodes(urls).connect().await.expect("a quorum");
        eventually("every node votes", || async { adopter.node_status().await.iter().all(is_voting) }).await;
        let guard = holder.mutex("k").ttl(secs(15)).acquire().await.expect("free");
        eventually("every node has the key", || async { nodes_with_key(&cluster, "k") == 3 }).await;
        let ticket = guard.into_ticket().await.expect("held");
        let held_back = DirectionRule::HoldBack;
        proxy.set(0, LinkRules { to_server: held_back, to_client: held_back });
        let guard = adopter.adopt(&ticket).await.expect("a quorum of its keys is there");
        // What was held back is lost with the connection.
        proxy.reset(0);
        proxy.set(0, LinkRules::default());
        guard.release().await.expect("held until then");
        eventually("no node has the key", || async { nodes_with_key(&cluster, "k") == 0 }).await;
    }
}
