//! `quorlock run`: a command under a lock. Nothing of the command outlives the lock.

pub(crate) mod command;
pub(crate) mod exec;
mod messages;
pub(crate) mod terminal;

use std::pin::pin;
use std::time::{Duration, UNIX_EPOCH};

use quorlock::{
    AcquireError, ConnectError, Event, Guard, OwnerHash, Redlock, RedlockBuilder, ReleaseError,
    ReleaseOutcome,
};
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
    reaper::check().map_err(|words| Failure::new(exit::SOFTWARE, words))?;
    let mut signals =
        Signals::listen().map_err(|error| Failure::new(exit::SOFTWARE, format!("no signals: {error}")))?;
    let Cluster { builder, quorum, max_ttl, dial_timeout, .. } = config::cluster(args.nodes.clone())?;
    let one_dial = dial_timeout.saturating_add(DIAL_SLACK).min(LONGEST_STARTUP);
    let ttl = args.ttl.unwrap_or_else(|| max_ttl.map_or(TTL, |longest| longest.min(TTL)));
    config::check_lock(&builder, &args.name, Some(ttl), args.min_fencing_number)?;
    let mut client = None;
    let outcome = tokio::select! {
        outcome = acquire(&args, (builder, quorum), (ttl, one_dial), &mut client) => outcome,
        signal = until_signalled(&mut signals) => {
            // What an attempt may have left is undone by the driver, and this process must live until then.
            shut_down(client, DRAIN).await;
            return Ok(exit::by_signal(signal));
        }
    };
    match outcome {
        Ok((guard, mark)) => under_lock(&args, (guard, mark), client, ttl, &mut signals).await,
        Err(failure) => {
            shut_down(client, DRAIN).await;
            match failure {
                Failure { code: exit::CONTENDED, .. } if args.on_conflict == OnConflict::Skip => Ok(0),
                Failure { code: exit::CONTENDED, message: words } => {
                    Err(Failure::new(args.conflict_exit_code, words))
                }
                failure => Err(failure),
            }
        }
    }
}

/// Runs the command, and releases.
async fn under_lock(
    args: &RunArgs,
    (guard, mark): (Guard, Option<OwnerHash>),
    client: Option<Redlock>,
    ttl: Duration,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    let Some(redlock) = client else { return Err(Failure::new(exit::SOFTWARE, "a lock without its client")) };
    let outcome = command::run(args, (&guard, mark), &redlock, ttl, signals).await;
    let (was_valid, left) = (guard.is_valid(), guard.remaining());
    // What fails because nodes are silent need not wait for them: the lock runs out there by itself.
    let drain = if was_valid && outcome.is_ok() { DRAIN } else { SHORT_DRAIN };
    // Awaited, because a release that is not written when the process ends is never written.
    let release = timeout(drain, guard.release()).await;
    let is_drained = shut_down(Some(redlock), drain).await;
    let was_lost = match &release {
        Ok(Ok(ReleaseOutcome { was_lost, .. }) | Err(ReleaseError::NoQuorum { was_lost, .. })) => *was_lost,
        _ => false,
    };
    // Others had taken or deleted the keys, and only the answers to the release show it.
    if was_valid && was_lost {
        outcome?;
        return Err(Failure::new(exit::LOST, messages::lost(&args.name, "before the command had ended")));
    }
    if outcome.is_ok() && !is_drained && !matches!(release, Ok(Ok(_))) && !args.quiet {
        let left = left.as_secs_f64();
        exit::eprint_line(&format!(
            "{}: too few nodes confirmed the release: others may have to wait for it up to {left:.1} s more",
            lock(&args.name)
        ));
    }
    let (ended, reaper) = outcome?;
    drop(reaper);
    // Since the command's end, what was sent to us means us.
    let for_us = std::iter::from_fn(|| signals.try_next()).find(|caught| caught.ends());
    if let Some(signal) = for_us.and_then(|caught| Signal::from_named_raw(caught.number)) {
        return Ok(exit::by_signal(signal));
    }
    if let Some(signal) = ended.signal.filter(|_| ended.is_our_groups) {
        let _ = kill_current_process_group(signal);
    }
    Ok(ended.signal.map_or(ended.code, exit::by_signal))
}

/// False if something stays on nodes that should not.
async fn shut_down(client: Option<Redlock>, limit: Duration) -> bool {
    match client {
        Some(redlock) => redlock.shutdown(limit).await.is_ok(),
        None => true,
    }
}

/// Reaches the nodes and takes the lock, and tells what the nodes show of its owner. Both count as waiting. The client is
/// left where it can be shut down, also when this is dropped half-way.
async fn acquire(
    args: &RunArgs,
    (builder, quorum): (RedlockBuilder, usize),
    (ttl, one_dial): (Duration, Duration),
    client: &mut Option<Redlock>,
) -> Result<(Guard, Option<OwnerHash>), Failure> {
    let (tell, mut news) = watch::channel(AttemptEvents::default());
    let builder = builder.observer(move |event: &Event<'_>| AttemptEvents::on_event(&tell, event));
    // A wait past the end of time has none.
    let wait = if args.nonblock { Some(Duration::ZERO) } else { args.wait };
    let tries_once = wait == Some(Duration::ZERO);
    let builder = if tries_once { builder.dial_once() } else { builder };
    let mut teller = WaitReporter::new(&args.name, args.quiet || tries_once);
    let end = wait.and_then(|wait| Instant::now().checked_add(wait));
    let left = || end.map(|end| end.saturating_duration_since(Instant::now()));
    // However short the wait is for others, the nodes get the time for one dial.
    let (mut least, mut most) = (one_dial, QUIET_PERIOD);
    let redlock = loop {
        let startup = left().unwrap_or(most).min(most).max(least);
        (least, most) = (LEAST_TRY, STARTUP.max(one_dial));
        let mut connecting = pin!(builder.clone().connect_timeout(startup).connect());
        // Where one dial may take long, it is not waited for without a word.
        let connected = if let Ok(soon) = timeout(QUIET_PERIOD + DIAL_SLACK, &mut connecting).await {
            soon
        } else {
            teller.report(WaitReason::Starting, "no quorum of nodes has answered yet");
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
            Err(ref error @ ConnectError::NoQuorum { ref nodes }) => {
                teller.report(waiting::troubles(nodes), &error.to_string());
            }
            outcome => break outcome?,
        }
    };
    let redlock = client.insert(redlock);
    check_outer_locks(redlock, &args.name, tries_once, &mut teller).await?;
    let mutex = redlock.mutex(&args.name).ttl(ttl).min_fencing_number(args.min_fencing_number);
    let mutex = match left() {
        Some(left) => mutex.wait_timeout(left),
        None => mutex,
    };
    let mut acquiring = pin!(mutex.acquire());
    // When to look who holds it: soon until that was said, and then now and then, for it may be another by then.
    let mut look_at = (!teller.is_quiet()).then(|| Instant::now() + QUIET_PERIOD);
    let acquired = loop {
        let what_keeps = async {
            if news.changed().await.is_err() {
                // Nothing comes any more.
                std::future::pending::<()>().await;
            }
            // What is known of a node that was just cut off is known when it was dialed again.
            (news.borrow_and_update().clone(), redlock.node_status().await)
        };
        let who_holds = async {
            match look_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
            (redlock.inspect(&args.name).await, redlock.node_status().await)
        };
        tokio::select! {
            biased;
            acquired = &mut acquiring => break acquired,
            (news, nodes) = what_keeps => {
                if let Some((kind, words)) = news.obstacle(&nodes, quorum) {
                    teller.report(kind, &words);
                }
            }
            (seen, nodes) = who_holds => {
                // Of nodes that refuse to vote, some may be read: that others hold it is not what keeps us then.
                let trouble = news.borrow().obstacle(&nodes, quorum);
                let holder = seen.ok().and_then(|seen| waiting::holder(&seen));
                look_at = Some(Instant::now() + QUIET_PERIOD);
                if let Some((kind, words)) = trouble.or(holder) {
                    teller.report(kind, &words);
                    look_at = Some(Instant::now() + INSPECT_INTERVAL);
                }
            }
        }
    };
    match acquired {
        Ok(guard) => {
            // The driver tells it in the moment after it has given us the lock.
            let told = timeout(OWNER_TIMEOUT, news.wait_for(|news| news.owner.is_some())).await;
            Ok((guard, told.ok().and_then(Result::ok).and_then(|news| news.owner)))
        }
        Err(error) => Err(acquire_failure(redlock, &args.name, error).await),
    }
}

/// Why the lock could not be had, and until when.
async fn acquire_failure(redlock: &Redlock, name: &str, error: AcquireError) -> Failure {
    let shown = lock(error.key().unwrap_or(name));
    let words = match &error {
        AcquireError::Contended { retry_after: Some(left), .. } => {
            format!("{shown}: held by others (for {:.1} s more, unless renewed)", left.as_secs_f64())
        }
        AcquireError::OnProbation { retry_after, .. } => format!("{shown}: {}", on_probation(*retry_after)),
        // A key that never expires is nobody's to wait for.
        AcquireError::Contended { .. } => {
            let seen = redlock.inspect(name).await.ok();
            let words = seen.and_then(|seen| waiting::holder(&seen));
            format!("{shown}: {}", words.map_or_else(|| "held by others".to_owned(), |(_, words)| words))
        }
        _ => error.to_string(),
    };
    Failure { message: words, ..error.into() }
}

/// Refuses to wait for a lock that is held by the `run` that has started this one. What cannot be seen to be that one is
/// told.
async fn check_outer_locks(
    redlock: &Redlock,
    name: &str,
    tries_once: bool,
    teller: &mut WaitReporter<'_>,
) -> Result<(), Failure> {
    let around = outer_locks::from_environment();
    if around.is_empty() {
        return Ok(());
    }
    let seen = redlock.inspect(name).await?;
    let Some(run) = outer_locks::holder(&around, &seen) else { return Ok(()) };
    let ends_us = run.is_ancestor();
    let words = if ends_us {
        "held by the `quorlock run` that started this one"
    } else {
        "held by a `quorlock run` whose QUORLOCK_HELD this process has"
    };
    if tries_once {
        return Err(Failure::new(exit::CONTENDED, format!("{}: {words}", lock(name))));
    }
    if ends_us {
        let words = format!("{words} and waits for it, so it would wait for itself: leave out the inner one");
        return Err(Failure::new(exit::USAGE, format!("{}: {words}", lock(name))));
    }
    teller
        .report(WaitReason::OuterRun, &format!("{words}: if that one waits for this process, neither ends"));
    Ok(())
}

/// What keeps nodes from voting, for how long, and what may be done.
pub(crate) fn on_probation(retry_after: Option<Duration>) -> String {
    let span = retry_after.map_or_else(String::new, |left| {
        let now = clock_gettime(ClockId::Realtime);
        let until = UNIX_EPOCH + Duration::new(now.tv_sec as u64, now.tv_nsec as u32) + left;
        let until = humantime::format_rfc3339_seconds(until);
        format!(" for {:.1} s more (until {until})", left.as_secs_f64())
    });
    format!(
        "no lock{span}: too few nodes vote, for the others may have forgotten locks; wait until then, or, if the cluster is \
         new and nothing was ever locked on it, `quorlock init --force`"
    )
}

/// As long as there is no command to pass them on to, signals mean us.
async fn until_signalled(signals: &mut Signals) -> Signal {
    let mut children = signal(SignalKind::child()).ok();
    loop {
        // As the first process of a container, we are the one to wait for orphans.
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
            Some(signal) if caught.ends() => return signal,
            Some(signal @ (Signal::TSTP | Signal::TTIN | Signal::TTOU)) => {
                signals.stop_ourselves(signal);
            }
            _ => {}
        }
    }
}

/// The ttl where nothing is said.
const TTL: Duration = Duration::from_secs(15);
/// A lock that is had so soon is not worth a word.
const QUIET_PERIOD: Duration = Duration::from_secs(2);
/// After how long to look again. Of each that waits, each node is asked so often who holds the lock: 5,000 are 500 looks a
/// second, beside the few commands a second that each of them costs anyhow.
const INSPECT_INTERVAL: Duration = Duration::from_secs(10);
/// How long the driver may take to tell what it has told its own.
const OWNER_TIMEOUT: Duration = Duration::from_secs(1);
const STARTUP: Duration = Duration::from_secs(5);
/// A longer one would be refused.
const LONGEST_STARTUP: Duration = Duration::from_secs(3600);
/// A dial ends by itself at the connect time-out; this is for the way back.
const DIAL_SLACK: Duration = Duration::from_millis(250);
/// A time-out of nothing would be refused.
const LEAST_TRY: Duration = Duration::from_millis(1);
const DRAIN: Duration = Duration::from_secs(2);
const SHORT_DRAIN: Duration = Duration::from_millis(250);
