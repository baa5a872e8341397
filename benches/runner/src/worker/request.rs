//! A request to a worker, as a line.

use std::fmt;
use std::time::Duration;

use crate::Outcome;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Work { ops: usize },
    Sequence { ops: usize },
    Rush { tasks: usize, span: Duration },
    Cancel { tasks: usize, span: Duration },
    Take { key: String, ttl: Duration },
    Hold { count: usize, ttl: Duration },
    Free,
}

impl Request {
    pub fn of(line: &str) -> Outcome<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let millis = |word: &str| word.parse().map(Duration::from_millis);
        Ok(match words.as_slice() {
            ["work", ops] => Self::Work { ops: ops.parse()? },
            ["sequence", ops] => Self::Sequence { ops: ops.parse()? },
            ["rush", tasks, span] => Self::Rush { tasks: tasks.parse()?, span: millis(span)? },
            ["cancel", tasks, span] => Self::Cancel { tasks: tasks.parse()?, span: millis(span)? },
            ["take", key, ttl] => Self::Take { key: (*key).to_owned(), ttl: millis(ttl)? },
            ["hold", count, ttl] => Self::Hold { count: count.parse()?, ttl: millis(ttl)? },
            ["free"] => Self::Free,
            _ => return Err(format!("unknown request {line:?}").into()),
        })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work { ops } => write!(f, "work {ops}"),
            Self::Sequence { ops } => write!(f, "sequence {ops}"),
            Self::Rush { tasks, span } => write!(f, "rush {tasks} {}", span.as_millis()),
            Self::Cancel { tasks, span } => write!(f, "cancel {tasks} {}", span.as_millis()),
            Self::Take { key, ttl } => write!(f, "take {key} {}", ttl.as_millis()),
            Self::Hold { count, ttl } => write!(f, "hold {count} {}", ttl.as_millis()),
            Self::Free => write!(f, "free"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_is_heard() {
        let ttl = Duration::from_millis(1500);
        let requests = [
            Request::Work { ops: 5 },
            Request::Sequence { ops: 250 },
            Request::Rush { tasks: 64, span: ttl },
            Request::Cancel { tasks: 64, span: ttl },
            Request::Take { key: "held:key".to_owned(), ttl },
            Request::Hold { count: 10, ttl },
            Request::Free,
        ];
        for request in requests {
            assert_eq!(Request::of(&request.to_string()).expect("a request"), request);
        }
        assert!(Request::of("rush 64").is_err());
    }
}
