//! TLS to real servers, with a private certificate authority.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorlock::Redlock;
use quorlock::error::ConnectError;
use quorlock::node::DialStep;
use quorlock_chaos::{Server, Setup};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::{initialize, millis, secs};

/// A certificate authority, and the certificates of a server and a client.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let certificates = Self { folder: tempfile::tempdir().expect("a folder") };
        certificates.openssl(
            &["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt"],
            "ca",
        );
        for name in ["server", "client"] {
            let (key, request, signed) =
                (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
            certificates
                .openssl(&["req", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &request], name);
            std::fs::write(certificates.path("ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost")
                .expect("written");
            certificates.openssl(
                &[
                    "x509",
                    "-req",
                    "-in",
                    &request,
                    "-CA",
                    "ca.crt",
                    "-CAkey",
                    "ca.key",
                    "-CAcreateserial",
                    "-extfile",
                    "ext",
                    "-out",
                    &signed,
                ],
                "",
            );
        }
        certificates
    }

    fn openssl(&self, args: &[&str], subject: &str) {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(self.folder.path());
        if !subject.is_empty() {
            command.args(["-subj", &format!("/CN=quorlock test {subject}")]);
        }
        let output = command.output().expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }
}

fn server(certificates: &Certificates, requires_client: bool) -> (Server, String) {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let text = |path: &Path| path.display().to_string();
    let setup = Setup::new().args([
        "--tls-port".to_owned(),
        port.to_string(),
        "--tls-cert-file".to_owned(),
        text(&certificates.path("server.crt")),
        "--tls-key-file".to_owned(),
        text(&certificates.path("server.key")),
        "--tls-ca-cert-file".to_owned(),
        text(&certificates.path("ca.crt")),
        "--tls-auth-clients".to_owned(),
        if requires_client { "yes" } else { "no" }.to_owned(),
    ]);
    (Server::start(&setup).expect("server starts"), format!("rediss://127.0.0.1:{port}"))
}

#[tokio::test]
async fn a_lock_is_acquired_over_tls_with_a_private_certificate_authority() {
    let certificates = Certificates::new();
    let (_server, url) = server(&certificates, false);
    let ca = certificates.path("ca.crt");
    let builder = Redlock::builder().nodes([url.clone()]).tls_ca_file(&ca);
    initialize(builder.clone());
    let redlock = builder.connect().await.expect("trusted");
    let guard = redlock.mutex("k").acquire().await.expect("free");
    guard.release().await.expect("released");

    let result = Redlock::builder().nodes([url]).connect().await;
    let Err(ConnectError::NodesExcluded { nodes, .. }) = result else {
        panic!("expected NodesExcluded, got {result:?}")
    };
    assert!(nodes[0].to_string().contains("authority"), "{nodes:?}");
}

#[tokio::test]
async fn a_mix_up_of_tls_and_plain_ports_is_reported_both_ways() {
    let certificates = Certificates::new();
    let (server, tls) = server(&certificates, false);
    let result = Redlock::builder()
        .nodes([server.url().replace("redis://", "rediss://")])
        .tls_ca_file(certificates.path("ca.crt"))
        .dial_timeout(millis(500))
        .connect_timeout(secs(2))
        .connect()
        .await;
    let Err(ConnectError::NoQuorum { nodes, .. }) = result else {
        panic!("expected NoQuorum, got {result:?}")
    };
    assert_eq!(nodes[0].failed_step, Some(DialStep::Tls), "{nodes:?}");
    assert!(nodes[0].to_string().ends_with(": does it speak TLS? if not, use redis://"), "{nodes:?}");

    // A server may send an alert first, or close the connection at the first byte.
    let bare = Redlock::builder().nodes([tls.replace("rediss://", "redis://")]).connect_timeout(secs(2));
    let Err(ConnectError::NoQuorum { nodes, .. } | ConnectError::NodesExcluded { nodes, .. }) =
        bare.connect().await
    else {
        panic!("expected NoQuorum or NodesExcluded")
    };
    assert!(nodes[0].to_string().ends_with(": does it want TLS? use rediss://"), "{nodes:?}");
}

/// The list before and the list after use TLS in turn.
#[tokio::test]
async fn a_reconfiguration_exchanges_a_node_without_tls_for_one_with_tls_and_back() {
    let certificates = Certificates::new();
    let (tls_server, tls) = server(&certificates, false);
    let plain_server = Server::start(&Setup::new()).expect("server starts");
    let plain = plain_server.url();
    let builder = |url: &String| {
        Redlock::builder().nodes([url]).tls_ca_file(certificates.path("ca.crt")).max_ttl(millis(500))
    };
    initialize(Redlock::builder().nodes([&plain]).max_ttl(millis(500)));
    for (from, to) in [(&plain, &tls), (&tls, &plain)] {
        let running = builder(from).reconfigure([to]).run();
        let done = timeout(secs(20), running).await.expect("it ends").expect("both servers are up");
        let address = to.split_once("://").map(|(_, address)| address);
        assert_eq!(done.nodes.iter().map(|node| &**node).collect::<Vec<_>>(), address.as_slice());
        // The server that was removed is not blank, and can be added again once it is.
        let removed = if from == &plain { &plain_server } else { &tls_server };
        removed.wipe().expect("flushed");
    }
}

#[tokio::test]
async fn a_client_certificate_is_sent_when_the_server_requires_one() {
    let certificates = Certificates::new();
    let (_server, url) = server(&certificates, true);
    let builder = || Redlock::builder().nodes([url.clone()]).tls_ca_file(certificates.path("ca.crt"));
    let result = builder().connect_timeout(std::time::Duration::from_secs(2)).connect().await;
    assert!(
        matches!(result, Err(ConnectError::NodesExcluded { .. } | ConnectError::NoQuorum { .. })),
        "{result:?}"
    );
    let builder_with_certificate =
        builder().tls_client_certificate(certificates.path("client.crt"), certificates.path("client.key"));
    initialize(builder_with_certificate.clone());
    let redlock = builder_with_certificate.connect().await.expect("connected");
    drop(redlock.mutex("k").acquire().await.expect("free"));
}

#[tokio::test]
async fn unusable_tls_files_are_reported_before_any_dial() {
    let certificates = Certificates::new();
    std::fs::write(certificates.path("empty"), "").expect("written");
    for (file, cause) in [("missing", "missing"), ("empty", "no certificate")] {
        let builder = Redlock::builder().nodes(["rediss://127.0.0.1:1"]).tls_ca_file(certificates.path(file));
        let error = builder.connect_lazy().expect_err("unusable file").to_string();
        assert!(error.contains(cause), "{error}");
    }
}
