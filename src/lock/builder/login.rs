//! Sets how a client logs in, and its certificates.

#[cfg(feature = "tls-rustls")]
use std::path::PathBuf;

use super::RedlockBuilder;
use crate::node::{CredentialsProvider, SharedProvider};

impl RedlockBuilder {
    /// The user for nodes whose URL has none. Defaults to Redis' default user.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use quorlock::Redlock;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let builder = Redlock::builder()
    ///     .nodes(["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"])
    ///     .username("locks")
    ///     .password(std::env::var("REDIS_PASSWORD")?);
    /// # Ok(()) }
    /// ```
    pub fn username(mut self, user: impl Into<String>) -> Self {
        self.login.user = Some(user.into());
        self
    }

    /// The password for nodes whose URL has none. Defaults to none.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use quorlock::Redlock;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let builder = Redlock::builder()
    ///     .nodes(["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"])
    ///     .password(std::fs::read_to_string("/run/secrets/redis")?.trim_end());
    /// # Ok(()) }
    /// ```
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.login.password = Some(password.into());
        self
    }

    /// Provides the password, and optionally the user, of nodes whose URL has no password: use it for passwords and
    /// tokens that change. A closure suffices. Conflicts with [`password`](Self::password). Defaults to none.
    ///
    /// The provider is asked once for each dial of each node. It counts into the [dial timeout](Self::dial_timeout) and
    /// delays no other node, but it must not block its thread, on which locks are renewed. Its error fails the dial,
    /// with its text in the node's [status](crate::node::NodeStatus), and the node is dialed again. If the server
    /// rejects the credentials, the provider is asked once more at once; then the node is excluded until a later dial.
    ///
    /// Credentials with a [limit](crate::node::Credentials::valid_for) are renewed on the living connection before they expire. A
    /// failed renewal is a [warning](crate::node::NodeWarning::LoginNotRenewed): the connection goes on, and the
    /// renewal is tried again. The provider is also asked when a server denies a command that it has allowed before.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use quorlock::Redlock;
    /// use quorlock::node::{Credentials, CredentialsRequest};
    ///
    /// # async fn iam_token() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let nodes = ["rediss://10.0.0.1", "rediss://10.0.0.2", "rediss://10.0.0.3"];
    /// let login = |_: CredentialsRequest| async {
    ///     let token = iam_token().await?;
    ///     Ok(Credentials::new(token).username("locks").valid_for(Duration::from_secs(900)))
    /// };
    /// let redlock = Redlock::builder().nodes(nodes).credentials(login).connect().await?;
    ///
    /// // A file that another program keeps up to date.
    /// let password = |_: CredentialsRequest| async {
    ///     Ok(Credentials::new(tokio::fs::read_to_string("/run/secrets/redis").await?.trim_end()))
    /// };
    /// let redlock = Redlock::builder().nodes(nodes).credentials(password).connect().await?;
    /// # Ok(()) }
    /// ```
    pub fn credentials(mut self, provider: impl CredentialsProvider) -> Self {
        self.credentials = Some(SharedProvider::new(provider));
        self
    }

    /// A file with the certificates of the authorities that sign the certificates of nodes under TLS. An error if no
    /// node's URL uses TLS, because connections would not be encrypted. Defaults to the system's authorities.
    ///
    /// # Examples
    ///
    /// ```
    /// use quorlock::Redlock;
    ///
    /// let builder = Redlock::builder()
    ///     .nodes(["rediss://10.0.0.1", "rediss://10.0.0.2", "rediss://10.0.0.3"])
    ///     .tls_ca_file("/etc/redis/ca.crt");
    /// assert_eq!(builder.check(), Ok(()));
    /// ```
    #[cfg(feature = "tls-rustls")]
    pub fn tls_ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(file.into());
        self
    }

    /// Files with the client certificate and its private key, in PEM form. An error if no node's URL uses TLS. Defaults
    /// to none.
    ///
    /// # Examples
    ///
    /// ```
    /// use quorlock::Redlock;
    ///
    /// let builder = Redlock::builder()
    ///     .nodes(["rediss://10.0.0.1", "rediss://10.0.0.2", "rediss://10.0.0.3"])
    ///     .tls_client_certificate("/etc/redis/client.crt", "/etc/redis/client.key");
    /// assert_eq!(builder.check(), Ok(()));
    /// ```
    #[cfg(feature = "tls-rustls")]
    pub fn tls_client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.tls.client = Some((certificate.into(), key.into()));
        self
    }
}
