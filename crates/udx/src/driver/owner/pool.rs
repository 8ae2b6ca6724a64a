//! Receive buffers that are lent to readers and come back by themselves.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Room for what the kernel merges into one receive at most.
pub(super) const BUFFER: usize = 65_536;

/// Buffers offered to one receive call.
pub(super) const BUFFERS: usize = 8;

/// A receive of at least this size is handed up in its buffer; less is copied, so that a few bytes kept for
/// long do not hold a whole buffer.
const LEND: usize = BUFFER / 4;

/// Size of the chunks that small receives are copied into.
const CHUNK: usize = BUFFER / 4;

/// Lent buffers whose return is awaited; beyond it they are left to their readers.
const MAX_LENT: usize = 128;

/// The buffers of one instance.
#[derive(Debug)]
pub(super) struct Pool {
    /// Each [`BUFFER`] bytes long.
    pub slots: [BytesMut; BUFFERS],
    lent: VecDeque<Bytes>,
    chunk: BytesMut,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| BytesMut::zeroed(BUFFER)),
            lent: VecDeque::new(),
            chunk: BytesMut::new(),
        }
    }

    /// Bytes that begin with the first `len` of a slot, which is ready for the next receive once
    /// [`Self::give_back`] has seen them again.
    pub(super) fn take(&mut self, slot: usize, len: usize) -> Bytes {
        let Some(buffer) = self.slots.get_mut(slot) else { return Bytes::new() };
        if len >= LEND {
            return std::mem::take(buffer).freeze();
        }
        if self.chunk.capacity() - self.chunk.len() < len {
            self.chunk = BytesMut::with_capacity(CHUNK);
        }
        self.chunk.extend_from_slice(buffer.get(..len).unwrap_or_default());
        self.chunk.split().freeze()
    }

    /// Refills a slot after its bytes were handled.
    pub(super) fn give_back(&mut self, slot: usize, taken: Bytes) {
        let Some(buffer) = self.slots.get_mut(slot) else { return };
        if !buffer.is_empty() {
            // It was copied from.
            return;
        }
        *buffer = match taken.try_into_mut() {
            Ok(buffer) => buffer,
            Err(taken) => {
                self.lent.push_back(taken);
                reclaim(&mut self.lent).unwrap_or_else(|| BytesMut::zeroed(BUFFER))
            }
        };
    }
}

/// The oldest lent buffer, if its readers are done with it.
fn reclaim(lent: &mut VecDeque<Bytes>) -> Option<BytesMut> {
    let is_free = lent.front().is_some_and(Bytes::is_unique);
    if !is_free && lent.len() <= MAX_LENT {
        return None;
    }
    lent.pop_front()?.try_into_mut().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_receives_are_lent_and_return() {
        let mut pool = Pool::new();
        let taken = pool.take(0, LEND);
        let pointer = taken.as_ptr();
        let slice = taken.slice(3..LEND);
        pool.give_back(0, taken);
        assert_eq!(pool.slots[0].len(), BUFFER);
        assert_ne!(pool.slots[0].as_ptr(), pointer);
        drop(slice);
        let taken = pool.take(1, LEND);
        let slice = taken.slice(..1);
        pool.give_back(1, taken);
        assert_eq!((pool.slots[1].as_ptr(), pool.slots[1].len()), (pointer, BUFFER));
        drop(slice);
    }

    #[test]
    fn small_receives_are_copied() {
        let mut pool = Pool::new();
        pool.slots[2][..3].copy_from_slice(b"abc");
        let taken = pool.take(2, 3);
        assert_eq!(taken, "abc");
        pool.give_back(2, taken);
        assert_eq!(pool.slots[2].len(), BUFFER);
    }
}
