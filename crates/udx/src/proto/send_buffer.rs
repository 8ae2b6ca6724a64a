//! Bytes written and not yet acknowledged, as the writer gave them.

use std::collections::VecDeque;

use bytes::Bytes;

/// A window on the outgoing byte stream. Packets remember offsets into it, so that nothing is copied before
/// the datagram is built and a retransmission finds the same bytes again.
#[derive(Debug, Default)]
pub(super) struct SendBuffer {
    /// Chunks with the stream offset of their first byte, contiguous, none empty.
    chunks: VecDeque<(u64, Bytes)>,
    /// Offset after the last byte written.
    end: u64,
    /// Offset of the first byte that was never sent.
    unsent: u64,
    /// Index of the chunk that holds `unsent`, so that new packets need no search.
    cursor: usize,
}

impl SendBuffer {
    /// Appends a chunk.
    pub(super) fn write(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        let start = self.end;
        self.end += data.len() as u64;
        self.chunks.push_back((start, data));
    }

    /// Bytes that were never sent.
    pub(super) fn unsent(&self) -> usize {
        (self.end - self.unsent) as usize
    }

    /// Offset of the next new byte.
    pub(super) fn unsent_offset(&self) -> u64 {
        self.unsent
    }

    /// Copies the next `len` new bytes to `out` and counts them as sent. `len` must not exceed
    /// [`Self::unsent`].
    pub(super) fn send_new(&mut self, len: usize, out: &mut Vec<u8>) {
        self.cursor = self.copy(self.cursor, self.unsent, len, out);
        self.unsent += len as u64;
    }

    /// Copies `len` bytes at `offset`, sent before and not yet released, to `out`.
    pub(super) fn resend(&self, offset: u64, len: usize, out: &mut Vec<u8>) {
        let index = self.chunks.partition_point(|(start, data)| start + data.len() as u64 <= offset);
        self.copy(index, offset, len, out);
    }

    /// Drops all bytes before `offset`.
    pub(super) fn release(&mut self, offset: u64) {
        while let Some((start, data)) = self.chunks.front() {
            if start + data.len() as u64 > offset {
                break;
            }
            self.chunks.pop_front();
            self.cursor = self.cursor.saturating_sub(1);
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
        self.cursor = 0;
        self.unsent = self.end;
    }

    /// Copies from the chunk at `index`, which holds `offset`; gives the index of the chunk after the last
    /// byte copied.
    fn copy(&self, mut index: usize, offset: u64, len: usize, out: &mut Vec<u8>) -> usize {
        let mut offset = offset;
        let mut left = len;
        while left > 0 {
            let Some((start, data)) = self.chunks.get(index) else {
                debug_assert!(false, "bytes outside the send buffer");
                return index;
            };
            let from = (offset - start) as usize;
            let n = left.min(data.len() - from);
            out.extend_from_slice(&data[from..from + n]);
            offset += n as u64;
            left -= n;
            if from + n == data.len() {
                index += 1;
            }
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_cross_chunk_borders() {
        let mut buffer = SendBuffer::default();
        buffer.write(Bytes::from_static(b"abc"));
        buffer.write(Bytes::new());
        buffer.write(Bytes::from_static(b"defgh"));
        let mut out = Vec::new();
        buffer.send_new(2, &mut out);
        buffer.send_new(1, &mut out);
        buffer.send_new(3, &mut out);
        assert_eq!(out, b"abcdef");
        assert_eq!((buffer.unsent(), buffer.unsent_offset()), (2, 6));

        out.clear();
        buffer.resend(1, 4, &mut out);
        assert_eq!(out, b"bcde");

        buffer.release(3);
        out.clear();
        buffer.resend(3, 3, &mut out);
        buffer.send_new(2, &mut out);
        assert_eq!(out, b"defgh");
        buffer.release(8);
        buffer.write(Bytes::from_static(b"xyz"));
        out.clear();
        buffer.send_new(3, &mut out);
        assert_eq!(out, b"xyz");
    }
}
