//! The parts of the bench. Each function measures one round of one part.

mod distance;
mod faults;
mod leases;
mod takeover;
mod throughput;
mod uncontended;
mod work;

use crate::Outcome;
use crate::bench::Bench;

type Measure = fn(&mut Bench) -> Outcome<()>;

pub(crate) const ALL: [(&str, Measure); 8] = [
    ("uncontended", uncontended::measure),
    ("throughput", throughput::measure),
    ("cancelled", throughput::cancelled),
    ("faults", faults::measure),
    ("distance", distance::measure),
    ("leases", leases::measure),
    ("takeover", takeover::measure),
    ("work", work::measure),
];
