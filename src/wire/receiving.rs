//! What a receiver gets from a sender.

use bytes::Bytes;

use super::{Decoder, Fault, FrameType, Meta, Piece, resume::Resume};

/// A receiver's side of one connection: META equal to the offer, then as many bytes as offered, then DONE.
///
/// After META [`begin`](Self::begin) says from which byte on they come.
#[derive(Debug)]
pub struct Receiving {
    offer: Meta,
    decoder: Decoder,
    stage: Stage,
    /// The sender waits to be told from which byte on the file is wanted.
    is_asked: bool,
    received: u64,
}

/// What came from the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The metadata, equal to the offer.
    Meta,
    /// The next bytes of the file; never empty.
    Data(Bytes),
    /// All bytes that were offered have come. Their hash is yet to be compared.
    Done,
    /// The sender gave up, saying why. Foreign text: escape it before showing it.
    Error(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Meta,
    /// It is to be decided from which byte on the file comes.
    Begin,
    Data,
    Ended,
    Failed,
}

impl Receiving {
    /// A receiver of what `offer` says.
    pub fn new(offer: Meta) -> Self {
        Self { offer, decoder: Decoder::default(), stage: Stage::Meta, is_asked: false, received: 0 }
    }

    /// What the offer says.
    pub fn offer(&self) -> &Meta {
        &self.offer
    }

    /// Bytes of the file that are here, those from before included.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether the sender can leave out bytes that are here already.
    pub fn can_resume(&self) -> bool {
        self.is_asked
    }

    /// Says after META how many bytes of the file are here already; returns the frame by which the sender is
    /// told. Where it does not ask, all bytes come: then `offset` counts as 0, and nothing is told.
    pub fn begin(&mut self, offset: u64) -> Option<Vec<u8>> {
        if self.stage != Stage::Begin {
            return None;
        }
        self.stage = Stage::Data;
        self.is_asked.then(|| {
            self.received = offset.min(self.offer.size);
            Resume { offset: self.received }.encode()
        })
    }

    /// Takes the next bytes of the stream.
    pub fn handle(&mut self, bytes: Bytes) {
        self.decoder.handle(bytes);
    }

    /// Whether more has come than was polled so far: after `Done`, whether the sender goes on speaking.
    pub fn has_more(&self) -> bool {
        !self.decoder.is_clear()
    }

    /// What came next; `None` until more bytes have come, and between META and [`begin`](Self::begin).
    ///
    /// # Errors
    /// The first fault, after which nothing more comes out.
    pub fn poll(&mut self) -> Result<Option<Arrival>, Fault> {
        if self.stage == Stage::Failed {
            return Ok(None);
        }
        let next = self.next();
        if matches!(next, Err(_) | Ok(Some(Arrival::Error(_)))) {
            self.stage = Stage::Failed;
        }
        next
    }

    /// Compares the SHA-256 of all bytes received, in lower-case hex, with the one offered.
    pub fn check_hash(&self, actual: &str) -> Result<(), Fault> {
        if actual == self.offer.hash { Ok(()) } else { Err(Fault::HashDiffers { actual: actual.to_owned() }) }
    }

    fn next(&mut self) -> Result<Option<Arrival>, Fault> {
        if self.stage == Stage::Begin {
            return Ok(None);
        }
        while let Some(piece) = self.decoder.poll()? {
            match (self.stage, piece) {
                (Stage::Meta, Piece::Frame(FrameType::Meta, payload)) => {
                    let meta = Meta::decode(&payload)?;
                    self.offer.check(&meta)?;
                    (self.is_asked, self.stage) = (meta.resume, Stage::Begin);
                    return Ok(Some(Arrival::Meta));
                }
                (Stage::Data, Piece::Data(bytes)) => {
                    let size = self.offer.size;
                    let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    if len > size - self.received {
                        return Err(Fault::TooManyBytes { size });
                    }
                    self.received += len;
                    if len > 0 {
                        return Ok(Some(Arrival::Data(bytes)));
                    }
                }
                (Stage::Data, Piece::Frame(FrameType::Done, _)) => {
                    let (received, size) = (self.received, self.offer.size);
                    if received < size {
                        return Err(Fault::TooFewBytes { received, size });
                    }
                    self.stage = Stage::Ended;
                    return Ok(Some(Arrival::Done));
                }
                (_, Piece::Frame(FrameType::Error, reason)) => {
                    return Ok(Some(Arrival::Error(String::from_utf8_lossy(&reason).into_owned())));
                }
                (_, Piece::Frame(kind, _)) => return Err(Fault::OutOfOrder { kind }),
                (_, Piece::Data(_)) => return Err(Fault::OutOfOrder { kind: FrameType::Data }),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{DONE, encode},
        *,
    };

    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn offer() -> Meta {
        Meta { name: "a.txt".into(), size: 3, hash: HASH.into(), transfer_id: None, resume: false }
    }

    fn meta_frame() -> Vec<u8> {
        offer().encode().expect("fits")
    }

    fn data(bytes: &[u8]) -> Vec<u8> {
        encode(FrameType::Data, bytes)
    }

    fn receive(frames: &[Vec<u8>]) -> Result<Vec<Arrival>, Fault> {
        let mut receiving = Receiving::new(offer());
        receiving.handle(frames.concat().into());
        let mut events = Vec::new();
        while let Some(event) = receiving.poll()? {
            if event == Arrival::Meta {
                assert_eq!(receiving.begin(2), None, "nobody asked");
            }
            events.push(event);
        }
        Ok(events)
    }

    fn file(bytes: &'static [u8]) -> Arrival {
        Arrival::Data(Bytes::from_static(bytes))
    }

    #[test]
    fn a_whole_file_comes_out_in_order() {
        let events = receive(&[meta_frame(), data(b"a"), data(b""), data(b"bc"), DONE.to_vec()]);
        assert_eq!(events, Ok(vec![Arrival::Meta, file(b"a"), file(b"bc"), Arrival::Done]));
    }

    #[test]
    fn the_hash_must_be_the_one_offered_digit_for_digit() {
        let receiving = Receiving::new(offer());
        assert_eq!(receiving.check_hash(HASH), Ok(()));
        assert!(receiving.check_hash(&HASH.to_uppercase()).is_err());
        assert!(receiving.check_hash("").is_err());
    }

    #[test]
    fn metadata_that_differs_is_refused() {
        let other = Meta { size: 4, ..offer() }.encode().expect("fits");
        assert_eq!(receive(&[other]), Err(Fault::MetaDiffers { field: "size" }));
        assert!(matches!(receive(&[encode(FrameType::Meta, b"{")]), Err(Fault::BadMeta(_))));
    }

    #[test]
    fn the_first_byte_too_many_ends_it() {
        assert_eq!(receive(&[meta_frame(), data(b"abcd")]), Err(Fault::TooManyBytes { size: 3 }));
        assert_eq!(receive(&[meta_frame(), data(b"abc"), data(b"d")]), Err(Fault::TooManyBytes { size: 3 }));
    }

    #[test]
    fn an_end_too_early_is_refused() {
        let fault = Fault::TooFewBytes { received: 2, size: 3 };
        assert_eq!(receive(&[meta_frame(), data(b"ab"), DONE.to_vec()]), Err(fault));
    }

    #[test]
    fn frames_out_of_order_are_refused() {
        let out_of_order = |kind| Err(Fault::OutOfOrder { kind });
        assert_eq!(receive(&[data(b"a")]), out_of_order(FrameType::Data));
        assert_eq!(receive(&[data(b"")]), out_of_order(FrameType::Data));
        assert_eq!(receive(&[DONE.to_vec()]), out_of_order(FrameType::Done));
        assert_eq!(receive(&[meta_frame(), meta_frame()]), out_of_order(FrameType::Meta));
        assert_eq!(receive(&[meta_frame(), encode(FrameType::Ack, b"")]), out_of_order(FrameType::Ack));
        assert_eq!(receive(&[encode(FrameType::Nack, b"no")]), out_of_order(FrameType::Nack));
        let whole = [meta_frame(), data(b"abc"), DONE.to_vec()];
        for (more, kind) in [(data(b""), FrameType::Data), (DONE.to_vec(), FrameType::Done)] {
            assert_eq!(receive(&[whole.concat(), more]), out_of_order(kind));
        }
    }

    #[test]
    fn what_follows_the_end_is_noticed() {
        for (more, noticed) in [(&b""[..], false), (b"\x01", true), (b"\x01\0\0\0\x02{", true)] {
            let mut receiving = Receiving::new(offer());
            receiving.handle([&meta_frame()[..], &data(b"abc"), &DONE, more].concat().into());
            while receiving.poll().expect("in order").is_some() {
                receiving.begin(0);
            }
            assert_eq!(receiving.has_more(), noticed, "{more:?}");
        }
    }

    #[test]
    fn the_sender_may_give_up_at_any_time() {
        let error = encode(FrameType::Error, b"disk \xff gone");
        let reason = Arrival::Error("disk \u{fffd} gone".into());
        assert_eq!(receive(&[error.clone(), meta_frame()]), Ok(vec![reason.clone()]));
        assert_eq!(receive(&[meta_frame(), error]), Ok(vec![Arrival::Meta, reason]));
    }

    /// What comes of the frames behind a META that asks, where the first byte is here already.
    fn resume_from_one(frames: &[Vec<u8>]) -> Result<Vec<Arrival>, Fault> {
        let mut receiving = Receiving::new(offer());
        assert_eq!(receiving.begin(1), None, "not yet");
        receiving.handle(Meta { resume: true, ..offer() }.encode().expect("fits").into());
        assert_eq!(receiving.poll(), Ok(Some(Arrival::Meta)));
        assert!(receiving.can_resume());
        assert_eq!(receiving.begin(1), Some(encode(FrameType::Resume, br#"{"offset":1}"#)));
        assert_eq!((receiving.begin(2), receiving.received()), (None, 1));
        receiving.handle(frames.concat().into());
        let mut events = Vec::new();
        while let Some(event) = receiving.poll()? {
            events.push(event);
        }
        Ok(events)
    }

    #[test]
    fn what_is_here_already_need_not_come_again() {
        let rest = resume_from_one(&[data(b"bc"), DONE.to_vec()]);
        assert_eq!(rest, Ok(vec![file(b"bc"), Arrival::Done]));
        assert_eq!(resume_from_one(&[data(b"abc")]), Err(Fault::TooManyBytes { size: 3 }));
        let fault = Fault::TooFewBytes { received: 2, size: 3 };
        assert_eq!(resume_from_one(&[data(b"b"), DONE.to_vec()]), Err(fault));
    }

    #[test]
    fn of_a_whole_file_only_the_end_has_to_come() {
        for offset in [3, 4, u64::MAX] {
            let mut receiving = Receiving::new(offer());
            receiving.handle(Meta { resume: true, ..offer() }.encode().expect("fits").into());
            assert_eq!(receiving.poll(), Ok(Some(Arrival::Meta)));
            assert_eq!(receiving.begin(offset), Some(encode(FrameType::Resume, br#"{"offset":3}"#)));
            receiving.handle(Bytes::from_static(&DONE));
            assert_eq!(receiving.poll(), Ok(Some(Arrival::Done)));
        }
    }

    #[test]
    fn nothing_comes_out_after_a_fault() {
        let mut receiving = Receiving::new(offer());
        receiving.handle(Bytes::from_static(&DONE));
        assert!(receiving.poll().is_err());
        receiving.handle(meta_frame().into());
        assert_eq!(receiving.poll(), Ok(None));
    }

    /// Everything that comes of `runs`, neighbouring bytes joined, and how it ended.
    fn outcome(runs: &[&[u8]]) -> (Vec<Arrival>, Option<Fault>) {
        let mut receiving = Receiving::new(offer());
        let mut events = Vec::new();
        for run in runs {
            receiving.handle(Bytes::copy_from_slice(run));
            loop {
                match receiving.poll() {
                    Ok(None) => break,
                    Ok(Some(Arrival::Data(bytes))) => match events.last_mut() {
                        Some(Arrival::Data(before)) => *before = [&before[..], &bytes].concat().into(),
                        _ => events.push(Arrival::Data(bytes)),
                    },
                    Ok(Some(event)) => {
                        receiving.begin(0);
                        events.push(event);
                    }
                    Err(fault) => return (events, Some(fault)),
                }
            }
        }
        (events, None)
    }

    proptest! {
        #[test]
        fn whatever_comes_only_the_file_offered_comes_out(
            frames in prop::collection::vec(prop_oneof![
                4 => prop::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| data(&bytes)),
                2 => Just(meta_frame()),
                2 => Just(DONE.to_vec()),
                1 => Just(encode(FrameType::Error, b"oh")),
                1 => prop::collection::vec(any::<u8>(), 0..8),
            ], 0..8),
            starts_well in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let start = if starts_well { meta_frame() } else { Vec::new() };
            let bytes = [start, frames.concat()].concat();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let runs: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let (events, fault) = outcome(&runs);
            for (place, event) in events.iter().enumerate() {
                match event {
                    Arrival::Meta => prop_assert_eq!(place, 0),
                    Arrival::Data(bytes) => prop_assert!(place == 1 && bytes.len() <= 3),
                    Arrival::Done => {
                        prop_assert!(matches!(&events[1], Arrival::Data(bytes) if bytes.len() == 3));
                    }
                    Arrival::Error(_) => prop_assert_eq!(place, events.len() - 1),
                }
            }
            // A byte too many may come in a run of its own, after those before it came out.
            let (whole, same) = outcome(&[&bytes]);
            prop_assert_eq!(&fault, &same);
            if fault.is_none() {
                prop_assert_eq!(events, whole);
            }
        }
    }
}
