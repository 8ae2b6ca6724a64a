//! The machines of both ends, whatever is cut off, damaged or begun anew between them.

use ats_p2p::wire::{Arrival, DONE, Fault, FrameType, Meta, Receiving, Reply, Sending, encode};
use bytes::Bytes;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

/// What happens on one connection.
#[derive(Clone, Debug)]
struct Connection {
    /// The sender can begin in the middle.
    resumes: bool,
    /// Bytes of the stream that arrive before it is cut.
    cut: usize,
    /// Bytes of the file in a frame, and of the stream in a run.
    frame: usize,
    run: usize,
    /// A byte of the stream that arrives as another one.
    damaged: Option<usize>,
    /// The share of what came that is still there for the next connection.
    kept: f64,
    /// A byte of that which is another one by then.
    spoilt: Option<f64>,
}

/// How a connection ended for the receiver.
#[derive(Debug, PartialEq)]
enum End {
    Delivered,
    Cut,
    Refused,
}

fn connection() -> impl Strategy<Value = Connection> {
    let damaged = prop::option::weighted(0.2, 0..200_usize);
    let spoilt = prop::option::weighted(0.2, 0.0..1.0);
    (any::<bool>(), 0..400_usize, 1..20_usize, 1..50_usize, damaged, 0.0..=1.0, spoilt).prop_map(
        |(resumes, cut, frame, run, damaged, kept, spoilt)| Connection {
            resumes,
            cut,
            frame,
            run,
            damaged,
            kept,
            spoilt,
        },
    )
}

fn meta(file: &[u8], resume: bool) -> Meta {
    let hash = hex::encode(Sha256::digest(file));
    Meta { name: "f".into(), size: file.len() as u64, hash, transfer_id: None, resume }
}

/// The sender's bytes behind META, once it knows where to begin.
fn rest(file: &[u8], offset: usize, frame: usize) -> Vec<u8> {
    let frames = file[offset..].chunks(frame).map(|piece| encode(FrameType::Data, piece));
    frames.chain([DONE.to_vec()]).collect::<Vec<_>>().concat()
}

/// Hands `bytes` over as the connection lets them through.
fn arrive(receiving: &mut Receiving, here: &mut Vec<u8>, bytes: &[u8]) -> Result<Option<Arrival>, Fault> {
    receiving.handle(Bytes::copy_from_slice(bytes));
    while let Some(arrival) = receiving.poll()? {
        match arrival {
            Arrival::Data(data) => here.extend_from_slice(&data),
            other => return Ok(Some(other)),
        }
    }
    Ok(None)
}

/// One connection: the receiver has `here` and gets more.
fn run(file: &[u8], here: &mut Vec<u8>, connection: &Connection) -> Result<End, TestCaseError> {
    let asked = meta(file, connection.resumes);
    let mut receiving = Receiving::new(meta(file, false));
    let mut sending = match connection.resumes {
        true => Sending::asking(asked.size),
        false => Sending::default(),
    };
    let opening = asked.encode().expect("fits");
    let mut stream = opening.clone();
    let mut at = 0;
    loop {
        let end = stream.len().min(at + connection.run).min(connection.cut);
        if at == end {
            return Ok(End::Cut);
        }
        let mut piece = stream[at..end].to_vec();
        if let Some(byte) = connection.damaged.and_then(|byte| piece.get_mut(byte.checked_sub(at)?)) {
            *byte ^= 1;
        }
        at = end;
        match arrive(&mut receiving, here, &piece) {
            Ok(Some(Arrival::Meta)) => {
                if !receiving.can_resume() {
                    here.clear();
                }
                if let Some(frame) = receiving.begin(here.len() as u64) {
                    sending.handle(frame.into());
                }
                let offset = match sending.poll().expect("our own frame") {
                    Some(Reply::Resume(offset)) => offset as usize,
                    // A damaged META need not ask; then the sender waits in vain.
                    None if connection.resumes => return Ok(End::Cut),
                    None => 0,
                    other => panic!("{other:?}"),
                };
                prop_assert_eq!(offset, here.len());
                stream.extend(rest(file, offset, connection.frame));
            }
            Ok(Some(Arrival::Done)) => {
                prop_assert_eq!(here.len(), file.len());
                let actual = hex::encode(Sha256::digest(&*here));
                let is_right = receiving.check_hash(&actual).is_ok();
                return Ok(if is_right { End::Delivered } else { End::Refused });
            }
            Ok(Some(_)) | Err(_) => return Ok(End::Refused),
            Ok(None) => prop_assert!(here.len() <= file.len()),
        }
    }
}

proptest! {
    #[test]
    fn a_transfer_ends_with_the_file_that_was_offered_or_without_one(
        file in prop::collection::vec(any::<u8>(), 0..200),
        connections in prop::collection::vec(connection(), 0..8),
    ) {
        let mut here = Vec::new();
        for connection in &connections {
            match run(&file, &mut here, connection)? {
                End::Delivered => {
                    prop_assert_eq!(&here, &file);
                    return Ok(());
                }
                // What came may be what is wrong.
                End::Refused => here.clear(),
                // A process that died finds again what the disk has kept.
                End::Cut => {
                    here.truncate((connection.kept * here.len() as f64) as usize);
                    if let Some(spoilt) = connection.spoilt.filter(|_| !here.is_empty()) {
                        let at = (spoilt * here.len() as f64) as usize;
                        here[at] ^= 1;
                    }
                }
            }
        }
        // Whatever came before, a connection that holds is enough, or a second one where the first shows that
        // what was kept is wrong.
        let whole = Connection {
            resumes: true,
            cut: usize::MAX,
            frame: 16,
            run: 7,
            damaged: None,
            kept: 1.0,
            spoilt: None,
        };
        if run(&file, &mut here, &whole)? == End::Refused {
            here.clear();
            prop_assert_eq!(run(&file, &mut here, &whole)?, End::Delivered);
        }
        prop_assert_eq!(here, file);
    }
}
