//! A peer whose address changes: its interface went away and another one came, it woke up in another network,
//! or a NAT on the way forgot its mapping.
//!
//! libudx sends to one address for as long as a stream lives. We follow a peer that is heard from elsewhere
//! once the path in use has fallen silent, so that the stream goes on. Between two of us either may move; a
//! libudx peer does not follow, but may move itself.

use std::net::SocketAddr;

use super::super::packet::{Flags, Header};
use super::super::seq;
use super::{Error, Remote, SocketId, StreamMachine};
use crate::time::{Instant, Micros, SECOND};

/// How long nothing must have come from the address in use before another one is believed: while the path
/// works, packets from elsewhere are late or come from somebody else.
const SILENCE: Micros = SECOND;

/// Packets that a plausible one may be before or after the next expected: no window holds more.
const NEAR: u64 = 1 << 17;

impl StreamMachine {
    /// Notes where a packet of this stream came from, before it is handled. If the peer is found to
    /// have moved, everything goes there from now on, and what was in flight is sent again.
    pub fn handle_source(&mut self, now: Instant, socket: SocketId, from: SocketAddr, header: &Header) {
        let Some(current) = self.remotes.current() else { return };
        if from == current.address {
            self.heard_at = Some(now);
            return;
        }
        let is_silent = self.heard_at.is_some_and(|at| now - at >= SILENCE);
        if is_silent && self.is_open() && socket == current.socket && self.is_plausible(header) {
            self.follow(now, Remote { address: from, ..current });
        }
    }

    /// The address that the peer was last found to have moved to; given out once.
    pub fn take_followed(&mut self) -> Option<Remote> {
        self.followed.take()
    }

    /// Whether the packet fits what was exchanged so far. That is no proof: who can read the packets can also
    /// forge them, and could as well end the stream. It keeps out those who guess, and old packets.
    fn is_plausible(&self, header: &Header) -> bool {
        let ack = seq::unwrap(header.ack, self.outstanding.next());
        let seq = self.assembler.unwrap(header.seq);
        (self.outstanding.first()..=self.outstanding.next()).contains(&ack)
            && self.assembler.next().abs_diff(seq) <= NEAR
            && !header.flags.intersects(Flags::DESTROY)
    }

    /// Moves to another path, with all that is in flight: it is taken to be lost, because nothing came back
    /// on the old path.
    ///
    /// # Errors
    /// As [`Self::change_remote`].
    pub fn redirect(&mut self, now: Instant, remote: Remote) -> Result<(), Error> {
        self.check_change(remote)?;
        self.begin_anew(now, remote);
        Ok(())
    }

    fn follow(&mut self, now: Instant, remote: Remote) {
        self.followed = Some(remote);
        self.begin_anew(now, remote);
    }

    fn begin_anew(&mut self, now: Instant, remote: Remote) {
        self.remotes.replace(remote);
        self.heard_at = Some(now);
        self.search_anew(remote);
        // Nothing is known of the new path, nor of who is there: we send little at first, as after a timeout.
        self.timers.timeouts = 0;
        if !self.outstanding.is_empty() {
            self.timers.rto = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::super::packet::HEADER_LEN;
    use super::super::{Limits, StreamConfig};
    use super::*;

    const MS: Micros = 1000;

    struct End {
        stream: StreamMachine,
        address: SocketAddr,
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Two connected streams at addresses of their own.
    fn pair() -> [End; 2] {
        let addresses = ["10.0.0.1:1", "10.0.0.2:2"].map(address);
        [0, 1].map(|i| {
            let mut stream = StreamMachine::new(&StreamConfig::new(i as u32));
            let remote = Remote { socket: SocketId::new(0), address: addresses[1 - i], id: 1 - i as u32 };
            stream.connect(remote).unwrap();
            End { stream, address: addresses[i] }
        })
    }

    /// Lets both send what they have and hear what was sent to where they are, until neither sends any more.
    fn exchange(now: Instant, ends: &mut [End; 2]) {
        loop {
            let mut is_quiet = true;
            for i in 0..2 {
                let mut out = Vec::new();
                let limits = Limits { segments: 64, room: usize::MAX / 2 };
                while let Some(transmit) = ends[i].stream.poll_transmit(now, limits, &mut out) {
                    is_quiet = false;
                    let (from, to) = (ends[i].address, &mut ends[1 - i]);
                    for datagram in out.chunks(transmit.segment).filter(|_| transmit.to == to.address) {
                        let (header, buffer) =
                            (Header::decode(datagram).unwrap(), Bytes::copy_from_slice(datagram));
                        to.stream.handle_source(now, SocketId::new(0), from, &header);
                        to.stream.handle_packet(now, &header, &buffer, HEADER_LEN..buffer.len());
                    }
                    to.stream.handle_batch_end(now);
                    out.clear();
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    /// The same, from one point in time to another.
    fn run(ends: &mut [End; 2], from: Micros, to: Micros) {
        for at in (from..to).step_by(10 * MS as usize).map(Instant::from_micros) {
            for end in ends.iter_mut() {
                if end.stream.poll_timeout().is_some_and(|due| due <= at) {
                    end.stream.handle_timeout(at);
                }
            }
            exchange(at, ends);
        }
    }

    fn received(end: &mut End) -> usize {
        std::iter::from_fn(|| end.stream.read()).map(|bytes| bytes.len()).sum()
    }

    #[test]
    fn a_sender_that_moves_is_followed_and_the_stream_goes_on() {
        let mut ends = pair();
        let data = Bytes::from(vec![7; 300_000]);
        ends[0].stream.write(Instant::from_micros(1), data.slice(..100_000)).unwrap();
        run(&mut ends, 1, 500 * MS);
        assert_eq!(received(&mut ends[1]), 100_000);
        ends[0].address = address("10.0.9.9:1");
        ends[0].stream.write(Instant::from_micros(500 * MS), data.slice(100_000..)).unwrap();
        run(&mut ends, 500 * MS, 8000 * MS);
        assert_eq!(received(&mut ends[1]), 200_000);
        assert_eq!(ends[1].stream.remote().unwrap().address, ends[0].address);
        assert_eq!(ends[1].stream.take_followed(), ends[1].stream.remote());
        assert_eq!(ends[1].stream.take_followed(), None);
        assert!(ends[0].stream.is_flushed());
    }

    #[test]
    fn a_receiver_that_moves_is_followed_once_it_is_heard() {
        let mut ends = pair();
        run(&mut ends, 1, 100 * MS);
        ends[0].stream.write(Instant::from_micros(100 * MS), Bytes::from(vec![7; 100_000])).unwrap();
        ends[1].stream.write(Instant::from_micros(100 * MS), Bytes::from_static(b"here")).unwrap();
        run(&mut ends, 100 * MS, 200 * MS);
        ends[1].address = address("10.0.9.9:2");
        ends[0].stream.write(Instant::from_micros(200 * MS), Bytes::from(vec![7; 100_000])).unwrap();
        run(&mut ends, 200 * MS, 4000 * MS);
        assert_eq!(received(&mut ends[1]), 100_000, "nobody knows where it is");
        ends[1].stream.write(Instant::from_micros(4000 * MS), Bytes::from_static(b"here")).unwrap();
        run(&mut ends, 4000 * MS, 5000 * MS);
        assert_eq!(received(&mut ends[1]), 100_000);
        assert!(ends.iter().all(|end| end.stream.is_flushed() && end.stream.closed().is_none()));
    }

    #[test]
    fn a_stream_that_reached_nobody_is_redirected_with_all_that_it_sent() {
        let mut ends = pair();
        let nowhere = Remote { address: address("10.0.0.9:9"), ..ends[0].stream.remote().unwrap() };
        let there = ends[0].stream.remote().unwrap();
        ends[0].stream.redirect(Instant::from_micros(1), nowhere).unwrap();
        ends[0].stream.write(Instant::from_micros(1), Bytes::from(vec![7; 5000])).unwrap();
        run(&mut ends, 1, 2000 * MS);
        assert_eq!(received(&mut ends[1]), 0);
        ends[0].stream.redirect(Instant::from_micros(2000 * MS), there).unwrap();
        run(&mut ends, 2000 * MS, 2200 * MS);
        assert_eq!(received(&mut ends[1]), 5000, "at once");
        assert_eq!(ends[0].stream.take_followed(), None, "it was told where to go");
    }

    #[test]
    fn nobody_is_followed_while_the_way_in_use_works_or_with_numbers_that_do_not_fit() {
        let mut ends = pair();
        ends[0].stream.write(Instant::from_micros(1), Bytes::from_static(b"x")).unwrap();
        run(&mut ends, 1, 100 * MS);
        let stranger = address("6.6.6.6:6");
        let header = Header { flags: Flags::DATA, data_offset: 0, stream_id: 1, rwnd: 0, seq: 1, ack: 0 };
        let mut hear = |at: Micros, header: Header| {
            ends[1].stream.handle_source(Instant::from_micros(at), SocketId::new(0), stranger, &header);
            ends[1].stream.take_followed().map(|remote| remote.address)
        };
        assert_eq!(hear(500 * MS, header), None, "the peer was heard a moment ago");
        assert_eq!(hear(9000 * MS, Header { ack: 5, ..header }), None, "nothing such was sent");
        assert_eq!(hear(9000 * MS, Header { seq: 1 << 31, ..header }), None, "far beyond the window");
        assert_eq!(hear(9000 * MS, Header { flags: Flags::DESTROY, ..header }), None);
        assert_eq!(hear(9000 * MS, header), Some(stranger));
    }
}
