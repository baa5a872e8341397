//! The command from outside: the real binary against real servers. Each test is a promise.

mod dev;
mod exit_codes;
mod hold;
mod look;
mod lose;
mod words;
mod world;
