//! How locks end: a holder dies and another waits; all nodes fall silent and the holder is notified.

use std::thread;
use std::time::{Duration, Instant};

use quorlock::Redlock;
use quorlock_chaos::Server;
use tokio::time::{sleep, timeout};

use crate::Outcome;
use crate::bench::{Bench, PATIENCE, named, start};
use crate::figures::median;
use crate::peer::Part;
use crate::rows;
use crate::worker::{Request, Threads};

pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    let peers = bench.peers(Part::Takeover);
    let urls = bench.fresh(5)?;
    for peer in &peers {
        let key = "held:by-the-dead".to_owned();
        let take = Request::Take { key: key.clone(), ttl: TTL };
        let mut holder = start(peer, Threads::All, &urls)?;
        let mut waiter = start(peer, Threads::All, &urls)?;
        waiter.request(&Request::Work { ops: 1 }, PATIENCE).map_err(|trouble| named(peer, &trouble))?;
        holder.request(&take, PATIENCE).map_err(|trouble| named(peer, &trouble))?;
        waiter.tell(&take)?;
        // Long enough for a renewal, where there is one.
        thread::sleep(TTL / 2);
        holder.kill()?;
        let asked = Instant::now();
        let left = bench.fleet.servers()[..5]
            .iter()
            .map(|server| Ok(server.command::<i64>(&["PTTL", &key])? as f64));
        let third = Duration::from_secs_f64(median(left.collect::<Outcome<Vec<_>>>()?).max(0.0) / 1000.0);
        waiter.answer(PATIENCE).map_err(|trouble| named(peer, &trouble))?;
        let delay = Instant::now().saturating_duration_since(asked + third);
        bench.book.put(rows::TAKEOVER, &peer.name, delay.as_secs_f64() * 1000.0);
        waiter.request(&Request::Free, PATIENCE).map_err(|trouble| named(peer, &trouble))?;
        waiter.end()?;
    }
    lost(bench)
}

/// How long before its deadline a lock that cannot be renewed is reported lost, in milliseconds.
fn lost(bench: &mut Bench) -> Outcome<()> {
    let urls = bench.fresh(5)?;
    let Bench { fleet, runtime, book, .. } = bench;
    let lead = runtime.block_on(async {
        let client = Redlock::builder().nodes(urls).plain().connect().await?;
        let guard = client.mutex("bench:quorlock:lost").ttl(TTL).acquire().await?;
        fleet.servers_mut().iter_mut().for_each(Server::pause);
        // Answers that were on their way may still renew it.
        sleep(Duration::from_millis(100)).await;
        let deadline = Instant::now() + guard.remaining();
        let is_reported = timeout(TTL * 3, guard.lost()).await.is_ok();
        let now = Instant::now();
        fleet.servers_mut().iter_mut().for_each(Server::resume);
        if !is_reported {
            return Err("the loss was never reported".into());
        }
        drop(guard);
        client.shutdown(TTL).await?;
        let lead = deadline.saturating_duration_since(now).as_secs_f64();
        Outcome::Ok(if lead > 0.0 { lead } else { -(now - deadline).as_secs_f64() })
    })?;
    book.put(rows::LEAD, "quorlock", lead * 1000.0);
    Ok(())
}

const TTL: Duration = Duration::from_secs(1);
