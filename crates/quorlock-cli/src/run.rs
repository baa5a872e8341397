//! `quorlock run`: runs a command while holding a lock. No process of the command outlives the lock.

pub(crate) mod command;
pub(crate) mod exec;
mod messages;
pub(crate) mod terminal;

use std::pin::pin;
use std::time::{Duration, UNIX_EPOCH};

use quorlock::error::{ConnectError, ReleaseError};
use quorlock::{AcquireError, Guard, Redlock, RedlockBuilder, ReleaseOutcome};
use rustix::process::{Signal, WaitOptions, kill_current_process_group, wait};
use rustix::time::{ClockId, clock_gettime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::args::{OnConflict, RunArgs};
use crate::config::{self, Cluster};
use crate::exit::{self, Failure, lock};
use crate::outer_locks;
use crate::reaper;
use crate::signals::Signals;
use crate::waiting::{self, AttemptEvents, WaitReason, WaitReporter};

pub(crate) async fn run(args: RunArgs) -> Result<u8, Failure> {
    reaper::check().map_err(|message| Failure::new(exit::SOFTWARE, message))?;
    let mut signals = Signals::listen()
        .map_err(|error| Failure::new(exit::SOFTWARE, format!("signals are not available: {error}")))?;
    let Cluster { builder, max_ttl, dial_timeout, .. } = config::cluster(args.nodes.clone())?;
    let one_dial = dial_timeout.saturating_add(DIAL_SLACK).min(MAX_CONNECT_TIMEOUT);
    let ttl = args.ttl.unwrap_or_else(|| max_ttl.map_or(TTL, |longest| longest.min(TTL)));
    config::check_lock(&builder, &args.name, Some(ttl), args.min_fencing_number)?;
    let mut client = None;
    let outcome = tokio::select! {
        outcome = acquire(&args, builder, (ttl, one_dial), &mut client) => outcome,
        signal = until_signaled(&mut signals) => {
            // The driver still has to send compensating releases for the attempt, so wait for it.
            shut_down(client, DRAIN).await;
            return Ok(exit::by_signal(signal));
        }
    };
    match outcome {
        Ok(guard) => under_lock(&args, guard, client, &mut signals).await,
        Err(failure) => {
            shut_down(client, DRAIN).await;
            match failure {
                Failure { code: exit::CONTENDED, .. } if args.on_conflict == OnConflict::Skip => Ok(0),
                Failure { code: exit::CONTENDED, message } => {
                    Err(Failure::new(args.conflict_exit_code, message))
                }
                failure => Err(failure),
            }
        }
    }
}

/// Runs the command, and then releases the lock.
async fn under_lock(
    args: &RunArgs,
    guard: Guard,
    client: Option<Redlock>,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    let Some(redlock) = client else { return Err(Failure::new(exit::SOFTWARE, "a lock without its client")) };
    let outcome = command::run(args, &guard, &redlock, signals).await;
    let (was_valid, remaining) = (guard.is_valid(), guard.remaining());
    // After a failure, do not wait long for silent nodes: the lock expires there by itself.
    let drain = if was_valid && outcome.is_ok() { DRAIN } else { SHORT_DRAIN };
    // Awaited, because a release that is not sent before this process ends is never sent.
    let release = timeout(drain, guard.release()).await;
    let is_drained = shut_down(Some(redlock), drain).await;
    let was_lost = matches!(release, Ok(Err(ReleaseError::Lost { .. })));
    let is_confirmed = matches!(release, Ok(Ok(ReleaseOutcome { confirmed: true, .. })));
    // Another client had taken or deleted the keys, and only the replies to the release show it.
    if was_valid && was_lost {
        outcome?;
        return Err(Failure::new(exit::LOST, messages::lost(&args.name, "before the command had ended")));
    }
    if outcome.is_ok() && !is_drained && !is_confirmed && !args.quiet {
        let remaining = remaining.as_secs_f64();
        exit::eprint_line(&format!(
            "{}: too few nodes confirmed the release: other processes may wait up to {remaining:.1} s more",
            lock(&args.name)
        ));
    }
    let (ended, reaper) = outcome?;
    drop(reaper);
    // Signals since the command's end are for this process.
    let for_run = std::iter::from_fn(|| signals.try_next()).find(|caught| caught.ends_process());
    if let Some(signal) = for_run.and_then(|caught| Signal::from_named_raw(caught.number)) {
        return Ok(exit::by_signal(signal));
    }
    if let Some(signal) = ended.signal.filter(|_| ended.is_for_own_group) {
        let _ = kill_current_process_group(signal);
    }
    Ok(ended.signal.map_or(ended.code, exit::by_signal))
}

/// Returns false if a release is still pending.
async fn shut_down(client: Option<Redlock>, limit: Duration) -> bool {
    match client {
        Some(redlock) => redlock.shutdown(limit).await.is_ok(),
        None => true,
    }
}

/// Connects and acquires the lock. Both count as waiting. The client stays in `client`, so that it can be shut down if
/// this future is dropped.
async fn acquire(
    args: &RunArgs,
    builder: RedlockBuilder,
    (ttl, one_dial): (Duration, Duration),
    client: &mut Option<Redlock>,
) -> Result<Guard, Failure> {
    let (sender, mut events) = watch::channel(AttemptEvents::default());
    let builder = builder.on_event(move |event| AttemptEvents::on_event(&sender, event));
    // A wait beyond the range of the clock has no end.
    let wait = if args.nonblock { Some(Duration::ZERO) } else { args.wait };
    let tries_once = wait == Some(Duration::ZERO);
    let builder = if tries_once { builder.dial_once() } else { builder };
    let mut reporter = WaitReporter::new(&args.name, args.quiet || tries_once);
    let end = wait.and_then(|wait| Instant::now().checked_add(wait));
    let left = || end.map(|end| end.saturating_duration_since(Instant::now()));
    // However short --wait is, each node gets the time for one connection attempt.
    let (mut least, mut most) = (one_dial, QUIET_PERIOD);
    let redlock = loop {
        let startup = left().unwrap_or(most).min(most).max(least);
        (least, most) = (MIN_TRY, CONNECT_TIMEOUT.max(one_dial));
        let mut connecting = pin!(builder.clone().connect_timeout(startup).connect());
        // If connecting takes long, report it.
        let connected = if let Ok(connected) = timeout(QUIET_PERIOD + DIAL_SLACK, &mut connecting).await {
            connected
        } else {
            reporter.report(WaitReason::Starting, "no quorum of nodes has replied yet");
            connecting.await
        };
        match connected {
            Err(error @ ConnectError::NoQuorum { .. })
                if tries_once || left().is_some_and(|left| left.is_zero()) =>
            {
                let failure = Failure::from(error);
                return Err(Failure {
                    message: format!("{}: {}", lock(&args.name), failure.message),
                    ..failure
                });
            }
            Err(ref error @ ConnectError::NoQuorum { ref nodes, .. }) => {
                reporter.report(waiting::node_problems(nodes), &error.to_string());
            }
            outcome => break outcome?,
        }
    };
    let redlock = client.insert(redlock);
    if !args.quiet {
        tokio::spawn(messages::report_wrong_list(redlock.clone()));
    }
    if let Some(longest) = redlock.max_ttl().filter(|longest| ttl > *longest && args.ttl.is_some()) {
        return Err(messages::ttl_too_long(&args.name, ttl, longest));
    }
    check_outer_locks(redlock, &args.name, tries_once, &mut reporter).await?;
    let mutex = redlock.mutex(&args.name).min_fencing_number(args.min_fencing_number);
    // The max ttl may become shorter while it waits.
    let mutex = if args.ttl.is_some() { mutex.ttl(ttl) } else { mutex.ttl_at_most(ttl) };
    let mutex = match left() {
        Some(left) => mutex.wait_timeout(left),
        None => mutex,
    };
    let mut acquiring = pin!(mutex.acquire());
    // The time of the next inspection of the holder: soon until one is reported, then at intervals, because
    // it may change.
    let mut inspect_at = (!reporter.is_quiet()).then(|| Instant::now() + QUIET_PERIOD);
    let acquired = loop {
        let failed_attempt = waiting::failed_attempt(&mut events, redlock.node_status());
        let holders = async {
            match inspect_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
            (redlock.inspect(&args.name).await, redlock.node_status().await)
        };
        tokio::select! {
            biased;
            acquired = &mut acquiring => break acquired,
            (events, nodes) = failed_attempt => {
                if let Some((kind, message)) = events.obstacle(&nodes, redlock.quorum()) {
                    reporter.report(kind, &message);
                }
            }
            (inspection, nodes) = holders => {
                // Nodes that do not vote may still show a holder. Then that obstacle is the reason to
                // wait, not the holder.
                let obstacle = events.borrow().obstacle(&nodes, redlock.quorum());
                let holder = inspection.ok().and_then(|inspection| waiting::holder(&inspection));
                inspect_at = Some(Instant::now() + QUIET_PERIOD);
                if let Some((kind, message)) = obstacle.or(holder) {
                    reporter.report(kind, &message);
                    inspect_at = Some(Instant::now() + INSPECT_INTERVAL);
                }
            }
        }
    };
    match acquired {
        Ok(guard) => Ok(guard),
        Err(error) => Err(acquire_failure(redlock, &args.name, error).await),
    }
}

/// The failure to acquire the lock, with the time until a retry.
async fn acquire_failure(redlock: &Redlock, name: &str, error: AcquireError) -> Failure {
    let lock_name = error.key().map_or_else(|| lock(name), lock);
    let message = match &error {
        AcquireError::Contended { retry_after: Some(remaining), .. } => {
            format!(
                "{lock_name}: held by another client (for {:.1} s more, unless renewed)",
                remaining.as_secs_f64()
            )
        }
        AcquireError::OnProbation { retry_after, .. } => {
            format!("{lock_name}: {}", on_probation(*retry_after))
        }
        // A key without expiry is reported, because waiting for it is useless.
        AcquireError::Contended { .. } => {
            let inspection = redlock.inspect(name).await.ok();
            let message = inspection.and_then(|inspection| waiting::holder(&inspection));
            format!(
                "{lock_name}: {}",
                message.map_or_else(|| "held by another client".to_owned(), |(_, message)| message)
            )
        }
        _ => error.to_string(),
    };
    Failure { message, ..error.into() }
}

/// Refuses to wait for a lock that is held by the `run` that has started this one. If that `run` is not
/// certainly an ancestor, only reports it.
async fn check_outer_locks(
    redlock: &Redlock,
    name: &str,
    tries_once: bool,
    reporter: &mut WaitReporter<'_>,
) -> Result<(), Failure> {
    let outer = outer_locks::from_environment();
    if outer.is_empty() {
        return Ok(());
    }
    let inspection = redlock.inspect(name).await?;
    let Some(run) = outer_locks::holder(&outer, &inspection) else { return Ok(()) };
    let is_ancestor = run.is_ancestor();
    let message = if is_ancestor {
        "held by the `quorlock run` that started this one"
    } else {
        "held by a `quorlock run` whose QUORLOCK_HELD this process has"
    };
    if tries_once {
        return Err(Failure::new(exit::CONTENDED, format!("{}: {message}", lock(name))));
    }
    if is_ancestor {
        let message = format!(
            "{message} and waits for it, so this would wait forever; leave out the inner `quorlock run`"
        );
        return Err(Failure::new(exit::USAGE, format!("{}: {message}", lock(name))));
    }
    reporter.report(
        WaitReason::OuterRun,
        &format!("{message}: if that one waits for this process, neither ends"),
    );
    Ok(())
}

/// The message for nodes on probation: for how long, and what to do.
pub(crate) fn on_probation(retry_after: Option<Duration>) -> String {
    let span = retry_after.map_or_else(String::new, |remaining| {
        let now = clock_gettime(ClockId::Realtime);
        let until = UNIX_EPOCH + Duration::new(now.tv_sec as u64, now.tv_nsec as u32) + remaining;
        let until = humantime::format_rfc3339_seconds(until);
        format!(" for {:.1} s more (until {until})", remaining.as_secs_f64())
    });
    format!(
        "no lock{span}: too few nodes vote, because the others may have forgotten locks; wait until then, or, if the lock \
         cluster is new and was never used, `quorlock init --force`"
    )
}

/// Waits for a signal that ends this process. Before the command runs, signals are not passed on.
pub(crate) async fn until_signaled(signals: &mut Signals) -> Signal {
    let mut children = signal(SignalKind::child()).ok();
    loop {
        // The first process of a container must reap orphans.
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        let child = async {
            match &mut children {
                Some(children) => children.recv().await,
                None => std::future::pending().await,
            }
        };
        let caught = tokio::select! {
            caught = signals.next() => caught,
            _ = child => continue,
        };
        match Signal::from_named_raw(caught.number) {
            Some(signal) if caught.ends_process() => return signal,
            Some(signal @ (Signal::TSTP | Signal::TTIN | Signal::TTOU)) => {
                signals.stop_own_group(signal);
            }
            _ => {}
        }
    }
}

/// The default ttl.
const TTL: Duration = Duration::from_secs(15);
/// The time before `run` reports what it waits for.
const QUIET_PERIOD: Duration = Duration::from_secs(2);
/// The time between inspections of the holder. Each waiting process sends each node one request per interval:
/// 5,000 processes send 500 a second, besides the few commands a second that each of them costs anyway.
const INSPECT_INTERVAL: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The library refuses a longer one.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(3600);
/// A dial ends by itself at the dial timeout; this is for the reply to arrive.
const DIAL_SLACK: Duration = Duration::from_millis(250);
/// The library refuses a timeout of zero.
const MIN_TRY: Duration = Duration::from_millis(1);
const DRAIN: Duration = Duration::from_secs(2);
const SHORT_DRAIN: Duration = Duration::from_millis(250);
