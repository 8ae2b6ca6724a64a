//! The file that is sent and the one that is received, on a real disk.

use std::{
    fs,
    io::IoSliceMut,
    path::Path,
    time::{Duration, SystemTime},
};

use ats_p2p::files::{
    Existing, Partial, Preserved, SafeName, Source, SourceError, Spool, SpoolError, Target, TargetError,
    prepare_folder, sweep,
};
use tokio_util::sync::CancellationToken;

#[cfg(unix)]
#[path = "fuzzing/archives.rs"]
mod archives;
#[cfg(unix)]
#[path = "files/folders.rs"]
mod folders;

const ID: &str = "0123456789abcdef";
const TEMPORARY: &str = ".0123456789abcdef.part";

fn hash(source: &Source) -> Result<String, SourceError> {
    source.hash(|_| {}, &CancellationToken::new())
}

fn in_folder(dir: &Path, name: &str) -> Target {
    keeping(dir, name, Existing::default())
}

fn keeping(dir: &Path, name: &str, existing: Existing) -> Target {
    Target::InFolder { dir: dir.to_owned(), name: SafeName::from_offered(name), existing }
}

fn exact(path: &Path, overwrite: bool) -> Target {
    Target::Exact { path: path.to_owned(), overwrite }
}

/// Receives `content` whole.
fn receive(target: &Target, content: &str) -> Result<std::path::PathBuf, TargetError> {
    let mut partial = Partial::create(target, ID, content.len() as u64)?;
    partial.write_all(content.as_bytes())?;
    partial.commit()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[cfg(unix)]
#[path = "../fuzz/replay.rs"]
mod replay;

#[cfg(unix)]
#[test]
fn archives_of_the_corpus_lead_nowhere_and_are_read_alike_in_any_pieces() {
    replay::replay(include_str!("../fuzz/corpus/archives"), archives::run);
}

mod source {
    use super::*;

    #[test]
    fn a_file_has_a_name_a_size_and_a_hash() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("größe 1.txt");
        fs::write(&path, "abc").expect("written");
        let source = Source::open(&path).expect("opened");
        assert_eq!((source.name(), source.size()), ("größe 1.txt", 3));
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(&source).expect("hashed"), expected);

        fs::write(&path, "").expect("written");
        let source = Source::open(&path).expect("opened");
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hash(&source).expect("hashed"), expected);
    }

    #[test]
    fn bytes_in_memory_are_read_like_a_file_that_holds_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a");
        let content: Vec<u8> = (0..5_000_000_u32).map(|at| (at / 251).to_le_bytes()[0]).collect();
        fs::write(&path, &content).expect("written");
        let file = Source::open(&path).expect("opened");
        let memory = Source::of_bytes("a".into(), content.clone().into());
        assert_eq!((memory.name(), memory.size(), memory.path()), ("a", 5_000_000, None));
        assert_eq!((memory.mode(), memory.mtime()), (None, None));
        let expected = hash(&file).expect("hashed");
        assert_eq!(hash(&memory).expect("hashed"), expected);
        for (offset, len) in [(0, 10), (4_194_303, 2), (4_999_999, 1), (5_000_000, 0)] {
            let wanted = &content[offset..offset + len];
            let mut read = vec![0; len];
            memory.read_exact_at(&mut read, offset as u64).expect("read");
            assert_eq!(read, wanted);
            let (mut first, mut second) = (vec![0; len / 2], vec![0; len - len / 2]);
            let mut buffers = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
            memory.read_exact_vectored_at(&mut buffers, offset as u64).expect("read");
            assert_eq!([first, second].concat(), wanted);
            let mut proof = memory.proof(&expected, offset as u64, || true).expect("read");
            proof.update(&content[offset..]);
            assert!(proof.holds());
        }
        for offset in [4_999_999, 5_000_000, u64::MAX] {
            let beyond = memory.read_exact_at(&mut [0; 2], offset);
            assert!(matches!(beyond, Err(SourceError::Changed { .. })), "{offset}");
        }
        memory.check().expect("unchanged");
    }

    #[test]
    fn what_is_spooled_is_read_like_a_file_that_holds_it() {
        let content: Vec<u8> = (0..5_000_000_u32).map(|at| (at / 251).to_le_bytes()[0]).collect();
        let mut spool = Spool::new("a".into(), 5_000_000);
        for chunk in content.chunks(70_001) {
            spool.write(chunk).expect("written");
        }
        assert!(matches!(spool.write(b"x"), Err(SpoolError::TooLarge { limit: 5_000_000, .. })));
        let source = spool.finish();
        assert_eq!((source.name(), source.size(), source.path()), ("a", 5_000_000, None));
        assert_eq!((source.mode(), source.mtime()), (None, None));
        let memory = Source::of_bytes("a".into(), content.clone().into());
        let expected = hash(&memory).expect("hashed");
        assert_eq!(hash(&source).expect("hashed"), expected);
        for offset in [0, 1, 4_194_304, 4_999_999, 5_000_000] {
            let mut read = vec![0; content.len() - offset];
            source.read_exact_at(&mut read, offset as u64).expect("read");
            assert!(read == content[offset..], "{offset}");
            let mut proof = source.proof(&expected, offset as u64, || true).expect("read");
            proof.update(&read);
            assert!(proof.holds(), "{offset}");
        }
        let beyond = source.read_exact_at(&mut [0; 2], 4_999_999);
        assert!(matches!(beyond, Err(SourceError::Changed { .. })));
        let other = source.clone().named("b");
        assert_eq!((other.name(), hash(&other).expect("hashed")), ("b", expected));

        let empty = Spool::new("a".into(), 1).finish();
        assert_eq!(
            (empty.size(), hash(&empty).expect("hashed")),
            (0, hash(&Source::of_bytes("a".into(), Vec::new().into())).expect("hashed"))
        );
    }

    #[test]
    fn hashing_tells_how_far_it_is_and_stops_when_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("large");
        fs::write(&path, vec![7; 2_500_000]).expect("written");
        let source = Source::open(&path).expect("opened");
        let mut steps = Vec::new();
        source.hash(|bytes| steps.push(bytes), &CancellationToken::new()).expect("hashed");
        assert_eq!(steps, [1_048_576, 2_097_152, 2_500_000]);

        let cancel = CancellationToken::new();
        let stopped = source.hash(|_| cancel.cancel(), &cancel);
        assert!(matches!(stopped, Err(SourceError::Cancelled { .. })));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = |name: &str| Source::open(&dir.path().join(name));
        fs::write(dir.path().join("file"), "x").expect("written");
        assert!(matches!(open("none"), Err(SourceError::NotFound { .. })));
        assert!(matches!(open("file/x"), Err(SourceError::NotFound { .. })));
        assert!(matches!(Source::open(Path::new("")), Err(SourceError::NotFound { .. })));
        assert!(matches!(open(&"x".repeat(300)), Err(SourceError::NotReadable { .. })));
    }

    #[test]
    fn folders_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let refused = Source::open(dir.path());
        assert!(matches!(refused, Err(SourceError::NotAFile { what: "a folder", .. })));
        assert!(matches!(Source::open(Path::new("..")), Err(SourceError::NotAFile { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn pipes_sockets_and_devices_are_refused_without_waiting() {
        let dir = tempfile::tempdir().expect("a folder");
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("made");
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        for (path, expected) in
            [(&*pipe, "a pipe"), (&*socket, "a socket"), (Path::new("/dev/zero"), "a device")]
        {
            match Source::open(path) {
                Err(SourceError::NotAFile { what, .. }) => assert_eq!(what, expected),
                other => panic!("{path:?}: {other:?}"),
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_to_files_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).expect("linked");
        fs::write(at("file"), "x").expect("written");
        link("file", "link.txt");
        link("none", "dangling");
        link(".", "folder");
        link("loop", "loop");
        assert_eq!(Source::open(&at("link.txt")).expect("opened").name(), "link.txt");
        assert!(matches!(Source::open(&at("dangling")), Err(SourceError::NotFound { .. })));
        assert!(matches!(Source::open(&at("folder")), Err(SourceError::NotAFile { .. })));
        assert!(matches!(Source::open(&at("loop")), Err(SourceError::NotReadable { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_may_not_be_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("secret");
        fs::write(&path, "x").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("set");
        let opened = Source::open(&path);
        // Root may read everything.
        if rustix::process::geteuid().is_root() {
            assert!(opened.is_ok());
        } else {
            assert!(matches!(opened, Err(SourceError::NotReadable { .. })));
        }
    }

    #[test]
    fn a_file_tells_its_rights_and_its_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        let file = fs::File::create(&path).expect("made");
        for (millis, time) in [
            (1_500_000_000_123, SystemTime::UNIX_EPOCH + Duration::from_millis(1_500_000_000_123)),
            (-1, SystemTime::UNIX_EPOCH - Duration::from_micros(1)),
        ] {
            file.set_modified(time).expect("set");
            assert_eq!(Source::open(&path).expect("opened").mtime(), Some(millis));
        }
        #[cfg(unix)]
        for mode in [0o600, 0o755, 0o4711] {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            let told = Source::open(&path).expect("opened").mode().map(u32::from);
            assert_eq!(told, Some(mode & 0o777));
        }
    }

    #[test]
    fn a_file_that_grows_or_shrinks_has_changed() {
        let dir = tempfile::tempdir().expect("a folder");
        for size in [2, 4] {
            let path = dir.path().join("file");
            fs::write(&path, "abc").expect("written");
            let source = Source::open(&path).expect("opened");
            source.check().expect("the same");
            fs::write(&path, vec![b'a'; size]).expect("written");
            assert!(matches!(hash(&source), Err(SourceError::Changed { .. })));
            assert!(matches!(source.check(), Err(SourceError::Changed { .. })));
        }
    }

    #[test]
    fn a_file_that_is_replaced_is_read_from_the_one_handle() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        fs::write(&path, "abc").expect("written");
        let source = Source::open(&path).expect("opened");
        let before = hash(&source).expect("hashed");
        fs::write(dir.path().join("other"), "xyz").expect("written");
        fs::rename(dir.path().join("other"), &path).expect("renamed");
        assert_eq!(hash(&source).expect("hashed"), before);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_says_it_is_empty_and_is_not_is_refused() {
        let source = Source::open(Path::new("/proc/self/status")).expect("opened");
        assert_eq!(source.size(), 0);
        assert!(matches!(hash(&source), Err(SourceError::Changed { .. })));
    }
}

mod partial {
    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        let save = dir.path().join("made/on the way");
        let mut partial = Partial::create(&in_folder(&save, "a.txt"), ID, 6).expect("created");
        partial.write_all(b"abc").expect("written");
        assert_eq!(names(&save), [TEMPORARY]);
        partial.write_all(b"def").expect("written");
        let path = partial.commit().expect("committed");
        assert_eq!(path, save.join("a.txt"));
        assert_eq!(names(&save), ["a.txt"]);
        assert_eq!(fs::read(path).expect("read"), b"abcdef");
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut partial = Partial::create(&in_folder(dir.path(), "a.txt"), ID, 6).expect("created");
        partial.write_all(b"abc").expect("written");
        drop(partial);
        assert!(names(dir.path()).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_sparse_file_is_read_without_its_holes_and_stays_one() {
        use std::os::unix::fs::{FileExt, MetadataExt};

        const LEN: usize = 3 << 20;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("sparse");
        let sparse = fs::File::create_new(&path).expect("made");
        sparse.set_len(LEN as u64).expect("set");
        sparse.write_all_at(b"island", 1 << 20).expect("written");
        let content = fs::read(&path).expect("read");
        let source = Source::open(&path).expect("opened");
        // A page that was read once is kept in memory from then on.
        let plain = dir.path().join("plain");
        fs::write(&plain, &content).expect("written");
        let expected = hash(&Source::open(&plain).expect("opened")).expect("hashed");
        assert_eq!(hash(&source).expect("hashed"), expected);
        let mut read = vec![1; LEN];
        source.read_exact_at(&mut read, 0).expect("read");
        assert!(read == content);
        // Pieces as they come from a peer, which begin anywhere.
        for cut in [65_536, 65_531, 1 << 20] {
            let target = in_folder(dir.path(), "received");
            let mut partial = Partial::create(&target, ID, LEN as u64).expect("created");
            for piece in content.chunks(cut) {
                partial.write_all(piece).expect("written");
            }
            assert_eq!(partial.hash(), expected);
            partial.settle();
            let received = partial.commit().expect("committed");
            assert!(fs::read(&received).expect("read") == content);
            let taken = fs::metadata(&received).expect("there").blocks() * 512;
            assert!(taken <= 64 * 1024, "{taken} bytes for {cut}");
        }
        // One that is cut off while it is sent has no zeros where its end was.
        sparse.set_len(1000).expect("set");
        assert!(matches!(source.read_exact_at(&mut read, 0), Err(SourceError::Changed { .. })));
        assert!(matches!(hash(&source), Err(SourceError::Changed { .. })));
    }

    #[test]
    fn in_a_folder_nothing_is_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let target = in_folder(dir.path(), "a.txt");
        for (content, name) in [("0", "a.txt"), ("1", "a (1).txt"), ("2", "a (2).txt")] {
            assert_eq!(receive(&target, content).expect("received"), dir.path().join(name));
        }
        assert_eq!(fs::read(dir.path().join("a.txt")).expect("read"), b"0");
        fs::create_dir(dir.path().join("b")).expect("made");
        let received = receive(&in_folder(dir.path(), "b"), "x").expect("received");
        assert_eq!(received, dir.path().join("b (1)"));
    }

    #[test]
    fn in_a_folder_a_file_takes_the_place_of_another_or_keeps_out_as_is_asked_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let into = |existing| keeping(&dir.path().join("in"), "a.txt", existing);
        for existing in [Existing::Overwrite, Existing::Skip] {
            let received = receive(&into(existing), "first").expect("received");
            assert_eq!(fs::read_to_string(&received).expect("read"), "first");
            fs::remove_file(received).expect("removed");
        }
        let path = receive(&into(Existing::Skip), "first").expect("received");
        let kept = receive(&into(Existing::Skip), "second").expect_err("kept");
        assert!(matches!(kept, TargetError::AlreadyExists { path: at } if at == path));
        assert_eq!(receive(&into(Existing::Overwrite), "second").expect("received"), path);
        assert_eq!(fs::read_to_string(&path).expect("read"), "second");
        assert_eq!(names(path.parent().expect("a folder")), ["a.txt"]);
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        for existing in [Existing::Overwrite, Existing::Skip] {
            let refused = receive(&into(existing), "third").expect_err("a folder");
            assert!(matches!(refused, TargetError::NotAFile { .. }), "{refused}");
        }
    }

    #[test]
    fn an_exact_path_is_replaced_where_that_was_asked_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.txt");
        fs::write(&path, "old").expect("written");
        let refused = receive(&exact(&path, false), "new");
        assert!(matches!(refused, Err(TargetError::AlreadyExists { .. })));
        assert_eq!(fs::read(&path).expect("read"), b"old");
        assert_eq!(receive(&exact(&path, true), "new").expect("received"), path);
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(names(dir.path()), ["a.txt"]);
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_not_replaced_unasked() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.txt");
        let partial = Partial::create(&exact(&path, false), ID, 0).expect("created");
        fs::write(&path, "theirs").expect("written");
        assert!(matches!(partial.commit(), Err(TargetError::AlreadyExists { .. })));
        assert_eq!(fs::read(&path).expect("read"), b"theirs");
        assert_eq!(names(dir.path()), ["a.txt"]);
    }

    #[test]
    fn paths_that_name_no_file_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let create = |path: &Path| Partial::create(&exact(path, true), ID, 0);
        for path in ["", "..", "/", "x/", "x/."] {
            let refused = create(&dir.path().join(path));
            let ok = matches!(refused, Err(TargetError::NoName { .. } | TargetError::NotAFile { .. }));
            assert!(ok, "{path:?}: {refused:?}");
        }
        assert!(matches!(create(dir.path()), Err(TargetError::NotAFile { what: "a folder", .. })));
        let missing = create(&dir.path().join("none/a"));
        assert!(matches!(missing, Err(TargetError::NoFolder { .. })));
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_folder_that_is_a_file_can_not_be_written() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("file");
        fs::write(&file, "x").expect("written");
        for target in [in_folder(&file, "a"), in_folder(&file.join("sub"), "a"), exact(&file.join("a"), true)]
        {
            let refused = Partial::create(&target, ID, 0);
            assert!(matches!(refused, Err(TargetError::NotWritable { .. })), "{refused:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_takes_no_files_can_not_be_written() {
        let refused = Partial::create(&in_folder(Path::new("/proc"), "a"), ID, 0);
        assert!(matches!(refused, Err(TargetError::NotWritable { .. })), "{refused:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_without_room_is_refused_before_a_byte_comes() {
        let dir = tempfile::tempdir().expect("a folder");
        for size in [u64::MAX, 1 << 60] {
            let refused = Partial::create(&in_folder(dir.path(), "a"), ID, size);
            assert!(matches!(refused, Err(TargetError::DiskFull { .. })));
        }
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn one_left_behind_is_replaced_and_one_being_written_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let target = in_folder(dir.path(), "a");
        fs::write(dir.path().join(TEMPORARY), "half a file of a process that died").expect("written");
        let mut first = Partial::create(&target, ID, 3).expect("created");
        assert!(matches!(Partial::create(&target, ID, 3), Err(TargetError::Busy { .. })));
        first.write_all(b"abc").expect("written");
        assert_eq!(fs::read(first.commit().expect("committed")).expect("read"), b"abc");
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn a_folder_is_prepared_once_and_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let save = dir.path().join("made/on the way");
        assert_eq!(prepare_folder(&save).expect("made"), save);
        assert_eq!(prepare_folder(&save).expect("there"), save);
        assert!(prepare_folder(Path::new(".")).expect("there").is_absolute());
        fs::write(dir.path().join("file"), "x").expect("written");
        for path in ["file", "file/sub"] {
            let refused = prepare_folder(&dir.path().join(path));
            assert!(matches!(refused, Err(TargetError::NotWritable { .. })), "{refused:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_without_the_right_to_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).expect("set");
        let (prepared, created) =
            (prepare_folder(dir.path()), Partial::create(&in_folder(dir.path(), "a"), ID, 0));
        // Root may write everywhere.
        if rustix::process::geteuid().is_root() {
            assert!(prepared.is_ok() && created.is_ok());
        } else {
            assert!(matches!(prepared, Err(TargetError::NotWritable { .. })), "{prepared:?}");
            assert!(matches!(created, Err(TargetError::NotWritable { .. })), "{created:?}");
        }
    }

    #[test]
    fn what_dead_processes_left_is_swept_away_in_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        let age = |path: &Path| {
            let file = fs::File::options().write(true).open(path).expect("opened");
            file.set_modified(old).expect("set");
        };
        let alive = Partial::create(&in_folder(dir.path(), "a"), ID, 0).expect("created");
        age(&at(TEMPORARY));
        for name in [".00000000000000aa.part", ".00000000000000ab.part", ".notours.part", "x.part"] {
            fs::write(at(name), "x").expect("written");
            if name != ".00000000000000ab.part" {
                age(&at(name));
            }
        }
        // Nobody can go on with nothing.
        fs::write(at(".00000000000000ac.part"), "").expect("written");
        assert_eq!(sweep(dir.path(), Duration::from_secs(1800)).expect("swept"), 2);
        assert_eq!(names(dir.path()), [".00000000000000ab.part", TEMPORARY, ".notours.part", "x.part"]);
        alive.commit().expect("committed");
        assert!(sweep(&at("none"), Duration::ZERO).is_err());
    }

    #[cfg(unix)]
    mod links {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

        use super::*;

        #[test]
        fn a_link_at_the_target_is_replaced_and_not_followed() {
            let dir = tempfile::tempdir().expect("a folder");
            let victim = dir.path().join("victim");
            fs::write(&victim, "precious").expect("written");
            let save = dir.path().join("save");
            fs::create_dir(&save).expect("made");
            symlink(&victim, save.join("a")).expect("linked");
            symlink(dir.path().join("none"), save.join("b")).expect("linked");
            assert_eq!(receive(&in_folder(&save, "a"), "x").expect("received"), save.join("a (1)"));
            assert_eq!(receive(&in_folder(&save, "b"), "x").expect("received"), save.join("b (1)"));
            let refused = receive(&exact(&save.join("b"), false), "x");
            assert!(matches!(refused, Err(TargetError::AlreadyExists { .. })));
            receive(&exact(&save.join("a"), true), "x").expect("received");
            assert!(fs::symlink_metadata(save.join("a")).expect("there").is_file());
            assert_eq!(fs::read(&victim).expect("read"), b"precious");
            assert_eq!(names(dir.path()), ["save", "victim"]);
        }

        #[test]
        fn a_link_at_the_temporary_name_is_not_followed() {
            let dir = tempfile::tempdir().expect("a folder");
            let victim = dir.path().join("victim");
            fs::write(&victim, "precious").expect("written");
            for to in [&*victim, Path::new("none"), Path::new("/dev/null")] {
                symlink(to, dir.path().join(TEMPORARY)).expect("linked");
                let path = receive(&exact(&dir.path().join("a"), true), "x").expect("received");
                assert_eq!(fs::read(path).expect("read"), b"x");
            }
            assert_eq!(fs::read(&victim).expect("read"), b"precious");
            assert_eq!(names(dir.path()), ["a", "victim"]);
        }

        #[test]
        fn a_folder_replaced_meanwhile_gets_nothing() {
            let dir = tempfile::tempdir().expect("a folder");
            let (save, moved, other) =
                (dir.path().join("save"), dir.path().join("moved"), dir.path().join("other"));
            fs::create_dir(&other).expect("made");
            let mut partial = Partial::create(&in_folder(&save, "a"), ID, 1).expect("created");
            fs::rename(&save, &moved).expect("moved");
            symlink(&other, &save).expect("linked");
            partial.write_all(b"x").expect("written");
            assert!(matches!(partial.commit(), Err(TargetError::Moved { .. })));
            assert!(names(&other).is_empty() && names(&moved).is_empty());
        }

        #[test]
        fn a_temporary_file_exchanged_for_another_is_not_given_the_name() {
            let dir = tempfile::tempdir().expect("a folder");
            let partial = Partial::create(&in_folder(dir.path(), "a"), ID, 0).expect("created");
            fs::remove_file(dir.path().join(TEMPORARY)).expect("removed");
            fs::write(dir.path().join(TEMPORARY), "theirs").expect("written");
            assert!(matches!(partial.commit(), Err(TargetError::Moved { .. })));
            assert_eq!(names(dir.path()), [TEMPORARY]);
        }

        #[test]
        fn received_files_run_as_nobody_and_are_not_for_everybody_to_write() {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join("a");
            let mode = || fs::metadata(&path).expect("there").mode() & 0o7777;
            receive(&exact(&path, true), "x").expect("received");
            assert_eq!(mode() & !0o664, 0);
            for (before, after) in [(0o600, 0o600), (0o6777, 0o664), (0o444, 0o444)] {
                fs::set_permissions(&path, fs::Permissions::from_mode(before)).expect("set");
                receive(&exact(&path, true), "x").expect("received");
                assert_eq!(mode(), after);
            }
        }

        /// Receives one that has these rights and was changed at this time, Unix milliseconds.
        fn receive_preserved(path: &Path, preserved: Preserved) -> fs::Metadata {
            let mut partial = Partial::create(&exact(path, true), ID, 1).expect("created");
            partial.preserve(preserved);
            partial.write_all(b"x").expect("written");
            let temporary = fs::metadata(path.with_file_name(TEMPORARY)).expect("there");
            assert_eq!(temporary.mode() & 0o777, 0o600);
            fs::metadata(partial.commit().expect("committed")).expect("there")
        }

        #[test]
        fn a_received_file_is_as_open_as_its_source_and_no_more() {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join("a");
            // What the umask leaves of all.
            fs::create_dir(dir.path().join("usual")).expect("made");
            let usual = fs::metadata(dir.path().join("usual")).expect("there").mode() & 0o775;
            for mode in [0o600, 0o700, 0o755, 0o640, 0o444, 0o777, 0o000] {
                let received = receive_preserved(&path, Preserved::of_sent(Some(mode), None));
                let expected = u32::from(mode) & usual | 0o400;
                assert_eq!(received.mode() & 0o7777, expected, "{mode:o}");
                fs::remove_file(&path).expect("removed");
            }
            assert_eq!(receive_preserved(&path, Preserved::of_sent(None, None)).mode() & 0o7777, 0o600);
            // In its place a file for everybody stays one for its owner alone.
            let received = receive_preserved(&path, Preserved::of_sent(Some(0o755), None));
            assert_eq!(received.mode() & 0o7777, 0o700);
            let received = receive_preserved(&path, Preserved::within_sent(Some(0o755)));
            assert_eq!(received.mode() & 0o7777, 0o600);
        }

        #[test]
        fn a_received_file_has_the_time_of_its_source_whatever_that_is() {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join("a");
            let modified = |mtime| {
                let received = receive_preserved(&path, Preserved::of_sent(Some(0o600), Some(mtime)));
                received.modified().expect("told")
            };
            let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(modified(1_500_000_000_000), at(1_500_000_000));
            assert_eq!(modified(0), at(0));
            let (before, year_3000, largest) = (SystemTime::now(), 32_503_680_000_000, (1 << 53) - 1);
            for mtime in [year_3000, largest, i64::MAX] {
                let modified = modified(mtime);
                assert!(modified <= SystemTime::now(), "{modified:?}");
                // Some file systems keep two seconds as one.
                assert!(modified + Duration::from_secs(2) >= before, "{modified:?}");
            }
            let year_1900 = -2_208_988_800_000;
            for mtime in [year_1900, -largest, i64::MIN] {
                // The earliest that every file system holds, or the earliest of this one.
                assert!(modified(mtime) < at(1 << 31), "{mtime}");
            }
        }

        #[test]
        fn devices_and_pipes_are_not_replaced() {
            let dir = tempfile::tempdir().expect("a folder");
            let pipe = dir.path().join("pipe");
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("made");
            let refused = receive(&exact(&pipe, true), "x");
            assert!(matches!(refused, Err(TargetError::NotAFile { what: "a pipe", .. })));
            assert_eq!(names(dir.path()), ["pipe"]);
        }
    }
}

/// What one process leaves and another finds.
mod left {
    use std::path::PathBuf;

    use super::*;

    const LEN: usize = 300_000;

    struct Lab {
        dir: tempfile::TempDir,
        content: Vec<u8>,
    }

    impl Lab {
        fn new() -> Self {
            let lab = Self {
                dir: tempfile::tempdir().expect("a folder"),
                content: (0..LEN).map(|at| (at / 7).to_le_bytes()[0]).collect(),
            };
            fs::create_dir(lab.save()).expect("made");
            lab
        }

        fn save(&self) -> PathBuf {
            self.dir.path().join("save")
        }

        fn memory(&self) -> PathBuf {
            self.dir.path().join("memory")
        }

        fn part(&self) -> PathBuf {
            self.save().join(TEMPORARY)
        }

        fn target(&self) -> Target {
            in_folder(&self.save(), "a")
        }

        fn resume(&self) -> Result<Partial, TargetError> {
            self.resume_told(|_, _| {})
        }

        fn resume_told(&self, read: impl FnMut(u64, u64)) -> Result<Partial, TargetError> {
            let cancel = CancellationToken::new();
            Partial::resume(&self.target(), ID, LEN as u64, &self.memory(), read, &cancel)
        }

        /// A process wrote so much and died.
        fn die_after(&self, len: usize) {
            let mut partial = self.resume().expect("opened");
            let written = usize::try_from(partial.written()).expect("small");
            for piece in self.content[written..len].chunks(10_000) {
                partial.write_all(piece).expect("written");
                partial.remember();
            }
        }

        /// Another one goes on; from where it did.
        fn finish(&self) -> u64 {
            let mut partial = self.resume().expect("opened");
            let written = partial.written();
            partial.write_all(&self.content[usize::try_from(written).expect("small")..]).expect("written");
            let path = partial.commit().expect("committed");
            assert!(fs::read(&path).expect("read") == self.content);
            fs::remove_file(path).expect("removed");
            assert!(names(&self.save()).is_empty() && !self.memory().exists());
            written
        }
    }

    #[test]
    fn what_a_process_left_is_gone_on_with() {
        let lab = Lab::new();
        lab.die_after(100_000);
        assert_eq!(names(&lab.save()), [TEMPORARY]);
        lab.die_after(250_000);
        let mut read = Vec::new();
        let standing = lab.resume_told(|bytes, of| read.push((bytes, of))).expect("opened").written();
        assert!(read.is_sorted() && read.last() == Some(&(standing, standing)), "{read:?}");
        let went_on = lab.finish();
        assert_eq!(went_on, standing);
        assert!((180_000..=250_000).contains(&went_on), "{went_on}");
        assert_eq!(lab.finish(), 0);
    }

    #[test]
    fn what_a_process_left_amid_zeros_is_gone_on_with() {
        let mut lab = Lab::new();
        lab.content[100..290_000].fill(0);
        lab.die_after(100_000);
        lab.die_after(250_000);
        let went_on = lab.finish();
        assert!((180_000..=250_000).contains(&went_on), "{went_on}");
    }

    #[test]
    fn only_what_the_disk_still_holds_of_it_counts() {
        for (change, least, most) in [
            (Box::new(|part: &mut Vec<u8>| part.truncate(100_000)) as Box<dyn Fn(&mut Vec<u8>)>, 1, 100_000),
            (Box::new(|part| part.truncate(0)), 0, 0),
            (Box::new(|part| part[99_000] ^= 1), 1, 99_000),
            (Box::new(|part| part[0] ^= 1), 0, 0),
            (Box::new(|part| part.extend([1; 100_000])), 180_000, 250_000),
        ] {
            let lab = Lab::new();
            lab.die_after(250_000);
            let mut part = fs::read(lab.part()).expect("read");
            change(&mut part);
            let file = fs::OpenOptions::new().write(true).truncate(true).open(lab.part()).expect("opened");
            std::io::Write::write_all(&mut &file, &part).expect("written");
            let went_on = lab.finish();
            assert!((least..=most).contains(&went_on), "{went_on}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn another_file_in_its_place_is_not_gone_on_with() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let lab = Lab::new();
        let other = lab.dir.path().join("other");
        let changes: [&dyn Fn(); 4] = [
            &|| {
                fs::copy(lab.part(), &other).expect("copied");
                fs::remove_file(lab.part()).expect("removed");
                fs::rename(&other, lab.part()).expect("renamed");
            },
            &|| {
                fs::rename(lab.part(), &other).expect("renamed");
                symlink(&other, lab.part()).expect("linked");
            },
            &|| {
                let _ = fs::remove_file(&other);
                fs::hard_link(lab.part(), &other).expect("linked");
            },
            &|| fs::set_permissions(lab.part(), fs::Permissions::from_mode(0o620)).expect("set"),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            lab.die_after(250_000);
            change();
            assert_eq!(lab.finish(), 0, "change {number}");
        }
    }

    #[test]
    fn what_is_remembered_of_another_transfer_is_of_no_use() {
        let lab = Lab::new();
        lab.die_after(250_000);
        let memory = fs::read(lab.memory()).expect("read");
        fs::remove_file(lab.part()).expect("removed");
        // Keeps the number of the file on the disk from being given to the next one.
        fs::write(lab.dir.path().join("number"), "").expect("written");
        lab.die_after(1);
        fs::write(lab.memory(), memory).expect("written");
        assert_eq!(lab.finish(), 0);
    }

    #[test]
    fn what_a_living_process_writes_is_left_alone() {
        let lab = Lab::new();
        let mut alive = lab.resume().expect("opened");
        assert!(matches!(lab.resume(), Err(TargetError::Busy { .. })));
        Partial::discard(&lab.target(), ID, &lab.dir.path().join("none"));
        alive.write_all(&lab.content).expect("written");
        alive.commit().expect("committed");
        assert_eq!(names(&lab.save()), ["a"]);
    }

    #[test]
    fn what_is_of_no_more_use_is_removed() {
        let lab = Lab::new();
        Partial::discard(&lab.target(), ID, &lab.memory());
        lab.die_after(250_000);
        Partial::discard(&lab.target(), ID, &lab.memory());
        assert!(names(&lab.save()).is_empty() && !lab.memory().exists());
    }

    #[test]
    fn what_somebody_else_wrote_after_the_last_byte_is_noticed() {
        let lab = Lab::new();
        for is_longer in [true, false] {
            let mut partial = lab.resume().expect("opened");
            partial.write_all(&lab.content).expect("written");
            partial.settle();
            let file = fs::OpenOptions::new().write(true).open(lab.part()).expect("opened");
            match is_longer {
                true => file.set_len(LEN as u64 + 1).expect("longer"),
                false => {
                    let later = std::time::SystemTime::now() + Duration::from_secs(1);
                    file.set_modified(later).expect("set");
                }
            }
            assert!(matches!(partial.commit(), Err(TargetError::Changed { .. })));
            assert!(names(&lab.save()).is_empty() && !lab.memory().exists());
        }
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_open_a_file_before_it_is_whole() {
        use std::os::unix::fs::PermissionsExt as _;

        let lab = Lab::new();
        let rights = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        fs::write(lab.dir.path().join("usual"), "").expect("written");
        let usual = rights(&lab.dir.path().join("usual")) & 0o664;
        lab.die_after(100_000);
        assert_eq!((rights(&lab.part()), rights(&lab.memory())), (0o600, 0o600));
        let mut partial = lab.resume().expect("opened");
        let written = usize::try_from(partial.written()).expect("small");
        partial.write_all(&lab.content[written..]).expect("written");
        assert_eq!(rights(&partial.commit().expect("committed")), usual);
    }
}
