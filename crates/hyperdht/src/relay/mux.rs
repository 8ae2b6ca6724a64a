//! The channels of one stream, as a state machine without I/O (spec/connect.md §9, §12.10).

use std::collections::VecDeque;

use super::frame::Frame;
use crate::encoding::Malformed;

/// Channels that the peer may have at once. A relay needs one; the protocols beside it, which this crate does
/// not speak, are rejected as they come.
const MAX_REMOTE_CHANNELS: usize = 64;

/// Why a peer is not listened to any more: its stream is to be destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MuxError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("a channel was opened under an id that is not free")]
    InvalidOpen,
    #[error("more channels than allowed")]
    TooManyChannels,
    #[error("a channel was rejected that was not offered")]
    InvalidReject,
    #[error("a batch inside a batch")]
    NestedBatch,
}

/// Names a channel of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChannelId(u64);

/// What the peer has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChannelEvent {
    /// It has opened its end of a channel.
    Opened(ChannelId),
    Message {
        channel: ChannelId,
        kind: u64,
        body: Vec<u8>,
    },
    /// It has closed the channel, or has never heard of its protocol.
    Closed(ChannelId),
}

/// The channels of both ends of a stream.
///
/// Each end opens a channel by itself; two of the same protocol and id are one. Frames go in by
/// [`Mux::handle`] and come out by [`Mux::poll_frame`]. Nothing is kept for a channel that has no end here,
/// so what the peer sends takes no memory beyond the events of one frame.
#[derive(Debug, Default)]
pub(crate) struct Mux {
    /// By id, which is the place and 1.
    local: Vec<Option<Local>>,
    /// What the peer's channels are here, by its ids.
    remote: Vec<Option<ChannelId>>,
    frames: VecDeque<Vec<u8>>,
    events: VecDeque<ChannelEvent>,
}

/// A channel of ours.
#[derive(Debug)]
struct Local {
    protocol: Vec<u8>,
    id: Vec<u8>,
    /// The peer's id of it, once it has opened it too.
    remote: Option<u64>,
    /// Over before the peer has opened it: its open is still to come.
    is_closed: bool,
}

impl Mux {
    /// Opens a channel. Messages may follow at once.
    pub(crate) fn open(&mut self, protocol: &[u8], id: &[u8]) -> ChannelId {
        let local = Local { protocol: protocol.to_vec(), id: id.to_vec(), remote: None, is_closed: false };
        let index = match self.local.iter().position(Option::is_none) {
            Some(free) => {
                self.local[free] = Some(local);
                free
            }
            None => {
                self.local.push(Some(local));
                self.local.len() - 1
            }
        };
        let channel = ChannelId(index as u64 + 1);
        self.send_frame(&Frame::Open { channel: channel.0, protocol, id, handshake: &[] });
        channel
    }

    /// Sends a message on a channel, unless it is closed.
    pub(crate) fn send(&mut self, channel: ChannelId, kind: u64, body: &[u8]) {
        if self.local(channel.0).is_some_and(|local| !local.is_closed) {
            self.send_frame(&Frame::Message { channel: channel.0, kind, body });
        }
    }

    /// Closes a channel, unless it is closed. A relay and its clients end the connection instead.
    #[cfg(test)]
    pub(crate) fn close(&mut self, channel: ChannelId) {
        let Some(local) = self.local(channel.0).filter(|local| !local.is_closed) else { return };
        local.is_closed = true;
        let remote = local.remote;
        if let Some(remote) = remote {
            self.forget(channel, remote);
        }
        self.send_frame(&Frame::Close { channel: channel.0 });
    }

    /// Takes in one message of the stream. After an error the stream is to be destroyed.
    pub(crate) fn handle(&mut self, message: &[u8]) -> Result<(), MuxError> {
        if message.is_empty() {
            return Ok(());
        }
        match Frame::decode(message)? {
            Frame::Batch(batch) => {
                for frame in batch {
                    match frame? {
                        Frame::Batch(_) => return Err(MuxError::NestedBatch),
                        frame => self.on_frame(frame)?,
                    }
                }
                Ok(())
            }
            frame => self.on_frame(frame),
        }
    }

    /// What the peer has done, in order.
    pub(crate) fn poll_event(&mut self) -> Option<ChannelEvent> {
        self.events.pop_front()
    }

    /// The next message to send on the stream.
    pub(crate) fn poll_frame(&mut self) -> Option<Vec<u8>> {
        self.frames.pop_front()
    }

    fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), MuxError> {
        match frame {
            Frame::Open { channel, protocol, id, .. } => self.on_open(channel, protocol, id),
            Frame::Reject { channel } => self.on_reject(channel),
            Frame::Close { channel } => {
                if let Some(local) = self.of_remote(channel) {
                    self.forget(local, channel);
                    self.events.push_back(ChannelEvent::Closed(local));
                }
                Ok(())
            }
            Frame::Message { channel, kind, body } => {
                // One that is closed here may not have heard of it yet.
                if let Some(channel) = self.of_remote(channel) {
                    self.events.push_back(ChannelEvent::Message { channel, kind, body: body.to_vec() });
                }
                Ok(())
            }
            Frame::Batch(_) | Frame::Unknown => Ok(()),
        }
    }

    fn on_open(&mut self, remote: u64, protocol: &[u8], id: &[u8]) -> Result<(), MuxError> {
        let index = index(remote).ok_or(MuxError::InvalidOpen)?;
        if index >= MAX_REMOTE_CHANNELS {
            return Err(MuxError::TooManyChannels);
        }
        if index == self.remote.len() {
            self.remote.push(None);
        }
        if self.remote.get(index).is_none_or(Option::is_some) {
            return Err(MuxError::InvalidOpen);
        }
        let waits = |local: &Option<Local>| {
            local
                .as_ref()
                .is_some_and(|local| local.remote.is_none() && local.protocol == protocol && local.id == id)
        };
        let Some(place) = self.local.iter().position(waits) else {
            self.send_frame(&Frame::Reject { channel: remote });
            return Ok(());
        };
        let channel = ChannelId(place as u64 + 1);
        match self.local.get_mut(place).and_then(Option::as_mut) {
            Some(local) if !local.is_closed => {
                local.remote = Some(remote);
                self.remote[index] = Some(channel);
                self.events.push_back(ChannelEvent::Opened(channel));
            }
            // It was closed before, which the peer learns when it comes to that.
            _ => self.local[place] = None,
        }
        Ok(())
    }

    fn on_reject(&mut self, channel: u64) -> Result<(), MuxError> {
        let waiting = self.local(channel).filter(|local| local.remote.is_none());
        let was_closed = waiting.ok_or(MuxError::InvalidReject)?.is_closed;
        if let Some(place) = index(channel).and_then(|index| self.local.get_mut(index)) {
            *place = None;
        }
        if !was_closed {
            self.events.push_back(ChannelEvent::Closed(ChannelId(channel)));
        }
        Ok(())
    }

    fn local(&mut self, channel: u64) -> Option<&mut Local> {
        self.local.get_mut(index(channel)?)?.as_mut()
    }

    /// Our channel that the peer's is the other end of.
    fn of_remote(&self, remote: u64) -> Option<ChannelId> {
        *self.remote.get(index(remote)?)?
    }

    /// Frees the ids of a channel that both have opened.
    fn forget(&mut self, channel: ChannelId, remote: u64) {
        for (ids, id) in [(channel.0, true), (remote, false)] {
            let Some(index) = index(ids) else { continue };
            if id {
                if let Some(place) = self.local.get_mut(index) {
                    *place = None;
                }
            } else if let Some(place) = self.remote.get_mut(index) {
                *place = None;
            }
        }
    }

    fn send_frame(&mut self, frame: &Frame<'_>) {
        self.frames.push_back(frame.encode());
    }
}

/// The place of an id; ids begin at 1.
fn index(id: u64) -> Option<usize> {
    usize::try_from(id.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::vectors::connect::{bytes, case, unhex};

    /// Carries all frames from one to the other.
    fn carry(from: &mut Mux, to: &mut Mux) {
        while let Some(frame) = from.poll_frame() {
            to.handle(&frame).unwrap();
        }
    }

    fn events(mux: &mut Mux) -> Vec<ChannelEvent> {
        std::iter::from_fn(|| mux.poll_event()).collect()
    }

    #[test]
    fn two_that_open_the_same_channel_speak_on_it() {
        let (mut a, mut b) = (Mux::default(), Mux::default());
        let ours = a.open(b"test", b"id");
        a.send(ours, 3, b"early");
        let theirs = b.open(b"test", b"id");
        carry(&mut a, &mut b);
        let message = ChannelEvent::Message { channel: theirs, kind: 3, body: b"early".to_vec() };
        assert_eq!(events(&mut b), [ChannelEvent::Opened(theirs), message]);
        carry(&mut b, &mut a);
        assert_eq!(events(&mut a), [ChannelEvent::Opened(ours)]);
        b.close(theirs);
        b.send(theirs, 0, b"late");
        carry(&mut b, &mut a);
        assert_eq!(events(&mut a), [ChannelEvent::Closed(ours)]);
        assert_eq!(a.open(b"test", b"id"), ours);
    }

    #[test]
    fn opens_and_messages_are_those_of_the_vectors() {
        let hex = &case("protomux-frames")["hex"];
        let mut mux = Mux::default();
        let channel = mux.open(b"test", b"");
        mux.send(channel, 0, b"\x02hi");
        mux.close(channel);
        for name in ["open_no_id", "message_type0_hi", "close_ch1"] {
            assert_eq!(mux.poll_frame(), Some(unhex(&hex[name])), "{name}");
        }
    }

    #[test]
    fn an_open_for_nobody_is_rejected_and_one_that_skips_ids_is_an_error() {
        let inputs = &case("protomux-reject")["inputs"];
        let mut mux = Mux::default();
        mux.handle(&unhex(&inputs["incoming"])).unwrap();
        assert_eq!(mux.poll_frame(), Some(bytes("protomux-reject")));
        assert_eq!(mux.handle(&unhex(&inputs["incoming_skip"])), Err(MuxError::InvalidOpen));
    }

    #[test]
    fn a_rejected_channel_is_closed() {
        let (mut a, mut b) = (Mux::default(), Mux::default());
        let channel = a.open(b"test", b"");
        carry(&mut a, &mut b);
        carry(&mut b, &mut a);
        assert_eq!(events(&mut a), [ChannelEvent::Closed(channel)]);
        assert_eq!(a.handle(&bytes("protomux-reject")), Err(MuxError::InvalidReject));
    }

    #[test]
    fn an_open_that_crosses_a_close_opens_nothing() {
        let (mut a, mut b) = (Mux::default(), Mux::default());
        let channel = a.open(b"test", b"");
        a.close(channel);
        b.open(b"test", b"");
        carry(&mut b, &mut a);
        assert_eq!(events(&mut a), []);
        carry(&mut a, &mut b);
        assert_eq!(events(&mut b), [ChannelEvent::Opened(ChannelId(1)), ChannelEvent::Closed(ChannelId(1))]);
    }

    #[test]
    fn ids_that_are_taken_or_none_and_batches_in_batches_are_errors() {
        let mut mux = Mux::default();
        mux.open(b"test", b"");
        let open = |channel| Frame::Open { channel, protocol: b"test", id: b"", handshake: &[] }.encode();
        assert_eq!(mux.handle(&open(0)), Err(MuxError::InvalidOpen));
        mux.handle(&open(1)).unwrap();
        assert_eq!(mux.handle(&open(1)), Err(MuxError::InvalidOpen));
        assert_eq!(mux.handle(&[0, 0, 0, 3, 0, 0, 1]), Err(MuxError::NestedBatch));
        assert_eq!(mux.handle(&[0, 0, 0, 2, 0]), Err(MuxError::Malformed(Malformed)));
        mux.handle(&[]).unwrap();
        mux.handle(&[0, 9]).unwrap();
        mux.handle(&[7, 0, 1]).unwrap();
    }

    #[test]
    fn a_peer_that_keeps_opening_is_stopped() {
        let mut mux = Mux::default();
        let opened = (1..1000).find(|channel| {
            let open = Frame::Open { channel: *channel, protocol: b"x", id: b"", handshake: &[] };
            mux.handle(&open.encode()).is_err()
        });
        assert_eq!(opened, Some(MAX_REMOTE_CHANNELS as u64 + 1));
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic_and_take_bounded_memory(
            messages in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![0..4u8, any::<u8>()], 0..40), 0..40)
        ) {
            let mut mux = Mux::default();
            mux.open(b"", b"");
            for message in &messages {
                if mux.handle(message).is_err() {
                    break;
                }
                prop_assert!(events(&mut mux).len() <= message.len());
                while mux.poll_frame().is_some() {}
            }
            prop_assert!(mux.remote.len() <= MAX_REMOTE_CHANNELS && mux.local.len() == 1);
        }
    }
}
