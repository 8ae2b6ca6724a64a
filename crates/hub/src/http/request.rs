//! What every request says: who asks, about which project, with what fields.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::App;
use super::access::requester;
use crate::access::{Requester, key_needed};
use crate::error::Refusal;
use crate::input::{self, Fields};
use crate::rows::Scope;
use crate::task::{By, Rights, View};

/// The most bytes of a request's body. An offer has a thousand or so.
pub(super) const MAX_BODY: usize = 256 * 1024;

/// Who asks, and about which project.
pub(super) struct Caller {
    pub(super) scope: Scope,
    requester: Requester,
    pub(super) path: HashMap<String, String>,
}

impl Caller {
    /// Who changes something: an actor, without whom nothing is changed.
    pub(super) fn by(&mut self) -> Result<By, Refusal> {
        let rights = self.requester.rights.ok_or_else(key_needed)?;
        let actor = self.requester.actor.take();
        let actor =
            actor.ok_or_else(|| Refusal::bad_request("the header X-Actor-ID is missing: who is asking?"))?;
        Ok(By { actor, rights })
    }

    /// [`Self::by`] for what is everybody's, so that no single actor's key will do.
    pub(super) fn by_admin(&mut self) -> Result<By, Refusal> {
        match self.by()? {
            By { rights: Rights::Key, .. } => {
                Err(Refusal::forbidden("organizations and projects are renamed with an admin's key alone"))
            }
            by => Ok(by),
        }
    }

    /// Which tasks there are for whoever asks.
    pub(super) fn view(&self) -> View {
        self.requester.view()
    }

    pub(super) fn segment(&self, name: &str) -> String {
        self.path.get(name).cloned().unwrap_or_default()
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let requester = requester(&parts.extensions)?;
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, app).await;
        let Path(path) = path.map_err(|error| Refusal::bad_request(error.body_text()))?;
        input::check_pairs(&path)?;
        let default = Scope::default_one();
        let scope = Scope {
            organization: path.get("org").cloned().unwrap_or(default.organization),
            project: path.get("project").cloned().unwrap_or(default.project),
        };
        input::check_slug(&scope.organization)?;
        input::check_slug(&scope.project)?;
        Ok(Self { scope, requester, path })
    }
}

pub(super) type Body = Result<Bytes, BytesRejection>;
pub(super) type PairsOrRejection = Result<Query<HashMap<String, String>>, QueryRejection>;

/// The fields of a body.
pub(super) fn fields(body: Body) -> Result<Fields, Refusal> {
    Fields::parse(&whole(body)?)
}

/// The bytes of a body; refuses one that is too long or incomplete.
pub(super) fn whole(body: Body) -> Result<Bytes, Refusal> {
    match body {
        Ok(body) => Ok(body),
        Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Refusal::too_large(format!("the body is longer than {MAX_BODY} bytes")))
        }
        Err(error) => Err(Refusal { status: error.status(), message: error.body_text() }),
    }
}

pub(super) fn pairs(query: PairsOrRejection) -> Result<HashMap<String, String>, Refusal> {
    let Query(pairs) = query.map_err(|error| Refusal::bad_request(error.body_text()))?;
    input::check_pairs(&pairs)?;
    Ok(pairs)
}
