//! The performance goals of quorlock, and whether a run meets them.

use crate::metrics;
use crate::own_clients::{BASELINE, FENCED, FENCED_BASELINE, QUORLOCK};
use crate::results_store::ResultsStore;
use crate::stats::{median, percentile, short};
use crate::worker::Threads;

pub(crate) struct Goal {
    name: String,
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
        format!("| {} | {bound} | {} | {met} |", self.name, short(self.measured))
    }
}

/// The goals for which this run has results.
pub(crate) fn goals(store: &ResultsStore) -> Vec<Goal> {
    let mut goals = Vec::new();
    uncontended(store, &mut goals);
    let mut add = |name: String, measured: Option<f64>, bound| {
        goals.extend(measured.map(|measured| Goal { name, measured, bound }));
    };
    let rate = metrics::per_second(64);
    for (client, least) in [(RSLOCK, 2.5), (NODE_REDLOCK, 4.0)] {
        let ratio = store.ratio(&rate, QUORLOCK, client);
        add(format!("throughput, 64 tasks: × {client}'s"), ratio, Bound::AtLeast(least));
    }
    let cpu = store.ratio(&metrics::cpu(64), QUORLOCK, RSLOCK);
    add(format!("client's processor time per lock, 64 tasks: × {RSLOCK}'s"), cpu, Bound::AtMost(0.4));
    for client in [QUORLOCK, FENCED] {
        for fault in metrics::FAULTS {
            let series = |metric: &str| store.series(&metrics::fault(fault, metric), client);
            let middle = |metric: &str| (!series(metric).is_empty()).then(|| median(series(metric)));
            let name = format!("{client}, one of five nodes {fault}");
            add(
                format!("{name}: acquire p50 × healthy"),
                middle(metrics::FAULT_P50_RATIO),
                Bound::AtMost(1.25),
            );
            add(
                format!("{name}: longest of 1,000 acquires (ms)"),
                middle(metrics::LONGEST_ACQUIRE),
                Bound::Below(50.0),
            );
            add(
                format!("{name}: throughput × healthy"),
                middle(metrics::FAULT_RATE_RATIO),
                Bound::AtLeast(0.8),
            );
        }
    }
    for client in [QUORLOCK, FENCED] {
        let ratios =
            store.ratios((metrics::DISTANT, client), (metrics::THIRD_ROUND_TRIP, metrics::NO_CLIENT));
        let ratio = (!ratios.is_empty()).then(|| median(ratios));
        let name = format!("{client}, nodes at 0.5 to 20 ms: acquire p50 × third-fastest round trip");
        add(name, ratio, Bound::AtMost(1.10));
    }
    let ratio = |metric: &str| store.ratio(metric, QUORLOCK, RSLOCK);
    add(format!("instructions per lock: × {RSLOCK}'s"), ratio(metrics::INSTRUCTIONS), Bound::AtMost(0.25));
    add(format!("allocations per lock: × {RSLOCK}'s"), ratio(metrics::ALLOCATIONS), Bound::AtMost(0.10));
    for client in [QUORLOCK, FENCED] {
        let bytes = store.median(metrics::LEASE_BYTES, client);
        add(format!("{client}: bytes for each of 10,000 renewed leases"), bytes, Bound::AtMost(600.0));
        let name = format!(
            "{client}: reads of a node for {} renewals due at the same time",
            metrics::SIMULTANEOUS_RENEWALS
        );
        add(name, store.median(metrics::READS, client), Bound::AtMost(1.05));
        let ratios = store.ratios((metrics::WITH_LEASES, client), (metrics::WITHOUT_LEASES, client));
        let ratio = (!ratios.is_empty()).then(|| median(ratios));
        add(format!("{client}: throughput with 10,000 leases × without"), ratio, Bound::AtLeast(0.9));
    }
    for client in [QUORLOCK, FENCED] {
        let leftover: Vec<f64> = metrics::PARTS
            .iter()
            .flat_map(|part| store.series(&metrics::leftover_keys(part), client))
            .collect();
        let most = (!leftover.is_empty()).then(|| percentile(leftover, 1.0));
        add(format!("{client}: keys left behind, worst run of all"), most, Bound::AtMost(0.0));
    }
    let lead = store.series(metrics::LOST_SIGNAL_LEAD, QUORLOCK);
    let least = (!lead.is_empty()).then(|| percentile(lead, 0.0));
    add("lost signal before the deadline (ms), worst round".to_owned(), least, Bound::Above(0.0));
    goals
}

/// The goals on one thread, where no other core has to wake up.
fn uncontended(store: &ResultsStore, goals: &mut Vec<Goal>) {
    for (own, peer, most) in
        [(QUORLOCK, BASELINE, 1.15), (QUORLOCK, RSLOCK, 0.75), (FENCED, FENCED_BASELINE, 1.15)]
    {
        for (action, metric) in
            [("acquire", metrics::acquire(5, Threads::One)), ("release", metrics::release(5, Threads::One))]
        {
            goals.extend(store.ratio(&metric, own, peer).map(|measured| Goal {
                name: format!("{own}, {action} p50, one task, current-thread: × {peer}"),
                measured,
                bound: Bound::AtMost(most),
            }));
        }
    }
}

pub(crate) const RSLOCK: &str = "rslock";
pub(crate) const NODE_REDLOCK: &str = "node-redlock";
