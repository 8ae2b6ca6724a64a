//! Services behind TLS, as the public one is.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;

use ats_p2p::ats::{AtsError, AtsEvent, Client, Events, Settings, Subscription, WebSettings};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::certificate::Certified;
use crate::fake::{client, policy, settings};

/// Tells the second process of the test below where the service is.
const URL_VARIABLE: &str = "ATS_P2P_TEST_TLS_URL";

/// A service on 127.0.0.1 with a certificate that nobody knows; gives that of its authority as PEM.
fn start() -> (SocketAddr, String) {
    let Certified { authority, certificate, key } = Certified::make();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map(Arc::new)
        .expect("a TLS configuration");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    // It ends with the process.
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let config = config.clone();
            std::thread::spawn(move || {
                let connection = ServerConnection::new(config).expect("a connection");
                serve(StreamOwned::new(connection, stream));
            });
        }
    });
    (address, authority)
}

/// Answers one request: events with a subscription that is confirmed at once, all else with its health.
fn serve(mut stream: StreamOwned<ServerConnection, std::net::TcpStream>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.extend_from_slice(&byte),
            // Who does not trust us does not ask.
            _ => return,
        }
    }
    let head = String::from_utf8(head).expect("text");
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
    let answer = match key {
        Some(key) => format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n\u{81}\u{15}{{\"type\":\"subscribed\"}}",
            derive_accept_key(key.as_bytes())
        ),
        None => {
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}".to_owned()
        }
    };
    let answer: Vec<u8> = answer.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect();
    stream.write_all(&answer).expect("sent");
    // Until the other side hangs up.
    while stream.read(&mut byte).is_ok_and(|count| count > 0) {}
}

/// The system's trust cannot be changed within a process, so the test runs a second time in one of its own.
#[test]
fn a_trusted_service_is_spoken_to() {
    if let Ok(url) = std::env::var(URL_VARIABLE) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = client(&url);
            assert_eq!(client.health().await.expect("health").status.as_deref(), Some("ok"));
            let events = Events::start(&client, Subscription::default());
            let event = events.listen().0.next().await;
            assert!(matches!(event, AtsEvent::Connected), "{event:?}");
        });
        return;
    }
    let (address, authority) = start();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), authority).expect("written");
    let test = std::thread::current().name().expect("a name").to_owned();
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args([&test, "--exact", "--nocapture"])
        .env(URL_VARIABLE, format!("https://{address}"))
        .env("SSL_CERT_FILE", file.path())
        .env_remove("SSL_CERT_DIR")
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{complaint}");
}

#[tokio::test]
async fn an_authority_in_a_file_of_ones_own_is_trusted_too() {
    let (address, authority) = start();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let settings = Settings {
        web: WebSettings::new(&HashMap::new(), Some(file.path().to_owned())),
        ..settings(&format!("https://{address}"))
    };
    for (content, said) in [("", "none in PEM"), ("-----BEGIN CERTIFICATE-----\n=\n", "ATS_P2P_CA")] {
        std::fs::write(file.path(), content).expect("written");
        let error = Client::new(settings.clone()).expect_err("no authority").to_string();
        assert!(error.contains(said), "{error}");
    }
    std::fs::write(file.path(), authority).expect("written");
    let client = Client::with_policy(settings.clone(), policy()).expect("a client");
    assert_eq!(client.health().await.expect("health").status.as_deref(), Some("ok"));
    let events = Events::start(&client, Subscription::default());
    let event = events.listen().0.next().await;
    assert!(matches!(event, AtsEvent::Connected), "{event:?}");
    let missing =
        Settings { web: WebSettings::new(&HashMap::new(), Some("/nowhere.pem".into())), ..settings };
    assert!(Client::new(missing).expect_err("missing").to_string().contains("/nowhere.pem"));
}

#[tokio::test]
async fn whom_node_trusts_is_trusted_and_a_file_that_cannot_be_read_is_left_out() {
    let (address, authority) = start();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), authority).expect("written");
    let client = |path: &str| {
        let vars = HashMap::from([("NODE_EXTRA_CA_CERTS".to_owned(), path.to_owned())]);
        let settings = settings(&format!("https://{address}"));
        let settings = Settings { web: WebSettings::new(&vars, None), ..settings };
        Client::with_policy(settings, policy()).expect("a client")
    };
    let trusting = client(file.path().to_str().expect("text"));
    assert_eq!(trusting.health().await.expect("health").status.as_deref(), Some("ok"));
    let error = client("/nowhere.pem").health().await.expect_err("not trusted");
    assert!(matches!(error, AtsError::Untrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn a_service_that_nobody_vouches_for_is_not() {
    let (address, _) = start();
    let client = client(&format!("https://{address}"));
    let error = client.health().await.expect_err("not trusted");
    assert!(matches!(error, AtsError::Untrusted { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("certificate") && text.contains("NODE_EXTRA_CA_CERTS"), "{text}");
    assert!(!text.contains("running"), "{text}");
    let events = Events::start(&client, Subscription::default());
    match events.listen().0.next().await {
        AtsEvent::Disconnected { error } => assert!(error.to_string().contains("certificate"), "{error}"),
        other => panic!("not disconnected but {other:?}"),
    }
}

#[tokio::test]
async fn a_service_without_tls_is_not_mistaken_for_one_with() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let client = Client::with_policy(settings(&url), policy()).expect("a client");
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let refusal = b"HTTP/1.1 400 Bad Request\r\n\r\n";
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, refusal).await;
        }
    });
    let error = client.health().await.expect_err("no TLS");
    assert!(matches!(error, AtsError::Unreachable { .. }), "{error:?}");
    serving.abort();
}
