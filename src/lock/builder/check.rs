//! Validates the options, alone and together.

use std::time::Duration;

use super::super::error::{InvalidInput, InvalidInputKind};
use super::super::limits::{Limits, RESERVED};
use super::RedlockBuilder;
use crate::node::Address;
#[cfg(feature = "tls-rustls")]
use crate::node::Tls;
use quorlock_proto::lease_params::Drift;
use quorlock_proto::marker::min_retention;
use quorlock_proto::quorum::{InvalidQuorum, Quorum};
use quorlock_proto::request::{Key, MAX_KEY_BYTES};
use quorlock_proto::span::Span;

impl RedlockBuilder {
    /// Checks all options, as [`connect`](Self::connect) and [`connect_lazy`](Self::connect_lazy) do, without access to
    /// nodes or files.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`] for the first option that is not valid; [`InvalidInput::option`] says which.
    ///
    /// # Examples
    ///
    /// ```
    /// use quorlock::Redlock;
    ///
    /// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
    /// let builder = Redlock::builder().nodes(nodes).quorum(1);
    /// if let Err(invalid) = builder.check() {
    ///     eprintln!("{}: {invalid}", invalid.option().unwrap_or("configuration"));
    /// }
    /// # assert_eq!(builder.check().map_err(|invalid| invalid.option()), Err(Some("quorum")));
    /// ```
    pub fn check(&self) -> Result<(), InvalidInput> {
        self.checked().map(drop)
    }

    /// Checks all options and returns the parsed quorum, drift and addresses.
    pub(super) fn checked(&self) -> Result<(Quorum, Drift, Vec<Address>), InvalidInput> {
        let checked = self.checked_without_tls()?;
        #[cfg(feature = "tls-rustls")]
        self.check_tls(&checked.2)?;
        Ok(checked)
    }

    /// As `checked`, without the check that TLS options have an effect.
    pub(super) fn checked_without_tls(&self) -> Result<(Quorum, Drift, Vec<Address>), InvalidInput> {
        let count = self.nodes.len();
        let quorum = Quorum::new(count, self.quorum).map_err(|invalid| {
            let is_list = matches!(invalid, InvalidQuorum::NoNodes | InvalidQuorum::TooManyNodes(_));
            InvalidInput::from(invalid).of(if is_list { "nodes" } else { "quorum" })
        })?;
        let drift = Drift::new(self.max_clock_drift)
            .map_err(|invalid| InvalidInput::from(invalid).of("max_clock_drift"))?;
        let parsed = self.nodes.iter().enumerate().map(|(index, url)| {
            Address::parse(url, &self.login).map_err(|invalid| {
                InvalidInput::new(
                    InvalidInputKind::Malformed,
                    format!("node {} of {count}: {invalid}", index + 1),
                )
                .of("nodes")
            })
        });
        let addresses = parsed.collect::<Result<Vec<_>, _>>()?;
        for (index, address) in addresses.iter().enumerate() {
            if addresses[..index].contains(address) {
                return Err(InvalidInput::new(
                    InvalidInputKind::Duplicate,
                    format!("{address} is named twice: name each server once"),
                )
                .of("nodes"));
            }
        }
        self.check_node_names(count)?;
        if self.credentials.is_some() && self.login.password.is_some() {
            let message = "a password is given, too: give one of the two";
            return Err(InvalidInput::new(InvalidInputKind::Conflict, message).of("credentials"));
        }
        self.check_names()?;
        self.check_spans()?;
        Ok((quorum, drift, addresses))
    }

    fn check_node_names(&self, count: usize) -> Result<(), InvalidInput> {
        let Some(names) = &self.node_names else { return Ok(()) };
        let invalid = |kind, message: String| Err(InvalidInput::new(kind, message).of("node_names"));
        if names.len() != count {
            let message = format!("{} names for {count} nodes: give each node one", names.len());
            return invalid(InvalidInputKind::Conflict, message);
        }
        if names.iter().any(String::is_empty) {
            return invalid(InvalidInputKind::Empty, "a node has an empty name".to_owned());
        }
        // A name may be a password by mistake, so it is not shown.
        for (index, name) in names.iter().enumerate() {
            if let Some(first) = names[..index].iter().position(|it| it == name) {
                let message = format!("two nodes have one name: the nodes {} and {}", first + 1, index + 1);
                return invalid(InvalidInputKind::Duplicate, message);
            }
        }
        Ok(())
    }

    /// Reads the files for TLS and checks their content, as [`connect`](Self::connect) and
    /// [`connect_lazy`](Self::connect_lazy) do, without access to nodes. It blocks while it reads the files.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`] for the first file that cannot be used; [`InvalidInput::option`] says which. The message shows
    /// neither its name nor its content, because a private key may have been given instead of a file name.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use quorlock::Redlock;
    ///
    /// # fn example() -> Result<(), quorlock::error::InvalidInput> {
    /// let builder = Redlock::builder().nodes(["rediss://10.0.0.1"]).tls_ca_file("/etc/redis/ca.crt");
    /// builder.check()?;
    /// builder.check_files()?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tls-rustls")]
    pub fn check_files(&self) -> Result<(), InvalidInput> {
        Tls::check(&self.tls).map_err(|invalid| {
            InvalidInput::new(InvalidInputKind::UnusableFile, invalid.unnamed()).of(invalid.option)
        })
    }

    /// Checks whether a client with these options could acquire a lock of this name, with this ttl and [minimum fencing
    /// number](super::super::Mutex::min_fencing_number), without access to nodes or files. So input that can never work
    /// is found before a client waits for its nodes.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`] for the first value that is not valid; [`InvalidInput::option`] says which: `name`, `ttl`,
    /// `min_fencing_number`, or an option of this builder.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use quorlock::Redlock;
    ///
    /// let builder = Redlock::builder().nodes(["redis://10.0.0.1"]).max_ttl(Duration::from_secs(30));
    /// let too_long = builder.check_lock("nightly", Some(Duration::from_secs(60)), 0);
    /// assert_eq!(too_long.map_err(|invalid| invalid.option()), Err(Some("ttl")));
    /// ```
    pub fn check_lock(
        &self,
        name: impl AsRef<[u8]>,
        ttl: Option<Duration>,
        min_fencing_number: u64,
    ) -> Result<(), InvalidInput> {
        let (_, drift, _) = self.checked()?;
        let limits = Limits {
            key_prefix: &self.key_prefix,
            max_ttl: (!self.is_plain()).then_some(self.max_ttl),
            drift,
            reply_timeout: self.reply_timeout,
        };
        let key = limits.key(&Key::new(name.as_ref()))?;
        let params = limits.lease_params(ttl, None).map(drop);
        params
            .and_then(|()| limits.check_min_fencing_number(min_fencing_number))
            .map_err(|invalid| invalid.about(&key))
    }

    /// Rejects TLS options that would have no effect.
    #[cfg(feature = "tls-rustls")]
    pub(super) fn check_tls(&self, addresses: &[Address]) -> Result<(), InvalidInput> {
        let options = [
            ("tls_ca_file", self.tls.ca.is_some(), "authorities are"),
            ("tls_client_certificate", self.tls.client.is_some(), "a client certificate is"),
        ];
        let no_tls_node = !addresses.iter().any(Address::uses_tls);
        match options.into_iter().find(|(_, is_set, _)| *is_set && no_tls_node) {
            None => Ok(()),
            Some((option, _, what)) => Err(InvalidInput::new(InvalidInputKind::Conflict, format!(
                "{what} given, but no node is reached over TLS: write its URL with rediss://, or omit this option"
            ))
            .of(option)),
        }
    }

    fn check_names(&self) -> Result<(), InvalidInput> {
        if self.key_prefix.starts_with(RESERVED) {
            return Err(InvalidInput::new(
                InvalidInputKind::Reserved,
                format!("a key prefix may not start with `{RESERVED}`: that prefix is reserved"),
            )
            .of("key_prefix"));
        }
        if self.key_prefix.len() >= MAX_KEY_BYTES {
            return Err(InvalidInput::new(
                InvalidInputKind::OutOfRange,
                format!(
                    "a key prefix of {} bytes leaves no room for names: at most {MAX_KEY_BYTES} with a name",
                    self.key_prefix.len()
                ),
            )
            .of("key_prefix"));
        }
        if self.client_name.is_empty() || self.client_name.contains(|char: char| !char.is_ascii_graphic()) {
            return Err(InvalidInput::new(
                InvalidInputKind::Malformed,
                format!(
                    "the client name {:?} is not valid in Redis: use printable characters without spaces",
                    self.client_name
                ),
            )
            .of("client_name"));
        }
        Ok(())
    }

    fn check_spans(&self) -> Result<(), InvalidInput> {
        if self.max_ttl < Duration::from_millis(10) || self.max_ttl > MAX_TIMEOUT {
            return Err(InvalidInput::new(InvalidInputKind::OutOfRange, format!(
                "a max ttl of {} cannot work: take at least 10 ms and at most an hour, because a restarted node \
                 casts no vote for that long",
                Span(self.max_ttl)
            ))
            .of("max_ttl"));
        }
        let least = min_retention(self.max_ttl);
        if let Some(keep) = self.fencing_retention.filter(|keep| *keep < least || *keep > MAX_RETENTION) {
            return Err(InvalidInput::new(InvalidInputKind::OutOfRange, format!(
                "fences kept for {} cannot work: take at least {}: twice the max ttl, or the max ttl and a \
                 second if that is more; at most a year",
                Span(keep),
                Span(least)
            ))
            .of("fencing_retention"));
        }
        let spans = [
            ("reply_timeout", "reply timeout", self.reply_timeout),
            ("dial_timeout", "dial timeout", self.dial_timeout),
            ("connect_timeout", "connect timeout", self.connect_timeout),
        ];
        for (option, what, span) in spans {
            if span.is_zero() || span > MAX_TIMEOUT {
                return Err(InvalidInput::new(
                    InvalidInputKind::OutOfRange,
                    format!(
                        "a {what} of {} is out of range: take more than zero, and at most an hour",
                        Span(span)
                    ),
                )
                .of(option));
            }
        }
        Ok(())
    }
}

const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
const MAX_RETENTION: Duration = Duration::from_secs(366 * 24 * 3600);
