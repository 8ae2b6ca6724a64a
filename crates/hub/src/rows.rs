//! The tables' rows: one function a statement.

use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::error::{Failure, Refusal};
use crate::input::NewTask;
use crate::task::{Actor, Status, Task, View};
use crate::time::Millis;

/// The most projects of a hub. A request makes a project by naming it, so this keeps the disk from being
/// filled.
const MAX_PROJECTS: i64 = 10_000;
/// The most messages on a task, and the most bytes of all their parts.
const MAX_MESSAGES: i64 = 1000;
const MAX_MESSAGE_BYTES: i64 = 4 * 1024 * 1024;

/// A statement that selects tasks with the names of their projects, to be read by [`task`].
macro_rules! select_tasks {
    ($rest:literal) => {
        concat!(
            "SELECT tasks.*, projects.slug AS project_slug, organizations.slug AS organization_slug \
             FROM tasks JOIN projects ON projects.id = tasks.project_id \
             JOIN organizations ON organizations.id = projects.organization_id ",
            $rest
        )
    };
}
pub(crate) use select_tasks;

/// Where a task path points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) organization: String,
    pub(crate) project: String,
}

impl Scope {
    /// What `/tasks` without organization and project stands for.
    pub(crate) fn default_one() -> Self {
        Self { organization: "default".into(), project: "main".into() }
    }
}

/// Reads a row of [`select_tasks`].
pub(crate) fn task(row: &SqliteRow) -> sqlx::Result<Task> {
    let status: String = row.try_get("status")?;
    let assignee_id: Option<String> = row.try_get("assignee_id")?;
    let assignee = match assignee_id {
        Some(id) => {
            let kind: Option<String> = row.try_get("assignee_type")?;
            let name: Option<String> = row.try_get("assignee_name")?;
            Some(Actor { kind: kind.unwrap_or_default(), name: name.unwrap_or_default(), id })
        }
        None => None,
    };
    Ok(Task {
        id: row.try_get("id")?,
        organization: row.try_get("organization_slug")?,
        project: row.try_get("project_slug")?,
        project_id: row.try_get("project_id")?,
        title: row.try_get("title")?,
        description: row.try_get("description")?,
        kind: row.try_get("type")?,
        channel: row.try_get("channel")?,
        priority: row.try_get("priority")?,
        status: Status::from_name(&status)
            .ok_or_else(|| sqlx::Error::Decode(format!("unknown status {status}").into()))?,
        payload: json_column(row, "payload")?,
        outputs: match json_column(row, "outputs")? {
            Value::Array(outputs) => outputs,
            _ => Vec::new(),
        },
        reason: row.try_get("reason")?,
        source: Actor {
            kind: row.try_get("source_type")?,
            id: row.try_get("source_id")?,
            name: row.try_get("source_name")?,
        },
        assignee,
        lease_expires: row.try_get::<Option<i64>, _>("lease_expires")?.map(Millis),
        created_at: Millis(row.try_get("created_at")?),
        updated_at: Millis(row.try_get("updated_at")?),
        completed_at: row.try_get::<Option<i64>, _>("completed_at")?.map(Millis),
    })
}

/// The task of an id, in a scope. Of one that the view does not show nothing is told, nor that it exists.
pub(crate) async fn find_task(
    connection: &mut SqliteConnection,
    scope: &Scope,
    id: &str,
    view: &View,
) -> Result<Task, Failure> {
    let missing =
        || Refusal::not_found(format!("there is no task {id:?} in {}/{}", scope.organization, scope.project));
    // A request may name any id; those that exist are numbers.
    let number: i64 = id.parse().map_err(|_| missing())?;
    let row =
        sqlx::query(select_tasks!("WHERE tasks.id = ? AND organizations.slug = ? AND projects.slug = ?"))
            .bind(number)
            .bind(&scope.organization)
            .bind(&scope.project)
            .fetch_optional(connection)
            .await?;
    let task = task(&row.ok_or_else(missing)?)?;
    if view.shows(&task) { Ok(task) } else { Err(missing().into()) }
}

/// Tasks that are due by now (see [`Task::due`]), with their ids, the longest due first; 100 at most. A row
/// that can't be read costs itself alone.
pub(crate) async fn due_tasks(
    connection: &mut SqliteConnection,
    now: Millis,
) -> sqlx::Result<Vec<(i64, sqlx::Result<Task>)>> {
    let rows = sqlx::query(select_tasks!("WHERE due <= ? ORDER BY due LIMIT 100"))
        .bind(now.0)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get("id")?, task(row)))).collect()
}

/// Leaves a task to itself, whatever time does to it.
pub(crate) async fn forget_due(connection: &mut SqliteConnection, id: i64) -> sqlx::Result<()> {
    sqlx::query("UPDATE tasks SET due = NULL WHERE id = ?").bind(id).execute(connection).await?;
    Ok(())
}

/// Writes something that nobody reads, to find out whether anything can be written.
pub(crate) async fn write_probe(connection: &mut SqliteConnection, now: Millis) -> sqlx::Result<()> {
    sqlx::query("UPDATE write_probe SET written_at = ? WHERE id = 1").bind(now.0).execute(connection).await?;
    Ok(())
}

/// When the next task is due.
pub(crate) async fn next_due(connection: &mut SqliteConnection) -> sqlx::Result<Option<Millis>> {
    let row = sqlx::query("SELECT MIN(due) FROM tasks WHERE due IS NOT NULL").fetch_one(connection).await?;
    Ok(row.try_get::<Option<i64>, _>(0)?.map(Millis))
}

/// Makes a task.
pub(crate) async fn insert_task(
    connection: &mut SqliteConnection,
    scope: &Scope,
    new: NewTask,
    by: &Actor,
    now: Millis,
) -> Result<Task, Failure> {
    let project_id = project_to_fill(connection, scope, now).await?;
    let mut task = Task {
        id: 0,
        organization: scope.organization.clone(),
        project: scope.project.clone(),
        project_id,
        title: new.title,
        description: new.description,
        kind: new.kind,
        channel: new.channel,
        priority: new.priority,
        status: Status::Pending,
        payload: new.payload,
        outputs: Vec::new(),
        reason: None,
        source: by.clone(),
        assignee: None,
        lease_expires: None,
        created_at: now,
        updated_at: now,
        completed_at: None,
    };
    let done = sqlx::query(
        "INSERT INTO tasks (project_id, title, description, type, channel, priority, status, payload, \
         outputs, source_type, source_id, source_name, created_at, updated_at, due, recipient_id) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, '[]', ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(project_id)
    .bind(&task.title)
    .bind(&task.description)
    .bind(&task.kind)
    .bind(&task.channel)
    .bind(task.priority)
    .bind(task.status.name())
    .bind(task.payload.to_string())
    .bind(&by.kind)
    .bind(&by.id)
    .bind(&by.name)
    .bind(now.0)
    .bind(now.0)
    .bind(task.due().map(|at| at.0))
    .bind(task.recipient())
    .execute(connection)
    .await?;
    task.id = done.last_insert_rowid();
    Ok(task)
}

/// Writes back a task that was changed.
pub(crate) async fn update_task(connection: &mut SqliteConnection, task: &Task) -> sqlx::Result<()> {
    let assignee = task.assignee.as_ref();
    sqlx::query(
        "UPDATE tasks SET title = ?, description = ?, type = ?, channel = ?, priority = ?, status = ?, \
         payload = ?, outputs = ?, reason = ?, assignee_type = ?, assignee_id = ?, assignee_name = ?, \
         lease_expires = ?, updated_at = ?, completed_at = ?, due = ?, recipient_id = ? WHERE id = ?",
    )
    .bind(&task.title)
    .bind(&task.description)
    .bind(&task.kind)
    .bind(&task.channel)
    .bind(task.priority)
    .bind(task.status.name())
    .bind(task.payload.to_string())
    .bind(json!(task.outputs).to_string())
    .bind(&task.reason)
    .bind(assignee.map(|actor| &actor.kind))
    .bind(assignee.map(|actor| &actor.id))
    .bind(assignee.map(|actor| &actor.name))
    .bind(task.lease_expires.map(|at| at.0))
    .bind(task.updated_at.0)
    .bind(task.completed_at.map(|at| at.0))
    .bind(task.due().map(|at| at.0))
    .bind(task.recipient())
    .bind(task.id)
    .execute(connection)
    .await?;
    Ok(())
}

/// The messages on a task, in the order they were posted.
pub(crate) async fn messages(connection: &mut SqliteConnection, task_id: i64) -> sqlx::Result<Vec<Value>> {
    let rows = sqlx::query("SELECT * FROM messages WHERE task_id = ? ORDER BY id")
        .bind(task_id)
        .fetch_all(connection)
        .await?;
    let message = |row: &SqliteRow| {
        Ok(json!({
            "id": row.try_get::<i64, _>("id")?,
            "task_id": task_id,
            "actor_type": row.try_get::<String, _>("actor_type")?,
            "actor_id": row.try_get::<String, _>("actor_id")?,
            "actor_name": row.try_get::<String, _>("actor_name")?,
            "parts": json_column(row, "parts")?,
            "created_at": Millis(row.try_get("created_at")?).to_text(),
        }))
    };
    rows.iter().map(message).collect()
}

/// Posts a message on a task.
pub(crate) async fn insert_message(
    connection: &mut SqliteConnection,
    task_id: i64,
    parts: Vec<Value>,
    by: &Actor,
    now: Millis,
) -> Result<Value, Failure> {
    let parts = Value::Array(parts);
    let text = parts.to_string();
    let held =
        sqlx::query("SELECT COUNT(*), COALESCE(SUM(LENGTH(parts)), 0) FROM messages WHERE task_id = ?")
            .bind(task_id)
            .fetch_one(&mut *connection)
            .await?;
    let (count, bytes): (i64, i64) = (held.try_get(0)?, held.try_get(1)?);
    let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
    if count >= MAX_MESSAGES || bytes.saturating_add(length) > MAX_MESSAGE_BYTES {
        let message = format!("task {task_id} holds as many messages as a task can");
        return Err(Refusal::too_large(message).into());
    }
    let done = sqlx::query(
        "INSERT INTO messages (task_id, actor_type, actor_id, actor_name, parts, created_at) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(task_id)
    .bind(&by.kind)
    .bind(&by.id)
    .bind(&by.name)
    .bind(text)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(json!({
        "id": done.last_insert_rowid(),
        "task_id": task_id,
        "actor_type": by.kind,
        "actor_id": by.id,
        "actor_name": by.name,
        "parts": parts,
        "created_at": now.to_text(),
    }))
}

/// The id of a scope's project, which is made if there is none: an agent that is configured for a project of
/// another service can use it here at once.
pub(crate) async fn project_to_fill(
    connection: &mut SqliteConnection,
    scope: &Scope,
    now: Millis,
) -> Result<i64, Failure> {
    let found = sqlx::query(
        "SELECT projects.id FROM projects JOIN organizations ON organizations.id = projects.organization_id \
         WHERE organizations.slug = ? AND projects.slug = ?",
    )
    .bind(&scope.organization)
    .bind(&scope.project)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(row) = found {
        return Ok(row.try_get(0)?);
    }
    sqlx::query(
        "INSERT INTO organizations (slug, name, created_at) VALUES (?1, ?1, ?2) ON CONFLICT DO NOTHING",
    )
    .bind(&scope.organization)
    .bind(now.0)
    .execute(&mut *connection)
    .await?;
    insert_project(connection, &scope.organization, &scope.project, &scope.project, None, now).await
}

/// Makes a project in an organization that exists; gives its id.
pub(crate) async fn insert_project(
    connection: &mut SqliteConnection,
    organization: &str,
    slug: &str,
    name: &str,
    description: Option<&str>,
    now: Millis,
) -> Result<i64, Failure> {
    let count: i64 =
        sqlx::query("SELECT COUNT(*) FROM projects").fetch_one(&mut *connection).await?.try_get(0)?;
    if count >= MAX_PROJECTS {
        let message = format!("the hub holds {MAX_PROJECTS} projects, which is the most it can");
        return Err(Refusal::conflict(message).into());
    }
    let done = sqlx::query(
        "INSERT INTO projects (organization_id, slug, name, description, created_at) \
         SELECT id, ?, ?, ?, ? FROM organizations WHERE slug = ?",
    )
    .bind(slug)
    .bind(name)
    .bind(description)
    .bind(now.0)
    .bind(organization)
    .execute(connection)
    .await;
    match done {
        Ok(done) if done.rows_affected() == 0 => {
            Err(Refusal::not_found(format!("there is no organization {organization:?}")).into())
        }
        Ok(done) => Ok(done.last_insert_rowid()),
        Err(error) => Err(or_taken(error, "a project", slug)),
    }
}

/// The refusal for an insertion or a change of a slug that failed: a conflict if the slug is taken.
pub(crate) fn or_taken(error: sqlx::Error, what: &str, slug: &str) -> Failure {
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => {
            Refusal::conflict(format!("there is {what} {slug:?} already")).into()
        }
        _ => error.into(),
    }
}

/// A column that holds JSON.
fn json_column(row: &SqliteRow, column: &str) -> sqlx::Result<Value> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(error.into()))
}
