//! How long lists and claims take in a hub that holds many tasks.

use std::path::Path;
use std::time::Instant;

use hub::Hub;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use crate::Plan;
use crate::client::Client;
use crate::creates::offer;
use crate::figures::Times;
use crate::filled::{self, LISTS, PAGE, SLOWER};

/// How long the slowest of a hundred may take, milliseconds; only `cargo bench` is held to it.
const TARGET: f64 = 20.0;

pub(crate) async fn run(plan: &Plan) {
    let dir = tempfile::tempdir_in(&plan.data).expect("a temporary folder");
    let config = plan.hub(dir.path());
    Hub::start(config.clone()).await.expect("a hub").shutdown().await;
    let started = Instant::now();
    fill(plan, &dir.path().join("hub/hub.sqlite")).await;
    println!("{} tasks stored in {:.0} s", plan.tasks, started.elapsed().as_secs_f64());
    let started = Instant::now();
    let hub = Hub::start(config).await.expect("a hub");
    println!("started on them in {:.0} ms", started.elapsed().as_secs_f64() * 1000.0);

    let mut slow = Vec::new();
    let rounds = if plan.tasks < 100_000 { 3 } else { 200 };
    let mut client = Client::connect(hub.local_addr(), "b").await;
    let lists = LISTS.map(|query| format!("/tasks?{query}")).into_iter().chain(PAGE.map(str::to_owned));
    for path in lists {
        let mut times = repeat(&mut client, &path, rounds).await;
        if times.quantile(0.99) > TARGET {
            slow.push(path);
        }
    }
    for path in SLOWER {
        repeat(&mut client, path, rounds.min(20)).await;
    }
    let mut times = Times::default();
    for count in 0..rounds {
        let made = client.json("POST", "/tasks", &offer("b", 0, count)).await;
        let path = format!("/tasks/{}/claim", made["task"]["id"]);
        let started = Instant::now();
        client.json("POST", &path, "{}").await;
        times.add(started.elapsed());
    }
    println!("claim: {}", times.summary());
    if times.quantile(0.99) > TARGET {
        slow.push("claim".to_owned());
    }
    hub.shutdown().await;
    if rounds > 100 && !slow.is_empty() {
        println!("above {TARGET} ms: {}", slow.join(", "));
    }
}

/// How long a read takes, again and again.
async fn repeat(client: &mut Client, path: &str, rounds: u64) -> Times {
    let mut times = Times::default();
    for _ in 0..rounds {
        let started = Instant::now();
        client.json("GET", path, "").await;
        times.add(started.elapsed());
    }
    println!("{path}: {}", times.summary());
    times
}

/// Puts tasks into the database.
async fn fill(plan: &Plan, file: &Path) {
    let payload =
        serde_json::from_str::<serde_json::Value>(&offer("a", 1, 1)).expect("JSON")["payload"].clone();
    let payload = json!(payload).to_string();
    let statements = filled::statements(plan.tasks, &payload);
    match &plan.database_url {
        None => {
            let options = SqliteConnectOptions::new().filename(file);
            let mut connection = options.connect().await.expect("opened");
            sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.expect("filled");
            connection.close().await.expect("closed");
        }
        Some(url) => {
            let options: PgConnectOptions = url.parse().expect("a URL");
            let mut connection = options.connect().await.expect("connected");
            sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.expect("filled");
            // What PostgreSQL does by itself, a minute later.
            sqlx::raw_sql("VACUUM ANALYZE").execute(&mut connection).await.expect("looked over");
            connection.close().await.expect("closed");
        }
    }
}
