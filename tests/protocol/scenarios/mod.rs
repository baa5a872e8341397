//! Told stories, one each. A test's name is the promise it keeps.

mod acquiring;
mod clock_watch;
mod clocks;
mod fencing;
mod nodes;
mod probation;
mod releasing;
mod renewing;
mod undoing;
