//! Organizations and projects.

use serde_json::{Value, json};

use crate::error::{Failure, Refusal};
use crate::input::Profile;
use crate::rows::{insert_project, or_taken};
use crate::sql::{Connection, Row, query};
use crate::task::{Status, View};
use crate::time::Millis;
use crate::totals;

/// All organizations.
pub(crate) async fn organizations(connection: &mut Connection) -> sqlx::Result<Vec<Value>> {
    let rows = query("SELECT * FROM organizations ORDER BY slug").fetch_all(connection).await?;
    rows.iter().map(organization_value).collect()
}

/// One organization.
pub(crate) async fn organization(connection: &mut Connection, slug: &str) -> Result<Value, Failure> {
    let row = query("SELECT * FROM organizations WHERE slug = $1")
        .bind(slug)
        .fetch_optional(connection)
        .await?
        .ok_or_else(|| no_organization(slug))?;
    Ok(organization_value(&row)?)
}

/// Makes an organization.
pub(crate) async fn make_organization(
    connection: &mut Connection,
    profile: Profile,
    now: Millis,
) -> Result<Value, Failure> {
    let slug = profile.slug.ok_or_else(no_slug)?;
    query("INSERT INTO organizations (slug, name, created_at) VALUES ($1, $2, $3)")
        .bind(&slug)
        .bind(profile.name.as_ref().unwrap_or(&slug))
        .bind(now.0)
        .execute(connection)
        .await
        .map_err(|error| or_taken(error, "an organization", &slug))?;
    organization(connection, &slug).await
}

/// Renames an organization.
pub(crate) async fn change_organization(
    connection: &mut Connection,
    slug: &str,
    profile: Profile,
) -> Result<Value, Failure> {
    let new_slug = profile.slug.as_deref().unwrap_or(slug);
    query("UPDATE organizations SET slug = $1, name = COALESCE($2, name) WHERE slug = $3")
        .bind(new_slug)
        .bind(&profile.name)
        .bind(slug)
        .execute(connection)
        .await
        .map_err(|error| or_taken(error, "an organization", new_slug))?;
    organization(connection, new_slug).await
}

/// The projects of an organization; with how many tasks of those that the view shows each has, if that is
/// asked for.
pub(crate) async fn projects(
    connection: &mut Connection,
    organization_slug: &str,
    with_counts: bool,
    view: &View,
) -> Result<Vec<Value>, Failure> {
    organization(connection, organization_slug).await?;
    let rows = query(
        "SELECT projects.*, organizations.slug AS organization_slug FROM projects \
         JOIN organizations ON organizations.id = projects.organization_id \
         WHERE organizations.slug = $1 ORDER BY projects.slug",
    )
    .bind(organization_slug)
    .fetch_all(connection)
    .await?;
    let mut projects = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut project = project_value(row)?;
        if with_counts {
            let counts = totals::by_status(connection, Some(row.try_get("id")?), view).await?;
            project["total_count"] = json!(counts.iter().map(|(_, count)| count).sum::<i64>());
            for (status, count) in counts {
                if status == Status::Pending.name() || status == Status::InProgress.name() {
                    project[format!("{status}_count")] = json!(count);
                }
            }
        }
        projects.push(project);
    }
    Ok(projects)
}

/// One project.
pub(crate) async fn project(
    connection: &mut Connection,
    organization_slug: &str,
    slug: &str,
) -> Result<Value, Failure> {
    let row = query(
        "SELECT projects.*, organizations.slug AS organization_slug FROM projects \
         JOIN organizations ON organizations.id = projects.organization_id \
         WHERE organizations.slug = $1 AND projects.slug = $2",
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
    connection: &mut Connection,
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
    connection: &mut Connection,
    organization_slug: &str,
    slug: &str,
    profile: Profile,
) -> Result<Value, Failure> {
    let new_slug = profile.slug.as_deref().unwrap_or(slug);
    query(
        "UPDATE projects SET slug = $1, name = COALESCE($2, name), description = COALESCE($3, description) \
         WHERE slug = $4 AND organization_id = (SELECT id FROM organizations WHERE slug = $5)",
    )
    .bind(new_slug)
    .bind(&profile.name)
    .bind(&profile.description)
    .bind(slug)
    .bind(organization_slug)
    .execute(connection)
    .await
    .map_err(|error| or_taken(error, "a project", new_slug))?;
    project(connection, organization_slug, new_slug).await
}

fn organization_value(row: &Row) -> sqlx::Result<Value> {
    Ok(json!({
        "id": row.try_get::<i64>("id")?,
        "slug": row.try_get::<String>("slug")?,
        "name": row.try_get::<String>("name")?,
        "created_at": Millis(row.try_get("created_at")?).to_text(),
    }))
}

fn project_value(row: &Row) -> sqlx::Result<Value> {
    Ok(json!({
        "id": row.try_get::<i64>("id")?,
        "organization_id": row.try_get::<i64>("organization_id")?,
        "org_slug": row.try_get::<String>("organization_slug")?,
        "slug": row.try_get::<String>("slug")?,
        "name": row.try_get::<String>("name")?,
        "description": row.try_get::<Option<String>>("description")?,
        "created_at": Millis(row.try_get("created_at")?).to_text(),
    }))
}

fn no_organization(slug: &str) -> Refusal {
    Refusal::not_found(format!("there is no organization {slug:?}"))
}

fn no_slug() -> Refusal {
    Refusal::bad_request("slug is missing")
}
