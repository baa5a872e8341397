//! What can be typed behind `chaos`.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = CHAOS_HELP)]
pub(crate) struct ChaosArgs {
    /// How many servers to start: 3 to 9.
    #[arg(short, long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u8).range(3..=9))]
    pub(crate) nodes: u8,
    /// How many client processes fight for the locks: 2 to 64, of two tasks each.
    #[arg(short, long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=64))]
    pub(crate) clients: u8,
    /// For how long: at least 5, of which the last 3.5 are for recovery. Controls come on top.
    #[arg(short, long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(5..=86400))]
    pub(crate) seconds: u64,
    /// What the random numbers begin with: the same seed makes the same faults at the same times, and the same clients.
    /// How they meet is the machine's, so a replay is close and not exact. [default: another each time]
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Which faults, by the names below, separated by commas.
    #[arg(short, long, default_value = "all", value_name = "NAMES")]
    pub(crate) faults: String,
    /// Write what happened into this file, as a page to look at in a browser; as a picture in letters, if its name
    /// ends in .txt; or draw that on the terminal, for the name -.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Write every event into this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// The server binary. [default: what `QUORLOCK_REDIS_SERVER` names, else redis-server or valkey-server, where they
    /// are usually found]
    #[arg(long, value_name = "PATH")]
    pub(crate) server: Option<PathBuf>,
}

const CHAOS_HELP: &str = "\
Starts servers of its own on this machine, each behind a proxy of its own, and
clients that take locks on a few names, work under them, and tell every step on
one clock. Then it breaks things, by a plan drawn from the seed, and mends them.
At the end a judge reads the history and nothing else: never two holders at
once, fencing numbers in order, no lock valid past its deadline, every loss
told, no key left, nobody waiting for long while a quorum is up, and every live
lock's key on each node that has been up and well for two ttls.

Faults:
  kill          a server is killed (SIGKILL) and comes back with its data
  empty         a server is killed and comes back without data
  old           a server is killed and comes back with an old copy of its data
  pause         a server stands still (SIGSTOP, SIGCONT)
  client-pause  a server puts off all commands, or all writes (CLIENT PAUSE)
  flush         a server's data are deleted (FLUSHALL)
  scripts       a server forgets the scripts (SCRIPT FLUSH)
  failover      a replica that lags takes a server's place
  memory        a server's memory is full, under each eviction policy
  slow          what passes is late, and not evenly so
  cut           nothing arrives, from either end
  one-way       nothing arrives, from one end
  reset         connections are reset
  half-open     clients keep connections of which the server knows nothing
  stall         nobody takes what clients send, until they can send no more
  tear          connections end in the middle of a reply
  stale-key     keys that are nobody's stand where locks' keys would, on a minority of the
                servers (needs --seconds 11)
  skew          a server's clock runs 10 % too fast or too slow
  jump          a server's clock is set ahead or back, and put right later
  clock-offset  all servers' clocks but one are behind, steadily, from the start
  client-stop   a client that holds a lock stands still past its ttl
  client-kill   a client that holds a lock, or waits for one, is killed
  drop          clients drop the futures that acquire, extend and release, at any point
  block         a client's runtime is blocked for seconds
  all           all of these, and controls

Controls are short runs in which something is done that no lock of this kind
survives: plain locks whose nodes forget, clocks that all jump at once, a store
that asks for no number. What breaks there is listed as expected, and a control
by which nothing breaks is told, for then it has tested nothing.

All servers and clients are gone at the end, also after Ctrl-C.

Exit codes:
  0    every promise held
  1    a promise was broken: see --report, and replay it with its seed
  2    nothing was tested: no fault came about, for those asked for cannot be
       had here
  64   what was typed cannot work
  69   the servers could not be started
  74   a file, or the verdict, could not be written
  78   QUORLOCK_REDIS_SERVER names no server
  130  it was interrupted (143 by TERM): nothing was judged

Examples:
  quorlock chaos
  quorlock chaos --seconds 300 --seed 7 --report out.html
  quorlock chaos --seconds 20 --faults kill,cut --report -
  quorlock chaos --faults kill,pause --nodes 3 --json";
