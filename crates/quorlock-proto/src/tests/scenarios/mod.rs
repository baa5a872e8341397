//! Scenario tests of the coordinator on simulated nodes. The name of a test is the property that it checks.

mod acquiring;
mod client_clocks;
mod clock_monitor;
mod extending;
mod fence_retention;
mod fencing;
mod founding_and_recovery;
mod helpers;
mod initialization;
mod losing_a_lease;
mod membership;
mod moved_addresses;
mod node_failures;
mod pending_releases;
mod probation;
mod probation_bypass;
mod raising_fences;
mod reacquiring;
mod redundancy;
mod releasing;
mod renewing;
mod role_change;
mod roster_changes;
mod seats;
mod single_requests;
mod tickets;
