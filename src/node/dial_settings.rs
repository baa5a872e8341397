//! The settings of all dials of a client.

use std::time::Duration;

/// The settings of all dials of a client.
pub(crate) struct DialSettings {
    /// Bounds name lookup, connecting, TLS and handshake together.
    pub(crate) dial_timeout: Duration,
    pub(crate) client_name: String,
    /// Whether the handshake reads the node's marker.
    pub(crate) is_fenced: bool,
    #[cfg(feature = "tls-rustls")]
    /// Set only if an address needs it, because loading the system's certificates takes time.
    pub(crate) tls: Option<super::tls::Tls>,
}
