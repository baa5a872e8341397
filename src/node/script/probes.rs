//! What the handshake tries, to see what a node lets us do. Nothing stays of it on the node.

use std::time::Duration;

use redis::{Cmd, Script};

use super::{DEQUEUE_TEXT, ENQUEUE_TEXT, MARKER_KEY, NOTIFY_GRACE, WAITER_TTL, WAITERS_PREFIX};
use quorlock_proto::request::OwnerToken;

/// Whether the node runs scripts, in full and by their hash. With a key, for what routes commands by their keys.
pub(in super::super) fn permission_probes() -> [Cmd; 2] {
    let mut run = redis::cmd("EVAL");
    run.arg(PROBE_TEXT).arg(1).arg(MARKER_KEY);
    let mut by_hash = redis::cmd("EVALSHA");
    by_hash.arg(Script::new(PROBE_TEXT).get_hash()).arg(1).arg(MARKER_KEY);
    [run, by_hash]
}

/// What a node that keeps lines must let us do: say something on a channel, and hear it. Nothing stays of it. One reply
/// each, but for the subscription, which is last and whose confirmation is none.
pub(in super::super) fn wait_queue_probe(waiter: OwnerToken) -> [Cmd; 5] {
    let waiter = waiter.digits();
    let channel = [WAITERS_PREFIX.as_bytes(), &waiter].concat();
    let mut subscribe = redis::cmd("SUBSCRIBE");
    subscribe.arg(&channel);
    // Any key that is no lock will do; its queue is this client's own.
    let keys = [channel.as_slice(), channel.as_slice()];
    let mut enter = redis::cmd("EVAL");
    enqueue(enter.arg(ENQUEUE_TEXT).arg(2).arg(&keys[..]).arg(&waiter[..]), Duration::ZERO);
    let mut go = redis::cmd("EVAL");
    go.arg(DEQUEUE_TEXT).arg(2).arg(&keys[..]).arg(&waiter[..]);
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(&channel).arg("");
    // The one command that those two have no need of in an empty line.
    let mut place = redis::cmd("ZSCORE");
    place.arg(&channel).arg(&waiter[..]);
    [enter, go, publish, place, subscribe]
}

/// What ends the trial: it runs wherever [`probes`] do.
pub(in super::super) fn probe_cleanup() -> Cmd {
    let mut end = redis::cmd("EVAL");
    end.arg("return 'end'").arg(1).arg(MARKER_KEY);
    end
}

fn enqueue(command: &mut Cmd, waited: Duration) {
    command
        .arg(waited.as_micros() as u64)
        .arg(WAITER_TTL.as_millis() as u64)
        .arg(NOTIFY_GRACE.as_micros() as u64);
}

const PROBE_TEXT: &str = "return 1";
