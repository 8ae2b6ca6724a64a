//! What two peers tell each other inside the Noise handshake (spec/connect.md §3).

use std::net::{SocketAddrV4, SocketAddrV6};

use crate::encoding::{ADDR4_SIZE, ADDR6_SIZE, Malformed, Reader, Writer};

/// The only version of the payload there is.
pub const VERSION: u64 = 1;

/// Addresses of each kind that are kept of one peer. A host with more interfaces is reached through these,
/// and a peer that makes addresses up can't fill our memory.
const MAX_ADDRESSES: usize = 32;

/// Why a peer refuses (hyperdht/lib/constants.js ERROR).
pub mod error {
    /// Nothing is wrong.
    pub const NONE: u64 = 0;
    /// It will not connect.
    pub const ABORTED: u64 = 1;
    /// It does not speak the version of the payload.
    pub const VERSION_MISMATCH: u64 = 2;
    /// It punches at random for somebody else now.
    pub const TRY_LATER: u64 = 3;
}

/// What a peer knows of the firewall or NAT before it (hyperdht/lib/constants.js FIREWALL).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Firewall {
    /// Not known yet.
    #[default]
    Unknown,
    /// There is none: anybody reaches it at its address.
    Open,
    /// A NAT that shows everybody the same address.
    Consistent,
    /// A NAT that shows everybody another port.
    Random,
}

impl Firewall {
    /// Larger numbers count as random, as in JavaScript.
    pub(crate) fn from_uint(value: u64) -> Self {
        match value {
            0 => Self::Unknown,
            1 => Self::Open,
            2 => Self::Consistent,
            _ => Self::Random,
        }
    }

    pub(crate) fn to_uint(self) -> u64 {
        match self {
            Self::Unknown => 0,
            Self::Open => 1,
            Self::Consistent => 2,
            Self::Random => 3,
        }
    }
}

/// A node that relays handshakes and punches to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayInfo {
    /// Where the node is reached.
    pub relay: SocketAddrV4,
    /// The server as that node sees it.
    pub peer: SocketAddrV4,
}

/// How a server wants to be punched to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolepunchInfo {
    /// Names this handshake in PEER_HOLEPUNCH messages.
    pub id: u64,
    /// The nodes that the server is announced at.
    pub relays: Vec<RelayInfo>,
}

/// The stream a peer has made for this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdxInfo {
    /// Whether it would use the socket of this connection for the next one too.
    pub reusable_socket: bool,
    /// The stream's id on that peer.
    pub id: u32,
    /// The first sequence number it sends; always 0.
    pub seq: u64,
}

/// A third party to relay the stream itself, named by the peer that trusts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayThrough {
    /// The relay's key.
    pub public_key: [u8; 32],
    /// What both peers show the relay to be paired.
    pub token: [u8; 32],
}

/// What one peer says of itself, encrypted in the first handshake message of each side.
///
/// If the [`version`](Self::version) is not ours, no other field is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoisePayload {
    /// Version of the handshake; ours is 1.
    pub version: u64,
    /// One of [`error`]; more than 252 can't be sent.
    pub error: u64,
    /// What the peer knows of its NAT.
    pub firewall: Firewall,
    /// How to punch to it, if it is a server behind a NAT.
    pub holepunch: Option<HolepunchInfo>,
    /// Where the peer may be reached: its public address if it knows it, then its local ones.
    pub addresses4: Vec<SocketAddrV4>,
    /// Read and never used, as in JavaScript.
    pub addresses6: Vec<SocketAddrV6>,
    /// Its stream; without one it does not connect.
    pub udx: Option<UdxInfo>,
    /// Version of the encrypted stream. Peers may leave it out; that means nothing.
    pub secret_stream: Option<u64>,
    /// The relay it trusts.
    pub relay_through: Option<RelayThrough>,
    /// The nodes to ask first when connecting again.
    pub relay_addresses: Option<Vec<SocketAddrV4>>,
}

impl Default for NoisePayload {
    /// A payload without any information.
    fn default() -> Self {
        Self {
            version: VERSION,
            error: error::NONE,
            firewall: Firewall::Unknown,
            holepunch: None,
            addresses4: Vec::new(),
            addresses6: Vec::new(),
            udx: None,
            secret_stream: None,
            relay_through: None,
            relay_addresses: None,
        }
    }
}

const HOLEPUNCH: u64 = 1;
const ADDRESSES4: u64 = 2;
const ADDRESSES6: u64 = 4;
const UDX: u64 = 8;
const SECRET_STREAM: u64 = 16;
const RELAY_THROUGH: u64 = 32;
const RELAY_ADDRESSES: u64 = 64;

impl NoisePayload {
    /// The bytes of this payload.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let flag = |present: bool, flag: u64| if present { flag } else { 0 };
        let flags = flag(self.holepunch.is_some(), HOLEPUNCH)
            | flag(!self.addresses4.is_empty(), ADDRESSES4)
            | flag(!self.addresses6.is_empty(), ADDRESSES6)
            | flag(self.udx.is_some(), UDX)
            | flag(self.secret_stream.is_some(), SECRET_STREAM)
            | flag(self.relay_through.is_some(), RELAY_THROUGH)
            | flag(self.relay_addresses.is_some(), RELAY_ADDRESSES);

        let mut w = Writer::new();
        w.uint(self.version).uint(flags).uint(self.error).uint(self.firewall.to_uint());
        if let Some(holepunch) = &self.holepunch {
            w.uint(holepunch.id).array(&holepunch.relays, |w, r| {
                w.addr4(r.relay).addr4(r.peer);
            });
        }
        if !self.addresses4.is_empty() {
            w.addr4_array(&self.addresses4);
        }
        if !self.addresses6.is_empty() {
            w.addr6_array(&self.addresses6);
        }
        if let Some(udx) = self.udx {
            w.uint(UDX_VERSION).uint(u64::from(udx.reusable_socket)).uint(u64::from(udx.id)).uint(udx.seq);
        }
        if let Some(version) = self.secret_stream {
            w.uint(version);
        }
        if let Some(through) = &self.relay_through {
            w.uint(RELAY_THROUGH_VERSION).uint(0).bytes(&through.public_key).bytes(&through.token);
        }
        if let Some(addresses) = &self.relay_addresses {
            w.addr4_array(addresses);
        }
        w.finish()
    }

    /// Reads a payload. Addresses without a port, and those past the first [`MAX_ADDRESSES`] of a list, are
    /// left out.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let version = r.uint()?;
        if version != VERSION {
            return Ok(Self { version, ..Self::default() });
        }
        let flags = r.uint()?;
        let has = |flag| flags & flag != 0;
        let error = r.uint()?;
        let firewall = Firewall::from_uint(r.uint()?);
        Ok(Self {
            version,
            error,
            firewall,
            holepunch: has(HOLEPUNCH).then(|| decode_holepunch(&mut r)).transpose()?,
            addresses4: if has(ADDRESSES4) { addresses4(&mut r)? } else { Vec::new() },
            addresses6: if has(ADDRESSES6) { addresses6(&mut r)? } else { Vec::new() },
            udx: has(UDX).then(|| decode_udx(&mut r)).transpose()?,
            secret_stream: has(SECRET_STREAM).then(|| r.uint()).transpose()?,
            relay_through: has(RELAY_THROUGH).then(|| decode_relay_through(&mut r)).transpose()?,
            relay_addresses: has(RELAY_ADDRESSES).then(|| addresses4(&mut r)).transpose()?,
        })
    }
}

/// Version and, as its bit 0, the feature of reusable sockets.
const UDX_VERSION: u64 = 1;
const REUSABLE_SOCKET: u64 = 1;
const RELAY_THROUGH_VERSION: u64 = 1;

fn decode_holepunch(r: &mut Reader) -> Result<HolepunchInfo, Malformed> {
    let id = r.uint()?;
    let relays = r.array(2 * ADDR4_SIZE, |r| Ok(RelayInfo { relay: r.addr4()?, peer: r.addr4()? }))?;
    let usable = |r: &RelayInfo| r.relay.port() != 0 && r.peer.port() != 0;
    Ok(HolepunchInfo { id, relays: relays.into_iter().filter(usable).take(MAX_ADDRESSES).collect() })
}

fn decode_udx(r: &mut Reader) -> Result<UdxInfo, Malformed> {
    let _version = r.uint()?;
    let features = r.uint()?;
    Ok(UdxInfo {
        reusable_socket: features & REUSABLE_SOCKET != 0,
        id: u32::try_from(r.uint()?).map_err(|_| Malformed)?,
        seq: r.uint()?,
    })
}

fn decode_relay_through(r: &mut Reader) -> Result<RelayThrough, Malformed> {
    let _version = r.uint()?;
    let _flags = r.uint()?;
    Ok(RelayThrough { public_key: r.fixed()?, token: r.fixed()? })
}

fn addresses4(r: &mut Reader) -> Result<Vec<SocketAddrV4>, Malformed> {
    let all = r.array(ADDR4_SIZE, Reader::addr4)?;
    Ok(all.into_iter().filter(|a| a.port() != 0).take(MAX_ADDRESSES).collect())
}

fn addresses6(r: &mut Reader) -> Result<Vec<SocketAddrV6>, Malformed> {
    let all = r.array(ADDR6_SIZE, Reader::addr6)?;
    Ok(all.into_iter().filter(|a| a.port() != 0).take(MAX_ADDRESSES).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::testing::vectors::connect::{addr, addrs, array, bytes, case, unhex};

    fn from_json(v: &Value) -> NoisePayload {
        let number = |v: &Value| v.as_u64().unwrap_or(0);
        let present = |key: &str| v.get(key).filter(|x| !x.is_null());
        NoisePayload {
            version: v["version"].as_u64().unwrap_or(VERSION),
            error: number(&v["error"]),
            firewall: Firewall::from_uint(number(&v["firewall"])),
            holepunch: present("holepunch").map(|h| HolepunchInfo {
                id: number(&h["id"]),
                relays: h["relays"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|r| RelayInfo { relay: addr(&r["relayAddress"]), peer: addr(&r["peerAddress"]) })
                    .collect(),
            }),
            addresses4: addrs(&v["addresses4"]),
            addresses6: present("addresses6")
                .and_then(Value::as_array)
                .map(|list| {
                    let one = |a: &Value| {
                        let ip = a["host"].as_str().unwrap().parse().unwrap();
                        SocketAddrV6::new(ip, number(&a["port"]) as u16, 0, 0)
                    };
                    list.iter().map(one).collect()
                })
                .unwrap_or_default(),
            udx: present("udx").map(|u| UdxInfo {
                reusable_socket: u["reusableSocket"].as_bool().unwrap(),
                id: number(&u["id"]) as u32,
                seq: number(&u["seq"]),
            }),
            secret_stream: present("secretStream").map(|_| 1),
            relay_through: present("relayThrough")
                .map(|t| RelayThrough { public_key: array(&t["publicKey"]), token: array(&t["token"]) }),
            relay_addresses: present("relayAddresses").map(addrs),
        }
    }

    #[test]
    fn vectors_decode_and_encode_byte_for_byte() {
        for id in [
            "minimal",
            "error-firewall",
            "holepunch",
            "addresses4",
            "addresses6",
            "udx",
            "udx-reusable",
            "secretstream",
            "relaythrough",
            "relayaddresses",
            "client-typical",
            "server-typical",
            "all",
        ] {
            let id = format!("noise-payload-{id}");
            let payload = from_json(&case(&id)["inputs"]);
            assert_eq!(payload.encode(), bytes(&id), "{id}");
            assert_eq!(NoisePayload::decode(&bytes(&id)), Ok(payload), "{id}");
        }
    }

    #[test]
    fn other_versions_and_unknown_flags_decode_as_javascript_does() {
        for id in ["noise-payload-other-version", "noise-payload-unknown-flag-trailing"] {
            let input = unhex(&case(id)["inputs"]["hex_in"]);
            assert_eq!(NoisePayload::decode(&input), Ok(from_json(&case(id)["expect"])), "{id}");
        }
    }

    #[test]
    fn addresses_without_a_port_are_left_out() {
        let input = [1, 2, 0, 0, 2, 1, 1, 1, 1, 0, 0, 2, 2, 2, 2, 5, 0];
        let payload = NoisePayload::decode(&input).unwrap();
        assert_eq!(payload.addresses4, vec!["2.2.2.2:5".parse().unwrap()]);
    }

    #[test]
    fn a_count_the_bytes_cannot_hold_is_refused() {
        assert_eq!(NoisePayload::decode(&[1, 2, 0, 0, 0xfe, 0, 0, 16, 0, 1, 1]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = NoisePayload::decode(&input);
        }

        #[test]
        fn whatever_is_decoded_encodes_to_what_decodes_to_it(
            tail in proptest::collection::vec(any::<u8>(), 3..200)
        ) {
            let mut input = vec![1];
            input.extend(tail);
            if let Ok(payload) = NoisePayload::decode(&input) {
                let again = NoisePayload::decode(&payload.encode()).unwrap();
                let bare = |p: &NoisePayload| NoisePayload {
                    relay_addresses: p.relay_addresses.clone().filter(|list| !list.is_empty()), ..p.clone()
                };
                prop_assert_eq!(bare(&again), bare(&payload));
            }
        }
    }
}
