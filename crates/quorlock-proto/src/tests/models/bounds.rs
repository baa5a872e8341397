//! The bounds of a model: its nodes, clients, clock and faults, and what a reduced model leaves out.

/// The bounds of an exploration, and the mutant that its nodes or clients run.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) nodes: usize,
    /// q; a majority if `None`.
    pub(crate) quorum_size: Option<usize>,
    /// How many attempts each client makes, one after the other.
    pub(crate) attempts_per_client: &'static [u8],
    pub(crate) clock: Clock,
    pub(crate) fencing_numbers: FencingNumbers,
    /// Per lock.
    pub(crate) max_extensions: u8,
    /// The ttls, in ticks, that an extension may request.
    pub(crate) extension_ttls: &'static [u8],
    /// Of all connections together.
    pub(crate) max_disconnects: u8,
    /// Of all nodes together.
    pub(crate) max_data_losses: u8,
    pub(crate) after_data_loss: AfterDataLoss,
    /// Whether to leave out events that cannot contribute to a violation. See [`Bounds::reduced`].
    pub(crate) is_reduced: bool,
    /// Whether to check invariant I5: a quorum of nodes has the keys of a valid lock.
    pub(crate) checks_holder_quorum: bool,
    pub(crate) mutant: Option<ModelMutant>,
    pub(crate) initial_state: InitialState,
}

/// The state in which an exploration begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum InitialState {
    /// Nothing has happened.
    Empty,
    /// The first client holds the lock on the first two nodes; its request to the third is in flight. One
    /// tick later a second client failed to acquire, and left a larger fence on the third node.
    FencedOutOnOneNode,
}

/// How time passes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// No time: a key may expire and an attempt may time out at any moment.
    None,
    /// Ticks up to the horizon; keys live for `ttl` ticks. Any message or timer may be late.
    Ticks { ttl: u8, horizon: u8 },
}

/// Which fencing numbers nodes give.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FencingNumbers {
    /// None: plain mode.
    None,
    /// Any number above the node's fence: equal to another number in use, between two, or above all. This
    /// covers every value of hints, minimum fencing numbers and clocks.
    Any,
    /// One of the next `n` numbers.
    Next(u32),
    /// As the script computes them, from clocks that agree. Needs [`Clock::Ticks`].
    FromClock,
}

/// How a node behaves after it has lost its data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterDataLoss {
    /// It votes at once, and its fencing numbers begin again.
    FenceReset,
    /// It votes at once, and its fencing numbers begin above all in use.
    FenceAboveAll,
    /// It rejects requests with its earlier marker, and is on probation as the shipped marker says.
    Probation,
}

/// A known mistake in the scripts of nodes, or in how a client uses its owner tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelMutant {
    /// `RaiseFence` compares the fencing number but not the owner.
    RaiseIgnoresOwner,
    /// `RaiseFence` compares neither the owner nor the fencing number.
    RaiseIgnoresOwnerAndFence,
    /// `Renew` also sets an earlier expiry.
    RenewalShortens,
    /// All attempts of a client use one owner token.
    TokenReused,
    /// A node without a fence begins at 1.
    MissingFenceIsZero,
}

impl Bounds {
    /// Fencing without time: each client makes one attempt.
    pub(crate) const fn fencing(
        nodes: usize,
        attempts_per_client: &'static [u8],
        fencing_numbers: FencingNumbers,
    ) -> Self {
        Self {
            nodes,
            quorum_size: None,
            attempts_per_client,
            clock: Clock::None,
            fencing_numbers,
            max_extensions: 0,
            extension_ttls: &[],
            max_disconnects: 0,
            max_data_losses: 0,
            after_data_loss: AfterDataLoss::FenceAboveAll,
            is_reduced: false,
            checks_holder_quorum: false,
            mutant: None,
            initial_state: InitialState::Empty,
        }
    }

    /// Fencing without time, reduced: leaves out events that cannot contribute to a violation.
    ///
    /// - No attempt is cancelled or fails, and no holder releases. A contender that waits instead can do all
    ///   that a cancelled one can, and more. A request that would fail may just as well never arrive.
    /// - A key expires only when another key replaces it. An expiry alone only leads to more failed requests.
    /// - The reply to a `RaiseFence` arrives at once. The sooner a number is issued, the more later numbers
    ///   it is compared with.
    /// - An attempt starts right after a number was issued, or at the beginning. Its requests may take any
    ///   time.
    pub(crate) const fn reduced(
        nodes: usize,
        attempts_per_client: &'static [u8],
        fencing_numbers: FencingNumbers,
    ) -> Self {
        Self { is_reduced: true, ..Self::fencing(nodes, attempts_per_client, fencing_numbers) }
    }

    /// Plain locks in time, reduced: leaves out events that cannot contribute to a violation.
    ///
    /// - The reply of a failed request arrives at once. It grants nothing, and the request may just as well
    ///   never arrive.
    /// - Attempts and extensions start right after a tick, a won lock or an ended attempt. Their requests may
    ///   take any time.
    pub(crate) const fn timed_reduced(attempts_per_client: &'static [u8], ttl: u8, horizon: u8) -> Self {
        Self { is_reduced: true, ..Self::timed(attempts_per_client, ttl, horizon) }
    }

    /// Plain locks in time.
    pub(crate) const fn timed(attempts_per_client: &'static [u8], ttl: u8, horizon: u8) -> Self {
        Self {
            clock: Clock::Ticks { ttl, horizon },
            after_data_loss: AfterDataLoss::FenceReset,
            checks_holder_quorum: true,
            ..Self::fencing(3, attempts_per_client, FencingNumbers::None)
        }
    }

    pub(crate) fn contenders(&self) -> usize {
        self.attempts_per_client.iter().map(|count| usize::from(*count)).sum()
    }

    /// The client that makes an attempt.
    pub(crate) fn client(&self, contender: usize) -> usize {
        let mut first = 0;
        for (client, count) in self.attempts_per_client.iter().enumerate() {
            first += usize::from(*count);
            if contender < first {
                return client;
            }
        }
        unreachable!("contender {contender} is out of range")
    }

    /// The last tick.
    pub(crate) const fn horizon(&self) -> u8 {
        match self.clock {
            Clock::None => 0,
            Clock::Ticks { horizon, .. } => horizon,
        }
    }

    /// Whether requests that would fail, and their consequences, are left out.
    pub(crate) const fn is_reduced_untimed(&self) -> bool {
        self.is_reduced && matches!(self.clock, Clock::None)
    }

    pub(crate) const fn is_fenced(&self) -> bool {
        !matches!(self.fencing_numbers, FencingNumbers::None)
    }
}
