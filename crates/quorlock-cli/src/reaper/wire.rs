//! The protocol between `run` and its reaper: length-prefixed messages of text fields, over a socket.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use rustix::process::Pid;

/// A message to the reaper.
#[derive(Debug, PartialEq)]
pub(crate) enum ReaperOrder {
    /// Start the command. The command's stdin comes with the first byte of this message.
    Start(StartOrder),
    /// The kill time: kill everything at this time of the boot clock.
    KillAt(u64),
    /// Send this signal to the command.
    Signal(i32),
    /// Send TERM, and report unkillable processes.
    Term,
    /// Kill everything now.
    Kill,
}

/// What the reaper must know to start the command.
#[derive(Debug, PartialEq)]
pub(crate) struct StartOrder {
    /// The first kill time, as in [`ReaperOrder::KillAt`].
    pub(crate) kill_time: u64,
    /// The process group that the command joins. None: the command leads a new group, or stays in the reaper's
    /// group if `is_shared`.
    pub(crate) group: Option<Pid>,
    /// Whether the group is that of `run`. Then only the command gets signals, not the whole group.
    pub(crate) is_shared: bool,
    /// The group that has the terminal, if the command is to take the terminal from it at the start.
    pub(crate) takes_terminal_from: Option<Pid>,
    /// The time between TERM and KILL for leftovers, in nanoseconds.
    pub(crate) kill_after: u64,
    /// Whether to print nothing if the command cannot be executed.
    pub(crate) is_quiet: bool,
    pub(crate) command: Vec<OsString>,
}

/// A message from the reaper.
#[derive(Debug, PartialEq)]
pub(crate) enum ReaperEvent {
    /// The command was started, with this pid.
    Started(Pid),
    /// The command could not be started: the error number, or none if the kill time had passed.
    Failed(Option<i32>),
    /// The command was stopped by this signal.
    Stopped(i32),
    /// The command has ended, with this wait status.
    Exited(i32),
    /// This signal could not be passed on, because the command is another user's.
    NotPassedOn(i32),
    /// These processes still run after the command's end, and get TERM.
    TerminatingLeftovers(String),
    /// These processes cannot be ended, because of this error.
    CannotEnd(String, i32),
    /// These processes are about to be ended. Work that other processes do for them may go on.
    DelegatedWork(String),
    /// No process is left, except unkillable ones.
    Done {
        /// The time on the boot clock.
        at: u64,
        /// Whether the reaper killed because the kill time had passed.
        reached_kill_time: bool,
    },
}

impl ReaperOrder {
    pub(crate) fn encode(self) -> Vec<u8> {
        match self {
            Self::Start(start) => {
                let numbers = [
                    start.kill_time.to_string(),
                    start.group.map_or(0, Pid::as_raw_pid).to_string(),
                    u8::from(start.is_shared).to_string(),
                    start.takes_terminal_from.map_or(0, Pid::as_raw_pid).to_string(),
                    start.kill_after.to_string(),
                    u8::from(start.is_quiet).to_string(),
                ];
                let head = ["start".into()].into_iter().chain(numbers.map(OsString::from));
                message(head.chain(start.command))
            }
            Self::KillAt(time) => message(["at".into(), time.to_string().into()]),
            Self::Signal(number) => message(["signal".into(), number.to_string().into()]),
            Self::Term => message(["term".into()]),
            Self::Kill => message(["kill".into()]),
        }
    }

    pub(crate) fn decode(fields: Vec<OsString>) -> Option<Self> {
        let mut fields = fields.into_iter();
        Some(match fields.next()?.to_str()? {
            "start" => Self::Start(StartOrder {
                kill_time: number(fields.next())?,
                group: Pid::from_raw(number(fields.next())?),
                is_shared: number::<u8>(fields.next())? != 0,
                takes_terminal_from: Pid::from_raw(number(fields.next())?),
                kill_after: number(fields.next())?,
                is_quiet: number::<u8>(fields.next())? != 0,
                command: fields.collect(),
            }),
            "at" => Self::KillAt(number(fields.next())?),
            "signal" => Self::Signal(number(fields.next())?),
            "term" => Self::Term,
            "kill" => Self::Kill,
            _ => return None,
        })
    }
}

impl ReaperEvent {
    pub(crate) fn encode(self) -> Vec<u8> {
        let (field, of) = match self {
            Self::Started(pid) => ("started", vec![pid.as_raw_pid().to_string()]),
            Self::Failed(error) => ("failed", error.iter().map(i32::to_string).collect()),
            Self::Stopped(signal) => ("stopped", vec![signal.to_string()]),
            Self::Exited(status) => ("exited", vec![status.to_string()]),
            Self::NotPassedOn(number) => ("kept", vec![number.to_string()]),
            Self::TerminatingLeftovers(names) => ("left", vec![names]),
            Self::CannotEnd(names, error) => ("cannot", vec![names, error.to_string()]),
            Self::DelegatedWork(names) => ("elsewhere", vec![names]),
            Self::Done { at, reached_kill_time } => {
                ("done", vec![at.to_string(), u8::from(reached_kill_time).to_string()])
            }
        };
        message([field.into()].into_iter().chain(of.into_iter().map(OsString::from)))
    }

    pub(crate) fn decode(fields: Vec<OsString>) -> Option<Self> {
        let mut fields = fields.into_iter();
        let text = |field: Option<OsString>| field.map(|field| field.to_string_lossy().into_owned());
        Some(match fields.next()?.to_str()? {
            "started" => Self::Started(Pid::from_raw(number(fields.next())?)?),
            "failed" => Self::Failed(number(fields.next())),
            "stopped" => Self::Stopped(number(fields.next())?),
            "exited" => Self::Exited(number(fields.next())?),
            "kept" => Self::NotPassedOn(number(fields.next())?),
            "left" => Self::TerminatingLeftovers(text(fields.next())?),
            "cannot" => Self::CannotEnd(text(fields.next())?, number(fields.next())?),
            "elsewhere" => Self::DelegatedWork(text(fields.next())?),
            "done" => Self::Done {
                at: number(fields.next())?,
                reached_kill_time: number::<u8>(fields.next())? != 0,
            },
            _ => return None,
        })
    }
}

/// Bytes read, up to a complete message.
#[derive(Debug, Default)]
pub(crate) struct MessageBuffer(Vec<u8>);

impl MessageBuffer {
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The fields of the next complete message.
    pub(crate) fn next(&mut self) -> Option<Vec<OsString>> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let body = rest.get(..length)?;
        let fields = body.split(|byte| *byte == 0).map(|field| OsString::from_vec(field.to_vec())).collect();
        self.0.drain(..4 + length);
        Some(fields)
    }
}

/// Joins fields with zero bytes. Fields contain none, because they are arguments or names of this protocol.
fn message(fields: impl IntoIterator<Item = OsString>) -> Vec<u8> {
    let fields: Vec<OsString> = fields.into_iter().collect();
    let body = fields.iter().map(|field| field.as_bytes()).collect::<Vec<_>>().join(&0);
    [&(body.len() as u32).to_le_bytes()[..], &body].concat()
}

fn number<T: std::str::FromStr>(field: Option<OsString>) -> Option<T> {
    field?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_any_split_of_the_stream() {
        let pid = Pid::from_raw(7).expect("a number");
        let start = |command: &[&[u8]]| {
            let command = command.iter().map(|field| OsString::from_vec(field.to_vec())).collect();
            ReaperOrder::Start(StartOrder {
                kill_time: u64::MAX,
                group: Some(pid),
                is_shared: true,
                takes_terminal_from: None,
                kill_after: 5,
                is_quiet: false,
                command,
            })
        };
        let all = || {
            let unusual_args: &[&[u8]] = &[b"./job", b"", b"a b\n", b"\xff\xfe", b""];
            [
                start(unusual_args),
                start(&[b"x"]),
                ReaperOrder::KillAt(3),
                ReaperOrder::Signal(64),
                ReaperOrder::Term,
                ReaperOrder::Kill,
            ]
        };
        let bytes: Vec<u8> = all().into_iter().flat_map(ReaperOrder::encode).collect();
        for size in [1, 3, bytes.len()] {
            let (mut inbox, mut decoded) = (MessageBuffer::default(), Vec::new());
            for part in bytes.chunks(size) {
                inbox.extend(part);
                decoded.extend(std::iter::from_fn(|| inbox.next()).map(ReaperOrder::decode));
            }
            assert_eq!(decoded, all().map(Some));
        }
    }

    #[test]
    fn all_events_are_decoded() {
        let pid = Pid::from_raw(7).expect("a number");
        let names = || "sleep 12, sh 13".to_owned();
        let all = || {
            [
                ReaperEvent::Started(pid),
                ReaperEvent::Failed(Some(2)),
                ReaperEvent::Failed(None),
                ReaperEvent::Stopped(21),
                ReaperEvent::Exited(0x0f00),
                ReaperEvent::TerminatingLeftovers(names()),
                ReaperEvent::CannotEnd(names(), 1),
                ReaperEvent::DelegatedWork(names()),
                ReaperEvent::NotPassedOn(12),
                ReaperEvent::Done { at: u64::MAX, reached_kill_time: true },
            ]
        };
        let mut inbox = MessageBuffer::default();
        for event in all() {
            inbox.extend(&event.encode());
        }
        let decoded: Vec<_> = std::iter::from_fn(|| inbox.next()).map(ReaperEvent::decode).collect();
        assert_eq!(decoded, all().map(Some));
    }
}
