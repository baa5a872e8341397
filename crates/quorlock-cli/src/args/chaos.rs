//! The arguments of `chaos`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::values::span_within;

#[derive(Debug, clap::Args)]
#[command(after_help = CHAOS_HELP)]
pub(crate) struct ChaosArgs {
    /// How many servers to start: 3 to 9.
    #[arg(short = 'n', long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u8).range(3..=9))]
    pub(crate) servers: u8,
    /// How many client processes compete for the locks: 2 to 64, of two tasks each.
    #[arg(short, long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=64))]
    pub(crate) clients: u8,
    /// How long the run takes: 5s to 24h, of which the last 3.5 s are for
    /// recovery. Negative controls come on top.
    #[arg(short, long, default_value = "60s", value_name = "DUR", value_parser = duration)]
    pub(crate) duration: Duration,
    /// The seed of the random numbers: the same seed makes the same faults at the same
    /// times, and the same clients. Their timing depends on the machine, so a replay is
    /// close but not exact. [default: another each time]
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Which faults, by the names below, separated by commas.
    #[arg(short, long, default_value = "all", value_name = "NAMES")]
    pub(crate) faults: String,
    /// Write the timeline into this file, as a page for a browser; as text, if its name ends in .txt; or
    /// print it on the terminal, for the name -.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Write every event into this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// The server binary. [default: what `QUORLOCK_REDIS_SERVER` names, else redis-server or valkey-server,
    /// where they are usually found]
    #[arg(long, value_name = "PATH")]
    pub(crate) server: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    span_within(text, "5s", "24h")
}

const CHAOS_HELP: &str = "\
Starts servers of its own on this machine, each behind a proxy of its own, and
clients that take locks on a few names, work under them, and record every step on
one clock. Then it breaks things, by a plan drawn from the seed, and ends each fault.
At the end a checker reads only the history: never two holders at
once, fencing numbers in order, no lock valid past its deadline, every loss
signaled, no key left, no client waiting long while a quorum is up, and every live
lock's key on each node that has been up and healthy for two ttls.

Faults:
  kill                  a server is killed (SIGKILL) and comes back with its data
  data-loss             a server is killed and comes back without data
  stale-data            a server is killed and comes back with an old copy of its data
  pause                 a server stops (SIGSTOP) and continues (SIGCONT)
  client-pause          a server delays all commands, or all writes (CLIENT PAUSE)
  flush                 a server's data are deleted (FLUSHALL)
  script-flush          a server drops the scripts (SCRIPT FLUSH)
  failover              a replica that lags takes a server's place
  address-move          a server's address moves to a blank server; the connections of
                        every second client stay with the earlier one for a while
  reconfiguration       a node is exchanged for another server and back, under load,
                        also with interruptions (needs --duration 17s)
  memory-full           a server's memory is full, under each eviction policy
  latency               bytes arrive late, by delays that vary
  partition             nothing arrives, in either direction
  asymmetric-partition  nothing arrives, in one direction
  reset                 connections are reset
  half-open             clients keep connections that the server does not know
  no-read               the server reads nothing, until clients can send no more
  truncate              connections end in the middle of a reply
  stale-key             a foreign value is stored under locks' keys, on a minority of
                        the servers (needs --duration 11s)
  clock-skew            a server's clock runs 10 % too fast or too slow
  clock-jump            a server's clock is set forward or back, and corrected later
  clock-offset          all servers' clocks but one are behind, from the start
  client-stop           a client that holds a lock is stopped for longer than its ttl
  client-kill           a client that holds a lock, or waits for one, is killed
  cancel                futures that acquire, extend and release are dropped midway
  block-runtime         a client's runtime is blocked for seconds
  all                   all of these, and negative controls

Negative controls are short runs in which something is done that no lock of this kind
survives: plain locks whose nodes lose data or whose addresses move, clocks that all
jump at once, a store that checks no number. Their violations are listed as expected. A negative control
without a violation is reported, because it has tested nothing.

All servers and clients are gone at the end, also after Ctrl-C.

Exit codes:
  0    every invariant held
  1    an invariant was violated: see --report, and replay it with its seed
  2    nothing was tested: no fault took place, because none of the requested
       faults is available here
  64   the arguments are invalid
  69   the servers could not be started
  74   a file, or the verdict, could not be written
  78   QUORLOCK_REDIS_SERVER names no server
  130  it was interrupted (143 by TERM): nothing was checked

Examples:
  quorlock chaos
  quorlock chaos --duration 5m --seed 7 --report out.html
  quorlock chaos --duration 20s --faults kill,partition --report -
  quorlock chaos --faults kill,pause --servers 3 --json";
