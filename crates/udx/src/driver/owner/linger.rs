//! Answers for streams that are gone.
//!
//! libudx forgets a stream the moment both sides have ended; if its last acknowledgement is lost, the peer
//! retransmits into the void until it times out. We remember for a while, and acknowledge again (spec §16).

use std::collections::{HashMap, VecDeque};

use crate::error::Error;
use crate::proto::packet::{Flags, Header};
use crate::proto::{Remote, StreamMachine};
use crate::time::{Instant, Micros, SECOND};

/// How long a stream is remembered: longer than a peer at the least timeout retries (13 s).
const LINGER: Micros = 15 * SECOND;

/// Streams remembered at once; beyond it the oldest is forgotten.
const MAX_STREAMS: usize = 4096;

/// Answers given for one stream, so that nobody can be made to talk forever.
const MAX_ANSWERS: u8 = 64;

#[derive(Debug)]
struct Late {
    remote: Remote,
    /// What answers: nothing but an acknowledgement, or that we gave the stream up.
    flags: Flags,
    seq: u32,
    ack: u32,
    rwnd: u32,
    until: Instant,
    answers: u8,
}

/// Closed streams by id.
#[derive(Debug, Default)]
pub(super) struct Linger {
    streams: HashMap<u32, Late>,
    order: VecDeque<(Instant, u32)>,
}

impl Linger {
    /// Remembers a stream that was connected, and how it ended. One that this side gave up answers with
    /// DESTROY, for the first may have been lost; one that the peer destroyed is silent.
    pub(super) fn add(&mut self, now: Instant, stream: &StreamMachine, result: Result<(), Error>) {
        let Some(remote) = stream.remote() else { return };
        self.expire(now);
        if self.order.len() >= MAX_STREAMS
            && let Some((until, id)) = self.order.pop_front()
        {
            self.forget_if(id, until);
        }
        let until = now + LINGER;
        let (ack, seq) = stream.final_numbers();
        let (flags, answers) = match result {
            Ok(()) => (Flags::NONE, MAX_ANSWERS),
            Err(Error::ConnectionReset) => (Flags::NONE, 0),
            Err(_) => (Flags::DESTROY, MAX_ANSWERS),
        };
        let rwnd = crate::proto::LIBUDX_WINDOW - 1;
        let late = Late { remote, flags, seq, ack, rwnd, until, answers };
        self.streams.insert(stream.id(), late);
        self.order.push_back((until, stream.id()));
    }

    /// Whether a stream of this id is remembered.
    pub(super) fn contains(&self, id: u32) -> bool {
        self.streams.contains_key(&id)
    }

    /// A new stream takes the id.
    pub(super) fn remove(&mut self, id: u32) {
        self.streams.remove(&id);
    }

    /// Takes a packet of a stream that is gone. `None` if nothing is known of it; else what to answer, if
    /// anything.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        header: &Header,
        out: &mut Vec<u8>,
    ) -> Option<Option<Remote>> {
        self.expire(now);
        let late = self.streams.get_mut(&header.stream_id)?;
        let asks = header.flags.is_sequenced() || header.flags.intersects(Flags::HEARTBEAT);
        if !asks || late.answers == 0 {
            return Some(None);
        }
        late.answers -= 1;
        let header = Header {
            flags: late.flags,
            data_offset: 0,
            stream_id: late.remote.id,
            rwnd: late.rwnd,
            seq: late.seq,
            ack: late.ack,
        };
        header.encode(out);
        Some(Some(late.remote))
    }

    fn expire(&mut self, now: Instant) {
        while let Some((until, id)) = self.order.pop_front_if(|(until, _)| *until <= now) {
            self.forget_if(id, until);
        }
    }

    /// Forgets a stream, unless the id was taken anew.
    fn forget_if(&mut self, id: u32, until: Instant) {
        if self.streams.get(&id).is_some_and(|late| late.until == until) {
            self.streams.remove(&id);
        }
    }
}
