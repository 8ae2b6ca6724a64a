//! One frame: `[type u8][length u32 big endian][payload]`.

use super::{Fault, FrameType};

/// Bytes before a frame's payload: its type and its length.
pub const HEADER_LEN: usize = 5;

/// The frame that ends the file's bytes.
pub const DONE: [u8; HEADER_LEN] = [FrameType::Done as u8, 0, 0, 0, 0];

/// The header of a frame whose payload is `len` bytes.
///
/// `len` is held to the type's limit, which the callers' payloads never pass.
pub fn header(kind: FrameType, len: usize) -> [u8; HEADER_LEN] {
    debug_assert!(len <= kind.limit());
    // Every limit is far below 2^32.
    let [a, b, c, d] = u32::try_from(len.min(kind.limit())).unwrap_or(u32::MAX).to_be_bytes();
    [kind as u8, a, b, c, d]
}

/// A whole frame; a payload longer than its type's limit is cut there, at a character of UTF-8.
pub fn encode(kind: FrameType, payload: &[u8]) -> Vec<u8> {
    let payload = cut(payload, kind.limit());
    let mut frame = Vec::with_capacity(HEADER_LEN + payload.len());
    frame.extend_from_slice(&header(kind, payload.len()));
    frame.extend_from_slice(payload);
    frame
}

/// Reads a header: the type and the payload's length, which is within the type's limit.
pub(super) fn parse_header(header: [u8; HEADER_LEN]) -> Result<(FrameType, usize), Fault> {
    let [kind, len @ ..] = header;
    let kind = FrameType::from_u8(kind).ok_or(Fault::UnknownType(kind))?;
    let len = u32::from_be_bytes(len);
    match usize::try_from(len) {
        Ok(fits) if fits <= kind.limit() => Ok((kind, fits)),
        _ => Err(Fault::TooLong { kind, len }),
    }
}

/// The first `limit` bytes of `payload`, fewer where a character would be cut in two.
fn cut(payload: &[u8], limit: usize) -> &[u8] {
    if payload.len() <= limit {
        return payload;
    }
    let is_boundary = |at: &usize| payload.get(*at).is_none_or(|byte| byte & 0xC0 != 0x80);
    let end = (0..=limit).rev().take(4).find(is_boundary).unwrap_or(limit);
    payload.get(..end).unwrap_or(payload)
}

#[cfg(test)]
mod tests {
    use super::{super::MAX_REASON, *};

    #[test]
    fn headers_are_type_then_length_big_endian() {
        assert_eq!(header(FrameType::Data, 65_536), [0x02, 0x00, 0x01, 0x00, 0x00]);
        assert_eq!(DONE, [0x03, 0, 0, 0, 0]);
        assert_eq!(parse_header([0x02, 0x00, 0x01, 0x00, 0x00]), Ok((FrameType::Data, 65_536)));
        assert_eq!(encode(FrameType::Nack, b"no"), [0x05, 0, 0, 0, 2, b'n', b'o']);
        assert_eq!(encode(FrameType::Ack, b""), [0x04, 0, 0, 0, 0]);
    }

    #[test]
    fn every_type_has_its_limit() {
        let at = |kind: u8, len: u32| {
            let [a, b, c, d] = len.to_be_bytes();
            parse_header([kind, a, b, c, d])
        };
        for (kind, limit) in [(1, 65_536), (2, 65_536), (3, 0), (4, 4096), (5, 4096), (6, 4096), (7, 256)] {
            assert!(at(kind, limit).is_ok());
            assert!(matches!(at(kind, limit + 1), Err(Fault::TooLong { .. })));
            assert!(matches!(at(kind, u32::MAX), Err(Fault::TooLong { len: u32::MAX, .. })));
        }
        assert_eq!(at(0, 0), Err(Fault::UnknownType(0)));
        assert_eq!(at(8, 0), Err(Fault::UnknownType(8)));
    }

    #[test]
    fn a_reason_too_long_is_cut_between_characters() {
        let reason = "ä".repeat(MAX_REASON);
        let frame = encode(FrameType::Error, format!("x{reason}").as_bytes());
        let text = std::str::from_utf8(&frame[HEADER_LEN..]).expect("whole characters");
        assert_eq!(text.len(), MAX_REASON - 1);
        assert_eq!(frame[1..HEADER_LEN], 4095u32.to_be_bytes());
    }
}
