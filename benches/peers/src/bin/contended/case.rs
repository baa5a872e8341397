//! A case of the bench: the number of processes and tasks, the hold time, and the round trip to the servers.

use std::time::Duration;

use peers::Outcome;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) round_trip: Distance,
    pub(crate) hold: Duration,
    pub(crate) processes: usize,
    /// The tasks of each process.
    pub(crate) tasks: usize,
    pub(crate) duration: Duration,
}

/// The round trip to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Distance {
    /// Loopback: at most a tenth of a millisecond.
    Near,
    /// Two milliseconds, by a proxy before each server.
    Far,
}

impl Distance {
    /// The delay to configure for one millisecond each way, because the timers of the proxy are late by about
    /// 0.9 ms.
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
    pub(crate) fn all(duration: Duration) -> Vec<Self> {
        let mut cases = Vec::new();
        for round_trip in [Distance::Near, Distance::Far] {
            for hold in [100, 1000, 10_000, 100_000].map(Duration::from_micros) {
                for (processes, tasks) in [(1, 16), (4, 4), (16, 1)] {
                    cases.push(Self { round_trip, hold, processes, tasks, duration });
                }
            }
        }
        cases
    }

    /// Whether there is a goal for this case.
    pub(crate) fn has_goal(self) -> bool {
        match self.round_trip {
            Distance::Near => self.hold == Duration::from_millis(1),
            Distance::Far => self.hold == Duration::from_millis(100) && self.processes > 1,
        }
    }

    /// The arguments that [`from_args`](Self::from_args) parses.
    pub(crate) fn to_args(self) -> [String; 5] {
        let far = u8::from(self.round_trip == Distance::Far);
        let (hold, duration) = (self.hold.as_micros(), self.duration.as_millis());
        [
            far.to_string(),
            hold.to_string(),
            self.processes.to_string(),
            self.tasks.to_string(),
            duration.to_string(),
        ]
    }

    pub(crate) fn from_args(args: &[String]) -> Outcome<Self> {
        let [far, hold, processes, tasks, duration] = args else {
            return Err("a case has five arguments".into());
        };
        Ok(Self {
            round_trip: if far == "1" { Distance::Far } else { Distance::Near },
            hold: Duration::from_micros(hold.parse()?),
            processes: processes.parse()?,
            tasks: tasks.parse()?,
            duration: Duration::from_millis(duration.parse()?),
        })
    }

    pub(crate) fn hold_millis(self) -> f64 {
        self.hold.as_secs_f64() * 1e3
    }
}
