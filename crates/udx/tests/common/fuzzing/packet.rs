//! Any bytes to the packet decoder: panics where something is wrong. Fuzzing runs it.

use udx::proto::packet::{HEADER_LEN, Header, decode_sacks};

/// The packet decoder: what is read is written alike, and the parts lie inside.
pub(crate) fn run(data: &[u8]) {
    let Some(header) = Header::decode(data) else { return };
    let mut encoded = Vec::new();
    header.encode(&mut encoded);
    assert_eq!(&encoded[..], &data[..HEADER_LEN]);
    if let Some(layout) = header.layout(data.len() - HEADER_LEN) {
        let body = &data[HEADER_LEN..];
        assert!(decode_sacks(&body[layout.sacks]).count() <= body.len());
        let _ = &body[layout.payload];
    }
}
