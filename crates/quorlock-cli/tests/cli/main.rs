//! The command from outside: the real binary against real servers. Each test is a promise.

mod bench;
mod chaos;
mod dev;
mod exit_codes;
mod fence;
mod forget;
mod founding;
mod hold;
mod inherited;
mod init;
mod leftovers;
mod look;
mod lose;
mod outlive;
mod outlive_users;
mod probation;
mod processes;
mod programs;
mod terminal;
mod tty_interrupts;
mod tty_jobs;
mod tty_modes;
mod tty_reads;
mod waiting;
mod words;
mod world;
