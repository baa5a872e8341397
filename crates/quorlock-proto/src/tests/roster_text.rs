//! Properties for all values: the texts of records and rosters.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::marker::{ClusterId, LockClusterConfig};
use crate::quorum::Quorum;
use crate::roster::record::{Ballot, Record};
use crate::roster::{Epoch, ListHash, Roster, Seat, SeatId};

proptest! {
    #[test]
    fn a_record_parses_from_its_text(
        cluster in any::<u128>(),
        seats in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u8>()), 1..=9),
        more in 0_usize..5,
        millis in 0_u64..1 << 50,
        numbers in any::<(u64, u64, u32, u64)>(),
        recoveries in 0_u32..4,
        has in any::<(bool, bool, bool)>(),
    ) {
        let nodes = seats.len();
        let quorum = Quorum::new(nodes, Some((nodes / 2 + 1 + more).min(nodes))).expect("between the majority and all");
        let seat = |(id, changed_millis, changes): (u64, u64, u8)| {
            Seat { id: (id > 0).then_some(SeatId(id)), changed_millis, changes }
        };
        let epoch = (0..recoveries).fold(Epoch::default(), |epoch, _| epoch.after_recovery()).after_change();
        let roster = Arc::new(Roster {
            cluster: ClusterId::new(cluster),
            epoch,
            list: ListHash(numbers.0),
            config: LockClusterConfig::new(quorum, Duration::from_millis(millis)),
            probation: Duration::from_millis(millis),
            fence_base: numbers.1,
            seats: seats.into_iter().map(seat).collect(),
        });
        let ballot = Ballot { count: numbers.2, client: numbers.3 };
        let record = Record {
            seat: SeatId(7),
            was_member: false,
            roster: has.0.then(|| roster.clone()),
            promised: has.1.then_some(ballot),
            accepted: has.2.then(|| (ballot, roster.clone())),
        };
        prop_assert_eq!(Record::parse(record.seat, record.was_member, &record.to_text()), Some(record));
        prop_assert_eq!(Roster::parse(&roster.to_text()), Some(Roster::clone(&roster)));
    }

    #[test]
    fn a_malformed_record_text_parses_to_nothing_or_itself(text in "[0-9a-f/ ;]{0,80}") {
        if let Some(record) = Record::parse(SeatId(7), true, &text) {
            let again = record.to_text();
            prop_assert_eq!(Record::parse(SeatId(7), true, &again), Some(record));
        }
    }
}
