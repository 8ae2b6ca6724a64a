//! What JavaScript is given, as plain objects: the core's types under the names and in the units of
//! `index.d.ts`.

use std::path::Path;
use std::time::Duration;

use protocol::metadata::Metadata;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::ats::{Task, TaskId};
use crate::connection::ConnectionInfo;
use crate::doctor::{Diagnosis, Finding};
use crate::error::{Code, Error, Step};
use crate::event::{Direction, Event, PeerIdentity, ProgressReport, Transfer};
use crate::files::{self, TreeSize};
use crate::node::TransferStatus;
use crate::receive::Received;
use crate::send::{ResumedOffer, Sent};
use crate::trust::Standing;

/// The value that `shape` is to JavaScript; `null` for what JSON can't hold, of which these shapes have
/// nothing.
pub(super) fn value(shape: impl Serialize) -> Value {
    serde_json::to_value(shape).unwrap_or_default()
}

/// A node's event as the callback gets it.
#[derive(Serialize)]
pub(super) struct EventShape<'a> {
    name: &'static str,
    payload: Payload<'a>,
}

/// Everything that an event may tell; what it does not tell is left out.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    transfer: Option<TransferShape<'a>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    connection: Option<ConnectionShape>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    error: Option<ErrorShape<'a>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    failure: Option<FailureShape<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed_from: Option<u64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressShape>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    place: Option<PlaceShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<i64>,
    /// As JSON text, which `lib/node.js` reads, so that `__proto__` is a name like any other, and no number a
    /// `BigInt`. Null where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    watch: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ats_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

impl<'a> From<&'a Event> for EventShape<'a> {
    fn from(event: &'a Event) -> Self {
        Self { name: event.name(), payload: Payload::from(event) }
    }
}

impl<'a> From<&'a Event> for Payload<'a> {
    fn from(event: &'a Event) -> Self {
        let of = |transfer: &'a Transfer| Self {
            transfer: Some(transfer.into()),
            metadata: Some(transfer.metadata.as_ref().map(Metadata::as_str)),
            ..Self::default()
        };
        match event {
            Event::OfferSent { transfer, recipient_id } | Event::OfferResumed { transfer, recipient_id } => {
                Self { recipient_id: Some(recipient_id), ..of(transfer) }
            }
            Event::PeerConnected { transfer, connection } => {
                Self { connection: Some(connection.into()), ..of(transfer) }
            }
            Event::TransferStart { transfer, resumed_from } => {
                Self { resumed_from: Some(*resumed_from), ..of(transfer) }
            }
            Event::TransferProgress { transfer, progress } => {
                // What may come ten times a second does not repeat it.
                Self { progress: Some(progress.into()), metadata: None, ..of(transfer) }
            }
            Event::TransferComplete { transfer, file_path } => {
                Self { place: file_path.as_deref().map(Into::into), ..of(transfer) }
            }
            Event::TransferFailed { transfer, error } => Self { failure: Some(error.into()), ..of(transfer) },
            Event::File { transfer, offer, mode, mtime, task, channel, watch } => Self {
                offer: Some(*offer),
                mode: *mode,
                mtime: *mtime,
                task: Some(task),
                channel: Some(channel),
                watch: Some(*watch),
                sender_id: Some(&transfer.peer_id),
                ..of(transfer)
            },
            Event::Connected { ats_url, channel, actor_id } => Self {
                ats_url: Some(ats_url),
                channel: Some(channel),
                actor_id: Some(actor_id),
                ..Self::default()
            },
            Event::Disconnected { reason } => Self { reason: Some(reason), ..Self::default() },
            Event::Warning { message } => Self { message: Some(message), ..Self::default() },
            Event::Error { error } => Self { error: Some(error.into()), ..Self::default() },
        }
    }
}

/// What every event of a transfer says of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TransferShape<'a> {
    transfer_id: &'a str,
    task_id: Option<Value>,
    direction: &'static str,
    file_name: &'a str,
    original_name: &'a str,
    file_size: u64,
    file_hash: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tree: Option<TreeSize>,
    peer_id: &'a str,
    #[serde(flatten)]
    peer: PeerShape,
}

/// Who is behind an actor's id.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerShape {
    peer_identity: Option<String>,
    verified: bool,
    first_use: bool,
}

impl From<PeerIdentity> for PeerShape {
    fn from(peer: PeerIdentity) -> Self {
        Self {
            peer_identity: peer.identity.map(hex::encode),
            verified: peer.identity.is_some(),
            first_use: peer.standing == Standing::FirstUse,
        }
    }
}

impl<'a> From<&'a Transfer> for TransferShape<'a> {
    fn from(transfer: &'a Transfer) -> Self {
        Self {
            transfer_id: &transfer.transfer_id,
            task_id: transfer.task_id.as_ref().map(TaskId::to_value),
            direction: match transfer.direction {
                Direction::Send => "send",
                Direction::Receive => "receive",
            },
            file_name: &transfer.file_name,
            original_name: &transfer.original_name,
            file_size: transfer.size,
            file_hash: Some(transfer.hash.as_str()).filter(|hash| !hash.is_empty()),
            tree: transfer.tree,
            peer_id: &transfer.peer_id,
            peer: transfer.peer.into(),
        }
    }
}

/// A connection; times in milliseconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectionShape {
    path: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<f64>,
    connect_ms: f64,
    remote_address: String,
}

impl From<&ConnectionInfo> for ConnectionShape {
    fn from(connection: &ConnectionInfo) -> Self {
        Self {
            path: connection.path,
            rtt_ms: connection.rtt.map(milliseconds),
            connect_ms: milliseconds(connection.connect_time),
            remote_address: connection.remote_address.to_string(),
        }
    }
}

/// With three digits behind the point: a round trip on one machine takes microseconds.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// An error: what `index.js` makes its own from.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorShape<'a> {
    code: &'static str,
    message: &'a str,
    transfer_id: Option<&'a str>,
    task_id: Option<&'a str>,
    step: Option<&'static str>,
    retryable: bool,
}

impl<'a> From<&'a Error> for ErrorShape<'a> {
    fn from(error: &'a Error) -> Self {
        Self {
            code: error.code.as_str(),
            message: &error.message,
            transfer_id: error.transfer_id.as_deref(),
            task_id: error.task_id.as_deref(),
            step: error.step.map(Step::name),
            retryable: error.retryable(),
        }
    }
}

/// Why a transfer failed.
#[derive(Serialize)]
struct FailureShape<'a> {
    reason: &'a str,
    code: &'static str,
    step: Option<&'static str>,
    retryable: bool,
}

impl<'a> From<&'a Error> for FailureShape<'a> {
    fn from(error: &'a Error) -> Self {
        Self {
            reason: &error.message,
            code: error.code.as_str(),
            step: error.step.map(Step::name),
            retryable: error.retryable(),
        }
    }
}

/// The result of `send`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SentShape {
    transfer_id: String,
    task_id: Value,
    success: bool,
    hash: String,
    size: u64,
    #[serde(flatten)]
    peer: PeerShape,
    resumed_from: u64,
    connection: Option<ConnectionShape>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
}

impl From<Sent> for SentShape {
    fn from(sent: Sent) -> Self {
        Self {
            connection: sent.connection.as_ref().map(Into::into),
            transfer_id: sent.transfer_id,
            task_id: sent.task_id,
            success: true,
            hash: sent.hash,
            size: sent.size,
            peer: sent.peer.into(),
            resumed_from: sent.resumed_from,
            replayed: sent.replayed,
        }
    }
}

/// How far a transfer is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProgressShape {
    phase: &'static str,
    bytes: u64,
    total_bytes: u64,
    rate: Option<u64>,
    /// Seconds.
    eta: Option<f64>,
}

impl From<&ProgressReport> for ProgressShape {
    fn from(progress: &ProgressReport) -> Self {
        Self {
            phase: progress.phase.name(),
            bytes: progress.bytes,
            total_bytes: progress.total,
            rate: progress.rate,
            // Nobody wants to read more digits.
            eta: progress.eta.map(|eta| (eta.as_secs_f64() * 10.0).round() / 10.0),
        }
    }
}

/// What `onProgress` of `send` is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SendProgressShape {
    bytes_sent: u64,
    #[serde(flatten)]
    progress: ProgressShape,
}

impl From<&ProgressReport> for SendProgressShape {
    fn from(progress: &ProgressReport) -> Self {
        Self { bytes_sent: progress.moved, progress: progress.into() }
    }
}

/// Where a file is: as text, and where that is not all there is to its path as bytes too, in hexadecimal
/// digits.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PlaceShape {
    file_path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_path_bytes: Option<String>,
}

impl From<&Path> for PlaceShape {
    fn from(path: &Path) -> Self {
        let bytes = || hex::encode(path.as_os_str().as_encoded_bytes());
        Self {
            file_path: path.to_string_lossy().into_owned(),
            file_path_bytes: path.to_str().is_none().then(bytes),
        }
    }
}

/// The result of `accept`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReceivedShape {
    success: bool,
    #[serde(flatten)]
    place: Option<PlaceShape>,
    hash: String,
    size: u64,
    #[serde(flatten)]
    peer: PeerShape,
    resumed_from: u64,
    connection: Option<ConnectionShape>,
    transfer_id: String,
    task_id: Value,
}

impl From<Received> for ReceivedShape {
    fn from(received: Received) -> Self {
        Self {
            success: true,
            place: received.file_path.as_deref().map(Into::into),
            connection: received.connection.as_ref().map(Into::into),
            hash: received.hash,
            size: received.size,
            peer: received.peer.into(),
            resumed_from: received.resumed_from,
            transfer_id: received.transfer_id,
            task_id: received.task_id,
        }
    }
}

/// The result of `status`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusShape<'a> {
    task_id: Value,
    status: String,
    channel: &'a str,
    claimed_by: Option<&'a str>,
    created_at: Option<&'a str>,
    updated_at: Option<&'a str>,
    outputs: &'a [Value],
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    offer: Option<OfferShape<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfferShape<'a> {
    transfer_id: &'a str,
    file_name: &'a str,
    file_size: u64,
    file_hash: &'a str,
    sender_id: &'a str,
    recipient_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<&'a str>,
}

impl<'a> From<&'a TransferStatus> for StatusShape<'a> {
    fn from(status: &'a TransferStatus) -> Self {
        let task: &Task = &status.task;
        Self {
            task_id: task.id.to_value(),
            status: task.status.to_string(),
            channel: &task.channel,
            claimed_by: task.assignee.as_ref().map(|actor| actor.id.as_str()),
            created_at: task.created_at.as_deref(),
            updated_at: task.updated_at.as_deref(),
            outputs: &task.outputs,
            reason: task.reason.as_deref().map(files::display),
            code: status.failure.map(Code::as_str),
            offer: status.offer.as_ref().map(|offer| OfferShape {
                transfer_id: &offer.transfer_id,
                file_name: &offer.file_name,
                file_size: offer.size,
                file_hash: &offer.hash,
                sender_id: &offer.sender_id,
                recipient_id: offer.recipient_id.as_deref(),
                expires_at: offer.expires_at.as_deref(),
            }),
        }
    }
}

/// The result of `doctor`. Its function, unlike a class, is exported by nothing in a test build.
#[cfg_attr(test, expect(dead_code))]
#[derive(Serialize)]
pub(super) struct DiagnosisShape<'a> {
    ok: bool,
    checks: Vec<FindingShape<'a>>,
    ways: &'a [&'static str],
}

#[derive(Serialize)]
struct FindingShape<'a> {
    check: &'static str,
    status: &'static str,
    found: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<u64>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    facts: Map<String, Value>,
}

impl<'a> From<&'a Diagnosis> for DiagnosisShape<'a> {
    fn from(diagnosis: &'a Diagnosis) -> Self {
        Self {
            ok: diagnosis.is_well(),
            checks: diagnosis.findings.iter().map(FindingShape::from).collect(),
            ways: &diagnosis.ways,
        }
    }
}

impl<'a> From<&'a Finding> for FindingShape<'a> {
    fn from(finding: &'a Finding) -> Self {
        let mut facts = finding.facts.clone();
        if let Some(connection) = &finding.connection
            && let Value::Object(fields) = value(ConnectionShape::from(connection))
        {
            facts.extend(fields);
        }
        Self {
            check: finding.check,
            status: finding.verdict.name(),
            found: &finding.found,
            advice: finding.advice.as_deref(),
            ms: finding.took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            facts,
        }
    }
}

/// What became of an offer that was taken up again.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResumedShape {
    transfer_id: String,
    file_name: String,
    recipient_id: String,
    #[serde(flatten)]
    sent: Option<SentShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
}

impl From<ResumedOffer> for ResumedShape {
    fn from(offer: ResumedOffer) -> Self {
        let ResumedOffer { transfer_id, file_name, recipient_id, result } = offer;
        let (sent, error) = match result {
            Ok(sent) => (Some(sent.into()), None),
            Err(error) => (None, Some(value(ErrorShape::from(&error)))),
        };
        Self { transfer_id, file_name, recipient_id, sent, error }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Code;
    use crate::event::Phase;

    fn transfer() -> Transfer {
        Transfer {
            direction: Direction::Receive,
            transfer_id: "t".into(),
            task_id: TaskId::from_value(&json!(7)),
            file_name: "f".into(),
            original_name: r"f\n".into(),
            size: 3,
            hash: "h".into(),
            metadata: Metadata::parse("[1]"),
            tree: None,
            peer_id: "a".into(),
            peer: PeerIdentity { identity: Some([10; 32]), standing: Standing::FirstUse },
        }
    }

    fn told(event: &Event) -> Value {
        value(EventShape::from(event))
    }

    #[test]
    fn an_event_tells_its_transfer_and_nothing_that_it_does_not_know() {
        let of_transfer = json!({
            "transferId": "t", "taskId": 7, "direction": "receive", "fileName": "f", "originalName": "f\\n",
            "fileSize": 3, "fileHash": "h", "peerId": "a", "peerIdentity": "0a".repeat(32), "verified": true,
            "firstUse": true, "metadata": "[1]", "resumedFrom": 2,
        });
        let start = told(&Event::TransferStart { transfer: transfer(), resumed_from: 2 });
        assert_eq!(start, json!({ "name": "transfer_start", "payload": of_transfer }));
        let mut unknown = transfer();
        (unknown.task_id, unknown.metadata) = (None, None);
        unknown.peer = PeerIdentity::UNKNOWN;
        let told = told(&Event::TransferStart { transfer: unknown, resumed_from: 0 });
        assert_eq!(
            (&told["payload"]["taskId"], &told["payload"]["peerIdentity"]),
            (&json!(null), &json!(null))
        );
        assert_eq!(told["payload"].get("metadata"), Some(&json!(null)));
        assert_eq!(
            (&told["payload"]["verified"], &told["payload"]["firstUse"]),
            (&json!(false), &json!(false))
        );
    }

    #[test]
    fn events_have_the_fields_that_their_documentation_names() {
        let task = json!({ "id": 7 });
        let (mode, mtime, channel) = (Some(0o640), Some(-1), "c".into());
        let file = Event::File { transfer: transfer(), offer: 5, mode, mtime, task, channel, watch: 3 };
        let file = told(&file);
        let payload = &file["payload"];
        assert_eq!((&payload["mode"], &payload["mtime"]), (&json!(0o640), &json!(-1)));
        assert_eq!((&payload["offer"], &payload["senderId"]), (&json!(5), &json!("a")));
        assert_eq!((&payload["channel"], &payload["watch"]), (&json!("c"), &json!(3)));
        assert_eq!(payload["task"], json!({ "id": 7 }));
        let sent = told(&Event::OfferSent { transfer: transfer(), recipient_id: "b".into() });
        assert_eq!(sent["payload"]["recipientId"], "b");
        let resumed = told(&Event::OfferResumed { transfer: transfer(), recipient_id: "b".into() });
        assert_eq!(
            (&resumed["name"], &resumed["payload"]["recipientId"]),
            (&json!("offer_resumed"), &json!("b"))
        );
        let done = told(&Event::TransferComplete { transfer: transfer(), file_path: None });
        assert_eq!(done["payload"].get("filePath"), None);
        let connected = Event::Connected { ats_url: "u".into(), channel: "c".into(), actor_id: "b".into() };
        assert_eq!(told(&connected)["payload"], json!({ "atsUrl": "u", "channel": "c", "actorId": "b" }));
        let lost = told(&Event::Disconnected { reason: "why".into() });
        assert_eq!(lost["payload"], json!({ "reason": "why" }));
    }

    #[test]
    fn progress_is_told_with_its_phase_and_nulls_for_what_is_not_known() {
        let mut progress = ProgressReport {
            phase: Phase::Transferring,
            bytes: 2,
            total: 3,
            moved: 2,
            rate: Some(7),
            eta: Some(Duration::from_millis(1234)),
        };
        let payload = told(&Event::TransferProgress { transfer: transfer(), progress })["payload"].clone();
        let all = json!({ "phase": "transferring", "bytes": 2, "totalBytes": 3, "rate": 7, "eta": 1.2 });
        for (name, value) in all.as_object().unwrap() {
            assert_eq!(&payload[name], value, "{name}");
        }
        assert_eq!((&payload["transferId"], &payload["fileHash"]), (&json!("t"), &json!("h")));
        assert_eq!(payload.get("metadata"), None);
        (progress.phase, progress.bytes, progress.moved) = (Phase::Hashing, 1, 0);
        (progress.rate, progress.eta) = (None, None);
        let shape = value(SendProgressShape::from(&progress));
        let all = json!({
            "bytesSent": 0, "phase": "hashing", "bytes": 1, "totalBytes": 3, "rate": null, "eta": null,
        });
        assert_eq!(shape, all);
        let unknown = Transfer { hash: String::new(), ..transfer() };
        let payload = told(&Event::TransferProgress { transfer: unknown, progress })["payload"].clone();
        assert_eq!((&payload["fileHash"], &payload["eta"]), (&json!(null), &json!(null)));
    }

    #[test]
    fn a_failure_is_told_by_its_reason_and_an_error_by_its_message() {
        let error = Error::new(Code::Stalled, "no byte").of("t", Some("7"));
        let failed = told(&Event::TransferFailed { transfer: transfer(), error: error.clone() });
        let payload = &failed["payload"];
        assert_eq!((&payload["reason"], &payload["code"]), (&json!("no byte"), &json!("ATS_P2P_STALLED")));
        assert_eq!((&payload["step"], &payload["retryable"]), (&json!("transfer"), &json!(true)));
        assert_eq!(payload.get("message"), None);
        let told = told(&Event::Error { error });
        let whole = json!({
            "code": "ATS_P2P_STALLED", "message": "no byte", "transferId": "t", "taskId": "7",
            "step": "transfer", "retryable": true,
        });
        assert_eq!(told["payload"], whole);
    }

    #[test]
    fn times_are_told_in_milliseconds_and_an_unknown_one_is_not_told() {
        let mut connection = ConnectionInfo {
            path: "lan",
            rtt: Some(Duration::from_micros(123)),
            connect_time: Duration::from_nanos(20_400_600),
            remote_address: "10.0.0.1:9".parse().unwrap(),
        };
        let whole =
            json!({ "path": "lan", "rttMs": 0.123, "connectMs": 20.401, "remoteAddress": "10.0.0.1:9" });
        assert_eq!(value(ConnectionShape::from(&connection)), whole);
        connection.rtt = None;
        assert_eq!(value(ConnectionShape::from(&connection)).get("rttMs"), None);
    }
}
