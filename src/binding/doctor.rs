//! The doctor.

use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, Undefined};
use napi_derive::napi;
use serde::Deserialize;
use serde_json::Value;

use super::cancel::NativeCancel;
use super::environment::Tenant;
use super::error::{promise, thrown};
use super::options::{NodeOptions, read};
use super::shapes::{ConnectionShape, DiagnosisShape, value};
use crate::doctor::{self, Waiting};
use crate::error::{Code, Error, Result};
use crate::sync::or_cancelled;

/// What to look at besides what every transfer needs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wanted {
    peer: Option<String>,
}

/// Makes all checks; see `doctor` in `index.d.ts`.
#[napi(ts_args_type = "options: object, cancel: NativeCancel", ts_return_type = "Promise<any>")]
pub(super) fn diagnose<'env>(
    env: &'env Env,
    options: Value,
    cancel: &NativeCancel,
) -> napi::Result<PromiseRaw<'env, Value>> {
    let prepared = || -> Result<_> {
        crate::log::start()?;
        let wanted: Wanted = read(options.clone())?;
        let peer = wanted.peer.as_deref().map(public_key).transpose()?;
        Ok((read::<NodeOptions>(options)?.into_options()?, peer))
    };
    let (options, peer) = prepared().map_err(|error| thrown(env, &error))?;
    cancel.promise(env, async move { Ok(doctor::examine(&options, peer).await) }, |diagnosis| {
        value(DiagnosisShape::from(&diagnosis))
    })
}

/// A place on the network that other doctors find.
#[napi]
pub struct NativeWaiting {
    key: String,
    waiting: Tenant<Waiting>,
}

#[napi]
impl NativeWaiting {
    /// Waits for others under a fresh key; see `waitForDoctor` in `index.d.ts`.
    #[napi(ts_args_type = "options: object, cancel: NativeCancel", ts_return_type = "Promise<NativeWaiting>")]
    pub fn start<'env>(
        env: &'env Env,
        options: Value,
        cancel: &NativeCancel,
    ) -> napi::Result<PromiseRaw<'env, Self>> {
        let options = crate::log::start()
            .and_then(|()| read(options))
            .and_then(NodeOptions::into_options)
            .map_err(|error| thrown(env, &error))?;
        let waiting = Tenant::new(env, |waiting: Waiting| Box::pin(waiting.close()))?;
        let (kept, cancel) = (waiting.clone(), cancel.token());
        let start = async move {
            let start = async {
                let waiting = Waiting::start(&options).await?;
                let key = waiting.key();
                Ok((waiting, key))
            };
            kept.start(or_cancelled(&cancel, start)).await
        };
        promise(env, start, |key| Self { key, waiting })
    }

    /// What the other machine is told, 64 hex digits.
    #[napi]
    pub fn key(&self) -> String {
        self.key.clone()
    }

    /// The next peer that has come; null once it was closed.
    #[napi(ts_return_type = "Promise<any>")]
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Value>> {
        let kept = self.waiting.clone();
        let next = async move {
            let mut waiting = kept.running().await;
            match waiting.as_mut() {
                Some(waiting) => Ok(kept.ending().run_until_cancelled(waiting.next()).await.flatten()),
                None => Ok(None),
            }
        };
        promise(env, next, |peer| value(peer.as_ref().map(ConnectionShape::from)))
    }

    /// Ends it.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Undefined>> {
        let waiting = self.waiting.clone();
        let close = async move {
            waiting.close().await;
            Ok(())
        };
        promise(env, close, |()| ())
    }
}

fn public_key(text: &str) -> Result<[u8; 32]> {
    let mut key = [0; 32];
    hex::decode_to_slice(text, &mut key).map(|()| key).map_err(|_| {
        Error::new(
            Code::InvalidArgument,
            "a peer is named by its key, 64 hex digits, which `ats-p2p doctor --wait` shows on the other \
             machine",
        )
    })
}
