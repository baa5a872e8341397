//! What is measured. Each function is one round of one part.

mod distance;
mod ends;
mod faults;
mod leases;
mod rush;
mod uncontended;
mod work;

use crate::Outcome;
use crate::bench::Bench;

type Measure = fn(&mut Bench) -> Outcome<()>;

pub(crate) const ALL: [(&str, Measure); 8] = [
    ("uncontended", uncontended::measure),
    ("throughput", rush::measure),
    ("cancelled", rush::cancelled),
    ("faults", faults::measure),
    ("distance", distance::measure),
    ("leases", leases::measure),
    ("ends", ends::measure),
    ("work", work::measure),
];
