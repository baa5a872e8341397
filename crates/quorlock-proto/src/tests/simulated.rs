//! The simulated node keeps every promise of the suite that a real server keeps (`src/node/conformance.rs`).

use std::panic;
use std::time::Duration;

use crate::marker::MarkerReading;
use crate::membership::{ExpectedMarker, MarkerWrite};
use crate::request::{Key, OwnerToken, Request, RequestKind};
use crate::test_util::conformance::{self, KEY, Location, NodeUnderTest, StoredValue, config};
use crate::test_util::node::{Data, DataKey, DataValue, Reply, ScriptMutant, SentRequest, SimulatedNode};
use crate::vote::Vote;

struct Simulated {
    node: SimulatedNode,
    nanos: u64,
}

#[test]
fn the_simulated_node_keeps_every_promise() {
    conformance::check(&mut Simulated::new(None));
}

/// A suite that lets a mistake pass proves nothing.
#[test]
fn no_mistake_in_a_script_keeps_every_promise() {
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
    ] {
        let outcome = panic::catch_unwind(|| conformance::check(&mut Simulated::new(Some(mistake))));
        assert!(outcome.is_err(), "{mistake:?} breaks no promise");
    }
}

impl Simulated {
    fn new(mistake: Option<ScriptMutant>) -> Self {
        let mut node = SimulatedNode::new(0, config());
        node.mutant = mistake;
        Self { node, nanos: 5_000_000_000 }
    }

    fn run(&mut self, command: &SentRequest) -> Reply {
        // As on a real server, no two commands are run in the same instant.
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
        badge: Option<&ExpectedMarker>,
        as_text: bool,
    ) -> (Vote, Option<u64>) {
        let command =
            SentRequest { request: request.clone(), as_text, expected_marker: badge.cloned(), write: None };
        match self.run(&command) {
            Reply::Vote(vote, clock) => (vote, clock),
            Reply::Marker(reading) => panic!("{reading:?} is no vote"),
        }
    }

    fn read_marker(&mut self, write: Option<&MarkerWrite>, as_text: bool) -> Result<MarkerReading, Vote> {
        let (key, token) = (Key::new(""), OwnerToken::new(0));
        let request = Request { kind: RequestKind::ReadMarker, key, token, ttl: Duration::ZERO, fence: None };
        match self.run(&SentRequest { request, as_text, expected_marker: None, write: write.cloned() }) {
            Reply::Marker(reading) => reading,
            Reply::Vote(vote, _) => panic!("{vote:?} is no look"),
        }
    }

    fn set(&mut self, place: Location, value: Option<&[u8]>, life: Option<Duration>) {
        let now = self.node.clock_micros(self.nanos) / 1000;
        let expires = life.map(|life| now + life.as_millis() as u64);
        self.node.data_mut().insert(slot(place), DataValue { value: value.map(<[u8]>::to_vec), expires });
    }

    fn stored(&mut self, place: Location) -> Option<StoredValue> {
        let value = self.node.unexpired(&slot(place), self.nanos)?.value.clone();
        Some(StoredValue { value, ttl: self.node.remaining_ttl(&slot(place), self.nanos) })
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
        let bait = DataKey::Fence(Key::new("bait"));
        self.node
            .data_mut()
            .insert(bait.clone(), DataValue { value: Some(Vec::new()), expires: Some(u64::MAX) });
        self.node.evict(&[bait]);
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

fn slot(place: Location) -> DataKey {
    match place {
        Location::Lock => DataKey::Lock(Key::new(KEY)),
        Location::Fence => DataKey::Fence(Key::new(KEY)),
        Location::Marker => DataKey::Marker,
        Location::Clock => DataKey::Clock,
        Location::HighestAheadOfClock => DataKey::HighestAheadOfClock,
    }
}
