//! Every exchange captured from npm udx-native 1.21.3 (`tests/vectors/udx.json`), replayed against the state
//! machine under virtual time: what it sends must be the same, byte for byte, at about the same time.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;
use udx::proto::packet::{Flags, HEADER_LEN, Header, decode_sacks, encode_sack};
use udx::proto::{Framing, Limits, Remote, StreamConfig, StreamMachine};
use udx::{Error, Instant, SocketId};

/// How far our timing may be from the capture's, which drifts by a few milliseconds with every timer.
const TOLERANCE: f64 = 20.0;

const LIMITS: Limits = Limits { segments: 1, room: usize::MAX / 2 };

fn cases() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/udx.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn case(id: &str) -> Value {
    cases().into_iter().find(|case| case["id"] == id).unwrap_or_else(|| panic!("no case {id}"))
}

fn bytes(step: &Value) -> Vec<u8> {
    hex::decode(step["hex"].as_str().unwrap()).unwrap()
}

/// One side of a captured exchange: the state machine in place of udx-native.
struct Replay {
    id: String,
    stream: StreamMachine,
    now: f64,
    sent: VecDeque<(f64, SocketAddr, Vec<u8>)>,
    read: Vec<Vec<u8>>,
    messages: Vec<Vec<u8>>,
    raw: Vec<Vec<u8>>,
}

fn instant(ms: f64) -> Instant {
    Instant::from_micros(1_000_000 + (ms * 1000.0) as u64)
}

fn remote(port: u16, id: u32, is_ipv6: bool) -> Remote {
    let address: SocketAddr = if is_ipv6 { "[::ffff:127.0.0.1]:0" } else { "127.0.0.1:0" }.parse().unwrap();
    Remote { socket: SocketId::new(0), address: SocketAddr::new(address.ip(), port), id }
}

impl Replay {
    fn new(case: &Value) -> Self {
        let setup = &case["setup"];
        let number = |name: &str| u32::try_from(setup[name].as_u64().unwrap_or(0)).unwrap();
        let mut config = StreamConfig::new(number("local_id"));
        config.seq = number("seq");
        config.ack = number("ack");
        let mut stream = StreamMachine::new(&config);
        if setup["connected"] != false {
            let is_ipv6 = setup["socket"].as_str().unwrap().starts_with("AF_INET6");
            stream.connect(remote(1, number("remote_id"), is_ipv6)).unwrap();
            // udx-native takes every path to carry this.
            stream.set_known_mtu(1200);
        }
        Self {
            id: case["id"].as_str().unwrap().to_owned(),
            stream,
            now: -1000.0,
            sent: VecDeque::new(),
            read: Vec::new(),
            messages: Vec::new(),
            raw: Vec::new(),
        }
    }

    fn pump(&mut self) {
        while let Some(data) = self.stream.read() {
            self.read.push(data.to_vec());
        }
        let mut out = Vec::new();
        while let Some(transmit) = self.stream.poll_transmit(instant(self.now), LIMITS, &mut out) {
            self.sent.push_back((self.now, transmit.to, std::mem::take(&mut out)));
        }
        while let Some(message) = self.stream.read_message() {
            self.messages.push(message.to_vec());
        }
    }

    fn advance(&mut self, to: f64) {
        while let Some(deadline) = self.stream.poll_timeout().filter(|deadline| *deadline <= instant(to)) {
            self.now = self.now.max((deadline.as_micros() - 1_000_000) as f64 / 1000.0);
            self.stream.handle_timeout(deadline);
            self.pump();
        }
        self.now = self.now.max(to);
    }

    fn receive(&mut self, datagram: &[u8]) {
        match Header::decode(datagram) {
            Some(header) if header.stream_id == self.stream.id() => {
                let datagram = Bytes::copy_from_slice(datagram);
                self.stream.handle_packet(instant(self.now), &header, &datagram, HEADER_LEN..datagram.len());
                self.stream.handle_batch_end(instant(self.now));
            }
            _ => self.raw.push(datagram.to_vec()),
        }
        self.pump();
    }

    fn write(&mut self, data: &[u8]) {
        self.stream.write(instant(self.now), Bytes::copy_from_slice(data)).unwrap();
        self.pump();
    }

    /// A pure acknowledgement of everything below `ack`.
    fn acknowledge(&mut self, ack: u32) {
        let mut datagram = Vec::new();
        let stream_id = self.stream.id();
        Header { flags: Flags::NONE, data_offset: 0, stream_id, rwnd: 4 << 20, seq: 0, ack }
            .encode(&mut datagram);
        self.receive(&datagram);
    }

    fn expect(&mut self, step: &Value) {
        let at = step["t_ms"].as_f64().unwrap_or(self.now);
        self.advance(at.max(self.now));
        if self.sent.is_empty() {
            self.advance(at + TOLERANCE);
        }
        let id = &self.id;
        let (sent_at, to, sent) =
            self.sent.pop_front().unwrap_or_else(|| panic!("{id}: nothing sent: {step}"));
        assert_eq!(hex::encode(&sent), step["hex"].as_str().unwrap(), "{id}: at {at} ms");
        if let Some(at) = step["t_ms"].as_f64() {
            assert!((sent_at - at).abs() <= TOLERANCE, "{id}: sent at {sent_at} ms, not {at} ms");
        }
        if step["to"] == "new remote" {
            assert_eq!(to.port(), 2, "{id}");
        }
    }

    /// What the application did, in the words of the capture; `payloads` are those of the packets that
    /// follow.
    fn act(&mut self, action: &str, payloads: &[Vec<u8>]) {
        match self.id.as_str() {
            "combined-write" => {
                for data in [b"aaa", b"bbb", b"ccc"] {
                    self.stream.write(instant(self.now), Bytes::from_static(data)).unwrap();
                }
                self.pump();
            }
            "message-out" => {
                self.stream.send_message(Bytes::from_static(b"unordered")).unwrap();
                self.pump();
            }
            "end-alone" => {
                self.stream.end(instant(self.now));
                self.pump();
            }
            "data-end" => {
                self.stream.write(instant(self.now), Bytes::from_static(b"bye")).unwrap();
                self.stream.end(instant(self.now));
                self.pump();
            }
            "destroy-out" => {
                self.write(b"q");
                self.stream.destroy();
                self.pump();
            }
            "heartbeat-out" => self.stream.set_keepalive(instant(self.now), Some(50_000)),
            "preconnect" => {
                self.stream.connect(remote(1, 2_712_847_316, false)).unwrap();
                self.pump();
            }
            "tlp-then-rto" => {
                self.warm_up(&[1, 1, 1], 20.0);
                self.write(&payloads[0]);
            }
            "fast-retransmit" => {
                self.warm_up(&[1, 1, 1], 12.0);
                for payload in &payloads[..4] {
                    self.write(payload);
                    self.advance(self.now + 2.0);
                }
            }
            "seq-wrap" => {
                for payload in &payloads[..4] {
                    self.write(payload);
                    self.advance(self.now + 4.6);
                }
            }
            "change-remote" if action.starts_with("changeRemote") => {
                self.stream.change_remote(remote(2, 0x55, false)).unwrap();
                assert!(!self.stream.take_remote_changed());
                self.write(b"new");
            }
            "change-remote" if action.contains("fired") => assert!(self.stream.take_remote_changed()),
            "rto-exhaustion" if action == "error seen" => {
                self.advance(self.now);
                assert_eq!(self.stream.closed(), Some(Err(Error::TimedOut)));
            }
            _ => self.write(&payloads.concat()),
        }
    }

    /// Writes that are acknowledged after `rtt` milliseconds each, before the capture goes on.
    fn warm_up(&mut self, sizes: &[usize], rtt: f64) {
        let start = self.now;
        self.now -= 3.0 * rtt;
        for &size in sizes {
            self.write(&payload(size));
            let seq =
                self.sent.drain(..).map(|(_, _, sent)| Header::decode(&sent).unwrap().seq).max().unwrap();
            self.advance(self.now + rtt);
            self.acknowledge(seq.wrapping_add(1));
        }
        self.sent.clear();
        self.advance(start);
    }
}

/// As the capture script made them.
fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| i as u8).collect()
}

/// Payloads of the packets sent for the first time in `steps`, up to the next action.
fn new_payloads(steps: &[Value]) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    let mut payloads = Vec::new();
    let steps = steps.iter().take_while(|step| step["action"].is_null());
    for step in steps.filter(|step| step["dir"] == "out") {
        let datagram = bytes(step);
        let header = Header::decode(&datagram).unwrap();
        if header.flags.intersects(Flags::DATA) && !seen.contains(&header.seq) {
            seen.push(header.seq);
            payloads.push(datagram[HEADER_LEN + usize::from(header.data_offset)..].to_vec());
        }
    }
    payloads
}

fn replay(id: &str) -> Replay {
    let case = case(id);
    let steps = case["steps"].as_array().unwrap();
    let mut replay = Replay::new(&case);
    replay.now = steps[0]["t_ms"].as_f64().unwrap_or(0.0).max(0.0);
    for (index, step) in steps.iter().enumerate() {
        let at = step["t_ms"].as_f64().unwrap_or(replay.now).max(replay.now);
        if let Some(action) = step["action"].as_str() {
            replay.advance(at);
            replay.act(action, &new_payloads(&steps[index + 1..]));
        } else if step["dir"] == "in" {
            replay.advance(at);
            // The first packet before the connection is refused by the firewall.
            if step["note"] != "firewall returns true: packet swallowed" {
                replay.receive(&bytes(step));
            }
        } else {
            replay.expect(step);
        }
    }
    assert!(replay.sent.is_empty(), "{id}: sent too much: {:?}", replay.sent);
    check_events(&case, &replay);
    replay
}

fn check_events(case: &Value, replay: &Replay) {
    let id = &replay.id;
    let mut data = Vec::new();
    let mut messages = Vec::new();
    for event in case["udx_events"].as_array().into_iter().flatten() {
        match event["event"].as_str().unwrap() {
            // Reads without bytes mean nothing to a stream of bytes.
            "data" if event["len"] == 0 => {}
            "data" => data.push(event["hex"].as_str().map(str::to_owned)),
            "message" => messages.push(event["hex"].as_str().unwrap().to_owned()),
            "end" => assert!(replay.stream.is_ended(), "{id}"),
            "error" => assert!(matches!(replay.stream.closed(), Some(Err(_))), "{id}"),
            "close" => assert!(replay.stream.closed().is_some(), "{id}"),
            other => panic!("{id}: unknown event {other}"),
        }
    }
    if data.iter().all(Option::is_some) {
        let expected: Vec<_> = data.into_iter().flatten().collect();
        assert_eq!(replay.read.iter().map(hex::encode).collect::<Vec<_>>(), expected, "{id}");
    }
    assert_eq!(replay.messages.iter().map(hex::encode).collect::<Vec<_>>(), messages, "{id}");
}

macro_rules! replays {
    ($($name:ident $id:literal)*) => {
        $(#[test] fn $name() { replay($id); })*
        const REPLAYED: &[&str] = &[$($id),*];
    };
}

replays! {
    data_small "data-small"
    combined_write "combined-write"
    segmentation "segmentation"
    ack_in_order "ack-in-order"
    sack_ranges "sack-ranges"
    message_out "message-out"
    message_in "message-in"
    end_alone "end-alone"
    data_end "data-end"
    end_out_of_order "end-out-of-order"
    destroy_out "destroy-out"
    heartbeat_out "heartbeat-out"
    heartbeat_in "heartbeat-in"
    zero_window "zero-window"
    tlp_then_rto "tlp-then-rto"
    fast_retransmit "fast-retransmit"
    retransmit_refresh "retransmit-refresh"
    dual_stack_mss "dual-stack-mss"
    seq_wrap "seq-wrap"
    sack_with_offset "sack-with-offset"
    preconnect "preconnect"
    change_remote "change-remote"
    framed_write "framed-write"
    framed_read_false "framed-read-false"
    framed_secret_stream "framed-secret-stream"
    rto_exhaustion "rto-exhaustion"
}

/// Cases with a test of their own: here, or over real sockets (`relay`, in `tests/loopback.rs`).
const OTHERS: &[&str] =
    &["destroy-in", "sack-limit-50", "demux", "framed-read-true", "mtu-probe", "mtu-probe-lost", "relay"];

#[test]
fn no_case_is_forgotten() {
    for case in cases() {
        let id = case["id"].as_str().unwrap();
        assert!(REPLAYED.contains(&id) || OTHERS.contains(&id), "case {id} is not tested");
    }
}

#[test]
fn destroy_in() {
    let replay = replay("destroy-in");
    assert_eq!(replay.stream.closed(), Some(Err(Error::ConnectionReset)));
}

#[test]
fn sack_limit_50() {
    let case = case("sack-limit-50");
    let mut replay = Replay::new(&case);
    for seq in (1..=119).step_by(2) {
        let mut datagram = Vec::new();
        Header {
            flags: Flags::DATA,
            data_offset: 0,
            stream_id: replay.stream.id(),
            rwnd: 4 << 20,
            seq,
            ack: 0,
        }
        .encode(&mut datagram);
        datagram.push(0);
        replay.receive(&datagram);
    }
    let expected = bytes(case["steps"].as_array().unwrap().iter().find(|step| step["dir"] == "out").unwrap());
    let sent = replay.sent.pop_back().unwrap().2;
    // Ours goes on where udx-native stops.
    assert_eq!((expected.len(), sent.len()), (HEADER_LEN + 50 * 8, HEADER_LEN + 60 * 8));
    assert_eq!(sent[..expected.len()], expected);
    assert_eq!(decode_sacks(&sent[HEADER_LEN..]).last(), Some((119, 120)));
}

/// Ours probes other sizes than udx-native; but it must understand those that udx-native sends: padded, and
/// once one was lost, without the padding.
#[test]
fn probes_are_understood() {
    for (id, first, is_lost) in [("mtu-probe", 0, false), ("mtu-probe-lost", 3, true)] {
        let case = case(id);
        let sent = case["steps"].as_array().unwrap().iter().filter(|step| step["dir"] == "out");
        let sent: Vec<_> = sent.map(bytes).collect();
        assert!(sent.iter().any(|datagram| datagram[3] > 0), "one with padding");
        let id = Header::decode(&sent[0]).unwrap().stream_id;
        let mut stream = StreamMachine::new(&StreamConfig { ack: first, ..StreamConfig::new(id) });
        for datagram in &sent[usize::from(is_lost)..] {
            let (header, datagram) = (Header::decode(datagram).unwrap(), Bytes::copy_from_slice(datagram));
            stream.handle_packet(instant(0.0), &header, &datagram, HEADER_LEN..datagram.len());
        }
        let read: Vec<u8> = std::iter::from_fn(|| stream.read()).flatten().collect();
        assert_eq!(read, payload(1152).repeat(if is_lost { 2 } else { 5 }));
    }
}

#[test]
fn demux() {
    let case = case("demux");
    let mut replay = Replay::new(&case);
    let steps = case["steps"].as_array().unwrap();
    for step in steps.iter().filter(|step| step["dir"] == "in") {
        replay.receive(&bytes(step));
    }
    for step in steps.iter().filter(|step| step["dir"] == "out") {
        assert_eq!(replay.sent.pop_front().map(|sent| sent.2), Some(bytes(step)));
    }
    assert!(replay.sent.is_empty());
    let raw: Vec<_> = replay.raw.iter().map(hex::encode).collect();
    assert_eq!(serde_json::json!(raw), case["socket_messages"]);
    check_events(&case, &replay);
}

#[test]
fn framed_read_true() {
    let replay = replay("framed-read-true");
    let mut framing = Framing::default();
    let mut delivered = Vec::new();
    for packet in replay.read {
        framing.push(packet.into(), |bytes| delivered.push(bytes.len()));
    }
    assert_eq!(delivered, [3003]);
}

#[test]
fn every_header_decodes_to_its_fields_and_back() {
    let mut count = 0;
    for case in cases() {
        for step in case["steps"].as_array().unwrap().iter().filter(|step| step["fields"].is_object()) {
            let datagram = bytes(step);
            let fields = &step["fields"];
            let number = |name: &str| fields[name].as_u64().unwrap();
            let header = Header::decode(&datagram).unwrap();
            assert_eq!(u64::from(header.flags.bits()), number("type"));
            assert_eq!(u64::from(header.data_offset), number("data_offset"));
            assert_eq!(u64::from(header.stream_id), number("stream_id"));
            assert_eq!(u64::from(header.rwnd), number("rwnd"));
            assert_eq!(u64::from(header.seq), number("seq"));
            assert_eq!(u64::from(header.ack), number("ack"));
            let body = &datagram[HEADER_LEN..];
            let mut encoded = Vec::new();
            header.encode(&mut encoded);
            if let (Some(layout), Some(blocks)) = (header.layout(body.len()), fields["sack"].as_array()) {
                let area = &body[layout.sacks.clone()];
                let decoded: Vec<_> = decode_sacks(area).collect();
                assert_eq!(serde_json::json!(decoded), serde_json::json!(blocks));
                decoded.iter().for_each(|&(start, end)| encode_sack(start, end, &mut encoded));
                assert_eq!(encoded, datagram[..HEADER_LEN + area.len()]);
            } else {
                assert_eq!(encoded, datagram[..HEADER_LEN]);
            }
            count += 1;
        }
    }
    assert!(count > 100, "{count} packets");
}
