//! The settings of all dials of a client.

use std::time::Duration;

use super::address::Address;
use super::credentials::SharedProvider;

/// The settings of all dials of a client.
pub(crate) struct DialSettings {
    /// Bounds name lookup, connecting, TLS and handshake together.
    pub(crate) dial_timeout: Duration,
    pub(crate) client_name: String,
    /// Asked for the credentials of nodes whose URL has no password.
    pub(crate) credentials: Option<SharedProvider>,
    /// Whether the handshake reads the node's marker.
    pub(crate) is_fenced: bool,
    #[cfg(feature = "tls-rustls")]
    /// Set only if an address needs it, because loading the system's certificates takes time.
    pub(crate) tls: Option<super::tls::Tls>,
}

impl DialSettings {
    /// The provider of this node's credentials, if it has one.
    pub(crate) fn provider_for(&self, address: &Address) -> Option<&SharedProvider> {
        self.credentials.as_ref().filter(|_| address.credentials.password.is_none())
    }
}
