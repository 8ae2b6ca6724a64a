//! Nothing that arrives can make the state machine panic, or hold more than it should.

use std::net::SocketAddr;

use bytes::Bytes;
use proptest::prelude::*;
use udx::proto::packet::{Flags, HEADER_LEN, Header, decode_sacks};
use udx::proto::{Limits, Remote, StreamConfig, StreamMachine};
use udx::{Instant, SocketId};

const LIMITS: Limits = Limits { segments: 64, room: usize::MAX / 2 };

fn remote(id: u32) -> Remote {
    Remote { socket: SocketId::new(0), address: SocketAddr::from(([127, 0, 0, 1], 1)), id }
}

fn stream() -> StreamMachine {
    let mut stream = StreamMachine::new(&StreamConfig::new(1));
    stream.connect(remote(2)).unwrap();
    stream
}

/// One thing that happens to a stream.
#[derive(Debug, Clone)]
enum Event {
    Packet(Header, Vec<u8>),
    Wait(u64),
    Write(usize),
    End,
    Message(usize),
    Move,
    Backlog(usize),
    Keepalive(Option<u64>),
}

/// Numbers near what the stream uses, or anything at all.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![0_u32..200, any::<u32>(), (u32::MAX - 100)..=u32::MAX]
}

fn packet() -> impl Strategy<Value = Event> {
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        proptest::collection::vec((0_u32..200, 0_u32..200), 0..20).prop_map(|blocks| {
            blocks.iter().flat_map(|(a, b)| [a.to_le_bytes(), b.to_le_bytes()]).flatten().collect()
        }),
    ];
    let window = prop_oneof![Just(0), number()];
    let ack = prop_oneof![0_u32..40, number()];
    let flags = prop_oneof![Just(0), any::<u8>()];
    (flags, any::<u8>(), window, number(), ack, body).prop_map(
        |(flags, data_offset, rwnd, seq, ack, body)| {
            // DESTROY would end most runs early.
            let flags = if flags.is_multiple_of(7) { flags } else { flags & !Flags::DESTROY.bits() };
            let data_offset = if data_offset < 200 { 0 } else { data_offset };
            let flags = Flags::from_bits(flags);
            Event::Packet(Header { flags, data_offset, stream_id: 1, rwnd, seq, ack }, body)
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => packet(),
        2 => (0_u64..3_000_000).prop_map(Event::Wait),
        2 => (0_usize..60_000).prop_map(Event::Write),
        1 => Just(Event::End),
        1 => (0_usize..3000).prop_map(Event::Message),
        1 => Just(Event::Move),
        1 => (0_usize..6_000_000).prop_map(Event::Backlog),
        1 => proptest::option::of(0_u64..100_000).prop_map(Event::Keepalive),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_decode_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Some(header) = Header::decode(&bytes) {
            let mut encoded = Vec::new();
            header.encode(&mut encoded);
            prop_assert_eq!(&encoded[..], &bytes[..HEADER_LEN]);
            if let Some(layout) = header.layout(bytes.len() - HEADER_LEN) {
                let body = &bytes[HEADER_LEN..];
                let _ = decode_sacks(&body[layout.sacks]).count();
                let _ = &body[layout.payload];
            }
        }
    }

    #[test]
    fn any_events_are_survived(events in proptest::collection::vec(event(), 1..80)) {
        let mut stream = stream();
        let mut now = Instant::from_micros(1_000_000);
        let mut out = Vec::new();
        for event in events {
            match event {
                Event::Packet(header, body) => {
                    let body = Bytes::from(body);
                    stream.handle_packet(now, &header, &body, 0..body.len());
                    stream.handle_batch_end(now);
                }
                Event::Wait(micros) => now = now + micros,
                Event::Write(len) => drop(stream.write(now, Bytes::from(vec![0; len]))),
                Event::End => stream.end(now),
                Event::Message(len) => drop(stream.send_message(Bytes::from(vec![0; len]))),
                Event::Move => drop(stream.change_remote(remote(3))),
                Event::Backlog(bytes) => stream.set_backlog(bytes),
                Event::Keepalive(interval) => stream.set_keepalive(now, interval),
            }
            stream.handle_timeout(now);
            let mut batches = 0;
            while let Some(transmit) = stream.poll_transmit(now, LIMITS, &mut out) {
                prop_assert!(transmit.segment > 0 && transmit.segment <= 2048);
                prop_assert!(!out.is_empty());
                out.clear();
                batches += 1;
                prop_assert!(batches < 1000, "sends without end");
            }
            // Everything due was handled: the next deadline lies ahead.
            prop_assert!(stream.poll_timeout().is_none_or(|at| at > now));
            // What is not delivered is being waited for.
            let is_waiting = stream.poll_timeout().is_some();
            prop_assert!(stream.unacked() == 0 || stream.closed().is_some() || is_waiting);
            while stream.read().is_some() {}
            while stream.read_message().is_some() {}
        }
    }
}

#[test]
fn a_sender_that_ignores_the_window_is_cut_off() {
    let mut stream = stream();
    let now = Instant::from_micros(1);
    let payload = Bytes::from(vec![0; 1400]);
    let mut held = 0;
    for seq in 0..20_000 {
        let header = Header { flags: Flags::DATA, data_offset: 0, stream_id: 1, rwnd: 0, seq, ack: 0 };
        stream.handle_packet(now, &header, &payload, 0..payload.len());
        while let Some(data) = stream.read() {
            held += data.len();
        }
        stream.set_backlog(held);
    }
    assert!(held <= 6 << 20, "{held} bytes held");
}

#[test]
fn packets_far_ahead_are_cut_off() {
    let mut stream = stream();
    let now = Instant::from_micros(1);
    let payload = Bytes::from(vec![0; 1]);
    for seq in (1..100_000).step_by(2) {
        let header = Header { flags: Flags::DATA, data_offset: 0, stream_id: 1, rwnd: 0, seq, ack: 0 };
        stream.handle_packet(now, &header, &payload, 0..payload.len());
    }
    let mut out = Vec::new();
    stream.poll_transmit(now, LIMITS, &mut out).unwrap();
    let last = decode_sacks(&out[HEADER_LEN..]).last().unwrap();
    assert!(last.1 <= 16_384, "{last:?}");
}

/// The window shuts while the pacer holds the rest back, and nothing is outstanding.
#[test]
fn a_window_that_shuts_between_bursts_is_asked_about() {
    let mut stream = stream();
    let mut now = Instant::from_micros(1_000_000);
    let mut out = Vec::new();
    let mut next = 0;
    stream.write(now, Bytes::from(vec![0; 1_000_000])).unwrap();
    let acknowledge = |stream: &mut StreamMachine, now, ack, rwnd| {
        let header = Header { flags: Flags::NONE, data_offset: 0, stream_id: 1, rwnd, seq: 0, ack };
        stream.handle_packet(now, &header, &Bytes::new(), 0..0);
    };
    loop {
        let before = next;
        while let Some(transmit) = stream.poll_transmit(now, LIMITS, &mut out) {
            for packet in out.chunks(transmit.segment) {
                next = next.max(Header::decode(packet).unwrap().seq + 1);
            }
            out.clear();
        }
        if next == before {
            break;
        }
        // At once, so that no tokens are earned.
        acknowledge(&mut stream, now, next, 1_000_000);
    }
    assert!(stream.unacked() > 0);
    acknowledge(&mut stream, now, next, 0);
    for _ in 0..10 {
        now = stream.poll_timeout().expect("waits for nothing");
        stream.handle_timeout(now);
        if stream.poll_transmit(now, LIMITS, &mut out).is_some() {
            break;
        }
    }
    assert_eq!(Header::decode(&out).unwrap().flags, Flags::HEARTBEAT);
}
