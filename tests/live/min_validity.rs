//! The minimum validity: an attempt whose replies took too long fails and leaves no key.

use std::time::Duration;

use quorlock::node::NodeReplies;
use quorlock::{AcquireError, Mutex, Redlock};
use quorlock_chaos::{LinkRules, Proxy, Server};

use crate::support::{
    LockCluster, builder, client, eventually, fenced, is_voting, key_count, millis, plain, secs,
};

/// With the allowed clock drift a new lock is valid for 59.4 s.
const TTL: Duration = secs(60);
const MIN_VALIDITY: Duration = secs(59);
/// In each direction. Two of them leave less than the minimum.
const DELAY: Duration = millis(300);

/// Proxies that delay all traffic from the first byte on.
fn delaying_proxies(cluster: &LockCluster) -> Vec<Proxy> {
    let proxy = |server: &Server| {
        let proxy = Proxy::in_front_of(server, 1).expect("a port");
        proxy.set(0, LinkRules::delayed(DELAY, Duration::ZERO));
        proxy
    };
    cluster.servers().iter().map(proxy).collect()
}

fn mutex(redlock: &Redlock) -> Mutex {
    redlock.mutex("k").ttl(TTL).attempt_timeout(secs(10)).min_validity(MIN_VALIDITY)
}

#[tokio::test]
async fn an_attempt_that_leaves_too_little_validity_fails_and_leaves_no_key() {
    for cluster in [fenced(3), plain(3)] {
        let near = client(&cluster).await;
        // It retries while the machine is too slow.
        let guard = mutex(&near).wait_timeout(secs(20)).acquire().await.expect("free");
        assert!(guard.remaining() > secs(50));
        assert!(guard.release().await.expect("held until then").confirmed);
        near.shutdown(secs(20)).await.expect("no pending release");

        let proxies = delaying_proxies(&cluster);
        let far = builder(&cluster)
            .nodes(proxies.iter().map(|proxy| proxy.url(0)))
            .dial_timeout(secs(20))
            .connect_timeout(secs(20))
            .reply_timeout(secs(10));
        let far = far.connect().await.expect("all nodes are up");
        eventually("every node votes", || async { far.node_status().await.iter().all(is_voting) }).await;
        let outcomes = [
            mutex(&far).wait_timeout(Duration::ZERO).acquire().await.map(Some),
            mutex(&far).try_acquire().await,
            mutex(&far).try_acquire_for(millis(1)).await,
        ];
        for outcome in outcomes {
            let error = outcome.expect_err("less than the minimum is left");
            assert!(matches!(error, AcquireError::TooLate { .. }) && error.is_retryable(), "{error:?}");
            assert_eq!(error.replies().map(NodeReplies::len), Some(3), "{error:?}");
        }
        // It would stay for the ttl.
        eventually("no key is left", || async { key_count(&cluster) == 0 }).await;
        // Without a minimum the same delay is accepted.
        let guard =
            mutex(&far).min_validity(Duration::ZERO).try_acquire().await.expect("in time").expect("free");
        assert!(guard.is_valid() && guard.remaining() < MIN_VALIDITY);
        guard.release().await.expect("held until then");
        far.shutdown(secs(20)).await.expect("no pending release");
        assert_eq!(key_count(&cluster), 0);
    }
}
