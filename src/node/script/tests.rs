//! Tests of the encoded requests.

use quorlock_proto::fence::CLOCK_TOLERANCE_MICROS;
use quorlock_proto::quorum::Quorum;
use quorlock_proto::request::PreviousOwner;

use super::*;

fn encoder() -> RequestEncoder {
    let quorum = Quorum::new(3, None).expect("a usual quorum");
    RequestEncoder::new(LockClusterConfig::new(quorum, Duration::from_secs(30)), OwnerToken::new(7))
}

#[test]
fn a_plain_acquire_is_literally_set_nx_px() {
    let request = Request {
        kind: RequestKind::Acquire,
        key: Key::new("orders:42"),
        token: OwnerToken::new(0xab),
        ttl: Duration::from_secs(10),
        fence: None,
        previous_owner: None,
    };
    let mut encoder = encoder();
    encoder.encode(&request, ScriptForm::Sha);
    let expected = "*6\r\n$3\r\nSET\r\n$9\r\norders:42\r\n$32\r\n000000000000000000000000000000ab\r\n\
                    $2\r\nNX\r\n$2\r\nPX\r\n$5\r\n10000\r\n";
    assert_eq!(String::from_utf8_lossy(encoder.bytes()), expected);
}

#[test]
fn scripts_that_choose_a_number_use_the_tolerance_of_the_protocol() {
    for source in [ACQUIRE_FENCED_SOURCE, include_str!("../lua/adopt_fenced.lua")] {
        assert_eq!(source.matches(&CLOCK_TOLERANCE_MICROS.to_string()).count(), 3);
    }
}

/// A node that has lost its scripts runs an adoption all the same.
#[test]
fn an_adoption_is_sent_as_source() {
    let previous_owner = PreviousOwner { token: OwnerToken::new(0xcd), fencing_number: None };
    let request = Request {
        kind: RequestKind::Adopt,
        key: Key::new("orders:42"),
        token: OwnerToken::new(0xab),
        ttl: Duration::from_secs(10),
        fence: None,
        previous_owner: Some(Box::new(previous_owner)),
    };
    let mut encoder = encoder();
    encoder.encode(&request, ScriptForm::Sha);
    let whole = redis::parse_redis_value(encoder.bytes()).expect("one whole command");
    let redis::Value::Array(words) = whole else { panic!("{whole:?}") };
    let words: Vec<_> =
        words.into_iter().map(|word| redis::from_redis_value::<String>(word).expect("text")).collect();
    assert_eq!((&*words[0], &*words[2]), ("EVAL", "1"));
    let digits = ["000000000000000000000000000000ab", "10000", "000000000000000000000000000000cd"];
    assert_eq!(words[3], "orders:42");
    assert_eq!(words[4..], digits);
}

#[test]
fn a_fenced_script_and_its_marker_are_one_command() {
    let previous = PreviousOwner { token: OwnerToken::new(0xcd), fencing_number: Some(3) };
    for (kind, fence, args) in [
        (RequestKind::Acquire, Fence::Hint { hint: 7, min_fencing_number: 3 }, 15),
        (RequestKind::Adopt, Fence::Hint { hint: 7, min_fencing_number: 3 }, 17),
        (RequestKind::RaiseFence, Fence::Number(7), 14),
        (RequestKind::Renew, Fence::Number(7), 14),
        (RequestKind::Reacquire, Fence::Number(7), 14),
    ] {
        let previous_owner = (kind == RequestKind::Adopt).then(|| Box::new(previous));
        let request = Request {
            kind,
            key: Key::new("orders:42"),
            token: OwnerToken::new(0xab),
            ttl: Duration::from_secs(10),
            fence: Some(fence),
            previous_owner,
        };
        let mut encoder = encoder();
        for votes_from_micros in [0, 9, 10, 1_700_000_000_000_000] {
            let expected =
                ExpectedMarker { marker: "a marker".into(), votes_from_micros, fencing_numbers_above: 5 };
            encoder.encode(&request, ScriptForm::Sha);
            let mut bytes = encoder.bytes().to_vec();
            bytes.extend_from_slice(encoder.marker_args(NodeId(1), Some(&expected)));
            let whole = redis::parse_redis_value(&bytes).expect("one whole command");
            let redis::Value::Array(words) = whole else { panic!("{whole:?}") };
            assert_eq!(words.len(), args);
            let votes_from = votes_from_micros.to_string().into_bytes();
            assert_eq!(words[args - 2], redis::Value::BulkString(votes_from));
            assert_eq!(words[args - 1], redis::Value::BulkString(b"5".to_vec()));
            assert_eq!(words[4], redis::Value::BulkString(b"quorlock:fence:orders:42".to_vec()));
        }
    }
}
