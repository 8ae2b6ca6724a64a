//! The names that a hub goes by, and whose word it takes on where requests come from.

use std::net::SocketAddr;

use hub::{parse_network, parse_public_url};

use crate::support::{TestHub, ask};

/// A hub that other machines reach, called over the loopback address.
async fn open_hub(public_url: Option<&str>) -> (TestHub, SocketAddr) {
    let public_url = public_url.map(|url| parse_public_url(url).expect("a URL"));
    let hub = TestHub::start_with(|config| {
        config.listen = SocketAddr::from(([0, 0, 0, 0], 0));
        config.public_url = public_url;
        config.allowed_hosts = vec!["other.example".into()];
        config.trusted_proxies = parse_network("127.0.0.1").into_iter().collect();
        config.access.open = true;
    })
    .await;
    let address = SocketAddr::from(([127, 0, 0, 1], hub.hub.local_addr().port()));
    (hub, address)
}

/// The name was checked on the loopback address alone.
#[tokio::test]
async fn a_name_that_a_page_points_at_a_hub_off_loopback_leads_nowhere() {
    let (hub, address) = open_hub(Some("https://hub.example")).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for more in ["", upgrade] {
        let path = if more.is_empty() { "/tasks" } else { "/ws" };
        let head = |host: &str| format!("GET {path} HTTP/1.1\r\n{more}Host: {host}");
        let answer = ask(address, &head("evil.example:8787")).await;
        assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
        assert!(answer.contains("--public-url http://evil.example:8787"), "{answer}");
        let from_page = format!("{}\r\nOrigin: http://evil.example", head("hub.example"));
        assert!(ask(address, &from_page).await.starts_with("HTTP/1.1 403"));
    }
    for host in ["hub.example", "other.example:8787", "127.0.0.1", "192.0.2.7:8787", "localhost"] {
        let answer = ask(address, &format!("GET /tasks HTTP/1.1\r\nHost: {host}")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
    }
    let absolute = "GET http://evil.example/tasks HTTP/1.1\r\nHost: localhost";
    assert!(ask(address, absolute).await.starts_with("HTTP/1.1 421"));
    hub.hub.shutdown().await;
}

/// It used to be told as `http://0.0.0.0:8787`, which leads nowhere from another machine.
#[tokio::test]
async fn the_urls_of_a_hub_on_all_addresses_can_be_called() {
    let (hub, address) = open_hub(None).await;
    let urls = hub.hub.urls();
    assert!(urls.contains(&format!("http://{address}")), "{urls:?}");
    for url in urls {
        let at: SocketAddr = url.trim_start_matches("http://").parse().expect("an address");
        let answer = ask(at, &format!("GET /health HTTP/1.1\r\nHost: {at}")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{url}: {answer}");
    }
    hub.hub.shutdown().await;
    let (hub, _) = open_hub(Some("https://hub.example/")).await;
    assert_eq!(hub.hub.urls(), ["https://hub.example"]);
    hub.hub.shutdown().await;
}

/// Agents elsewhere looked for their peers at these addresses of their own machines.
#[tokio::test]
async fn nodes_at_the_loopback_address_are_named_to_this_machine_alone() {
    let hub = TestHub::start_with(|config| {
        (config.dht, config.dht_port) = (true, 0);
        config.public_url = parse_public_url("https://hub.example");
        config.access.open = true;
    })
    .await;
    let address = hub.hub.local_addr();
    for (head, nodes) in [
        ("Host: 127.0.0.1", 4),
        ("Host: localhost:8787", 4),
        ("Host: hub.example", 0),
        // As a proxy asks that names the hub by the address which it calls.
        ("Host: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.9", 0),
        ("Host: localhost\r\nVia: 1.1 proxy", 0),
    ] {
        let answer = ask(address, &format!("GET /health HTTP/1.1\r\n{head}")).await;
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let health: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(health["p2p"]["bootstrap"].as_array().map(Vec::len), Some(nodes), "{head}: {health}");
        assert_eq!(health["p2p"]["relay"].is_string(), nodes > 0, "{head}: {health}");
        assert_eq!(health["p2p"]["tunnel"], true, "{head}: {health}");
    }
    hub.hub.shutdown().await;
}
