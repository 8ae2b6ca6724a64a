//! Several hubs on one PostgreSQL database.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use hub::{Error, Hub, HubConfig, PostgresUrl};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::database;
use crate::postgres::Server;
use crate::support::{Caller, Listener, PATIENCE};

/// How soon a hub is well again once its database is.
const RECOVERY: Duration = Duration::from_secs(2);
const TO_BE_KILLED: &str = "shared::of_two_hubs_one_is_killed_and_the_other_goes_on_without_a_gap";
/// Name the database and the folder of a hub, in the process that is killed with it.
const DATABASE: &str = "HUB_SHARED_DATABASE";
const FOLDER: &str = "HUB_SHARED_FOLDER";

/// The URL of a database that hubs share, made if there is none.
pub(crate) async fn database_of(server: &Server) -> String {
    database::make(&server.url(), "shared").await;
    format!("{}/shared", server.url())
}

pub(crate) async fn start(folder: &Path, url: &str) -> Result<Hub, Error> {
    let database = Some(PostgresUrl::parse(url).expect("a URL"));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    Hub::start(HubConfig { listen, dht: false, database, ..HubConfig::new(folder) }).await
}

/// Two hubs with a folder each.
async fn two_hubs(server: &Server) -> (Hub, Hub, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let url = database_of(server).await;
    // At once, so that both find no tables.
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    let (a, b) = tokio::join!(start(&one, &url), start(&other, &url));
    (a.expect("a hub"), b.expect("a hub"), dir)
}

pub(crate) async fn watch_all(caller: &Caller) -> Listener {
    caller.subscribe(json!({"type": "subscribe"})).await
}

async fn claim(caller: &Caller, id: i64) -> u16 {
    caller.call(Method::POST, &format!("/tasks/{id}/claim"), Some(json!({}))).await.0
}

#[tokio::test]
async fn two_hubs_on_one_database_tell_the_watchers_of_both_and_give_each_task_to_one() {
    const TASKS: usize = 30;
    let Some(server) = Server::start() else { return };
    let (one, other, _dir) = two_hubs(&server).await;
    let (a, b) = (Caller::new(one.local_addr(), "a"), Caller::new(other.local_addr(), "b"));
    let (mut at_one, mut at_other) = (watch_all(&a).await, watch_all(&b).await);
    let makers = (0..TASKS).map(|n| {
        let maker = if n % 2 == 0 { &a } else { &b };
        maker.make_task(json!({ "title": n.to_string() }))
    });
    let made = join_all(makers).await;
    let races = made.iter().map(|&id| {
        let (a, b) = (&a, &b);
        async move { tokio::join!(claim(a, id), claim(b, id)) }
    });
    for race in join_all(races).await {
        assert!(matches!(race, (200, 409) | (409, 200)), "{race:?}");
    }
    let message = json!({"parts": [{"type": "text", "content": "from the other"}]});
    b.post(&format!("/tasks/{}/messages", made[0]), message).await;
    // Each made and claimed, and the message: the same, in the same order, at both.
    let mut of_tasks: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    let mut last = Value::Null;
    for _ in 0..2 * TASKS + 1 {
        let (here, there) = (at_one.next().await, at_other.next().await);
        assert_eq!(here, there);
        let id = here["data"]["task"]["id"].as_i64().expect("an id");
        of_tasks.entry(id).or_default().push(here["type"].as_str().expect("a type").to_owned());
        last = here;
    }
    assert_eq!(last["data"]["message"]["parts"][0]["content"], "from the other");
    assert_eq!((&last["type"], &last["actor_name"]), (&json!("task.message"), &json!("B")));
    assert_eq!(of_tasks.len(), TASKS);
    for (id, events) in of_tasks {
        assert_eq!(events[..2], ["task.created", "task.claimed"], "task {id}");
    }
    one.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn what_a_hub_on_the_same_database_revokes_opens_nothing_here() {
    let Some(server) = Server::start() else { return };
    let (one, other, dir) = two_hubs(&server).await;
    let url = PostgresUrl::parse(&database_of(&server).await).expect("a URL");
    let mut keys = hub::HubKeys::open(&dir.path().join("one"), Some(&url)).await.expect("keys");
    let key = keys.create("a", false, None).await.expect("a key");
    for hub in [&one, &other] {
        let caller = Caller::new(hub.local_addr(), "a").with_key(key.expose());
        assert_eq!(caller.call(Method::GET, "/tasks", None).await.0, 200);
    }
    keys.revoke(key.id).await.expect("revoked");
    keys.close().await.expect("closed");
    for hub in [&one, &other] {
        let caller = Caller::new(hub.local_addr(), "a").with_key(key.expose());
        assert_eq!(caller.call(Method::GET, "/tasks", None).await.0, 401);
    }
    one.shutdown().await;
    other.shutdown().await;
}

/// A hub in a process of its own, which is killed with this.
pub(crate) struct HubProcess {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// What the time of day was there when it had started.
    pub time: SystemTime,
}

impl Drop for HubProcess {
    fn drop(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }
}

impl HubProcess {
    /// Runs a test, which must call [`serve_if_started`] first, as a hub with these variables besides.
    pub(crate) fn start(test: &str, folder: &Path, url: &str, variables: &[(&str, OsString)]) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", test, "--nocapture"])
            .env(FOLDER, folder)
            .env(DATABASE, url)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let said = BufReader::new(child.stdout.take().expect("its output"));
        let mut lines = said.lines().map(|line| line.expect("a line"));
        let said = lines.find_map(|line| Some(line.split_once("listening on ")?.1.to_owned()));
        let (address, time) = said.as_deref().and_then(|said| said.split_once(' ')).expect("a hub");
        let time = Duration::from_secs(time.parse().expect("a number"));
        let address = address.parse().expect("an address");
        Self { child, address, time: SystemTime::UNIX_EPOCH + time }
    }
}

/// Is a hub until it is killed, where this process was started to be one.
pub(crate) async fn serve_if_started() {
    let (Ok(url), Some(folder)) = (std::env::var(DATABASE), std::env::var_os(FOLDER)) else { return };
    let hub = start(Path::new(&folder), &url).await.expect("a hub");
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
    println!("listening on {} {time}", hub.local_addr());
    std::future::pending().await
}

/// What somebody knows who watches, and loses the hub.
#[derive(Default)]
struct Watcher {
    /// The status of each task.
    known: BTreeMap<i64, String>,
    /// The events at the first hub, and at the second.
    heard: [Vec<(String, i64)>; 2],
    /// How many those are.
    count: watch::Sender<usize>,
}

impl Watcher {
    /// Listens until the hub is gone, then moves to another: subscribes, lists, and listens on until the task
    /// of that title was made and the claim of the other is over.
    async fn watch(mut self, mut listener: Listener, next: Caller, last: &str, leased: i64) -> Self {
        while let Some(Ok(message)) = timeout(PATIENCE, listener.0.next()).await.expect("an end in time") {
            if let Message::Text(text) = message {
                self.hear(0, &serde_json::from_str(&text).expect("JSON"));
            }
        }
        let mut listener = watch_all(&next).await;
        self.known.extend(list(&next).await);
        let (mut has_last, mut is_over) = (false, false);
        while !(has_last && is_over) {
            let event = listener.next().await;
            self.hear(1, &event);
            has_last |= event["data"]["task"]["title"] == last;
            is_over = self.known.get(&leased).is_some_and(|status| status == "pending");
        }
        self
    }

    fn hear(&mut self, hub: usize, event: &Value) {
        let task = &event["data"]["task"];
        let id = task["id"].as_i64().expect("an id");
        self.known.insert(id, task["status"].as_str().expect("a status").to_owned());
        self.heard[hub].push((event["type"].as_str().expect("a type").to_owned(), id));
        self.count.send_modify(|count| *count += 1);
    }
}

/// The status of each task.
async fn list(caller: &Caller) -> BTreeMap<i64, String> {
    let mut listed = BTreeMap::new();
    let mut offset = Some(0);
    while let Some(at) = offset {
        let page = caller.get(&format!("/tasks?limit=500&sort_dir=asc&offset={at}")).await;
        for task in page["tasks"].as_array().expect("tasks") {
            let status = task["status"].as_str().expect("a status").to_owned();
            listed.insert(task["id"].as_i64().expect("an id"), status);
        }
        offset = page["next"].as_i64();
    }
    listed
}

#[tokio::test]
async fn of_two_hubs_one_is_killed_and_the_other_goes_on_without_a_gap() {
    serve_if_started().await;
    let Some(server) = Server::start() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let url = database_of(&server).await;
    let killed = HubProcess::start(TO_BE_KILLED, &dir.path().join("killed"), &url, &[]);
    let address = killed.address;
    let left = start(&dir.path().join("left"), &url).await.expect("a hub");
    let (a, b) = (Caller::new(address, "a"), Caller::new(left.local_addr(), "b"));
    let listener = watch_all(&a).await;
    let leased = a.make_task(json!({"title": "leased"})).await;
    a.post(&format!("/tasks/{leased}/claim"), json!({"lease_duration": 1500})).await;
    let watcher = Watcher::default();
    let mut heard = watcher.count.subscribe();
    let watcher = watcher.watch(listener, Caller::new(left.local_addr(), "w"), "last", leased);
    let watcher = tokio::spawn(watcher);

    // Both hubs make tasks and race for them until one of the hubs is gone.
    let users = (0..8).map(|n| {
        let (a, b) =
            (Caller::new(address, &format!("a{n}")), Caller::new(left.local_addr(), &format!("b{n}")));
        tokio::spawn(async move { use_both(&a, &b).await })
    });
    let users: Vec<_> = users.collect();
    let has_heard = timeout(PATIENCE, heard.wait_for(|count| *count >= 40)).await;
    has_heard.expect("events in time").expect("a watcher");
    drop(killed);
    let mut acknowledged = Vec::new();
    for user in users {
        acknowledged.extend(user.await.expect("a user"));
    }
    b.make_task(json!({"title": "last"})).await;
    let watcher = watcher.await.expect("a watcher");

    // It knows of each task what there is to know.
    assert_eq!(watcher.known, list(&b).await);
    for (id, winner) in &acknowledged {
        let task = &b.get(&format!("/tasks/{id}")).await["task"];
        assert_eq!(task["title"], "t", "task {id} was acknowledged");
        if let Some(winner) = winner {
            assert_eq!(task["assignee_id"], json!(winner), "task {id}");
        }
    }
    let options: sqlx::postgres::PgConnectOptions = url.parse().expect("a URL");
    let mut connection = sqlx::ConnectOptions::connect(&options).await.expect("connected");
    let trail: Vec<(String, i64)> = sqlx::query_as("SELECT event, task_id FROM audit ORDER BY id")
        .fetch_all(&mut connection)
        .await
        .expect("read");
    // What it heard is what was committed, in that order and without a hole, at either hub.
    let [at_killed, at_left] = watcher.heard;
    assert!(at_killed.len() >= 40 && trail.starts_with(&at_killed), "{at_killed:?} {trail:?}");
    assert!(trail.ends_with(&at_left), "{at_left:?} {trail:?}");
    // None was given to two.
    let mut claimed: Vec<i64> =
        trail.iter().filter(|(event, _)| event == "task.claimed").map(|(_, id)| *id).collect();
    let claims = claimed.len();
    claimed.sort_unstable();
    claimed.dedup();
    assert_eq!(claimed.len(), claims);
    left.shutdown().await;
}

/// Makes tasks and has two actors claim each at once, one at either hub, until a moment after one of the hubs
/// does not answer any more; gives the tasks that were acknowledged, with whoever got them.
async fn use_both(a: &Caller, b: &Caller) -> Vec<(i64, Option<String>)> {
    let mut acknowledged = Vec::new();
    let mut rounds_left = 5;
    while rounds_left > 0 {
        let made = b.make_task(json!({"title": "t"})).await;
        let path = format!("/tasks/{made}/claim");
        let (one, other) = tokio::join!(try_post(a, &path), try_post(b, &path));
        let winner = match (one, other) {
            (Some(200), Some(200)) => panic!("task {made} was given to both"),
            (Some(200), _) => Some(a.actor.clone()),
            (_, Some(200)) => Some(b.actor.clone()),
            _ => None,
        };
        acknowledged.push((made, winner));
        rounds_left -= usize::from(one.is_none());
    }
    acknowledged
}

/// The status of the answer, if there is one.
async fn try_post(caller: &Caller, path: &str) -> Option<u16> {
    let request = caller.http.post(format!("{}{path}", caller.base));
    let request = request.header("x-actor-type", "agent").header("x-actor-id", &caller.actor);
    let request = request.header("x-actor-name", &caller.actor).header("content-type", "application/json");
    request.body("{}").send().await.ok().map(|answer| answer.status().as_u16())
}

#[tokio::test]
async fn postgresql_is_stopped_and_started_under_two_hubs_and_both_come_back() {
    let Some(mut server) = Server::start() else { return };
    let (one, other, _dir) = two_hubs(&server).await;
    let callers = [Caller::new(one.local_addr(), "a"), Caller::new(other.local_addr(), "b")];
    let mut listeners = [watch_all(&callers[0]).await, watch_all(&callers[1]).await];
    let before = callers[0].make_task(json!({"title": "before"})).await;
    for listener in &mut listeners {
        assert_eq!(listener.next_event().await, ("task.created".into(), before));
    }
    for round in 0..3 {
        server.stop();
        for caller in &callers {
            let (status, answer) = caller.call(Method::POST, "/tasks", Some(json!({"title": "t"}))).await;
            assert!(matches!(status, 500 | 503), "{status} {answer}");
            let (status, answer) = caller.call(Method::GET, "/tasks", None).await;
            assert_eq!(status, 503, "{answer}");
            let (status, health) = caller.call(Method::GET, "/health", None).await;
            assert!(status == 503 && health["status"] != "ok" && health["reason"].is_string(), "{health}");
        }
        server.start_again();
        let started = Instant::now();
        for caller in &callers {
            while caller.call(Method::GET, "/health", None).await.0 != 200 {
                tokio::task::yield_now().await;
            }
            assert!(started.elapsed() < RECOVERY, "{:?}", started.elapsed());
        }
        // Whoever watched still does, at both.
        let id = callers[round % 2].make_task(json!({"title": "after"})).await;
        for listener in &mut listeners {
            assert_eq!(listener.next_event().await, ("task.created".into(), id));
        }
        assert_eq!(callers[1].get(&format!("/tasks/{before}")).await["task"]["title"], "before");
    }
    one.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_or_used_is_named_without_its_password() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    drop(taken);
    let error = start(dir.path(), &format!("postgres://hub:s3cret@127.0.0.1:{port}/tasks")).await;
    let said = error.expect_err("nobody there").to_string();
    assert!(
        said.contains(&format!("postgres://127.0.0.1:{port}/tasks")) && !said.contains("s3cret"),
        "{said}"
    );
    let Some(server) = Server::start() else { return };
    let error = start(dir.path(), &format!("{}/nowhere", server.url())).await;
    let said = error.expect_err("no such database").to_string();
    assert!(said.contains("\"nowhere\" does not exist"), "{said}");
    let url = database_of(&server).await;
    start(dir.path(), &url).await.expect("a hub").shutdown().await;
    let options: sqlx::postgres::PgConnectOptions = url.parse().expect("a URL");
    let mut connection = sqlx::ConnectOptions::connect(&options).await.expect("connected");
    sqlx::raw_sql("INSERT INTO hub_schema VALUES (1000)").execute(&mut connection).await.expect("written");
    let error = start(dir.path(), &url).await.expect_err("newer");
    assert!(matches!(error, Error::NewerDatabase { found: 1000, .. }), "{error}");
}
