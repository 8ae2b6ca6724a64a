//! The tables' rows: one function a statement.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::error::{Failure, Refusal};
use crate::input::NewTask;
use crate::sql::{Connection, Parameter, Query, Row, insert_numbered_rows, query};
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
pub(crate) fn task(row: &Row) -> sqlx::Result<Task> {
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
        lease_expires: row.try_get::<Option<i64>>("lease_expires")?.map(Millis),
        created_at: Millis(row.try_get("created_at")?),
        updated_at: Millis(row.try_get("updated_at")?),
        completed_at: row.try_get::<Option<i64>>("completed_at")?.map(Millis),
    })
}

/// The bytes of what may be long in a row of [`select_tasks`].
pub(crate) fn long_bytes(row: &Row) -> usize {
    let long = ["description", "payload", "outputs"]
        .iter()
        .map(|column| row.try_get::<Option<&str>>(*column).ok().flatten().map_or(0, str::len));
    long.sum()
}

/// The number of the project of a scope, if there is one.
pub(crate) async fn project_of(connection: &mut Connection, scope: &Scope) -> sqlx::Result<Option<i64>> {
    let found = query(
        "SELECT projects.id FROM projects JOIN organizations ON organizations.id = projects.organization_id \
         WHERE organizations.slug = $1 AND projects.slug = $2",
    )
    .bind(&scope.organization)
    .bind(&scope.project)
    .fetch_optional(connection)
    .await?;
    found.map(|row| row.try_get(0)).transpose()
}

/// The rows of some tasks, to be read by [`task`], by their numbers.
pub(crate) async fn rows_of(connection: &mut Connection, ids: &[i64]) -> sqlx::Result<HashMap<i64, Row>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut sql = query(select_tasks!("WHERE tasks.id IN "));
    sql.push_list(ids.iter().map(|id| Parameter::from(*id)));
    let rows = sql.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok((row.try_get("id")?, row))).collect()
}

/// The one task of a statement, or the refusal that it is missing: of one that the view does not show nothing
/// is told, nor that it exists.
pub(crate) async fn shown_task(
    connection: &mut Connection,
    statement: Query,
    view: &View,
    missing: impl Fn() -> Refusal,
) -> Result<Task, Failure> {
    let row = statement.fetch_optional(connection).await?;
    let task = task(&row.ok_or_else(&missing)?)?;
    if view.shows(&task) { Ok(task) } else { Err(missing().into()) }
}

/// The task of an id, in a scope. Of one that the view does not show nothing is told, nor that it exists.
pub(crate) async fn find_task(
    connection: &mut Connection,
    scope: &Scope,
    id: &str,
    view: &View,
) -> Result<Task, Failure> {
    let missing =
        || Refusal::not_found(format!("there is no task {id:?} in {}/{}", scope.organization, scope.project));
    // A request may name any id; those that exist are numbers.
    let number: i64 = id.parse().map_err(|_| missing())?;
    let sql = query(select_tasks!("WHERE tasks.id = $1 AND organizations.slug = $2 AND projects.slug = $3"))
        .bind(number)
        .bind(&scope.organization)
        .bind(&scope.project);
    shown_task(connection, sql, view, missing).await
}

/// Tasks that are due by now (see [`Task::due`]), with their ids, the longest due first; 100 at most. A row
/// that can't be read costs itself alone.
pub(crate) async fn due_tasks(
    connection: &mut Connection,
    now: Millis,
) -> sqlx::Result<Vec<(i64, sqlx::Result<Task>)>> {
    let rows = query(select_tasks!("WHERE due <= $1 ORDER BY due LIMIT 100"))
        .bind(now.0)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get("id")?, task(row)))).collect()
}

/// Leaves a task to itself, whatever time does to it.
pub(crate) async fn forget_due(connection: &mut Connection, id: i64) -> sqlx::Result<()> {
    query("UPDATE tasks SET due = NULL WHERE id = $1").bind(id).execute(connection).await?;
    Ok(())
}

/// Writes something that nobody reads, to find out whether anything can be written.
pub(crate) async fn write_probe(connection: &mut Connection, now: Millis) -> sqlx::Result<()> {
    query("UPDATE write_probe SET written_at = $1 WHERE id = 1").bind(now.0).execute(connection).await?;
    Ok(())
}

/// When the next task is due.
pub(crate) async fn next_due(connection: &mut Connection) -> sqlx::Result<Option<Millis>> {
    let row = query("SELECT MIN(due) FROM tasks WHERE due IS NOT NULL").fetch_one(connection).await?;
    Ok(row.try_get::<Option<i64>>(0)?.map(Millis))
}

/// A task that is to be made: it has no number yet, nor its project's.
pub(crate) fn task_to_make(scope: Scope, new: NewTask, by: Actor, now: Millis) -> Task {
    Task {
        id: 0,
        organization: scope.organization,
        project: scope.project,
        project_id: 0,
        title: new.title,
        description: new.description,
        kind: new.kind,
        channel: new.channel,
        priority: new.priority,
        status: Status::Pending,
        payload: new.payload,
        outputs: Vec::new(),
        reason: None,
        source: by,
        assignee: None,
        lease_expires: None,
        created_at: now,
        updated_at: now,
        completed_at: None,
    }
}

/// Makes tasks, in order: gives each its number and that of its project, which is made if there is none.
pub(crate) async fn insert_tasks(
    connection: &mut Connection,
    tasks: &mut [Task],
    now: Millis,
) -> Result<(), Failure> {
    let mut projects: HashMap<Scope, i64> = HashMap::new();
    for task in &mut *tasks {
        let scope = Scope { organization: task.organization.clone(), project: task.project.clone() };
        task.project_id = match projects.get(&scope) {
            Some(id) => *id,
            None => {
                let id = project_to_fill(connection, &scope, now).await?;
                projects.insert(scope, id);
                id
            }
        };
    }
    let text = "INSERT INTO tasks (project_id, title, description, type, channel, priority, status, payload, \
                outputs, source_type, source_id, source_name, created_at, updated_at, due, recipient_id, \
                file_size) VALUES ";
    let ids = insert_numbered_rows(connection, text, &*tasks, |task| {
        [
            task.project_id.into(),
            (&task.title).into(),
            (&task.description).into(),
            (&task.kind).into(),
            (&task.channel).into(),
            task.priority.into(),
            task.status.name().into(),
            task.payload.to_string().into(),
            json!(task.outputs).to_string().into(),
            (&task.source.kind).into(),
            (&task.source.id).into(),
            (&task.source.name).into(),
            task.created_at.0.into(),
            task.updated_at.0.into(),
            task.due().map(|at| at.0).into(),
            task.recipient().into(),
            task.file_size().into(),
        ]
    });
    let ids = ids.await?;
    for (task, id) in tasks.iter_mut().zip(ids) {
        task.id = id;
    }
    Ok(())
}

/// The statement that writes back a task that was changed.
pub(crate) fn update_task(task: &Task) -> Query {
    let assignee = task.assignee.as_ref();
    query(
        "UPDATE tasks SET title = $1, description = $2, type = $3, channel = $4, priority = $5, \
         status = $6, payload = $7, outputs = $8, reason = $9, assignee_type = $10, assignee_id = $11, \
         assignee_name = $12, lease_expires = $13, updated_at = $14, completed_at = $15, due = $16, \
         recipient_id = $17, file_size = $18 WHERE id = $19",
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
    .bind(task.file_size())
    .bind(task.id)
}

/// The messages on a task, in the order they were posted.
pub(crate) async fn messages(connection: &mut Connection, task_id: i64) -> sqlx::Result<Vec<Value>> {
    let rows = query("SELECT * FROM messages WHERE task_id = $1 ORDER BY id")
        .bind(task_id)
        .fetch_all(connection)
        .await?;
    let message = |row: &Row| {
        Ok(json!({
            "id": row.try_get::<i64>("id")?,
            "task_id": task_id,
            "actor_type": row.try_get::<String>("actor_type")?,
            "actor_id": row.try_get::<String>("actor_id")?,
            "actor_name": row.try_get::<String>("actor_name")?,
            "parts": json_column(row, "parts")?,
            "created_at": Millis(row.try_get("created_at")?).to_text(),
        }))
    };
    rows.iter().map(message).collect()
}

/// Posts a message on a task.
pub(crate) async fn insert_message(
    connection: &mut Connection,
    task_id: i64,
    parts: Vec<Value>,
    by: &Actor,
    now: Millis,
) -> Result<Value, Failure> {
    let parts = Value::Array(parts);
    let text = parts.to_string();
    let room = MAX_MESSAGE_BYTES.saturating_sub(i64::try_from(text.len()).unwrap_or(i64::MAX));
    let row = query(
        "INSERT INTO messages (task_id, actor_type, actor_id, actor_name, parts, created_at) \
         SELECT $1, $2, $3, $4, $5, $6 FROM (SELECT COUNT(*) AS count, \
         CAST(COALESCE(SUM(LENGTH(parts)), 0) AS BIGINT) AS bytes FROM messages WHERE task_id = $1) AS held \
         WHERE held.count < $7 AND held.bytes <= $8 RETURNING id",
    )
    .bind(task_id)
    .bind(&by.kind)
    .bind(&by.id)
    .bind(&by.name)
    .bind(text)
    .bind(now.0)
    .bind(MAX_MESSAGES)
    .bind(room)
    .fetch_optional(connection)
    .await?;
    let row = row
        .ok_or_else(|| Refusal::too_large(format!("task {task_id} holds as many messages as a task can")))?;
    let id: i64 = row.try_get("id")?;
    Ok(json!({
        "id": id,
        "task_id": task_id,
        "actor_type": by.kind,
        "actor_id": by.id,
        "actor_name": by.name,
        "parts": parts,
        "created_at": now.to_text(),
    }))
}

/// Makes the project of those who name none, if need be.
pub(crate) async fn make_default_project(connection: &mut Connection) -> Result<(), Failure> {
    let now = connection.begin().await?;
    project_to_fill(connection, &Scope::default_one(), now).await?;
    Ok(connection.commit().await?)
}

/// The id of a scope's project, which is made if there is none: an agent that is configured for a project of
/// another service can use it here at once.
async fn project_to_fill(connection: &mut Connection, scope: &Scope, now: Millis) -> Result<i64, Failure> {
    match project_of(connection, scope).await? {
        Some(id) => Ok(id),
        None => make_project(connection, scope, now).await,
    }
}

/// Makes a scope's project, and its organization if need be; gives the project's id.
async fn make_project(connection: &mut Connection, scope: &Scope, now: Millis) -> Result<i64, Failure> {
    query("INSERT INTO organizations (slug, name, created_at) VALUES ($1, $1, $2) ON CONFLICT DO NOTHING")
        .bind(&scope.organization)
        .bind(now.0)
        .execute(connection)
        .await?;
    insert_project(connection, &scope.organization, &scope.project, &scope.project, None, now).await
}

/// Makes a project in an organization that exists; gives its id.
pub(crate) async fn insert_project(
    connection: &mut Connection,
    organization: &str,
    slug: &str,
    name: &str,
    description: Option<&str>,
    now: Millis,
) -> Result<i64, Failure> {
    let count: i64 = query("SELECT COUNT(*) FROM projects").fetch_value(connection).await?;
    if count >= MAX_PROJECTS {
        let message = format!("the hub holds {MAX_PROJECTS} projects, which is the most it can");
        return Err(Refusal::conflict(message).into());
    }
    let made = query(
        "INSERT INTO projects (organization_id, slug, name, description, created_at) \
         SELECT id, $1, $2, $3, $4 FROM organizations WHERE slug = $5 RETURNING id",
    )
    .bind(slug)
    .bind(name)
    .bind(description)
    .bind(now.0)
    .bind(organization)
    .fetch_optional(connection)
    .await;
    match made {
        Ok(None) => Err(Refusal::not_found(format!("there is no organization {organization:?}")).into()),
        Ok(Some(row)) => Ok(row.try_get(0)?),
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
fn json_column(row: &Row, column: &str) -> sqlx::Result<Value> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(error.into()))
}
