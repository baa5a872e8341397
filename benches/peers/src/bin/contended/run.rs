//! One run of a case: starts the processes, reads their reports, and computes the results.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use peers::Outcome;
use peers::stats::{median, percentile};
use quorlock_chaos::{DirectionRule, Fleet, LinkRules, Proxy};

use crate::case::{Case, Distance};
use crate::strategy::Strategy;
use crate::worker::{self, LockAttempt, ReportLine};

/// The servers, and the proxies that add a round trip.
pub(crate) struct Testbed {
    pub(crate) fleet: Fleet,
    proxies: Vec<Proxy>,
}

/// The results of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Results {
    /// Grants per second.
    pub(crate) per_second: f64,
    /// The share of the time in which the lock was held.
    pub(crate) held: f64,
    /// The most grants of a task, divided by the fewest.
    pub(crate) task_spread: f64,
    /// The same per process.
    pub(crate) process_spread: f64,
    /// Tasks that never held the lock.
    pub(crate) starved: f64,
    /// In milliseconds.
    pub(crate) wait_median: f64,
    pub(crate) wait_p99: f64,
    /// Includes waits that the end of the run cut short.
    pub(crate) wait_longest: f64,
    /// The processor time of all client processes in microseconds, per grant.
    pub(crate) cpu: f64,
    /// Commands received by the servers, per grant.
    pub(crate) commands: f64,
    /// Commands beyond one acquire and one release per grant, per second in which a process waits.
    pub(crate) waiting_commands: f64,
    /// The time of an uncontended acquire, in milliseconds: one round trip and some work.
    pub(crate) round_trip: f64,
    /// From the start of the release to the next grant, in milliseconds.
    pub(crate) gap: f64,
    /// From the reply to the release to the next grant.
    pub(crate) gap_from_reply: f64,
    /// Keys on the servers after the run.
    pub(crate) leftover: f64,
}

impl Testbed {
    pub(crate) fn start() -> Outcome<Self> {
        let fleet = Fleet::start_with(5, &quorlock_chaos::Setup::new().append_only(false))?;
        let delay = DirectionRule::Delay { delay: Distance::EACH_WAY, jitter: Duration::ZERO };
        let mut proxies = Vec::new();
        for server in fleet.servers() {
            let proxy = Proxy::in_front_of(server, 1)?;
            proxy.set(0, LinkRules { to_server: delay, to_client: delay });
            proxies.push(proxy);
        }
        Ok(Self { fleet, proxies })
    }

    fn urls(&self, distance: Distance) -> Vec<String> {
        match distance {
            Distance::Near => self.fleet.urls(),
            Distance::Far => self.proxies.iter().map(|proxy| proxy.url(0)).collect(),
        }
    }

    /// Runs the case with processes of the given program.
    pub(crate) fn run(&self, program: &str, strategy: Strategy, case: Case) -> Outcome<Results> {
        let urls = self.urls(case.round_trip);
        if strategy == Strategy::Fenced {
            // The nodes of an initialized lock cluster vote at once.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(quorlock::Redlock::builder().nodes(self.fleet.urls()).initialize())?;
        }
        let mut workers = Workers(Vec::new());
        for _ in 0..case.processes {
            let worker = Command::new(program)
                .args(["--worker", &strategy.name()])
                .args(case.to_args())
                .args(&urls)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            workers.0.push(worker);
        }
        let mut outputs = Vec::new();
        for worker in &mut workers.0 {
            let mut output = BufReader::new(worker.stdout.take().ok_or("a worker has no stdout")?).lines();
            if output.next().transpose()?.as_deref() != Some("ready") {
                return Err(format!("a worker of {:?} did not become ready", strategy.name()).into());
            }
            outputs.push(output);
        }
        for worker in &mut workers.0 {
            writeln!(worker.stdin.as_mut().ok_or("a worker has no stdin")?, "go")?;
        }
        let begin = Instant::now();
        let readers: Vec<_> = (outputs.into_iter().enumerate())
            .map(|(process, output)| thread::spawn(move || read_report(process, output)))
            .collect();
        // Measured by this process's clock: the difference to the workers' clocks is small against seconds.
        thread::sleep(worker::WARM_UP);
        let before = self.commands(strategy)?;
        thread::sleep((worker::WARM_UP + case.duration).saturating_sub(begin.elapsed()));
        let commands = self.commands(strategy)? - before;
        let mut reports = Vec::new();
        for reader in readers {
            reports.push(reader.join().map_err(|_| "a reader panicked")??);
        }
        for worker in &mut workers.0 {
            if !worker.wait()?.success() {
                return Err(format!("a worker of {:?} failed", strategy.name()).into());
            }
        }
        let mut results = compute_results(case, reports, commands)?;
        for server in self.fleet.servers() {
            let keys: Vec<String> = server.command(&["KEYS", "*"])?;
            // Fenced mode keeps these keys on purpose.
            let is_permanent = |key: &&String| {
                ["quorlock:node", "quorlock:roster", "quorlock:absent", "quorlock:clock", "quorlock:high"]
                    .contains(&key.as_str())
                    || key.starts_with("quorlock:fence:")
            };
            results.leftover += keys.iter().filter(|key| !is_permanent(key)).count() as f64;
            server.wipe()?;
        }
        Ok(results)
    }

    /// The number of commands sent by clients so far. Commands inside scripts do not count.
    fn commands(&self, strategy: Strategy) -> Outcome<i64> {
        let sent: &[&str] = match strategy {
            // While it contends it sends only scripts, and its scripts call SET.
            Strategy::Fenced => &["evalsha", "eval"],
            Strategy::Plain | Strategy::Rslock(_) => &["evalsha", "eval", "set"],
        };
        let mut count: i64 = 0;
        for server in self.fleet.servers() {
            let info: String = server.command(&["INFO", "commandstats"])?;
            for line in info.lines() {
                let Some((name, rest)) = line.strip_prefix("cmdstat_").and_then(|line| line.split_once(':'))
                else {
                    continue;
                };
                let calls = rest.strip_prefix("calls=").and_then(|rest| rest.split(',').next());
                let calls: i64 = calls.ok_or("unexpected commandstats")?.parse()?;
                count += match (strategy, name) {
                    _ if sent.contains(&name) => calls,
                    // PTTL and PUBLISH are sent by plain clients and called by the enqueue script. That
                    // script also calls TIME, so subtracting TIME removes its calls.
                    (Strategy::Plain, "pttl" | "publish") => calls,
                    (Strategy::Plain, "time") => -calls,
                    _ => 0,
                };
            }
        }
        Ok(count)
    }
}

/// Kills the worker processes when the run ends, also by an error.
struct Workers(Vec<Child>);

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            // Killing fails if the worker has exited, which is fine.
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

/// The report of one process.
#[derive(Default)]
struct WorkerReport {
    attempts: Vec<LockAttempt>,
    cpu: Duration,
    round_trip: Duration,
}

fn read_report(
    process: usize,
    output: impl Iterator<Item = std::io::Result<String>>,
) -> Outcome<WorkerReport> {
    let mut report = WorkerReport::default();
    for line in output {
        match worker::parse_line(process, &line?)? {
            ReportLine::Cpu(spent) => report.cpu = spent,
            ReportLine::RoundTrip(duration) => report.round_trip = duration,
            ReportLine::Attempt(attempt) => report.attempts.push(attempt),
        }
    }
    Ok(report)
}

fn compute_results(case: Case, reports: Vec<WorkerReport>, commands: i64) -> Outcome<Results> {
    let cpu: Duration = reports.iter().map(|report| report.cpu).sum();
    let round_trip = median(reports.iter().map(|report| report.round_trip.as_secs_f64() * 1e3).collect());
    let mut attempts: Vec<LockAttempt> = reports.into_iter().flat_map(|report| report.attempts).collect();
    let first =
        attempts.iter().map(|attempt| attempt.requested).min().ok_or("no process requested the lock")?;
    let begin = first + worker::WARM_UP.as_nanos() as u64;
    let end = begin + case.duration.as_nanos() as u64;
    let waiting = waiting_seconds(case, &attempts, (begin, end));
    attempts.sort_by_key(|attempt| attempt.granted);

    let millis = |from: u64, to: u64| (to as f64 - from as f64) / 1e6;
    let (mut waits, mut gaps, mut gaps_from_reply, mut held) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    let (mut by_task, mut by_process) = (vec![0.0; case.processes * case.tasks], vec![0.0; case.processes]);
    let mut longest: f64 = 0.0;
    let mut last: Option<LockAttempt> = None;
    for attempt in &attempts {
        let Some(granted) = attempt.granted else {
            longest = longest.max(millis(attempt.requested, attempt.release_started));
            continue;
        };
        if let Some(last) = last
            && granted < last.release_started
        {
            return Err(
                format!("two clients held the lock at the same time: {last:?} and {attempt:?}").into()
            );
        }
        if granted >= begin && granted < end {
            waits.push(millis(attempt.requested, granted));
            by_task[attempt.process * case.tasks + attempt.task] += 1.0;
            by_process[attempt.process] += 1.0;
            held += millis(granted, attempt.release_started.min(end));
            if let Some(last) = last {
                gaps.push(millis(last.release_started, granted));
                gaps_from_reply.push(millis(last.released, granted));
            }
        }
        last = Some(*attempt);
    }
    let grants = waits.len() as f64;
    let seconds = case.duration.as_secs_f64();
    let spread = |counts: &[f64]| {
        let most = counts.iter().copied().fold(0.0, f64::max);
        most / counts.iter().copied().fold(f64::INFINITY, f64::min)
    };
    Ok(Results {
        per_second: grants / seconds,
        held: held / 1e3 / seconds,
        task_spread: spread(&by_task),
        process_spread: spread(&by_process),
        starved: by_task.iter().filter(|count| **count == 0.0).count() as f64,
        wait_median: median(waits.clone()),
        wait_p99: percentile(waits.clone(), 0.99),
        wait_longest: longest.max(percentile(waits, 1.0)),
        cpu: cpu.as_secs_f64() * 1e6 / grants,
        commands: commands as f64 / grants,
        waiting_commands: (commands as f64 - MIN_COMMANDS * grants) / waiting,
        round_trip,
        gap: median(gaps),
        gap_from_reply: median(gaps_from_reply),
        leftover: 0.0,
    })
}

/// The sum over all processes of the seconds in which at least one task waited.
fn waiting_seconds(case: Case, attempts: &[LockAttempt], (begin, end): (u64, u64)) -> f64 {
    let mut seconds = 0.0;
    for process in 0..case.processes {
        let mut waits: Vec<(u64, u64)> = (attempts.iter())
            .filter(|attempt| attempt.process == process)
            .map(|attempt| (attempt.requested, attempt.granted.unwrap_or(attempt.release_started)))
            .map(|(from, to)| (from.clamp(begin, end), to.clamp(begin, end)))
            .collect();
        waits.sort_unstable();
        let mut covered = 0;
        for (from, to) in waits {
            seconds += to.saturating_sub(from.max(covered)) as f64 / 1e9;
            covered = covered.max(to);
        }
    }
    seconds
}

/// The commands of one acquire and one release on five nodes.
const MIN_COMMANDS: f64 = 10.0;
