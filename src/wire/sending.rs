//! What a sender gets from a receiver.

use bytes::Bytes;

use super::{Decoder, Fault, FrameType, Piece};

/// A sender's side of one connection: the one reply that it waits for.
#[derive(Debug, Default)]
pub struct Sending {
    decoder: Decoder,
    done: bool,
    over: bool,
}

/// The receiver's last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The file is verified and in its final place.
    Ack,
    /// The receiver does not take the file. Foreign text: escape it before showing it.
    Nack(String),
    /// The receiver can't go on. Foreign text: escape it before showing it.
    Error(String),
}

impl Sending {
    /// Says that DONE is on its way, so that an ACK may come.
    pub fn done_sent(&mut self) {
        self.done = true;
    }

    /// Takes the next bytes of the stream.
    pub fn handle(&mut self, bytes: Bytes) {
        self.decoder.handle(bytes);
    }

    /// The reply, once; `None` until more bytes have come, and after it.
    ///
    /// # Errors
    /// An ACK before DONE was sent, a frame that only a sender sends, or what is no frame.
    pub fn poll(&mut self) -> Result<Option<Reply>, Fault> {
        if self.over {
            return Ok(None);
        }
        let Some(piece) = self.decoder.poll()? else { return Ok(None) };
        self.over = true;
        let text = |reason: Bytes| String::from_utf8_lossy(&reason).into_owned();
        match piece {
            Piece::Frame(FrameType::Ack, _) if self.done => Ok(Some(Reply::Ack)),
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
        assert_eq!(reply(true, &encode(FrameType::Ack, b"")), Ok(Some(Reply::Ack)));
        assert_eq!(reply(true, &encode(FrameType::Ack, b"{\"ok\":1}")), Ok(Some(Reply::Ack)));
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
    fn more_than_one_frame_is_noticed() {
        for (more, noticed) in [(&b""[..], false), (b"\x05", true), (b"\x04\0\0\0\0", true)] {
            let mut sending = Sending::default();
            sending.done_sent();
            sending.handle([&encode(FrameType::Ack, b"ok"), more].concat().into());
            assert_eq!(sending.poll(), Ok(Some(Reply::Ack)));
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
