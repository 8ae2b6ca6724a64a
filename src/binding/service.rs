//! What the task service says of itself, and of who asks.

use std::time::{Duration, Instant};

use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use serde_json::{Value, json};

use super::cancel::NativeCancel;
use super::error::thrown;
use super::options::{NodeOptions, read};
use crate::ats::{Account, Client, Environment, Health, P2pHealth, Policy, Settings, TunnelHealth};
use crate::error::Result;

/// How long the service may take. It is asked once: who waits for an answer wants to know how it is now.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the task service how it is; see `health` in `index.d.ts`.
#[napi(ts_args_type = "options: object, cancel: NativeCancel", ts_return_type = "Promise<any>")]
pub(super) fn ask_health<'env>(
    env: &'env Env,
    options: Value,
    cancel: &NativeCancel,
) -> napi::Result<PromiseRaw<'env, Value>> {
    let client = client(options).map_err(|error| thrown(env, &error))?;
    let asked = async move {
        let started = Instant::now();
        let health = client.health().await?;
        let ms = started.elapsed().as_secs_f64() * 1000.0;
        let Health { status, version, p2p } = health;
        Ok(json!({
            "atsUrl": client.settings().scope().0,
            "status": status,
            "version": version,
            "ms": (ms * 10.0).round() / 10.0,
            "p2p": p2p.map(network),
        }))
    };
    cancel.promise(env, asked, |health| health)
}

/// Asks the task service whom it takes these options for; see `whoami` in `index.d.ts`.
#[napi(ts_args_type = "options: object, cancel: NativeCancel", ts_return_type = "Promise<any>")]
pub(super) fn ask_account<'env>(
    env: &'env Env,
    options: Value,
    cancel: &NativeCancel,
) -> napi::Result<PromiseRaw<'env, Value>> {
    let client = client(options).map_err(|error| thrown(env, &error))?;
    let asked = async move {
        let (accepted, actor_id, reason) = match client.account().await? {
            Account::Accepted(actor_id) => (Some(true), actor_id, None),
            Account::Refused(reason) => (Some(false), None, Some(reason)),
            Account::Unknown => (None, None, None),
        };
        Ok(json!({ "accepted": accepted, "actorId": actor_id, "reason": reason }))
    };
    cancel.promise(env, asked, |account| account)
}

fn client(options: Value) -> Result<Client> {
    crate::log::start()?;
    let options = read::<NodeOptions>(options)?.into_options()?;
    let (settings, _) = Settings::load(options.ats, &Environment::current());
    let policy = Policy { timeout: TIMEOUT, attempts: 1, ..Policy::default() };
    Ok(Client::with_policy(settings, policy)?)
}

fn network(p2p: P2pHealth) -> Value {
    let P2pHealth { bootstrap, relay, tunnel } = p2p;
    let tunnel = match tunnel {
        None => Value::Bool(false),
        Some(TunnelHealth::Here) => Value::Bool(true),
        Some(TunnelHealth::At { own, .. }) => Value::from(own),
    };
    json!({ "bootstrap": bootstrap.unwrap_or_default(), "relay": relay.map(hex::encode), "tunnel": tunnel })
}
