//! Streams to one address share what may be in flight there ([`PathLimit`]).

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::proto::{LIBUDX_WINDOW, PathLimit, SHORT_PATH, Stream};
use crate::time::Instant;

/// Packets that any stream may have in flight, so that a stuck one does not hold up the others.
const LEAST_SHARE: usize = 2;

#[derive(Debug, Default)]
struct Path {
    limit: PathLimit,
    /// Packets of all streams in flight.
    in_flight: usize,
    /// Streams counted.
    users: usize,
    /// Streams that wait for room.
    waiting: Vec<u32>,
}

/// The short paths of one instance, by remote address.
#[derive(Debug, Default)]
pub(super) struct Paths {
    paths: HashMap<SocketAddr, Path>,
}

/// A stream's share in a path.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// The path it is counted at.
    address: Option<SocketAddr>,
    in_flight: usize,
    /// Listed at the path until the stream is asked to send next.
    is_waiting: bool,
    /// The stream's counters when last looked at.
    delivered: u64,
    lost: u64,
}

impl Share {
    /// The stream was released, and may wait anew.
    pub fn on_released(&mut self) {
        self.is_waiting = false;
    }
}

impl Paths {
    /// Brings a stream's share up to date; streams that may send again are added to `ready`.
    pub fn update(&mut self, now: Instant, stream: &Stream, share: &mut Share, ready: &mut impl Extend<u32>) {
        let address = if is_limited(stream) { stream.remote().map(|remote| remote.address) } else { None };
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
        let was_limiting = path.in_flight >= path.limit.packets();
        path.in_flight = path.in_flight - share.in_flight + stream.in_flight();
        share.in_flight = stream.in_flight();
        if new_lost > 0 {
            path.limit.on_lost(now);
        } else if was_limiting {
            path.limit.on_delivered(new_delivered);
        }
        if path.in_flight < path.limit.packets() {
            ready.extend(path.waiting.drain(..));
        }
    }

    /// Packets that a stream may add to those in flight. With none left, it is released when there are.
    pub fn room(&mut self, id: u32, share: &mut Share) -> usize {
        let Some(path) = share.address.and_then(|address| self.paths.get_mut(&address)) else {
            return usize::MAX / 2;
        };
        let room = path.limit.packets().saturating_sub(path.in_flight);
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
    pub fn leave(&mut self, share: &mut Share, ready: &mut impl Extend<u32>) {
        let Some(address) = share.address.take() else { return };
        let Some(path) = self.paths.get_mut(&address) else { return };
        path.in_flight -= share.in_flight;
        share.in_flight = 0;
        share.is_waiting = false;
        path.users -= 1;
        ready.extend(path.waiting.drain(..));
        if path.users == 0 {
            self.paths.remove(&address);
        }
    }
}

/// Whether the receiver's buffer is what limits a stream, and its window does not tell of it: a peer other than
/// libudx says what it can take.
fn is_limited(stream: &Stream) -> bool {
    stream.peer_window() == LIBUDX_WINDOW && stream.min_rtt().is_none_or(|rtt| rtt <= SHORT_PATH)
}
