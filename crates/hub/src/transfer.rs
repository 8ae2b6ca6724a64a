//! What a task says of the transfer that it offers, for people to look at. Pure. What nobody has said is left
//! out, and foreign text comes in a form that is safe to show.

use std::time::Duration;

use protocol::offer::{self, Offer};
use protocol::receipt::{Flawed, Receipt};
use protocol::scope::Scope;
use protocol::text::{display, one_line};
use serde_json::{Value, json};

use crate::task::{Status, Task};
use crate::time::Millis;

/// The most characters of a reason, or of what a message says.
const MAX_SAID: usize = 300;
/// The ways by which a connection may come about, as receivers name them.
const PATHS: [&str; 4] = ["lan", "direct", "punched", "relayed"];
/// The largest whole number that JSON carries exactly, 2^53 - 1.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// An id as it is, to be asked for, and as it is shown.
pub(crate) fn named(id: &str) -> Value {
    json!({ "id": id, "shown": display(id) })
}

/// A transfer as it is shown. `claimed_at` is when it was claimed last, as the trail of its task has it.
pub(crate) fn to_value(task: &Task, claimed_at: Option<Millis>) -> Value {
    let offer = Offer::from_payload(&task.payload).ok();
    let to = task.recipient().or_else(|| task.assignee.as_ref().map(|assignee| assignee.id.clone()));
    let size = offer::size(&task.payload);
    let word = offer.as_ref().and_then(|offer| word_of_receiver(task, offer));
    let took = took(task, word, claimed_at);
    let path = word.and_then(|word| word.get("path")?.as_str()).filter(|path| PATHS.contains(path));
    json!({
        "id": task.id,
        "project": display(&format!("{}/{}", task.organization, task.project)),
        "channel": named(&task.channel),
        "state": task.status.name(),
        "reason": task.reason.as_ref().map(|reason| one_line(reason, MAX_SAID)),
        "from": named(&task.source.id),
        "to": to.map(|id| named(&id)),
        "title": one_line(&task.title, MAX_SAID),
        "file": offer.as_ref().map(|offer| display(&offer.name)),
        "transfer_id": offer.as_ref().map(|offer| display(&offer.transfer_id)),
        "size": size,
        "hash": offer.as_ref().map(|offer| &offer.hash),
        "is_verified": word.is_some(),
        "path": path,
        "duration_ms": took.map(|(took, _)| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        "duration_from": took.map(|(_, by)| by),
        "rate": size.zip(took).and_then(|(size, (took, _))| rate(size, took)),
        "created_at": task.created_at.0,
        "updated_at": task.updated_at.0,
        "completed_at": task.completed_at.map(|at| at.0),
    })
}

/// Whether a search finds a transfer: by a part of its file's name, or the beginning of its hash or of an id.
pub(crate) fn is_found_by(task: &Task, search: &str) -> bool {
    let search = search.to_lowercase();
    let offer = Offer::from_payload(&task.payload).ok();
    let is_in_offer = offer.is_some_and(|offer| {
        let begins = |text: &str| text.to_lowercase().starts_with(&search);
        offer.name.to_lowercase().contains(&search) || begins(&offer.hash) || begins(&offer.transfer_id)
    });
    is_in_offer || task.id.to_string() == search || task.title.to_lowercase().contains(&search)
}

/// Whether both ends have signed a transfer, and who they are by their keys.
pub(crate) fn signatures(task: &Task) -> Value {
    let receipt = Receipt {
        // Where both name the service that they used this is not looked at.
        scope: Scope::new("", &task.organization, &task.project),
        task_id: json!(task.id),
        payload: task.payload.clone(),
        outputs: task.outputs.clone(),
    };
    match receipt.check() {
        Ok(signed) => json!({
            "state": "valid",
            "sender": hex::encode(signed.sender),
            "receiver": hex::encode(signed.receiver),
        }),
        Err(Flawed::Forged(_)) if name_service(task) => json!({ "state": "wrong" }),
        // It may be signed for an address of the hub that is not known here.
        Err(Flawed::Forged(_)) => json!({ "state": "unknown" }),
        Err(Flawed::Unreadable(_) | Flawed::Unsigned(_)) => json!({ "state": "missing" }),
    }
}

/// What the parts of a message say to a person. Where a peer is reached, as its data say, is long and means
/// nothing to one.
pub(crate) fn message_text(parts: &Value) -> String {
    let parts = parts.as_array().map(Vec::as_slice).unwrap_or_default();
    let is = |part: &Value, kind: &str| part.get("type").is_some_and(|found| found == kind);
    let texts = parts.iter().filter(|part| is(part, "text")).filter_map(|part| part.get("content")?.as_str());
    let said = one_line(&texts.collect::<Vec<_>>().join(" "), MAX_SAID);
    if said.is_empty() && parts.iter().any(|part| is(part, "data")) { "(data)".into() } else { said }
}

/// Whether both ends name the service that they signed for.
fn name_service(task: &Task) -> bool {
    let names = |value: &Value| value.pointer("/p2p/service").is_some_and(Value::is_string);
    names(&task.payload) && task.outputs.iter().all(names)
}

/// The output by which a receiver says that it has the file of this offer, and that its hash is right.
fn word_of_receiver<'a>(task: &'a Task, offer: &Offer) -> Option<&'a Value> {
    let says = |output: &Value, name: &str, value: Value| output.get(name) == Some(&value);
    let mut outputs = task.outputs.iter().filter(|_| task.status == Status::Completed);
    outputs.find(|output| says(output, "verified", json!(true)) && says(output, "hash", json!(offer.hash)))
}

/// How long the transfer took, and who says so.
fn took(task: &Task, word: Option<&Value>, claimed_at: Option<Millis>) -> Option<(Duration, &'static str)> {
    let told = word.and_then(|word| word.get("duration_ms")?.as_u64()).filter(|ms| *ms <= MAX_SAFE_INTEGER);
    if let Some(ms) = told {
        return Some((Duration::from_millis(ms), "receiver"));
    }
    Some((task.completed_at?.since(claimed_at?), "service"))
}

/// Bytes a second; unknown of what took no time that could be measured.
fn rate(size: u64, took: Duration) -> Option<u64> {
    let ms = u64::try_from(took.as_millis()).ok().filter(|ms| *ms > 0)?;
    u64::try_from(u128::from(size) * 1000 / u128::from(ms)).ok().filter(|rate| *rate <= MAX_SAFE_INTEGER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Actor;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn actor(id: &str) -> Actor {
        Actor { kind: "agent".into(), id: id.into(), name: id.to_uppercase() }
    }

    fn arrived(output: Value) -> Task {
        Task {
            id: 5,
            organization: "default".into(),
            project: "main".into(),
            project_id: 1,
            title: "File for b".into(),
            description: None,
            kind: offer::TASK_TYPE.into(),
            channel: "c".into(),
            priority: 5,
            status: Status::Completed,
            payload: json!({
                "transfer_id": "t-1", "filename": "Report.pdf", "size": 5000, "hash": HASH, "sender_id": "a",
                "recipient_id": "b",
            }),
            outputs: vec![output],
            reason: None,
            source: actor("a"),
            assignee: Some(actor("b")),
            lease_expires: None,
            created_at: Millis(1000),
            updated_at: Millis(9000),
            completed_at: Some(Millis(9000)),
        }
    }

    fn word() -> Value {
        json!({ "verified": true, "hash": HASH, "duration_ms": 2000, "path": "punched" })
    }

    #[test]
    fn what_the_receiver_says_is_shown() {
        let shown = to_value(&arrived(word()), Some(Millis(4000)));
        assert_eq!((&shown["is_verified"], &shown["path"]), (&json!(true), &json!("punched")));
        assert_eq!((&shown["duration_ms"], &shown["duration_from"]), (&json!(2000), &json!("receiver")));
        assert_eq!((&shown["size"], &shown["rate"]), (&json!(5000), &json!(2500)));
        assert_eq!((&shown["from"]["id"], &shown["to"]["id"]), (&json!("a"), &json!("b")));
    }

    #[test]
    fn what_nobody_says_is_left_out() {
        let shown = to_value(&arrived(json!({ "hash": HASH })), None);
        for name in ["path", "duration_ms", "duration_from", "rate"] {
            assert_eq!(shown[name], json!(null), "{name}");
        }
        assert_eq!(shown["is_verified"], false);
        // From the claim to the end is what the hub has seen itself.
        let shown = to_value(&arrived(json!({ "hash": HASH })), Some(Millis(4000)));
        assert_eq!((&shown["duration_ms"], &shown["duration_from"]), (&json!(5000), &json!("service")));
        for odd in [json!("relayed "), json!("<b>"), json!(7)] {
            let mut word = word();
            word["path"] = odd.clone();
            assert_eq!(to_value(&arrived(word), None)["path"], json!(null), "{odd}");
        }
    }

    #[test]
    fn another_files_hash_or_a_transfer_that_did_not_end_is_not_verified() {
        let mut other = word();
        other["hash"] = json!("ab".repeat(32));
        assert_eq!(to_value(&arrived(other), None)["is_verified"], false);
        let open = Task { status: Status::InProgress, completed_at: None, ..arrived(word()) };
        let shown = to_value(&open, Some(Millis(4000)));
        assert_eq!((&shown["is_verified"], &shown["duration_ms"]), (&json!(false), &json!(null)));
    }

    #[test]
    fn a_time_of_nothing_gives_no_rate_and_a_huge_one_no_overflow() {
        assert_eq!(rate(5000, Duration::ZERO), None);
        assert_eq!(rate(MAX_SAFE_INTEGER, Duration::from_millis(1)), None);
        assert_eq!(rate(5000, Duration::from_secs(u64::MAX)), None);
        assert_eq!(rate(0, Duration::from_millis(7)), Some(0));
    }

    #[test]
    fn foreign_text_is_shown_harmlessly_and_asked_for_as_it_is() {
        let mut task = arrived(word());
        task.source.id = "a\u{202e}b".into();
        task.payload["filename"] = json!("gpj.\u{202e}<b>exe");
        let shown = to_value(&task, None);
        assert_eq!(shown["from"], json!({ "id": "a\u{202e}b", "shown": r"a\u{202e}b" }));
        assert_eq!(shown["file"], r"gpj.\u{202e}<b>exe");
    }

    #[test]
    fn a_payload_that_is_no_offer_is_shown_by_its_title() {
        let task = Task { payload: json!({ "size": "x" }), ..arrived(word()) };
        let shown = to_value(&task, None);
        assert_eq!(
            (&shown["file"], &shown["size"], &shown["hash"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        assert_eq!((&shown["title"], &shown["to"]["id"]), (&json!("File for b"), &json!("b")));
    }

    #[test]
    fn a_search_looks_at_the_name_the_hash_and_the_ids() {
        let task = arrived(word());
        for search in ["report", "PORT.P", "e3b0c4", "E3B0", "T-1", "5", "file for"] {
            assert!(is_found_by(&task, search), "{search}");
        }
        for search in ["b855", "-1", "reports", "55"] {
            assert!(!is_found_by(&task, search), "{search}");
        }
    }

    #[test]
    fn what_is_not_signed_is_told_from_what_is_signed_wrongly() {
        assert_eq!(signatures(&arrived(word())), json!({ "state": "missing" }));
        let mut task = arrived(word());
        let p2p = |seed: &str| {
            json!({
                "version": 2, "key": "07".repeat(32), "instance": "01".repeat(16), "seq": 5,
                "identity": seed.repeat(32), "signature": "00".repeat(64), "service": "http://h",
            })
        };
        task.payload["p2p"] = p2p("03");
        assert_eq!(signatures(&task), json!({ "state": "unknown" }));
        task.outputs[0]["p2p"] = p2p("04");
        assert_eq!(signatures(&task), json!({ "state": "wrong" }));
    }

    #[test]
    fn a_message_is_its_text() {
        let parts =
            json!([{ "type": "text", "content": "one\ntwo" }, { "type": "data", "content": "{}" }, 7]);
        assert_eq!(message_text(&parts), "one two");
        assert_eq!(message_text(&json!([{ "type": "data", "content": "{}" }])), "(data)");
        assert_eq!(message_text(&json!("x")), "");
    }
}
