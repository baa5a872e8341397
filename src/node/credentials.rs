//! The credentials of a login, and providers that are asked for them at each dial.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A user and a password, and how long they are valid. For a missing user or password the server's default applies.
/// `Debug` shows none of them.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use quorlock::node::Credentials;
///
/// let token = "a token of fifteen minutes";
/// let credentials = Credentials::new(token).username("locks").valid_for(Duration::from_secs(900));
/// assert_eq!(format!("{credentials:?}"), "Credentials(…)");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Credentials {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) valid_for: Option<Duration>,
}

/// Provides the credentials of a client's logins. Functions and closures from a [`CredentialsRequest`] to a future are
/// providers, too. See [`RedlockBuilder::credentials`](crate::RedlockBuilder::credentials).
///
/// # Examples
///
/// ```no_run
/// use std::error::Error;
/// use quorlock::node::{Credentials, CredentialsProvider, CredentialsRequest};
///
/// /// Passwords that another program keeps up to date, in one file for each node.
/// struct Folder(std::path::PathBuf);
///
/// impl CredentialsProvider for Folder {
///     async fn credentials(&self, request: CredentialsRequest) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
///         let password = tokio::fs::read_to_string(self.0.join(&*request.node)).await?;
///         Ok(Credentials::new(password.trim_end()))
///     }
/// }
///
/// # async fn example() -> Result<(), Box<dyn Error>> {
/// let nodes = ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"];
/// let redlock = quorlock::Redlock::builder().nodes(nodes).credentials(Folder("/run/secrets".into())).connect().await?;
/// # Ok(()) }
/// ```
pub trait CredentialsProvider: Send + Sync + 'static {
    /// Returns the credentials for one login.
    ///
    /// # Errors
    ///
    /// Whatever the provider reports. The dial fails with its text and that of its sources.
    ///
    /// # Cancel safety
    ///
    /// The client drops the future at the dial timeout, and when it is shut down.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::error::Error;
    /// use quorlock::node::{Credentials, CredentialsProvider, CredentialsRequest};
    ///
    /// /// Reports which logins another provider is asked for.
    /// struct Reported<P>(P);
    ///
    /// impl<P: CredentialsProvider> CredentialsProvider for Reported<P> {
    ///     async fn credentials(&self, request: CredentialsRequest) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
    ///         println!("login to {}, again: {}", request.node, request.is_retry);
    ///         self.0.credentials(request).await
    ///     }
    /// }
    /// ```
    fn credentials(
        &self,
        request: CredentialsRequest,
    ) -> impl Future<Output = Result<Credentials, ProviderError>> + Send;
}

/// What a provider is asked for: the credentials of one login.
///
/// # Examples
///
/// ```no_run
/// use quorlock::node::{Credentials, CredentialsRequest};
///
/// # async fn fetch_token() -> Result<String, std::io::Error> { Ok(String::new()) }
/// # async fn cached_or_fetched_token() -> Result<String, std::io::Error> { Ok(String::new()) }
/// let provider = |request: CredentialsRequest| async move {
///     // A token that a server has just rejected must not come from the cache again.
///     let token = if request.is_retry { fetch_token().await? } else { cached_or_fetched_token().await? };
///     Ok(Credentials::new(token))
/// };
/// let builder = quorlock::Redlock::builder().credentials(provider);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CredentialsRequest {
    /// The node's address, as in [`NodeStatus`](super::NodeStatus).
    pub node: Arc<str>,
    /// Whether the server has rejected the credentials that the provider returned last.
    pub is_retry: bool,
}

/// The error of a provider: anything that `?` or `into()` makes of an error or a text.
type ProviderError = Box<dyn Error + Send + Sync>;

type ProviderFuture<'a> = Pin<Box<dyn Future<Output = Result<Credentials, ProviderError>> + Send + 'a>>;

/// A provider of any type, shared by all dials of a client.
#[derive(Clone)]
pub(crate) struct SharedProvider(Arc<dyn AnyProvider>);

trait AnyProvider: Send + Sync {
    fn ask(&self, request: CredentialsRequest) -> ProviderFuture<'_>;
}

impl Credentials {
    /// A password, for the default user or for the user of the URL.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn example() -> Result<(), std::env::VarError> {
    /// let credentials = quorlock::node::Credentials::new(std::env::var("REDIS_PASSWORD")?);
    /// # Ok(()) }
    /// ```
    pub fn new(password: impl Into<String>) -> Self {
        Self { user: None, password: Some(password.into()), valid_for: None }
    }

    /// The user. Defaults to the user of the URL, or else to [that of the builder](crate::RedlockBuilder::username).
    ///
    /// # Examples
    ///
    /// ```
    /// let credentials = quorlock::node::Credentials::new("secret").username("locks");
    /// ```
    pub fn username(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// How long the credentials are valid from now. The client logs in again on the connection before that: after 80 %
    /// of it, at least three minutes before its end, but not in its first half. Defaults to forever.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let credentials = quorlock::node::Credentials::new("token").valid_for(Duration::from_secs(900));
    /// ```
    pub const fn valid_for(mut self, span: Duration) -> Self {
        self.valid_for = Some(span);
        self
    }

    /// The text that must never be shown: the password, or a user without a password, which may be a
    /// misplaced password.
    pub(super) fn secret(&self) -> Option<&str> {
        self.password.as_deref().filter(|password| !password.is_empty()).or(self.user.as_deref())
    }

    /// Whether a login with these is the same as with the others.
    pub(super) fn is_same_login(&self, other: &Self) -> bool {
        (&self.user, &self.password) == (&other.user, &other.password)
    }

    /// The user and the password to log in with, if any. A user without a password also logs in: a `nopass` user
    /// accepts any password, for other users the login fails.
    pub(super) fn login(&self) -> Option<(Option<&str>, &str)> {
        match (self.user.as_deref(), self.password.as_deref()) {
            (None, None) => None,
            (user, password) => Some((user, password.unwrap_or_default())),
        }
    }
}

impl SharedProvider {
    pub(crate) fn new(provider: impl CredentialsProvider) -> Self {
        Self(Arc::new(provider))
    }

    /// Asks the provider.
    pub(super) async fn ask(&self, request: CredentialsRequest) -> Result<Credentials, ProviderError> {
        self.0.ask(request).await
    }
}

impl<P: CredentialsProvider> AnyProvider for P {
    fn ask(&self, request: CredentialsRequest) -> ProviderFuture<'_> {
        Box::pin(self.credentials(request))
    }
}

impl<F, Output> CredentialsProvider for F
where
    F: Fn(CredentialsRequest) -> Output + Send + Sync + 'static,
    Output: Future<Output = Result<Credentials, ProviderError>> + Send,
{
    fn credentials(
        &self,
        request: CredentialsRequest,
    ) -> impl Future<Output = Result<Credentials, ProviderError>> + Send {
        self(request)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// The text of a provider's error and of its sources.
pub(super) fn text_of(error: &ProviderError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        // Some errors repeat their sources.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
