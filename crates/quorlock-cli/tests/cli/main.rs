//! End-to-end tests of the command: the real binary against real servers.

mod bench;
mod chaos;
mod dev;
#[path = "../../../../tests/live/emulated_server.rs"]
#[allow(dead_code, reason = "the library's tests use the rest")]
mod emulated_server;
mod exit_codes;
mod fence;
mod force_release;
mod forget;
mod help;
mod init;
mod initialization_errors;
mod inspection;
mod leftovers;
mod lost_lock;
mod messages;
mod nested_runs;
mod outlive;
mod outlive_reaper;
mod outlive_users;
mod output;
mod passwords;
mod probation;
mod process_environment;
mod processes;
mod programs;
mod reaper;
mod reconfigure;
mod reconfigure_obstacles;
mod rosters;
mod run;
mod secrets;
mod services;
mod settings;
mod shorter_max_ttl;
mod terminal;
mod tty_interrupts;
mod tty_jobs;
mod tty_modes;
mod tty_reads;
mod tty_sessions;
mod tty_shells;
mod usage_errors;
mod waiting;
mod world;
