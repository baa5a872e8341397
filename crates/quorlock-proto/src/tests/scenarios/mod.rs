//! Scenarios, one per test. The name of a test is the property that it checks.

mod acquiring;
mod probation_bypass;
mod clock_monitor;
mod client_clocks;
mod membership;
mod fencing;
mod losing_a_lease;
mod helpers;
mod node_failures;
mod probation;
mod raising_fences;
mod redundancy;
mod releasing;
mod renewing;
mod reacquiring;
mod fence_retention;
mod role_change;
mod pending_releases;
