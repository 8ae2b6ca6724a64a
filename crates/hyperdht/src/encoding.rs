//! The compact encoding every message of the network is written in (spec/dht.md §1).
//!
//! [`Reader`] takes fields off the front of a datagram and never reads past its end; [`Writer`] is its
//! mirror. Sizes that come from the network are compared with what is left before anything is allocated.

use std::net::{Ipv4Addr, SocketAddrV4, SocketAddrV6};

/// The largest integer a peer may send: the largest a JavaScript number holds exactly.
pub(crate) const MAX_UINT: u64 = (1 << 53) - 1;

/// Why bytes could not be read. One error is enough, because whatever does not decode is dropped without an
/// answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message")]
pub struct Malformed;

/// Reads fields from the front of a byte slice.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All bytes that have not been read yet.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next `length` bytes as they are.
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(head)
    }

    /// A field of a size known from the protocol.
    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.fixed().map(|[byte]: [u8; 1]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.fixed().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.fixed().map(u32::from_le_bytes)
    }

    /// An integer of variable length. As in JavaScript, a longer form than needed is accepted.
    pub(crate) fn uint(&mut self) -> Result<u64, Malformed> {
        let value = match self.u8()? {
            0xfd => u64::from(self.u16()?),
            0xfe => u64::from(self.u32()?),
            0xff => u64::from_le_bytes(self.fixed()?),
            small => u64::from(small),
        };
        if value <= MAX_UINT { Ok(value) } else { Err(Malformed) }
    }

    /// Bytes after their length.
    pub(crate) fn buffer(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.uint()?;
        self.bytes(usize::try_from(length).map_err(|_| Malformed)?)
    }

    /// Four octets, port little endian.
    pub(crate) fn addr4(&mut self) -> Result<SocketAddrV4, Malformed> {
        let ip: [u8; 4] = self.fixed()?;
        Ok(SocketAddrV4::new(Ipv4Addr::from(ip), self.u16()?))
    }

    /// Eight big-endian groups, port little endian.
    pub(crate) fn addr6(&mut self) -> Result<SocketAddrV6, Malformed> {
        let ip: [u8; 16] = self.fixed()?;
        Ok(SocketAddrV6::new(ip.into(), self.u16()?, 0, 0))
    }

    /// A count and as many items, none of which is smaller than `item_size` bytes: a count that the rest of
    /// the message can't hold is refused before it allocates.
    pub(crate) fn array<T>(
        &mut self,
        item_size: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = usize::try_from(self.uint()?).map_err(|_| Malformed)?;
        if count.checked_mul(item_size).is_none_or(|size| size > self.rest.len()) {
            return Err(Malformed);
        }
        (0..count).map(|_| item(self)).collect()
    }

    pub(crate) fn addr4_array(&mut self) -> Result<Vec<SocketAddrV4>, Malformed> {
        self.array(ADDR4_SIZE, Self::addr4)
    }
}

/// Bytes of an IPv4 address with its port.
pub(crate) const ADDR4_SIZE: usize = 6;
/// Bytes of an IPv6 address with its port.
pub(crate) const ADDR6_SIZE: usize = 18;

/// Appends fields to a byte vector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn uint(&mut self, value: u64) -> &mut Self {
        if let Ok(small) = u8::try_from(value)
            && small <= 0xfc
        {
            self.u8(small)
        } else if let Ok(short) = u16::try_from(value) {
            self.u8(0xfd).u16(short)
        } else if let Ok(word) = u32::try_from(value) {
            self.u8(0xfe).u32(word)
        } else {
            self.u8(0xff).bytes(&value.to_le_bytes())
        }
    }

    pub(crate) fn buffer(&mut self, bytes: &[u8]) -> &mut Self {
        self.uint(bytes.len() as u64).bytes(bytes)
    }

    pub(crate) fn addr4(&mut self, addr: SocketAddrV4) -> &mut Self {
        self.bytes(&addr.ip().octets()).u16(addr.port())
    }

    pub(crate) fn addr6(&mut self, addr: SocketAddrV6) -> &mut Self {
        self.bytes(&addr.ip().octets()).u16(addr.port())
    }

    pub(crate) fn array<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.uint(items.len() as u64);
        for each in items {
            item(self, each);
        }
        self
    }

    pub(crate) fn addr4_array(&mut self, addrs: &[SocketAddrV4]) -> &mut Self {
        self.array(addrs, |w, addr| {
            w.addr4(*addr);
        })
    }

    pub(crate) fn addr6_array(&mut self, addrs: &[SocketAddrV6]) -> &mut Self {
        self.array(addrs, |w, addr| {
            w.addr6(*addr);
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::vectors::connect::{addr, unhex};
    use crate::testing::vectors::{addrs, cases};

    #[test]
    fn numbers_and_bytes_are_those_of_the_vectors() {
        for case in cases("compact-encoding") {
            let (id, bytes) = (case["id"].as_str().unwrap(), unhex(&case["hex"]));
            let input = &case["input"];
            let mut r = Reader::new(&bytes);
            let mut w = Writer::new();
            match id.split('-').next().unwrap() {
                "uint" => {
                    let value = input["value"].as_u64().unwrap();
                    assert_eq!(r.uint(), Ok(value), "{id}");
                    w.uint(value);
                }
                "uint16" => {
                    let value = r.u16().unwrap();
                    assert_eq!(input["value"], value);
                    w.u16(value);
                }
                "uint32" => {
                    let value = r.u32().unwrap();
                    assert_eq!(input["value"], value);
                    w.u32(value);
                }
                "buffer" => {
                    let value = unhex(&input["value"]);
                    assert_eq!(r.buffer(), Ok(value.as_slice()), "{id}");
                    w.buffer(&value);
                }
                "string" => {
                    let value = input["value"].as_str().unwrap().as_bytes();
                    assert_eq!(r.buffer(), Ok(value));
                    w.buffer(value);
                }
                "fixed32" => {
                    let value: [u8; 32] = r.fixed().unwrap();
                    assert_eq!(value.to_vec(), unhex(&input["value"]));
                    w.bytes(&value);
                }
                "ipv4" if input.is_array() => {
                    assert_eq!(r.addr4_array(), Ok(addrs(input)), "{id}");
                    w.addr4_array(&addrs(input));
                }
                "ipv4" => {
                    assert_eq!(r.addr4(), Ok(addr(input)), "{id}");
                    w.addr4(addr(input));
                }
                "ipv6" => {
                    let ip = input["host"].as_str().unwrap().parse().unwrap();
                    let port = u16::try_from(input["port"].as_u64().unwrap()).unwrap();
                    let value = SocketAddrV6::new(ip, port, 0, 0);
                    assert_eq!(r.addr6(), Ok(value), "{id}");
                    w.addr6(value);
                }
                other => panic!("{other} is tested"),
            }
            assert!(r.is_empty(), "{id}");
            assert_eq!(w.finish(), bytes, "{id}");
        }
    }

    #[test]
    fn wide_forms_are_taken_and_unsafe_ones_are_not() {
        assert_eq!(Reader::new(&[0xfd, 1, 0]).uint(), Ok(1));
        assert_eq!(Reader::new(&[0xfe, 1, 0, 0, 0]).uint(), Ok(1));
        assert_eq!(Reader::new(&[0xff, 1, 0, 0, 0, 0, 0, 0, 0]).uint(), Ok(1));
        assert_eq!(Reader::new(&[0xff, 0, 0, 0, 0, 0, 0, 0x20, 0]).uint(), Err(Malformed));
        assert_eq!(Reader::new(&[0xff; 9]).uint(), Err(Malformed));
    }

    #[test]
    fn what_is_not_there_is_not_read_or_allocated() {
        assert_eq!(Reader::new(&[]).u8(), Err(Malformed));
        assert_eq!(Reader::new(&[0xfd, 1]).uint(), Err(Malformed));
        assert_eq!(Reader::new(&[2, 1]).buffer(), Err(Malformed));
        assert_eq!(Reader::new(&[0xfe, 0xff, 0xff, 0xff, 0xff, 1]).buffer(), Err(Malformed));
        assert_eq!(Reader::new(&[0xfe, 0xff, 0xff, 0xff, 0xff, 1]).addr4_array(), Err(Malformed));
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]).addr4_array(),
            Err(Malformed)
        );
    }

    proptest! {
        #[test]
        fn numbers_survive(value in 0..=MAX_UINT) {
            let mut w = Writer::new();
            w.uint(value);
            prop_assert_eq!(Reader::new(&w.finish()).uint(), Ok(value));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let r = Reader::new(&bytes);
            let _ = (r.clone().uint(), r.clone().buffer().map(<[u8]>::len));
            let _ = (r.clone().addr4_array(), r.clone().addr6(), r.clone().fixed::<32>());
        }
    }
}
