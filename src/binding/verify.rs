//! Checking receipts.

use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::cancel::NativeCancel;
use super::error::thrown;
use super::options::{NodeOptions, full, read};
use super::shapes::value;
use crate::error::{Code, Error, Result};
use crate::files::JsonPath;
use crate::node::Node;
use crate::trust::Voucher;
use crate::verify::{ReceiptPlace, Signatory, VerifiedReceipt};

/// What to check: the receipt of `id`, a transfer's or a task's, or the one in the file `receipt`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WantedReceipt {
    id: Option<String>,
    receipt: Option<JsonPath>,
    file: Option<JsonPath>,
}

/// Checks a receipt; see `verify` in `index.d.ts`.
#[napi(ts_args_type = "options: object, cancel: NativeCancel", ts_return_type = "Promise<any>")]
pub(super) fn verify<'env>(
    env: &'env Env,
    options: Value,
    cancel: &NativeCancel,
) -> napi::Result<PromiseRaw<'env, Value>> {
    let prepared = || -> Result<_> {
        crate::log::start()?;
        let wanted: WantedReceipt = read(options.clone())?;
        let place = match (wanted.id, wanted.receipt) {
            (Some(id), None) => ReceiptPlace::Transfer(id),
            (None, Some(path)) => ReceiptPlace::File(full(path)?),
            _ => {
                let message = "verify needs the id of a transfer or a task, or the path of a receipt";
                return Err(Error::new(Code::InvalidArgument, message));
            }
        };
        let node = Node::new(read::<NodeOptions>(options)?.into_options()?, drop)?;
        Ok((node, place, wanted.file.map(full).transpose()?))
    };
    let (node, place, file) = prepared().map_err(|error| thrown(env, &error))?;
    let verified = async move { node.verify(place, file).await };
    cancel.promise(env, verified, |verified| value(VerifiedShape::from(&verified)))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerifiedShape<'a> {
    transfer_id: &'a str,
    task_id: &'a Value,
    file_name: &'a str,
    file_size: u64,
    file_hash: &'a str,
    sender: SignatoryShape<'a>,
    receiver: SignatoryShape<'a>,
    offered_at: Option<String>,
    completed_at: Option<String>,
    duration_ms: u64,
    file_checked: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SignatoryShape<'a> {
    actor_id: &'a str,
    identity: String,
    own: bool,
}

impl<'a> From<&'a VerifiedReceipt> for VerifiedShape<'a> {
    fn from(verified: &'a VerifiedReceipt) -> Self {
        Self {
            transfer_id: &verified.transfer_id,
            task_id: &verified.task_id,
            file_name: &verified.file_name,
            file_size: verified.size,
            file_hash: &verified.hash,
            sender: SignatoryShape::from(&verified.sender),
            receiver: SignatoryShape::from(&verified.receiver),
            offered_at: time_text(verified.offered_at),
            completed_at: time_text(verified.completed_at),
            duration_ms: verified.duration_ms,
            file_checked: verified.is_file_checked,
        }
    }
}

impl<'a> From<&'a Signatory> for SignatoryShape<'a> {
    fn from(signatory: &'a Signatory) -> Self {
        Self {
            actor_id: &signatory.actor_id,
            identity: hex::encode(signatory.identity),
            own: signatory.voucher == Voucher::Own,
        }
    }
}

/// Unix milliseconds in RFC 3339; `None` for a time that it has no text for.
fn time_text(milliseconds: u64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).ok()?;
    at.format(&Rfc3339).ok()
}
