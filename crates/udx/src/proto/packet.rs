//! The packet codec (spec §1 and §2).

use std::ops::{BitOr, BitOrAssign, Range};

/// Bytes of a header on the wire.
pub const HEADER_LEN: usize = 20;

/// First byte of every packet.
pub const MAGIC: u8 = 0xff;

/// Second byte of every packet: the only version there is.
pub const VERSION: u8 = 1;

/// Most SACK blocks in one packet of ours: what fits paths of 1200 bytes. libudx reads as many as there are.
pub const MAX_SACK_BLOCKS: usize = 144;

/// The same where the path is not known to carry so much: what fits every one.
pub const SAFE_SACK_BLOCKS: usize = 63;

/// Most SACK blocks in one packet of libudx's: a list this long may be cut off.
pub const LIBUDX_SACK_BLOCKS: usize = 50;

/// Bytes of one SACK block: start and exclusive end, each a u32.
pub const SACK_BLOCK_LEN: usize = 8;

/// What a packet carries. Unknown bits are kept, and have no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// No flag: a pure acknowledgement.
    pub const NONE: Self = Self(0);
    /// Stream bytes; takes a sequence number.
    pub const DATA: Self = Self(0x01);
    /// The end of the stream; takes a sequence number, the same one as DATA beside it.
    pub const END: Self = Self(0x02);
    /// Selective acknowledgement blocks follow the header.
    pub const SACK: Self = Self(0x04);
    /// An unordered, unacknowledged message.
    pub const MESSAGE: Self = Self(0x08);
    /// The sender gave the stream up.
    pub const DESTROY: Self = Self(0x10);
    /// Asks for an acknowledgement.
    pub const HEARTBEAT: Self = Self(0x20);

    /// The flags of the byte on the wire.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The byte on the wire.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether any of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the packet takes a sequence number, and so must be acknowledged.
    pub const fn is_sequenced(self) -> bool {
        self.intersects(Self(Self::DATA.0 | Self::END.0))
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The first twenty bytes of a packet. Integers are little-endian on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the packet carries.
    pub flags: Flags,
    /// Bytes between the header and the payload.
    pub data_offset: u8,
    /// The receiver's id of the stream.
    pub stream_id: u32,
    /// Bytes the sender of this packet is ready to receive.
    pub rwnd: u32,
    /// This packet's number if it is sequenced, else the sender's next unused number.
    pub seq: u32,
    /// The next number the sender of this packet expects.
    pub ack: u32,
}

impl Header {
    /// Reads a header. `None` if the datagram is not a UDX packet: too short, or another magic or version.
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = datagram.first_chunk()?;
        let [MAGIC, VERSION, flags, data_offset, rest @ ..] = header else { return None };
        let (words, _) = rest.as_chunks::<4>();
        let [stream_id, rwnd, seq, ack] = words else { return None };
        Some(Self {
            flags: Flags(*flags),
            data_offset: *data_offset,
            stream_id: u32::from_le_bytes(*stream_id),
            rwnd: u32::from_le_bytes(*rwnd),
            seq: u32::from_le_bytes(*seq),
            ack: u32::from_le_bytes(*ack),
        })
    }

    /// Appends the twenty bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = MAGIC;
        bytes[1] = VERSION;
        bytes[2] = self.flags.bits();
        bytes[3] = self.data_offset;
        bytes[4..8].copy_from_slice(&self.stream_id.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.rwnd.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.ack.to_le_bytes());
        out.extend_from_slice(&bytes);
    }

    /// Where the parts of a body of `len` bytes (all that follows the header) lie.
    /// `None` if the offset points beyond the body: such a packet counts as never received.
    pub fn layout(&self, len: usize) -> Option<Layout> {
        let offset = usize::from(self.data_offset);
        if offset > len {
            return None;
        }
        let sacks = if !self.flags.intersects(Flags::SACK) {
            0..0
        } else if offset > 0 && offset < len {
            0..offset
        } else {
            0..len
        };
        Some(Layout { sacks, payload: offset..len })
    }
}

/// The parts of a packet's body, as ranges of it. Without an offset they overlap (spec §2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The SACK blocks; read them with [`decode_sacks`].
    pub sacks: Range<usize>,
    /// The payload.
    pub payload: Range<usize>,
}

/// The blocks (start, exclusive end) of a SACK area; trailing bytes that make no block are ignored.
pub fn decode_sacks(area: &[u8]) -> impl Iterator<Item = (u32, u32)> + '_ {
    let (blocks, _) = area.as_chunks::<SACK_BLOCK_LEN>();
    blocks
        .iter()
        .map(|&[a, b, c, d, e, f, g, h]| (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])))
}

/// Appends one SACK block to `out`.
pub fn encode_sack(start: u32, end: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(&end.to_le_bytes());
}
