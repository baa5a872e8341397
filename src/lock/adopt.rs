//! Adopting a lock: taking over the lock of a ticket from the process that held it.

use tracing::{Instrument, debug_span};

use super::attempt::{AttemptOptions, attempt_with_reconnect};
use super::client::Redlock;
use super::error::{AcquireError, AdoptError, InvalidInput, InvalidInputKind, NoReply};
use super::guard::Guard;
use super::mutex::Mutex;
use super::ticket::LockTicket;
use crate::host::timer::timeout;
use crate::view::{NodeStatus, NodeStatusList};
use quorlock_proto::attempt::{AttemptFailure, FailureReason};
use quorlock_proto::request::{Key as LockName, LockSpec};

impl Redlock {
    /// Takes over the lock of a ticket, which another process made with [`Guard::into_ticket`]. The guard renews the
    /// lock as if it had been acquired here. To set options, see [`Mutex::adopt`].
    ///
    /// Each node compares its key with the ticket and replaces it in one step. A quorum of nodes must do so: then the
    /// lock was held from the previous guard to this one, and no other client had it in between. (In plain mode there is
    /// one exception: delayed requests of the previous holder may hide that it was interrupted. Even then no other client
    /// has the lock at the same time.) The fencing token is larger than the
    /// ticket's.
    ///
    /// Only one adoption of a ticket can succeed (in plain mode: one at a time). One that fails releases what it has taken, so **the lock may end with
    /// it**. It makes a second attempt only if connections have just broken.
    ///
    /// The client must have the same nodes and the same mode as that of the ticket. Other tasks of this client
    /// contend for the lock like those of other processes.
    ///
    /// # Errors
    ///
    /// - [`NotHeld`](AdoptError::NotHeld): the ticket's lock has ended, or another process has adopted it.
    /// - [`NoQuorum`](AdoptError::NoQuorum), [`OnProbation`](AdoptError::OnProbation),
    ///   [`NodesExcluded`](AdoptError::NodesExcluded), [`TooLate`](AdoptError::TooLate): too few nodes took part, or not
    ///   in time.
    /// - [`InvalidInput`](AdoptError::InvalidInput): the ticket is not for this client. No request was sent.
    /// - [`Closed`](AdoptError::Closed), [`NoDriver`](AdoptError::NoDriver).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the driver releases what the adoption has taken, and the lock may end with it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn receive() -> quorlock::LockTicket { std::future::pending().await }
    /// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
    /// let ticket = receive().await; // from the process that did the first half of the work
    /// let guard = redlock.adopt(&ticket).await?;
    /// // … the second half …
    /// guard.release().await?;
    /// # Ok(()) }
    /// ```
    pub async fn adopt(&self, ticket: &LockTicket) -> Result<Guard, AdoptError> {
        let prefix = &self.shared.key_prefix;
        let Some(name) = ticket.key().as_bytes().strip_prefix(prefix.as_bytes()) else {
            let message = format!(
                "the ticket is for a lock of a client with another key prefix than `{prefix}`: build the client with \
                 the same one"
            );
            return Err(conflict("key_prefix", ticket.key(), message).into());
        };
        self.mutex(name).adopt(ticket).await
    }
}

impl Mutex {
    /// [Adopts](Redlock::adopt) the lock of a ticket with the options of this mutex, which must have its name. The ttl
    /// defaults to that of the ticket.
    ///
    /// # Errors
    ///
    /// As [`Redlock::adopt`]. [`InvalidInput`](AdoptError::InvalidInput) also for another name, or if a
    /// [`wait_timeout`](Self::wait_timeout) is set: an adoption does not wait.
    ///
    /// # Cancel safety
    ///
    /// As [`Redlock::adopt`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock, ticket: quorlock::LockTicket) -> Result<(), quorlock::error::AdoptError> {
    /// let hour = std::time::Duration::from_secs(3600);
    /// let guard = redlock.mutex("reindex").max_hold_time(hour).adopt(&ticket).await?;
    /// # Ok(()) }
    /// ```
    pub async fn adopt(&self, ticket: &LockTicket) -> Result<Guard, AdoptError> {
        let (spec, options) = self.adoption_spec(ticket)?;
        let span = debug_span!(target: "quorlock::lock", "adopt", key = %spec.key);
        adopt(&self.client, &spec, options).instrument(span).await
    }

    fn adoption_spec(&self, ticket: &LockTicket) -> Result<(LockSpec, AttemptOptions), InvalidInput> {
        check_mode(ticket, self.client.shared.max_ttl.is_some())?;
        let key = self.client.key(&self.name)?;
        if key != *ticket.key() {
            let message = format!(
                "the ticket is for another lock, \"{}\": adopt it with a mutex of that name",
                ticket.key()
            );
            return Err(conflict("name", &key, message));
        }
        if self.wait_timeout.is_some() {
            let message = "a wait timeout has no effect on an adoption, which does not wait: leave it out";
            return Err(conflict("wait_timeout", &key, message));
        }
        let mut mutex = self.clone();
        mutex.ttl = mutex.ttl.or(Some(ticket.ttl()));
        let (spec, options) = mutex.checked_spec()?;
        Ok((LockSpec { previous_owner: Some(Box::new(ticket.owner())), ..spec }, options))
    }
}

fn check_mode(ticket: &LockTicket, is_fenced: bool) -> Result<(), InvalidInput> {
    let [of_ticket, of_client] = match (ticket.fencing_token(), is_fenced) {
        (Some(_), false) => ["fenced", "plain"],
        (None, true) => ["plain", "fenced"],
        (Some(_), true) | (None, false) => return Ok(()),
    };
    let message = format!(
        "the ticket is for a lock in {of_ticket} mode, and this client is in {of_client} mode: build the client in \
         {of_ticket} mode"
    );
    Err(conflict("mode", ticket.key(), message))
}

fn conflict(option: &'static str, key: &LockName, message: impl Into<String>) -> InvalidInput {
    InvalidInput::new(InvalidInputKind::Conflict, message).of(option).about(key)
}

async fn adopt(client: &Redlock, spec: &LockSpec, options: AttemptOptions) -> Result<Guard, AdoptError> {
    let no_reply = |reason| AdoptError::no_reply(reason, &spec.key);
    client.shared.check_not_forked().map_err(|reason| no_reply(NoReply::NoDriver(reason)))?;
    client.shared.report_min_fencing_number(spec);
    client.wait_until_ready().await;
    wait_for_all(client, spec).await;
    let outcome = attempt_with_reconnect(client, spec, options).await;
    match outcome {
        // Tasks here contend for the lock like other processes, so it has no admission.
        Ok(Ok(acquired)) => Ok(acquired.into_guard(client, spec, None)),
        Ok(Err(failure)) => Err(adopt_error(client, spec, failure)),
        Err(AcquireError::NoDriver { reason, .. }) => Err(no_reply(NoReply::NoDriver(reason))),
        // An attempt without a reply has no other error.
        Err(_) => Err(no_reply(NoReply::Closed)),
    }
}

/// Waits until every node was dialed once, but no longer than one attempt may take. With the first quorum alone, an
/// adoption right after the start of the process would fail if one of those nodes lacks the key, and end the lock.
async fn wait_for_all(client: &Redlock, spec: &LockSpec) {
    let mut status = client.shared.status.clone();
    let are_known = |nodes: &NodeStatusList| nodes.iter().all(NodeStatus::is_known);
    let _ = timeout(spec.params.attempt_timeout(), status.wait_for(are_known)).await;
}

fn adopt_error(client: &Redlock, spec: &LockSpec, failure: AttemptFailure) -> AdoptError {
    let (key, replies) = (spec.key.clone(), client.replies(failure.votes));
    match failure.reason {
        FailureReason::NotHeld | FailureReason::Contended { .. } => AdoptError::NotHeld { key, replies },
        FailureReason::NoQuorum => AdoptError::NoQuorum { key, replies },
        FailureReason::OnProbation { retry_after } => AdoptError::OnProbation { key, retry_after, replies },
        FailureReason::NodesExcluded => AdoptError::NodesExcluded { key, replies },
        // The enum may grow; a new reason is one that may pass.
        FailureReason::TooLate | _ => AdoptError::TooLate { key, replies },
    }
}
