//! Any bytes as what happens to a stream: panics where something is wrong. Fuzzing runs it.

use std::net::SocketAddr;

use bytes::Bytes;
use udx::proto::packet::Header;
use udx::proto::{Limits, Remote, StreamConfig, StreamMachine};
use udx::{Instant, SocketId};

const LIMITS: Limits = Limits { segments: 64, room: usize::MAX / 2 };
/// The most a stream may hold for a reader that reads: its window, as much out of order, and what is on its
/// way.
const MOST_READ: usize = 10 << 20;

/// A whole stream, to which packets come at any time and rate, and whose application does
/// anything. The input is a list of steps: a byte that says what happens, and up to 255 bytes,
/// after their count, to do it with.
pub(crate) fn run(data: &[u8]) {
    let mut stream = StreamMachine::new(&StreamConfig::new(1));
    assert!(stream.connect(remote(2)).is_ok());
    let mut now = Instant::from_micros(1_000_000);
    let mut out = Vec::new();
    let mut rest = data;
    while let [kind, count, more @ ..] = rest {
        let (bytes, behind) = more.split_at(more.len().min((*count).into()));
        rest = behind;
        let number = u64::from(*kind >> 3) * u64::from(*count);
        match kind % 8 {
            0..=2 => packet_of(&mut stream, now, *kind, bytes),
            3 => now = now + number * 1000,
            4 => drop(stream.write(now, Bytes::from(vec![0; usize::try_from(number * 16).unwrap_or(0)]))),
            5 => drop(stream.send_message(Bytes::copy_from_slice(bytes))),
            6 => stream.set_backlog(usize::try_from(number * 1000).unwrap_or(0)),
            _ if *count == 0 => stream.end(now),
            _ if *count == 1 => drop(stream.change_remote(remote(3))),
            _ => stream.set_keepalive(now, (*kind & 8 == 0).then_some(number * 100)),
        }
        settle(&mut stream, now, &mut out);
    }
}

/// A packet whose numbers lie near those of the stream: flags, data offset, and one byte each
/// for window, sequence and acknowledgement; the rest is its body.
fn packet_of(stream: &mut StreamMachine, now: Instant, kind: u8, bytes: &[u8]) {
    let [flags, data_offset, rwnd, seq, ack, body @ ..] = bytes else { return };
    let mut header = vec![0xff, 1, *flags, *data_offset, 1, 0, 0, 0];
    // A high bit of the kind makes the numbers wrap around.
    let far = if kind & 0x80 == 0 { 0 } else { u32::MAX - 128 };
    for number in [u32::from(*rwnd) << 12, far.wrapping_add((*seq).into()), far.wrapping_add((*ack).into())] {
        header.extend(number.to_le_bytes());
    }
    let Some(header) = Header::decode(&header) else { return };
    let body = Bytes::copy_from_slice(body);
    stream.handle_packet(now, &header, &body, 0..body.len());
    stream.handle_batch_end(now);
}

fn settle(stream: &mut StreamMachine, now: Instant, out: &mut Vec<u8>) {
    stream.handle_timeout(now);
    let mut batches = 0;
    while let Some(transmit) = stream.poll_transmit(now, LIMITS, out) {
        assert!(transmit.segment > 0 && transmit.segment <= 2048);
        assert!(!out.is_empty());
        out.clear();
        batches += 1;
        assert!(batches < 1000, "sends without end");
    }
    assert!(stream.poll_timeout().is_none_or(|at| at > now), "everything due was handled");
    assert!(
        stream.unacked() == 0 || stream.closed().is_some() || stream.poll_timeout().is_some(),
        "what is not delivered is waited for"
    );
    let mut read = 0;
    while let Some(data) = stream.read() {
        read += data.len();
    }
    assert!(read <= MOST_READ);
    while stream.read_message().is_some() {}
}

fn remote(id: u32) -> Remote {
    Remote { socket: SocketId::new(0), address: SocketAddr::from(([127, 0, 0, 1], 1)), id }
}
