//! Taking a hub's invitation.

use std::path::PathBuf;

use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cancel::NativeCancel;
use super::error::thrown;
use super::options::read;
use crate::ats::{self, Environment, Joining, Secret};
use crate::error::{Code, Error};

/// Options of `join`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JoinOptions {
    ca: Option<PathBuf>,
    insecure: bool,
    replace: bool,
}

/// Takes an invitation; see `join` in `index.d.ts`.
#[napi(
    ts_args_type = "url: string, invitation: string, options: object, cancel: NativeCancel",
    ts_return_type = "Promise<any>"
)]
pub(super) fn join_hub<'env>(
    env: &'env Env,
    url: String,
    invitation: String,
    options: Value,
    cancel: &NativeCancel,
) -> napi::Result<PromiseRaw<'env, Value>> {
    let options = crate::log::start().and_then(|()| read(options)).map_err(|error| thrown(env, &error))?;
    let JoinOptions { ca, insecure, replace } = options;
    let joining = async move {
        let joining = Joining { url, ca, insecure, replace };
        let joined = ats::join(joining, &Secret::new(invitation), &Environment::current()).await?;
        Ok(json!({
            "url": joined.url, "actorId": joined.actor_id, "file": joined.file, "notes": joined.notes,
        }))
    };
    // The hub gives its key once: what it has given is kept, whoever still waits for it.
    let joined = async {
        let ended = |_| Err(Error::new(Code::State, "joining ended unexpectedly"));
        tokio::spawn(joining).await.unwrap_or_else(ended)
    };
    cancel.promise(env, joined, |joined| joined)
}
