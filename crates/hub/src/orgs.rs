//! Organizations and projects.

use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, SqliteConnection};

use crate::error::{Failure, Refusal};
use crate::input::Profile;
use crate::list::narrow;
use crate::rows::{insert_project, or_taken};
use crate::task::View;
use crate::time::Millis;

/// All organizations.
pub(crate) async fn organizations(connection: &mut SqliteConnection) -> sqlx::Result<Vec<Value>> {
    let rows = sqlx::query("SELECT * FROM organizations ORDER BY slug").fetch_all(connection).await?;
    rows.iter().map(organization_value).collect()
}

/// One organization.
pub(crate) async fn organization(connection: &mut SqliteConnection, slug: &str) -> Result<Value, Failure> {
    let row = sqlx::query("SELECT * FROM organizations WHERE slug = ?")
        .bind(slug)
        .fetch_optional(connection)
        .await?
        .ok_or_else(|| no_organization(slug))?;
    Ok(organization_value(&row)?)
}

/// Makes an organization.
pub(crate) async fn make_organization(
    connection: &mut SqliteConnection,
    profile: Profile,
    now: Millis,
) -> Result<Value, Failure> {
    let slug = profile.slug.ok_or_else(no_slug)?;
    sqlx::query("INSERT INTO organizations (slug, name, created_at) VALUES (?, ?, ?)")
        .bind(&slug)
        .bind(profile.name.as_ref().unwrap_or(&slug))
        .bind(now.0)
        .execute(&mut *connection)
        .await
        .map_err(|error| or_taken(error, "an organization", &slug))?;
    organization(connection, &slug).await
}

/// Renames an organization.
pub(crate) async fn change_organization(
    connection: &mut SqliteConnection,
    slug: &str,
    profile: Profile,
) -> Result<Value, Failure> {
    let new_slug = profile.slug.as_deref().unwrap_or(slug);
    sqlx::query("UPDATE organizations SET slug = ?, name = COALESCE(?, name) WHERE slug = ?")
        .bind(new_slug)
        .bind(&profile.name)
        .bind(slug)
        .execute(&mut *connection)
        .await
        .map_err(|error| or_taken(error, "an organization", new_slug))?;
    organization(connection, new_slug).await
}

/// The projects of an organization; with how many tasks of those that the view shows each has, if that is
/// asked for.
pub(crate) async fn projects(
    connection: &mut SqliteConnection,
    organization_slug: &str,
    with_counts: bool,
    view: &View,
) -> Result<Vec<Value>, Failure> {
    organization(connection, organization_slug).await?;
    let rows = sqlx::query(
        "SELECT projects.*, organizations.slug AS organization_slug FROM projects \
         JOIN organizations ON organizations.id = projects.organization_id \
         WHERE organizations.slug = ? ORDER BY projects.slug",
    )
    .bind(organization_slug)
    .fetch_all(&mut *connection)
    .await?;
    let mut projects = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut project = project_value(row)?;
        if with_counts {
            let mut sql = QueryBuilder::new(
                "SELECT COUNT(*), COALESCE(SUM(status = 'pending'), 0), \
                 COALESCE(SUM(status = 'in_progress'), 0) FROM tasks WHERE project_id = ",
            );
            sql.push_bind(row.try_get::<i64, _>("id")?);
            narrow(&mut sql, view);
            let counts = sql.build().fetch_one(&mut *connection).await?;
            project["total_count"] = json!(counts.try_get::<i64, _>(0)?);
            project["pending_count"] = json!(counts.try_get::<i64, _>(1)?);
            project["in_progress_count"] = json!(counts.try_get::<i64, _>(2)?);
        }
        projects.push(project);
    }
    Ok(projects)
}

/// One project.
pub(crate) async fn project(
    connection: &mut SqliteConnection,
    organization_slug: &str,
    slug: &str,
) -> Result<Value, Failure> {
    let row = sqlx::query(
        "SELECT projects.*, organizations.slug AS organization_slug FROM projects \
         JOIN organizations ON organizations.id = projects.organization_id \
         WHERE organizations.slug = ? AND projects.slug = ?",
    )
    .bind(organization_slug)
    .bind(slug)
    .fetch_optional(connection)
    .await?
    .ok_or_else(|| Refusal::not_found(format!("there is no project {organization_slug}/{slug}")))?;
    Ok(project_value(&row)?)
}

/// Makes a project.
pub(crate) async fn make_project(
    connection: &mut SqliteConnection,
    organization_slug: &str,
    profile: Profile,
    now: Millis,
) -> Result<Value, Failure> {
    let slug = profile.slug.ok_or_else(no_slug)?;
    let name = profile.name.as_ref().unwrap_or(&slug);
    insert_project(connection, organization_slug, &slug, name, profile.description.as_deref(), now).await?;
    project(connection, organization_slug, &slug).await
}

/// Changes a project.
pub(crate) async fn change_project(
    connection: &mut SqliteConnection,
    organization_slug: &str,
    slug: &str,
    profile: Profile,
) -> Result<Value, Failure> {
    let new_slug = profile.slug.as_deref().unwrap_or(slug);
    sqlx::query(
        "UPDATE projects SET slug = ?, name = COALESCE(?, name), description = COALESCE(?, description) \
         WHERE slug = ? AND organization_id = (SELECT id FROM organizations WHERE slug = ?)",
    )
    .bind(new_slug)
    .bind(&profile.name)
    .bind(&profile.description)
    .bind(slug)
    .bind(organization_slug)
    .execute(&mut *connection)
    .await
    .map_err(|error| or_taken(error, "a project", new_slug))?;
    project(connection, organization_slug, new_slug).await
}

fn organization_value(row: &SqliteRow) -> sqlx::Result<Value> {
    Ok(json!({
        "id": row.try_get::<i64, _>("id")?,
        "slug": row.try_get::<String, _>("slug")?,
        "name": row.try_get::<String, _>("name")?,
        "created_at": Millis(row.try_get("created_at")?).to_text(),
    }))
}

fn project_value(row: &SqliteRow) -> sqlx::Result<Value> {
    Ok(json!({
        "id": row.try_get::<i64, _>("id")?,
        "organization_id": row.try_get::<i64, _>("organization_id")?,
        "org_slug": row.try_get::<String, _>("organization_slug")?,
        "slug": row.try_get::<String, _>("slug")?,
        "name": row.try_get::<String, _>("name")?,
        "description": row.try_get::<Option<String>, _>("description")?,
        "created_at": Millis(row.try_get("created_at")?).to_text(),
    }))
}

fn no_organization(slug: &str) -> Refusal {
    Refusal::not_found(format!("there is no organization {slug:?}"))
}

fn no_slug() -> Refusal {
    Refusal::bad_request("slug is missing")
}
