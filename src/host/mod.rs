//! The only doors to time and chance.

pub(crate) mod clock;
pub(crate) mod entropy;
