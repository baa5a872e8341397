//! A node's address: parses and checks its URL, with endpoint, credentials and database.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

use super::credentials::Credentials;

/// A node's parsed URL. Neither `Display` nor `Debug` shows user or password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(super) endpoint: Endpoint,
    pub(super) credentials: Credentials,
    pub(super) database: i64,
    /// Whether the URL requests RESP3.
    pub(super) uses_resp3: bool,
}

/// Where a node listens.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

/// A URL that cannot be used; the reason says what to do. It shows only the scheme of the URL, because any
/// other part of an invalid URL may belong to a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the URL{shown_scheme} cannot be used: {reason}")]
pub(crate) struct InvalidAddress {
    shown_scheme: String,
    reason: String,
}

impl Address {
    /// Whether the connection uses TLS.
    #[cfg(feature = "tls-rustls")]
    pub(crate) fn uses_tls(&self) -> bool {
        matches!(self.endpoint, Endpoint::Tcp { tls: true, .. })
    }

    /// Whether the connection is TCP without TLS. The server may expect TLS.
    pub(super) fn is_plain_tcp(&self) -> bool {
        matches!(self.endpoint, Endpoint::Tcp { tls: false, .. })
    }

    /// Parses a URL. `defaults` applies if the URL has no credentials.
    pub(crate) fn parse(url: &str, defaults: &Credentials) -> Result<Self, InvalidAddress> {
        let invalid = |reason: &str| InvalidAddress {
            shown_scheme: scheme_of(url),
            reason: format!("{reason}{}", hint(url)),
        };
        if !(url.contains("://") || url.starts_with("unix:")) {
            return Err(invalid("a URL begins with its scheme, such as redis://127.0.0.1:6379"));
        }
        let needs_tls = url.starts_with("rediss:") || url.starts_with("valkeys:");
        if needs_tls && !cfg!(feature = "tls-rustls") {
            return Err(invalid("TLS needs the feature `tls-rustls` of this crate"));
        }
        if url.contains('#') && !url.ends_with("#insecure") {
            return Err(invalid("a `#` belongs into a password only"));
        }
        // Users write `unix:/path`; the URL standard requires `unix:///path`.
        let full_url = match url.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') && !path.starts_with("//") => format!("unix://{path}"),
            _ => url.to_owned(),
        };
        let info: ConnectionInfo = full_url.as_str().into_connection_info().map_err(|error| {
            // Do not show the parser's message: it repeats parts of the URL.
            invalid(match error.to_string() {
                text if text.contains("database") => "a database is a number from 0 on",
                text if text.contains("protocol") => "a protocol is resp2 or resp3",
                text if text.contains("UTF-8") => "the text behind `%` is not UTF-8",
                text if text.contains("wildcard") => "0.0.0.0 and :: are no host to connect to",
                _ => "expected redis://, rediss://, valkey:// or unix:/path, a host, and a port from 1 to 65535",
            })
        })?;
        check_query(&full_url).map_err(|reason| invalid(&reason))?;
        let endpoint = match info.addr() {
            ConnectionAddr::Tcp(_, 0) | ConnectionAddr::TcpTls { port: 0, .. } => {
                return Err(invalid("a port is a number from 1 to 65535"));
            }
            ConnectionAddr::Tcp(host, port) => Endpoint::Tcp { host: host.clone(), port: *port, tls: false },
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(invalid(
                    "`#insecure` accepts any certificate: name the authority's certificates instead",
                ));
            }
            ConnectionAddr::TcpTls { host, port, .. } => {
                Endpoint::Tcp { host: host.clone(), port: *port, tls: true }
            }
            ConnectionAddr::Unix(path) => Endpoint::Unix(path.clone()),
            _ => return Err(invalid("a kind of address this crate does not know")),
        };
        endpoint.check().map_err(invalid)?;
        let redis = info.redis_settings();
        if redis.db() < 0 {
            return Err(invalid("a database has a number from 0 on"));
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        // A password in the URL is only used with the user of the URL.
        let credentials = if redis.password().is_some() || redis.username().is_some() {
            Credentials {
                user: owned(redis.username()),
                password: owned(redis.password()).or_else(|| defaults.password.clone()),
                valid_for: None,
            }
        } else {
            defaults.clone()
        };
        Ok(Self {
            endpoint,
            credentials,
            database: redis.db(),
            uses_resp3: redis.protocol() == ProtocolVersion::RESP3,
        })
    }
}

impl Endpoint {
    /// Rejects hosts and paths that may contain a password, because hosts and paths are shown in messages.
    fn check(&self) -> Result<(), &'static str> {
        let is_suspicious = match self {
            // The URL parser has removed the brackets of an IPv6 address.
            Self::Tcp { host, .. } if host.parse::<Ipv6Addr>().is_ok() => false,
            Self::Tcp { host, .. } => {
                !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
            }
            Self::Unix(path) => {
                path.as_os_str().as_encoded_bytes().iter().any(|byte| b"@&;?#".contains(byte))
            }
        };
        match self {
            _ if !is_suspicious => Ok(()),
            Self::Tcp { .. } => Err(INVALID_HOST),
            Self::Unix(_) => Err(INVALID_PATH),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}")?,
            Endpoint::Tcp { host, port, .. } => write!(f, "{host}:{port}")?,
            Endpoint::Unix(path) => write!(f, "{}", path.display())?,
        }
        if self.database == 0 { Ok(()) } else { write!(f, "/{}", self.database) }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Rejects unknown options: if `redis://h?db=2` were ignored, the client would lock in another database than
/// other clients. An unescaped `?` in a password is also rejected here.
fn check_query(url: &str) -> Result<(), String> {
    let known: &[&str] =
        if url.contains("unix:") { &["db", "user", "pass", "protocol"] } else { &["protocol"] };
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let is_known = |option: &str| known.contains(&option.split('=').next().unwrap_or_default());
    if query.split('&').all(|option| option.is_empty() || is_known(option)) {
        return Ok(());
    }
    Err(format!("only these options are allowed behind `?`: {}", known.join(", ")))
}

/// The URL's scheme for error messages, if it is a known one.
fn scheme_of(url: &str) -> String {
    let matches_scheme =
        |scheme: &&&str| url.strip_prefix(**scheme).is_some_and(|rest| rest.starts_with(':'));
    match SCHEMES.iter().find(matches_scheme) {
        Some(scheme) if *scheme == "unix" => " unix:…".to_owned(),
        Some(scheme) => format!(" {scheme}://…"),
        None => String::new(),
    }
}

/// How to escape a password, if the URL may contain one. An unescaped `,` or `/` in it ends the host, and its
/// start is parsed as a port.
fn hint(url: &str) -> &'static str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let has_scheme = url.len() > rest.len();
    let is_bare = has_scheme && (is_port || !rest.contains(':')) && !host.is_empty();
    if url.contains(['@', '?', '#']) || !(is_bare || url.starts_with("unix:")) { ESCAPE_HINT } else { "" }
}

const SCHEMES: [&str; 7] = ["redis", "rediss", "valkey", "valkeys", "unix", "redis+unix", "valkey+unix"];
const INVALID_HOST: &str = "a host is written with letters, digits, `.`, `-` and `_` alone; a user and a password go before it, as in \
                        redis://user:password@host";
const INVALID_PATH: &str = "the path of a socket is written without `@`, `&`, `;`, `?` and `#`, also as `%40` and the like; a user and a \
                        password go behind it, as in unix:/path?user=…&pass=…";
const ESCAPE_HINT: &str =
    "; in a user or password `,` is written %2C, `/` %2F, `?` %3F, `#` %23, `%` %25, and a `:` in a user %3A";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, shown: &str) -> Address {
        let address = Address::parse(url, &Credentials::default()).expect("a good URL");
        assert_eq!(address.to_string(), shown);
        assert_eq!(format!("{address:?}"), shown);
        address
    }

    #[test]
    fn every_kind_of_url_is_parsed() {
        check("redis://10.0.0.1", "10.0.0.1:6379");
        check("valkey://cache:7001/2", "cache:7001/2");
        check("redis://[::1]:7001", "[::1]:7001");
        check("unix:/run/redis.sock", "/run/redis.sock");
        check("unix:///run/redis.sock?db=3", "/run/redis.sock/3");
        assert!(check("redis://h?protocol=resp3", "h:6379").uses_resp3);
        let named = check("redis://ann:s%40crets@h", "h:6379");
        assert_eq!(named.credentials, Credentials::new("s@crets").username("ann"));
    }

    #[test]
    fn client_credentials_apply_to_urls_without_any() {
        let login = Credentials::new("secret").username("ann");
        let parse = |url| Address::parse(url, &login).expect("a good URL").credentials;
        assert_eq!(parse("redis://h"), login);
        assert_eq!(parse("redis://:other@h"), Credentials::new("other"));
    }

    #[test]
    fn errors_about_invalid_urls_show_only_the_scheme() {
        for (url, shown) in [
            ("127.0.0.1:6379", ""),
            ("localhost", ""),
            ("http://h", ""),
            ("secret://h", ""),
            ("redis://:secret@h/x", " redis://…"),
            ("redis://:secret@", " redis://…"),
            ("redis://:secret", " redis://…"),
            ("redis://secret:99999", " redis://…"),
            ("redis://0.0.0.0", " redis://…"),
            ("redis://h/-1", " redis://…"),
            ("redis://h/secret", " redis://…"),
            ("redis://h?protocol=secret", " redis://…"),
            ("valkey://h?secret=1", " valkey://…"),
            ("user:secret@host:6379", ""),
            ("redis://u:half@secret/word@h", " redis://…"),
            ("unix:", " unix:…"),
            ("unix:/run/a?secret=1", " unix:…"),
        ] {
            let error = Address::parse(url, &Credentials::default()).expect_err(url).to_string();
            assert!(error.starts_with(&format!("the URL{shown} cannot be used: ")), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn hosts_and_paths_that_may_contain_a_password_are_rejected() {
        for url in [
            "unix:/u:secret@/tmp/no.sock",
            "unix:/tmp/no.sock&pass=secret",
            "unix:/tmp/no.sock;pass=secret",
            "unix:/tmp/no.sock%3Fpass=secret",
            "unix:/tmp/no.sock%26pass=secret",
            "unix:/u:secret%40/tmp/no.sock",
            "unix:/tmp/no.sock%23secret",
            "redis+unix:///tmp/no.sock&pass=secret",
            "redis://u%3Asecret%40localhost:1",
            "redis://secret%2F:1",
            "redis://localhost&pass=secret",
            "redis://localhost;pass=secret:1",
            "redis://localhost$secret",
            "redis://s\u{e9}secret:1",
        ] {
            let error = Address::parse(url, &Credentials::default()).expect_err(url).to_string();
            assert!(!error.contains("secret") && error.contains("is written"), "{url}: {error}");
        }
        check("redis://cache_1.a-b.local:7001", "cache_1.a-b.local:7001");
        check("unix:/run/redis%20one/a-b_c.sock?pass=secret&db=2", "/run/redis one/a-b_c.sock/2");
    }

    #[test]
    fn errors_about_unescaped_passwords_list_the_escapes() {
        let parse = |url: &str| Address::parse(url, &Credentials::default());
        // A list of URLs is split at its commas, and so is a password.
        for url in [
            "redis://u:pa/ss@h",
            "redis://u:12/ss@h",
            "redis://u:pa?ss@h",
            "redis://u:12?ss@h",
            "redis://u:pa#ss@h",
            "redis://u:pa",
            "redis://:pa",
            "ss@h:6379",
            "ss",
        ] {
            let error = parse(url).expect_err(url).to_string();
            assert!(error.contains(ESCAPE_HINT), "{url}: {error}");
        }
        let all = parse("redis://u:%2C%2F%3F%23%25:@@h").expect("escaped").credentials.password;
        assert_eq!(all.as_deref(), Some(",/?#%:@"));
        for url in ["redis://h:99999", "redis://h/-1", "http://h", "unix:"] {
            let error = parse(url).expect_err(url).to_string();
            assert!(!error.contains(ESCAPE_HINT), "the URL has no password: {error}");
        }
    }
}
