//! What is measured: so many processes with so many tasks each, how long each holds, how far the servers are away.

use std::time::Duration;

use peers::Outcome;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) round_trip: Distance,
    pub(crate) hold: Duration,
    pub(crate) processes: usize,
    /// Of each process.
    pub(crate) tasks: usize,
    pub(crate) span: Duration,
}

/// How far the servers are away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Distance {
    /// Loopback as it is: a tenth of a millisecond and less.
    Near,
    /// Two milliseconds there and back, by a proxy before each.
    Far,
}

impl Distance {
    /// The delay to configure for a millisecond: its timers are late by about as much.
    pub(crate) const EACH_WAY: Duration = Duration::from_micros(100);

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Near => "0.1",
            Self::Far => "2",
        }
    }
}

impl Case {
    /// Holds of 0.1 to 100 ms, near and far, 16 tasks in one process, in four and in sixteen.
    pub(crate) fn all(span: Duration) -> Vec<Self> {
        let mut cases = Vec::new();
        for round_trip in [Distance::Near, Distance::Far] {
            for hold in [100, 1000, 10_000, 100_000].map(Duration::from_micros) {
                for (processes, tasks) in [(1, 16), (4, 4), (16, 1)] {
                    cases.push(Self { round_trip, hold, processes, tasks, span });
                }
            }
        }
        cases
    }

    /// Whether something is promised for it.
    pub(crate) fn has_goal(self) -> bool {
        match self.round_trip {
            Distance::Near => self.hold == Duration::from_millis(1),
            Distance::Far => self.hold == Duration::from_millis(100) && self.processes > 1,
        }
    }

    /// The words that [`of_words`](Self::of_words) reads.
    pub(crate) fn words(self) -> [String; 5] {
        let far = u8::from(self.round_trip == Distance::Far);
        let (hold, span) = (self.hold.as_micros(), self.span.as_millis());
        [
            far.to_string(),
            hold.to_string(),
            self.processes.to_string(),
            self.tasks.to_string(),
            span.to_string(),
        ]
    }

    pub(crate) fn of_words(words: &[String]) -> Outcome<Self> {
        let [far, hold, processes, tasks, span] = words else { return Err("a case has five words".into()) };
        Ok(Self {
            round_trip: if far == "1" { Distance::Far } else { Distance::Near },
            hold: Duration::from_micros(hold.parse()?),
            processes: processes.parse()?,
            tasks: tasks.parse()?,
            span: Duration::from_millis(span.parse()?),
        })
    }

    pub(crate) fn hold_millis(self) -> f64 {
        self.hold.as_secs_f64() * 1e3
    }
}
