//! Commands of the handshake that test the permissions of this user. They leave nothing on the node.

use std::time::Duration;

use redis::{Cmd, Script};

use super::{DEQUEUE_SOURCE, ENQUEUE_SOURCE, MARKER_KEY, NOTIFY_GRACE, WAITER_TTL, WAITERS_PREFIX};
use quorlock_proto::request::OwnerToken;

/// Tests whether the user may run scripts, as source and by hash. They have a key, because proxies may route
/// by key.
pub(in super::super) fn permission_probes() -> [Cmd; 2] {
    let mut run = redis::cmd("EVAL");
    run.arg(PROBE_SOURCE).arg(1).arg(MARKER_KEY);
    let mut by_hash = redis::cmd("EVALSHA");
    by_hash.arg(Script::new(PROBE_SOURCE).get_hash()).arg(1).arg(MARKER_KEY);
    [run, by_hash]
}

/// Tests what wait queues need: enqueue, dequeue, publish and subscribe. One reply each, except for the
/// subscription: it comes last, and its confirmation is no reply.
pub(in super::super) fn wait_queue_probe(process_id: OwnerToken) -> [Cmd; 5] {
    let process_id = process_id.digits();
    let channel = [WAITERS_PREFIX.as_bytes(), &process_id].concat();
    let mut subscribe = redis::cmd("SUBSCRIBE");
    subscribe.arg(&channel);
    // The key must be no lock. Its wait queue is only used by this client.
    let keys = [channel.as_slice(), channel.as_slice()];
    let mut enqueue = redis::cmd("EVAL");
    put_enqueue_args(enqueue.arg(ENQUEUE_SOURCE).arg(2).arg(&keys[..]).arg(&process_id[..]), Duration::ZERO);
    let mut dequeue = redis::cmd("EVAL");
    dequeue.arg(DEQUEUE_SOURCE).arg(2).arg(&keys[..]).arg(&process_id[..]);
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(&channel).arg("");
    // The two scripts do not run ZSCORE on an empty wait queue, so test it separately.
    let mut zscore = redis::cmd("ZSCORE");
    zscore.arg(&channel).arg(&process_id[..]);
    [enqueue, dequeue, publish, zscore, subscribe]
}

/// Ends the probe. Its reply shows that all probes are completed.
pub(in super::super) fn probe_cleanup() -> Cmd {
    let mut cleanup = redis::cmd("EVAL");
    cleanup.arg("return 'end'").arg(1).arg(MARKER_KEY);
    cleanup
}

fn put_enqueue_args(command: &mut Cmd, waited: Duration) {
    command
        .arg(waited.as_micros() as u64)
        .arg(WAITER_TTL.as_millis() as u64)
        .arg(NOTIFY_GRACE.as_micros() as u64);
}

const PROBE_SOURCE: &str = "return 1";
