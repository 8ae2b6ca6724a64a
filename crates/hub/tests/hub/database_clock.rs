//! Hubs whose database has another time than they: that of the database holds. It stands still here until a
//! test sets it.

use std::time::{Duration, SystemTime};

use hub::{Hub, HubKeys, PostgresUrl};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;

use crate::postgres::Server;
use crate::shared::{database_of, start, watch_all};
use crate::support::{Caller, Listener, PATIENCE, rfc3339};
use crate::valve::Valve;

/// Puts a clock that is an hour ahead in the place of the server's, for all who connect to the database
/// later.
const OTHER_CLOCK: &str = "
    CREATE TABLE test_clock (at TIMESTAMPTZ NOT NULL);
    INSERT INTO test_clock VALUES (date_trunc('milliseconds', now() + INTERVAL '1 hour'));
    CREATE FUNCTION public.clock_timestamp() RETURNS TIMESTAMPTZ LANGUAGE sql VOLATILE
        AS 'SELECT at FROM public.test_clock';
    ALTER DATABASE shared SET search_path = public, pg_catalog;";

/// A database with such a clock.
struct Place {
    server: Server,
    url: String,
    connection: PgConnection,
    dir: tempfile::TempDir,
}

impl Place {
    async fn start() -> Option<Self> {
        let server = Server::start()?;
        let url = database_of(&server).await;
        let options: PgConnectOptions = url.parse().expect("a URL");
        let mut connection = options.connect().await.expect("connected");
        sqlx::raw_sql(OTHER_CLOCK).execute(&mut connection).await.expect("run");
        let dir = tempfile::tempdir().expect("a temporary folder");
        Some(Self { server, url, connection, dir })
    }

    async fn hub(&self, name: &str, url: &str) -> Hub {
        start(&self.dir.path().join(name), url).await.expect("a hub")
    }

    /// The time of the database.
    async fn now(&mut self) -> SystemTime {
        let millis: i64 =
            sqlx::query_scalar("SELECT CAST(EXTRACT(EPOCH FROM at) * 1000 AS BIGINT) FROM test_clock")
                .fetch_one(&mut self.connection)
                .await
                .expect("read");
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis.unsigned_abs())
    }

    /// Sets the time of the database to later.
    async fn pass(&mut self, seconds: u32) {
        sqlx::query("UPDATE test_clock SET at = at + make_interval(secs => $1)")
            .bind(f64::from(seconds))
            .execute(&mut self.connection)
            .await
            .expect("set");
    }

    /// How many events are kept for hubs that have not read them.
    async fn events(&mut self) -> i64 {
        let count = sqlx::query_scalar("SELECT COUNT(*) FROM event_log");
        count.fetch_one(&mut self.connection).await.expect("read")
    }

    /// Waits until none is.
    async fn until_forgotten(&mut self) {
        let forgotten = async {
            while self.events().await > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(2 * PATIENCE, forgotten).await.expect("forgotten in time");
    }
}

/// A time as a task has it.
fn time(value: &Value) -> SystemTime {
    OffsetDateTime::parse(value.as_str().expect("a time"), &Rfc3339).expect("RFC 3339").into()
}

async fn next(listeners: &mut [Listener; 2], expected: (&str, i64)) {
    for listener in listeners {
        let (event, id) = listener.next_event().await;
        assert_eq!((event.as_str(), id), expected);
    }
}

#[tokio::test]
async fn claims_offers_and_keys_are_over_when_the_database_says_so() {
    const LEASE: Duration = Duration::from_secs(60);
    let Some(mut place) = Place::start().await else { return };
    let hubs = [place.hub("one", &place.url).await, place.hub("other", &place.url).await];
    let [a, b] = [Caller::new(hubs[0].local_addr(), "a"), Caller::new(hubs[1].local_addr(), "b")];
    let mut listeners = [watch_all(&a).await, watch_all(&b).await];
    let began = place.now().await;

    let claimed = a.make_task(json!({"title": "claimed"})).await;
    let path = format!("/tasks/{claimed}/claim");
    let task = a.post(&path, json!({"lease_duration": 60_000})).await["task"].clone();
    assert_eq!((time(&task["created_at"]), time(&task["lease_expires"])), (began, began + LEASE));
    let expires_at = rfc3339(began + Duration::from_secs(90));
    let payload = json!({ "expires_at": expires_at });
    let offered = a.make_task(json!({"title": "o", "type": "file_offer", "payload": payload})).await;
    for expected in [("task.created", claimed), ("task.claimed", claimed), ("task.created", offered)] {
        next(&mut listeners, expected).await;
    }
    let url = PostgresUrl::parse(&place.url).expect("a URL");
    let mut keys = HubKeys::open(&place.dir.path().join("one"), Some(&url)).await.expect("keys");
    let key = keys.create("a", false, Some(Duration::from_secs(120))).await.expect("a key");
    keys.close().await.expect("closed");
    let status = async |hub: &Hub| {
        let holder = Caller::new(hub.local_addr(), "a").with_key(key.expose());
        holder.call(Method::GET, "/tasks", None).await.0
    };

    // A second before its end nobody else gets it, at either hub; then both know that it is over.
    place.pass(59).await;
    assert_eq!(b.call(Method::POST, &path, Some(json!({}))).await.0, 409);
    place.pass(2).await;
    next(&mut listeners, ("task.lease_expired", claimed)).await;
    assert_eq!(b.call(Method::POST, &path, Some(json!({}))).await.0, 200);
    next(&mut listeners, ("task.claimed", claimed)).await;
    // A moment after its time.
    place.pass(40).await;
    next(&mut listeners, ("task.cancelled", offered)).await;
    for hub in &hubs {
        assert_eq!(status(hub).await, 200);
    }
    place.pass(60).await;
    for hub in &hubs {
        let over = async { while status(hub).await != 401 {} };
        timeout(PATIENCE, over).await.expect("over in time");
    }
    for hub in hubs {
        hub.shutdown().await;
    }
}

#[tokio::test]
async fn events_that_all_hubs_have_told_are_forgotten_and_one_that_missed_some_starts_anew() {
    let Some(mut place) = Place::start().await else { return };
    let valve = Valve::start(place.server.address()).await;
    let by_valve = format!("postgres://hub@{}/shared", valve.address);
    let hubs = [place.hub("apart", &by_valve).await, place.hub("other", &place.url).await];
    let [a, b] = [Caller::new(hubs[0].local_addr(), "a"), Caller::new(hubs[1].local_addr(), "b")];
    let mut listeners = [watch_all(&a).await, watch_all(&b).await];
    let told = b.make_task(json!({"title": "told"})).await;
    next(&mut listeners, ("task.created", told)).await;
    assert_eq!(place.events().await, 1);
    place.pass(61).await;
    place.until_forgotten().await;
    // Nobody missed anything by that.
    let told = a.make_task(json!({"title": "told, too"})).await;
    next(&mut listeners, ("task.created", told)).await;

    valve.shut();
    let missed = b.make_task(json!({"title": "missed"})).await;
    let [mut at_one, mut at_other] = listeners;
    assert_eq!(at_other.next_event().await, ("task.created".into(), missed));
    place.pass(61).await;
    place.until_forgotten().await;
    valve.open();
    // Whoever watches there has to list.
    let ended = async { while at_one.try_next().await.is_some() {} };
    timeout(6 * PATIENCE, ended).await.expect("an end in time");
    let mut at_one = watch_all(&a).await;
    assert_eq!(a.get(&format!("/tasks/{missed}")).await["task"]["title"], "missed");
    let told = b.make_task(json!({"title": "told again"})).await;
    assert_eq!(at_one.next_event().await, ("task.created".into(), told));
    for hub in hubs {
        hub.shutdown().await;
    }
}
