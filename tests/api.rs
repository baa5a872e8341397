//! Tests of the public API without servers: auto traits, rejected options and their messages, accessors of
//! errors, and serialization. It runs past 400 lines because the limits of every option stand side by side.

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use quorlock::error::{
    AdoptError, ConnectError, ExtendError, ForgetError, InitError, InspectError, InvalidInput,
    InvalidInputKind, NoDriver, ParseFencingTokenError, ParseOwnerHashError, PendingRelease, ReleaseError,
    ShutdownError, TicketError,
};
use quorlock::event::{Event, FailureReason, LossReason};
use quorlock::inspect::{Holder, Inspection, KeyOwner, KeyState, NodeInspection, OwnerHash};
use quorlock::node::{
    Credentials, CredentialsRequest, DialStep, ExclusionReason, Fences, NodeReplies, NodeReply, NodeState,
    NodeStatus, NodeWarning, Persistence, Probation, ProbationReason, ReplyFailure, ServerVersion,
};
use quorlock::{
    AcquireError, CancellationToken, FencingToken, Guard, InitOutcome, LeaseDeadline, LockName, LockTicket,
    LockView, Mode, Mutex, Redlock, RedlockBuilder, ReleaseOutcome, RunError,
};

/// A value that may be cloned and sent to any thread.
const fn is_value<T: Clone + Debug + Send + Sync + 'static>() {}
const fn is_send_sync<T: Debug + Send + Sync + 'static>() {}
const fn is_error<T: Error + Clone + Send + Sync + 'static>() {}
fn assert_send<T: Send>(value: T) -> T {
    value
}

/// Checked at compile time: which types are `Send`, `Sync`, `Clone` and errors.
const _: () = {
    is_value::<Redlock>();
    is_value::<RedlockBuilder>();
    is_value::<Mutex>();
    is_value::<LockView>();
    is_value::<LockName>();
    is_value::<LeaseDeadline>();
    is_value::<FencingToken>();
    is_value::<CancellationToken>();
    is_value::<InitOutcome>();
    is_value::<ReleaseOutcome>();
    is_value::<Mode>();
    is_send_sync::<Guard>();
    is_value::<LockTicket>();
    is_error::<InvalidInput>();
    is_value::<InvalidInputKind>();
    is_value::<NoDriver>();
    is_value::<PendingRelease>();
    is_error::<ConnectError>();
    is_error::<InitError>();
    is_error::<ParseFencingTokenError>();
    is_error::<ParseOwnerHashError>();
    is_error::<AcquireError>();
    is_error::<AdoptError>();
    is_error::<ExtendError>();
    is_error::<ForgetError>();
    is_error::<ReleaseError>();
    is_error::<InspectError>();
    is_error::<RunError<AcquireError>>();
    is_error::<ShutdownError>();
    is_error::<TicketError>();
    is_value::<Event>();
    is_value::<FailureReason>();
    is_value::<LossReason>();
    is_value::<Inspection>();
    is_value::<NodeInspection>();
    is_value::<Holder>();
    is_value::<OwnerHash>();
    is_value::<KeyOwner>();
    is_value::<KeyState>();
    is_value::<NodeStatus>();
    is_value::<NodeState>();
    is_value::<NodeReply>();
    is_value::<NodeReplies>();
    is_value::<NodeWarning>();
    is_value::<ServerVersion>();
    is_value::<Persistence>();
    is_value::<Probation>();
    is_value::<ProbationReason>();
    is_value::<ExclusionReason>();
    is_value::<ReplyFailure>();
    is_value::<DialStep>();
    is_value::<Credentials>();
    is_value::<CredentialsRequest>();
    is_value::<Fences>();
};

/// Tokens have no order, which would also compare their random nonces. Compiles only if `FencingToken` is not
/// `PartialOrd`: otherwise both implementations apply, and the type of `_` is ambiguous.
const _: () = {
    trait NotOrdered<Marker> {
        const HOLDS: bool = true;
    }
    impl<T> NotOrdered<()> for T {}
    impl<T: PartialOrd> NotOrdered<Redlock> for T {}
    assert!(<FencingToken as NotOrdered<_>>::HOLDS);
};

/// Never called: it compiles only if every future is `Send`.
#[allow(dead_code)]
fn every_future_is_send(
    builder: RedlockBuilder,
    redlock: &Redlock,
    [guard, other]: [Guard; 2],
    ticket: &LockTicket,
) {
    let duration = Duration::from_secs(1);
    drop(assert_send(builder.clone().initialize()));
    drop(assert_send(builder.clone().force_initialize()));
    drop(assert_send(builder.connect()));
    drop(assert_send(Redlock::connect(["redis://a"])));
    let mutex = redlock.mutex("a");
    drop(assert_send(mutex.acquire()));
    drop(assert_send(mutex.try_acquire()));
    drop(assert_send(mutex.try_acquire_for(duration)));
    drop(assert_send(mutex.adopt(ticket)));
    drop(assert_send(mutex.run(|lock| async move { Ok::<_, Infallible>(lock.is_valid()) })));
    drop(assert_send(redlock.adopt(ticket)));
    drop(assert_send(redlock.inspect("a")));
    drop(assert_send(redlock.forget("a")));
    drop(assert_send(redlock.force_release("a")));
    drop(assert_send(redlock.force_release_of("a", OwnerHash::of(b"token"))));
    drop(assert_send(redlock.node_status()));
    drop(assert_send(redlock.shutdown(duration)));
    drop(assert_send(guard.extend(duration)));
    drop(assert_send(guard.lost()));
    drop(assert_send(guard.ended()));
    let view = guard.view();
    drop(assert_send(view.lost()));
    drop(assert_send(view.ended()));
    drop(assert_send(other.into_ticket()));
}

#[test]
fn no_debug_output_shows_a_password() {
    let builder = Redlock::builder()
        .nodes(["redis://alice:open-sesame@127.0.0.1:1/0"])
        .username("alice")
        .password("open-sesame");
    let shown = format!("{builder:?} {builder:#?}");
    assert!(!shown.contains("sesame") && !shown.contains("alice"), "{shown}");
    let credentials = Credentials::new("open-sesame").username("alice");
    assert_eq!(format!("{credentials:?}"), "Credentials(…)");
}

#[test]
fn a_password_beside_a_provider_of_credentials_is_rejected() {
    let provider = |_: CredentialsRequest| async { Ok(Credentials::new("open-sesame")) };
    let builder = nodes(3).username("alice").credentials(provider);
    assert_eq!(builder.check(), Ok(()));
    let builder = builder.password("open-sesame");
    assert_eq!(builder.check().map_err(|invalid| invalid.option()), Err(Some("credentials")));
    check_rejected(builder, &["a password is given, too"]);
}

#[tokio::test]
async fn no_client_or_lock_shows_a_password() {
    let builder = Redlock::builder().nodes(["redis://:open-sesame@127.0.0.1:1"]).password("open-sesame");
    let redlock = builder.connect_lazy().expect("connect_lazy needs no node");
    let mutex = redlock.mutex("a").wait_timeout(Duration::ZERO);
    let error = mutex.acquire().await.expect_err("no server listens there");
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
            assert!(invalid.option().is_some(), "{invalid}");
            assert_eq!(checked, Err(invalid), "check finds the same error");
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
async fn each_node_has_one_name_of_its_own() {
    assert!(nodes(3).node_names(["a", "b", "c"]).connect_lazy().is_ok());
    check_rejected(nodes(3).node_names(["a", "b"]), &["2 names for 3 nodes"]);
    check_rejected(nodes(3).node_names(["a", "b", "a"]), &["two nodes have one name", "1 and 3"]);
    check_rejected(nodes(3).node_names(["a", "", "b"]), &["empty name"]);
}

#[test]
fn a_reconfiguration_needs_the_names_of_new_nodes_if_the_others_have_names() {
    let urls = |nodes: &[u8]| -> Vec<String> {
        nodes.iter().map(|node| format!("redis://127.0.0.1:{node}")).collect()
    };
    let before = || Redlock::builder().nodes(urls(&[1, 2, 3])).node_names(["a", "b", "c"]);
    let check = |to: &[u8], names: Option<&[&str]>| {
        let reconfiguration = before().reconfigure(urls(to));
        match names {
            Some(names) => reconfiguration.to_names(names.iter().copied()).check(),
            None => reconfiguration.check(),
        }
    };
    assert_eq!(check(&[1, 2, 4], Some(&["a", "b", "d"])), Ok(()));
    assert_eq!(check(&[3, 1], None), Ok(()), "their names are known");
    for (to, names, message) in [
        (&[1, 2, 4][..], None, "127.0.0.1:4 is new, and the nodes before have names: give the nodes after"),
        (&[1, 2, 4], Some(&["a", "b"][..]), "2 names for 3 nodes"),
        (&[1, 2, 4], Some(&["a", "b", "b"]), "two nodes have one name: the nodes 2 and 3"),
        (&[1, 2, 3], Some(&["a", "b", "d"]), "127.0.0.1:3 has one name before and another after"),
    ] {
        let invalid = check(to, names).expect_err("invalid");
        assert_eq!(invalid.option(), Some("to_names"), "{invalid}");
        assert!(invalid.to_string().contains(message), "{invalid}");
    }
    let unnamed = Redlock::builder().nodes(urls(&[1])).reconfigure(urls(&[1])).to_names(["a"]);
    let invalid = unnamed.check().expect_err("the name would change");
    assert!(invalid.to_string().contains("(node_names)"), "{invalid}");
}

#[cfg(feature = "tls-rustls")]
#[test]
fn options_for_tls_are_for_the_nodes_before_or_after_a_reconfiguration() {
    let (plain, tls) = ("redis://10.0.0.1", "rediss://10.0.0.2");
    let check = |from: &str, to: &str| {
        let builder = Redlock::builder().nodes([from]).tls_ca_file("ca.crt");
        builder.reconfigure([to]).check().map_err(|invalid| invalid.option())
    };
    assert_eq!([check(plain, tls), check(tls, plain), check(tls, tls)], [Ok(()); 3]);
    assert_eq!(check(plain, plain), Err(Some("tls_ca_file")));
}

#[tokio::test]
async fn a_quorum_is_at_least_a_majority_and_at_most_all_nodes() {
    for quorum in 3..=5 {
        let redlock = nodes(5).quorum(quorum).connect_lazy().expect("valid");
        assert_eq!(redlock.quorum(), quorum);
    }
    for (count, majority) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (9, 5)] {
        assert_eq!(nodes(count).connect_lazy().expect("valid").quorum(), majority, "of {count} nodes");
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
        let error = builder.dedicated_thread(true).connect_lazy().expect_err("no file").to_string();
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
    let error = nodes(1).connect_lazy().expect_err("no runtime here");
    assert!(matches!(error, ConnectError::NoRuntime(_)), "{error:?}");
    check_message(&error, &["runtime", "dedicated_thread(true)"]);
    assert_eq!(nodes(1).check(), Ok(()), "the options are valid");
    assert!(nodes(1).dedicated_thread(true).connect_lazy().is_ok());
}

fn client() -> Redlock {
    nodes(3).connect_lazy().expect("connect_lazy needs no node")
}

/// Acquiring fails before any node is contacted, and the message contains all of these texts.
async fn check_acquire_rejected(mutex: Mutex, texts: &[&str]) {
    let outcomes = [
        mutex.acquire().await.map(drop),
        mutex.try_acquire().await.map(drop),
        mutex.try_acquire_for(Duration::from_secs(1)).await.map(drop),
    ];
    for outcome in outcomes {
        match outcome {
            Err(AcquireError::InvalidInput(invalid)) => check_message(&invalid, texts),
            other => panic!("expected InvalidInput with {texts:?}, got {other:?}"),
        }
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
    match redlock.mutex(name).run(async |_| Ok::<_, Infallible>(())).await {
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
    check_acquire_rejected(mutex, &["4.001s", "longest", "4s", "quorlock reconfigure"]).await;
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
    let plain = nodes(3).mode(Mode::Plain).connect_lazy().expect("connect_lazy needs no node");
    check_acquire_rejected(plain.mutex("a").min_fencing_number(1), &["minimum fencing number", "plain"])
        .await;
}

#[tokio::test]
async fn a_ttl_in_plain_mode_is_from_10_ms_to_a_year() {
    let redlock = nodes(3).mode(Mode::Plain).connect_lazy().expect("connect_lazy needs no node");
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

#[tokio::test]
async fn min_validity_is_less_than_a_lock_can_be_valid() {
    let mutex = |min| client().mutex("a").ttl(Duration::from_secs(4)).min_validity(min);
    // 4 s less 1 % and 2 ms.
    for millis in [3_958, 4_001] {
        check_acquire_rejected(mutex(Duration::from_millis(millis)), &["min_validity", "4s"]).await;
    }
    let result = mutex(Duration::from_millis(3_950)).try_acquire().await;
    assert!(matches!(result, Err(AcquireError::NoQuorum { .. })), "{result:?}");
}

#[tokio::test]
async fn a_wait_timeout_is_rejected_where_it_has_no_effect() {
    for wait in [Duration::ZERO, Duration::from_secs(1)] {
        let mutex = client().mutex("a").wait_timeout(wait);
        for error in [mutex.try_acquire().await, mutex.try_acquire_for(wait).await].map(Result::unwrap_err) {
            let AcquireError::InvalidInput(invalid) = error else {
                panic!("expected InvalidInput: {error:?}")
            };
            assert_eq!(
                (invalid.kind(), invalid.option()),
                (InvalidInputKind::Conflict, Some("wait_timeout")),
                "{invalid}"
            );
        }
    }
}

#[tokio::test]
async fn a_plain_builder_cannot_initialize_a_lock_cluster() {
    let plain = nodes(3).mode(Mode::Plain);
    for error in [
        plain.clone().initialize().await.expect_err("rejected"),
        plain.force_initialize().await.expect_err("rejected"),
    ] {
        let InitError::Connect(ConnectError::InvalidInput(invalid)) = error else {
            panic!("expected InvalidInput: {error:?}")
        };
        assert_eq!((invalid.kind(), invalid.option()), (InvalidInputKind::Conflict, Some("mode")));
    }
}

#[tokio::test]
async fn a_plain_client_cannot_forget_a_name() {
    let plain = nodes(3).key_prefix("app:").mode(Mode::Plain).connect_lazy();
    let error = plain.expect("connect_lazy needs no node").forget("a").await.expect_err("rejected");
    assert_eq!(error.key(), Some(&LockName::new("app:a")));
    let ForgetError::InvalidInput(invalid) = error else { panic!("expected InvalidInput: {error:?}") };
    assert_eq!((invalid.kind(), invalid.option()), (InvalidInputKind::Conflict, Some("mode")));
    check_message(&invalid, &["lock \"app:a\": ", "nothing to forget"]);
}

#[test]
fn every_kind_of_invalid_input_names_its_option() {
    use InvalidInputKind::{Conflict, Duplicate, Empty, Malformed, OutOfRange, Reserved};
    let builders = [
        (nodes(0), Empty, "nodes"),
        (nodes(10), OutOfRange, "nodes"),
        (Redlock::builder().nodes(["http://a"]), Malformed, "nodes"),
        (Redlock::builder().nodes(["redis://a", "redis://a"]), Duplicate, "nodes"),
        (nodes(3).quorum(4), OutOfRange, "quorum"),
        (nodes(3).key_prefix("quorlock:"), Reserved, "key_prefix"),
        (nodes(3).key_prefix("k".repeat(1 << 16)), OutOfRange, "key_prefix"),
        (nodes(3).client_name(""), Malformed, "client_name"),
        (nodes(3).max_clock_drift(f64::NAN), OutOfRange, "max_clock_drift"),
    ];
    for (builder, kind, option) in builders {
        let invalid = builder.check().expect_err(option);
        assert_eq!(
            (invalid.kind(), invalid.option(), invalid.key()),
            (kind, Some(option), None),
            "{invalid}"
        );
    }
    let second = Duration::from_secs(1);
    let plain = nodes(3).mode(Mode::Plain);
    let long = "k".repeat((1 << 16) + 1);
    let locks = [
        (nodes(3).check_lock("", None, 0), Empty, "name"),
        (nodes(3).check_lock("quorlock:a", None, 0), Reserved, "name"),
        (nodes(3).check_lock(&long, None, 0), OutOfRange, "name"),
        (nodes(3).check_lock("a", Some(second * 31), 0), OutOfRange, "ttl"),
        (nodes(3).check_lock("a", None, u64::MAX), OutOfRange, "min_fencing_number"),
        (plain.check_lock("a", None, 1), Conflict, "min_fencing_number"),
    ];
    for (result, kind, option) in locks {
        let invalid = result.expect_err(option);
        assert_eq!((invalid.kind(), invalid.option()), (kind, Some(option)), "{invalid}");
        let name = invalid.key().map(LockName::as_bytes);
        assert_eq!(name.is_some(), kind != Empty, "an error about one lock names it");
    }
}

#[cfg(feature = "tls-rustls")]
#[test]
fn every_kind_of_invalid_tls_option_names_its_option() {
    let files = |builder: RedlockBuilder| builder.tls_client_certificate("/nowhere/a.crt", "/nowhere/a.key");
    let unused = files(nodes(3)).check().expect_err("no node uses TLS");
    assert_eq!(
        (unused.kind(), unused.option()),
        (InvalidInputKind::Conflict, Some("tls_client_certificate"))
    );
    let missing = files(Redlock::builder().nodes(["rediss://127.0.0.1:1"]));
    let checked = missing.check_files().expect_err("no file");
    let Err(ConnectError::InvalidInput(built)) = missing.dedicated_thread(true).connect_lazy() else {
        panic!("expected InvalidInput")
    };
    for invalid in [checked, built] {
        assert_eq!(
            (invalid.kind(), invalid.option()),
            (InvalidInputKind::UnusableFile, Some("tls_client_certificate"))
        );
    }
}

#[tokio::test]
async fn an_acquire_error_reports_the_replies_and_whether_a_retry_may_succeed() {
    let redlock = client();
    let mutex = redlock.mutex("a").wait_timeout(Duration::ZERO);
    let no_quorum = mutex.acquire().await.expect_err("no node is up");
    assert!(matches!(no_quorum, AcquireError::NoQuorum { .. }) && no_quorum.is_retryable(), "{no_quorum:?}");
    let replies: Vec<(&str, &NodeReply)> = no_quorum.replies().expect("requests failed").iter().collect();
    let addresses: Vec<&str> = replies.iter().map(|(node, _)| *node).collect();
    assert_eq!(addresses, ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
    assert!(replies.iter().all(|(_, reply)| matches!(reply, NodeReply::Failed(_))), "{replies:?}");
    assert_eq!((no_quorum.retry_after(), no_quorum.key()), (None, Some(&LockName::new("a"))));

    // A task that waits for its lock without end.
    let endless = redlock.mutex("a");
    let mut waiting = Box::pin(endless.acquire());
    assert!(futures::poll!(&mut waiting).is_pending());
    let contended = mutex.acquire().await.expect_err("another task waits for it");
    assert!(matches!(contended, AcquireError::Contended { local: true, .. }) && contended.is_retryable());
    assert!(contended.replies().is_none() && contended.retry_after().is_none(), "{contended:?}");
    assert!(redlock.mutex("a").try_acquire().await.expect("contended").is_none());
    drop(waiting);

    let invalid = redlock.mutex("").acquire().await.expect_err("no name");
    assert!(!invalid.is_retryable() && invalid.replies().is_none() && invalid.key().is_none(), "{invalid:?}");
    redlock.shutdown(Duration::from_secs(1)).await.expect("nothing is pending");
    let closed = mutex.acquire().await.expect_err("closed");
    assert!(matches!(closed, AcquireError::Closed { .. }) && !closed.is_retryable(), "{closed:?}");
    assert!(closed.replies().is_none() && closed.retry_after().is_none(), "{closed:?}");
}

#[test]
fn an_acquire_on_a_stalled_driver_is_retryable() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let redlock = {
        let _inside = runtime.enter();
        client()
    };
    // Nothing drives the client's runtime.
    let mutex = redlock.mutex("a").wait_timeout(Duration::ZERO);
    let stalled = futures::executor::block_on(mutex.acquire()).expect_err("stalled");
    assert!(
        matches!(stalled, AcquireError::NoDriver { reason: NoDriver::Stalled, .. }) && stalled.is_retryable(),
        "{stalled:?}"
    );
    assert!(stalled.replies().is_none() && stalled.retry_after().is_none(), "{stalled:?}");
}

#[test]
fn a_name_is_compared_as_bytes_and_shown_escaped() {
    let text = LockName::new("orders:é");
    assert!(text == "orders:é" && text.to_str() == Some("orders:é"));
    let binary = LockName::new(b"a\xff\0 \"\r\n");
    assert_eq!((binary.to_str(), binary.as_bytes()), (None, &b"a\xff\0 \"\r\n"[..]));
    assert_eq!(format!("{text} {text:?}"), "orders:é \"orders:é\"");
    let shown = format!("{binary} {binary:?}");
    assert!(shown.chars().all(|char| !char.is_control()) && shown.contains("\\xff"), "{shown}");
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
            for builder in [nodes(3), nodes(3).mode(Mode::Plain)] {
                match set(builder.clone(), duration).connect_lazy() {
                    Ok(redlock) => {
                        accepted += 1;
                        let result = redlock.mutex("a").wait_timeout(Duration::ZERO).acquire().await;
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
    let setters: [fn(Mutex, Duration) -> Mutex; 4] =
        [Mutex::ttl, Mutex::attempt_timeout, Mutex::max_hold_time, Mutex::min_validity];
    for redlock in [client(), nodes(3).mode(Mode::Plain).connect_lazy().expect("connect_lazy needs no node")]
    {
        for set in setters {
            for duration in DURATIONS {
                let result = set(redlock.mutex("a"), duration).wait_timeout(Duration::ZERO).acquire().await;
                let error = result.expect_err("no node is up");
                assert!(error.to_string().starts_with("lock \"a\": "), "{duration:?}: {error}");
            }
        }
        for wait in DURATIONS {
            let mutex = redlock.mutex("a").wait_timeout(wait);
            let within = tokio::time::timeout(Duration::from_millis(400), mutex.acquire()).await;
            assert_eq!(within.is_err(), wait > Duration::from_secs(1), "{wait:?}: {within:?}");
        }
        for limit in DURATIONS {
            let _ = redlock.shutdown(limit).await;
        }
    }
}

#[cfg(feature = "serde")]
#[tokio::test]
async fn public_values_are_serialized_with_names_in_snake_case() {
    use serde_json::{json, to_value};

    assert_eq!(to_value([InitOutcome::Initialized, InitOutcome::AlreadyInitialized]).unwrap(), {
        json!(["initialized", "already_initialized"])
    });
    assert_eq!(to_value([Mode::Fenced, Mode::Plain]).unwrap(), json!(["fenced", "plain"]));
    let modes: Vec<Mode> = serde_json::from_value(json!(["plain", "fenced"])).unwrap();
    assert_eq!(modes, [Mode::Plain, Mode::Fenced]);
    assert!(serde_json::from_str::<Mode>("\"Plain\"").is_err());

    let redlock = nodes(1).connect_lazy().expect("connect_lazy needs no node");
    let status = to_value(redlock.node_status().await).unwrap();
    let node = status[0].as_object().expect("a structure");
    let mut fields: Vec<&str> = node.keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "clock_offset_us",
            "failed_step",
            "fences",
            "node",
            "persistence",
            "probation",
            "round_trip_us",
            "run_id",
            "seat",
            "seat_within_ms",
            "server",
            "state",
            "vacant_within_ms",
            "warnings"
        ]
    );
    assert_eq!((&node["node"], &node["failed_step"]), (&json!("127.0.0.1:1"), &json!("connection")));
    assert!(node["state"]["down"]["reason"].as_str().is_some_and(|it| it.contains("refused")), "{status}");

    let error = redlock.mutex("a").try_acquire().await.expect_err("no node is up");
    let replies = to_value(error.replies().expect("requests failed")).unwrap();
    assert_eq!(replies[0]["node"], "127.0.0.1:1", "{replies}");
    assert!(replies[0]["reply"]["failed"]["disconnected"].is_string(), "{replies}");
    let seen = to_value(redlock.inspect("a").await.expect("an inspection")).unwrap();
    let reply = &replies[0]["reply"];
    let nodes = json!([{ "node": "127.0.0.1:1", "reply": reply, "is_ours": false, "is_voting": false }]);
    assert_eq!(seen, json!({ "nodes": nodes, "quorum": 1 }));
    assert_eq!(to_value(LockName::new(b"a\xff")).unwrap(), json!("a\\xff"));
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
