//! Services behind a proxy of the web.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use ats_p2p::ats::{AtsError, AtsEvent, Client, Events, Settings, Subscription, WebSettings};
use hub::{AccessConfig, Hub, HubConfig};

use crate::fake::{policy, settings};
use crate::proxy::{Manner, Proxy};

/// `me:hu@sh`.
const PASSWORD: &str = "bWU6aHVAc2g=";

async fn hub(dir: &Path) -> Hub {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    // It is asked for by a name that only the proxy knows.
    let allowed_hosts = vec!["hub.test".to_owned()];
    Hub::start(HubConfig {
        listen,
        dht: false,
        allowed_hosts,
        access: AccessConfig { open: true, ..AccessConfig::default() },
        ..HubConfig::new(dir.join("hub"))
    })
    .await
    .expect("a hub")
}

/// A client that is sent to `url`, in an environment with these variables.
fn client(url: &str, vars: &[(&str, String)]) -> Client {
    let vars: HashMap<_, _> = vars.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let settings = Settings { web: WebSettings::new(&vars, None), api_key: None, ..settings(url) };
    Client::with_policy(settings, policy()).expect("a client")
}

fn at(proxy: &Proxy) -> String {
    format!("http://{}", proxy.address())
}

#[tokio::test]
async fn requests_and_events_of_a_service_go_through_the_proxy() {
    let dir = tempfile::tempdir().expect("a folder");
    let hub = hub(dir.path()).await;
    let proxy =
        Proxy::start(hub.local_addr(), Manner { password: Some(PASSWORD), ..Manner::default() }).await;
    let named = format!("http://me:hu%40sh@{}", proxy.address());
    let client = client("http://hub.test", &[("HTTP_PROXY", named)]);
    assert_eq!(client.health().await.expect("health").status.as_deref(), Some("ok"));
    let events = Events::start(&client, Subscription::default());
    let event = events.listen().0.next().await;
    assert!(matches!(event, AtsEvent::Connected), "{event:?}");
    let asked = proxy.asked();
    assert!(asked.contains(&"GET http://hub.test/health".to_owned()), "{asked:?}");
    // Many proxies let no WebSocket through that they can look into.
    assert!(asked.contains(&"CONNECT hub.test:80".to_owned()), "{asked:?}");
    events.end().await;
    hub.shutdown().await;
}

#[tokio::test]
async fn what_is_in_the_way_is_said_with_the_proxy_and_its_variable() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let refuses =
        Manner { refusal: Some("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), ..Manner::default() };
    let asks = Manner { password: Some(PASSWORD), ..Manner::default() };
    for (manner, of_request, of_events) in [
        (asks, "407", "asks for a name and a password (407)"),
        (refuses, "403", "does not let it through: 403 Forbidden"),
    ] {
        let proxy = Proxy::start(nowhere, manner).await;
        let client = client("http://hub.test", &[("http_proxy", at(&proxy))]);
        let error = client.health().await.expect_err("not let through").to_string();
        assert!(error.contains(of_request), "{error}");
        let events = Events::start(&client, Subscription::default());
        let AtsEvent::Disconnected { error } = events.listen().0.next().await else { panic!("let through") };
        assert!(matches!(error, AtsError::Proxy { variable: "http_proxy", .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&at(&proxy)) && text.contains(of_events), "{text}");
        events.end().await;
    }
}

#[tokio::test]
async fn a_proxy_before_https_that_refuses_or_is_not_there_is_named() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let asks = Manner { password: Some(PASSWORD), ..Manner::default() };
    let proxy = Proxy::start(nowhere, asks).await;
    let gone = {
        let proxy = Proxy::start(nowhere, Manner::default()).await;
        at(&proxy)
    };
    for (proxy, said) in [(at(&proxy), "authorization required"), (gone, "refused")] {
        let client = client("https://hub.test", &[("HTTPS_PROXY", proxy.replace("//", "//me:hush@"))]);
        let error = client.health().await.expect_err("not let through");
        assert!(matches!(error, AtsError::Proxy { variable: "HTTPS_PROXY", .. }), "{error:?}");
        let error = error.to_string();
        assert!(error.contains(&proxy) && error.contains(said) && !error.contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn this_machine_and_what_is_excepted_are_reached_without_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let hub = hub(dir.path()).await;
    let proxy = Proxy::start(hub.local_addr(), Manner::default()).await;
    let client = client(&format!("http://{}", hub.local_addr()), &[("HTTP_PROXY", at(&proxy))]);
    client.health().await.expect("health");
    assert_eq!(proxy.asked(), Vec::<String>::new());
    let excepted = [("HTTP_PROXY", at(&proxy)), ("NO_PROXY", ".test".to_owned())];
    let error = self::client("http://hub.test", &excepted).health().await.expect_err("no such host");
    assert!(matches!(error, AtsError::Unreachable { .. }), "{error:?}");
    assert_eq!(proxy.asked(), Vec::<String>::new());
    hub.shutdown().await;
}

#[test]
fn what_names_no_proxy_is_refused_before_anything_is_sent() {
    let vars = HashMap::from([("ALL_PROXY".to_owned(), "gopher://me:hush@proxy".to_owned())]);
    let settings =
        Settings { web: WebSettings::new(&vars, None), api_key: None, ..settings("http://hub.test") };
    let error = Client::new(settings).expect_err("no proxy").to_string();
    assert!(error.contains("ALL_PROXY") && !error.contains("hush"), "{error}");
}
