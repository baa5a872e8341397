//! Failed dials report the step that failed and a hint.

use quorlock::Redlock;
use quorlock::error::ConnectError;
use quorlock::node::{DialStep, NodeState, NodeStatus};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{millis, secs};

/// Connecting fails because the dial fails in this step, and the cause contains all of these texts.
async fn check_unreachable(url: String, step: DialStep, texts: &[&str]) {
    let builder = Redlock::builder().nodes([url]).dial_timeout(millis(500)).connect_timeout(secs(2));
    let result = builder.connect().await;
    let Err(ConnectError::NoQuorum { nodes, .. }) = result else {
        panic!("expected NoQuorum, got {result:?}")
    };
    let NodeStatus { state: NodeState::Down { reason: cause, .. }, failed_step, .. } = &nodes[0] else {
        panic!("{nodes:?}")
    };
    assert_eq!(*failed_step, Some(step), "{cause}");
    for text in texts {
        assert!(cause.contains(text), "{cause:?} does not contain {text:?}");
    }
}

#[tokio::test]
async fn an_unknown_host_name_is_reported_as_a_failed_lookup() {
    let url = "redis://nowhere.invalid:6379".to_owned();
    check_unreachable(url, DialStep::Lookup, &["name lookup: "]).await;
}

#[tokio::test]
async fn a_closed_port_is_reported_as_connection_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("redis://{}", listener.local_addr().expect("an address"));
    drop(listener);
    check_unreachable(url, DialStep::Connection, &["connection refused"]).await;
}

/// A listener that accepts no connection: once its backlog is full, the system ignores new ones.
#[tokio::test]
async fn a_connection_without_reply_is_reported_as_a_timeout() {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    listener.listen(0).expect("it listens");
    let address = listener.local_addr().expect("an address").as_socket().expect("an address");
    let mut waiting = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200))
    {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the backlog is never full");
    }
    let url = format!("redis://{address}");
    check_unreachable(url, DialStep::Connection, &["connection: no reply within 500ms"]).await;
}

#[tokio::test]
async fn a_silent_server_is_reported_as_a_login_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    check_unreachable(format!("redis://{address}"), DialStep::Login, &["login: no reply within 500ms"]).await;
    #[cfg(feature = "tls-rustls")]
    check_unreachable(
        format!("rediss://{address}"),
        DialStep::Tls,
        &["TLS handshake: no reply within 500ms: does it speak TLS? if not, use redis://"],
    )
    .await;
}

#[tokio::test]
async fn an_http_server_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let response = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut byte = [0; 1];
            let _ = stream.read_exact(&mut byte).await;
            let _ = stream.write_all(response).await;
        }
    });
    let result = Redlock::builder().nodes([format!("redis://{address}")]).connect().await;
    let Err(ConnectError::NodesExcluded { nodes, .. }) = result else {
        panic!("expected NodesExcluded, got {result:?}")
    };
    let texts = nodes[0].to_string();
    assert!(texts.contains("it speaks HTTP") && !texts.contains("TLS"), "{texts}");
}

#[tokio::test]
async fn a_server_that_closes_the_connection_at_once_is_reported_with_a_tls_hint() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let texts = [" before its first reply: does it want TLS? use rediss://"];
    check_unreachable(format!("redis://{address}"), DialStep::Login, &texts).await;
}
