//! The events.

use std::time::Duration;

use crate::protocol::attempt::Why;
use crate::protocol::claim::Phase;
use crate::protocol::lease::Loss;
use crate::protocol::vote::{Bar, Vote};

/// Something that happened to a node or a lock. Never holds a password or an owner token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A node is connected and votes.
    NodeUp {
        /// Its address.
        node: &'a str,
        /// What it calls itself, such as `Redis 7.0.15`.
        server: &'a str,
        /// How long a question and its answer took during the handshake.
        round_trip: Duration,
    },
    /// A node is not connected; it is dialed again by itself.
    NodeDown {
        /// Its address.
        node: &'a str,
        /// Why, in words.
        why: &'a str,
    },
    /// A node may not serve us until somebody mends it.
    NodeBarred {
        /// Its address.
        node: &'a str,
        /// Why.
        bar: &'a Bar,
    },
    /// A node votes, but something about it endangers locks.
    NodeWarning {
        /// Its address.
        node: &'a str,
        /// What, and what to do about it.
        warning: &'a str,
    },
    /// Something about the client's own settings deserves a look.
    Warning {
        /// What, and what to do about it.
        warning: &'a str,
    },
    /// A node answered a question.
    Voted {
        /// Its address.
        node: &'a str,
        /// The lock's key.
        key: &'a str,
        /// What was asked.
        phase: Phase,
        /// What it answered.
        vote: &'a Vote,
    },
    /// A lock was taken.
    Acquired {
        /// The lock's key.
        key: &'a str,
        /// On how many nodes so far.
        nodes: usize,
        /// How long it may be trusted from now.
        remaining: Duration,
    },
    /// An attempt failed.
    Refused {
        /// The lock's key.
        key: &'a str,
        /// Why.
        why: &'a Why,
    },
    /// A lock was renewed.
    Renewed {
        /// The lock's key.
        key: &'a str,
        /// How long it may be trusted from now.
        remaining: Duration,
    },
    /// A renewal got too few answers. The lock stands until its deadline; another renewal follows.
    Unconfirmed {
        /// The lock's key.
        key: &'a str,
        /// How long it may be trusted from now.
        remaining: Duration,
    },
    /// A lock was lost.
    Lost {
        /// The lock's key.
        key: &'a str,
        /// How.
        loss: Loss,
    },
    /// A lock was given up.
    Released {
        /// The lock's key.
        key: &'a str,
        /// How many nodes have confirmed it.
        nodes: usize,
    },
}

/// Somebody who wants to hear of every event.
///
/// Called by the task that drives the locks: be quick, never block, and never panic, which would end that task.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn on_event(&self, event: &Event<'_>);
}

impl<F: Fn(&Event<'_>) + Send + Sync + 'static> Observer for F {
    fn on_event(&self, event: &Event<'_>) {
        self(event);
    }
}
