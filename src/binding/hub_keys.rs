//! The keys of a hub, for who runs it.

use std::path::PathBuf;
use std::time::Duration;

use hub::{HubKeys, KeyInfo};
use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{promise, thrown};
use super::hub::{data_folder, database};
use super::options::read;
use crate::error::{Code, Error, Result};

/// The longest that a key holds which does not hold for ever, milliseconds: a hundred years.
const MAX_LIFETIME_MS: f64 = 100.0 * 365.0 * 24.0 * 60.0 * 60.0 * 1000.0;

/// Options of the calls on a hub's keys.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct KeyOptions {
    data: Option<PathBuf>,
    database: Option<String>,
    database_file: Option<PathBuf>,
    admin: bool,
    expires_in: Option<f64>,
}

/// What is done with the keys.
enum Call {
    Create { actor_id: String },
    List,
    Revoke { id: i64 },
    Invite { actor_id: String },
}

/// Makes a key; see `hubKeys.create` in `index.d.ts`.
#[napi(ts_args_type = "options: object, actorId: string", ts_return_type = "Promise<any>")]
pub(super) fn create_hub_key<'env>(
    env: &'env Env,
    options: Value,
    actor_id: String,
) -> napi::Result<PromiseRaw<'env, Value>> {
    ask(env, options, Call::Create { actor_id })
}

/// The keys there are; see `hubKeys.list` in `index.d.ts`.
#[napi(ts_args_type = "options: object", ts_return_type = "Promise<any[]>")]
pub(super) fn list_hub_keys<'env>(env: &'env Env, options: Value) -> napi::Result<PromiseRaw<'env, Value>> {
    ask(env, options, Call::List)
}

/// Ends a key; see `hubKeys.revoke` in `index.d.ts`.
#[napi(ts_args_type = "options: object, id: number", ts_return_type = "Promise<any>")]
pub(super) fn revoke_hub_key<'env>(
    env: &'env Env,
    options: Value,
    id: i64,
) -> napi::Result<PromiseRaw<'env, Value>> {
    ask(env, options, Call::Revoke { id })
}

/// Makes an invitation; see `hubKeys.invite` in `index.d.ts`.
#[napi(ts_args_type = "options: object, actorId: string", ts_return_type = "Promise<any>")]
pub(super) fn invite_to_hub<'env>(
    env: &'env Env,
    options: Value,
    actor_id: String,
) -> napi::Result<PromiseRaw<'env, Value>> {
    ask(env, options, Call::Invite { actor_id })
}

fn ask<'env>(env: &'env Env, options: Value, call: Call) -> napi::Result<PromiseRaw<'env, Value>> {
    let begin = || -> Result<_> {
        crate::log::start()?;
        let options: KeyOptions = read(options)?;
        let lifetime = options.expires_in.map(lifetime).transpose()?;
        let url = database(options.database, options.database_file)?;
        Ok((data_folder(options.data)?, url, options.admin, lifetime))
    };
    let (data, url, is_admin, lifetime) = begin().map_err(|error| thrown(env, &error))?;
    let asking = async move {
        let mut keys = HubKeys::open(&data, url.as_ref()).await.map_err(failed)?;
        let answer = answer(&mut keys, call, is_admin, lifetime).await.map_err(failed);
        keys.close().await.map_err(failed)?;
        answer
    };
    promise(env, asking, |answer| answer)
}

async fn answer(
    keys: &mut HubKeys,
    call: Call,
    is_admin: bool,
    lifetime: Option<Duration>,
) -> std::result::Result<Value, hub::Error> {
    Ok(match call {
        Call::Create { actor_id } => {
            let made = keys.create(&actor_id, is_admin, lifetime).await?;
            json!({ "id": made.id, "key": made.expose(), "actorId": actor_id })
        }
        Call::List => keys.list().await?.iter().map(shape).collect(),
        Call::Revoke { id } => keys.revoke(id).await?.as_ref().map_or(Value::Null, shape),
        Call::Invite { actor_id } => {
            let made = keys.invite(&actor_id, is_admin, lifetime).await?;
            json!({
                "invitation": made.expose(),
                "actorId": actor_id,
                "expiresAt": made.expires_at,
                "url": keys.url(),
            })
        }
    })
}

fn lifetime(millis: f64) -> Result<Duration> {
    if millis > 0.0 && millis <= MAX_LIFETIME_MS {
        return Ok(Duration::from_secs_f64(millis / 1000.0));
    }
    let message = "expiresIn must be a number of milliseconds above 0, a hundred years at most";
    Err(Error::new(Code::InvalidArgument, message))
}

fn shape(key: &KeyInfo) -> Value {
    json!({
        "id": key.id,
        "actorId": key.actor,
        "admin": key.is_admin,
        "createdAt": key.created_at,
        "expiresAt": key.expires_at,
        "revokedAt": key.revoked_at,
        "lastUsed": key.last_used,
    })
}

fn failed(error: hub::Error) -> Error {
    let code = if matches!(error, hub::Error::Actor(_)) { Code::InvalidArgument } else { Code::State };
    Error::new(code, error.to_string())
}
