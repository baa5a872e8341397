//! Builds a client. All options are checked once, when it is built.

mod check;
mod connect;
mod login;
mod options;
mod reconfigure;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::watch;

use super::client::{Redlock, Shared};
use super::error::ConnectError;
#[cfg(feature = "tls-rustls")]
use super::error::{InvalidInput, InvalidInputKind};
use crate::driver::{CommandSender, Driver, LocalQueue, Options, SharedQuorum};
use crate::host::{entropy, process};
use crate::node::{Address, Credentials, DialSettings, SharedProvider};
#[cfg(feature = "tls-rustls")]
use crate::node::{Tls, TlsFiles};
use crate::observe::{Event, EventHandler, Events};
use crate::view::NodeStatusList;
use quorlock_proto::lease_params::Drift;
use quorlock_proto::marker::{LockClusterConfig, default_retention};
use quorlock_proto::membership::{Membership, ReconfigurationState};
use quorlock_proto::quorum::Quorum;
use quorlock_proto::roster::NodeList;

pub(super) use reconfigure::{Goal, Reconfigurer};

/// The options of a client. Start with [`Redlock::builder`].
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use quorlock::Redlock;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let redlock = Redlock::builder()
///     .nodes(["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"])
///     .key_prefix("billing:")
///     .connect_timeout(Duration::from_secs(10))
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a client is made by `connect` or `connect_lazy`"]
pub struct RedlockBuilder {
    nodes: Vec<String>,
    node_names: Option<Vec<String>>,
    login: Credentials,
    credentials: Option<SharedProvider>,
    #[cfg(feature = "tls-rustls")]
    tls: TlsFiles,
    key_prefix: String,
    quorum: Option<usize>,
    mode: Mode,
    initializes: bool,
    max_ttl: Duration,
    fencing_retention: Option<Duration>,
    max_clock_drift: f64,
    reply_timeout: Duration,
    dial_timeout: Duration,
    connect_timeout: Duration,
    redials: Redials,
    client_name: String,
    dedicated_thread: bool,
    on_event: Option<EventHandler>,
}

/// The mode of a client's locks.
///
/// # Examples
///
/// ```no_run
/// use quorlock::{Mode, Redlock};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
/// let redlock = Redlock::builder().nodes(nodes).mode(Mode::Plain).connect().await?;
/// let guard = redlock.mutex("nightly").acquire().await?;
/// assert!(guard.fencing_token().is_none());
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Mode {
    /// Locks have [fencing tokens](crate::FencingToken), and a node that may have lost data casts no vote for the [max
    /// TTL](RedlockBuilder::max_ttl) (probation). Needs Lua scripts and keys of this library on the nodes.
    #[default]
    Fenced,
    /// Neither: literally `SET NX PX` and the release script of the Redlock description. Use it for minimum latency, or
    /// where policy forbids Lua scripts or extra keys. A node that lost its data votes at once, for every client: plain
    /// clients also void the probation for fenced ones.
    Plain,
}

/// Whether nodes whose first dial failed are dialed again while a client connects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Redials {
    UntilTimeout,
    Never,
}

impl Redlock {
    /// Connects a client with the default options to these nodes: one to nine **independent** masters, the same list
    /// for every client of the same locks. For all options see [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// As [`RedlockBuilder::connect`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connections.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), quorlock::error::ConnectError> {
    /// let redlock = quorlock::Redlock::connect(["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"]).await?;
    /// # Ok(()) }
    /// ```
    pub async fn connect<I>(urls: I) -> Result<Self, ConnectError>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Self::builder().nodes(urls).connect().await
    }

    /// Returns a builder. Set its nodes, then call [`connect`](RedlockBuilder::connect).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use quorlock::Redlock;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let redlock = Redlock::builder()
    ///     .nodes(["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"])
    ///     .reply_timeout(Duration::from_millis(200))
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn builder() -> RedlockBuilder {
        RedlockBuilder::new()
    }
}

impl RedlockBuilder {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            login: Credentials::default(),
            credentials: None,
            #[cfg(feature = "tls-rustls")]
            tls: TlsFiles::default(),
            key_prefix: String::new(),
            quorum: None,
            mode: Mode::Fenced,
            node_names: None,
            initializes: true,
            max_ttl: Duration::from_secs(30),
            fencing_retention: None,
            max_clock_drift: 0.01,
            reply_timeout: Duration::from_millis(500),
            dial_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            redials: Redials::UntilTimeout,
            client_name: "quorlock".to_owned(),
            dedicated_thread: false,
            on_event: None,
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        self.mode == Mode::Plain
    }

    /// Returns a client at once and dials in the background. The first attempt at a lock waits until a quorum of nodes
    /// is ready or every node was dialed once.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidInput`] for options that are not valid, [`ConnectError::NoRuntime`] if there is no Tokio
    /// runtime to run on (without [`dedicated_thread`](Self::dedicated_thread)).
    ///
    /// # Panics
    ///
    /// If the Tokio runtime was built without `enable_all`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use quorlock::Redlock;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// // No server has to be up yet.
    /// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
    /// let redlock = Redlock::builder().nodes(nodes).connect_lazy()?;
    /// # Ok(()) }
    /// ```
    pub fn connect_lazy(self) -> Result<Redlock, ConnectError> {
        let (quorum, drift, addresses) = self.checked()?;
        let config = self.config(quorum);
        let (initializes, is_plain) = (self.initializes, self.is_plain());
        let list = self.node_list(&addresses);
        let members =
            (!is_plain).then(|| Membership::new(config, drift, list, entropy::nonce() as u64, initializes));
        self.launch((quorum, drift, addresses), members).map(|(client, _)| client)
    }

    fn config(&self, quorum: Quorum) -> LockClusterConfig {
        let fencing_retention = self.fencing_retention.unwrap_or_else(|| default_retention(self.max_ttl));
        LockClusterConfig::new(quorum, self.max_ttl).with_retention(fencing_retention)
    }

    /// The list of nodes, by the names that the user gave, or by address.
    fn node_list(&self, addresses: &[Address]) -> NodeList {
        let by_address = || addresses.iter().map(ToString::to_string).collect();
        NodeList::new(&self.node_names.clone().unwrap_or_else(by_address))
    }

    /// Starts the driver of a client with these nodes and this membership. Returns also how far its reconfiguration
    /// is, if it makes one.
    fn launch(
        self,
        (quorum, drift, addresses): (Quorum, Drift, Vec<Address>),
        members: Option<Membership>,
    ) -> Result<(Redlock, watch::Receiver<Option<ReconfigurationState>>), ConnectError> {
        let is_plain = self.is_plain();
        let config = self.config(quorum);
        let settings = DialSettings {
            dial_timeout: self.dial_timeout,
            client_name: self.client_name,
            credentials: self.credentials,
            is_fenced: !is_plain,
            #[cfg(feature = "tls-rustls")]
            tls: if addresses.iter().any(Address::uses_tls) {
                Some(Tls::new(&self.tls).map_err(|invalid| {
                    InvalidInput::new(InvalidInputKind::UnusableFile, invalid.to_string()).of(invalid.option)
                })?)
            } else {
                None
            },
        };
        let events = Events::new(self.on_event.clone());
        if quorum.nodes() % 2 == 0 {
            let warning = "an even number of nodes survives no more losses than one node fewer".into();
            events.emit(&Event::Warning { warning });
        }
        let names = addresses.iter().map(|address| address.to_string().into()).collect();
        let Self { reply_timeout, dial_timeout: connect_timeout, .. } = self;
        let (commands, receiver) = CommandSender::channel();
        let max_ttl = (!is_plain).then_some(self.max_ttl);
        let quorum = Arc::new(SharedQuorum::new(quorum, self.max_ttl));
        let (progress, progress_receiver) = watch::channel(None);
        let queue = LocalQueue::new(commands.clone());
        let key_queues = queue.key_queues();
        let options = Options {
            quorum: Arc::clone(&quorum),
            progress,
            reply_timeout,
            addresses,
            settings,
            events: events.clone(),
            members,
            config,
        };
        let launch = move || Driver::new(options, receiver, key_queues);
        let status = if self.dedicated_thread { on_thread(launch)? } else { on_runtime(launch)? };
        let shared = Shared {
            commands,
            status,
            has_waited_for_nodes: false.into(),
            queue,
            events,
            names,
            quorum,
            drift,
            reply_timeout,
            connect_timeout,
            key_prefix: self.key_prefix,
            max_ttl,
            process: process::id(),
        };
        Ok((Redlock { shared: Arc::new(shared) }, progress_receiver))
    }
}

impl fmt::Debug for RedlockBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs may contain passwords, so show nothing of them.
        f.debug_struct("RedlockBuilder").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

fn on_runtime(
    launch: impl FnOnce() -> (Driver, watch::Receiver<NodeStatusList>),
) -> Result<watch::Receiver<NodeStatusList>, ConnectError> {
    let runtime = runtime::Handle::try_current().map_err(|error| ConnectError::NoRuntime(Arc::new(error)))?;
    let (driver, status) = launch();
    runtime.spawn(driver.run());
    Ok(status)
}

fn on_thread(
    launch: impl FnOnce() -> (Driver, watch::Receiver<NodeStatusList>) + Send + 'static,
) -> Result<watch::Receiver<NodeStatusList>, ConnectError> {
    let failed = |error: io::Error| ConnectError::Thread(Arc::new(error));
    // Start the thread first: if it failed later, the runtime could not be dropped here, inside another runtime.
    let (sender, receiver) = channel::<(runtime::Runtime, Driver)>();
    let body = move || {
        if let Ok((runtime, driver)) = receiver.recv() {
            runtime.block_on(driver.run());
        }
    };
    thread::Builder::new().name("quorlock".to_owned()).spawn(body).map_err(failed)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (driver, status) = {
        // The driver's timer must be created in the runtime that the driver will run on.
        let _inside = runtime.enter();
        launch()
    };
    sender.send((runtime, driver)).map_err(|_| ConnectError::Closed)?;
    Ok(status)
}
