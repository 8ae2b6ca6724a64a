//! Any bytes as what a sender or a receiver says: panics where something is wrong. Fuzzing runs it.

use ats_p2p::wire::{Arrival, DONE, FrameType, Meta, Receiving, Reply, Sending, encode};
use bytes::Bytes;

/// Bytes of the file that is offered.
const SIZE: u64 = 300;

/// Both machines of a transfer. The input is a list of steps: a byte that says what comes, and up to 255
/// bytes, after their count, to make it of.
pub(crate) fn run(data: &[u8]) {
    let mut runs = Vec::new();
    let mut rest = data;
    while let [kind, count, more @ ..] = rest {
        let (bytes, behind) = more.split_at(more.len().min((*count).into()));
        rest = behind;
        runs.push(said(*kind, bytes));
    }
    let offset = data.first().map_or(0, |byte| u64::from(*byte) * 2);
    let ((file, end), (at_once, other_end)) = (receive(&runs, offset), receive(&[runs.concat()], offset));
    assert_eq!(end, other_end, "the cuts of the stream change nothing");
    // The bytes before the one too many may be taken or not, as they come.
    assert!(file.starts_with(&at_once) && (file == at_once || end.starts_with("TooManyBytes")));
    for (is_asking, is_done) in [(false, false), (false, true), (true, false), (true, true)] {
        reply(&runs, is_asking, is_done);
    }
}

/// The next bytes that a peer says: of some frame in good order, or any.
fn said(kind: u8, bytes: &[u8]) -> Vec<u8> {
    match kind % 8 {
        0 => Meta { resume: kind & 0x80 != 0, ..offer() }.encode().expect("fits"),
        4 if kind & 0x80 != 0 => encode(FrameType::Resume, bytes),
        1 | 2 => encode(FrameType::Data, bytes),
        3 => DONE.to_vec(),
        4 => encode(FrameType::Ack, bytes),
        5 => encode(FrameType::Nack, bytes),
        6 => encode(FrameType::Error, bytes),
        _ => bytes.to_vec(),
    }
}

fn offer() -> Meta {
    Meta { name: "a".into(), size: SIZE, hash: "0".repeat(64), transfer_id: None, resume: false }
}

/// What a receiver that has `offset` bytes takes for the rest of the file, and what it takes for the end.
fn receive(runs: &[Vec<u8>], offset: u64) -> (Vec<u8>, String) {
    let mut receiving = Receiving::new(offer());
    let mut before = 0;
    let (mut file, mut opened, mut end) = (Vec::new(), false, None);
    for run in runs {
        receiving.handle(Bytes::copy_from_slice(run));
        loop {
            let arrival = match receiving.poll() {
                Ok(None) => break,
                Ok(Some(arrival)) => arrival,
                Err(fault) => {
                    assert!(end.is_none() || end.as_deref() == Some("done"), "nothing comes after {end:?}");
                    end = Some(format!("{fault:?}"));
                    continue;
                }
            };
            assert!(end.is_none() || end.as_deref() == Some("done"), "{arrival:?} comes after {end:?}");
            match arrival {
                Arrival::Meta => {
                    assert!(!std::mem::replace(&mut opened, true), "the metadata comes once");
                    assert_eq!(receiving.begin(offset).is_some(), receiving.can_resume());
                    before = receiving.received();
                    assert_eq!(before, if receiving.can_resume() { offset.min(SIZE) } else { 0 });
                }
                Arrival::Data(bytes) => {
                    assert!(opened && !bytes.is_empty() && end.is_none());
                    file.extend_from_slice(&bytes);
                }
                Arrival::Done => {
                    assert!(opened && before + file.len() as u64 == SIZE, "{} bytes", file.len());
                    end = Some("done".into());
                }
                Arrival::Error(reason) => end = Some(format!("error: {reason}")),
            }
        }
        assert_eq!(receiving.received(), before + file.len() as u64);
        assert!(receiving.received() <= SIZE);
    }
    (file, end.unwrap_or_default())
}

/// What a sender takes for the answer: a place in the file if it asked for one, then one answer, and no ACK
/// before it has said that the file is whole.
fn reply(runs: &[Vec<u8>], is_asking: bool, is_done: bool) {
    let mut sending = if is_asking { Sending::asking(SIZE) } else { Sending::default() };
    let mut places = 0;
    if is_done {
        sending.done_sent();
    }
    let mut is_over = false;
    for run in runs {
        sending.handle(Bytes::copy_from_slice(run));
        loop {
            match sending.poll() {
                Ok(None) => break,
                Ok(Some(Reply::Resume(offset))) => {
                    places += 1;
                    assert!(is_asking && places == 1 && !is_over && offset <= SIZE);
                }
                Ok(Some(reply)) => {
                    assert!(is_done || !matches!(reply, Reply::Ack(_)));
                    assert!(!std::mem::replace(&mut is_over, true), "one answer comes");
                }
                Err(_) => assert!(!std::mem::replace(&mut is_over, true), "one answer comes"),
            }
        }
    }
}
