//! Streams to one address share what may be in flight there: what the receiver said it can take, or
//! [`PathLimit`].

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::proto::{LIBUDX_WINDOW, PathLimit, SHORT_PATH, StreamMachine};
use crate::time::{Instant, Micros, SECOND};

/// Packets that any stream may have in flight, so that a stuck one does not hold up the others.
const LEAST_SHARE: usize = 2;

/// Stands for no limit, and can be counted with.
const MANY: usize = usize::MAX >> 16;

/// How long the least round trip of a path is believed.
const RTT_AGE: Micros = 10 * SECOND;

#[derive(Debug, Default)]
struct Path {
    /// For a receiver that does not tell how much it can take.
    limit: PathLimit,
    /// Bytes that the receiver said it can take, if it does: each of its streams says what their one socket
    /// holds.
    window: Option<usize>,
    /// Bytes of a full packet's payload.
    payload: usize,
    /// The least round trip of its streams, and when it was seen: one that starts among many others takes
    /// their queue for the path.
    rtt: Option<(Micros, Instant)>,
    /// Packets of all streams in flight.
    in_flight: usize,
    /// Streams counted.
    users: usize,
    /// Streams that wait for room.
    waiting: Vec<u32>,
}

/// The paths of one instance, by remote address.
#[derive(Debug, Default)]
pub(super) struct Paths {
    paths: HashMap<SocketAddr, Path>,
}

/// A stream's share in a path.
#[derive(Debug, Default)]
pub(super) struct PathShare {
    /// The path it is counted at.
    address: Option<SocketAddr>,
    in_flight: usize,
    /// Listed at the path until the stream is asked to send next.
    is_waiting: bool,
    /// Bytes of an equal part for each of the path's streams.
    part: Option<usize>,
    /// The stream's counters when last looked at.
    delivered: u64,
    lost: u64,
}

impl PathShare {
    /// The stream was released, and may wait anew.
    pub(super) fn on_released(&mut self) {
        self.is_waiting = false;
    }

    /// Bytes that can be on their way at once, of the `window` that the stream has by itself.
    pub(super) fn of_window(&self, window: usize) -> usize {
        self.part.map_or(window, |part| window.min(part))
    }
}

impl Path {
    /// Packets that all streams together may have in flight; many where not the receiver's buffer is what
    /// limits them.
    fn packets(&self) -> usize {
        match self.window {
            _ if !self.is_short() => MANY,
            Some(window) => window / self.payload.max(1),
            None => self.limit.packets(),
        }
    }

    fn is_short(&self) -> bool {
        self.rtt.is_none_or(|(rtt, _)| rtt <= SHORT_PATH)
    }

    fn see_rtt(&mut self, now: Instant, rtt: Option<Micros>) {
        if let Some(rtt) = rtt
            && self.rtt.is_none_or(|(least, at)| rtt <= least || now - at > RTT_AGE)
        {
            self.rtt = Some((rtt, now));
        }
    }
}

impl Paths {
    /// Brings a stream's share up to date; streams that may send again are added to `ready`.
    pub(super) fn update(
        &mut self,
        now: Instant,
        stream: &StreamMachine,
        share: &mut PathShare,
        ready: &mut impl Extend<u32>,
    ) {
        let address =
            if stream.closed().is_none() { stream.remote().map(|remote| remote.address) } else { None };
        if share.address != address {
            self.leave(share, ready);
            if let Some(address) = address {
                self.paths.entry(address).or_default().users += 1;
                share.address = Some(address);
            }
        }
        let (delivered, lost) = (stream.delivered(), stream.lost());
        let (new_delivered, new_lost) = (delivered - share.delivered, lost - share.lost);
        (share.delivered, share.lost) = (delivered, lost);
        let Some(path) = share.address.and_then(|address| self.paths.get_mut(&address)) else { return };
        path.see_rtt(now, stream.min_rtt());
        path.payload = stream.payload_capacity();
        let was_limiting = path.in_flight >= path.packets();
        path.in_flight = path.in_flight - share.in_flight + stream.in_flight();
        share.in_flight = stream.in_flight();
        let window = stream.peer_window();
        if window != LIBUDX_WINDOW {
            path.window = path.window.max(Some(window as usize));
        } else if new_lost > 0 && path.is_short() {
            path.limit.on_lost(now);
        } else if was_limiting {
            path.limit.on_delivered(new_delivered);
        }
        share.part = Some(path.packets() / path.users.max(1) * path.payload);
        if path.in_flight < path.packets() {
            ready.extend(path.waiting.drain(..));
        }
    }

    /// Packets that a stream may add to those in flight. With none left, it is released when there are.
    pub(super) fn room(&mut self, id: u32, share: &mut PathShare) -> usize {
        let Some(path) = share.address.and_then(|address| self.paths.get_mut(&address)) else {
            return MANY;
        };
        let room = path.packets().saturating_sub(path.in_flight);
        let room = room.max(LEAST_SHARE.saturating_sub(share.in_flight));
        if room == 0 {
            if !share.is_waiting {
                path.waiting.push(id);
            }
            share.is_waiting = true;
        } else {
            share.is_waiting = false;
        }
        room
    }

    /// A stream is gone, or its path no longer counts.
    pub(super) fn leave(&mut self, share: &mut PathShare, ready: &mut impl Extend<u32>) {
        let Some(address) = share.address.take() else { return };
        let Some(path) = self.paths.get_mut(&address) else { return };
        path.in_flight -= share.in_flight;
        share.in_flight = 0;
        share.is_waiting = false;
        share.part = None;
        path.users -= 1;
        ready.extend(path.waiting.drain(..));
        if path.users == 0 {
            self.paths.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_tells_what_it_takes_is_believed_on_a_short_path() {
        let mut path = Path { payload: 1000, ..Path::default() };
        assert_eq!(path.packets(), PathLimit::default().packets());
        path.window = Some(90_000);
        assert_eq!(path.packets(), 90);
        path.see_rtt(Instant::from_micros(0), Some(SHORT_PATH + 1));
        assert_eq!(path.packets(), MANY);
    }

    #[test]
    fn the_least_round_trip_counts_for_a_while() {
        let mut path = Path { window: Some(0), ..Path::default() };
        path.see_rtt(Instant::from_micros(0), Some(SHORT_PATH));
        path.see_rtt(Instant::from_micros(1), Some(SHORT_PATH + 1));
        path.see_rtt(Instant::from_micros(2), None);
        assert!(path.is_short());
        path.see_rtt(Instant::from_micros(RTT_AGE + 1), Some(SHORT_PATH + 1));
        assert!(!path.is_short());
    }
}
