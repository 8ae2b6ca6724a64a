//! What a sender gets from a receiver.

use bytes::Bytes;

use super::{Decoder, Fault, FrameType, Piece, resume::Resume};

/// A sender's side of one connection: the one reply that it waits for, and before it, where it asked for
/// that, from which byte on the receiver wants the file.
#[derive(Debug, Default)]
pub struct Sending {
    decoder: Decoder,
    /// The size of the file whose first byte is being asked for.
    asked: Option<u64>,
    done: bool,
    over: bool,
}

/// What the receiver says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It has this many bytes of the file, and wants those behind them. More follows.
    Resume(u64),
    /// The file is verified and in its final place. Whatever it says beside that: foreign bytes.
    Ack(Bytes),
    /// The receiver does not take the file. Foreign text: escape it before showing it.
    Nack(String),
    /// The receiver can't go on. Foreign text: escape it before showing it.
    Error(String),
}

impl Sending {
    /// A sender whose META asks from which byte on a file of `size` bytes is wanted.
    pub fn asking(size: u64) -> Self {
        Self { asked: Some(size), ..Self::default() }
    }

    /// Says that DONE is on its way, so that an ACK may come.
    pub fn done_sent(&mut self) {
        self.done = true;
    }

    /// Takes the next bytes of the stream.
    pub fn handle(&mut self, bytes: Bytes) {
        self.decoder.handle(bytes);
    }

    /// What the receiver says next; `None` until more bytes have come, and after its last word.
    ///
    /// # Errors
    /// An ACK before DONE was sent, a RESUME that was not asked for or names no place in the file, a frame
    /// that only a sender sends, or what is no frame.
    pub fn poll(&mut self) -> Result<Option<Reply>, Fault> {
        if self.over {
            return Ok(None);
        }
        let Some(piece) = self.decoder.poll()? else { return Ok(None) };
        if let (Some(size), Piece::Frame(FrameType::Resume, payload)) = (self.asked, &piece) {
            self.asked = None;
            return match Resume::decode(payload, size) {
                Ok(Resume { offset }) => Ok(Some(Reply::Resume(offset))),
                Err(fault) => {
                    self.over = true;
                    Err(fault)
                }
            };
        }
        self.over = true;
        let text = |reason: Bytes| String::from_utf8_lossy(&reason).into_owned();
        match piece {
            Piece::Frame(FrameType::Ack, word) if self.done => Ok(Some(Reply::Ack(word))),
            Piece::Frame(FrameType::Nack, reason) => Ok(Some(Reply::Nack(text(reason)))),
            Piece::Frame(FrameType::Error, reason) => Ok(Some(Reply::Error(text(reason)))),
            Piece::Frame(kind, _) => Err(Fault::OutOfOrder { kind }),
            Piece::Data(_) => Err(Fault::OutOfOrder { kind: FrameType::Data }),
        }
    }

    /// Whether the receiver said more than one frame.
    pub fn has_more(&self) -> bool {
        !self.decoder.is_clear()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{DONE, encode},
        *,
    };

    fn reply(done: bool, bytes: &[u8]) -> Result<Option<Reply>, Fault> {
        let mut sending = Sending::default();
        if done {
            sending.done_sent();
        }
        sending.handle(Bytes::copy_from_slice(bytes));
        sending.poll()
    }

    #[test]
    fn an_ack_counts_after_done_whatever_it_carries() {
        assert_eq!(reply(true, &encode(FrameType::Ack, b"")), Ok(Some(Reply::Ack(Bytes::new()))));
        let word = Bytes::from_static(b"{\"ok\":1}");
        assert_eq!(reply(true, &encode(FrameType::Ack, &word)), Ok(Some(Reply::Ack(word))));
        assert_eq!(reply(true, b"\x04\0\0"), Ok(None));
    }

    #[test]
    fn an_ack_before_done_is_a_fault() {
        let early = Err(Fault::OutOfOrder { kind: FrameType::Ack });
        assert_eq!(reply(false, &encode(FrameType::Ack, b"")), early);
    }

    #[test]
    fn refusals_come_at_any_time() {
        assert_eq!(reply(false, &encode(FrameType::Nack, b"no")), Ok(Some(Reply::Nack("no".into()))));
        assert_eq!(reply(true, &encode(FrameType::Error, b"oh")), Ok(Some(Reply::Error("oh".into()))));
    }

    #[test]
    fn what_only_a_sender_sends_is_a_fault() {
        for frame in [encode(FrameType::Meta, b"{}"), encode(FrameType::Data, b"x"), DONE.to_vec()] {
            assert!(matches!(reply(true, &frame), Err(Fault::OutOfOrder { .. })));
        }
        assert_eq!(reply(true, b"\x00\0\0\0\0"), Err(Fault::UnknownType(0)));
    }

    #[test]
    fn where_to_begin_is_said_once_where_it_was_asked_for() {
        let resume = encode(FrameType::Resume, br#"{"offset":7}"#);
        let again = Err(Fault::OutOfOrder { kind: FrameType::Resume });
        assert_eq!(reply(false, &resume), again);
        let mut sending = Sending::asking(10);
        sending.handle([&resume[..], &resume].concat().into());
        assert_eq!(sending.poll(), Ok(Some(Reply::Resume(7))));
        assert_eq!(sending.poll(), again);
        assert_eq!(sending.poll(), Ok(None));
    }

    #[test]
    fn who_was_asked_may_refuse_instead_and_may_not_acknowledge() {
        let reply = |bytes: Vec<u8>| {
            let mut sending = Sending::asking(10);
            sending.handle(bytes.into());
            sending.poll()
        };
        assert_eq!(reply(encode(FrameType::Nack, b"no")), Ok(Some(Reply::Nack("no".into()))));
        assert_eq!(reply(encode(FrameType::Ack, b"")), Err(Fault::OutOfOrder { kind: FrameType::Ack }));
        let beyond = encode(FrameType::Resume, br#"{"offset":11}"#);
        assert_eq!(reply(beyond), Err(Fault::BadResume { size: 10 }));
    }

    #[test]
    fn more_than_one_frame_is_noticed() {
        for (more, noticed) in [(&b""[..], false), (b"\x05", true), (b"\x04\0\0\0\0", true)] {
            let mut sending = Sending::default();
            sending.done_sent();
            sending.handle([&encode(FrameType::Ack, b"ok"), more].concat().into());
            assert_eq!(sending.poll(), Ok(Some(Reply::Ack(Bytes::from_static(b"ok")))));
            assert_eq!(sending.has_more(), noticed, "{more:?}");
        }
    }

    #[test]
    fn only_the_first_word_counts() {
        let mut sending = Sending::default();
        sending.handle([encode(FrameType::Nack, b"no"), encode(FrameType::Error, b"oh")].concat().into());
        assert_eq!(sending.poll(), Ok(Some(Reply::Nack("no".into()))));
        assert_eq!(sending.poll(), Ok(None));
    }
}
