//! The public API as its users meet it: what it promises by its types, and what it refuses, in which words.

use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use quorlock::{
    AcquireError, ConnectError, ExtendError, FencingToken, Guard, InitError, InitOutcome, InspectError,
    InvalidInput, LockView, LostSignal, Mutex, ParseFencingTokenError, Redlock, RedlockBuilder, ReleaseError,
    RunError, ShutdownError,
};

const fn handle<T: Clone + Send + Sync + 'static>() {}
const fn shared<T: Send + Sync + 'static>() {}
const fn error<T: Error + Clone + Send + Sync + 'static>() {}
fn sendable<T: Send>(value: T) -> T {
    value
}

/// Said once for all: what may cross threads, and what an error can be boxed as.
const _: () = {
    handle::<Redlock>();
    handle::<RedlockBuilder>();
    handle::<Mutex>();
    handle::<LockView>();
    handle::<FencingToken>();
    handle::<InitOutcome>();
    shared::<Guard>();
    shared::<LostSignal>();
    error::<InvalidInput>();
    error::<ConnectError>();
    error::<InitError>();
    error::<ParseFencingTokenError>();
    error::<AcquireError>();
    error::<ExtendError>();
    error::<ReleaseError>();
    error::<InspectError>();
    error::<RunError>();
    error::<ShutdownError>();
};

/// Never called: it compiles only if every future can be spawned.
#[allow(dead_code)]
fn every_future_is_send(builder: RedlockBuilder, redlock: &Redlock, guard: Guard) {
    let span = Duration::from_secs(1);
    drop(sendable(builder.clone().init(false)));
    drop(sendable(builder.connect()));
    drop(sendable(redlock.mutex("a").acquire()));
    drop(sendable(redlock.mutex("a").try_acquire()));
    drop(sendable(redlock.mutex("a").run(|held| async move { held.is_valid() })));
    drop(sendable(redlock.inspect("a")));
    drop(sendable(redlock.force_release("a")));
    drop(sendable(redlock.node_status()));
    drop(sendable(redlock.shutdown(span)));
    drop(sendable(guard.extend(span)));
    drop(sendable(guard.lost()));
    drop(sendable(guard.release()));
}

#[test]
fn no_debug_output_shows_a_password() {
    let builder = Redlock::builder()
        .nodes(["redis://somebody:open-sesame@127.0.0.1:1/0"])
        .username("somebody")
        .password("open-sesame");
    let shown = format!("{builder:?} {builder:#?}");
    assert!(!shown.contains("sesame") && !shown.contains("somebody"), "{shown}");
}

#[tokio::test]
async fn no_client_or_lock_shows_a_password() {
    let builder = Redlock::builder().nodes(["redis://:open-sesame@127.0.0.1:1"]).password("open-sesame");
    let redlock = builder.connect_lazy().expect("connect_lazy needs no node");
    let mutex = redlock.mutex("a").no_wait();
    let refusal = mutex.clone().acquire().await.expect_err("no server listens there");
    let nodes = redlock.node_status().await;
    let shown = format!("{redlock:?} {mutex:?} {refusal:?} {refusal} {nodes:?}");
    assert!(!shown.contains("sesame"), "{shown}");
}

/// The builder refuses this, saying all of these words.
#[track_caller]
fn check_refused(builder: RedlockBuilder, words: &[&str]) {
    let checked = builder.check();
    match builder.connect_lazy() {
        Err(ConnectError::InvalidInput(invalid)) => {
            check_words(&invalid, words);
            // What is about no option shows when the client is made.
            assert_eq!(checked.err(), invalid.option().map(|_| invalid), "a check finds the same");
        }
        other => panic!("expected a refusal that says {words:?}, and not {other:?}"),
    }
}

#[track_caller]
fn check_words<T: ToString + Debug>(refusal: &T, words: &[&str]) {
    let text = refusal.to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
    assert!(!text.contains("sesame"), "{text:?} shows a password");
}

fn nodes(count: usize) -> RedlockBuilder {
    Redlock::builder().nodes((0..count).map(|place| format!("redis://127.0.0.1:{}", place + 1)))
}

#[tokio::test]
async fn one_to_nine_nodes_are_accepted() {
    for count in 1..=9 {
        assert!(nodes(count).connect_lazy().is_ok(), "{count} nodes");
    }
    check_refused(nodes(0), &["no node", "at least one"]);
    check_refused(nodes(10), &["10", "at most nine"]);
}

#[tokio::test]
async fn a_quorum_is_at_least_a_majority_and_at_most_all_nodes() {
    for need in 3..=5 {
        assert!(nodes(5).quorum(need).connect_lazy().is_ok(), "{need} of five");
    }
    check_refused(nodes(5).quorum(2), &["2", "majority", "at least 3"]);
    check_refused(nodes(4).quorum(2), &["majority", "at least 3"]);
    check_refused(nodes(5).quorum(0), &["majority"]);
    check_refused(nodes(5).quorum(6), &["6", "more than the 5 nodes"]);
}

#[tokio::test]
async fn max_clock_drift_is_from_zero_to_a_fifth() {
    for share in [0.0, 0.2] {
        assert!(nodes(1).max_clock_drift(share).connect_lazy().is_ok(), "{share}");
    }
    for share in [0.3, 0.200_1, -0.01, f64::NAN, f64::INFINITY] {
        check_refused(nodes(1).max_clock_drift(share), &["drift", "0 to 0.2"]);
    }
}

#[tokio::test]
async fn the_key_prefix_of_quorlock_is_reserved() {
    check_refused(nodes(1).key_prefix("quorlock:"), &["prefix", "quorlock:"]);
    check_refused(nodes(1).key_prefix("quorlock:mine:"), &["prefix", "quorlock:"]);
    assert!(nodes(1).key_prefix("redlock:").connect_lazy().is_ok());
    // A prefix and a name that only together say it.
    let redlock = nodes(1).key_prefix("quor").connect_lazy().expect("a valid prefix");
    check_name_refused(&redlock, "lock:node", &["quorlock:"]).await;
}

#[tokio::test]
async fn a_server_is_listed_only_once() {
    let twice =
        ["redis://:open-sesame@127.0.0.1:1", "redis://127.0.0.1:2", "redis://:open-sesame@127.0.0.1:1"];
    check_refused(Redlock::builder().nodes(twice), &["127.0.0.1:1", "twice"]);
    let default_port = ["redis://localhost", "redis://localhost:6379/"];
    check_refused(Redlock::builder().nodes(default_port), &["twice"]);
}

#[tokio::test]
async fn an_invalid_url_is_rejected() {
    for url in
        ["", "127.0.0.1", "http://:open-sesame@127.0.0.1", "redis://", "redis://:open-sesame@host:port"]
    {
        check_refused(Redlock::builder().nodes([url]), &[]);
    }
}

#[test]
fn options_are_checked_without_a_runtime_and_an_invalid_one_is_named() {
    assert_eq!(nodes(3).check(), Ok(()));
    let option = |builder: RedlockBuilder| builder.check().expect_err("refused").option();
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
    let bare = || nodes(3).tls_ca_file("ca.crt");
    check_refused(bare(), &["authorities", "rediss://"]);
    check_refused(nodes(3).tls_client_certificate("a.crt", "a.key"), &["client certificate", "rediss://"]);
    let mixed = ["redis://127.0.0.1:1", "rediss://127.0.0.1:2"];
    assert_eq!(bare().nodes(mixed).tls_client_certificate("a.crt", "a.key").check(), Ok(()));
    // What was given in place of a file's name.
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
    for (name, ttl, floor, option) in [
        ("", None, 0, "name"),
        ("quorlock:a", None, 0, "name"),
        ("a", Some(Duration::from_secs(31)), 0, "ttl"),
        ("a", Some(Duration::from_millis(9)), 0, "ttl"),
        ("a", second, u64::MAX, "min_fencing_number"),
    ] {
        let invalid = nodes(3).check_lock(name, ttl, floor).expect_err("refused");
        assert_eq!(invalid.option(), Some(option), "{invalid}");
    }
    assert_eq!(nodes(3).quorum(9).check_lock("a", None, 0).expect_err("refused").option(), Some("quorum"));
}

#[tokio::test]
async fn timeouts_are_more_than_zero_and_at_most_an_hour() {
    for span in [Duration::ZERO, Duration::from_secs(3601)] {
        check_refused(nodes(1).reply_timeout(span), &["reply timeout", "more than zero", "an hour"]);
        check_refused(nodes(1).dial_timeout(span), &["dial timeout"]);
        check_refused(nodes(1).connect_timeout(span), &["connect timeout"]);
    }
}

#[tokio::test]
async fn a_client_name_must_be_valid_for_redis() {
    for name in ["", "two words", "línea", "line\n"] {
        check_refused(nodes(1).client_name(name), &["client name", "without spaces"]);
    }
}

#[test]
fn connect_without_a_runtime_names_the_remedy() {
    check_refused(nodes(1), &["runtime", "dedicated_thread()"]);
    assert!(nodes(1).dedicated_thread().connect_lazy().is_ok());
}

fn client() -> Redlock {
    nodes(3).connect_lazy().expect("connect_lazy needs no node")
}

/// Taking it is refused, saying all of these words, before anybody waits for a node.
async fn check_mutex_refused(mutex: Mutex, words: &[&str]) {
    match mutex.clone().acquire().await {
        Err(AcquireError::InvalidInput(invalid)) => check_words(&invalid, words),
        other => panic!("expected a refusal that says {words:?}, and not {other:?}"),
    }
    match mutex.try_acquire().await {
        Err(AcquireError::InvalidInput(invalid)) => check_words(&invalid, words),
        other => panic!("expected a refusal that says {words:?}, and not {other:?}"),
    }
}

async fn check_name_refused(redlock: &Redlock, name: &str, words: &[&str]) {
    check_mutex_refused(redlock.mutex(name), words).await;
    for refusal in [redlock.inspect(name).await.err(), redlock.force_release(name).await.err()] {
        match refusal {
            Some(InspectError::InvalidInput(invalid)) => check_words(&invalid, words),
            other => panic!("expected a refusal that says {words:?}, and not {other:?}"),
        }
    }
    match redlock.mutex(name).run(|_| async {}).await {
        Err(RunError::Acquire(AcquireError::InvalidInput(invalid))) => check_words(&invalid, words),
        other => panic!("expected a refusal that says {words:?}, and not {other:?}"),
    }
}

#[tokio::test]
async fn a_lock_needs_a_name_without_the_reserved_prefix() {
    let redlock = client();
    check_name_refused(&redlock, "", &["needs a name"]).await;
    check_name_refused(&redlock, "quorlock:x", &["quorlock:x", "reserved"]).await;
}

#[tokio::test]
async fn max_ttl_is_from_10_ms_to_an_hour() {
    for span in [Duration::from_millis(10), Duration::from_secs(3600)] {
        assert!(nodes(1).max_ttl(span).connect_lazy().is_ok(), "{span:?}");
    }
    for span in [Duration::ZERO, Duration::from_millis(9), Duration::from_secs(3601)] {
        check_refused(nodes(1).max_ttl(span), &["max ttl", "10 ms", "an hour"]);
    }
}

#[tokio::test]
async fn fencing_retention_is_from_twice_the_max_ttl_to_a_year() {
    let day = Duration::from_secs(24 * 3600);
    assert!(nodes(1).fencing_retention(Duration::from_secs(60)).connect_lazy().is_ok());
    assert!(nodes(1).fencing_retention(366 * day).connect_lazy().is_ok());
    for span in [Duration::ZERO, Duration::from_secs(59), 367 * day, Duration::MAX] {
        check_refused(nodes(1).fencing_retention(span), &["fences", "at least 60s", "a year"]);
    }
    let hour = Duration::from_secs(3600);
    assert!(nodes(1).max_ttl(hour).connect_lazy().is_ok(), "what is usual grows with the max ttl");
    let check = |keep| nodes(1).max_ttl(hour).fencing_retention(keep);
    check_refused(check(Duration::from_secs(7199)), &["fences", "7199s", "twice the max ttl"]);
    assert!(check(hour * 2).connect_lazy().is_ok());
    let short =
        |millis| nodes(1).max_ttl(Duration::from_millis(10)).fencing_retention(Duration::from_millis(millis));
    check_refused(short(1_009), &["at least 1.01s"]);
    assert!(short(1_010).connect_lazy().is_ok());
}

#[tokio::test]
async fn a_ttl_in_fenced_mode_is_at_most_the_max_ttl() {
    let redlock =
        nodes(3).max_ttl(Duration::from_secs(4)).connect_lazy().expect("connect_lazy needs no node");
    let mutex = redlock.mutex("a").ttl(Duration::from_millis(4001));
    check_mutex_refused(mutex, &["4.001s", "longest", "4s", "quorlock init"]).await;
}

#[tokio::test]
async fn a_minimum_fencing_number_is_bounded_and_needs_fenced_mode() {
    let largest: u64 = (1 << 53) - (1 << 40);
    check_mutex_refused(
        client().mutex("a").min_fencing_number(largest + 1),
        &["minimum fencing number", &largest.to_string()],
    )
    .await;
    check_mutex_refused(client().mutex("a").min_fencing_number(u64::MAX), &["minimum fencing number"]).await;
    let plain = nodes(3).plain().connect_lazy().expect("connect_lazy needs no node");
    check_mutex_refused(plain.mutex("a").min_fencing_number(1), &["minimum fencing number", "plain"]).await;
}

#[tokio::test]
async fn a_ttl_in_plain_mode_is_from_10_ms_to_a_year() {
    let redlock = nodes(3).plain().connect_lazy().expect("connect_lazy needs no node");
    let mutex = || redlock.mutex("a");
    check_mutex_refused(mutex().ttl(Duration::ZERO), &["a ttl of 0s", "too short"]).await;
    check_mutex_refused(mutex().ttl(Duration::from_millis(9)), &["9ms", "too short", "10 ms"]).await;
    let two_years = Duration::from_secs(2 * 365 * 24 * 60 * 60);
    check_mutex_refused(mutex().ttl(two_years), &["a ttl of 730d", "too long", "a year"]).await;
    check_mutex_refused(mutex().ttl(Duration::MAX), &["too long"]).await;
}

#[tokio::test]
async fn the_attempt_timeout_is_more_than_zero_and_at_most_a_quarter_of_the_ttl() {
    let redlock = client();
    let mutex = || redlock.mutex("a").ttl(Duration::from_secs(4));
    check_mutex_refused(
        mutex().attempt_timeout(Duration::from_millis(1_001)),
        &["patience", "quarter", "4s"],
    )
    .await;
    check_mutex_refused(mutex().attempt_timeout(Duration::ZERO), &["patience", "zero"]).await;
}

#[tokio::test]
async fn max_hold_time_is_at_least_the_ttl() {
    let mutex = client().mutex("a").ttl(Duration::from_secs(4)).max_hold_time(Duration::from_millis(3_999));
    check_mutex_refused(mutex, &["max_hold", "4s"]).await;
}

/// What can be given for a span, from nothing to more than there is.
const SPANS: [Duration; 6] = [
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
    let mut taken = 0;
    for set in setters {
        for span in SPANS {
            for builder in [nodes(3), nodes(3).plain()] {
                match set(builder.clone(), span).connect_lazy() {
                    Ok(redlock) => {
                        taken += 1;
                        let result = redlock.mutex("a").no_wait().acquire().await;
                        assert!(result.is_err_and(|error| !error.to_string().is_empty()), "{span:?}");
                        redlock.node_status().await;
                        // Some are refused once more where they meet others.
                        let _ = set(builder, span).connect_timeout(Duration::from_millis(20)).connect().await;
                    }
                    Err(ConnectError::InvalidInput(invalid)) => {
                        assert!(invalid.to_string().contains("take"), "{invalid}");
                    }
                    Err(other) => panic!("{span:?}: {other}"),
                }
            }
        }
    }
    assert!(taken > 10, "{taken}");
}

#[tokio::test]
async fn every_duration_of_a_lock_works_or_fails_with_a_message() {
    let setters: [fn(Mutex, Duration) -> Mutex; 3] =
        [Mutex::ttl, Mutex::attempt_timeout, Mutex::max_hold_time];
    for redlock in [client(), nodes(3).plain().connect_lazy().expect("connect_lazy needs no node")] {
        for set in setters {
            for span in SPANS {
                let result = set(redlock.mutex("a"), span).no_wait().acquire().await;
                let error = result.expect_err("no node is up");
                assert!(error.to_string().starts_with("lock \"a\": "), "{span:?}: {error}");
            }
        }
        for wait in SPANS {
            let acquire = redlock.mutex("a").wait_timeout(wait).acquire();
            let within = tokio::time::timeout(Duration::from_millis(400), acquire).await;
            assert_eq!(within.is_err(), wait > Duration::from_secs(1), "{wait:?}: {within:?}");
        }
        for limit in SPANS {
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
    // From a stream, which lends nobody its text.
    assert_eq!(serde_json::from_reader::<_, FencingToken>(text.as_bytes()).unwrap(), token);
    for nonce in [r#""12""#, "12", r#""+fffffffffffffffffffffffffff0112""#, "null"] {
        let bad = format!(r#"{{"number":1,"nonce":{nonce}}}"#);
        assert!(serde_json::from_str::<FencingToken>(&bad).is_err(), "{bad}");
    }
}
