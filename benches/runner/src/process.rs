//! A worker, as seen by the process that sends its requests.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::worker::Request;

/// A running worker. It ends with this value.
pub(crate) struct Process {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
}

/// Why there are no figures.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It said why.
    Error(String),
    /// It said nothing in this time.
    Silent(Duration),
    /// It is gone.
    Gone,
}

impl Process {
    /// Starts a worker and waits until it is connected.
    pub(crate) fn start(mut command: Command, patience: Duration) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take();
        let out = child.stdout.take().ok_or("a worker without an output")?;
        let (said, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                let Ok(line) = line else { return };
                if said.send(line).is_err() {
                    return;
                }
            }
        });
        let worker = Self { child, orders, answers };
        worker.answer(patience)?;
        Ok(worker)
    }

    pub(crate) fn request(&mut self, request: &Request, patience: Duration) -> Result<Vec<f64>, Trouble> {
        self.tell(request).map_err(|_| Trouble::Gone)?;
        self.answer(patience)
    }

    /// Without waiting for the answer.
    pub(crate) fn tell(&mut self, request: &Request) -> Outcome<()> {
        let orders = self.orders.as_mut().ok_or("the worker was ended before")?;
        writeln!(orders, "{request}")?;
        Ok(orders.flush()?)
    }

    pub(crate) fn answer(&self, patience: Duration) -> Result<Vec<f64>, Trouble> {
        let line = self.answers.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => Trouble::Silent(patience),
            RecvTimeoutError::Disconnected => Trouble::Gone,
        })?;
        let mut words = line.split_whitespace();
        match words.next() {
            Some("ok") => words
                .map(|word| word.parse().map_err(|_| Trouble::Error(format!("an odd answer: {line}"))))
                .collect(),
            _ => Err(Trouble::Error(line)),
        }
    }

    pub(crate) fn kill(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Lets it end by itself.
    pub(crate) fn end(mut self) -> Outcome<()> {
        self.orders = None;
        let begin = Instant::now();
        while begin.elapsed() < END_PATIENCE {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err("a worker does not end".into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.kill();
    }
}

impl Trouble {
    /// How it stands among figures.
    pub(crate) fn figure(&self) -> f64 {
        match self {
            Self::Silent(_) => f64::INFINITY,
            Self::Error(_) | Self::Gone => f64::NAN,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(words) => f.write_str(words),
            Self::Silent(span) => write!(f, "no answer in {span:?}"),
            Self::Gone => f.write_str("the worker is gone"),
        }
    }
}

impl std::error::Error for Trouble {}

const END_PATIENCE: Duration = Duration::from_secs(10);
