//! A hub whose database is reached over TLS.

use std::path::Path;

use serde_json::json;
use tokio::time::timeout;

use crate::certificate::Certified;
use crate::postgres::Server;
use crate::shared::{database_of, start};
use crate::support::{Caller, PATIENCE};

/// The URL of the database by which only a server with a certificate of that authority is taken for it.
fn verifying(url: &str, authority: &Path) -> String {
    format!("{url}?sslmode=verify-full&sslrootcert={}", authority.display())
}

/// How many connections of hubs there are with TLS and without.
async fn connections(url: &str) -> (i64, i64) {
    let options: sqlx::postgres::PgConnectOptions = url.parse().expect("a URL");
    let mut connection = sqlx::ConnectOptions::connect(&options).await.expect("connected");
    sqlx::query_as(
        "SELECT COUNT(*) FILTER (WHERE ssl), COUNT(*) FILTER (WHERE NOT ssl) FROM pg_stat_ssl \
         JOIN pg_stat_activity USING (pid) WHERE application_name = 'ats-p2p hub'",
    )
    .fetch_one(&mut connection)
    .await
    .expect("read")
}

#[tokio::test]
async fn a_hub_speaks_tls_with_its_database_and_takes_no_other_server_for_it() {
    let certified = Certified::make();
    let Some(server) = Server::start_with_tls(&certified.certificate, &certified.key) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (known, other) = (dir.path().join("authority.pem"), dir.path().join("other.pem"));
    std::fs::write(&known, &certified.authority).expect("written");
    std::fs::write(&other, Certified::make().authority).expect("written");
    let url = database_of(&server).await;

    let hub = start(&dir.path().join("hub"), &verifying(&url, &known)).await.expect("a hub");
    let a = Caller::new(hub.local_addr(), "a");
    let id = a.make_task(json!({"title": "by TLS"})).await;
    assert_eq!(a.get(&format!("/tasks/{id}")).await["task"]["title"], "by TLS");
    // That which writes, one that reads, and the two that follow what happens, which may be on their way yet.
    let all = async {
        loop {
            let (encrypted, plain) = connections(&url).await;
            assert_eq!(plain, 0, "without TLS, and {encrypted} with it");
            if encrypted >= 4 {
                break;
            }
        }
    };
    timeout(PATIENCE, all).await.expect("four connections");
    hub.shutdown().await;

    let secret = url.replace("hub@", "hub:s3cret@");
    let elsewhere = secret.replace("127.0.0.1", "localhost");
    for (url, authority) in [(&secret, &other), (&elsewhere, &known)] {
        let refused = start(&dir.path().join("hub"), &verifying(url, authority)).await;
        let said = refused.expect_err("another server").to_string();
        assert!(said.to_lowercase().contains("certificate") && !said.contains("s3cret"), "{said}");
    }
}

#[tokio::test]
async fn a_database_without_tls_gets_nothing_that_was_meant_to_be_encrypted() {
    let Some(server) = Server::start() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let authority = dir.path().join("authority.pem");
    std::fs::write(&authority, Certified::make().authority).expect("written");
    let url = database_of(&server).await;
    let refused = start(&dir.path().join("hub"), &verifying(&url, &authority)).await;
    let said = refused.expect_err("no TLS").to_string();
    assert!(said.to_lowercase().contains("tls"), "{said}");
    assert_eq!(connections(&url).await, (0, 0));
}
