//! A request to a worker, and its form as a line of text.

use std::fmt;
use std::time::Duration;

use crate::Outcome;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Untimed { ops: usize },
    Sequence { ops: usize },
    Throughput { tasks: usize, duration: Duration },
    Cancel { tasks: usize, duration: Duration },
    Acquire { key: String, ttl: Duration },
    Hold { count: usize, ttl: Duration },
    ReleaseAll,
}

impl Request {
    pub fn parse(line: &str) -> Outcome<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let millis = |word: &str| word.parse().map(Duration::from_millis);
        Ok(match words.as_slice() {
            ["untimed", ops] => Self::Untimed { ops: ops.parse()? },
            ["sequence", ops] => Self::Sequence { ops: ops.parse()? },
            ["throughput", tasks, duration] => {
                Self::Throughput { tasks: tasks.parse()?, duration: millis(duration)? }
            }
            ["cancel", tasks, duration] => {
                Self::Cancel { tasks: tasks.parse()?, duration: millis(duration)? }
            }
            ["acquire", key, ttl] => Self::Acquire { key: (*key).to_owned(), ttl: millis(ttl)? },
            ["hold", count, ttl] => Self::Hold { count: count.parse()?, ttl: millis(ttl)? },
            ["release-all"] => Self::ReleaseAll,
            _ => return Err(format!("unknown request {line:?}").into()),
        })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untimed { ops } => write!(f, "untimed {ops}"),
            Self::Sequence { ops } => write!(f, "sequence {ops}"),
            Self::Throughput { tasks, duration } => write!(f, "throughput {tasks} {}", duration.as_millis()),
            Self::Cancel { tasks, duration } => write!(f, "cancel {tasks} {}", duration.as_millis()),
            Self::Acquire { key, ttl } => write!(f, "acquire {key} {}", ttl.as_millis()),
            Self::Hold { count, ttl } => write!(f, "hold {count} {}", ttl.as_millis()),
            Self::ReleaseAll => write!(f, "release-all"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_writing_and_parsing() {
        let ttl = Duration::from_millis(1500);
        let requests = [
            Request::Untimed { ops: 5 },
            Request::Sequence { ops: 250 },
            Request::Throughput { tasks: 64, duration: ttl },
            Request::Cancel { tasks: 64, duration: ttl },
            Request::Acquire { key: "held:key".to_owned(), ttl },
            Request::Hold { count: 10, ttl },
            Request::ReleaseAll,
        ];
        for request in requests {
            assert_eq!(Request::parse(&request.to_string()).expect("a request"), request);
        }
        assert!(Request::parse("throughput 64").is_err());
    }
}
