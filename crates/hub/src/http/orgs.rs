//! Organizations and projects.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::request::{Body, Caller, PairsOrRejection, fields, pairs};
use super::{Answer, Shared};
use crate::error::Refusal;
use crate::orgs;
use crate::rows::Scope;
use crate::writer::Change;

pub(super) async fn list_organizations(State(app): Shared) -> Answer {
    let organizations = orgs::organizations(&mut app.reader().await?).await?;
    Ok(Json(json!({ "organizations": organizations })))
}

pub(super) async fn make_organization(
    State(app): Shared,
    mut caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let by = caller.by()?;
    let profile = fields(body)?.profile()?;
    let organization = app.writer.change(Change::MakeOrganization { profile }, by).await?;
    Ok((StatusCode::CREATED, Json(json!({ "organization": organization }))))
}

pub(super) async fn read_organization(State(app): Shared, caller: Caller) -> Answer {
    let organization = orgs::organization(&mut app.reader().await?, &caller.scope.organization).await?;
    Ok(Json(json!({ "organization": organization })))
}

pub(super) async fn change_organization(State(app): Shared, mut caller: Caller, body: Body) -> Answer {
    let by = caller.by_admin()?;
    let profile = fields(body)?.profile()?;
    let change = Change::EditOrganization { organization: caller.scope.organization, profile };
    Ok(Json(json!({ "organization": app.writer.change(change, by).await? })))
}

pub(super) async fn list_projects(State(app): Shared, caller: Caller, query: PairsOrRejection) -> Answer {
    let with_counts = pairs(query)?.get("counts").is_some_and(|value| value == "true" || value == "1");
    let mut reader = app.reader().await?;
    let projects =
        orgs::projects(&mut reader, &caller.scope.organization, with_counts, &caller.view()).await?;
    Ok(Json(json!({ "projects": projects })))
}

pub(super) async fn make_project(
    State(app): Shared,
    mut caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let by = caller.by()?;
    let profile = fields(body)?.profile()?;
    let change = Change::MakeProject { organization: caller.scope.organization, profile };
    let project = app.writer.change(change, by).await?;
    Ok((StatusCode::CREATED, Json(json!({ "project": project }))))
}

pub(super) async fn read_project(State(app): Shared, caller: Caller) -> Answer {
    let Scope { organization, project } = &caller.scope;
    let project = orgs::project(&mut app.reader().await?, organization, project).await?;
    Ok(Json(json!({ "project": project })))
}

pub(super) async fn change_project(State(app): Shared, mut caller: Caller, body: Body) -> Answer {
    let by = caller.by_admin()?;
    let profile = fields(body)?.profile()?;
    let Scope { organization, project } = caller.scope;
    let change = Change::EditProject { organization, project, profile };
    Ok(Json(json!({ "project": app.writer.change(change, by).await? })))
}
