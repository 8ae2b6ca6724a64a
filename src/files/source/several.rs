//! Several files and folders from anywhere, as what one folder holds.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
};

use super::{SourceError, plan::Root};
use crate::files::SafeName;

/// The most files and folders that may be named at once.
const MAX_ROOTS: usize = 65_536;

/// Bytes of a name that stand for it in the name of a folder: enough to know it by, and few enough that what
/// is made of it is a name everywhere.
const MAX_SHOWN: usize = 100;

/// The name of what has none, as the topmost folder of a disk.
const NAMELESS: &str = "folder";

/// What stands at these paths, each by the last part of its path: what is named twice comes once, by whatever
/// spelling. Blocks.
///
/// # Errors
/// `SameName` where two would have one name, `NotFound`, `NotReadable`, `Unfit`.
pub(super) fn roots_of(paths: &[PathBuf]) -> Result<Vec<Root>, SourceError> {
    let mut named: HashMap<SafeName, (&Path, PathBuf)> = HashMap::with_capacity(paths.len());
    let mut roots = Vec::with_capacity(paths.len());
    for path in paths {
        let real = path.canonicalize().map_err(|error| SourceError::of_io(path, error))?;
        let name = name_at(path, &real);
        // Two names that are one at a recipient's would be refused there.
        match named.entry(SafeName::of_part(&name)) {
            Entry::Occupied(other) if other.get().1 == real => continue,
            Entry::Occupied(other) => {
                let (first, second) = (other.get().0.to_owned(), path.clone());
                return Err(SourceError::SameName { first, second, name });
            }
            Entry::Vacant(free) => {
                if roots.len() >= MAX_ROOTS {
                    let why = format!("{MAX_ROOTS} are named before it");
                    return Err(SourceError::Unfit { path: path.clone(), why });
                }
                // Of a link it is taken what it leads to, which is looked for there from now on.
                let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
                roots.push(Root { path: if is_link { real.clone() } else { path.clone() }, name });
                free.insert((path, real));
            }
        }
    }
    // However they are named, they have one archive.
    roots.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(roots)
}

/// What a folder is called in which these come, sorted: `a.jpg and 2 more`.
pub(super) fn name_of(roots: &[Root]) -> String {
    // A name that begins with a dot would hide it.
    let shown = roots.iter().find(|root| !root.name.starts_with('.')).or(roots.first());
    let shown = shown.map_or("", |root| root.name.trim_start_matches('.'));
    let shown = if shown.is_empty() { NAMELESS } else { shown };
    let (cut, more) = (shown.floor_char_boundary(MAX_SHOWN), roots.len().saturating_sub(1));
    let ellipsis = if cut < shown.len() { "…" } else { "" };
    format!("{}{ellipsis} and {more} more", shown.get(..cut).unwrap_or_default())
}

/// The last part of a path, which leads to `real`; `.` and `..` have no name of their own.
pub(super) fn name_at(path: &Path, real: &Path) -> String {
    let name = path.file_name().or(real.file_name());
    name.map_or_else(|| NAMELESS.to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::files::{Source, TreeOptions, archive::TreeSize};

    /// A folder in which these files are; a path that ends in `/` is a folder.
    fn filled(paths: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in paths {
            let at = dir.path().join(path);
            fs::create_dir_all(if path.ends_with('/') { &at } else { at.parent().unwrap() }).unwrap();
            if !path.ends_with('/') {
                fs::write(at, "x").unwrap();
            }
        }
        dir
    }

    fn open(dir: &Path, paths: &[&str], name: Option<&str>) -> Result<Source, SourceError> {
        let paths = paths.iter().map(|path| dir.join(path)).collect::<Vec<_>>();
        Source::open_paths(&paths, name, &TreeOptions::default(), &CancellationToken::new())
    }

    /// The paths in an archive whose files have a byte each, each with its mode and its time.
    fn listing(source: &Source) -> Vec<(String, String, u64)> {
        let mut archive = vec![0; usize::try_from(source.size()).unwrap()];
        source.read_exact_at(&mut archive, 0).unwrap();
        let is_header = |block: &&[u8]| block[257..262] == *b"ustar";
        let text =
            |field: &[u8]| String::from_utf8(field.to_vec()).unwrap().trim_end_matches('\0').to_owned();
        let listed = archive.chunks(512).filter(is_header).map(|block| {
            let mtime = u64::from_str_radix(&text(&block[136..147]), 8).unwrap();
            (text(&block[..100]), text(&block[100..107]), mtime)
        });
        listed.collect()
    }

    fn names(source: &Source) -> Vec<String> {
        listing(source).into_iter().map(|(path, ..)| path).collect()
    }

    fn roots(names: &[&str]) -> Vec<Root> {
        names.iter().map(|name| Root { path: PathBuf::new(), name: (*name).to_owned() }).collect()
    }

    #[test]
    fn several_stand_in_one_folder_by_the_last_part_of_their_paths_in_one_order() {
        let dir = filled(&["one/c.txt", "two/a.jpg", "two/b/x", "two/b/", "a-b/"]);
        let paths = ["one/c.txt", "two/b", "a-b", "two/a.jpg"];
        let source = open(dir.path(), &paths, None).unwrap();
        let top = "a-b and 3 more";
        let expected = ["", "a-b/", "a.jpg", "b/", "b/x", "c.txt"].map(|path| format!("{top}/{path}"));
        assert_eq!(names(&source), expected);
        assert_eq!((source.name(), source.local_name()), ("a-b and 3 more.tar", top));
        assert_eq!(source.tree(), Some(TreeSize { entries: 6, bytes: 3 }));
        let hash = |source: &Source| source.hash(|_| {}, &CancellationToken::new()).unwrap();
        let mut others = paths;
        others.reverse();
        assert_eq!(hash(&open(dir.path(), &others, None).unwrap()), hash(&source));
        let named = open(dir.path(), &paths, Some("holiday")).unwrap();
        assert_eq!((named.name(), names(&named)[2].as_str()), ("holiday.tar", "holiday/a.jpg"));
    }

    #[test]
    fn the_folder_of_several_says_nothing_of_any_folder_of_theirs() {
        let dir = filled(&["a", "b"]);
        for (name, seconds) in [("a", 1_600_000_000), ("b", 1_500_000_000)] {
            let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            fs::File::options().write(true).open(dir.path().join(name)).unwrap().set_modified(at).unwrap();
        }
        let source = open(dir.path(), &["b", "a"], None).unwrap();
        // The time of the latest, so that the folder that is received has one archive with this.
        let top = ("a and 1 more/".to_owned(), "0000755".to_owned(), 1_600_000_000);
        assert_eq!(listing(&source)[0], top);
        let plain = TreeOptions { plain: true, ..TreeOptions::default() };
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        let source = Source::open_paths(&paths, None, &plain, &CancellationToken::new()).unwrap();
        assert!(listing(&source).iter().all(|(.., mtime)| *mtime == 0));
    }

    #[test]
    fn what_is_named_twice_comes_once_and_two_of_one_name_are_refused_by_both() {
        let dir = filled(&["one/a", "two/a", "two/b"]);
        let open = |paths: &[&str]| open(dir.path(), paths, None);
        let source = open(&["one/a", "two/../one/a", "two/b", "two/b"]).unwrap();
        assert_eq!(names(&source)[1..], ["a and 1 more/a", "a and 1 more/b"]);
        let refused = open(&["one/a", "two/b", "two/a"]).unwrap_err();
        let message = refused.to_string();
        let [one, two] = ["one/a", "two/a"].map(|path| dir.path().join(path));
        assert!(
            message.contains(one.to_str().unwrap()) && message.contains(two.to_str().unwrap()),
            "{message}"
        );
        assert!(matches!(refused, SourceError::SameName { .. }));
        // One is what it is alone.
        for paths in [&["one/a"][..], &["one/a", "one/../one/a"]] {
            let source = open(paths).unwrap();
            assert_eq!((source.name(), source.tree()), ("a", None));
        }
        assert!(matches!(open(&["one/a", "none"]), Err(SourceError::NotFound { .. })));
        assert!(matches!(open(&[]), Err(SourceError::NotFound { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_is_named_is_followed_and_one_that_leads_out_of_its_folder_is_refused() {
        use std::os::unix::fs::symlink;

        let dir = filled(&["a", "d/x", "e/"]);
        symlink("a", dir.path().join("link")).unwrap();
        symlink("d", dir.path().join("dlink")).unwrap();
        let source = open(dir.path(), &["link", "a", "dlink"], None).unwrap();
        assert_eq!(
            names(&source)[1..],
            ["a", "dlink/", "dlink/x", "link"].map(|path| format!("a and 2 more/{path}"))
        );
        // What is beside its folder here need not be what is beside it there.
        symlink("../a", dir.path().join("e/up")).unwrap();
        let refused = open(dir.path(), &["a", "e"], None).unwrap_err();
        assert!(matches!(&refused, SourceError::Unfit { path, .. } if path.ends_with("e/up")), "{refused}");
        let socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let refused = open(dir.path(), &["a", "socket"], None).unwrap_err();
        assert!(matches!(refused, SourceError::NotAFile { what: "a socket", .. }), "{refused}");
        drop(socket);
    }

    #[test]
    fn patterns_count_from_the_top_of_each_folder_and_what_is_named_is_sent() {
        let dir = filled(&["d/a.map", "d/keep", "e/b.map", "c.map"]);
        let exclude = vec!["/*.map".to_owned()];
        let paths = ["d", "e", "c.map"].map(|name| dir.path().join(name));
        let options = TreeOptions { exclude, ..TreeOptions::default() };
        let source = Source::open_paths(&paths, None, &options, &CancellationToken::new()).unwrap();
        assert_eq!(
            names(&source)[1..],
            ["c.map", "d/", "d/keep", "e/"].map(|path| format!("c.map and 2 more/{path}"))
        );
    }

    #[test]
    fn the_name_of_several_is_short_and_hides_nothing() {
        assert_eq!(name_of(&roots(&["a.jpg", "b", "c"])), "a.jpg and 2 more");
        assert_eq!(name_of(&roots(&[".env", ".git", "a"])), "a and 2 more");
        assert_eq!(name_of(&roots(&[".env", ".git"])), "env and 1 more");
        assert_eq!(name_of(&roots(&["...", "...."])), "folder and 1 more");
        let long = "ü".repeat(120);
        assert_eq!(name_of(&roots(&[&long, "z"])), format!("{}… and 1 more", "ü".repeat(50)));
        for name in ["größe 🦀.txt", &long, "x".repeat(255).as_str()] {
            let name = name_of(&roots(&[name, "z"]));
            assert_eq!(SafeName::from_offered(&name).as_str(), name);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_whose_name_is_no_text_is_sent_as_it_would_be_alone() {
        use std::os::unix::ffi::OsStrExt as _;

        let dir = filled(&["a"]);
        let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"odd\xff"));
        // Not every system has such names.
        if fs::write(&odd, "x").is_err() {
            return;
        }
        let paths = [dir.path().join("a"), odd];
        let opened = Source::open_paths(&paths, None, &TreeOptions::default(), &CancellationToken::new());
        let source = opened.unwrap();
        let mut archive = vec![0; usize::try_from(source.size()).unwrap()];
        source.read_exact_at(&mut archive, 0).unwrap();
        let path = "a and 1 more/odd\u{fffd}".as_bytes();
        assert!(archive.windows(path.len()).any(|window| window == path));
    }
}
