//! Those who use the hub while it is killed, and what each was answered.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::history::{Action, Answer, Creation, History, Operation};
use crate::random::Random;

/// How many use it at once.
const USERS: usize = 16;
/// Among how many of the latest tasks each chooses.
const CHOICE: usize = 24;
/// After how many operations a task is left alone; as many as there are users may be on their way then.
const MOST_OPERATIONS: usize = 40;
/// A claim outlasts the whole run, so that only what somebody does changes a task.
const LEASE_MS: u64 = 86_400_000;

/// What the users know together.
#[derive(Default)]
struct Known {
    history: History,
    /// The tasks to choose from, the oldest first.
    latest: VecDeque<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Down,
    Up,
    Over,
}

pub(crate) struct Users {
    known: Arc<Mutex<Known>>,
    phase: watch::Sender<Phase>,
    tasks: Vec<JoinHandle<()>>,
}

impl Users {
    pub(crate) fn start(hub: SocketAddr, random: &mut Random) -> Self {
        let known = Arc::new(Mutex::new(Known::default()));
        let (phase, _) = watch::channel(Phase::Down);
        let tasks = (0..USERS).map(|n| {
            let user = User {
                hub,
                name: format!("u{n}"),
                known: known.clone(),
                phase: phase.subscribe(),
                random: Random::new(random.next()),
                made: 0,
            };
            tokio::spawn(user.run())
        });
        Self { tasks: tasks.collect(), known, phase }
    }

    pub(crate) fn hub_is_up(&self) {
        self.phase.send_replace(Phase::Up);
    }

    pub(crate) fn hub_is_down(&self) {
        self.phase.send_replace(Phase::Down);
    }

    /// Lets everybody end what they are at; gives all answers.
    pub(crate) async fn stop(self) -> History {
        self.phase.send_replace(Phase::Over);
        for task in self.tasks {
            task.await.expect("a user");
        }
        std::mem::take(&mut lock(&self.known).history)
    }
}

struct User {
    hub: SocketAddr,
    name: String,
    known: Arc<Mutex<Known>>,
    phase: watch::Receiver<Phase>,
    random: Random,
    made: u64,
}

impl User {
    async fn run(mut self) {
        loop {
            let is_decided = self.phase.wait_for(|phase| *phase != Phase::Down).await;
            if is_decided.is_ok_and(|phase| *phase == Phase::Over) {
                return;
            }
            // A connection that fails is that of a hub that was killed.
            if let Ok(mut client) = Client::try_connect(self.hub, &self.name).await {
                while *self.phase.borrow() == Phase::Up && self.step(&mut client).await {}
            }
            tokio::task::yield_now().await;
        }
    }

    /// Does something; false if there was no answer.
    async fn step(&mut self, client: &mut Client) -> bool {
        let chosen = match self.random.within(0..4) {
            0 => None,
            _ => self.choose(),
        };
        let Some(task) = chosen else { return self.make(client).await };
        let action = match self.random.within(0..6) {
            0 => Action::Cancel,
            1 | 2 => Action::Complete,
            _ => Action::Claim,
        };
        let body = json!({ "lease_duration": LEASE_MS }).to_string();
        let begin = Instant::now();
        let result = client.try_call("POST", &format!("/tasks/{task}/{}", action.name()), &body).await;
        let answer = match &result {
            Ok((200, _)) => Answer::Done,
            Ok((403 | 409, _)) => Answer::Refused,
            Ok((status, body)) => panic!("{status} {}", String::from_utf8_lossy(body)),
            Err(_) => Answer::None,
        };
        let end = (answer != Answer::None).then(Instant::now);
        let by = self.name.clone();
        lock(&self.known).history.operations.entry(task).or_default().push(Operation {
            action,
            by,
            answer,
            begin,
            end,
        });
        result.is_ok()
    }

    async fn make(&mut self, client: &mut Client) -> bool {
        self.made += 1;
        let title = format!("{} {}", self.name, self.made);
        let body = json!({ "title": title, "payload": { "x": "x".repeat(500) } }).to_string();
        let result = client.try_call("POST", "/tasks", &body).await;
        let id = match &result {
            Ok((201, body)) => {
                let answer: Value = serde_json::from_slice(body).expect("JSON");
                Some(answer["task"]["id"].as_i64().expect("an id"))
            }
            Ok((status, body)) => panic!("{status} {}", String::from_utf8_lossy(body)),
            Err(_) => None,
        };
        let mut known = lock(&self.known);
        known.history.creations.push(Creation { title, by: self.name.clone(), id });
        known.latest.extend(id);
        if known.latest.len() > CHOICE {
            known.latest.pop_front();
        }
        result.is_ok()
    }

    /// One of the latest tasks to which not too much happened.
    fn choose(&mut self) -> Option<i64> {
        let known = lock(&self.known);
        let at = usize::try_from(self.random.next()).unwrap_or(0).checked_rem(known.latest.len())?;
        let task = *known.latest.get(at)?;
        let count = known.history.operations.get(&task).map_or(0, Vec::len);
        (count < MOST_OPERATIONS).then_some(task)
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
