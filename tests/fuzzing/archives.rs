//! Archives made of anything, unpacked on a disk: panics where something is wrong. Fuzzing runs it.

#[path = "header.rs"]
mod header;

use std::{fs, io::IoSlice, path::Path};

use ats_p2p::files::{
    Existing, OfferedTree, PartialTree, Preserved, SafeName, Target, TargetError, TreeSize,
};

pub(crate) use self::header::header;

/// An archive that is described by a list of steps: what comes, and up to 255 bytes, after their count, to
/// make it of.
pub(crate) fn run(data: &[u8]) {
    let (mut archive, mut offered, mut rest) = (Vec::new(), TreeSize::default(), data);
    while let [kind, count, more @ ..] = rest {
        let (bytes, behind) = more.split_at(more.len().min((*count).into()));
        rest = behind;
        add(&mut archive, &mut offered, *kind, bytes);
    }
    if data.first().is_none_or(|first| first & 0x80 == 0) {
        archive.resize(archive.len() + 1024, 0);
    }
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["in", "outside"] {
        fs::create_dir(dir.path().join(name)).expect("made");
    }
    let unpacked = unpack(dir.path(), &archive, offered, archive.len().max(1));
    assert_eq!(unpack(dir.path(), &archive, offered, 100), unpacked, "the cuts of the stream change nothing");
}

/// Adds what one step stands for.
fn add(archive: &mut Vec<u8>, offered: &mut TreeSize, kind: u8, bytes: &[u8]) {
    let (path, more) = match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[][..]),
    };
    let path = &path[..path.len().min(100)];
    offered.entries += u64::from(kind % 8 < 5);
    match kind % 8 {
        0 => archive.extend(header(path, b'5', 0, b"")),
        1 | 2 => {
            archive.extend(header(path, b'0', more.len(), b""));
            archive.extend(more);
            archive.resize(archive.len().next_multiple_of(512), 0);
            offered.bytes += more.len() as u64;
        }
        3 => archive.extend(header(path, b'2', 0, &more[..more.len().min(100)])),
        // Of any kind.
        4 => archive.extend(header(path, more.first().copied().unwrap_or(b'1'), 0, b"")),
        // Said before what it is said of.
        5 => {
            archive.extend(header(b"PaxHeader", b'x', bytes.len(), b""));
            archive.extend(bytes);
            archive.resize(archive.len().next_multiple_of(512), 0);
        }
        6 => archive.extend(bytes),
        // Changes what there is.
        _ => {
            for change in bytes.chunks_exact(3) {
                let at = usize::from(change[0]) << 8 | usize::from(change[1]);
                if let Some(byte) = archive.get_mut(at) {
                    *byte = change[2];
                }
            }
        }
    }
}

/// Unpacks an archive that comes in pieces of `len` bytes, and says how that ended.
fn unpack(dir: &Path, archive: &[u8], offered: TreeSize, len: usize) -> Option<String> {
    let name = SafeName::from_offered("tree");
    let target = Target::InFolder { dir: dir.join("in"), name, existing: Existing::Rename };
    let (size, preserved) = (archive.len() as u64, Preserved::of_sent(None, None));
    let unpacked = (|| {
        let offered = OfferedTree { size, holds: offered, preserved };
        let mut tree = PartialTree::create(&target, "0123456789abcdef", offered)?;
        for piece in archive.chunks(len) {
            tree.write_all_vectored(&[IoSlice::new(piece)])?;
        }
        tree.commit()
    })();
    let refused = match unpacked {
        Ok(path) => {
            assert_eq!(path, dir.join("in").join("tree"));
            fs::remove_dir_all(path).expect("removed");
            None
        }
        Err(TargetError::Archive { why }) => Some(why),
        Err(error) => panic!("{error}"),
    };
    for (folder, count) in [("in", 0), ("outside", 0), ("", 2)] {
        assert_eq!(fs::read_dir(dir.join(folder)).expect("read").count(), count, "in {folder}");
    }
    refused
}
