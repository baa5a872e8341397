//! Told stories, one each. A test's name is the promise it keeps.

mod acquiring;
mod bypass;
mod clock_watch;
mod clocks;
mod clusters;
mod fencing;
mod losing;
mod memory;
mod nodes;
mod probation;
mod raising;
mod redundancy;
mod releasing;
mod renewing;
mod retaking;
mod retention;
mod roles;
mod undoing;
