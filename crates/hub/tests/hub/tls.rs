//! A hub that speaks TLS.

use std::path::Path;

use hub::TlsFiles;
use reqwest::Certificate;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::certificate::Certified;
use crate::support::{Caller, PATIENCE, TestHub};

/// Puts a certificate for the loopback address into a folder, made by an authority of its own; gives that.
fn certify(dir: &Path) -> Certificate {
    let Certified { authority, certificate, key } = Certified::make();
    std::fs::write(dir.join("cert.pem"), certificate).expect("written");
    std::fs::write(dir.join("key.pem"), key).expect("written");
    Certificate::from_pem(authority.as_bytes()).expect("a certificate")
}

/// A caller who trusts that authority alone.
fn trusting(hub: &TestHub, actor: &str, authority: &Certificate) -> Caller {
    // A provider for the whole process; another test may have been faster.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).tls_certs_only([authority.clone()]);
    let mut caller = hub.caller(actor);
    caller.http = http.build().expect("an HTTP client");
    caller.base = format!("https://{}", hub.hub.local_addr());
    caller
}

async fn start(dir: &Path) -> TestHub {
    let files = TlsFiles { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
    TestHub::start_with(|config| config.tls = Some(files)).await
}

#[tokio::test]
async fn a_key_travels_over_the_hubs_own_tls() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let authority = certify(dir.path());
    let hub = start(dir.path()).await;
    assert!(hub.hub.urls()[0].starts_with("https://"), "{:?}", hub.hub.urls());
    let key = hub.key("b", false).await;
    let b = trusting(&hub, "b", &authority).elsewhere().with_key(&key);
    let id = b.make_task(json!({ "title": "t" })).await;
    assert_eq!(b.get(&format!("/tasks/{id}")).await["task"]["source_id"], "b");
    assert_eq!(
        trusting(&hub, "b", &authority).elsewhere().call(reqwest::Method::GET, "/tasks", None).await.0,
        401
    );
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_used_by_the_running_hub() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let first = certify(dir.path());
    let hub = start(dir.path()).await;
    trusting(&hub, "b", &first).get("/health").await;
    let second = certify(dir.path());
    let started = Instant::now();
    let health = format!("https://{}/health", hub.hub.local_addr());
    // Each asks over a connection of its own.
    while trusting(&hub, "b", &second).http.get(&health).send().await.is_err() {
        assert!(started.elapsed() < PATIENCE, "the old certificate is still in use");
        sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(trusting(&hub, "b", &first).http.get(&health).send().await.is_err());
}

#[tokio::test]
async fn who_speaks_plain_http_to_a_hub_with_tls_is_told_so() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    certify(dir.path());
    let hub = start(dir.path()).await;
    let mut stream = TcpStream::connect(hub.hub.local_addr()).await.expect("a connection");
    stream.write_all(b"GET /tasks HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
}
