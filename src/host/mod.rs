//! The only doors to time and chance, and to what process this is.

pub(crate) mod clock;
pub(crate) mod entropy;
pub(crate) mod process;
pub(crate) mod timer;
