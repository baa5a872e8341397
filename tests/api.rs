//! Tests of the public API without servers: auto traits, rejected options and their messages, and
//! serialization.

use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use quorlock::{
    AcquireError, ConnectError, ExtendError, FencingToken, Guard, InitError, InitOutcome, InspectError,
    InvalidInput, LockView, LostSignal, Mutex, ParseFencingTokenError, Redlock, RedlockBuilder, ReleaseError,
    RunError, ShutdownError,
};

const fn is_clone_send_sync<T: Clone + Send + Sync + 'static>() {}
const fn is_send_sync<T: Send + Sync + 'static>() {}
const fn is_error<T: Error + Clone + Send + Sync + 'static>() {}
fn assert_send<T: Send>(value: T) -> T {
    value
}

/// Checked at compile time: which types are `Send`, `Sync`, `Clone` and errors.
const _: () = {
    is_clone_send_sync::<Redlock>();
    is_clone_send_sync::<RedlockBuilder>();
    is_clone_send_sync::<Mutex>();
    is_clone_send_sync::<LockView>();
    is_clone_send_sync::<FencingToken>();
    is_clone_send_sync::<InitOutcome>();
    is_send_sync::<Guard>();
    is_send_sync::<LostSignal>();
    is_error::<InvalidInput>();
    is_error::<ConnectError>();
    is_error::<InitError>();
    is_error::<ParseFencingTokenError>();
    is_error::<AcquireError>();
    is_error::<ExtendError>();
    is_error::<ReleaseError>();
    is_error::<InspectError>();
    is_error::<RunError>();
    is_error::<ShutdownError>();
};

/// Never called: it compiles only if every future is `Send`.
#[allow(dead_code)]
fn every_future_is_send(builder: RedlockBuilder, redlock: &Redlock, guard: Guard) {
    let duration = Duration::from_secs(1);
    drop(assert_send(builder.clone().init(false)));
    drop(assert_send(builder.connect()));
    drop(assert_send(redlock.mutex("a").acquire()));
    drop(assert_send(redlock.mutex("a").try_acquire()));
    drop(assert_send(redlock.mutex("a").run(|held| async move { held.is_valid() })));
    drop(assert_send(redlock.inspect("a")));
    drop(assert_send(redlock.force_release("a")));
    drop(assert_send(redlock.node_status()));
    drop(assert_send(redlock.shutdown(duration)));
    drop(assert_send(guard.extend(duration)));
    drop(assert_send(guard.lost()));
    drop(assert_send(guard.release()));
}

#[test]
fn no_debug_output_shows_a_password() {
    let builder = Redlock::builder()
        .nodes(["redis://alice:open-sesame@127.0.0.1:1/0"])
        .username("alice")
        .password("open-sesame");
    let shown = format!("{builder:?} {builder:#?}");
    assert!(!shown.contains("sesame") && !shown.contains("alice"), "{shown}");
}

#[tokio::test]
async fn no_client_or_lock_shows_a_password() {
    let builder = Redlock::builder().nodes(["redis://:open-sesame@127.0.0.1:1"]).password("open-sesame");
    let redlock = builder.connect_lazy().expect("connect_lazy needs no node");
    let mutex = redlock.mutex("a").no_wait();
    let error = mutex.clone().acquire().await.expect_err("no server listens there");
    let nodes = redlock.node_status().await;
    let shown = format!("{redlock:?} {mutex:?} {error:?} {error} {nodes:?}");
    assert!(!shown.contains("sesame"), "{shown}");
}

/// The builder is rejected, and the message contains all of these texts.
#[track_caller]
fn check_rejected(builder: RedlockBuilder, texts: &[&str]) {
    let checked = builder.check();
    match builder.connect_lazy() {
        Err(ConnectError::InvalidInput(invalid)) => {
            check_message(&invalid, texts);
            // `check` does not find errors that concern no option.
            assert_eq!(checked.err(), invalid.option().map(|_| invalid), "check finds the same error");
        }
        other => panic!("expected InvalidInput with {texts:?}, got {other:?}"),
    }
}

#[track_caller]
fn check_message<T: ToString + Debug>(error: &T, texts: &[&str]) {
    let message = error.to_string();
    for text in texts {
        assert!(message.contains(text), "{message:?} does not contain {text:?}");
    }
    assert!(!message.contains("sesame"), "{message:?} shows a password");
}

fn nodes(count: usize) -> RedlockBuilder {
    Redlock::builder().nodes((0..count).map(|index| format!("redis://127.0.0.1:{}", index + 1)))
}

#[tokio::test]
async fn one_to_nine_nodes_are_accepted() {
    for count in 1..=9 {
        assert!(nodes(count).connect_lazy().is_ok(), "{count} nodes");
    }
    check_rejected(nodes(0), &["no node", "at least one"]);
    check_rejected(nodes(10), &["10", "at most nine"]);
}

#[tokio::test]
async fn a_quorum_is_at_least_a_majority_and_at_most_all_nodes() {
    for quorum in 3..=5 {
        assert!(nodes(5).quorum(quorum).connect_lazy().is_ok(), "{quorum} of five");
    }
    check_rejected(nodes(5).quorum(2), &["2", "majority", "at least 3"]);
    check_rejected(nodes(4).quorum(2), &["majority", "at least 3"]);
    check_rejected(nodes(5).quorum(0), &["majority"]);
    check_rejected(nodes(5).quorum(6), &["6", "more than the 5 nodes"]);
}

#[tokio::test]
async fn max_clock_drift_is_from_zero_to_a_fifth() {
    for drift in [0.0, 0.2] {
        assert!(nodes(1).max_clock_drift(drift).connect_lazy().is_ok(), "{drift}");
    }
    for drift in [0.3, 0.200_1, -0.01, f64::NAN, f64::INFINITY] {
        check_rejected(nodes(1).max_clock_drift(drift), &["drift", "0 to 0.2"]);
    }
}

#[tokio::test]
async fn the_key_prefix_of_quorlock_is_reserved() {
    check_rejected(nodes(1).key_prefix("quorlock:"), &["prefix", "quorlock:"]);
    check_rejected(nodes(1).key_prefix("quorlock:mine:"), &["prefix", "quorlock:"]);
    assert!(nodes(1).key_prefix("redlock:").connect_lazy().is_ok());
    // Only prefix and name together begin with the reserved prefix.
    let redlock = nodes(1).key_prefix("quor").connect_lazy().expect("a valid prefix");
    check_name_rejected(&redlock, "lock:node", &["quorlock:"]).await;
}

#[tokio::test]
async fn a_server_is_listed_only_once() {
    let twice =
        ["redis://:open-sesame@127.0.0.1:1", "redis://127.0.0.1:2", "redis://:open-sesame@127.0.0.1:1"];
    check_rejected(Redlock::builder().nodes(twice), &["127.0.0.1:1", "twice"]);
    let default_port = ["redis://localhost", "redis://localhost:6379/"];
    check_rejected(Redlock::builder().nodes(default_port), &["twice"]);
}

#[tokio::test]
async fn an_invalid_url_is_rejected() {
    for url in
        ["", "127.0.0.1", "http://:open-sesame@127.0.0.1", "redis://", "redis://:open-sesame@host:port"]
    {
        check_rejected(Redlock::builder().nodes([url]), &[]);
    }
}

#[test]
fn options_are_checked_without_a_runtime_and_an_invalid_one_is_named() {
    assert_eq!(nodes(3).check(), Ok(()));
    let option = |builder: RedlockBuilder| builder.check().expect_err("invalid").option();
    let hour = Duration::from_secs(3601);
    let options = [
        (nodes(0), "nodes"),
        (nodes(10), "nodes"),
        (Redlock::builder().nodes(["http://a"]), "nodes"),
        (nodes(3).quorum(1), "quorum"),
        (nodes(3).max_clock_drift(1.0), "max_clock_drift"),
        (nodes(3).key_prefix("quorlock:"), "key_prefix"),
        (nodes(3).client_name("a b"), "client_name"),
        (nodes(3).max_ttl(hour), "max_ttl"),
        (nodes(3).fencing_retention(Duration::ZERO), "fencing_retention"),
        (nodes(3).reply_timeout(hour), "reply_timeout"),
        (nodes(3).dial_timeout(hour), "dial_timeout"),
        (nodes(3).connect_timeout(hour), "connect_timeout"),
    ];
    for (builder, name) in options {
        assert_eq!(option(builder), Some(name));
    }
}

#[cfg(feature = "tls-rustls")]
#[test]
fn tls_options_apply_to_a_tls_node_or_are_rejected() {
    let builder_with_ca = || nodes(3).tls_ca_file("ca.crt");
    check_rejected(builder_with_ca(), &["authorities", "rediss://"]);
    check_rejected(nodes(3).tls_client_certificate("a.crt", "a.key"), &["client certificate", "rediss://"]);
    let mixed = ["redis://127.0.0.1:1", "rediss://127.0.0.1:2"];
    assert_eq!(builder_with_ca().nodes(mixed).tls_client_certificate("a.crt", "a.key").check(), Ok(()));
    // PEM text in place of a file name.
    let key = nodes(1).nodes(["rediss://127.0.0.1:1"]).tls_client_certificate("-----BEGIN sesame", "a.key");
    let authority =
        nodes(1).nodes(["rediss://127.0.0.1:1"]).tls_ca_file("-----BEGIN CERTIFICATE-----\nsesame");
    for (builder, option) in [(&key, "tls_client_certificate"), (&authority, "tls_ca_file")] {
        let invalid = builder.check_files().expect_err("no file");
        assert!(invalid.option() == Some(option) && !invalid.to_string().contains("sesame"), "{invalid:?}");
    }
    for builder in [key, authority] {
        let error = builder.dedicated_thread().connect_lazy().expect_err("no file").to_string();
        assert!(!error.contains("sesame"), "{error}");
    }
}

#[test]
fn an_invalid_lock_is_detected_without_a_client() {
    let second = Some(Duration::from_secs(1));
    assert_eq!(nodes(3).check_lock("a", second, 7), Ok(()));
    for (name, ttl, min_number, option) in [
        ("", None, 0, "name"),
        ("quorlock:a", None, 0, "name"),
        ("a", Some(Duration::from_secs(31)), 0, "ttl"),
        ("a", Some(Duration::from_millis(9)), 0, "ttl"),
        ("a", second, u64::MAX, "min_fencing_number"),
    ] {
        let invalid = nodes(3).check_lock(name, ttl, min_number).expect_err("invalid");
        assert_eq!(invalid.option(), Some(option), "{invalid}");
    }
    assert_eq!(nodes(3).quorum(9).check_lock("a", None, 0).expect_err("invalid").option(), Some("quorum"));
}

#[tokio::test]
async fn timeouts_are_more_than_zero_and_at_most_an_hour() {
    for duration in [Duration::ZERO, Duration::from_secs(3601)] {
        check_rejected(nodes(1).reply_timeout(duration), &["reply timeout", "more than zero", "an hour"]);
        check_rejected(nodes(1).dial_timeout(duration), &["dial timeout"]);
        check_rejected(nodes(1).connect_timeout(duration), &["connect timeout"]);
    }
}

#[tokio::test]
async fn a_client_name_must_be_valid_for_redis() {
    for name in ["", "two words", "línea", "line\n"] {
        check_rejected(nodes(1).client_name(name), &["client name", "without spaces"]);
    }
}

#[test]
fn connect_without_a_runtime_names_the_remedy() {
    check_rejected(nodes(1), &["runtime", "dedicated_thread()"]);
    assert!(nodes(1).dedicated_thread().connect_lazy().is_ok());
}

fn client() -> Redlock {
    nodes(3).connect_lazy().expect("connect_lazy needs no node")
}

/// Acquiring fails before any node is contacted, and the message contains all of these texts.
async fn check_acquire_rejected(mutex: Mutex, texts: &[&str]) {
    match mutex.clone().acquire().await {
        Err(AcquireError::InvalidInput(invalid)) => check_message(&invalid, texts),
        other => panic!("expected InvalidInput with {texts:?}, got {other:?}"),
    }
    match mutex.try_acquire().await {
        Err(AcquireError::InvalidInput(invalid)) => check_message(&invalid, texts),
        other => panic!("expected InvalidInput with {texts:?}, got {other:?}"),
    }
}

async fn check_name_rejected(redlock: &Redlock, name: &str, texts: &[&str]) {
    check_acquire_rejected(redlock.mutex(name), texts).await;
    for error in [redlock.inspect(name).await.err(), redlock.force_release(name).await.err()] {
        match error {
            Some(InspectError::InvalidInput(invalid)) => check_message(&invalid, texts),
            other => panic!("expected InvalidInput with {texts:?}, got {other:?}"),
        }
    }
    match redlock.mutex(name).run(|_| async {}).await {
        Err(RunError::Acquire(AcquireError::InvalidInput(invalid))) => check_message(&invalid, texts),
        other => panic!("expected InvalidInput with {texts:?}, got {other:?}"),
    }
}

#[tokio::test]
async fn a_lock_needs_a_name_without_the_reserved_prefix() {
    let redlock = client();
    check_name_rejected(&redlock, "", &["needs a name"]).await;
    check_name_rejected(&redlock, "quorlock:x", &["quorlock:x", "reserved"]).await;
}

#[tokio::test]
async fn max_ttl_is_from_10_ms_to_an_hour() {
    for duration in [Duration::from_millis(10), Duration::from_secs(3600)] {
        assert!(nodes(1).max_ttl(duration).connect_lazy().is_ok(), "{duration:?}");
    }
    for duration in [Duration::ZERO, Duration::from_millis(9), Duration::from_secs(3601)] {
        check_rejected(nodes(1).max_ttl(duration), &["max ttl", "10 ms", "an hour"]);
    }
}

#[tokio::test]
async fn fencing_retention_is_from_twice_the_max_ttl_to_a_year() {
    let day = Duration::from_secs(24 * 3600);
    assert!(nodes(1).fencing_retention(Duration::from_secs(60)).connect_lazy().is_ok());
    assert!(nodes(1).fencing_retention(366 * day).connect_lazy().is_ok());
    for duration in [Duration::ZERO, Duration::from_secs(59), 367 * day, Duration::MAX] {
        check_rejected(nodes(1).fencing_retention(duration), &["fences", "at least 60s", "a year"]);
    }
    let hour = Duration::from_secs(3600);
    assert!(nodes(1).max_ttl(hour).connect_lazy().is_ok(), "the default grows with the max ttl");
    let check = |retention| nodes(1).max_ttl(hour).fencing_retention(retention);
    check_rejected(check(Duration::from_secs(7199)), &["fences", "7199s", "twice the max ttl"]);
    assert!(check(hour * 2).connect_lazy().is_ok());
    let short =
        |millis| nodes(1).max_ttl(Duration::from_millis(10)).fencing_retention(Duration::from_millis(millis));
    check_rejected(short(1_009), &["at least 1.01s"]);
    assert!(short(1_010).connect_lazy().is_ok());
}

#[tokio::test]
async fn a_ttl_in_fenced_mode_is_at_most_the_max_ttl() {
    let redlock =
        nodes(3).max_ttl(Duration::from_secs(4)).connect_lazy().expect("connect_lazy needs no node");
    let mutex = redlock.mutex("a").ttl(Duration::from_millis(4001));
    check_acquire_rejected(mutex, &["4.001s", "longest", "4s", "quorlock init"]).await;
}

#[tokio::test]
async fn a_minimum_fencing_number_is_bounded_and_needs_fenced_mode() {
    let largest: u64 = (1 << 53) - (1 << 40);
    check_acquire_rejected(
        client().mutex("a").min_fencing_number(largest + 1),
        &["minimum fencing number", &largest.to_string()],
    )
    .await;
    check_acquire_rejected(client().mutex("a").min_fencing_number(u64::MAX), &["minimum fencing number"])
        .await;
    let plain = nodes(3).plain().connect_lazy().expect("connect_lazy needs no node");
    check_acquire_rejected(plain.mutex("a").min_fencing_number(1), &["minimum fencing number", "plain"])
        .await;
}

#[tokio::test]
async fn a_ttl_in_plain_mode_is_from_10_ms_to_a_year() {
    let redlock = nodes(3).plain().connect_lazy().expect("connect_lazy needs no node");
    let mutex = || redlock.mutex("a");
    check_acquire_rejected(mutex().ttl(Duration::ZERO), &["a ttl of 0s", "too short"]).await;
    check_acquire_rejected(mutex().ttl(Duration::from_millis(9)), &["9ms", "too short", "10 ms"]).await;
    let two_years = Duration::from_secs(2 * 365 * 24 * 60 * 60);
    check_acquire_rejected(mutex().ttl(two_years), &["a ttl of 730d", "too long", "a year"]).await;
    check_acquire_rejected(mutex().ttl(Duration::MAX), &["too long"]).await;
}

#[tokio::test]
async fn the_attempt_timeout_is_more_than_zero_and_at_most_a_quarter_of_the_ttl() {
    let redlock = client();
    let mutex = || redlock.mutex("a").ttl(Duration::from_secs(4));
    check_acquire_rejected(
        mutex().attempt_timeout(Duration::from_millis(1_001)),
        &["attempt timeout", "quarter", "4s"],
    )
    .await;
    check_acquire_rejected(mutex().attempt_timeout(Duration::ZERO), &["attempt timeout", "zero"]).await;
}

#[tokio::test]
async fn max_hold_time_is_at_least_the_ttl() {
    let mutex = client().mutex("a").ttl(Duration::from_secs(4)).max_hold_time(Duration::from_millis(3_999));
    check_acquire_rejected(mutex, &["max_hold", "4s"]).await;
}

/// Durations from zero to the maximum.
const DURATIONS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_millis(1),
    Duration::from_secs(3600),
    Duration::from_secs(u64::MAX),
    Duration::MAX,
];

#[tokio::test]
async fn every_duration_of_a_client_works_or_is_rejected_with_a_message() {
    let setters: [fn(RedlockBuilder, Duration) -> RedlockBuilder; 5] = [
        RedlockBuilder::max_ttl,
        RedlockBuilder::fencing_retention,
        RedlockBuilder::reply_timeout,
        RedlockBuilder::dial_timeout,
        RedlockBuilder::connect_timeout,
    ];
    let mut accepted = 0;
    for set in setters {
        for duration in DURATIONS {
            for builder in [nodes(3), nodes(3).plain()] {
                match set(builder.clone(), duration).connect_lazy() {
                    Ok(redlock) => {
                        accepted += 1;
                        let result = redlock.mutex("a").no_wait().acquire().await;
                        assert!(result.is_err_and(|error| !error.to_string().is_empty()), "{duration:?}");
                        redlock.node_status().await;
                        // Some durations are rejected only in combination with others.
                        let _ =
                            set(builder, duration).connect_timeout(Duration::from_millis(20)).connect().await;
                    }
                    Err(ConnectError::InvalidInput(invalid)) => {
                        assert!(invalid.to_string().contains("take"), "{invalid}");
                    }
                    Err(other) => panic!("{duration:?}: {other}"),
                }
            }
        }
    }
    assert!(accepted > 10, "{accepted}");
}

#[tokio::test]
async fn every_duration_of_a_lock_works_or_fails_with_a_message() {
    let setters: [fn(Mutex, Duration) -> Mutex; 3] =
        [Mutex::ttl, Mutex::attempt_timeout, Mutex::max_hold_time];
    for redlock in [client(), nodes(3).plain().connect_lazy().expect("connect_lazy needs no node")] {
        for set in setters {
            for duration in DURATIONS {
                let result = set(redlock.mutex("a"), duration).no_wait().acquire().await;
                let error = result.expect_err("no node is up");
                assert!(error.to_string().starts_with("lock \"a\": "), "{duration:?}: {error}");
            }
        }
        for wait in DURATIONS {
            let acquire = redlock.mutex("a").wait_timeout(wait).acquire();
            let within = tokio::time::timeout(Duration::from_millis(400), acquire).await;
            assert_eq!(within.is_err(), wait > Duration::from_secs(1), "{wait:?}: {within:?}");
        }
        for limit in DURATIONS {
            let _ = redlock.shutdown(limit).await;
        }
    }
}

#[cfg(feature = "serde")]
#[test]
fn a_fencing_token_survives_a_json_round_trip() {
    use quorlock::FencingToken;

    let token = FencingToken { number: (1 << 53) - 1, nonce: u128::MAX - 0xfeed };
    let text = r#"{"number":9007199254740991,"nonce":"ffffffffffffffffffffffffffff0112"}"#;
    assert_eq!(serde_json::to_string(&token).unwrap(), text);
    assert_eq!(serde_json::from_str::<FencingToken>(text).unwrap(), token);
    // A reader cannot lend its text to the deserializer.
    assert_eq!(serde_json::from_reader::<_, FencingToken>(text.as_bytes()).unwrap(), token);
    for nonce in [r#""12""#, "12", r#""+fffffffffffffffffffffffffff0112""#, "null"] {
        let bad = format!(r#"{{"number":1,"nonce":{nonce}}}"#);
        assert!(serde_json::from_str::<FencingToken>(&bad).is_err(), "{bad}");
    }
}
