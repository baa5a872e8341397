//! The host's clocks, randomness, process id and timers. No other module reads them.

pub(crate) mod clock;
pub(crate) mod entropy;
pub(crate) mod process;
pub(crate) mod timer;
