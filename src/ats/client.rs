//! The calls of the service, one method each, with timeouts and retries.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::error::{AtsError, AtsResult};
use super::health::Health;
use super::http::{Http, Request};
use super::model::{ListQuery, Message, NewTask, Part, Status, Task, TaskId, TaskPage};
use super::policy::{Attempts, Patience, Policy};
use super::settings::Settings;
use crate::web::Web;

/// How many tasks are looked at to find one that may have been made.
const LOOKED_AT: u32 = 50;
/// Tasks kept of one list, whatever the service sends.
const MAX_KEPT: usize = 500;

/// A client of one service as one actor. Clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<ClientInner>,
    patience: Option<Patience>,
}

#[derive(Debug)]
struct ClientInner {
    http: Http,
    settings: Settings,
    policy: Policy,
}

impl Client {
    /// A client with the usual patience. Sends nothing.
    ///
    /// # Errors
    /// [`AtsError::Settings`] if no request could be made with these settings.
    pub fn new(settings: Settings) -> AtsResult<Self> {
        Self::with_policy(settings, Policy::default())
    }

    /// A client with a patience of its own.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_policy(settings: Settings, policy: Policy) -> AtsResult<Self> {
        let http = Http::new(&settings, &policy)?;
        Ok(Self { inner: Arc::new(ClientInner { http, settings, policy }), patience: None })
    }

    /// The same client, each of whose calls waits so long for a service that is away, and no longer than
    /// until `given_up`: for what must not come to nothing because the service is just being restarted. The
    /// error is then that of the last attempt.
    pub fn patient(&self, limit: Duration, given_up: CancellationToken) -> Self {
        Self { inner: self.inner.clone(), patience: Some(Patience { limit, given_up }) }
    }

    /// Ends its connections, and those of its clones; calls under way and later ones fail with
    /// [`AtsError::Closed`]. Events that were subscribed to end by themselves.
    pub fn close(&self) {
        self.inner.http.close();
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The way to servers of the web that these settings say.
    pub(crate) fn web(&self) -> &Web {
        self.inner.http.web()
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
    /// Before a second attempt, the client looks whether the first one made the task: it searches for
    /// `dedupe`, which must stand in the description and be unique to this task.
    pub async fn create(&self, new: &NewTask, dedupe: &str) -> AtsResult<Task> {
        let request = Request::post(self.path(&[]), new.to_value());
        let mut attempts = self.attempts();
        let mut looks_needed = false;
        loop {
            let result = async {
                if looks_needed && let Some(task) = self.find_created(new, dedupe).await? {
                    return Ok(task);
                }
                let answer = self.inner.http.send(&request).await;
                looks_needed |= answer.as_ref().err().is_none_or(AtsError::may_have_happened);
                match Task::from_value(answer?) {
                    Some(task) => Ok(task),
                    // It was made, as it seems, but the answer can't be read.
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
    pub async fn get(&self, id: &TaskId) -> AtsResult<Task> {
        self.read(id, self.attempts()).await
    }

    /// Lists tasks: the first 500 of one page. What is no task in the answer is left out.
    ///
    /// # Errors
    /// As [`Client::list_page`].
    pub async fn list(&self, query: &ListQuery) -> AtsResult<Vec<Task>> {
        Ok(self.list_page(query, Some).await?.tasks)
    }

    /// Lists tasks: what `keep` makes of those of one page, and whether there is another. Each is read as it
    /// arrives, and what can't be read costs itself alone.
    ///
    /// # Errors
    /// As every call; [`AtsError::Unexpected`] if the answer is no list.
    pub async fn list_page<T>(
        &self,
        query: &ListQuery,
        keep: impl Fn(Task) -> Option<T>,
    ) -> AtsResult<TaskPage<T>> {
        let mut attempts = self.attempts();
        loop {
            match self.list_once(query, &keep).await {
                Err(error) => attempts.pause_after(error).await?,
                done => return done,
            }
        }
    }

    /// Claims a task for a time, or claims it for that time anew.
    ///
    /// # Errors
    /// One for which [`AtsError::is_already_claimed`] holds if somebody has it: another, or, on services
    /// that refuse renewals, this actor.
    pub async fn claim(&self, id: &TaskId, lease: Duration) -> AtsResult<Task> {
        let me = &self.inner.settings.actor.id;
        let body = json!({ "lease_duration": millis(lease) });
        self.change(id, "claim", body, |task| task.is_held_by(me)).await
    }

    /// Whether the service takes messages with what changes a task, as a hub does: [`Self::claim_first`] and
    /// [`Self::complete_saying`] are one request then. As far as it was heard.
    pub fn takes_messages(&self) -> bool {
        self.inner.http.takes_messages()
    }

    /// Claims a task that nobody has, this actor included, and posts `parts` on it before; for a service that
    /// [takes messages](Self::takes_messages). Whoever hears of the claim has heard the message by then.
    ///
    /// # Errors
    /// One for which [`AtsError::is_already_claimed`] holds if somebody has it.
    pub async fn claim_first(&self, id: &TaskId, lease: Duration, parts: Vec<Part>) -> AtsResult<Task> {
        let body = json!({ "lease_duration": millis(lease), "only_pending": true });
        let me = &self.inner.settings.actor.id;
        let claimed = self.change_saying(id, "claim", body, &parts, |task| task.is_held_by(me)).await?;
        if !claimed.has_said(me, &parts) {
            // Another service answers at the same address by now, or a hub that does not take it yet.
            self.add_message(id, parts).await?;
        }
        Ok(claimed)
    }

    /// Completes a task that this actor has claimed, and posts `parts` on it before, which are for people: a
    /// service that does not [take messages](Self::takes_messages) with that any more leaves them out.
    ///
    /// # Errors
    /// As every call; 413 where the task holds as many messages as it can.
    pub async fn complete_saying(
        &self,
        id: &TaskId,
        outputs: Vec<Value>,
        parts: Vec<Part>,
    ) -> AtsResult<Task> {
        let body = json!({ "outputs": outputs });
        let me = &self.inner.settings.actor.id;
        self.change_saying(id, "complete", body, &parts, |task| task.is_completed_by(me)).await
    }

    /// Completes a task that this actor has claimed.
    pub async fn complete(&self, id: &TaskId, outputs: Vec<Value>) -> AtsResult<Task> {
        let me = &self.inner.settings.actor.id;
        let body = json!({ "outputs": outputs });
        self.change(id, "complete", body, |task| task.is_completed_by(me)).await
    }

    /// Cancels a task.
    pub async fn cancel(&self, id: &TaskId) -> AtsResult<Task> {
        self.change(id, "cancel", json!({}), |task| task.status == Status::Cancelled).await
    }

    /// Ends a task as failed.
    pub async fn fail(&self, id: &TaskId, reason: &str) -> AtsResult<Task> {
        self.change(id, "fail", json!({ "reason": reason }), |task| task.status == Status::Failed).await
    }

    /// Ends a task as rejected.
    pub async fn reject(&self, id: &TaskId, reason: &str) -> AtsResult<Task> {
        self.change(id, "reject", json!({ "reason": reason }), |task| task.status == Status::Rejected).await
    }

    /// The messages on a task.
    pub async fn messages(&self, id: &TaskId) -> AtsResult<Vec<Message>> {
        let path = [id.as_str(), "messages"];
        Ok(Message::list(self.repeat(self.attempts(), || Request::get(self.path(&path))).await?))
    }

    /// Posts a message on a task. One that may have been posted is looked for before it is sent again.
    pub async fn add_message(&self, id: &TaskId, parts: Vec<Part>) -> AtsResult<Message> {
        let path = [id.as_str(), "messages"];
        let request = Request::post(self.path(&path), json!({ "parts": Part::to_values(&parts) }));
        let me = &self.inner.settings.actor.id;
        let mut attempts = self.attempts();
        let mut looks_needed = false;
        loop {
            let result = async {
                if looks_needed {
                    let listed = self.inner.http.send(&Request::get(self.path(&path))).await?;
                    if let Some(message) =
                        Message::list(listed).into_iter().find(|message| message.is_said_by(me, &parts))
                    {
                        return Ok(message);
                    }
                }
                let answer = self.inner.http.send(&request).await;
                looks_needed |= answer.as_ref().is_err_and(AtsError::may_have_happened);
                Message::from_value(answer?).ok_or_else(|| self.unexpected(&path, "no message"))
            };
            match result.await {
                Err(error) => attempts.pause_after(error).await?,
                done => return done,
            }
        }
    }

    /// How many parts of answers and events were left out so far, because they were too large or malformed.
    pub fn left_out(&self) -> u64 {
        self.inner.http.left_out()
    }

    /// Asks the service about itself.
    pub async fn health(&self) -> AtsResult<Health> {
        let answer = self.repeat(self.attempts(), || Request::get(vec!["health"])).await?;
        Health::from_value(&answer).ok_or_else(|| AtsError::Unexpected {
            url: self.inner.http.shown(&["health"]),
            what: "no object".into(),
        })
    }

    /// Asks a hub's relay to serve a key that no task names, for [`protocol::RELAY_ALLOWLIST_TIME`].
    pub async fn visit_relay(&self, key: &[u8; 32]) -> AtsResult<()> {
        let body = json!({ "key": hex::encode(key) });
        let request = || Request::post(vec!["p2p", "guests"], body.clone());
        self.repeat(self.attempts(), request).await.map(drop)
    }

    pub(super) fn attempts(&self) -> Attempts<'_> {
        Attempts::new(&self.inner.policy, self.patience.as_ref(), self.inner.http.closed())
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    pub(super) fn http(&self) -> &Http {
        &self.inner.http
    }

    /// The task that an earlier attempt made, the oldest if several did.
    async fn find_created(&self, new: &NewTask, dedupe: &str) -> AtsResult<Option<Task>> {
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
            let found = match self.list_once(&query, &|task| is_it(&task).then_some(task)).await {
                Err(AtsError::Unexpected { .. }) => continue,
                page => page?.tasks,
            };
            if let Some(task) = found.into_iter().min_by_key(Task::created_at) {
                return Ok(Some(task));
            }
        }
        Ok(None)
    }

    async fn list_once<T>(
        &self,
        query: &ListQuery,
        keep: &impl Fn(Task) -> Option<T>,
    ) -> AtsResult<TaskPage<T>> {
        let request = Request { query: query.to_pairs(), ..Request::get(self.path(&[])) };
        let mut tasks = Vec::new();
        let each = |value| {
            let task = Task::from_value(value);
            let is_task = task.is_some();
            tasks.extend(task.and_then(keep).filter(|_| tasks.len() < MAX_KEPT));
            is_task
        };
        let end = self.inner.http.send_for_list(&request, each).await?;
        Ok(TaskPage::new(tasks, &end))
    }

    /// Moves a task to another state, and posts a message on it before: the task that is given has it, where
    /// the service took it.
    async fn change_saying(
        &self,
        id: &TaskId,
        verb: &str,
        mut body: Value,
        parts: &[Part],
        is_reached: impl Fn(&Task) -> bool,
    ) -> AtsResult<Task> {
        let me = &self.inner.settings.actor.id;
        body["parts"] = Part::to_values(parts);
        self.change(id, verb, body, |task| is_reached(task) && task.has_said(me, parts)).await
    }

    /// Moves a task to another state. Once an attempt may have done it, the task itself tells whether it is
    /// where it should be.
    async fn change(
        &self,
        id: &TaskId,
        verb: &str,
        body: Value,
        is_reached: impl Fn(&Task) -> bool,
    ) -> AtsResult<Task> {
        let request = Request::post(self.path(&[id.as_str(), verb]), body);
        let mut attempts = self.attempts();
        let mut may_have_happened = false;
        loop {
            let error = match self.inner.http.send(&request).await {
                Ok(mut answer) => {
                    let message = answer.get_mut("message").filter(|message| message.is_object());
                    let message = message.map(Value::take).and_then(Message::from_value);
                    return match Task::from_value(answer) {
                        Some(mut task) => {
                            task.messages.extend(message);
                            Ok(task)
                        }
                        None => self.get(id).await,
                    };
                }
                Err(error) => error,
            };
            let is_refused = error.status().is_some_and(|status| (400..500).contains(&status));
            if may_have_happened && (is_refused || error.may_have_happened()) {
                // Behind a refusal the task decides; between two attempts it can only save the second.
                let reads = if is_refused { self.attempts() } else { self.attempts().only_one() };
                match self.read(id, reads).await {
                    Ok(task) if is_reached(&task) => return Ok(task),
                    Err(unread) if is_refused => return Err(unread),
                    _ => {}
                }
            }
            may_have_happened |= error.may_have_happened();
            attempts.pause_after(error).await?;
        }
    }

    async fn read(&self, id: &TaskId, attempts: Attempts<'_>) -> AtsResult<Task> {
        let path = [id.as_str()];
        let answer = self.repeat(attempts, || Request::get(self.path(&path))).await?;
        Task::from_value(answer).ok_or_else(|| self.unexpected(&path, "no task"))
    }

    /// Sends a request that does no harm when it is sent twice.
    pub(super) async fn repeat<'a>(
        &self,
        mut attempts: Attempts<'_>,
        request: impl Fn() -> Request<'a>,
    ) -> AtsResult<Value> {
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

    fn unexpected(&self, below: &[&str], what: &str) -> AtsError {
        AtsError::Unexpected { url: self.inner.http.shown(&self.path(below)), what: what.to_owned() }
    }
}

/// A duration as the service takes it.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
