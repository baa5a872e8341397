//! The command from outside: the real binary against real servers. Each test is a promise.

mod around;
mod bench;
mod break_lock;
mod chaos;
mod dev;
mod exit_codes;
mod fence;
mod forget;
mod founding;
mod hold;
mod init;
mod look;
mod lose;
mod probation;
mod waiting;
mod wording;
mod words;
mod world;
