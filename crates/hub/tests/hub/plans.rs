//! How PostgreSQL goes about the lists of a hub with many tasks: whatever is asked for, each statement reads
//! a bounded number of rows by an index.

use std::fmt;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::filled::{self, LISTS, PAGE, SLOWER};
use crate::postgres::Server;
use crate::shared::{database_of, start};
use crate::support::Caller;

/// How many tasks there are: many more than may be read.
const TASKS: u64 = 40_000;
/// How many rows of a table one statement may read: the 5,000 that are looked at for a page, with the few
/// that an index of more has between them, or those before an offset of 20,000 where nothing is left out.
const MAX_ROWS: f64 = 6_000.0;
const MAX_OFFSET_ROWS: f64 = 20_200.0;
/// How often each list is asked for. A statement that was run five times may get a plan for any values.
const ROUNDS: usize = 7;
/// Has the server tell all who connect from now on how it went about each statement, and how many rows that
/// read.
const TELL_PLANS: &str = "
    ALTER DATABASE shared SET session_preload_libraries = 'auto_explain';
    ALTER DATABASE shared SET auto_explain.log_min_duration = 0;
    ALTER DATABASE shared SET auto_explain.log_analyze = on;
    ALTER DATABASE shared SET auto_explain.log_timing = off;
    ALTER DATABASE shared SET auto_explain.log_format = 'json';
    ALTER DATABASE shared SET auto_explain.log_level = 'notice';";

/// What the server tells this thread's connections.
#[derive(Clone, Default)]
struct Notices(Arc<Mutex<Vec<String>>>);

impl Notices {
    /// The plans since this was called last.
    fn plans(&self) -> Vec<Value> {
        let said = std::mem::take(&mut *self.0.lock().expect("a lock"));
        let plan = |text: &String| serde_json::from_str(text.split_once("plan:")?.1).ok();
        said.iter().filter_map(plan).collect()
    }
}

impl Subscriber for Notices {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::postgres::notice"
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Message(&self.0));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Keeps the message of an event.
struct Message<'a>(&'a Mutex<Vec<String>>);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.lock().expect("a lock").push(format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// What is wrong with a plan and those below it, as names of steps.
fn faults(plan: &Value, max_rows: f64, found: &mut Vec<String>) {
    let number = |name: &str| plan[name].as_f64().unwrap_or_default();
    if let (Some(step), Some(table)) = (plan["Node Type"].as_str(), plan["Relation Name"].as_str()) {
        let gone = number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
        let read = (number("Actual Rows") + gone) * number("Actual Loops");
        if (table == "tasks" && step == "Seq Scan") || read > max_rows {
            found.push(format!("{step} reads {read} rows of {table}"));
        }
    }
    for below in plan["Plans"].as_array().into_iter().flatten() {
        faults(below, max_rows, found);
    }
}

#[tokio::test]
async fn no_list_on_postgresql_reads_through_the_tasks() {
    let Some(server) = Server::start() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let url = database_of(&server).await;
    start(dir.path(), &url).await.expect("a hub").shutdown().await;
    let options: PgConnectOptions = url.parse().expect("a URL");
    let mut connection = options.connect().await.expect("connected");
    let payload = json!({"filename": "data.csv", "size": 1_000_000}).to_string();
    let statements = filled::statements(TASKS, &payload);
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.expect("filled");
    // What PostgreSQL does by itself, a minute later.
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut connection).await.expect("looked over");
    sqlx::raw_sql(TELL_PLANS).execute(&mut connection).await.expect("set");

    let notices = Notices::default();
    let _heard = tracing::subscriber::set_default(notices.clone());
    let hub = start(dir.path(), &url).await.expect("a hub");
    let mut keys = hub::HubKeys::open(dir.path(), Some(&hub::PostgresUrl::parse(&url).expect("a URL")))
        .await
        .expect("keys");
    let key = keys.create("worker-7", false, None).await.expect("a key");
    keys.close().await.expect("closed");
    let all = Caller::new(hub.local_addr(), "");
    let own = Caller::new(hub.local_addr(), "worker-7").with_key(key.expose());
    let lists = LISTS.map(|query| format!("/tasks?{query}"));
    let mut faulty = Vec::new();
    for path in lists.iter().map(String::as_str).chain(PAGE).chain(SLOWER) {
        for (who, caller) in [("all", &all), ("own", &own)] {
            notices.plans();
            for _ in 0..ROUNDS {
                caller.get(path).await;
            }
            let plans = notices.plans();
            let is_quiet = path == "/page/connected";
            assert!(plans.len() >= if is_quiet { 0 } else { ROUNDS }, "{path}: {} plans", plans.len());
            let max_rows = if path.contains("offset") { MAX_OFFSET_ROWS } else { MAX_ROWS };
            for plan in plans {
                let mut found = Vec::new();
                faults(&plan["Plan"], max_rows, &mut found);
                if !found.is_empty() {
                    faulty.push(format!("{path} ({who}): {found:?} for {}", plan["Query Text"]));
                }
            }
        }
    }
    faulty.dedup();
    assert!(faulty.is_empty(), "{}", faulty.join("\n"));
    hub.shutdown().await;
}
