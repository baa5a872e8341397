//! Negative controls of the tickets: see [`mutants`](super::mutants).

use super::mutants::assert_detected;
use super::plan::Profile;
use super::tickets::{LATE_TICKETS, TICKETS};
use crate::test_util::node::ScriptMutant;
use crate::tests::world::ms;

const ADOPTS_MISSING_KEY: Profile =
    Profile { script_mistake: Some(ScriptMutant::AdoptsMissingKey), ..TICKETS };
const ADOPTION_IGNORES_OWNER: Profile =
    Profile { script_mistake: Some(ScriptMutant::AdoptionIgnoresOwner), ..TICKETS };
const ADOPTION_KEEPS_NUMBER: Profile =
    Profile { script_mistake: Some(ScriptMutant::AdoptionKeepsNumber), ..TICKETS };
/// Long TTLs: the ticket's lock keeps a key while another client has the lock, and until a late grant follows.
const ADOPTION_IGNORES_FENCE: Profile = Profile {
    script_mistake: Some(ScriptMutant::AdoptionIgnoresFence),
    adjust: Some(|plan| {
        plan.key_count = 1;
        plan.max_ttl = ms(2_000);
        plan.min_ttl = ms(1_000);
        plan.max_work_percent = 30;
        plan.tickets = 200;
        plan.slow_messages = 100;
        plan.faults_on_send = 20;
        plan.latency = 1_000_000;
    }),
    ..LATE_TICKETS
};

#[test]
fn mutant_sim_adopts_missing_key() {
    assert_detected(&ADOPTS_MISSING_KEY);
}

#[test]
fn mutant_sim_adoption_ignores_owner() {
    assert_detected(&ADOPTION_IGNORES_OWNER);
}

#[test]
fn mutant_sim_adoption_keeps_number() {
    assert_detected(&ADOPTION_KEEPS_NUMBER);
}

#[test]
fn mutant_sim_adoption_ignores_fence() {
    assert_detected(&ADOPTION_IGNORES_FENCE);
}
