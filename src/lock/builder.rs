//! The way to a client: everything is checked once, when it is built.

mod check;
mod connect;

use std::fmt;
use std::io;
#[cfg(feature = "tls-rustls")]
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::watch;

use super::client::{Redlock, Shared};
use super::error::{ConnectError, InvalidInput};
use super::queue::LocalQueue;
#[cfg(feature = "tls-rustls")]
use crate::driver::{Address, Tls, TlsFiles};
use crate::driver::{CommandSender, Credentials, Driver, NodeStatusList, Options, Settings, process};
use crate::observe::{Event, Events, Observer};
use quorlock_proto::marker::{LockClusterConfig, default_retention};
use quorlock_proto::membership::Membership;

/// Sets up a client. Begin with [`Redlock::builder`].
#[derive(Clone)]
#[must_use = "a client is made by `connect` or `lazy`"]
pub struct RedlockBuilder {
    nodes: Vec<String>,
    login: Credentials,
    #[cfg(feature = "tls-rustls")]
    tls: TlsFiles,
    key_prefix: String,
    quorum: Option<usize>,
    is_plain: bool,
    founds: bool,
    max_ttl: Duration,
    fencing_retention: Option<Duration>,
    max_clock_drift: f64,
    reply_timeout: Duration,
    dial_timeout: Duration,
    connect_timeout: Duration,
    redials: Redials,
    client_name: String,
    dedicated_thread: bool,
    observer: Option<Arc<dyn Observer>>,
}

/// What becomes of nodes whose first dial failed, while a client is being connected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Redials {
    UntilTimeout,
    Never,
}

impl RedlockBuilder {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            login: Credentials::default(),
            #[cfg(feature = "tls-rustls")]
            tls: TlsFiles::default(),
            key_prefix: String::new(),
            quorum: None,
            is_plain: false,
            founds: true,
            max_ttl: Duration::from_secs(30),
            fencing_retention: None,
            max_clock_drift: 0.01,
            reply_timeout: Duration::from_millis(500),
            dial_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            redials: Redials::UntilTimeout,
            client_name: "quorlock".to_owned(),
            dedicated_thread: false,
            observer: None,
        }
    }

    /// The nodes' URLs: one to nine **independent** masters, the same list for every client of the same locks.
    /// `redis://user:password@host:port/database`, `rediss://` (TLS, feature `tls-rustls`), `unix:/path`, and
    /// `valkey://` are understood. Defaults to none, which is refused.
    pub fn nodes<I>(mut self, urls: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.nodes = urls.into_iter().map(Into::into).collect();
        self
    }

    /// The user for nodes whose URL names none. Defaults to Redis' default user.
    pub fn username(mut self, user: impl Into<String>) -> Self {
        self.login.user = Some(user.into());
        self
    }

    /// The password for nodes whose URL has none. Defaults to none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.login.password = Some(password.into());
        self
    }

    /// A file with the certificates of the authorities that vouch for nodes under TLS. Refused where no node's URL asks for
    /// TLS, because connections would be bare. Defaults to the system's.
    #[cfg(feature = "tls-rustls")]
    pub fn tls_ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(file.into());
        self
    }

    /// Files with the certificate and the private key to show to nodes, in PEM form. Refused where no node's URL asks for
    /// TLS. Defaults to none.
    #[cfg(feature = "tls-rustls")]
    pub fn tls_client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.tls.client = Some((certificate.into(), key.into()));
        self
    }

    /// What stands before every name on the nodes. `redlock:` excludes the clients that use that prefix. Defaults to
    /// nothing: the key is the name.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// Does without fencing tokens and probation: literally `SET NX PX` and the textbook's release. For the last
    /// microsecond, or where rules forbid scripts and keys of our own. A node that forgot its data then votes at once,
    /// for every client: plain clients void the probation for the fenced ones too. Defaults to fenced.
    pub const fn plain(mut self) -> Self {
        self.is_plain = true;
        self
    }

    /// The longest that a lock may be asked for, and so how long a node that may have forgotten some casts no vote: a
    /// matter of the cluster, the same for all its clients. 10 ms to an hour; of no use to plain clients. Defaults
    /// to 30 s.
    pub const fn max_ttl(mut self, max_ttl: Duration) -> Self {
        self.max_ttl = max_ttl;
        self
    }

    /// For how long the nodes keep the largest fencing number of a name that is not locked any more: a matter of the
    /// cluster, the same for all its clients, so that none shortens it for the others. At least twice the
    /// [longest ttl](Self::max_ttl), or the longest ttl and a second if that is more; at most a year; of no use to plain
    /// clients. Defaults to an hour, or twice the longest ttl if that is more.
    ///
    /// A node that has forgotten a number goes on from its own clock, which has passed it by then, or from the largest number
    /// that it ever gave ahead of its clock. So numbers grow however clocks differ. A longer time guards against one thing only: a clock that is set back by more than half
    /// of it, before a client has looked at the node again. Each name costs each node 120 bytes and the
    /// length of the name meanwhile ([how much in all](crate::safety#what-it-costs-the-nodes));
    /// [`forget`](crate::Redlock::forget) frees them early.
    pub const fn fencing_retention(mut self, keep: Duration) -> Self {
        self.fencing_retention = Some(keep);
        self
    }

    /// Makes a client that does not make blank nodes a cluster. For tools that show how a cluster stands. It does begin
    /// the probation of a node that may have forgotten, as every client does, so that a node which is only looked at
    /// votes again in time. Locks can be taken, once enough nodes vote. Defaults to a client that founds clusters.
    pub const fn read_only(mut self) -> Self {
        self.founds = false;
        self
    }

    pub(super) const fn fenced(mut self) -> Self {
        self.is_plain = false;
        self
    }

    /// How many nodes make a lock. More than a majority buys safety with availability: of five nodes, a quorum of
    /// four lets two lose a lock early, forget it or jump their clocks, without harm, and one be away. 2q − N − 1 nodes
    /// may do so in general; a plain majority of an odd number has none to spare but those beyond q that
    /// [happen to hold](super::Guard::spare_nodes) the lock. Below a majority is refused. Defaults to the majority.
    pub const fn quorum(mut self, need: usize) -> Self {
        self.quorum = Some(need);
        self
    }

    /// How fast a node's clock and how slow ours may run, together, as a share up to 0.2. Defaults to 0.01.
    pub const fn max_clock_drift(mut self, share: f64) -> Self {
        self.max_clock_drift = share;
        self
    }

    /// How long a node may owe an answer before nobody waits for it any more. Defaults to 500 ms.
    pub const fn reply_timeout(mut self, timeout: Duration) -> Self {
        self.reply_timeout = timeout;
        self
    }

    /// How long one dial of one node may take, handshake included. Defaults to 1 s.
    pub const fn dial_timeout(mut self, timeout: Duration) -> Self {
        self.dial_timeout = timeout;
        self
    }

    /// How long [`connect`](Self::connect) waits for a quorum of nodes. Defaults to 5 s.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Lets [`connect`](Self::connect) end as soon as the first dials have failed on so many nodes that no quorum is left,
    /// instead of dialing them again until the start-up time-out is over. For those who try once.
    pub const fn dial_once(mut self) -> Self {
        self.redials = Redials::Never;
        self
    }

    /// The name shown by Redis in `CLIENT LIST`, without spaces. Defaults to `quorlock`.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = name.into();
        self
    }

    /// Runs the driver on a thread and runtime of its own, so that locks are renewed and losses told even where the
    /// caller's runtime is blocked, and so that locks can be taken where there is no Tokio runtime: on any executor.
    /// Defaults to the caller's runtime.
    pub const fn dedicated_thread(mut self) -> Self {
        self.dedicated_thread = true;
        self
    }

    /// Somebody who wants to hear of every event, beside `tracing`. Defaults to nobody.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Gives back a client at once and dials in the background. The first attempt at a lock waits until a quorum of
    /// nodes is ready or every node was dialed once.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidInput`] for options that cannot work, and where there is no Tokio runtime to run on (without
    /// [`dedicated_thread`](Self::dedicated_thread)).
    ///
    /// # Panics
    ///
    /// If the Tokio runtime was built without `enable_all`.
    pub fn connect_lazy(self) -> Result<Redlock, ConnectError> {
        let (quorum, drift, addresses) = self.checked()?;
        let settings = Settings {
            connect_timeout: self.dial_timeout,
            client_name: self.client_name,
            is_fenced: !self.is_plain,
            #[cfg(feature = "tls-rustls")]
            tls: if addresses.iter().any(Address::uses_tls) {
                Some(Tls::new(&self.tls).map_err(|bad| InvalidInput::new(bad.to_string()).of(bad.option))?)
            } else {
                None
            },
        };
        let events = Events::new(self.observer);
        if quorum.nodes() % 2 == 0 {
            let warning = "an even number of nodes survives no more losses than one node fewer";
            events.emit(&Event::Warning { warning });
        }
        let names = addresses.iter().map(|address| address.to_string().into()).collect();
        let Self { reply_timeout, dial_timeout: connect_timeout, founds, .. } = self;
        let (orders, inbox) = CommandSender::channel();
        let max_ttl = (!self.is_plain).then_some(self.max_ttl);
        let fencing_retention = self.fencing_retention.unwrap_or_else(|| default_retention(self.max_ttl));
        let config = LockClusterConfig::new(quorum, self.max_ttl).with_retention(fencing_retention);
        let members = max_ttl.map(|_| Membership::new(config, drift, founds));
        let (queue, ear) = LocalQueue::new(orders.clone());
        let options = Options { quorum, reply_timeout, addresses, settings, events, members, config };
        let launch = move || Driver::new(options, inbox, Box::new(ear));
        let view = if self.dedicated_thread { on_thread(launch)? } else { on_runtime(launch)? };
        let shared = Shared {
            orders,
            view,
            has_waited: false.into(),
            queue,
            names,
            quorum,
            drift,
            reply_timeout,
            connect_timeout,
            key_prefix: self.key_prefix,
            max_ttl,
            process: process::id(),
        };
        Ok(Redlock { shared: Arc::new(shared) })
    }
}

impl fmt::Debug for RedlockBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs may have passwords in them; nothing of them is shown.
        f.debug_struct("RedlockBuilder").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

fn on_runtime(
    launch: impl FnOnce() -> (Driver, watch::Receiver<NodeStatusList>),
) -> Result<watch::Receiver<NodeStatusList>, ConnectError> {
    let runtime = runtime::Handle::try_current().map_err(|_| {
        InvalidInput::new("no Tokio runtime here: build the client inside one, or with `dedicated_thread()`")
    })?;
    let (driver, view) = launch();
    runtime.spawn(driver.run());
    Ok(view)
}

fn on_thread(
    launch: impl FnOnce() -> (Driver, watch::Receiver<NodeStatusList>) + Send + 'static,
) -> Result<watch::Receiver<NodeStatusList>, ConnectError> {
    let failed = |error: io::Error| ConnectError::Thread(Arc::new(error));
    // The thread first: a runtime that no thread takes could not be dropped here, inside of another.
    let (hand_over, taken) = channel::<(runtime::Runtime, Driver)>();
    let body = move || {
        if let Ok((runtime, driver)) = taken.recv() {
            runtime.block_on(driver.run());
        }
    };
    thread::Builder::new().name("quorlock".to_owned()).spawn(body).map_err(failed)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (driver, view) = {
        // The driver's timer belongs to the runtime that it will run on.
        let _inside = runtime.enter();
        launch()
    };
    hand_over.send((runtime, driver)).map_err(|_| ConnectError::Closed)?;
    Ok(view)
}
