//! A worker process, as seen by the bench that sends its requests.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::worker::Request;

/// A running worker. It is killed when this value is dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    replies: Receiver<String>,
}

/// Why a request has no result.
#[derive(Debug)]
pub(crate) enum WorkerError {
    /// The message of the worker.
    Failed(String),
    /// No reply within this time.
    Timeout(Duration),
    /// The worker has exited.
    Exited,
}

impl Process {
    /// Starts a worker and waits until it is connected.
    pub(crate) fn start(mut command: Command, timeout: Duration) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("a worker without an output")?;
        let (sender, replies) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let worker = Self { child, stdin, replies };
        worker.receive(timeout)?;
        Ok(worker)
    }

    pub(crate) fn request(&mut self, request: &Request, timeout: Duration) -> Result<Vec<f64>, WorkerError> {
        self.send(request).map_err(|_| WorkerError::Exited)?;
        self.receive(timeout)
    }

    /// Sends a request without waiting for the reply.
    pub(crate) fn send(&mut self, request: &Request) -> Outcome<()> {
        let stdin = self.stdin.as_mut().ok_or("the worker was ended before")?;
        writeln!(stdin, "{request}")?;
        Ok(stdin.flush()?)
    }

    pub(crate) fn receive(&self, timeout: Duration) -> Result<Vec<f64>, WorkerError> {
        let line = self.replies.recv_timeout(timeout).map_err(|error| match error {
            RecvTimeoutError::Timeout => WorkerError::Timeout(timeout),
            RecvTimeoutError::Disconnected => WorkerError::Exited,
        })?;
        let mut words = line.split_whitespace();
        match words.next() {
            Some("ok") => words
                .map(|word| {
                    word.parse().map_err(|_| WorkerError::Failed(format!("unexpected reply: {line}")))
                })
                .collect(),
            _ => Err(WorkerError::Failed(line)),
        }
    }

    pub(crate) fn kill(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Closes the input and waits until the worker exits.
    pub(crate) fn end(mut self) -> Outcome<()> {
        self.stdin = None;
        let begin = Instant::now();
        while begin.elapsed() < EXIT_TIMEOUT {
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
        // Killing fails if the worker has exited, which is fine.
        let _ = self.kill();
    }
}

impl WorkerError {
    /// The value that represents the error in the results.
    pub(crate) fn value(&self) -> f64 {
        match self {
            Self::Timeout(_) => f64::INFINITY,
            Self::Failed(_) | Self::Exited => f64::NAN,
        }
    }
}

impl fmt::Display for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) => f.write_str(message),
            Self::Timeout(timeout) => write!(f, "no reply in {timeout:?}"),
            Self::Exited => f.write_str("the worker has exited"),
        }
    }
}

impl std::error::Error for WorkerError {}

const EXIT_TIMEOUT: Duration = Duration::from_secs(10);
