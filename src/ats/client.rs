//! The calls of the service, one method each, with timeouts and retries.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::backoff::Backoff;
use super::error::{Error, Result};
use super::events::{Events, Subscription};
use super::http::{Http, Request};
use super::model::{Message, Part, Status, Task, TaskId};
use super::renewal::Renewal;
use super::settings::Settings;

/// How many tasks are looked at to find one that may have been made.
const LOOKED_AT: u32 = 50;
/// The most bootstrap nodes that are taken from a service's health: more would only slow a start.
const MAX_BOOTSTRAP: usize = 16;
/// The longest address of a bootstrap node: a host name and a port.
const MAX_ADDRESS: usize = 261;

/// How patient the client is.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How long one request may take, answer and all.
    pub timeout: Duration,
    /// How often a request is sent at most, the first time included.
    pub attempts: u32,
    /// The pause before the second attempt; each later one is twice as long.
    pub first_pause: Duration,
    /// The longest of these pauses.
    pub longest_pause: Duration,
    /// The longest wait that the service may ask for; if it asks for more, the error is the caller's.
    pub longest_retry_after: Duration,
    /// The pause before events are subscribed to again; each later one is twice as long.
    pub first_reconnect: Duration,
    /// The longest of these pauses.
    pub longest_reconnect: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            attempts: 4,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(4),
            longest_retry_after: Duration::from_secs(20),
            first_reconnect: Duration::from_secs(2),
            longest_reconnect: Duration::from_secs(60),
        }
    }
}

/// A task to be made.
#[derive(Debug, Clone, Default)]
pub struct NewTask {
    pub title: String,
    /// The task's `type`.
    pub kind: String,
    pub channel: String,
    /// 1 to 10; the service takes 5 where none is given.
    pub priority: Option<u8>,
    pub description: Option<String>,
    pub payload: Option<Value>,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    pub status: Option<Status>,
    /// The task's `type`.
    pub kind: Option<String>,
    pub channel: Option<String>,
    pub assignee_id: Option<String>,
    /// In title or description.
    pub search: Option<String>,
    /// `created_at`, `updated_at`, `priority` or `title`.
    pub sort_by: Option<String>,
    /// `asc` or `desc`.
    pub sort_dir: Option<String>,
    pub limit: Option<u32>,
    pub offset: Option<u32>,
}

/// What the service says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    pub status: Option<String>,
    /// What a hub adds; `None` on any other service.
    pub p2p: Option<P2pHealth>,
}

/// The network that a hub keeps beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct P2pHealth {
    /// Nodes of its DHT as `host:port`; their form is unchecked.
    pub bootstrap: Vec<String>,
    /// The public key of its relay, if it has one.
    pub relay: Option<[u8; 32]>,
}

/// A client of one service as one actor. Clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Http,
    settings: Settings,
    policy: Policy,
}

impl Client {
    /// A client with the usual patience. Sends nothing.
    ///
    /// # Errors
    /// [`Error::Settings`] if no request could be made with these settings.
    pub fn new(settings: Settings) -> Result<Self> {
        Self::with_policy(settings, Policy::default())
    }

    /// A client with a patience of its own.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_policy(settings: Settings, policy: Policy) -> Result<Self> {
        let http = Http::new(&settings, policy.timeout)?;
        Ok(Self { inner: Arc::new(Inner { http, settings, policy }) })
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The service's time, within about a second; this machine's until the service was heard.
    pub fn clock(&self) -> SystemTime {
        self.inner.http.clock.now()
    }

    /// Whether [`Self::clock`] is the service's.
    pub fn has_clock(&self) -> bool {
        self.inner.http.clock.is_set()
    }

    /// Makes a task.
    ///
    /// Before it is sent a second time, it is looked for: `dedupe`, which must stand in the description and
    /// be unique to this task, tells whether it was made after all.
    pub async fn create(&self, new: &NewTask, dedupe: &str) -> Result<Task> {
        let request = Request::post(self.path(&[]), new.to_value());
        let mut attempts = Attempts::new(&self.inner.policy);
        let mut looks_needed = false;
        loop {
            let result = async {
                if looks_needed && let Some(task) = self.find_created(new, dedupe).await? {
                    return Ok(task);
                }
                let answer = self.inner.http.send(&request).await;
                looks_needed |= answer.as_ref().err().is_none_or(Error::may_have_happened);
                match Task::from_value(answer?) {
                    Some(task) => Ok(task),
                    // Made, as it seems, but told in no way that we can read.
                    None => {
                        self.find_created(new, dedupe).await?.ok_or_else(|| self.unexpected(&[], "no task"))
                    }
                }
            };
            match result.await {
                Err(error) => attempts.pause_after(error).await?,
                done => return done,
            }
        }
    }

    /// Reads a task, with its messages.
    pub async fn get(&self, id: &TaskId) -> Result<Task> {
        let path = [id.as_str()];
        let answer = self.repeat(|| Request::get(self.path(&path))).await?;
        Task::from_value(answer).ok_or_else(|| self.unexpected(&path, "no task"))
    }

    /// Lists tasks: one page of them. What is no task in the answer is left out.
    pub async fn list(&self, query: &ListQuery) -> Result<Vec<Task>> {
        let answer =
            self.repeat(|| Request { query: query.to_pairs(), ..Request::get(self.path(&[])) }).await?;
        Task::list(answer).ok_or_else(|| self.unexpected(&[], "no list of tasks"))
    }

    /// Claims a task for a time, or claims it for that time anew.
    ///
    /// # Errors
    /// One for which [`Error::is_already_claimed`] holds if somebody has it: another, or, on services
    /// that refuse renewals, this actor.
    pub async fn claim(&self, id: &TaskId, lease: Duration) -> Result<Task> {
        let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let me = &self.inner.settings.actor.id;
        self.change(id, "claim", json!({ "lease_duration": lease }), |task| task.is_held_by(me)).await
    }

    /// Completes a task that this actor has claimed.
    pub async fn complete(&self, id: &TaskId, outputs: Vec<Value>) -> Result<Task> {
        let me = &self.inner.settings.actor.id;
        let body = json!({ "outputs": outputs });
        self.change(id, "complete", body, |task| {
            task.status == Status::Completed && task.assignee.as_ref().is_none_or(|actor| actor.id == *me)
        })
        .await
    }

    /// Cancels a task.
    pub async fn cancel(&self, id: &TaskId) -> Result<Task> {
        self.change(id, "cancel", json!({}), |task| task.status == Status::Cancelled).await
    }

    /// Ends a task as failed.
    pub async fn fail(&self, id: &TaskId, reason: &str) -> Result<Task> {
        self.change(id, "fail", json!({ "reason": reason }), |task| task.status == Status::Failed).await
    }

    /// Ends a task as rejected.
    pub async fn reject(&self, id: &TaskId, reason: &str) -> Result<Task> {
        self.change(id, "reject", json!({ "reason": reason }), |task| task.status == Status::Rejected).await
    }

    /// The messages on a task.
    pub async fn messages(&self, id: &TaskId) -> Result<Vec<Message>> {
        let path = [id.as_str(), "messages"];
        Ok(Message::list(&self.repeat(|| Request::get(self.path(&path))).await?))
    }

    /// Posts a message on a task. One that may have been posted is looked for before it is sent again.
    pub async fn add_message(&self, id: &TaskId, parts: Vec<Part>) -> Result<Message> {
        let path = [id.as_str(), "messages"];
        let body = json!({ "parts": parts.iter().map(Part::to_value).collect::<Vec<_>>() });
        let request = Request::post(self.path(&path), body);
        let me = &self.inner.settings.actor.id;
        let is_it = |message: &Message| {
            message.parts == parts && message.actor.as_ref().is_none_or(|actor| actor.id == *me)
        };
        let mut attempts = Attempts::new(&self.inner.policy);
        let mut looks_needed = false;
        loop {
            let result = async {
                if looks_needed {
                    let listed = self.inner.http.send(&Request::get(self.path(&path))).await?;
                    if let Some(message) = Message::list(&listed).into_iter().find(is_it) {
                        return Ok(message);
                    }
                }
                let answer = self.inner.http.send(&request).await;
                looks_needed |= answer.as_ref().is_err_and(Error::may_have_happened);
                Message::from_value(answer?).ok_or_else(|| self.unexpected(&path, "no message"))
            };
            match result.await {
                Err(error) => attempts.pause_after(error).await?,
                done => return done,
            }
        }
    }

    /// Asks the service about itself.
    pub async fn health(&self) -> Result<Health> {
        let answer = self.repeat(|| Request::get(vec!["health"])).await?;
        if !answer.is_object() {
            let url = self.inner.http.shown(&["health"]);
            return Err(Error::Unexpected { url, what: "no object".into() });
        }
        let p2p = answer.get("p2p").filter(|p2p| p2p.is_object());
        let status = answer.get("status").and_then(Value::as_str).map(str::to_owned);
        Ok(Health { status, p2p: p2p.map(P2pHealth::from_value) })
    }

    /// Asks a hub's relay to serve a key that no task names, for [`protocol::RELAY_ALLOWLIST_TIME`].
    pub async fn visit_relay(&self, key: &[u8; 32]) -> Result<()> {
        let body = json!({ "key": hex::encode(key) });
        self.repeat(|| Request::post(vec!["p2p", "guests"], body.clone())).await.map(drop)
    }

    /// Subscribes to events; must be called within a tokio runtime. Comes back at once and connects,
    /// again and again if need be, until it is dropped.
    pub fn events(&self, subscription: Subscription) -> Events {
        Events::start(self.clone(), subscription)
    }

    /// Keeps a claim alive by claiming again at a third of its time; must be called within a tokio
    /// runtime. Ends when it is dropped.
    pub fn keep_claimed(&self, id: TaskId, lease: Duration) -> Renewal {
        Renewal::start(self.clone(), id, lease)
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    pub(super) fn http(&self) -> &Http {
        &self.inner.http
    }

    /// The task that an earlier attempt made, the oldest if several did.
    async fn find_created(&self, new: &NewTask, dedupe: &str) -> Result<Option<Task>> {
        let me = &self.inner.settings.actor.id;
        let is_it = |task: &Task| {
            task.kind == new.kind
                && task.channel == new.channel
                && task.description.contains(dedupe)
                && task.source.as_ref().is_none_or(|source| source.id == *me)
        };
        let by_search = ListQuery {
            kind: Some(new.kind.clone()),
            channel: Some(new.channel.clone()),
            search: Some(dedupe.to_owned()),
            limit: Some(LOOKED_AT),
            ..ListQuery::default()
        };
        // A service that cannot search may still list what is new.
        let newest = ListQuery {
            search: None,
            sort_by: Some("created_at".into()),
            sort_dir: Some("desc".into()),
            ..by_search.clone()
        };
        for query in [by_search, newest] {
            let request = Request { query: query.to_pairs(), ..Request::get(self.path(&[])) };
            let tasks = Task::list(self.inner.http.send(&request).await?);
            let found = tasks.unwrap_or_default().into_iter().filter(is_it);
            if let Some(task) = found.min_by_key(Task::created_at) {
                return Ok(Some(task));
            }
        }
        Ok(None)
    }

    /// Moves a task to another state. If that is refused after an attempt of unknown outcome, the task
    /// itself tells whether it is where it should be.
    async fn change(
        &self,
        id: &TaskId,
        verb: &str,
        body: Value,
        is_reached: impl Fn(&Task) -> bool,
    ) -> Result<Task> {
        let request = Request::post(self.path(&[id.as_str(), verb]), body);
        let mut attempts = Attempts::new(&self.inner.policy);
        let mut may_have_happened = false;
        loop {
            let error = match self.inner.http.send(&request).await {
                Ok(answer) => {
                    return match Task::from_value(answer) {
                        Some(task) => Ok(task),
                        None => self.get(id).await,
                    };
                }
                Err(error) => error,
            };
            if may_have_happened && error.status().is_some_and(|status| (400..500).contains(&status)) {
                let task = self.get(id).await?;
                return if is_reached(&task) { Ok(task) } else { Err(error) };
            }
            may_have_happened |= error.may_have_happened();
            attempts.pause_after(error).await?;
        }
    }

    /// Sends what does no harm when sent twice.
    async fn repeat<'a>(&self, request: impl Fn() -> Request<'a>) -> Result<Value> {
        let mut attempts = Attempts::new(&self.inner.policy);
        loop {
            match self.inner.http.send(&request()).await {
                Err(error) => attempts.pause_after(error).await?,
                done => return done,
            }
        }
    }

    /// The path of tasks: that of the project when an organization or a project is configured.
    fn path<'a>(&'a self, below: &[&'a str]) -> Vec<&'a str> {
        let settings = &self.inner.settings;
        let (_, organization, project) = settings.scope();
        let mut path = match (&settings.organization, &settings.project) {
            (None, None) => vec!["tasks"],
            _ => vec!["orgs", organization, "projects", project, "tasks"],
        };
        path.extend(below);
        path
    }

    fn unexpected(&self, below: &[&str], what: &str) -> Error {
        Error::Unexpected { url: self.inner.http.shown(&self.path(below)), what: what.to_owned() }
    }
}

impl NewTask {
    fn to_value(&self) -> Value {
        let mut value = json!({ "title": self.title, "type": self.kind, "channel": self.channel });
        value["priority"] = json!(self.priority.unwrap_or(5));
        if let Some(description) = &self.description {
            value["description"] = json!(description);
        }
        if let Some(payload) = &self.payload {
            value["payload"] = payload.clone();
        }
        value
    }
}

impl ListQuery {
    fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let pairs = [
            ("status", self.status.as_ref().map(Status::to_string)),
            ("type", self.kind.clone()),
            ("channel", self.channel.clone()),
            ("assignee_id", self.assignee_id.clone()),
            ("search", self.search.clone()),
            ("sort_by", self.sort_by.clone()),
            ("sort_dir", self.sort_dir.clone()),
            ("limit", self.limit.map(|n| n.to_string())),
            ("offset", self.offset.map(|n| n.to_string())),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl P2pHealth {
    fn from_value(value: &Value) -> Self {
        let nodes = value.get("bootstrap").and_then(Value::as_array);
        let nodes = nodes.into_iter().flatten().filter_map(Value::as_str);
        let fit = |node: &&str| node.len() <= MAX_ADDRESS && node.bytes().all(|b| b.is_ascii_graphic());
        let mut relay = [0; 32];
        let named = value.get("relay").and_then(Value::as_str);
        let has_relay = named.is_some_and(|text| hex::decode_to_slice(text, &mut relay).is_ok());
        Self {
            bootstrap: nodes.filter(fit).take(MAX_BOOTSTRAP).map(str::to_owned).collect(),
            relay: has_relay.then_some(relay),
        }
    }
}

/// The attempts of one call.
struct Attempts<'a> {
    policy: &'a Policy,
    left: u32,
    backoff: Backoff,
}

impl<'a> Attempts<'a> {
    fn new(policy: &'a Policy) -> Self {
        let backoff = Backoff::new(policy.first_pause, policy.longest_pause);
        Attempts { policy, left: policy.attempts.saturating_sub(1), backoff }
    }

    /// Waits before the next attempt, or gives the error back if there is none.
    fn pause_after(&mut self, error: Error) -> impl Future<Output = Result<()>> + Send + use<> {
        let pause = self.next_pause(&error);
        async move {
            match pause {
                Some(pause) => {
                    tracing::debug!("trying again in {pause:?}: {error}");
                    tokio::time::sleep(pause).await;
                    Ok(())
                }
                None => Err(error),
            }
        }
    }

    fn next_pause(&mut self, error: &Error) -> Option<Duration> {
        if !error.is_retryable() || self.left == 0 {
            return None;
        }
        self.left -= 1;
        let pause = self.backoff.pause(rand::random());
        match error.retry_after() {
            Some(asked) if asked > self.policy.longest_retry_after => None,
            Some(asked) => Some(asked.max(pause)),
            None => Some(pause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<u64>) -> Error {
        let retry_after = retry_after.map(Duration::from_secs);
        Error::Status { url: String::new(), status, message: String::new(), retry_after }
    }

    #[test]
    fn attempts_end_and_follow_what_the_service_asks() {
        let policy = Policy::default();
        let mut attempts = Attempts::new(&policy);
        assert!(attempts.next_pause(&status(500, None)).is_some_and(|p| p <= policy.first_pause));
        assert_eq!(attempts.next_pause(&status(429, Some(3))), Some(Duration::from_secs(3)));
        assert_eq!(attempts.next_pause(&status(400, None)), None);
        assert_eq!(attempts.next_pause(&status(429, Some(600))), None);
        assert_eq!(attempts.next_pause(&status(500, None)), None);
    }

    #[test]
    fn only_addresses_fit_to_be_parsed_are_taken_from_health() {
        let p2p =
            P2pHealth::from_value(&json!({"bootstrap": ["h:1", 5, "a b:1", "x".repeat(300), "\u{1b}"]}));
        assert_eq!(p2p.bootstrap, ["h:1"]);
        assert_eq!(P2pHealth::from_value(&json!({"bootstrap": "h:1"})).bootstrap, Vec::<String>::new());
    }

    #[test]
    fn a_query_holds_what_was_asked() {
        let query = ListQuery { status: Some(Status::Pending), limit: Some(5), ..ListQuery::default() };
        assert_eq!(query.to_pairs(), [("status", "pending".to_owned()), ("limit", "5".to_owned())]);
    }
}
