//! Whether bytes that are read again are those that were hashed.

use std::sync::atomic::Ordering;

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3Default;

use super::{Source, SourceInner};

/// Bytes of a file that have a checksum of their own: few enough to be read once more where a transfer goes
/// on in the middle of them.
pub(super) const BLOCK_LEN: u64 = 4 * 1024 * 1024;

/// Two names of the same bytes.
#[derive(Debug, PartialEq)]
pub(super) struct Content {
    /// SHA-256, in lower-case hex.
    pub(super) hash: String,
    /// XXH3 of each block, which is computed ten times as fast.
    pub(super) blocks: Vec<u128>,
}

/// Tells whether bytes that are read again are those that a hash names. It needs to withstand accidents only:
/// whoever gets the bytes compares their SHA-256 with the one that was promised.
pub struct Proof {
    hash: String,
    kind: ProofKind,
}

enum ProofKind {
    Blocks(Box<Blocks>),
    /// Nothing else is known of the bytes.
    Hash(Sha256),
}

/// Blocks that are compared one by one.
struct Blocks {
    source: Source,
    hasher: BlockHasher,
    /// The block that comes next.
    next: usize,
    differs: bool,
}

/// Cuts bytes into blocks, and gives the checksum of each.
#[derive(Default)]
pub(super) struct BlockHasher {
    hasher: Xxh3Default,
    /// Bytes of the block so far.
    filled: u64,
}

impl Proof {
    /// What is to prove that `source` has the hash `hash` still, and the byte from which on it takes bytes:
    /// `offset`, or one before.
    pub(super) fn begin(source: &Source, hash: &str, offset: u64) -> (Self, u64) {
        let (kind, from) = match source.inner.content.get() {
            Some(content) if content.hash == hash => {
                // Who has a part of it has it of bytes that were held to their checksums when they went; who
                // has all of it may have it from elsewhere.
                let next = match source.inner.recalled.get() {
                    Some(recalled) if offset >= source.size() => recalled.proven.load(Ordering::Relaxed),
                    _ => offset / BLOCK_LEN,
                };
                let blocks = Blocks {
                    source: source.clone(),
                    hasher: BlockHasher::default(),
                    next: usize::try_from(next).unwrap_or(usize::MAX),
                    differs: false,
                };
                (ProofKind::Blocks(Box::new(blocks)), next.saturating_mul(BLOCK_LEN).min(offset))
            }
            _ => (ProofKind::Hash(Sha256::new()), 0),
        };
        (Self { hash: hash.to_owned(), kind }, from)
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.kind {
            ProofKind::Blocks(blocks) => blocks.update(bytes),
            ProofKind::Hash(hasher) => hasher.update(bytes),
        }
    }

    /// Whether it is known already that the bytes taken are others.
    pub fn differs(&self) -> bool {
        match &self.kind {
            ProofKind::Blocks(blocks) => blocks.differs,
            ProofKind::Hash(_) => false,
        }
    }

    /// Whether all bytes taken are what the hash names, up to the file's end.
    pub fn holds(self) -> bool {
        match self.kind {
            ProofKind::Blocks(blocks) => blocks.hold(),
            ProofKind::Hash(hasher) => hex::encode(hasher.finalize()) == self.hash,
        }
    }
}

impl Blocks {
    fn update(&mut self, bytes: &[u8]) {
        let SourceInner { content, recalled, .. } = &*self.source.inner;
        let expected = content.get().map_or(&[][..], |content| &content.blocks);
        let (next, differs) = (&mut self.next, &mut self.differs);
        self.hasher.update(bytes, |checksum| {
            *differs |= expected.get(*next) != Some(&checksum);
            if let Some(recalled) = recalled.get().filter(|_| !*differs) {
                recalled.prove(*next);
            }
            *next += 1;
        });
    }

    fn hold(self) -> bool {
        let expected = self.source.inner.content.get().map_or(&[][..], |content| &content.blocks);
        let rest = expected.get(self.next..).unwrap_or_default();
        let holds = !self.differs && rest.iter().copied().eq(self.hasher.finish());
        match self.source.inner.recalled.get() {
            Some(recalled) if holds && !rest.is_empty() => recalled.prove(self.next),
            Some(recalled) if !holds => {
                recalled.is_wrong.store(true, Ordering::Relaxed);
                recalled.cache.forget(&recalled.identity);
            }
            _ => {}
        }
        holds
    }
}

impl BlockHasher {
    /// Takes the next bytes, and tells `whole` the checksum of each block that they complete.
    pub(super) fn update(&mut self, mut bytes: &[u8], mut whole: impl FnMut(u128)) {
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK_LEN - self.filled).unwrap_or(usize::MAX);
            let (taken, rest) = bytes.split_at(bytes.len().min(room));
            self.hasher.update(taken);
            self.filled += u64::try_from(taken.len()).unwrap_or(u64::MAX);
            if self.filled == BLOCK_LEN {
                whole(self.hasher.digest128());
                self.hasher.reset();
                self.filled = 0;
            }
            bytes = rest;
        }
    }

    /// The checksum of the last block, if the file ends within one.
    pub(super) fn finish(self) -> Option<u128> {
        (self.filled > 0).then(|| self.hasher.digest128())
    }
}
