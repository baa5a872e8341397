//! `quorlock run`: a command under a lock. Nothing of the command outlives the lock.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, UNIX_EPOCH};

use quorlock::{
    AcquireError, Builder, ConnectError, Event, Guard, Mark, Redlock, ReleaseError, ReleaseReport,
};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::args::{OnConflict, RunArgs};
use crate::around;
use crate::config::{self, Cluster};
use crate::exit::{self, Failure, code_of, lock};
use crate::group::{Group, Signals};
use crate::reaper::boot_nanos;
use crate::waiting::{self, News, Teller};

pub(crate) async fn run(args: RunArgs) -> Result<u8, Failure> {
    let mut signals =
        Signals::listen().map_err(|error| Failure::new(exit::SOFTWARE, format!("no signals: {error}")))?;
    let Cluster { builder, quorum, longest_ttl, connect_timeout, .. } = config::cluster(args.nodes.clone())?;
    let one_dial = connect_timeout.saturating_add(DIAL_SLACK).min(LONGEST_STARTUP);
    let ttl = args.ttl.unwrap_or_else(|| longest_ttl.map_or(TTL, |longest| longest.min(TTL)));
    let mut client = None;
    let outcome = tokio::select! {
        outcome = take(&args, (builder, quorum), (ttl, one_dial), &mut client) => outcome,
        signal = until_told_to_stop(&mut signals) => Err(Failure::new(128 + signal.as_raw() as u8, "")),
    };
    let (guard, mark) = match outcome {
        Ok(taken) => taken,
        Err(failure) => {
            // What an attempt may have left is undone by the driver, and this process must live until then.
            if let Some(redlock) = client {
                let _ = redlock.shutdown(DRAIN).await;
            }
            return match failure {
                Failure { code: exit::HELD, .. } if args.on_conflict == OnConflict::Skip => Ok(0),
                Failure { code: exit::HELD, words } => Err(Failure::new(args.conflict_exit_code, words)),
                Failure { code, words } if words.is_empty() => Ok(code),
                failure => Err(failure),
            };
        }
    };
    let token = guard.fencing_token();
    let outcome = match Group::start(&args.command, &args.name, token, args.foreground, mark) {
        Ok(group) => watch(group, &guard, &args, ttl, &mut signals).await,
        Err(failure) => Err(failure),
    };
    let was_valid = guard.is_valid();
    // Awaited, because a release that is not written when the process ends is never written.
    let was_lost = match guard.release().await {
        Ok(ReleaseReport { was_lost, .. }) | Err(ReleaseError::NoQuorum { was_lost, .. }) => was_lost,
        Err(_) => false,
    };
    if let Some(redlock) = client {
        let _ = redlock.shutdown(DRAIN).await;
    }
    // Others had taken or deleted the keys, and only the answers to the release show it.
    if was_valid && was_lost { outcome.and_then(|_| Err(lost(&args.name))) } else { outcome }
}

/// Reaches the nodes and takes the lock, and tells what the nodes show of its owner. Both count as waiting. The client is
/// left where it can be shut down, also when this is dropped half-way.
async fn take(
    args: &RunArgs,
    (builder, quorum): (Builder, usize),
    (ttl, one_dial): (Duration, Duration),
    client: &mut Option<Redlock>,
) -> Result<(Guard, Option<Mark>), Failure> {
    let (tell, mut news) = watch::channel(News::default());
    let builder = builder.observer(move |event: &Event<'_>| News::hear(&tell, event));
    // A wait past the end of time has none.
    let wait = if args.nonblock { Some(Duration::ZERO) } else { args.wait };
    let tries_once = wait == Some(Duration::ZERO);
    let builder = if tries_once { builder.dial_once() } else { builder };
    let mut teller = Teller::new(&args.name, args.quiet || tries_once);
    let end = wait.and_then(|wait| Instant::now().checked_add(wait));
    let left = || end.map(|end| end.saturating_duration_since(Instant::now()));
    // However short the wait is for others, the nodes get the time for one dial.
    let mut least = one_dial;
    let redlock = loop {
        let startup = left().unwrap_or(STARTUP).min(STARTUP).max(least);
        least = LEAST_TRY;
        match builder.clone().startup_timeout(startup).connect().await {
            Err(error @ ConnectError::NoQuorum { .. })
                if tries_once || left().is_some_and(|left| left.is_zero()) =>
            {
                let failure = Failure::from(error);
                return Err(Failure { words: format!("{}: {}", lock(&args.name), failure.words), ..failure });
            }
            Err(ref error @ ConnectError::NoQuorum { ref nodes }) => {
                teller.tell(waiting::reasons(nodes), &error.to_string());
            }
            outcome => break outcome?,
        }
    };
    let redlock = client.insert(redlock);
    not_around(redlock, &args.name, tries_once, &mut teller).await?;
    let mutex = redlock.mutex(&args.name).ttl(ttl).floor(args.floor);
    let mutex = match left() {
        Some(left) => mutex.wait(left),
        None => mutex,
    };
    let mut acquiring = pin!(mutex.acquire());
    // When to look who holds it, until that was said.
    let mut look_at = Some(Instant::now() + UNSAID);
    let acquired = loop {
        let what_keeps = async {
            if news.changed().await.is_err() {
                // Nothing comes any more.
                std::future::pending::<()>().await;
            }
            // What is known of a node that was just cut off is known when it was dialed again.
            (news.borrow_and_update().clone(), redlock.nodes().await)
        };
        let who_holds = async {
            match look_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
            redlock.inspect(&args.name).await
        };
        tokio::select! {
            biased;
            acquired = &mut acquiring => break acquired,
            (news, nodes) = what_keeps => {
                if let Some((reasons, words)) = news.words(&nodes, quorum) {
                    teller.tell(reasons, &words);
                }
            }
            seen = who_holds => {
                let words = seen.ok().and_then(|seen| waiting::holder(&seen));
                look_at = words.is_none().then(|| Instant::now() + UNSAID);
                if let Some(words) = words {
                    teller.tell(BTreeSet::from(["held".to_owned()]), &words);
                }
            }
        }
    };
    match acquired {
        Ok(guard) => {
            // The driver tells it in the moment after it has given us the lock.
            let told = timeout(TELLING, news.wait_for(|news| news.mark.is_some())).await;
            Ok((guard, told.ok().and_then(Result::ok).and_then(|news| news.mark)))
        }
        Err(error) => {
            let name = lock(error.key().unwrap_or(&args.name));
            let words = match &error {
                AcquireError::Held { retry_after: Some(left), .. } => {
                    format!("{name}: held by others (for {:.1} s more, unless renewed)", left.as_secs_f64())
                }
                AcquireError::OnProbation { retry_after, .. } => {
                    format!("{name}: {}", on_probation(*retry_after))
                }
                // A key that never expires is nobody's to wait for.
                AcquireError::Held { .. } => {
                    let seen = redlock.inspect(&args.name).await.ok();
                    let words = seen.and_then(|seen| waiting::holder(&seen));
                    format!("{name}: {}", words.unwrap_or_else(|| "held by others".to_owned()))
                }
                _ => error.to_string(),
            };
            Err(Failure { words, ..error.into() })
        }
    }
}

/// Refuses to wait for a lock that is held by the `run` that has started this one.
async fn not_around(
    redlock: &Redlock,
    name: &str,
    tries_once: bool,
    teller: &mut Teller<'_>,
) -> Result<(), Failure> {
    let around = around::told();
    if around.is_empty() {
        return Ok(());
    }
    let seen = redlock.inspect(name).await?;
    let Some(run) = around::holder(&around, &seen) else { return Ok(()) };
    let words = "held by the `quorlock run` that started this one";
    if tries_once {
        return Err(Failure::new(exit::HELD, format!("{}: {words}", lock(name))));
    }
    if run.waits_for_us() {
        let words = format!("{words} and waits for it, so it would wait for itself: leave out the inner one");
        return Err(Failure::new(exit::USAGE, format!("{}: {words}", lock(name))));
    }
    teller.tell(BTreeSet::from(["around".to_owned()]), words);
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

/// Waits for the command's end; sees to it that it comes before the lock's.
async fn watch(
    mut group: Group,
    guard: &Guard,
    args: &RunArgs,
    ttl: Duration,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    let grace = args.kill_after.min(ttl / 3);
    let lead = KILL_LEAD.min(ttl / 10);
    // The reaper strikes after us, so that it does so only in our stead.
    let last = lead / 2;
    let mut deadline = guard.deadline().boot_nanos();
    group.end_at(deadline.saturating_sub(nanos(last)));
    let mut is_ending = false;
    let status = loop {
        // Once it was told to end, a renewal that gets through after all changes nothing; nor does one that is seen too
        // late, because we were stopped meanwhile: the reaper goes by the deadline it was told.
        let renewed = guard.deadline().boot_nanos();
        if !is_ending && renewed != deadline && left_until(deadline) > lead {
            deadline = renewed;
            group.end_at(deadline.saturating_sub(nanos(last)));
        }
        let left = left_until(deadline);
        if left <= lead || !guard.is_valid() {
            group.signal(Signal::KILL);
            is_ending = true;
        } else if left <= grace.max(lead) && !is_ending {
            group.signal(Signal::TERM);
            is_ending = true;
        }
        let look = if is_ending { left.saturating_sub(lead) } else { left.saturating_sub(grace) };
        tokio::select! {
            biased;
            status = group.wait() => break status,
            signal = signals.next() => group.pass_on(signal),
            () = sleep(look.clamp(LEAST_LOOK, LONGEST_LOOK)) => {}
            () = guard.lost(), if !is_ending => {}
        }
    };
    // If we were stopped, the reaper has ended the command in our stead, and only the clock tells.
    let is_lost = is_ending || left_until(deadline) <= lead || !guard.is_valid();
    group.end().await;
    if is_lost {
        return Err(lost(&args.name));
    }
    status.map(code_of).map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))
}

fn lost(name: &str) -> Failure {
    Failure::new(exit::LOST, format!("{}: lost before the command had ended", lock(name)))
}

async fn until_told_to_stop(signals: &mut Signals) -> Signal {
    loop {
        let signal = signals.next().await;
        // There is nobody yet to whom the others could be passed on.
        if !matches!(signal, Signal::USR1 | Signal::USR2) {
            return signal;
        }
    }
}

fn left_until(deadline: u64) -> Duration {
    Duration::from_nanos(deadline.saturating_sub(boot_nanos()))
}

fn nanos(span: Duration) -> u64 {
    span.as_nanos() as u64
}

/// The ttl where nothing is said.
const TTL: Duration = Duration::from_secs(15);
/// How long before the deadline everything is killed.
const KILL_LEAD: Duration = Duration::from_millis(200);
/// A lock that is had so soon is not worth a word.
const UNSAID: Duration = Duration::from_secs(2);
/// How long the driver may take to tell what it has told its own.
const TELLING: Duration = Duration::from_secs(1);
const STARTUP: Duration = Duration::from_secs(5);
/// A longer one would be refused.
const LONGEST_STARTUP: Duration = Duration::from_secs(3600);
/// A dial ends by itself at the connect time-out; this is for the way back.
const DIAL_SLACK: Duration = Duration::from_millis(250);
/// A time-out of nothing would be refused.
const LEAST_TRY: Duration = Duration::from_millis(1);
const DRAIN: Duration = Duration::from_secs(2);
const LEAST_LOOK: Duration = Duration::from_millis(2);
const LONGEST_LOOK: Duration = Duration::from_millis(100);
