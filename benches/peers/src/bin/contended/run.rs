//! One run: the processes of a case contend, and what they tell becomes figures.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use peers::Outcome;
use peers::stats::{median, percentile};
use quorlock_chaos::{DirectionRule, Fleet, LinkRules, Proxy};

use crate::case::{Case, Distance};
use crate::way::Way;
use crate::worker::{self, ReportLine, Visit};

/// The servers, and the far way to them.
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    proxies: Vec<Proxy>,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Grants per second.
    pub(crate) per_second: f64,
    /// The share of the time in which the lock was held.
    pub(crate) held: f64,
    /// The most grants of a task over the fewest.
    pub(crate) task_spread: f64,
    /// The same of whole processes.
    pub(crate) process_spread: f64,
    /// Tasks that never had the lock.
    pub(crate) starved: f64,
    /// Milliseconds.
    pub(crate) wait_median: f64,
    pub(crate) wait_p99: f64,
    /// Those cut short by the end of the run are among them.
    pub(crate) wait_longest: f64,
    /// Of the client's processes, in microseconds, per grant.
    pub(crate) cpu: f64,
    /// Commands that the servers were sent, per grant.
    pub(crate) commands: f64,
    /// Commands beyond the one acquisition and the one release of each grant, per second in which a process waits.
    pub(crate) waiting_commands: f64,
    /// The time of an uncontended acquisition, in milliseconds: one round trip and some work.
    pub(crate) round_trip: f64,
    /// From giving it up to the next grant, in milliseconds.
    pub(crate) gap: f64,
    /// From the answer to the release to the next grant.
    pub(crate) gap_from_answer: f64,
    /// Keys left when all was over.
    pub(crate) leftover: f64,
}

impl World {
    pub(crate) fn start() -> Outcome<Self> {
        let fleet = Fleet::start_with(5, &quorlock_chaos::Setup::new().append_only(false))?;
        let delay = DirectionRule::Delay { delay: Distance::EACH_WAY, jitter: Duration::ZERO };
        let mut proxies = Vec::new();
        for server in fleet.servers() {
            let proxy = Proxy::before(server, 1)?;
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

    /// Runs the case with processes of this program.
    pub(crate) fn run(&self, program: &str, way: Way, case: Case) -> Outcome<Figures> {
        let urls = self.urls(case.round_trip);
        if way == Way::Fenced {
            // A cluster that is declared votes at once.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(quorlock::Redlock::builder().nodes(self.fleet.urls()).init(false))?;
        }
        let mut workers = Workers(Vec::new());
        for _ in 0..case.processes {
            let worker = Command::new(program)
                .args(["--work", &way.name()])
                .args(case.words())
                .args(&urls)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            workers.0.push(worker);
        }
        let mut lines = Vec::new();
        for worker in &mut workers.0 {
            let mut said = BufReader::new(worker.stdout.take().ok_or("a worker has no stdout")?).lines();
            if said.next().transpose()?.as_deref() != Some("ready") {
                return Err(format!("a worker of {:?} did not get ready", way.name()).into());
            }
            lines.push(said);
        }
        for worker in &mut workers.0 {
            writeln!(worker.stdin.as_mut().ok_or("a worker has no stdin")?, "go")?;
        }
        let begin = Instant::now();
        let readers: Vec<_> = (lines.into_iter().enumerate())
            .map(|(process, said)| thread::spawn(move || listen(process, said)))
            .collect();
        // By the parent's clock and not the workers', which is no matter in seconds.
        thread::sleep(worker::WARM_UP);
        let before = self.commands(way)?;
        thread::sleep((worker::WARM_UP + case.span).saturating_sub(begin.elapsed()));
        let commands = self.commands(way)? - before;
        let mut stories = Vec::new();
        for reader in readers {
            stories.push(reader.join().map_err(|_| "a reader panicked")??);
        }
        for worker in &mut workers.0 {
            if !worker.wait()?.success() {
                return Err(format!("a worker of {:?} failed", way.name()).into());
            }
        }
        let mut figures = figures(case, stories, commands)?;
        for server in self.fleet.servers() {
            let names: Vec<String> = server.command(&["KEYS", "*"])?;
            // What a fenced cluster remembers on purpose.
            let is_memory = |name: &&String| {
                ["quorlock:node", "quorlock:clock", "quorlock:high"].contains(&name.as_str())
                    || name.starts_with("quorlock:fence:")
            };
            figures.leftover += names.iter().filter(|name| !is_memory(name)).count() as f64;
            server.wipe()?;
        }
        Ok(figures)
    }

    /// How many commands clients have sent to the servers so far. What a script does is not sent.
    fn commands(&self, way: Way) -> Outcome<i64> {
        let sent: &[&str] = match way {
            // Everything it sends while it contends is a script; its scripts set.
            Way::Fenced => &["evalsha", "eval"],
            Way::Plain | Way::Rslock(_) => &["evalsha", "eval", "set"],
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
                let calls: i64 = calls.ok_or("an odd commandstats")?.parse()?;
                count += match (way, name) {
                    _ if sent.contains(&name) => calls,
                    // A plain client asks for it; so does the script that puts it in line, and that script asks for the
                    // time as well, as only a call does besides.
                    (Way::Plain, "pttl" | "publish") => calls,
                    (Way::Plain, "time") => -calls,
                    _ => 0,
                };
            }
        }
        Ok(count)
    }
}

/// Ended with the run, however that ends.
struct Workers(Vec<Child>);

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            // One that has ended by itself cannot be killed, and need not be.
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

/// The report of one process.
#[derive(Default)]
struct Story {
    visits: Vec<Visit>,
    cpu: Duration,
    round_trip: Duration,
}

fn listen(process: usize, said: impl Iterator<Item = std::io::Result<String>>) -> Outcome<Story> {
    let mut story = Story::default();
    for line in said {
        match worker::read(process, &line?)? {
            ReportLine::Cpu(spent) => story.cpu = spent,
            ReportLine::RoundTrip(span) => story.round_trip = span,
            ReportLine::Visit(visit) => story.visits.push(visit),
        }
    }
    Ok(story)
}

fn figures(case: Case, stories: Vec<Story>, commands: i64) -> Outcome<Figures> {
    let cpu: Duration = stories.iter().map(|story| story.cpu).sum();
    let round_trip = median(stories.iter().map(|story| story.round_trip.as_secs_f64() * 1e3).collect());
    let mut visits: Vec<Visit> = stories.into_iter().flat_map(|story| story.visits).collect();
    let first = visits.iter().map(|visit| visit.asked).min().ok_or("no process requested the lock")?;
    let begin = first + worker::WARM_UP.as_nanos() as u64;
    let end = begin + case.span.as_nanos() as u64;
    let waiting = waiting_seconds(case, &visits, (begin, end));
    visits.sort_by_key(|visit| visit.granted);

    let millis = |from: u64, to: u64| (to as f64 - from as f64) / 1e6;
    let (mut waits, mut gaps, mut gaps_from_answer, mut held) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    let (mut by_task, mut by_process) = (vec![0.0; case.processes * case.tasks], vec![0.0; case.processes]);
    let mut longest: f64 = 0.0;
    let mut last: Option<Visit> = None;
    for visit in &visits {
        let Some(granted) = visit.granted else {
            longest = longest.max(millis(visit.asked, visit.given_up));
            continue;
        };
        if let Some(last) = last
            && granted < last.given_up
        {
            return Err(format!("two had the lock at once: {last:?} and {visit:?}").into());
        }
        if granted >= begin && granted < end {
            waits.push(millis(visit.asked, granted));
            by_task[visit.process * case.tasks + visit.task] += 1.0;
            by_process[visit.process] += 1.0;
            held += millis(granted, visit.given_up.min(end));
            if let Some(last) = last {
                gaps.push(millis(last.given_up, granted));
                gaps_from_answer.push(millis(last.freed, granted));
            }
        }
        last = Some(*visit);
    }
    let grants = waits.len() as f64;
    let seconds = case.span.as_secs_f64();
    let spread = |counts: &[f64]| {
        let most = counts.iter().copied().fold(0.0, f64::max);
        most / counts.iter().copied().fold(f64::INFINITY, f64::min)
    };
    Ok(Figures {
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
        waiting_commands: (commands as f64 - NECESSARY * grants) / waiting,
        round_trip,
        gap: median(gaps),
        gap_from_answer: median(gaps_from_answer),
        leftover: 0.0,
    })
}

/// For how long each process had a task that waited, summed up.
fn waiting_seconds(case: Case, visits: &[Visit], (begin, end): (u64, u64)) -> f64 {
    let mut seconds = 0.0;
    for process in 0..case.processes {
        let mut waits: Vec<(u64, u64)> = (visits.iter())
            .filter(|visit| visit.process == process)
            .map(|visit| (visit.asked, visit.granted.unwrap_or(visit.given_up)))
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

/// One acquisition and one release on five nodes.
const NECESSARY: f64 = 10.0;
