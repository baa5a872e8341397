//! The table and the plot that a run comes to.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::book::Book;
use crate::figures::{cell, median, short};
use crate::goals::{RSLOCK, goals};
use crate::ours::{BY_HAND, FLOOR, GUARDED, GUARDED_FLOOR, QUORLOCK};
use crate::plot::plot;
use crate::rows;
use crate::worker::Threads;

/// Prints the table, or writes it and the plot to this folder, under the day's date.
pub(crate) fn hand_in(book: &Book, folder: Option<&Path>) -> Outcome<()> {
    let date = book.noted("date").last().copied().unwrap_or("undated").to_owned();
    let text = Report { book, text: String::new() }.write(&date);
    let Some(folder) = folder else {
        print!("{text}");
        return Ok(());
    };
    fs::create_dir_all(folder)?;
    for (ending, content) in [("md", text), ("svg", plot(book, &date))] {
        let file = folder.join(format!("{date}.{ending}"));
        fs::write(&file, content)?;
        println!("{}", file.display());
    }
    Ok(())
}

/// Clients in the order in which they stand in every table.
pub(crate) fn in_order(mut names: Vec<&str>) -> Vec<&str> {
    let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    names.sort_by_key(|name| place(name));
    names
}

/// A column of a table in which each client has a row.
type Column<'a> = (&'a str, &'a dyn Fn(&str) -> String);

struct Report<'a> {
    book: &'a Book,
    text: String,
}

impl Report<'_> {
    fn write(mut self, date: &str) -> String {
        self.line(&format!("# quorlock beside its peers, {date}\n"));
        self.about();
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
        self.ends();
        self.left_over();
        self.text
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn title(&mut self, title: &str, words: &str) {
        self.line(&format!("\n## {title}\n"));
        if !words.is_empty() {
            self.line(&format!("{words}\n"));
        }
    }

    fn about(&mut self) {
        let book = self.book;
        for what in ["machine", "version"] {
            self.line(&format!("- {}", book.noted(what).join("; ")));
        }
        let missing = book.noted("missing");
        if !missing.is_empty() {
            self.line(&format!("- Left out: {}.", missing.join(", ")));
        }
        let runs: Vec<&str> = book.noted("run");
        self.line(&format!("- Rounds: {}; {}.", book.rounds(), runs.join("; then ")));
        self.line(
            "- Every figure is the median of the rounds, with the lowest and the highest; a ratio is the median of the \
             rounds' own ratios. Clients and servers share the machine: read the ratios.",
        );
    }

    fn goals(&mut self) {
        self.title("Goals", "");
        self.line("| what | goal | measured | met |\n|---|--:|--:|---|");
        for goal in goals(self.book) {
            self.line(&goal.to_row());
        }
    }

    /// One row for each client that has figures in `row`.
    fn table(&mut self, row: &str, columns: &[Column<'_>]) {
        let names = in_order(self.book.names_in(row));
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
        let book = self.book;
        let (acquire, release) = (rows::acquire(5, threads), rows::release(5, threads));
        if book.names_in(&acquire).is_empty() {
            return;
        }
        let words = match threads {
            Threads::One => {
                "Five nodes, one task, tokio's current-thread runtime. The floor is a client of one thread without a runtime."
            }
            Threads::All => {
                "Five nodes, one task, tokio's multi-thread runtime; clients in other languages on what they have. Which core wakes up is chance here."
            }
        };
        self.title(&format!("One lock after the other, {}", threads.name()), words);
        let ratio = |row: &str, name: &str| ratio(book, row, name, floor_of(name));
        let p99 = rows::acquire_p99(5, threads);
        self.table(
            &acquire,
            &[
                ("acquire / floor", &|name| ratio(&acquire, name)),
                ("release / floor", &|name| ratio(&release, name)),
                ("acquire p50 (µs)", &|name| cell(&book.series(&acquire, name))),
                ("acquire p99 (µs)", &|name| cell(&book.series(&p99, name))),
                ("release p50 (µs)", &|name| cell(&book.series(&release, name))),
            ],
        );
        self.line("\nFenced mode is held against a floor that sends the very same scripts.");
    }

    fn nodes(&mut self) {
        let book = self.book;
        if book.names_in(&rows::acquire(7, Threads::One)).is_empty() {
            return;
        }
        self.title(
            "By the number of nodes",
            "Acquire p50 in µs, and its ratio to the floor with as many nodes.",
        );
        let cell = |nodes: usize, threads: Threads, name: &str| {
            let row = rows::acquire(nodes, threads);
            let figure = book.median(&row, name).map_or("-".to_owned(), short);
            format!("{figure} ({})", ratio(book, &row, name, floor_of(name)))
        };
        for threads in Threads::BOTH {
            self.line(&format!("\n{}:\n", threads.name()));
            self.table(
                &rows::acquire(7, threads),
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
        let book = self.book;
        let row = rows::per_second(64);
        if book.names_in(&row).is_empty() {
            return;
        }
        self.title(
            "Throughput",
            "Each task takes and releases a lock of its own, on the default runtime; five nodes.",
        );
        let cpu = rows::cpu(64);
        self.table(
            &row,
            &[
                ("64 tasks / rslock", &|name| ratio(book, &row, name, RSLOCK)),
                ("processor time / rslock", &|name| ratio(book, &cpu, name, RSLOCK)),
                ("locks per second, 64 tasks", &|name| cell(&book.series(&row, name))),
                ("client's processor time (µs)", &|name| cell(&book.series(&cpu, name))),
            ],
        );
        self.line("");
        let cell = |tasks: usize, name: &str| {
            let row = rows::per_second(tasks);
            let figure = book.median(&row, name).map_or("-".to_owned(), short);
            format!("{figure} ({})", ratio(book, &row, name, RSLOCK))
        };
        self.line("Locks per second, and the ratio to rslock, by the number of tasks:\n");
        self.table(
            &rows::per_second(512),
            &[
                ("1 task", &|name| cell(1, name)),
                ("8 tasks", &|name| cell(8, name)),
                ("64 tasks", &|name| cell(64, name)),
                ("512 tasks", &|name| cell(512, name)),
            ],
        );
    }

    fn faults(&mut self) {
        let book = self.book;
        if book.names_in(&rows::fault(rows::FAULTS[0], rows::HURT)).is_empty() {
            return;
        }
        let words = "Dead: its process is gone. Paused: it takes bytes and answers nothing. *After* or *before* the client connected. Clients that \
                     wait for all nodes do few locks in few rounds; ∞ is no answer in 12 s, *error* is one for a lock that is free on four nodes.";
        self.title("One of five nodes dead or paused", words);
        for title in rows::FAULTS {
            self.line(&format!("\n{title}:\n"));
            let row = |what: &str| rows::fault(title, what);
            let figures = |what: &str, name: &str| cell(&book.series(&row(what), name));
            self.table(
                &row(rows::HURT),
                &[
                    ("acquire p50 / healthy", &|name| figures(rows::HURT_P50, name)),
                    ("acquire p50 (µs)", &|name| figures(rows::HURT, name)),
                    ("longest acquire (ms)", &|name| figures(rows::LONGEST, name)),
                    ("throughput / healthy", &|name| figures(rows::HURT_RATE, name)),
                ],
            );
        }
    }

    fn distance(&mut self) {
        let book = self.book;
        if book.names_in(rows::DISTANT).is_empty() {
            return;
        }
        let third = cell(&book.series(rows::THIRD, rows::NO_CLIENT));
        let words = format!(
            "The third-fastest round trip, as PING measures it through the same wires, takes {third} µs. Ratios are to that."
        );
        self.title("Nodes at 0.5, 1, 2, 5 and 20 ms", &words);
        let ratio = |row: &str, name: &str| {
            middle(book.ratios((row, name), (rows::THIRD, rows::NO_CLIENT))).map_or("-".to_owned(), short)
        };
        self.table(
            rows::DISTANT,
            &[
                ("acquire / third", &|name| ratio(rows::DISTANT, name)),
                ("release / third", &|name| ratio(rows::DISTANT_RELEASE, name)),
                ("acquire p50 (µs)", &|name| cell(&book.series(rows::DISTANT, name))),
                ("release p50 (µs)", &|name| cell(&book.series(rows::DISTANT_RELEASE, name))),
            ],
        );
    }

    fn leases(&mut self) {
        let book = self.book;
        if book.names_in(rows::LEASE_BYTES).is_empty() {
            return;
        }
        let words = format!(
            "10,000 locks of 10 s, each renewed by its client. Bytes: growth of resident memory from the first lock to half a ttl after the last. Reads: how often a node \
             reads from its sockets for {} renewals that are due at once.",
            rows::AT_ONE_INSTANT
        );
        self.title("Leases", &words);
        let with = |name: &str| {
            middle(book.ratios((rows::WITH_LEASES, name), (rows::WITHOUT_LEASES, name)))
                .map_or("-".to_owned(), short)
        };
        self.table(
            rows::LEASE_BYTES,
            &[
                ("bytes / rslock", &|name| ratio(book, rows::LEASE_BYTES, name, RSLOCK)),
                ("bytes per lease", &|name| cell(&book.series(rows::LEASE_BYTES, name))),
                ("throughput of 64 tasks, with / without", &with),
                ("reads per instant", &|name| cell(&book.series(rows::READS, name))),
            ],
        );
    }

    fn work(&mut self) {
        let book = self.book;
        let counted = [rows::INSTRUCTIONS, rows::ALLOCATIONS, rows::CALLS];
        let Some(row) = counted.into_iter().find(|row| !book.names_in(row).is_empty()) else { return };
        let words = "For one acquire and its release on the current-thread runtime: user instructions (callgrind), heap allocations (memcheck), system calls (perf). These hang \
                     little on what else the machine does.";
        self.title("Work", words);
        self.table(
            row,
            &[
                ("instructions / rslock", &|name| ratio(book, rows::INSTRUCTIONS, name, RSLOCK)),
                ("allocations / rslock", &|name| ratio(book, rows::ALLOCATIONS, name, RSLOCK)),
                ("instructions", &|name| cell(&book.series(rows::INSTRUCTIONS, name))),
                ("allocations", &|name| cell(&book.series(rows::ALLOCATIONS, name))),
                ("bytes allocated", &|name| cell(&book.series(rows::ALLOCATED, name))),
                ("system calls", &|name| cell(&book.series(rows::CALLS, name))),
            ],
        );
    }

    fn ends(&mut self) {
        let book = self.book;
        if book.names_in(rows::TAKEOVER).is_empty() {
            return;
        }
        let lead = cell(&book.series(rows::LEAD, QUORLOCK));
        let words = format!(
            "A holder is killed and another process waits: from the moment at which the keys are gone from a quorum to the grant. \
             With all nodes silent, quorlock's holder is notified {lead} ms before its deadline."
        );
        self.title("A dead holder", &words);
        self.table(
            rows::TAKEOVER,
            &[("grant after expiry (ms)", &|name| cell(&book.series(rows::TAKEOVER, name)))],
        );
    }

    fn left_over(&mut self) {
        let book = self.book;
        let parts: Vec<&str> = rows::PARTS
            .into_iter()
            .filter(|part| !book.names_in(&rows::left_over(part)).is_empty())
            .collect();
        if parts.is_empty() {
            return;
        }
        self.title(
            "Keys left behind",
            "All nodes together, after every lock was released or its caller had walked away (*cancelled*): the worst round.",
        );
        let names = parts.iter().flat_map(|part| book.names_in(&rows::left_over(part)));
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names.dedup();
        self.line(&format!("| client | {} |\n|---|{}", parts.join(" | "), "--:|".repeat(parts.len())));
        for name in in_order(names) {
            let mut line = format!("| {name} |");
            for part in &parts {
                let worst = book.series(&rows::left_over(part), name).into_iter().reduce(f64::max);
                let _ = write!(line, " {} |", worst.map_or("-".to_owned(), short));
            }
            self.line(&line);
        }
    }
}

fn ratio(book: &Book, row: &str, ours: &str, theirs: &str) -> String {
    book.ratio(row, ours, theirs).map_or("-".to_owned(), short)
}

fn middle(figures: Vec<f64>) -> Option<f64> {
    (!figures.is_empty()).then(|| median(figures))
}

/// The floor that does the same work.
fn floor_of(name: &str) -> &'static str {
    if matches!(name, GUARDED | GUARDED_FLOOR) { GUARDED_FLOOR } else { FLOOR }
}

const ORDER: [&str; 11] = [
    QUORLOCK,
    GUARDED,
    FLOOR,
    GUARDED_FLOOR,
    BY_HAND,
    RSLOCK,
    "redlock",
    "node-redlock",
    "redlock-universal",
    "pottery",
    "PostgreSQL",
];
