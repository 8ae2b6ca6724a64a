//! All that was asked and answered, and whether one order of things explains it.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Instant;

use serde_json::Value;

use crate::client::Client;

/// A task that somebody made.
pub(crate) struct Creation {
    /// No two have the same.
    pub title: String,
    pub by: String,
    /// None if there was no answer.
    pub id: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Claim,
    Complete,
    Cancel,
}

impl Action {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Complete => "complete",
            Self::Cancel => "cancel",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Refused,
    /// The hub was killed before it answered: it may have been done or not.
    None,
}

/// What somebody did to a task.
#[derive(Debug)]
pub(crate) struct Operation {
    pub action: Action,
    pub by: String,
    pub answer: Answer,
    pub begin: Instant,
    /// None without an answer: it may have taken effect at any time after its begin.
    pub end: Option<Instant>,
}

/// What a task is like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Pending,
    Claimed(String),
    Completed(String),
    Cancelled,
}

#[derive(Default)]
pub(crate) struct History {
    pub creations: Vec<Creation>,
    /// By the id of the task.
    pub operations: HashMap<i64, Vec<Operation>>,
}

impl History {
    /// Compares it with what the hub holds now; gives what there was of it.
    pub(crate) async fn check(&self, hub: SocketAddr) -> String {
        let tasks = everything(hub).await;
        let mut by_title: HashMap<&str, Vec<&Value>> = HashMap::new();
        for task in &tasks {
            by_title.entry(task["title"].as_str().expect("a title")).or_default().push(task);
        }
        let mut acknowledged = 0;
        for Creation { title, by, id } in &self.creations {
            let found = by_title.remove(title.as_str()).unwrap_or_default();
            assert!(found.len() <= 1, "{title:?} is there {} times", found.len());
            let Some(id) = id else { continue };
            let [task] = found[..] else { panic!("task {id} was acknowledged and is lost") };
            assert_eq!((task["id"].as_i64(), &task["source_id"]), (Some(*id), &Value::from(by.as_str())));
            acknowledged += 1;
            if let Some(operations) = self.operations.get(id) {
                check_task(*id, by, operations, &state(task));
            }
        }
        assert!(by_title.is_empty(), "nobody made {:?}", by_title.keys());
        let answers = || self.operations.values().flatten().map(|operation| operation.answer);
        let count = |answer| answers().filter(|other| *other == answer).count();
        format!(
            "{acknowledged} tasks acknowledged and {} not; {} operations done, {} refused, {} not \
             answered",
            self.creations.len() - acknowledged,
            count(Answer::Done),
            count(Answer::Refused),
            count(Answer::None)
        )
    }
}

/// Looks for an order of the operations in which each answer is right and the task ends as it is.
fn check_task(id: i64, source: &str, operations: &[Operation], last: &State) {
    assert!(operations.len() <= 64, "too many operations to check: {}", operations.len());
    let mut search = Search { source, operations, last, tried: HashSet::new() };
    assert!(
        search.explains(0, State::Pending),
        "no order explains what was answered about task {id}, which is {last:?} now: {operations:#?}"
    );
}

struct Search<'a> {
    source: &'a str,
    operations: &'a [Operation],
    last: &'a State,
    tried: HashSet<(u64, State)>,
}

impl Search<'_> {
    /// Whether there is an order of the operations that are not in `done`, from a state on.
    fn explains(&mut self, done: u64, state: State) -> bool {
        if !self.tried.insert((done, state.clone())) {
            return false;
        }
        let open = || self.operations.iter().enumerate().filter(|(at, _)| done & (1 << at) == 0);
        // Those without an answer need not have happened.
        if state == *self.last && open().all(|(_, operation)| operation.answer == Answer::None) {
            return true;
        }
        // The next one began before any other that is open had ended.
        let first_end = open().filter_map(|(_, operation)| operation.end).min();
        let next: Vec<usize> = open()
            .filter(|(_, operation)| first_end.is_none_or(|end| operation.begin <= end))
            .map(|(at, _)| at)
            .collect();
        for at in next {
            let operation = &self.operations[at];
            let after = match (apply(&state, operation, self.source), operation.answer) {
                (Some(after), Answer::Done | Answer::None) => after,
                (None, Answer::Refused) => state.clone(),
                _ => continue,
            };
            if self.explains(done | (1 << at), after) {
                return true;
            }
        }
        false
    }
}

/// The state after an operation; none where the hub must refuse it.
fn apply(state: &State, operation: &Operation, source: &str) -> Option<State> {
    let by = &operation.by;
    match (operation.action, state) {
        (Action::Claim, State::Pending) => Some(State::Claimed(by.clone())),
        (Action::Claim, State::Claimed(holder)) if holder == by => Some(state.clone()),
        (Action::Complete, State::Claimed(holder)) if holder == by => Some(State::Completed(by.clone())),
        (Action::Cancel, State::Pending | State::Claimed(_)) if by == source => Some(State::Cancelled),
        _ => None,
    }
}

fn state(task: &Value) -> State {
    let assignee = task["assignee_id"].as_str().unwrap_or_default().to_owned();
    match task["status"].as_str() {
        Some("pending") => State::Pending,
        Some("in_progress") => State::Claimed(assignee),
        Some("completed") => State::Completed(assignee),
        Some("cancelled") => State::Cancelled,
        other => panic!("a task is {other:?}"),
    }
}

/// All tasks of the hub.
async fn everything(hub: SocketAddr) -> Vec<Value> {
    let mut client = Client::connect(hub, "reader").await;
    let mut tasks = Vec::new();
    let mut offset = Value::from(0);
    while !offset.is_null() {
        let page = client.json("GET", &format!("/tasks?limit=500&sort_dir=asc&offset={offset}"), "").await;
        tasks.extend(page["tasks"].as_array().expect("tasks").iter().cloned());
        offset = page["next"].clone();
    }
    tasks
}
