//! Where a node is, and who we are to it: a URL once checked.

use std::fmt;
use std::path::PathBuf;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

/// One node's URL, checked. Neither `Display` nor `Debug` shows user or password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(super) place: Place,
    pub(super) login: Login,
    pub(super) database: i64,
    /// Whether the URL asks for the third version of the protocol.
    pub(super) resp3: bool,
}

/// Where a node listens.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Place {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

/// A user and a password, either of which may be left to the server's default.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

/// A URL that cannot be used, in words that say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node {url:?} cannot be used: {why}")]
pub(crate) struct BadAddress {
    url: String,
    why: String,
}

impl Address {
    /// Whether it is reached over TLS.
    #[cfg(feature = "tls-rustls")]
    pub(crate) fn uses_tls(&self) -> bool {
        matches!(self.place, Place::Tcp { tls: true, .. })
    }

    /// Whether it is reached over bare TCP, where a server may expect TLS.
    pub(super) fn is_bare(&self) -> bool {
        matches!(self.place, Place::Tcp { tls: false, .. })
    }

    /// Reads a URL; `login` stands in for what it leaves out.
    pub(crate) fn parse(url: &str, login: &Login) -> Result<Self, BadAddress> {
        let bad = |why: &str| BadAddress { url: redacted(url), why: why.to_owned() };
        if !url.contains(':') || !(url.contains("://") || url.starts_with("unix:")) {
            return Err(bad("a URL begins with its scheme, such as redis://127.0.0.1:6379"));
        }
        let needs_tls = url.starts_with("rediss:") || url.starts_with("valkeys:");
        if needs_tls && !cfg!(feature = "tls-rustls") {
            return Err(bad("TLS needs the feature `tls-rustls` of this crate"));
        }
        if url.contains('#') && !url.ends_with("#insecure") {
            return Err(bad("a `#` belongs into a password only, written %23"));
        }
        // `unix:/path` is what people write; the URL standard wants `unix:///path`.
        let full = match url.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') && !path.starts_with("//") => format!("unix://{path}"),
            _ => url.to_owned(),
        };
        let info: ConnectionInfo = full.as_str().into_connection_info().map_err(|error| {
            bad(error.detail().unwrap_or("expected redis://, rediss://, valkey:// or unix:/path, and a host"))
        })?;
        check_query(&full).map_err(|why| bad(&why))?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(_, 0) | ConnectionAddr::TcpTls { port: 0, .. } => {
                return Err(bad("a port is a number from 1 to 65535"));
            }
            ConnectionAddr::Tcp(host, port) => Place::Tcp { host: host.clone(), port: *port, tls: false },
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(bad(
                    "`#insecure` would trust anybody: name the authority's certificates instead",
                ));
            }
            ConnectionAddr::TcpTls { host, port, .. } => {
                Place::Tcp { host: host.clone(), port: *port, tls: true }
            }
            ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
            _ => return Err(bad("a kind of address this crate does not know")),
        };
        let redis = info.redis_settings();
        if redis.db() < 0 {
            return Err(bad("a database has a number from 0 on"));
        }
        let own = |text: Option<&str>| text.map(str::to_owned);
        // A password in the URL goes with the user of the URL, never with another.
        let login = if redis.password().is_some() || redis.username().is_some() {
            Login {
                user: own(redis.username()),
                password: own(redis.password()).or_else(|| login.password.clone()),
            }
        } else {
            login.clone()
        };
        let resp3 = redis.protocol() == ProtocolVersion::RESP3;
        Ok(Self { place, login, database: redis.db(), resp3 })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}")?,
            Place::Tcp { host, port, .. } => write!(f, "{host}:{port}")?,
            Place::Unix(path) => write!(f, "{}", path.display())?,
        }
        if self.database == 0 { Ok(()) } else { write!(f, "/{}", self.database) }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

/// Refuses options nobody reads: a `redis://h?db=2` that does nothing would lock in another database than everybody
/// else. An unescaped `?` in a password ends up here as well.
fn check_query(url: &str) -> Result<(), String> {
    let known: &[&str] =
        if url.contains("unix:") { &["db", "user", "pass", "protocol"] } else { &["protocol"] };
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let is_known = |option: &str| known.contains(&option.split('=').next().unwrap_or_default());
    if query.split('&').all(|option| option.is_empty() || is_known(option)) {
        return Ok(());
    }
    Err(format!("behind `?` only {} may stand; a `?` in a password is written %3F", known.join(", ")))
}

/// The URL without what may be a password: everything up to the last `@`, and the query.
fn redacted(url: &str) -> String {
    // A `?` before an `@`: one of them may be in the middle of a password, and nobody can say which.
    if url.find('?').is_some_and(|query| url[query..].contains('@')) {
        return url.split_once(':').map_or_else(|| "…".to_owned(), |(scheme, _)| format!("{scheme}:…"));
    }
    let (head, rest) = match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => (format!("{}://…", &url[..scheme]), &url[at..]),
        (None, Some(at)) => ("…".to_owned(), &url[at..]),
        // No `@` where one was meant.
        (Some(scheme), None) if url[scheme..].starts_with("://:") => (format!("{}://…", &url[..scheme]), ""),
        _ => (String::new(), url),
    };
    let rest = rest.split_once('?').map_or_else(|| rest.to_owned(), |(path, _)| format!("{path}?…"));
    head + &rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, shown: &str) -> Address {
        let address = Address::parse(url, &Login::default()).expect("a good URL");
        assert_eq!(address.to_string(), shown);
        assert_eq!(format!("{address:?}"), shown);
        address
    }

    #[test]
    fn urls_of_every_kind_are_understood() {
        check("redis://10.0.0.1", "10.0.0.1:6379");
        check("valkey://cache:7001/2", "cache:7001/2");
        check("redis://[::1]:7001", "[::1]:7001");
        check("unix:/run/redis.sock", "/run/redis.sock");
        check("unix:///run/redis.sock?db=3", "/run/redis.sock/3");
        assert!(check("redis://h?protocol=resp3", "h:6379").resp3);
        let named = check("redis://ann:s%40crets@h", "h:6379");
        assert_eq!(named.login, Login { user: Some("ann".into()), password: Some("s@crets".into()) });
    }

    #[test]
    fn a_login_of_the_client_stands_in_where_the_url_has_none() {
        let login = Login { user: Some("ann".into()), password: Some("secret".into()) };
        let parse = |url| Address::parse(url, &login).expect("a good URL").login;
        assert_eq!(parse("redis://h"), login);
        assert_eq!(parse("redis://:other@h"), Login { user: None, password: Some("other".into()) });
    }

    #[test]
    fn bad_urls_are_refused_without_repeating_a_password() {
        for url in [
            "127.0.0.1:6379",
            "localhost",
            "http://h",
            "redis://:secret@h/x",
            "redis://:secret@",
            "redis://:secret",
            "redis://0.0.0.0",
            "redis://h/-1",
            "user:secret@host:6379",
            "unix:",
        ] {
            let error = Address::parse(url, &Login::default()).expect_err(url).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
