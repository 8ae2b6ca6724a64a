//! Who a node is to others, and whom it knows.

use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::{promise, thrown};
use super::options::{NodeOptions, read};
use super::shapes::value;
use crate::error::{Code, Error, Result};
use crate::node::Node;
use crate::sync::blocking;
use crate::trust::{KnownPeer, OtherIdentity, Trust};

/// Shows the identity of a node with these options; see `identity.show` in `index.d.ts`.
#[napi(ts_args_type = "options: object", ts_return_type = "Promise<any>")]
pub(super) fn show_identity<'env>(env: &'env Env, options: Value) -> napi::Result<PromiseRaw<'env, Value>> {
    asked(env, options, |trust| Ok(value(IdentityShape::of(trust, None)?)))
}

/// The seed as text; see `identity.export` in `index.d.ts`.
#[napi(ts_args_type = "options: object", ts_return_type = "Promise<string>")]
pub(super) fn export_seed<'env>(env: &'env Env, options: Value) -> napi::Result<PromiseRaw<'env, Value>> {
    asked(env, options, |trust| Ok(Value::from(trust.export_seed()?.as_str())))
}

/// Takes over a seed; see `identity.import` in `index.d.ts`.
#[napi(ts_args_type = "options: object, text: string, replace: boolean", ts_return_type = "Promise<any>")]
pub(super) fn import_seed<'env>(
    env: &'env Env,
    options: Value,
    text: String,
    replace: bool,
) -> napi::Result<PromiseRaw<'env, Value>> {
    asked(env, options, move |trust| {
        let kept = trust.import_seed(&zeroize::Zeroizing::new(text), replace)?;
        Ok(value(IdentityShape::of(trust, kept.as_deref())?))
    })
}

/// Makes a new seed; see `identity.create` in `index.d.ts`.
#[napi(ts_args_type = "options: object, replace: boolean", ts_return_type = "Promise<any>")]
pub(super) fn create_seed<'env>(
    env: &'env Env,
    options: Value,
    replace: bool,
) -> napi::Result<PromiseRaw<'env, Value>> {
    asked(env, options, move |trust| {
        let kept = trust.create_seed(replace)?;
        Ok(value(IdentityShape::of(trust, kept.as_deref())?))
    })
}

/// Makes a new seed, to which the old one hands over; see `identity.rotate` in `index.d.ts`.
#[napi(ts_args_type = "options: object", ts_return_type = "Promise<any>")]
pub(super) fn rotate_seed<'env>(env: &'env Env, options: Value) -> napi::Result<PromiseRaw<'env, Value>> {
    asked(env, options, |trust| {
        trust.rotate_seed()?;
        Ok(value(IdentityShape::of(trust, None)?))
    })
}

/// The peers that are known; see `peers.list` in `index.d.ts`.
#[napi(ts_args_type = "options: object", ts_return_type = "Promise<any[]>")]
pub(super) fn list_peers<'env>(env: &'env Env, options: Value) -> napi::Result<PromiseRaw<'env, Value>> {
    asked(env, options, |trust| Ok(trust.peers()?.iter().map(|peer| value(PeerShape::from(peer))).collect()))
}

/// Accepts an identity of a peer; see `peers.accept` in `index.d.ts`.
#[napi(
    ts_args_type = "options: object, actorId: string, identity: string | null",
    ts_return_type = "Promise<any>"
)]
pub(super) fn accept_peer<'env>(
    env: &'env Env,
    options: Value,
    actor_id: String,
    identity: Option<String>,
) -> napi::Result<PromiseRaw<'env, Value>> {
    asked(env, options, move |trust| {
        let identity = identity.as_deref().map(identity_of).transpose()?;
        Ok(value(PeerShape::from(&trust.accept(&actor_id, identity)?)))
    })
}

/// Forgets a peer; see `peers.forget` in `index.d.ts`.
#[napi(ts_args_type = "options: object, actorId: string", ts_return_type = "Promise<any>")]
pub(super) fn forget_peer<'env>(
    env: &'env Env,
    options: Value,
    actor_id: String,
) -> napi::Result<PromiseRaw<'env, Value>> {
    asked(env, options, move |trust| {
        let forgotten = trust.forget(&actor_id)?;
        Ok(forgotten.map_or(Value::Null, |peer| value(PeerShape::from(&peer))))
    })
}

/// Asks what a node with these options would know. It opens no connection.
fn asked<'env>(
    env: &'env Env,
    options: Value,
    ask: impl FnOnce(&Trust) -> Result<Value> + Send + 'static,
) -> napi::Result<PromiseRaw<'env, Value>> {
    let node = || Node::new(read::<NodeOptions>(options)?.into_options()?, drop);
    let trust = node().map_err(|error| thrown(env, &error))?.trust().clone();
    promise(env, blocking(move || ask(&trust)), |answer| answer)
}

fn identity_of(text: &str) -> Result<[u8; 32]> {
    let mut identity = [0; 32];
    hex::decode_to_slice(text, &mut identity).map(|()| identity).map_err(|_| {
        Error::new(Code::InvalidArgument, "an identity is 64 hex digits, which `ats-p2p id` shows")
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IdentityShape<'a> {
    identity: Option<String>,
    actor_id: &'a str,
    ats_url: &'a str,
    organization: &'a str,
    project: &'a str,
    seed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<String>,
}

impl<'a> IdentityShape<'a> {
    fn of(trust: &'a Trust, kept: Option<&Path>) -> Result<Self> {
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        Ok(Self {
            identity: trust.identity()?.map(|key| hex::encode(key.public_key())),
            actor_id: trust.actor(),
            ats_url: trust.scope().url(),
            organization: trust.scope().organization(),
            project: trust.scope().project(),
            seed: trust.seed_path().map(shown),
            kept: kept.map(shown),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerShape<'a> {
    actor_id: &'a str,
    identity: String,
    first_seen: String,
    last_seen: String,
    accepted: bool,
    refused: Vec<OtherShape>,
    former: Vec<OtherShape>,
}

#[derive(Serialize)]
struct OtherShape {
    identity: String,
    at: String,
}

impl<'a> From<&'a KnownPeer> for PeerShape<'a> {
    fn from(peer: &'a KnownPeer) -> Self {
        let others = |others: &[OtherIdentity]| {
            let other = |other: &OtherIdentity| OtherShape {
                identity: hex::encode(other.identity),
                at: time_text(other.at),
            };
            others.iter().map(other).collect()
        };
        Self {
            actor_id: &peer.actor,
            identity: hex::encode(peer.identity),
            first_seen: time_text(peer.first_seen),
            last_seen: time_text(peer.last_seen),
            accepted: peer.accepted,
            refused: others(&peer.refused),
            former: others(&peer.former),
        }
    }
}

/// RFC 3339; the file of the peers holds no year that it has no text for.
fn time_text(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}
