//! Tasks and their messages.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::request::{Body, Caller, PairsOrRejection, fields, pairs};
use super::{Answer, Shared};
use crate::error::Refusal;
use crate::list::{Page, TaskQuery};
use crate::rows;
use crate::totals;
use crate::writer::{Change, Changed};

/// The answer to whoever changed a task: the task, and the message that was posted with the change.
pub(super) struct ChangedTask(Changed);

impl Serialize for ChangedTask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("task", &self.0)?;
        if let Changed::Task { message: Some(message), .. } = &self.0 {
            map.serialize_entry("message", message)?;
        }
        map.end()
    }
}

pub(super) async fn list_tasks(
    State(app): Shared,
    caller: Caller,
    query: PairsOrRejection,
) -> Result<Json<Page>, Refusal> {
    let query = TaskQuery::parse(&pairs(query)?)?;
    Ok(Json(query.run(&mut app.reader().await?, &caller.scope, &caller.view()).await?))
}

pub(super) async fn make_task(
    State(app): Shared,
    mut caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<ChangedTask>), Refusal> {
    let by = caller.by()?;
    let new = fields(body)?.new_task()?;
    let task = app.writer.change(Change::MakeTask { scope: caller.scope, new }, by).await?;
    Ok((StatusCode::CREATED, Json(ChangedTask(task))))
}

pub(super) async fn read_task(State(app): Shared, caller: Caller) -> Answer {
    let mut reader = app.reader().await?;
    let mut task = rows::find_task(&mut reader, &caller.scope, &caller.segment("id"), &caller.view()).await?;
    // The timer may be a moment late; nobody is shown a claim or an offer that is over.
    task.elapse(app.readers.now());
    let messages = rows::messages(&mut reader, task.id).await?;
    let mut task = task.to_value();
    task["messages"] = Value::Array(messages);
    Ok(Json(json!({ "task": task })))
}

pub(super) async fn change_task(
    State(app): Shared,
    mut caller: Caller,
    body: Body,
) -> Result<Json<ChangedTask>, Refusal> {
    let by = caller.by()?;
    let (id, actions) = (caller.segment("id"), fields(body)?.changes()?);
    let change = Change::EditTask { scope: caller.scope, id, message: None, actions };
    Ok(Json(ChangedTask(app.writer.change(change, by).await?)))
}

pub(super) async fn act(
    State(app): Shared,
    mut caller: Caller,
    body: Body,
) -> Result<Json<ChangedTask>, Refusal> {
    let by = caller.by()?;
    let (id, verb) = (caller.segment("id"), caller.segment("verb"));
    let mut fields = fields(body)?;
    let action = fields.action(&verb);
    let action = action.ok_or_else(|| Refusal::not_found(format!("tasks have no {verb:?}")))??;
    let message = fields.parts_if_any()?;
    let change = Change::EditTask { scope: caller.scope, id, message, actions: vec![action] };
    Ok(Json(ChangedTask(app.writer.change(change, by).await?)))
}

pub(super) async fn list_messages(State(app): Shared, caller: Caller) -> Answer {
    let mut reader = app.reader().await?;
    let task = rows::find_task(&mut reader, &caller.scope, &caller.segment("id"), &caller.view()).await?;
    let messages = rows::messages(&mut reader, task.id).await?;
    Ok(Json(json!({ "count": messages.len(), "messages": messages })))
}

pub(super) async fn add_message(
    State(app): Shared,
    mut caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let by = caller.by()?;
    let (id, parts) = (caller.segment("id"), fields(body)?.parts()?);
    let message = app.writer.change(Change::AddMessage { scope: caller.scope, id, parts }, by).await?;
    Ok((StatusCode::CREATED, Json(json!({ "message": message }))))
}

pub(super) async fn all_stats(State(app): Shared, caller: Caller) -> Answer {
    let stats = totals::stats(&mut app.reader().await?, None, &caller.view(), app.readers.now()).await?;
    Ok(Json(json!({ "stats": stats })))
}

pub(super) async fn project_stats(State(app): Shared, caller: Caller) -> Answer {
    let mut reader = app.reader().await?;
    // There is nothing in a project that there is not.
    let project = rows::project_of(&mut reader, &caller.scope).await?.unwrap_or_default();
    let stats = totals::stats(&mut reader, Some(project), &caller.view(), app.readers.now()).await?;
    Ok(Json(json!({ "stats": stats })))
}
