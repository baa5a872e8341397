//! The steps of a dial.

use std::fmt;

/// A step of a dial.
///
/// # Examples
///
/// ```no_run
/// use quorlock::node::DialStep;
///
/// # async fn example(redlock: quorlock::Redlock) -> Result<(), Box<dyn std::error::Error>> {
/// for node in redlock.node_status().await {
///     match node.failed_step {
///         Some(DialStep::Lookup) => eprintln!("{}: check the host name", node.address),
///         Some(step) => eprintln!("{}: the {step} failed", node.address),
///         None => {}
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum DialStep {
    /// The host name is resolved.
    Lookup,
    /// The connection is opened.
    Connection,
    /// The TLS handshake.
    Tls,
    /// The [provider](crate::node::CredentialsProvider) is asked for the credentials.
    Credentials,
    /// The first requests: login, `INFO`, scripts.
    Login,
}

impl fmt::Display for DialStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lookup => "name lookup",
            Self::Connection => "connection",
            Self::Tls => "TLS handshake",
            Self::Credentials => "credentials",
            Self::Login => "login",
        })
    }
}
