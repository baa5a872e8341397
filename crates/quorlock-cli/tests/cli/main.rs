//! The command from outside: the real binary against real servers. Each test is a promise.

mod bench;
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
mod output;
mod probation;
mod secrets;
mod settings;
mod typed;
mod waiting;
mod words;
mod world;
