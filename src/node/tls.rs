//! TLS by rustls. The crypto provider is passed explicitly, so that the process needs no installed default
//! provider.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};

use super::dial_error::{DialError, MAYBE_NOT_TLS};
use crate::view::DialStep;
use quorlock_proto::vote::ExclusionReason;

/// The files that the user configures.
#[derive(Clone, Default)]
pub(crate) struct TlsFiles {
    /// Certificate authorities to trust instead of the system's.
    pub(crate) ca: Option<PathBuf>,
    /// The client certificate and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

/// The checked TLS configuration of a client.
pub(crate) struct Tls {
    connector: TlsConnector,
}

/// A file that cannot be used. Its content is not shown.
#[derive(Debug, thiserror::Error)]
#[error("the file {} of {what} cannot be used: {reason}", shown(file))]
pub(crate) struct InvalidTlsFile {
    /// The option of the builder.
    pub(crate) option: &'static str,
    what: &'static str,
    file: PathBuf,
    reason: String,
}

impl InvalidTlsFile {
    /// The message without the file's name.
    pub(crate) fn unnamed(&self) -> String {
        format!("the file of {} cannot be used: {}", self.what, self.reason)
    }
}

/// The purpose of a file.
#[derive(Clone, Copy)]
enum FileRole {
    Authorities,
    Certificate,
    Key,
}

impl Tls {
    /// Loads the files, or the system's certificate authorities.
    pub(crate) fn new(files: &TlsFiles) -> Result<Self, InvalidTlsFile> {
        let roots = files.ca.as_deref().map_or_else(|| Ok(system_roots()), roots_in)?;
        let config = config(files, roots)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Checks the configured files, without the system's certificate authorities.
    pub(crate) fn check(files: &TlsFiles) -> Result<(), InvalidTlsFile> {
        let roots = files.ca.as_deref().map_or_else(|| Ok(RootCertStore::empty()), roots_in)?;
        config(files, roots).map(drop)
    }

    /// Runs the TLS handshake with this host.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<TlsStream<TcpStream>, DialError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            DialError::Excluded(ExclusionReason::Unsupported("its host name fits no certificate".into()))
        })?;
        self.connector.connect(name, stream).await.map_err(|error| dial_error(&error))
    }
}

fn config(files: &TlsFiles, roots: RootCertStore) -> Result<ClientConfig, InvalidTlsFile> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| FileRole::Authorities.invalid(Path::new("(none)"), &error))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &files.client else { return Ok(config.with_no_client_auth()) };
    let chain = certificates_in(certificate, FileRole::Certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| FileRole::Key.invalid_pem(key, &error))?;
    config.with_client_auth_cert(chain, secret).map_err(|error| FileRole::Key.invalid(key, &error))
}

fn roots_in(file: &Path) -> Result<RootCertStore, InvalidTlsFile> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_in(file, FileRole::Authorities)? {
        roots.add(certificate).map_err(|error| FileRole::Authorities.invalid(file, &error))?;
    }
    Ok(roots)
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // A system without certificates is only an error if a URL requires TLS; the dial reports that.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn certificates_in(file: &Path, role: FileRole) -> Result<Vec<CertificateDer<'static>>, InvalidTlsFile> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(file).map_err(|error| role.invalid_pem(file, &error))?.collect();
    let certificates = certificates.map_err(|error| role.invalid_pem(file, &error))?;
    if certificates.is_empty() {
        return Err(role.invalid_pem(file, &pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

impl FileRole {
    fn invalid(self, file: &Path, reason: &dyn ToString) -> InvalidTlsFile {
        let (option, what) = match self {
            Self::Authorities => ("tls_ca_file", "the authorities"),
            Self::Certificate => ("tls_client_certificate", "the client certificate"),
            Self::Key => ("tls_client_key", "the client certificate's key"),
        };
        InvalidTlsFile { option, what, file: file.to_owned(), reason: reason.to_string() }
    }

    /// Does not show the error's own text, which may contain a line of the file.
    fn invalid_pem(self, file: &Path, error: &pem::Error) -> InvalidTlsFile {
        let missing = if matches!(self, Self::Key) { "no private key" } else { "no certificate" };
        match error {
            pem::Error::Io(error) => self.invalid(file, error),
            pem::Error::NoItemsFound => self.invalid(file, &format!("there is {missing} in PEM form in it")),
            _ => self.invalid(file, &"it is no PEM text, or damaged"),
        }
    }
}

/// The file's name, but no key that was given instead of a name.
fn shown(file: &Path) -> String {
    let name = file.to_string_lossy();
    if name.contains("-----BEGIN") {
        "(PEM text instead of a file's name)".to_owned()
    } else {
        name.into_owned()
    }
}

fn dial_error(error: &io::Error) -> DialError {
    let failed = || {
        let step = DialStep::Tls;
        // A server that sends an alert uses TLS.
        let cause = error.get_ref().and_then(|it| it.downcast_ref::<Error>());
        let hint = if matches!(cause, Some(Error::AlertReceived(_))) { "" } else { MAYBE_NOT_TLS };
        DialError::NoReply(step, format!("{step}: {error}{hint}").into())
    };
    exclusion(error).map_or_else(failed, DialError::Excluded)
}

/// The exclusion for an invalid certificate, which does not pass by itself. Other errors may pass.
pub(super) fn exclusion(error: &io::Error) -> Option<ExclusionReason> {
    let text = match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is from an untrusted authority: give the authority's file (CA)".to_owned()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "TLS: it requires a client certificate: give a certificate and its key".to_owned()
        }
        // The server is shutting down or has an internal error, which may pass.
        Error::AlertReceived(
            AlertDescription::CloseNotify | AlertDescription::InternalError | AlertDescription::UserCanceled,
        ) => return None,
        error @ (Error::InvalidCertificate(_) | Error::AlertReceived(_)) => format!("TLS: {error}"),
        _ => return None,
    };
    Some(ExclusionReason::Unsupported(text.into()))
}
