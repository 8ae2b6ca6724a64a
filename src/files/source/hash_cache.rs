//! What files were when they were hashed last, remembered on disk, so that a file that is sent again need not
//! be read for that.
//!
//! An entry goes by the device and the number of its file, and counts only as long as size, time of
//! modification and time of change are the same. Whoever uses one holds the bytes to its checksums as it
//! sends them, and forgets it where a recipient gets another hash, so that one that is not true any more is
//! noticed, and goes. Entries are whole or not there, and name no path.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use xxhash_rust::xxh3::xxh3_128;

use super::proof::{BLOCK_LEN, Content};
use crate::private::{Room, make_room_at_times, private_dir, private_file, write_private};

/// The smallest file that is remembered, bytes. To hash this much takes several times as long as to write an
/// entry and read it.
const LEAST_SIZE: u64 = 1024 * 1024;

/// How long a file must have been left alone before it was hashed. Times of files are counted in steps, of
/// 2 s at most: what was changed twice within one has the same time as before.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

/// What an entry's file ends with.
const EXTENSION: &str = "hash";

/// What an entry begins with.
const MAGIC: [u8; 8] = *b"atshash1";

/// Magic, seven numbers, and SHA-256.
const HEADER_LEN: usize = 8 + 7 * 8 + 32;

/// The checksum of one block, and of an entry.
const CHECKSUM_LEN: usize = 16;

/// What the cache of a user holds.
const LIMITS: Limits = Limits { all: Room { files: 4096, bytes: 64 * 1024 * 1024 }, entry: 16 * 1024 * 1024 };

/// What files were when they were hashed last. Clones are the same cache.
#[derive(Clone, Debug, Default)]
pub struct HashCache(Option<Arc<Shelf>>);

#[derive(Debug)]
struct Shelf {
    home: PathBuf,
    dir: PathBuf,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Of all entries, of which those used last stay.
    all: Room,
    /// Bytes of one.
    entry: usize,
}

/// What tells a file, as it is, from all others and from what it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(unix), allow(dead_code, reason = "no file is identified there"))]
pub(super) struct FileIdentity {
    device: u64,
    number: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl HashCache {
    /// The cache in this user's state folder. Touches no disk.
    pub fn new(home: &Path) -> Self {
        Self::within(home, LIMITS)
    }

    /// One that knows nothing and keeps nothing.
    pub fn off() -> Self {
        Self(None)
    }

    fn within(home: &Path, limits: Limits) -> Self {
        let (home, dir) = (home.to_owned(), home.join("hashes"));
        Self(Some(Arc::new(Shelf { home, dir, limits })))
    }

    /// The identity of a file whose content may be known, or is worth being remembered; `None` for a small
    /// one, and where it can't be told when it changes. Blocks.
    pub(super) fn identify(&self, file: &File) -> Option<FileIdentity> {
        self.0.as_ref()?;
        FileIdentity::of(file).filter(|identity| identity.size >= LEAST_SIZE)
    }

    /// What is remembered of this file. Blocks.
    pub(super) fn find(&self, identity: &FileIdentity) -> Option<Content> {
        let shelf = self.0.as_ref()?;
        let content = shelf.read(identity);
        if content.is_none() {
            // Damaged, or of what the file was before; mostly there is none.
            let _ = fs::remove_file(shelf.path(identity));
        }
        content
    }

    /// Remembers what a file is that was read from `began` on, unless it had been written to shortly before.
    /// Where that fails, it is not remembered. Blocks.
    pub(super) fn keep(&self, identity: &FileIdentity, content: &Content, began: SystemTime) {
        let Some(shelf) = self.0.as_ref().filter(|_| identity.was_settled(began)) else { return };
        if let Err(error) = shelf.write(identity, content) {
            tracing::debug!(%error, "the hash of a file could not be remembered");
        }
    }

    /// Forgets a file. Blocks.
    pub(super) fn forget(&self, identity: &FileIdentity) {
        if let Some(shelf) = &self.0 {
            let _ = fs::remove_file(shelf.path(identity));
        }
    }
}

impl Shelf {
    fn path(&self, identity: &FileIdentity) -> PathBuf {
        self.dir.join(format!("{:x}-{:x}.{EXTENSION}", identity.device, identity.number))
    }

    fn read(&self, identity: &FileIdentity) -> Option<Content> {
        let len = entry_len(identity).filter(|len| *len <= self.limits.entry)?;
        let mut file = private_file().open(self.path(identity)).ok()?;
        let mut entry = Vec::with_capacity(len);
        (&mut file).take(u64::try_from(len + 1).ok()?).read_to_end(&mut entry).ok()?;
        let content = decode(identity, &entry)?;
        // So those go first that were not used for longest.
        let _ = file.set_modified(SystemTime::now());
        Some(content)
    }

    fn write(&self, identity: &FileIdentity, content: &Content) -> io::Result<()> {
        let Some(entry) = encode(identity, content).filter(|entry| entry.len() <= self.limits.entry) else {
            return Ok(());
        };
        private_dir(&self.home)?;
        private_dir(&self.dir)?;
        write_private(&self.path(identity), &entry)?;
        make_room_at_times(&self.dir, EXTENSION, self.limits.all);
        Ok(())
    }
}

impl FileIdentity {
    #[cfg(unix)]
    fn of(file: &File) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;

        let metadata = file.metadata().ok()?;
        let identity = Self {
            device: metadata.dev(),
            number: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        is_local(file).then_some(identity)
    }

    /// The time of change, which no program can set, is not told here.
    #[cfg(not(unix))]
    fn of(_file: &File) -> Option<Self> {
        None
    }

    /// Whether nobody had written to the file for a while at this time.
    fn was_settled(&self, at: SystemTime) -> bool {
        let Some(limit) = at.checked_sub(SETTLED) else { return false };
        let Ok(limit) = limit.duration_since(SystemTime::UNIX_EPOCH) else { return false };
        let limit = (i64::try_from(limit.as_secs()).unwrap_or(i64::MAX), i64::from(limit.subsec_nanos()));
        self.modified <= limit && self.changed <= limit
    }

    fn numbers(&self) -> [u64; 7] {
        let Self { device, number, size, modified, changed } = *self;
        let [modified, changed] = [modified, changed].map(|(s, ns)| [s, ns].map(i64::cast_unsigned));
        [device, number, size, modified[0], modified[1], changed[0], changed[1]]
    }
}

/// Bytes of the entry of a file.
fn entry_len(identity: &FileIdentity) -> Option<usize> {
    let blocks = usize::try_from(identity.size.div_ceil(BLOCK_LEN)).ok()?;
    blocks.checked_add(1)?.checked_mul(CHECKSUM_LEN)?.checked_add(HEADER_LEN)
}

/// The header, the checksum of each block, and that of all before; numbers are big-endian. `None` where the
/// content is not one of such a file.
fn encode(identity: &FileIdentity, content: &Content) -> Option<Vec<u8>> {
    let mut hash = [0; 32];
    hex::decode_to_slice(&content.hash, &mut hash).ok()?;
    let len = entry_len(identity)?;
    let mut entry = MAGIC.to_vec();
    entry.extend(identity.numbers().iter().flat_map(|number| number.to_be_bytes()));
    entry.extend(hash);
    entry.extend(content.blocks.iter().flat_map(|block| block.to_be_bytes()));
    entry.extend(xxh3_128(&entry).to_be_bytes());
    (entry.len() == len).then_some(entry)
}

/// What a whole entry of this very file says.
fn decode(identity: &FileIdentity, entry: &[u8]) -> Option<Content> {
    let (said, checksum) = entry.split_last_chunk::<CHECKSUM_LEN>()?;
    if entry_len(identity) != Some(entry.len()) || xxh3_128(said).to_be_bytes() != *checksum {
        return None;
    }
    let mut rest = said.strip_prefix(&MAGIC)?;
    for number in identity.numbers() {
        rest = rest.strip_prefix(&number.to_be_bytes())?;
    }
    let (hash, blocks) = rest.split_first_chunk::<32>()?;
    let (blocks, _) = blocks.as_chunks::<CHECKSUM_LEN>();
    let blocks = blocks.iter().map(|block| u128::from_be_bytes(*block)).collect();
    Some(Content { hash: hex::encode(hash), blocks })
}

/// Whether a file lies on a disk of this machine: other machines change files without a word, and by clocks
/// of their own. What is not known counts as another's.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_local(file: &File) -> bool {
    /// Of `linux/magic.h` and of the file systems: ext2 to ext4, XFS, Btrfs, tmpfs, ZFS, F2FS, overlayfs,
    /// bcachefs, JFS, ReiserFS, NTFS, FAT, exFAT, HFS+, eCryptfs, NILFS, UBIFS, SquashFS, EROFS, ISO 9660,
    /// UDF.
    const LOCAL: [u32; 21] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0x0102_1994,
        0x2fc1_2fc1,
        0xf2f5_2010,
        0x794c_7630,
        0xca45_1a4e,
        0x3153_464a,
        0x5265_4973,
        0x7366_746e,
        0x4d44,
        0x2011_bab0,
        0x482b,
        0xf15f,
        0x3434,
        0x2405_1905,
        0x7371_7368,
        0xe0f5_e1e2,
        0x9660,
        0x1501_3346,
    ];
    rustix::fs::fstatfs(file).is_ok_and(|stat| LOCAL.contains(&(stat.f_type as u32)))
}

#[cfg(target_vendor = "apple")]
fn is_local(file: &File) -> bool {
    /// `MNT_LOCAL` of `sys/mount.h`.
    const LOCAL: u32 = 0x1000;
    rustix::fs::fstatfs(file).is_ok_and(|stat| stat.f_flags & LOCAL != 0)
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android", target_vendor = "apple"))))]
fn is_local(_file: &File) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;
    use tokio_util::sync::CancellationToken;

    use super::{
        super::{Source, SourceError},
        *,
    };

    const OLD: (i64, i64) = (1_700_000_000, 5);

    fn identity(number: u64, size: u64) -> FileIdentity {
        FileIdentity { device: 66, number, size, modified: OLD, changed: OLD }
    }

    fn content(size: u64) -> Content {
        let blocks = (0..size.div_ceil(BLOCK_LEN)).map(|block| u128::from(block) << 100 | 7).collect();
        Content { hash: "ab".repeat(32), blocks }
    }

    fn keep(cache: &HashCache, identity: &FileIdentity) {
        cache.keep(identity, &content(identity.size), SystemTime::now());
    }

    fn count(cache: &HashCache) -> usize {
        fs::read_dir(&cache.0.as_ref().unwrap().dir).map_or(0, Iterator::count)
    }

    #[test]
    fn a_file_is_known_as_long_as_nothing_of_it_changes() {
        let home = tempfile::tempdir().unwrap();
        let cache = HashCache::new(home.path());
        let known = identity(1, 2 * BLOCK_LEN + 1);
        assert!(cache.find(&known).is_none());
        keep(&cache, &known);
        assert_eq!(HashCache::new(home.path()).find(&known), Some(content(known.size)));
        let others = [
            FileIdentity { device: 67, ..known },
            FileIdentity { number: 2, ..known },
            FileIdentity { size: known.size - 1, ..known },
            FileIdentity { size: BLOCK_LEN, ..known },
            FileIdentity { modified: (OLD.0, 6), ..known },
            FileIdentity { changed: (OLD.0 + 1, OLD.1), ..known },
        ];
        for other in others {
            keep(&cache, &known);
            assert_eq!(cache.find(&other), None, "{other:?}");
            let has_its_place = (other.device, other.number) == (known.device, known.number);
            assert_eq!(cache.find(&known).is_none(), has_its_place, "{other:?}");
        }
        keep(&cache, &known);
        cache.forget(&known);
        assert_eq!((cache.find(&known), count(&cache)), (None, 0));
    }

    #[test]
    fn what_was_written_to_within_two_seconds_is_not_remembered() {
        let at = |nanoseconds: i64| {
            let known = FileIdentity { changed: (OLD.0, nanoseconds), ..identity(1, BLOCK_LEN) };
            known.was_settled(SystemTime::UNIX_EPOCH + Duration::new(OLD.0.cast_unsigned() + 2, 500))
        };
        assert!(at(500) && !at(501));
        let later = FileIdentity { modified: (i64::MAX, 0), ..identity(1, BLOCK_LEN) };
        assert!(!later.was_settled(SystemTime::now()));
        assert!(!identity(1, BLOCK_LEN).was_settled(SystemTime::UNIX_EPOCH));
    }

    #[test]
    fn a_file_of_this_machine_is_identified_if_it_is_large_enough() {
        let home = tempfile::tempdir().unwrap();
        let cache = HashCache::new(home.path());
        let path = home.path().join("file");
        let file = File::create(&path).unwrap();
        file.set_len(LEAST_SIZE - 1).unwrap();
        assert_eq!(cache.identify(&file), None);
        file.set_len(LEAST_SIZE).unwrap();
        let before = cache.identify(&file).unwrap();
        assert_eq!((before.size, cache.identify(&File::open(&path).unwrap())), (LEAST_SIZE, Some(before)));
        assert_eq!(HashCache::off().identify(&file), None);
        // By a time that is set the other one changes.
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let after = cache.identify(&file).unwrap();
        assert!(after.modified != before.modified && after.changed >= before.changed);
        #[cfg(target_os = "linux")]
        assert!(!is_local(&File::open("/proc/version").unwrap()));
    }

    /// A file of somewhat more than two blocks, open, and its hash.
    fn source(path: &Path, byte: u8) -> (Source, String) {
        fs::write(path, vec![byte; usize::try_from(2 * BLOCK_LEN + 1).unwrap()]).unwrap();
        let source = Source::open(path).unwrap();
        let hash = source.hash(|_| {}, &CancellationToken::new()).unwrap();
        (source, hash)
    }

    #[test]
    fn a_file_that_is_known_is_read_only_for_what_its_recipient_has() {
        let home = tempfile::tempdir().unwrap();
        let (cache, path) = (HashCache::new(home.path()), home.path().join("file"));
        let hash_once = |source: &Source| {
            let mut told = Vec::new();
            let hash = source.hash_once(&cache, |bytes| told.push(bytes), &CancellationToken::new());
            (hash.unwrap(), told)
        };
        let (hashed, hash) = source(&path, 1);
        let size = hashed.size();
        // It was written just now.
        assert_eq!(hash_once(&Source::open(&path).unwrap()).1.len(), 9);
        assert_eq!(count(&cache), 0);
        hashed.remember_as(&hashed, &cache);
        let again = Source::open(&path).unwrap();
        assert_eq!(hash_once(&again), (hash.clone(), vec![size]));
        assert_eq!(hash_once(&again), (hash.clone(), vec![size]));
        assert!(again.proof(&hash, size, || true).unwrap().holds() && !again.is_misremembered());
        // Somebody has written to it in a way that its times do not show.
        let (other, other_hash) = source(&home.path().join("other"), 2);
        for at in [0, size] {
            hashed.remember_as(&other, &cache);
            let wrong = Source::open(&path).unwrap();
            assert_eq!(hash_once(&wrong).0, other_hash);
            assert!(matches!(wrong.changed(), SourceError::Changed { .. }));
            let mut proof = wrong.proof(&other_hash, at, || true).unwrap();
            assert_eq!(proof.differs(), at > 0);
            proof.update(&vec![1; usize::try_from(BLOCK_LEN.min(size - at)).unwrap()]);
            assert!(proof.differs() && !proof.holds() && wrong.is_misremembered());
            assert!(matches!(wrong.changed(), SourceError::Misremembered { .. }));
            assert_eq!(hash_once(&Source::open(&path).unwrap()).0, hash);
        }
    }

    /// A source whose hash is remembered, of which another byte is in the first block by now; its content
    /// before; and its hash.
    fn changed_at_the_front(home: &Path) -> (Source, Vec<u8>, String) {
        let (cache, path) = (HashCache::new(home), home.join("file"));
        let (before, hash) = source(&path, 1);
        let mut content = fs::read(&path).unwrap();
        content[7] = 2;
        fs::write(&path, &content).unwrap();
        content[7] = 1;
        let changed = Source::open(&path).unwrap();
        changed.remember_as(&before, &cache);
        assert_eq!(changed.hash_once(&cache, |_| {}, &CancellationToken::new()).unwrap(), hash);
        (changed, content, hash)
    }

    #[test]
    fn who_has_a_part_gets_the_rest_at_once_and_only_that_is_proven() {
        let home = tempfile::tempdir().unwrap();
        let (source, content, hash) = changed_at_the_front(home.path());
        for at in [BLOCK_LEN, BLOCK_LEN + 1, 2 * BLOCK_LEN] {
            let mut proof = source.proof(&hash, at, || true).unwrap();
            assert!(!proof.differs(), "{at}");
            proof.update(&content[usize::try_from(at).unwrap()..]);
            assert!(proof.holds() && !source.is_misremembered(), "{at}");
        }
        // In the block where it goes on it is noticed.
        let mut proof = source.proof(&hash, 8, || true).unwrap();
        proof.update(&content[8..]);
        assert!(!proof.holds() && source.is_misremembered());
    }

    #[test]
    fn nothing_that_was_proven_is_read_again_for_who_has_all_of_it() {
        let home = tempfile::tempdir().unwrap();
        let (source, content, hash) = changed_at_the_front(home.path());
        let blocks = usize::try_from(BLOCK_LEN).unwrap();
        // Bytes behind a gap prove nothing of what is in it.
        let mut proof = source.proof(&hash, BLOCK_LEN, || true).unwrap();
        proof.update(&content[blocks..]);
        assert!(proof.holds() && source.proof(&hash, source.size(), || true).unwrap().differs());
        // Two blocks of it were read as they were, and the rest is.
        for (len, is_read) in [(2 * blocks, true), (content.len(), false)] {
            let mut proof = source.proof(&hash, 0, || true).unwrap();
            proof.update(&content[..len]);
            assert!(is_read || proof.holds());
            let asked = AtomicU64::new(0);
            let count = || asked.fetch_add(1, Ordering::Relaxed) < u64::MAX;
            assert!(source.proof(&hash, source.size(), count).unwrap().holds());
            assert_eq!(asked.into_inner(), u64::from(is_read));
        }
    }

    #[test]
    fn nothing_is_read_for_who_has_gone() {
        let home = tempfile::tempdir().unwrap();
        let (source, _, hash) = changed_at_the_front(home.path());
        let proof = source.proof(&hash, source.size(), || false);
        assert!(matches!(proof, Err(SourceError::Cancelled { .. })) && !source.is_misremembered());
    }

    #[test]
    fn those_used_last_stay_as_many_and_as_large_as_there_is_room_for() {
        let home = tempfile::tempdir().unwrap();
        let len = entry_len(&identity(1, BLOCK_LEN)).unwrap();
        let limits = Limits { all: Room { files: 3, bytes: 4 * len as u64 }, entry: 2 * len };
        let cache = HashCache::within(home.path(), limits);
        let shelf = cache.0.as_ref().unwrap();
        let age = |number: u64, seconds| {
            let file = private_file().open(shelf.path(&identity(number, BLOCK_LEN))).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
        };
        for number in 1..=3 {
            keep(&cache, &identity(number, BLOCK_LEN));
            age(number, 100 - number);
        }
        assert!(cache.find(&identity(1, BLOCK_LEN)).is_some());
        keep(&cache, &identity(4, BLOCK_LEN));
        let is_known = |number| cache.find(&identity(number, BLOCK_LEN)).is_some();
        assert_eq!([1, 2, 3, 4].map(is_known), [true, false, true, true]);
        // One whose entry would take too much is not kept, one that takes the place of two is.
        keep(&cache, &identity(5, 1000 * BLOCK_LEN));
        assert_eq!(count(&cache), 3);
        let blocks = ((2 * len - HEADER_LEN) / CHECKSUM_LEN - 1) as u64;
        age(3, 50);
        keep(&cache, &identity(6, blocks * BLOCK_LEN));
        assert_eq!((is_known(3), count(&cache)), (false, 3));
    }

    #[test]
    fn entries_are_for_this_user_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let home = tempfile::tempdir().unwrap();
        let cache = HashCache::new(&home.path().join("home"));
        keep(&cache, &identity(1, BLOCK_LEN));
        let shelf = cache.0.as_ref().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = shelf.path(&identity(1, BLOCK_LEN));
        assert_eq!([mode(&shelf.home), mode(&shelf.dir), mode(&path)], [0o700, 0o700, 0o600]);
    }

    #[test]
    fn nodes_that_write_the_same_entry_at_once_leave_a_whole_one() {
        let home = tempfile::tempdir().unwrap();
        let known = identity(1, 100 * BLOCK_LEN);
        let write = || {
            let cache = HashCache::new(home.path());
            for _ in 0..50 {
                keep(&cache, &known);
                assert_eq!(cache.find(&known), Some(content(known.size)));
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(write);
            scope.spawn(write);
        });
        assert_eq!(count(&HashCache::new(home.path())), 1);
    }

    proptest! {
        #[test]
        fn an_entry_that_is_not_what_was_written_says_nothing(
            size in LEAST_SIZE..10 * BLOCK_LEN,
            at in any::<prop::sample::Index>(),
            bit in 0..8_u32,
            cut in any::<prop::sample::Index>(),
            noise in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let known = identity(1, size);
            let whole = encode(&known, &content(size)).unwrap();
            prop_assert_eq!(decode(&known, &whole), Some(content(size)));
            let mut other = whole.clone();
            other[at.index(whole.len())] ^= 1 << bit;
            prop_assert_eq!(decode(&known, &other), None);
            prop_assert_eq!(decode(&known, &whole[..cut.index(whole.len())]), None);
            prop_assert_eq!(decode(&known, &[&whole[..], &noise[..]].concat()).is_none(), !noise.is_empty());
            prop_assert_eq!(decode(&known, &noise), None);
        }
    }
}
