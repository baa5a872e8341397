//! Measures how locks end: a holder dies while another process waits; no node replies and the holder gets the
//! lost signal.

use std::thread;
use std::time::{Duration, Instant};

use quorlock::Redlock;
use quorlock_chaos::Server;
use tokio::time::{sleep, timeout};

use crate::Outcome;
use crate::bench::{Bench, TIMEOUT, start, with_peer_name};
use crate::metrics;
use crate::peer::Part;
use crate::stats::median;
use crate::worker::{Request, Threads};

pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    let peers = bench.peers(Part::Takeover);
    let urls = bench.new_lock_cluster(5)?;
    for peer in &peers {
        let key = "held:by-dead-holder".to_owned();
        let acquire = Request::Acquire { key: key.clone(), ttl: TTL };
        let mut holder = start(peer, Threads::All, &urls)?;
        let mut waiter = start(peer, Threads::All, &urls)?;
        waiter
            .request(&Request::Untimed { ops: 1 }, TIMEOUT)
            .map_err(|error| with_peer_name(peer, &error))?;
        holder.request(&acquire, TIMEOUT).map_err(|error| with_peer_name(peer, &error))?;
        waiter.send(&acquire)?;
        // The holder renews in this time, if its client renews.
        thread::sleep(TTL / 2);
        holder.kill()?;
        let measured_at = Instant::now();
        let ttls = bench.fleet.servers()[..5]
            .iter()
            .map(|server| Ok(server.command::<i64>(&["PTTL", &key])? as f64));
        let until_expiry =
            Duration::from_secs_f64(median(ttls.collect::<Outcome<Vec<_>>>()?).max(0.0) / 1000.0);
        waiter.receive(TIMEOUT).map_err(|error| with_peer_name(peer, &error))?;
        let delay = Instant::now().saturating_duration_since(measured_at + until_expiry);
        bench.store.record(metrics::TAKEOVER, &peer.name, delay.as_secs_f64() * 1000.0);
        waiter.request(&Request::ReleaseAll, TIMEOUT).map_err(|error| with_peer_name(peer, &error))?;
        waiter.end()?;
    }
    measure_lost_signal(bench)
}

/// Measures how many milliseconds before its deadline a lock that cannot be renewed is reported lost.
fn measure_lost_signal(bench: &mut Bench) -> Outcome<()> {
    let urls = bench.new_lock_cluster(5)?;
    let Bench { fleet, runtime, store, .. } = bench;
    let lead = runtime.block_on(async {
        let client = Redlock::builder().nodes(urls).mode(quorlock::Mode::Plain).connect().await?;
        let guard = client.mutex("bench:quorlock:lost").ttl(TTL).acquire().await?;
        fleet.servers_mut().iter_mut().for_each(Server::pause);
        // Replies in flight may still renew the lock.
        sleep(Duration::from_millis(100)).await;
        let deadline = Instant::now() + guard.remaining();
        let is_reported = timeout(TTL * 3, guard.lost()).await.is_ok();
        let now = Instant::now();
        fleet.servers_mut().iter_mut().for_each(Server::resume);
        if !is_reported {
            return Err("the lost lock was not reported".into());
        }
        drop(guard);
        client.shutdown(TTL).await?;
        let lead = deadline.saturating_duration_since(now).as_secs_f64();
        Outcome::Ok(if lead > 0.0 { lead } else { -(now - deadline).as_secs_f64() })
    })?;
    store.record(metrics::LOST_SIGNAL_LEAD, "quorlock", lead * 1000.0);
    Ok(())
}

const TTL: Duration = Duration::from_secs(1);
