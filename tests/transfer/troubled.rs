//! Transfers by a task service that is slow, overloaded, broken, or behind something that is: each ends well,
//! or with an error that names the service and what was asked of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ats_p2p::error::{Code, Error};
use ats_p2p::event::Event;
use ats_p2p::send::Sent;
use futures_util::StreamExt as _;

use crate::lab::{Lab, content};
use crate::trouble::{Call, Fault, TroubledWay, Tunes};

/// How long either side waits for the other: longer than what is put off three times.
const LIMIT: Duration = Duration::from_secs(6);
/// Cases at once: most of the time each waits.
const AT_ONCE: usize = 16;
const SIZE: usize = 20_000;

/// Whose way to the service is troubled.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Sender,
    Receiver,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    side: Side,
    call: Call,
    fault: Fault,
    /// Whether it stays so; else it is the first call that meets the trouble.
    lasts: bool,
}

/// What passes when it is tried again.
const PASSING: [Fault; 8] = [
    Fault::Slow,
    Fault::Status("429 Too Many Requests"),
    Fault::Status("500 Internal Server Error"),
    Fault::Status("503 Service Unavailable"),
    Fault::CutBefore,
    Fault::CutAfter(0),
    Fault::CutAfter(20),
    Fault::CutAfter(300),
];

/// What does not have to.
const LASTING: [Fault; 8] = [
    Fault::Slow,
    Fault::Status("429 Too Many Requests"),
    Fault::Status("500 Internal Server Error"),
    Fault::Page,
    Fault::Json("[7]"),
    Fault::Json("{\"task\":{\"id\":[]}}"),
    Fault::CutBefore,
    Fault::CutAfter(100),
];

fn cases() -> Vec<Case> {
    let calls = [
        (Side::Sender, Call::Create),
        (Side::Sender, Call::Read),
        (Side::Receiver, Call::List),
        (Side::Receiver, Call::Read),
        (Side::Receiver, Call::Message),
        (Side::Receiver, Call::Claim),
        (Side::Receiver, Call::Complete),
    ];
    let mut cases = Vec::new();
    for (side, call) in calls {
        cases.extend(PASSING.map(|fault| Case { side, call, fault, lasts: false }));
        cases.extend(LASTING.map(|fault| Case { side, call, fault, lasts: true }));
    }
    for side in [Side::Sender, Side::Receiver] {
        for tunes in [Tunes::Blocked, Tunes::Silent, Tunes::Doubled, Tunes::CutAtEach] {
            cases.push(Case { side, call: Call::Events, fault: Fault::Events(tunes), lasts: true });
        }
    }
    // The hub says that it tells every event, and none of what is behind it passes over some alone.
    cases.retain(|case| (case.side, case.fault) != (Side::Receiver, Fault::Events(Tunes::Silent)));
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_by_a_troubled_service_ends_well_or_says_what_was_asked_of_whom() {
    let lab = Lab::new().await;
    let lab = Arc::new(lab);
    let failures: Vec<String> = futures_util::stream::iter(cases().into_iter().enumerate())
        .map(|(number, case)| {
            let lab = lab.clone();
            async move {
                let outcome = run(&lab, number, case).await;
                outcome.err().map(|why| format!("{case:?}: {why}"))
            }
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(|failure| async { failure })
        .collect()
        .await;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Arc::into_inner(lab).expect("nobody else has it").close([]).await;
}

async fn run(lab: &Lab, number: usize, case: Case) -> Result<(), String> {
    let way = TroubledWay::start(lab.address(), case.call, case.fault, case.lasts).await;
    let agent = |name: String, side| {
        lab.agent(&name, |options| {
            options.timeout = LIMIT;
            options.bootstrap = Some(lab.bootstrap());
            if case.side == side {
                options.ats.url = Some(way.url());
            }
        })
    };
    let recipient = format!("b{number}");
    let (a, b) = (agent(format!("a{number}"), Side::Sender), agent(recipient.clone(), Side::Receiver));
    let (folder, name) = (format!("in{number}"), format!("file{number}"));
    b.watch(Some(lab.path(&folder)));
    let sent = a.send(&lab.file(&name, SIZE), &recipient).await;
    let there = std::fs::read(lab.path(&folder).join(&name)).ok();
    let result = judge(case, sent, there.as_deref(), way.address, &name);
    if result == Ok(Outcome::ToldByRecipient) {
        b.event(|event| is_told(&event, way.address).then_some(())).await;
    }
    for agent in [a, b] {
        agent.node.destroy().await;
    }
    result.map(drop)
}

/// How a transfer ended as it may.
#[derive(Debug, PartialEq)]
enum Outcome {
    Delivered,
    ToldBySender,
    /// The sender knows no more than that nobody came; the recipient tells why.
    ToldByRecipient,
}

fn judge(
    case: Case,
    sent: Result<Sent, Error>,
    there: Option<&[u8]>,
    service: SocketAddr,
    name: &str,
) -> Result<Outcome, String> {
    if there.is_some_and(|there| there != content(SIZE)) {
        return Err("another file is at its place".into());
    }
    let error = match sent {
        Ok(_) if there.is_none() => return Err("it counts as sent, and did not arrive".into()),
        Ok(_) => return Ok(Outcome::Delivered),
        Err(error) => error,
    };
    let text = format!("{:?}: {error}", error.code);
    match case.side {
        _ if !case.lasts => Err(format!("it did not end well: {text}")),
        Side::Sender if names(&error.message, service, name) => Ok(Outcome::ToldBySender),
        Side::Sender => Err(format!("neither the service nor the file is named: {text}")),
        Side::Receiver => match error.code {
            Code::OfferExpired | Code::PeerUnreachable | Code::RemoteError => Ok(Outcome::ToldByRecipient),
            _ => Err(format!("the sender has another error: {text}")),
        },
    }
}

/// Whether a text names the service and what is sent.
fn names(text: &str, service: SocketAddr, file: &str) -> bool {
    text.contains(&service.to_string()) && text.contains(file)
}

/// Whether an event tells of trouble with the service.
fn is_told(event: &Event, service: SocketAddr) -> bool {
    let text = match event {
        Event::Disconnected { reason } => reason,
        Event::Warning { message } => message,
        Event::Error { error } | Event::TransferFailed { error, .. } => &error.message,
        _ => return false,
    };
    text.contains(&service.to_string())
}
