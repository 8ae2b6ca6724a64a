//! `framed` delivery (spec §13): bytes are handed up in whole frames, as far as the stream is made of them.
//!
//! A frame is a length of three bytes, little-endian, and so many bytes more. Nothing on the wire depends on
//! it, and a reader must not either: after the first packet that is not made of such frames, bytes are handed
//! up as they come.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of the length before each frame; they are handed up too.
const PREFIX: usize = 3;

/// Most bytes gathered before they are handed up, frame or not, as libudx's buffer has it.
const MAX_GATHERED: usize = 65_536;

/// Gathers packets into frames.
#[derive(Debug, Default)]
pub struct Framing {
    is_off: bool,
    /// Bytes of the frame under way that are still missing.
    missing: usize,
    gathered: BytesMut,
}

impl Framing {
    /// Takes the payload of the next packet; what can be handed up now, in order, goes to `deliver`.
    pub fn push(&mut self, packet: Bytes, mut deliver: impl FnMut(Bytes)) {
        if !self.is_off && self.missing == 0 {
            match packet.first_chunk() {
                Some(&[a, b, c]) => self.missing = PREFIX + u32::from_le_bytes([a, b, c, 0]) as usize,
                None => self.is_off = true,
            }
        }
        if self.is_off {
            deliver(packet);
            return;
        }
        let len = packet.len();
        // The end of a frame inside a packet: these are not frames of packets.
        self.is_off = len > self.missing;
        self.missing = self.missing.saturating_sub(len);
        let is_ready = self.missing == 0 || self.gathered.len() + len > MAX_GATHERED;
        if !is_ready {
            self.gathered.put(packet);
        } else if self.gathered.is_empty() {
            deliver(packet);
        } else {
            self.gathered.put(packet);
            deliver(self.gathered.split().freeze());
        }
    }

    /// The stream is over: what was gathered of an unfinished frame.
    pub fn finish(&mut self) -> Option<Bytes> {
        self.is_off = true;
        if self.gathered.is_empty() { None } else { Some(self.gathered.split().freeze()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(framing: &mut Framing, packet: &[u8]) -> Vec<usize> {
        let mut delivered = Vec::new();
        framing.push(Bytes::copy_from_slice(packet), |bytes| delivered.push(bytes.len()));
        delivered
    }

    #[test]
    fn packets_of_a_frame_are_one_delivery() {
        let mut framing = Framing::default();
        assert!(push(&mut framing, &[5, 0, 0, 1]).is_empty());
        assert!(push(&mut framing, &[2, 3]).is_empty());
        assert_eq!(push(&mut framing, &[4, 5]), [8]);
        assert_eq!(push(&mut framing, &[1, 0, 0, 9]), [4]);
    }

    #[test]
    fn a_packet_across_a_border_ends_it() {
        let mut framing = Framing::default();
        assert!(push(&mut framing, &[3, 0, 0, 1]).is_empty());
        assert_eq!(push(&mut framing, &[2, 3, 4]), [7]);
        assert_eq!(push(&mut framing, &[200, 0, 0]), [3]);
    }

    #[test]
    fn a_packet_too_short_for_a_length_ends_it() {
        let mut framing = Framing::default();
        assert_eq!(push(&mut framing, &[200, 0]), [2]);
        assert_eq!(push(&mut framing, &[200, 0, 0]), [3]);
    }

    #[test]
    fn long_frames_come_in_pieces_and_the_end_flushes() {
        let mut framing = Framing::default();
        let mut total = 0;
        let mut packet = vec![0; 1400];
        packet[..3].copy_from_slice(&[0xff, 0xff, 0xff]);
        for _ in 0..100 {
            let delivered: usize = push(&mut framing, &packet).into_iter().sum();
            assert!(delivered <= MAX_GATHERED + 1400);
            total += delivered;
        }
        total += framing.finish().unwrap().len();
        assert_eq!(total, 100 * 1400);
        assert!(framing.finish().is_none());
    }
}
