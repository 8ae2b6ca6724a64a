//! Fuzzing of a relay: its clients, whose connections are encrypted and proven, send any bytes.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::relay::RelayLimits;
use crate::relay::frame::Frame;
use crate::relay::message::{PROTOCOL, Pair, RelayMessage};
use crate::relay::mux::{ChannelEvent, Mux, MuxError};
use crate::relay::pairings::{Pairings, SessionId};

/// Clients that connect, one more than there is room for.
const CLIENTS: usize = 5;
const LIMITS: RelayLimits = RelayLimits {
    sessions: 4,
    sessions_per_host: 3,
    pairs: 2,
    bytes_per_second: 0,
    bytes_per_pair: 0,
    idle: Duration::from_secs(60),
};
/// Entries of all clients that a relay may hold: sessions, pairs and 16 tokens for each that waits.
const MOST_HELD: usize = 4 + 2 + 4 * 16;
/// Frames that one byte of input can make a relay send: an open is rejected, and has four.
const MOST_ANSWERED: usize = 1;

/// A relay whose clients do what the input says: a byte for who does what, and up to 255 bytes, after their
/// count, to do it with.
pub fn relay(data: &[u8]) {
    let mut driven = DrivenRelay::new();
    let mut rest = data;
    while let [kind, count, more @ ..] = rest {
        let (bytes, after) = more.split_at(more.len().min((*count).into()));
        driven.step(*kind, bytes);
        rest = after;
    }
}

/// One client as the relay has it.
struct FuzzClient {
    id: SessionId,
    mux: Mux,
}

struct DrivenRelay {
    now: Instant,
    pairings: Pairings,
    clients: [Option<FuzzClient>; CLIENTS],
}

impl DrivenRelay {
    fn new() -> Self {
        let now = Instant::now();
        let mut driven = Self { now, pairings: Pairings::new(LIMITS), clients: Default::default() };
        (0..CLIENTS).for_each(|client| driven.connect(client));
        driven
    }

    fn step(&mut self, kind: u8, bytes: &[u8]) {
        let client = usize::from(kind >> 4) % CLIENTS;
        let byte = |index: usize| bytes.get(index).copied().unwrap_or_default();
        let pair = Pair { is_initiator: byte(0) & 1 == 1, token: [byte(1); 32], stream: byte(2).into() };
        match kind & 7 {
            0 | 1 => self.send(client, bytes),
            // In good order, so that pairs come about.
            2 => self.send(
                client,
                &Frame::Open {
                    channel: byte(0).into(),
                    protocol: PROTOCOL,
                    id: &key(client),
                    handshake: &[],
                }
                .encode(),
            ),
            3 => self.say(client, byte(3), &RelayMessage::Pair(pair)),
            4 => self.say(client, byte(3), &RelayMessage::Unpair(pair.token)),
            5 => self.pass(Duration::from_secs(byte(0).into())),
            6 => self.disconnect(client),
            _ => self.connect(client),
        }
        assert!(self.pairings.held() <= MOST_HELD, "a relay holds {}", self.pairings.held());
    }

    fn say(&mut self, client: usize, channel: u8, message: &RelayMessage) {
        let (kind, body) = message.encode();
        self.send(client, &Frame::Message { channel: channel.into(), kind, body: &body }.encode());
    }

    /// A message of the client's stream.
    fn send(&mut self, index: usize, bytes: &[u8]) {
        alike(bytes);
        let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) else { return };
        let handled = client.mux.handle(bytes);
        let answered = std::iter::from_fn(|| client.mux.poll_frame()).inspect(|frame| alike(frame)).count();
        assert!(answered <= MOST_ANSWERED * bytes.len(), "{answered} answers to {} bytes", bytes.len());
        let events: Vec<_> = std::iter::from_fn(|| client.mux.poll_event()).collect();
        let id = client.id;
        let is_over = events.into_iter().any(|event| match event {
            ChannelEvent::Message { kind, body, .. } => match RelayMessage::decode(kind, &body) {
                Ok(Some(RelayMessage::Pair(pair))) => {
                    let other = self.pairings.pair(id, pair, index.is_multiple_of(2));
                    assert!(other.is_none_or(|other| other.pair.token == pair.token));
                    false
                }
                Ok(Some(RelayMessage::Unpair(token))) => {
                    self.pairings.unpair(self.now, id, &token);
                    false
                }
                Ok(None) => false,
                Err(_) => true,
            },
            ChannelEvent::Closed(_) => true,
            ChannelEvent::Opened(_) => false,
        });
        if is_over || matches!(handled, Err(MuxError::Malformed(_))) {
            self.disconnect(index);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let idle = self.pairings.idle(self.now);
        for index in 0..CLIENTS {
            if self.clients[index].as_ref().is_some_and(|client| idle.contains(&client.id)) {
                self.disconnect(index);
            }
        }
    }

    fn connect(&mut self, index: usize) {
        let host = IpAddr::V4(Ipv4Addr::new(20, 0, 0, u8::from(index.is_multiple_of(2))));
        if self.clients[index].is_none()
            && let Some(id) = self.pairings.open(self.now, host)
        {
            let mut mux = Mux::default();
            mux.open(PROTOCOL, &key(index));
            mux.poll_frame();
            self.clients[index] = Some(FuzzClient { id, mux });
        }
    }

    fn disconnect(&mut self, index: usize) {
        if let Some(client) = self.clients[index].take() {
            self.pairings.close(self.now, client.id);
        }
    }
}

/// The key of a client, which is the id of its channel.
fn key(client: usize) -> [u8; 32] {
    [client as u8; 32]
}

/// What was decoded is encoded and decoded again, with the same result.
fn alike(bytes: &[u8]) {
    let Ok(frame) = Frame::decode(bytes) else { return };
    if let Frame::Message { kind, body, .. } = &frame
        && let Ok(Some(message)) = RelayMessage::decode(*kind, body)
    {
        let (kind, body) = message.encode();
        assert_eq!(RelayMessage::decode(kind, &body), Ok(Some(message)));
    }
    if frame != Frame::Unknown {
        let again = frame.encode();
        assert_eq!(Frame::decode(&again), Ok(frame));
    }
}
