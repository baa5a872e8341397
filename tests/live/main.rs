//! Integration tests against real redis-servers, one file per topic. Each test starts its servers on loopback
//! and ends them.

mod cleanup;
mod clock_jumps;
mod credentials;
mod dialing;
#[allow(dead_code, reason = "the command's tests use the rest")]
mod emulated_server;
mod events;
mod faults;
mod fenced_resource;
mod fencing;
mod lease;
mod lock_end;
mod membership;
mod min_validity;
mod mutex;
mod mutual_exclusion;
mod names;
mod node_exclusion;
mod node_outages;
mod other_servers;
mod outcomes;
mod probation;
mod probation_bypass;
mod reconfiguration;
mod redundancy;
mod restarts;
mod retention;
mod rosters;
#[cfg(feature = "serde")]
mod serialization;
mod simultaneous_attempts;
mod stalled_driver;
mod support;
mod ticket_leftovers;
mod tickets;
#[cfg(feature = "tls-rustls")]
mod tls;
mod try_acquire_for;
mod wait_queue;
mod wait_queue_faults;
