//! What quorlock is to reach, and whether a run bears it out.

use crate::book::Book;
use crate::figures::{median, percentile, short};
use crate::ours::{FLOOR, GUARDED, GUARDED_FLOOR, QUORLOCK};
use crate::rows;
use crate::worker::Threads;

pub(crate) struct Goal {
    what: String,
    measured: f64,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
    Above(f64),
}

impl Goal {
    pub(crate) fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtMost(most) => self.measured <= most,
            Bound::AtLeast(least) => self.measured >= least,
            Bound::Below(most) => self.measured < most,
            Bound::Above(least) => self.measured > least,
        }
    }

    pub(crate) fn to_row(&self) -> String {
        let bound = match self.bound {
            Bound::AtMost(most) => format!("at most {}", short(most)),
            Bound::AtLeast(least) => format!("at least {}", short(least)),
            Bound::Below(most) => format!("below {}", short(most)),
            Bound::Above(least) => format!("above {}", short(least)),
        };
        let met = if self.is_met() { "yes" } else { "**NO**" };
        format!("| {} | {bound} | {} | {met} |", self.what, short(self.measured))
    }
}

/// All that this run has figures for.
pub(crate) fn goals(book: &Book) -> Vec<Goal> {
    let mut goals = Vec::new();
    uncontended(book, &mut goals);
    let mut add = |what: String, measured: Option<f64>, bound| {
        goals.extend(measured.map(|measured| Goal { what, measured, bound }));
    };
    let rate = rows::per_second(64);
    for (who, least) in [(RSLOCK, 2.5), (NODE_REDLOCK, 4.0)] {
        let ratio = book.ratio(&rate, QUORLOCK, who);
        add(format!("throughput, 64 tasks: × {who}'s"), ratio, Bound::AtLeast(least));
    }
    let cpu = book.ratio(&rows::cpu(64), QUORLOCK, RSLOCK);
    add(format!("client's processor time per lock, 64 tasks: × {RSLOCK}'s"), cpu, Bound::AtMost(0.4));
    for who in [QUORLOCK, GUARDED] {
        for title in rows::FAULTS {
            let of = |what: &str| book.series(&rows::fault(title, what), who);
            let middle = |what: &str| (!of(what).is_empty()).then(|| median(of(what)));
            let name = format!("{who}, one of five nodes {title}");
            add(format!("{name}: acquire p50 × healthy"), middle(rows::HURT_P50), Bound::AtMost(1.25));
            add(format!("{name}: longest of 1,000 acquires (ms)"), middle(rows::LONGEST), Bound::Below(50.0));
            add(format!("{name}: throughput × healthy"), middle(rows::HURT_RATE), Bound::AtLeast(0.8));
        }
    }
    for who in [QUORLOCK, GUARDED] {
        let ratios = book.ratios((rows::DISTANT, who), (rows::THIRD, rows::NO_CLIENT));
        let ratio = (!ratios.is_empty()).then(|| median(ratios));
        let what = format!("{who}, nodes at 0.5 to 20 ms: acquire p50 × third-fastest round trip");
        add(what, ratio, Bound::AtMost(1.10));
    }
    let ratio = |row: &str| book.ratio(row, QUORLOCK, RSLOCK);
    add(format!("instructions per lock: × {RSLOCK}'s"), ratio(rows::INSTRUCTIONS), Bound::AtMost(0.25));
    add(format!("allocations per lock: × {RSLOCK}'s"), ratio(rows::ALLOCATIONS), Bound::AtMost(0.10));
    for who in [QUORLOCK, GUARDED] {
        let bytes = book.median(rows::LEASE_BYTES, who);
        add(format!("{who}: bytes for each of 10,000 renewed leases"), bytes, Bound::AtMost(600.0));
        let what = format!("{who}: reads of a node for {} renewals due at one instant", rows::AT_ONE_INSTANT);
        add(what, book.median(rows::READS, who), Bound::AtMost(1.05));
        let ratios = book.ratios((rows::WITH_LEASES, who), (rows::WITHOUT_LEASES, who));
        let ratio = (!ratios.is_empty()).then(|| median(ratios));
        add(format!("{who}: throughput with 10,000 leases × without"), ratio, Bound::AtLeast(0.9));
    }
    for who in [QUORLOCK, GUARDED] {
        let left: Vec<f64> =
            rows::PARTS.iter().flat_map(|part| book.series(&rows::left_over(part), who)).collect();
        let most = (!left.is_empty()).then(|| percentile(left, 1.0));
        add(format!("{who}: keys left behind, worst run of all"), most, Bound::AtMost(0.0));
    }
    let lead = book.series(rows::LEAD, QUORLOCK);
    let least = (!lead.is_empty()).then(|| percentile(lead, 0.0));
    add("lost signal before the deadline (ms), worst round".to_owned(), least, Bound::Above(0.0));
    goals
}

/// On one thread, where it is not a matter of chance which core wakes up.
fn uncontended(book: &Book, goals: &mut Vec<Goal>) {
    for (ours, theirs, most) in
        [(QUORLOCK, FLOOR, 1.15), (QUORLOCK, RSLOCK, 0.75), (GUARDED, GUARDED_FLOOR, 1.15)]
    {
        for (what, row) in
            [("acquire", rows::acquire(5, Threads::One)), ("release", rows::release(5, Threads::One))]
        {
            goals.extend(book.ratio(&row, ours, theirs).map(|measured| Goal {
                what: format!("{ours}, {what} p50, one task, current-thread: × {theirs}"),
                measured,
                bound: Bound::AtMost(most),
            }));
        }
    }
}

pub(crate) const RSLOCK: &str = "rslock";
pub(crate) const NODE_REDLOCK: &str = "node-redlock";
