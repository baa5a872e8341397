//! A ticket: a held lock on its way to another process.

#[cfg(feature = "serde")]
mod wire;

use std::fmt;
use std::time::{Duration, SystemTime};

use tracing::{Instrument, debug_span};

use super::error::TicketError;
use super::guard::Guard;
use crate::driver::DriverCommand;
use quorlock_proto::coordinator::HandedOverLock;
use quorlock_proto::fence::FencingToken;
use quorlock_proto::request::{Key as LockName, OwnerToken, PreviousOwner, RequestKind};

/// A held lock on its way to another process, which takes it over with [`Redlock::adopt`](super::Redlock::adopt).
///
/// It holds the name, the ttl and the secret of the lock, and its fencing token. With the feature `serde` it can be sent
/// as JSON or in another format of serde.
///
/// # A ticket is a secret
///
/// A process that has the ticket, or a copy of it, can take over the lock. Only the first to adopt it succeeds. (If two
/// adopt it at the same instant, it may also happen that neither succeeds, and then the lock ends.) Send it only over a
/// channel that you trust with the lock. `Debug` does not show the secret.
///
/// # A ticket expires
///
/// No process renews the lock while it is on its way. It ends when its keys on the nodes expire, at
/// [`expires_at`](Self::expires_at) or up to a ttl later. Then any other client can acquire it, and the ticket is void. A
/// dropped ticket leaves its lock to expire.
///
/// # Examples
///
/// ```no_run
/// # async fn send(_: quorlock::LockTicket) {}
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// let guard = redlock.mutex("reindex").acquire().await?;
/// // … the first half of the work …
/// send(guard.into_ticket().await?).await; // to the process that does the second half
/// # Ok(()) }
/// ```
///
/// As JSON:
///
/// ```no_run
/// # #[cfg(feature = "serde")]
/// # async fn example(guard: quorlock::Guard, redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// let json = serde_json::to_string(&guard.into_ticket().await?)?;
/// // … in the other process …
/// let guard = redlock.adopt(&serde_json::from_str(&json)?).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a dropped ticket leaves its lock to expire"]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(into = "wire::WireTicket"))]
pub struct LockTicket {
    key: LockName,
    owner_token: OwnerToken,
    ttl: Duration,
    /// `None` in plain mode.
    fencing_token: Option<FencingToken>,
    /// Milliseconds since 1970.
    expires_at_millis: u64,
}

impl LockTicket {
    fn new(key: LockName, lock: &HandedOverLock, fencing_token: Option<FencingToken>) -> Self {
        let expires_at_millis = lock.deadline.wall_nanos() / 1_000_000;
        Self { key, owner_token: lock.owner.token, ttl: lock.ttl, fencing_token, expires_at_millis }
    }

    /// The lock's key on the nodes: prefix and name.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn log(ticket: &quorlock::LockTicket) {
    /// println!("{} is on its way", ticket.key());
    /// # }
    /// ```
    #[must_use]
    pub const fn key(&self) -> &LockName {
        &self.key
    }

    /// The ttl with which the lock was acquired. The adopted lock has the same, unless another is
    /// [set](super::Mutex::adopt).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn log(ticket: &quorlock::LockTicket) {
    /// println!("adopt it within {:?}", ticket.ttl());
    /// # }
    /// ```
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The fencing token that the lock had until now; `None` in plain mode. The adopted lock has a larger one, so that
    /// the protected resource rejects late writes of the previous holder.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(redlock: quorlock::Redlock, ticket: quorlock::LockTicket) -> Result<(), quorlock::error::AdoptError> {
    /// let guard = redlock.adopt(&ticket).await?;
    /// if let (Some(old), Some(new)) = (ticket.fencing_token(), guard.fencing_token()) {
    ///     assert!(new.supersedes(&old));
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub const fn fencing_token(&self) -> Option<FencingToken> {
        self.fencing_token
    }

    /// When the lock ends unless it is adopted before, by the system clock of the process that made the ticket. For
    /// information: the nodes decide whether the lock is still held, and no clock of the adopter does.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn log(ticket: &quorlock::LockTicket) {
    /// let left = ticket.expires_at().duration_since(std::time::SystemTime::now()).unwrap_or_default();
    /// println!("{left:?} left to adopt {}", ticket.key());
    /// # }
    /// ```
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.expires_at_millis)
    }

    /// The owner that the lock's keys have.
    pub(super) fn owner(&self) -> PreviousOwner {
        PreviousOwner {
            token: self.owner_token,
            fencing_number: self.fencing_token.map(|token| token.number),
        }
    }
}

impl Guard {
    /// Ends this guard and makes its lock a ticket, with which another process can [adopt](super::Redlock::adopt) it.
    ///
    /// This process renews the lock no more, and leaves its keys to the adopter. Views of the lock are invalid, but not lost. Other
    /// tasks of this client can wait for the lock, as for one that another process holds. A
    /// [`max_hold_time`](super::Mutex::max_hold_time) does not go along.
    ///
    /// It takes one round trip, and at most the reply timeout if a node does not reply. The lock lasts for the rest of
    /// its lease: to give the ticket a full ttl for its way, [extend](Self::extend) the lock before.
    ///
    /// # Errors
    ///
    /// [`TicketError::Lost`] if the lock had been lost before, so that the work may have overlapped with that of another
    /// holder. [`TicketError::Closed`] and [`TicketError::NoDriver`]: the lock is released when the driver runs again,
    /// or expires.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, there is no ticket. The lock is released, or it expires. No process renews it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(guard: quorlock::Guard) -> Result<(), Box<dyn std::error::Error>> {
    /// guard.extend(std::time::Duration::from_secs(10)).await?;
    /// let ticket = guard.into_ticket().await?;
    /// println!("to be adopted by {:?}", ticket.expires_at());
    /// # Ok(()) }
    /// ```
    pub async fn into_ticket(self) -> Result<LockTicket, TicketError> {
        let (shared, lease) = (&self.client.shared, &self.view.lease);
        let (id, key) = (self.id, lease.key().clone());
        // Reads the clock, and records the loss if the deadline has passed.
        if !lease.is_valid()
            && let Some(reason) = lease.loss_reason()
        {
            return Err(TicketError::Lost { key, reason });
        }
        let span = debug_span!(target: "quorlock::lock", "hand_over", %key);
        let hand_over = async {
            // Each node replies in order. So after its reply to this, no earlier request is under way that could set
            // the key behind an adoption.
            let (survey, of) = (shared.commands.id(), key.clone());
            let inspect =
                |reply| DriverCommand::Survey { id: survey, kind: RequestKind::Inspect, key: of, reply };
            let _ = shared.call(Some(shared.reply_timeout), inspect).await;
            shared.call(Some(Duration::ZERO), |reply| DriverCommand::HandOver { id, reply }).await
        };
        match hand_over.instrument(span).await {
            Ok(Ok(handed_over)) => Ok(LockTicket::new(key, &handed_over, lease.fencing_token())),
            Ok(Err(reason)) => Err(TicketError::Lost { key, reason }),
            Err(reason) => Err(TicketError::no_reply(reason, &key)),
        }
    }
}

/// Shows the hash of the owner in place of the secret.
impl fmt::Debug for LockTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockTicket")
            .field("key", &self.key)
            .field("owner", &format_args!("#{}", self.owner_token.hash()))
            .field("ttl", &self.ttl)
            .field("fencing_token", &self.fencing_token)
            .field("expires_at", &self.expires_at())
            .finish_non_exhaustive()
    }
}
