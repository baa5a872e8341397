//! Builds a client from flags, environment variables and the file. A flag overrides the environment, which
//! overrides the file.

mod environment;
mod file;
mod origin;
#[cfg(test)]
mod tests;
pub(crate) mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use quorlock::{Redlock, RedlockBuilder};

use crate::args::NodeArgs;
use crate::exit::{self, Failure};
use environment::Environment;
use file::Settings;
use origin::{Found, Origin};
use values::{Mode, Urls};

/// A client builder, and the settings that commands need themselves.
pub(crate) struct Cluster {
    pub(crate) builder: RedlockBuilder,
    /// The URL of each node. They may contain passwords.
    pub(crate) urls: Vec<String>,
    pub(crate) quorum: usize,
    /// None for plain clients.
    pub(crate) max_ttl: Option<Duration>,
    /// How long nodes keep the fences of free names. Unused by plain clients.
    pub(crate) fencing_retention: Duration,
    /// The limit for one connection attempt to one node.
    pub(crate) dial_timeout: Duration,
}

/// A client from all sources, driven by a separate thread: locks are renewed while this runtime is busy.
pub(crate) fn cluster(args: NodeArgs) -> Result<Cluster, Failure> {
    let cluster = cluster_on_current_runtime(args)?;
    Ok(Cluster { builder: cluster.builder.dedicated_thread(true), ..cluster })
}

/// A client from all sources, driven by the current runtime, as in programs that use the library.
pub(crate) fn cluster_on_current_runtime(args: NodeArgs) -> Result<Cluster, Failure> {
    resolve(args, &|name| std::env::var_os(name))
}

/// Rejects a lock that can never be acquired, before any node is contacted.
pub(crate) fn check_lock(
    builder: &RedlockBuilder,
    name: &str,
    ttl: Option<Duration>,
    min_fencing_number: u64,
) -> Result<(), Failure> {
    builder.check_lock(name, ttl, min_fencing_number).map_err(|invalid| {
        let message = invalid.to_string();
        let lock = invalid.key().map_or_else(String::new, |key| format!("{}: ", exit::lock(key)));
        let flag = match invalid.option() {
            Some("ttl") => Some("ttl"),
            Some("floor" | "min_fencing_number") => Some("min-fencing-number"),
            _ => None,
        };
        let message = match flag {
            // Messages name the lock first.
            Some(flag) => format!("{lock}--{flag}: {}", message.strip_prefix(&lock).unwrap_or(&message)),
            None => message,
        };
        Failure::new(exit::USAGE, message)
    })
}

/// Builds the client. A variable that a flag overrides is not read, so it may be invalid.
fn resolve(args: NodeArgs, lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Cluster, Failure> {
    let environment = Environment(lookup);
    let config = args.config.map(|path| Origin::Flag("config").found(path));
    let config = config.or_else(|| environment.path("config"));
    let file = config.as_ref().map(Settings::read).transpose()?.unwrap_or_default();
    let mut from = Sources { environment, origins: BTreeMap::new() };
    let urls =
        (!args.nodes.is_empty()).then(|| Urls(args.nodes.into_iter().flat_map(|urls| urls.0).collect()));
    let urls = from.first("nodes", urls, |it| it.parse("nodes", Urls::read), file.nodes)?;
    let Some(Urls(urls)) = urls else {
        let message =
            "no nodes given: set QUORLOCK_NODES=redis://…,redis://…,redis://…, or use --nodes or --config";
        return Err(Failure::new(exit::CONFIG, message));
    };
    let quorum_setting =
        from.first("quorum", args.quorum, |it| it.parse("quorum", values::count), file.quorum)?;
    let quorum = quorum_setting.unwrap_or(urls.len() / 2 + 1);
    let mode = from.first("mode", args.mode, |it| it.parse("mode", values::mode), file.mode)?;
    let is_plain = mode.unwrap_or_default() == Mode::Plain;
    let span = |field| move |it: Environment<'_>| it.parse(field, values::span);
    let max_ttl = from.first("max_ttl", args.max_ttl, span("max_ttl"), file.max_ttl)?;
    let max_ttl = max_ttl.unwrap_or(MAX_TTL);
    let mut builder = Redlock::builder().nodes(urls.clone()).max_ttl(max_ttl).client_name("quorlock");
    if let Some(user) = from.first("username", args.username, |it| it.text("username"), file.username)? {
        builder = builder.username(user);
    }
    if let Some(password) = from.password(args.password_file, file.password_file)? {
        builder = builder.password(password);
    }
    let prefix = from.first("key_prefix", args.key_prefix, |it| it.text("key_prefix"), file.key_prefix)?;
    if let Some(prefix) = prefix {
        builder = builder.key_prefix(prefix);
    }
    if let Some(quorum_setting) = quorum_setting {
        builder = builder.quorum(quorum_setting);
    }
    let retention = from.first(
        "fencing_retention",
        args.fencing_retention,
        span("fencing_retention"),
        file.fencing_retention,
    )?;
    if let Some(retention) = retention {
        builder = builder.fencing_retention(retention);
    }
    let fencing_retention = retention.unwrap_or_else(|| default_fencing_retention(max_ttl));
    if is_plain {
        builder = builder.mode(quorlock::Mode::Plain);
    }
    if let Some(share) = from.first("clock_drift", args.clock_drift, no_variable, file.clock_drift)? {
        builder = builder.max_clock_drift(share);
    }
    if let Some(timeout) = from.first("reply_timeout", args.reply_timeout, no_variable, file.reply_timeout)? {
        builder = builder.reply_timeout(timeout);
    }
    let dial_setting = from.first("dial_timeout", args.dial_timeout, no_variable, file.dial_timeout)?;
    let dial_timeout = dial_setting.unwrap_or(DIAL_TIMEOUT);
    builder = builder.dial_timeout(dial_timeout);
    if let Some(ca) = from.file("tls_ca", args.tls_ca, file.tls_ca)? {
        builder = builder.tls_ca_file(ca);
    }
    let certificate = from.file("tls_cert", args.tls_cert, file.tls_cert)?;
    let key = from.file("tls_key", args.tls_key, file.tls_key)?;
    match (certificate, key) {
        (Some(certificate), Some(key)) => builder = builder.tls_client_certificate(certificate, key),
        (None, None) => {}
        (Some(_), None) => return Err(from.without_file("tls_cert", "tls_key")),
        (None, Some(_)) => return Err(from.without_file("tls_key", "tls_cert")),
    }
    // Errors name the source of the invalid value.
    builder.check().and_then(|()| builder.check_files()).map_err(|invalid| {
        match from.origin(invalid.option()) {
            Some(origin) => origin.invalid(invalid),
            None => Failure::new(exit::CONFIG, invalid.to_string()),
        }
    })?;
    let max_ttl = (!is_plain).then_some(max_ttl);
    Ok(Cluster { builder, urls, quorum, max_ttl, fencing_retention, dial_timeout })
}

/// The sources of settings, and where each setting in use was found.
struct Sources<'a> {
    environment: Environment<'a>,
    origins: BTreeMap<&'static str, Origin>,
}

impl<'a> Sources<'a> {
    /// The flag's value, else the variable's, else the file's.
    fn first<T>(
        &mut self,
        field: &'static str,
        flag: Option<T>,
        variable: impl FnOnce(Environment<'a>) -> Result<Option<Found<T>>, Failure>,
        line: Option<Found<T>>,
    ) -> Result<Option<T>, Failure> {
        let found = match flag {
            Some(value) => Some(Origin::Flag(field).found(value)),
            None => variable(self.environment)?.or(line),
        };
        Ok(found.map(|Found { value, origin }| {
            self.origins.insert(field, origin);
            value
        }))
    }

    /// A readable file. Errors do not show its name, because it may be a password or key by mistake.
    fn file(
        &mut self,
        field: &'static str,
        flag: Option<PathBuf>,
        line: Option<Found<PathBuf>>,
    ) -> Result<Option<PathBuf>, Failure> {
        let path = self.first(field, flag, no_variable, line)?;
        match path.as_ref().map(fs::File::open) {
            Some(Err(error)) => Err(self.origins[field].invalid(error)),
            _ => Ok(path),
        }
    }

    fn password(
        &self,
        flag: Option<PathBuf>,
        line: Option<Found<PathBuf>>,
    ) -> Result<Option<String>, Failure> {
        let named = match flag {
            Some(path) => Some(Origin::Flag("password_file").found(path)),
            None => self.environment.path("password_file"),
        };
        let set = if named.is_none() { self.environment.text("password")? } else { None };
        if let Some(Found { value, .. }) = set
            && let password = without_line_end(&value)
            && !password.is_empty()
        {
            return Ok(Some(password.to_owned()));
        }
        let Some(Found { value: path, origin }) = named.or(line) else { return Ok(None) };
        let text = fs::read_to_string(path).map_err(|error| origin.invalid(error))?;
        match without_line_end(&text) {
            "" => Err(origin.invalid("the file is empty; leave this out if no password is needed")),
            password => Ok(Some(password.to_owned())),
        }
    }

    /// The error for a setting that needs another one.
    fn without_file(&self, field: &'static str, other: &'static str) -> Failure {
        let origin = &self.origins[field];
        origin.invalid(format_args!("it goes together with {}: give both", origin.relative_to_origin(other)))
    }

    /// Where an option of the builder was found.
    fn origin(&self, option: Option<&str>) -> Option<&Origin> {
        let field = match option? {
            "max_clock_drift" => "clock_drift",
            "tls_ca_file" => "tls_ca",
            "tls_client_certificate" => "tls_cert",
            "tls_client_key" => "tls_key",
            same => same,
        };
        self.origins.get(field)
    }
}

/// Removes the line end that editors and `echo` add to a password, also if a file becomes a variable.
fn without_line_end(password: &str) -> &str {
    password.trim_end_matches(['\r', '\n'])
}

#[expect(clippy::unnecessary_wraps, reason = "stands in for reading a variable")]
fn no_variable<T>(_: Environment<'_>) -> Result<Option<Found<T>>, Failure> {
    Ok(None)
}

/// The default, the same as in the library.
pub(crate) fn default_fencing_retention(max_ttl: Duration) -> Duration {
    Duration::from_secs(3600).max(max_ttl.saturating_mul(2))
}

/// The default, the same as in the library.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(30);
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// All variables with settings of nodes.
pub(crate) const VARIABLES: [&str; 10] = [
    "QUORLOCK_NODES",
    "QUORLOCK_CONFIG",
    "QUORLOCK_USERNAME",
    "QUORLOCK_PASSWORD",
    "QUORLOCK_PASSWORD_FILE",
    "QUORLOCK_KEY_PREFIX",
    "QUORLOCK_QUORUM",
    "QUORLOCK_MODE",
    "QUORLOCK_MAX_TTL",
    "QUORLOCK_FENCING_RETENTION",
];
