//! What a model is made of, and how far it goes.

/// The bounds of a walk, and the mistakes of its nodes.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) nodes: usize,
    /// q; a majority if not said.
    pub(crate) need: Option<usize>,
    /// How many attempts each client makes, one after the other.
    pub(crate) attempts: &'static [u8],
    pub(crate) clock: Clock,
    pub(crate) numbers: Numbers,
    /// How many extensions a lock gets.
    pub(crate) extensions: u8,
    /// The ttls, in ticks, that an extension may ask for.
    pub(crate) extend_to: &'static [u8],
    /// How many times in all a connection breaks.
    pub(crate) cuts: u8,
    /// How many times in all a node forgets everything.
    pub(crate) forgets: u8,
    pub(crate) memory: Memory,
    /// Whether to leave out what could only hide a violation. See [`Bounds::lean`].
    pub(crate) is_lean: bool,
    /// Whether to check, beyond exclusion itself, that a valid lock stands on a quorum in every state.
    pub(crate) stands: bool,
    pub(crate) slip: Option<Slip>,
    pub(crate) begins: Begins,
}

/// What has happened when a walk begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
    /// Nothing.
    Blank,
    /// The first client has the lock on the first two nodes; its question to the third is under way. A second client
    /// asked in vain a tick later, and left a larger number on the third.
    OutrankedOnOne,
}

/// What time is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// There is none: a key may go at any moment, and nobody's patience has a length.
    None,
    /// Ticks up to the horizon; keys live for so many. No message and no timer is ever bound to come in time.
    Ticks { ttl: u8, horizon: u8 },
}

/// Which fencing numbers nodes give.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// None: plain mode.
    None,
    /// Any that is above the node's fence: equal to any other number about, or between any two, or above all. So it
    /// does not matter what hints, floors and clocks are.
    Any,
    /// One of the next so many.
    Next(u32),
    /// As the script does, with clocks that agree. With [`Clock::Ticks`] only.
    Clocks,
}

/// What becomes of a node that forgot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// It votes again at once, and begins its numbers again.
    Blank,
    /// It votes again at once, with numbers above all that there are.
    Reseeded,
    /// Its marker is gone: no question of before is answered, and it is on probation for as long as the shipped
    /// marker says.
    Marked,
}

/// A mistake of the node's scripts, or of how a client uses its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slip {
    /// A raise is done whoever has the key, if only the number grows.
    RaiseWithoutOwner,
    /// A raise is done whoever has the key and whatever number is there.
    RaiseAlways,
    /// A renewal sets the expiry also if that is earlier.
    Shortens,
    /// All attempts of a client use one token.
    ReusesToken,
    /// A node without a number begins at 1.
    CounterRestarts,
}

impl Bounds {
    /// Fencing without time: each client makes one attempt.
    pub(crate) const fn fencing(nodes: usize, attempts: &'static [u8], numbers: Numbers) -> Self {
        Self {
            nodes,
            need: None,
            attempts,
            clock: Clock::None,
            numbers,
            extensions: 0,
            extend_to: &[],
            cuts: 0,
            forgets: 0,
            memory: Memory::Reseeded,
            is_lean: false,
            stands: false,
            slip: None,
            begins: Begins::Blank,
        }
    }

    /// The same, without what could only hide a violation, so that it gets further:
    ///
    /// - Nobody gives up, lets go or is refused. Whoever waits instead can do all that, and more; and a question that
    ///   would be refused may as well never arrive.
    /// - A key goes just when another takes its place. Its going alone only leads to more refusals.
    /// - A raise is heard of at once. The sooner a number is handed out, the more later ones it is compared with.
    /// - An attempt starts right after a number was handed out, or first of all. Its questions may take any time.
    pub(crate) const fn lean(nodes: usize, attempts: &'static [u8], numbers: Numbers) -> Self {
        Self { is_lean: true, ..Self::fencing(nodes, attempts, numbers) }
    }

    /// Plain locks in time, without what could only hide a violation:
    ///
    /// - A refusal is heard of at once. It wins nothing, and a question that would be refused may never arrive as well.
    /// - Attempts and extensions begin when a tick does, or right after somebody won or ended. Their questions may
    ///   take any time.
    pub(crate) const fn timed_lean(attempts: &'static [u8], ttl: u8, horizon: u8) -> Self {
        Self { is_lean: true, ..Self::timed(attempts, ttl, horizon) }
    }

    /// Plain locks in time.
    pub(crate) const fn timed(attempts: &'static [u8], ttl: u8, horizon: u8) -> Self {
        Self {
            clock: Clock::Ticks { ttl, horizon },
            memory: Memory::Blank,
            stands: true,
            ..Self::fencing(3, attempts, Numbers::None)
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.attempts.iter().map(|attempts| usize::from(*attempts)).sum()
    }

    /// The client that makes an attempt.
    pub(crate) fn client(&self, row: usize) -> usize {
        let mut first = 0;
        for (client, attempts) in self.attempts.iter().enumerate() {
            first += usize::from(*attempts);
            if row < first {
                return client;
            }
        }
        unreachable!("there are only so many attempts")
    }

    /// The last tick.
    pub(crate) const fn horizon(&self) -> u8 {
        match self.clock {
            Clock::None => 0,
            Clock::Ticks { horizon, .. } => horizon,
        }
    }

    /// Whether questions that would be refused, and what goes with them, are left out.
    pub(crate) const fn is_bare(&self) -> bool {
        self.is_lean && matches!(self.clock, Clock::None)
    }

    pub(crate) const fn is_fenced(&self) -> bool {
        !matches!(self.numbers, Numbers::None)
    }
}
