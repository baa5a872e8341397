//! The simulated node passes the conformance suite that a real server passes (`src/node/conformance.rs`).

use std::panic;
use std::time::Duration;

use crate::marker::MarkerReading;
use crate::membership::{ExpectedMarker, NodeWrite};
use crate::request::{Key, OwnerToken, Request, RequestKind};
use crate::test_util::conformance::{self, KEY, Location, NodeUnderTest, StoredValue, config};
use crate::test_util::node::{Data, DataKey, DataValue, Reply, ScriptMutant, SentRequest, SimulatedNode};
use crate::vote::Vote;

struct Simulated {
    node: SimulatedNode,
    nanos: u64,
}

#[test]
fn the_simulated_node_passes_the_conformance_suite() {
    conformance::check(&mut Simulated::new(None));
}

/// A suite that misses a mistake proves nothing.
#[test]
fn the_conformance_suite_detects_every_script_mistake() {
    for mistake in [
        ScriptMutant::RenewalShortens,
        ScriptMutant::RaiseIgnoresOwner,
        ScriptMutant::RaiseIgnoresOwnerAndFence,
        ScriptMutant::MissingFenceIsZero,
        ScriptMutant::ReleaseIgnoresOwner,
        ScriptMutant::EvictionsUnreported,
        ScriptMutant::SwapsUnreported,
        ScriptMutant::EvictionPolicyUnreported,
        ScriptMutant::HighestAheadNotStored,
        ScriptMutant::MarkerNotCompared,
        ScriptMutant::AdoptsMissingKey,
        ScriptMutant::AdoptionIgnoresOwner,
        ScriptMutant::AdoptionIgnoresFence,
        ScriptMutant::AdoptionKeepsNumber,
    ] {
        let outcome = panic::catch_unwind(|| conformance::check(&mut Simulated::new(Some(mistake))));
        assert!(outcome.is_err(), "{mistake:?} passes the suite");
    }
}

impl Simulated {
    fn new(mistake: Option<ScriptMutant>) -> Self {
        let mut node = SimulatedNode::new(0, config());
        node.mutant = mistake;
        Self { node, nanos: 5_000_000_000 }
    }

    fn run(&mut self, command: &SentRequest) -> Reply {
        // As on a real server, no two commands run at the same instant.
        self.nanos += 1_234_567;
        self.node.run(command, self.nanos)
    }
}

impl NodeUnderTest for Simulated {
    fn reset(&mut self) {
        self.node.flush();
        self.node.load_scripts();
    }

    fn request(
        &mut self,
        request: &Request,
        expected: Option<&ExpectedMarker>,
        as_text: bool,
    ) -> (Vote, Option<u64>) {
        let command = SentRequest {
            request: request.clone(),
            as_text,
            expected_marker: expected.cloned(),
            write: None,
        };
        match self.run(&command) {
            Reply::Vote(vote, clock) => (vote, clock),
            Reply::Marker(reading) => panic!("expected a vote, not {reading:?}"),
        }
    }

    fn read_marker(&mut self, write: Option<&NodeWrite>, as_text: bool) -> Result<MarkerReading, Vote> {
        let (key, token) = (Key::new(""), OwnerToken::new(0));
        let kind = RequestKind::ReadMarker;
        let request = Request { kind, key, token, ttl: Duration::ZERO, fence: None, previous_owner: None };
        match self.run(&SentRequest { request, as_text, expected_marker: None, write: write.cloned() }) {
            Reply::Marker(reading) => reading,
            Reply::Vote(vote, _) => panic!("expected a marker reading, not {vote:?}"),
        }
    }

    fn set(&mut self, location: Location, value: Option<&[u8]>, ttl: Option<Duration>) {
        let now = self.node.clock_micros(self.nanos) / 1000;
        let expires = ttl.map(|ttl| now + ttl.as_millis() as u64);
        self.node.data_mut().insert(slot(location), DataValue { value: value.map(<[u8]>::to_vec), expires });
    }

    fn stored(&mut self, location: Location) -> Option<StoredValue> {
        let value = self.node.unexpired(&slot(location), self.nanos)?.value.clone();
        Some(StoredValue { value, ttl: self.node.remaining_ttl(&slot(location), self.nanos) })
    }

    fn clock_micros(&mut self) -> u64 {
        self.node.clock_micros(self.nanos)
    }

    fn wait(&mut self, span: Duration) {
        self.nanos += span.as_nanos() as u64;
    }

    fn flush_scripts(&mut self) {
        self.node.flush_scripts();
    }

    fn set_evicts(&mut self, on: bool) {
        self.node.evicts = on;
    }

    fn evict(&mut self) {
        let evicted = DataKey::Fence(Key::new("evicted"));
        self.node
            .data_mut()
            .insert(evicted.clone(), DataValue { value: Some(Vec::new()), expires: Some(u64::MAX) });
        self.node.evict(&[evicted]);
    }

    fn swap_databases_twice(&mut self) {
        let data = self.node.swap(Data::new());
        self.node.swap(data);
    }

    fn restart(&mut self) {
        let data = self.node.data().clone();
        self.node.restart(data);
    }

    fn change_role(&mut self) {
        let data = self.node.data().clone();
        self.node.change_role(data);
    }
}

fn slot(location: Location) -> DataKey {
    match location {
        Location::Lock => DataKey::Lock(Key::new(KEY)),
        Location::Fence => DataKey::Fence(Key::new(KEY)),
        Location::Marker => DataKey::Marker,
        Location::Record => DataKey::Record,
        Location::Absences => DataKey::Absences,
        Location::Clock => DataKey::Clock,
        Location::HighestAheadOfClock => DataKey::HighestAheadOfClock,
    }
}
