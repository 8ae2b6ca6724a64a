//! A byte stream that both sides can compute: as in `tests/js/peer.js`.

/// Length after which the stream repeats; a prime, so that no packet size divides it.
const LENGTH: usize = 1_000_003;

/// Makes and checks the stream.
pub(crate) struct Pattern {
    bytes: Vec<u8>,
    position: usize,
}

impl Pattern {
    /// At the start of the stream.
    pub(crate) fn new() -> Self {
        let mut x = 1_u32;
        let bytes = std::iter::repeat_with(|| {
            x = x.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            (x >> 16) as u8
        });
        Self { bytes: bytes.take(LENGTH).collect(), position: 0 }
    }

    /// The next `len` bytes.
    pub(crate) fn next(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len);
        while out.len() < len {
            let start = self.position % LENGTH;
            let n = (len - out.len()).min(LENGTH - start);
            out.extend_from_slice(&self.bytes[start..start + n]);
            self.position += n;
        }
        out
    }

    /// Panics unless `data` comes next.
    pub(crate) fn check(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let start = self.position % LENGTH;
            let n = data.len().min(LENGTH - start);
            assert!(data[..n] == self.bytes[start..start + n], "bytes differ near {}", self.position);
            self.position += n;
            data = &data[n..];
        }
    }

    /// Bytes made or checked so far.
    pub(crate) fn position(&self) -> usize {
        self.position
    }
}
