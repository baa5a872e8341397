//! The report of a run: a table and a plot.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::goals::{RSLOCK, goals};
use crate::metrics;
use crate::own_clients::{BASELINE, BY_HAND, FENCED, FENCED_BASELINE, QUORLOCK};
use crate::plot::plot;
use crate::results_store::ResultsStore;
use crate::stats::{cell, median, short};
use crate::worker::Threads;

/// Prints the table, or writes table and plot to this folder, named by date.
pub(crate) fn write_report(store: &ResultsStore, folder: Option<&Path>) -> Outcome<()> {
    let date = store.environment("date").last().copied().unwrap_or("undated").to_owned();
    let text = Report { store, text: String::new() }.render(&date);
    let Some(folder) = folder else {
        print!("{text}");
        return Ok(());
    };
    fs::create_dir_all(folder)?;
    for (ending, content) in [("md", text), ("svg", plot(store, &date))] {
        let file = folder.join(format!("{date}.{ending}"));
        fs::write(&file, content)?;
        println!("{}", file.display());
    }
    Ok(())
}

/// Sorts clients into the order of all tables.
pub(crate) fn in_order(mut names: Vec<&str>) -> Vec<&str> {
    let rank = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    names.sort_by_key(|name| rank(name));
    names
}

/// A column of a table in which each client has a row.
type Column<'a> = (&'a str, &'a dyn Fn(&str) -> String);

struct Report<'a> {
    store: &'a ResultsStore,
    text: String,
}

impl Report<'_> {
    fn render(mut self, date: &str) -> String {
        self.line(&format!("# quorlock and its peers, {date}\n"));
        self.environment();
        self.goals();
        for threads in Threads::BOTH {
            self.uncontended(threads);
        }
        self.nodes();
        self.throughput();
        self.faults();
        self.distance();
        self.leases();
        self.work();
        self.takeover();
        self.leftover_keys();
        self.text
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn title(&mut self, title: &str, text: &str) {
        self.line(&format!("\n## {title}\n"));
        if !text.is_empty() {
            self.line(&format!("{text}\n"));
        }
    }

    fn environment(&mut self) {
        let store = self.store;
        for field in ["machine", "version"] {
            self.line(&format!("- {}", store.environment(field).join("; ")));
        }
        let missing = store.environment("missing");
        if !missing.is_empty() {
            self.line(&format!("- Left out: {}.", missing.join(", ")));
        }
        let runs: Vec<&str> = store.environment("run");
        self.line(&format!("- Rounds: {}; {}.", store.rounds(), runs.join("; then ")));
        self.line(
            "- Every value is the median of the rounds, with the lowest and the highest; a ratio is the median of the \
             ratios within each round. Clients and servers share the machine: read the ratios.",
        );
    }

    fn goals(&mut self) {
        self.title("Goals", "");
        self.line("| metric | goal | measured | met |\n|---|--:|--:|---|");
        for goal in goals(self.store) {
            self.line(&goal.to_row());
        }
    }

    /// A table with one row for each client that has values of `metric`.
    fn table(&mut self, metric: &str, columns: &[Column<'_>]) {
        let names = in_order(self.store.clients_in(metric));
        let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
        self.line(&format!("| client | {} |\n|---|{}", titles.join(" | "), "--:|".repeat(columns.len())));
        for name in names {
            let mut line = format!("| {name} |");
            for (_, cell) in columns {
                let _ = write!(line, " {} |", cell(name));
            }
            self.line(&line);
        }
    }

    fn uncontended(&mut self, threads: Threads) {
        let store = self.store;
        let (acquire, release) = (metrics::acquire(5, threads), metrics::release(5, threads));
        if store.clients_in(&acquire).is_empty() {
            return;
        }
        let text = match threads {
            Threads::One => {
                "Five nodes, one task, tokio's current-thread runtime. The baseline is a client of one thread without a runtime."
            }
            Threads::All => {
                "Five nodes, one task, tokio's multi-thread runtime; clients in other languages on their own threads. Results vary with the core that wakes up."
            }
        };
        self.title(&format!("One lock after the other, {}", threads.name()), text);
        let ratio = |metric: &str, name: &str| ratio(store, metric, name, baseline_of(name));
        let p99 = metrics::acquire_p99(5, threads);
        self.table(
            &acquire,
            &[
                ("acquire / baseline", &|name| ratio(&acquire, name)),
                ("release / baseline", &|name| ratio(&release, name)),
                ("acquire p50 (µs)", &|name| cell(&store.series(&acquire, name))),
                ("acquire p99 (µs)", &|name| cell(&store.series(&p99, name))),
                ("release p50 (µs)", &|name| cell(&store.series(&release, name))),
            ],
        );
        self.line("\nFenced mode is compared with a baseline that sends the same scripts.");
    }

    fn nodes(&mut self) {
        let store = self.store;
        if store.clients_in(&metrics::acquire(7, Threads::One)).is_empty() {
            return;
        }
        self.title(
            "By the number of nodes",
            "Acquire p50 in µs, and its ratio to the baseline with the same number of nodes.",
        );
        let cell = |nodes: usize, threads: Threads, name: &str| {
            let metric = metrics::acquire(nodes, threads);
            let value = store.median(&metric, name).map_or("-".to_owned(), short);
            format!("{value} ({})", ratio(store, &metric, name, baseline_of(name)))
        };
        for threads in Threads::BOTH {
            self.line(&format!("\n{}:\n", threads.name()));
            self.table(
                &metrics::acquire(7, threads),
                &[
                    ("1 node", &|name| cell(1, threads, name)),
                    ("3 nodes", &|name| cell(3, threads, name)),
                    ("5 nodes", &|name| cell(5, threads, name)),
                    ("7 nodes", &|name| cell(7, threads, name)),
                ],
            );
        }
    }

    fn throughput(&mut self) {
        let store = self.store;
        let metric = metrics::per_second(64);
        if store.clients_in(&metric).is_empty() {
            return;
        }
        self.title(
            "Throughput",
            "Each task acquires and releases its own lock, on the default runtime; five nodes.",
        );
        let cpu = metrics::cpu(64);
        self.table(
            &metric,
            &[
                ("64 tasks / rslock", &|name| ratio(store, &metric, name, RSLOCK)),
                ("processor time / rslock", &|name| ratio(store, &cpu, name, RSLOCK)),
                ("locks per second, 64 tasks", &|name| cell(&store.series(&metric, name))),
                ("client's processor time (µs)", &|name| cell(&store.series(&cpu, name))),
            ],
        );
        self.line("");
        let cell = |tasks: usize, name: &str| {
            let metric = metrics::per_second(tasks);
            let value = store.median(&metric, name).map_or("-".to_owned(), short);
            format!("{value} ({})", ratio(store, &metric, name, RSLOCK))
        };
        self.line("Locks per second, and the ratio to rslock, by the number of tasks:\n");
        self.table(
            &metrics::per_second(512),
            &[
                ("1 task", &|name| cell(1, name)),
                ("8 tasks", &|name| cell(8, name)),
                ("64 tasks", &|name| cell(64, name)),
                ("512 tasks", &|name| cell(512, name)),
            ],
        );
    }

    fn faults(&mut self) {
        let store = self.store;
        if store.clients_in(&metrics::fault(metrics::FAULTS[0], metrics::FAULT_P50)).is_empty() {
            return;
        }
        let text = "Dead: its process is gone. Paused: it accepts bytes and does not reply. *After* or *before* the client connected. Clients that \
                     wait for all nodes do few locks in few rounds; ∞ is no reply in 12 s, *error* is an error for a lock that is free on four nodes.";
        self.title("One of five nodes dead or paused", text);
        for fault in metrics::FAULTS {
            self.line(&format!("\n{fault}:\n"));
            let row = |metric: &str| metrics::fault(fault, metric);
            let value = |metric: &str, name: &str| cell(&store.series(&row(metric), name));
            self.table(
                &row(metrics::FAULT_P50),
                &[
                    ("acquire p50 / healthy", &|name| value(metrics::FAULT_P50_RATIO, name)),
                    ("acquire p50 (µs)", &|name| value(metrics::FAULT_P50, name)),
                    ("longest acquire (ms)", &|name| value(metrics::LONGEST_ACQUIRE, name)),
                    ("throughput / healthy", &|name| value(metrics::FAULT_RATE_RATIO, name)),
                ],
            );
        }
    }

    fn distance(&mut self) {
        let store = self.store;
        if store.clients_in(metrics::DISTANT).is_empty() {
            return;
        }
        let third = cell(&store.series(metrics::THIRD_ROUND_TRIP, metrics::NO_CLIENT));
        let text = format!(
            "The third-fastest round trip, measured by PING through the same proxies, takes {third} µs. Ratios are to that."
        );
        self.title("Nodes at 0.5, 1, 2, 5 and 20 ms", &text);
        let ratio = |metric: &str, name: &str| {
            median_of(store.ratios((metric, name), (metrics::THIRD_ROUND_TRIP, metrics::NO_CLIENT)))
                .map_or("-".to_owned(), short)
        };
        self.table(
            metrics::DISTANT,
            &[
                ("acquire / third", &|name| ratio(metrics::DISTANT, name)),
                ("release / third", &|name| ratio(metrics::DISTANT_RELEASE, name)),
                ("acquire p50 (µs)", &|name| cell(&store.series(metrics::DISTANT, name))),
                ("release p50 (µs)", &|name| cell(&store.series(metrics::DISTANT_RELEASE, name))),
            ],
        );
    }

    fn leases(&mut self) {
        let store = self.store;
        if store.clients_in(metrics::LEASE_BYTES).is_empty() {
            return;
        }
        let text = format!(
            "10,000 locks of 10 s, each renewed by its client. Bytes: growth of resident memory from the first lock to half a ttl after the last. Reads: how often a node \
             reads from its sockets for {} renewals that are due at the same time.",
            metrics::SIMULTANEOUS_RENEWALS
        );
        self.title("Leases", &text);
        let with = |name: &str| {
            median_of(store.ratios((metrics::WITH_LEASES, name), (metrics::WITHOUT_LEASES, name)))
                .map_or("-".to_owned(), short)
        };
        self.table(
            metrics::LEASE_BYTES,
            &[
                ("bytes / rslock", &|name| ratio(store, metrics::LEASE_BYTES, name, RSLOCK)),
                ("bytes per lease", &|name| cell(&store.series(metrics::LEASE_BYTES, name))),
                ("throughput of 64 tasks, with / without", &with),
                ("reads per renewal batch", &|name| cell(&store.series(metrics::READS, name))),
            ],
        );
    }

    fn work(&mut self) {
        let store = self.store;
        let counted = [metrics::INSTRUCTIONS, metrics::ALLOCATIONS, metrics::SYSTEM_CALLS];
        let Some(metric) = counted.into_iter().find(|metric| !store.clients_in(metric).is_empty()) else {
            return;
        };
        let text = "For one acquire and its release on the current-thread runtime: user instructions (callgrind), heap allocations (memcheck), system calls (perf). These vary \
                     little with other load on the machine.";
        self.title("Work", text);
        self.table(
            metric,
            &[
                ("instructions / rslock", &|name| ratio(store, metrics::INSTRUCTIONS, name, RSLOCK)),
                ("allocations / rslock", &|name| ratio(store, metrics::ALLOCATIONS, name, RSLOCK)),
                ("instructions", &|name| cell(&store.series(metrics::INSTRUCTIONS, name))),
                ("allocations", &|name| cell(&store.series(metrics::ALLOCATIONS, name))),
                ("bytes allocated", &|name| cell(&store.series(metrics::ALLOCATED_BYTES, name))),
                ("system calls", &|name| cell(&store.series(metrics::SYSTEM_CALLS, name))),
            ],
        );
    }

    fn takeover(&mut self) {
        let store = self.store;
        if store.clients_in(metrics::TAKEOVER).is_empty() {
            return;
        }
        let lead = cell(&store.series(metrics::LOST_SIGNAL_LEAD, QUORLOCK));
        let text = format!(
            "A holder is killed and another process waits: the time from the expiry of the keys on a quorum to the grant. \
             If no node replies, quorlock's holder gets the lost signal {lead} ms before its deadline."
        );
        self.title("A dead holder", &text);
        self.table(
            metrics::TAKEOVER,
            &[("grant after expiry (ms)", &|name| cell(&store.series(metrics::TAKEOVER, name)))],
        );
    }

    fn leftover_keys(&mut self) {
        let store = self.store;
        let parts: Vec<&str> = metrics::PARTS
            .into_iter()
            .filter(|part| !store.clients_in(&metrics::leftover_keys(part)).is_empty())
            .collect();
        if parts.is_empty() {
            return;
        }
        self.title(
            "Keys left behind",
            "All nodes together, after every lock was released or its acquire cancelled (*cancelled*): the worst round.",
        );
        let names = parts.iter().flat_map(|part| store.clients_in(&metrics::leftover_keys(part)));
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names.dedup();
        self.line(&format!("| client | {} |\n|---|{}", parts.join(" | "), "--:|".repeat(parts.len())));
        for name in in_order(names) {
            let mut line = format!("| {name} |");
            for part in &parts {
                let worst = store.series(&metrics::leftover_keys(part), name).into_iter().reduce(f64::max);
                let _ = write!(line, " {} |", worst.map_or("-".to_owned(), short));
            }
            self.line(&line);
        }
    }
}

fn ratio(store: &ResultsStore, metric: &str, own: &str, peer: &str) -> String {
    store.ratio(metric, own, peer).map_or("-".to_owned(), short)
}

fn median_of(values: Vec<f64>) -> Option<f64> {
    (!values.is_empty()).then(|| median(values))
}

/// The baseline with the same mode.
fn baseline_of(name: &str) -> &'static str {
    if matches!(name, FENCED | FENCED_BASELINE) { FENCED_BASELINE } else { BASELINE }
}

const ORDER: [&str; 11] = [
    QUORLOCK,
    FENCED,
    BASELINE,
    FENCED_BASELINE,
    BY_HAND,
    RSLOCK,
    "redlock",
    "node-redlock",
    "redlock-universal",
    "pottery",
    "PostgreSQL",
];
