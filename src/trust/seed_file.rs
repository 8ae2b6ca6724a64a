//! Where a seed is kept.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use protocol::text::display;

use super::disk::{self, FileState, OTHERS};
use super::seed::Seed;
use crate::error::{Code, Error, Result};
use crate::private::private_dir;

/// The largest seed file that is read, bytes: a text of a few lines fits many times.
const MAX_LEN: u64 = 4096;

/// By which seed a node shows who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeedChoice {
    /// The one in this user's home, made where it is missing.
    #[default]
    Home,
    /// The one in this file.
    File(PathBuf),
    /// None: the node has no identity, and signs nothing.
    Nobody,
}

/// The file of a seed.
#[derive(Clone, Debug)]
pub(super) struct SeedFile {
    path: PathBuf,
    /// The home that it is made in where it is missing.
    home: Option<PathBuf>,
}

impl SeedFile {
    /// The file of this choice.
    pub(super) fn new(home: &Path, choice: SeedChoice) -> Option<Self> {
        match choice {
            SeedChoice::Home => Some(Self::of_home(home)),
            SeedChoice::File(path) => Some(Self { path, home: None }),
            SeedChoice::Nobody => None,
        }
    }

    /// That of this user's home.
    pub(super) fn of_home(home: &Path) -> Self {
        Self { path: home.join("seed"), home: Some(home.to_owned()) }
    }

    /// Reads the seed, each time: it may have been imported or replaced. Makes the one of a home where it is
    /// missing; of several processes that do so at once, one makes it. `has_met_others` says whether there
    /// must have been one before.
    pub(super) fn load(&self, has_met_others: impl FnOnce() -> bool) -> Result<Seed> {
        match (self.read()?, &self.home) {
            (Some(seed), _) => Ok(seed),
            (None, Some(home)) => self.make(home, has_met_others),
            (None, None) => Err(self.trouble(
                "does not exist",
                "name an existing one, which `ats-p2p id export FILE` writes, or leave `identity` out to use \
                 this user's own",
            )),
        }
    }

    /// The state of the file; `None` where there is none that can be looked at.
    pub(super) fn state(&self) -> Option<FileState> {
        disk::state(&self.path).ok().flatten()
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A seed of the system's randomness, which is in no file yet.
    pub(super) fn new_seed(&self) -> Result<Seed> {
        Seed::random().map_err(|error| self.not_written(&io::Error::other(error)))
    }

    /// Puts a seed in place. Another one that stands there is kept beside it, and returned where; without
    /// `replace` it is an error.
    pub(super) fn put(&self, seed: &Seed, replace: bool) -> Result<Option<PathBuf>> {
        let failed = |error: io::Error| self.not_written(&error);
        let folder = self.path.parent().unwrap_or(Path::new(""));
        private_dir(folder).map_err(failed)?;
        let _lock = self.lock().map_err(failed)?;
        let old = disk::read(&self.path, MAX_LEN, 0).map_err(failed)?;
        let kept = match old {
            Some(old) if Seed::from_text(&old).as_ref() == Some(seed) => return Ok(None),
            Some(old) if Seed::from_text(&old).is_some_and(|old| seed.covers(&old)) => None,
            Some(_) if !replace => {
                return Err(Error::new(
                    Code::AlreadyExists,
                    format!(
                        "another seed is at {}, and every peer that knows its identities would have to \
                         accept others; to replace it all the same, and keep it beside: --force",
                        display(&self.path.to_string_lossy())
                    ),
                ));
            }
            Some(old) => Some(self.keep(&old).map_err(failed)?),
            None => None,
        };
        disk::replace(&self.path, seed.to_text().as_bytes()).map_err(failed)?;
        // Whoever puts one there knows which.
        let _ = std::fs::remove_file(self.note_of_loss());
        Ok(kept)
    }

    /// Puts a new seed in place of the present one, whose identities hand over to those of the new one.
    pub(super) fn rotate(&self) -> Result<()> {
        let failed = |error: io::Error| self.not_written(&error);
        let old = self.load(|| false)?;
        let _lock = self.lock().map_err(failed)?;
        // Another process may have been first.
        let old = self.read()?.unwrap_or(old);
        let new = self.new_seed()?.after(old);
        disk::replace(&self.path, new.to_text().as_bytes()).map_err(failed)
    }

    /// Whether the one before was gone when this one was made, and nobody has put another in its place.
    pub(super) fn is_lost(&self) -> bool {
        self.note_of_loss().exists()
    }

    fn note_of_loss(&self) -> PathBuf {
        disk::beside(&self.path, ".lost")
    }

    fn kept(&self, number: u32) -> PathBuf {
        disk::beside(&self.path, &format!(".{number}.old"))
    }

    /// Copies an old seed to the next free name beside it.
    fn keep(&self, old: &[u8]) -> io::Result<PathBuf> {
        let mut number = 1;
        loop {
            let path = self.kept(number);
            if disk::state(&path)?.is_none() {
                disk::replace(&path, old)?;
                return Ok(path);
            }
            number += 1;
        }
    }

    fn lock(&self) -> io::Result<File> {
        disk::lock(&disk::beside(&self.path, ".lock"))
    }

    /// Reads the seed; `None` where there is none.
    pub(super) fn read(&self) -> Result<Option<Seed>> {
        let content = match disk::read(&self.path, MAX_LEN, OTHERS) {
            Ok(None) => return Ok(None),
            Ok(Some(content)) => content,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let path = display(&self.path.to_string_lossy());
                let advice =
                    format!("`chmod 600 {path}` keeps it to yourself; who has read it can pass for you");
                return Err(self.trouble(&format!("can't be used: {error}"), &advice));
            }
            Err(error) => {
                return Err(self.trouble(&format!("can't be read: {error}"), "restore it from a copy"));
            }
        };
        let seed = Seed::from_text(&content).ok_or_else(|| {
            self.trouble(
                "is damaged",
                "restore it from a copy (`ats-p2p id import FILE`), or move it away: a new one is a new \
                 identity, which every peer that knew you has to accept",
            )
        })?;
        Ok(Some(seed))
    }

    fn make(&self, home: &Path, has_met_others: impl FnOnce() -> bool) -> Result<Seed> {
        let failed = |error: io::Error| self.not_written(&error);
        private_dir(home).map_err(failed)?;
        let _lock = self.lock().map_err(failed)?;
        if let Some(seed) = self.read()? {
            return Ok(seed);
        }
        let seed = self.new_seed()?;
        if self.kept(1).exists() || has_met_others() {
            disk::replace(&self.note_of_loss(), b"the seed before was gone\n").map_err(failed)?;
        }
        disk::replace(&self.path, seed.to_text().as_bytes()).map_err(failed)?;
        Ok(seed)
    }

    fn not_written(&self, error: &io::Error) -> Error {
        self.trouble(
            &format!("can't be written: {error}"),
            "make its folder one that you own and may write to, or name another one by ATS_P2P_HOME",
        )
    }

    fn trouble(&self, what: &str, advice: &str) -> Error {
        let path = display(&self.path.to_string_lossy());
        Error::new(Code::State, format!("the seed of this node's identity, {path}, {what}; {advice}"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn in_home(home: &Path) -> SeedFile {
        SeedFile::new(home, SeedChoice::Home).unwrap()
    }

    #[test]
    fn a_seed_is_made_once_and_is_its_owners_alone() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().join("new/home");
        let seed = in_home(&home).load(|| false).unwrap();
        assert_eq!(in_home(&home).load(|| false).unwrap(), seed);
        #[cfg(unix)]
        for (path, mode) in [(home.join("seed"), 0o600), (home.clone(), 0o700)] {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn a_seed_that_is_made_where_there_was_one_before_is_noted_until_another_is_put_there() {
        let place = tempfile::tempdir().unwrap();
        let file = in_home(place.path());
        let first = file.load(|| false).unwrap();
        assert!(!file.is_lost());
        file.load(|| true).unwrap();
        assert!(!file.is_lost(), "it is there");
        fs::remove_file(file.path()).unwrap();
        assert_ne!(file.load(|| true).unwrap(), first);
        assert!(file.is_lost());
        assert!(file.put(&first, true).unwrap().is_some());
        assert!(!file.is_lost());
        fs::remove_file(file.path()).unwrap();
        file.load(|| false).unwrap();
        assert!(file.is_lost(), "one before is kept");
    }

    #[test]
    fn of_many_that_start_at_once_all_have_the_same() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().join("home");
        let seeds: Vec<Seed> = std::thread::scope(|scope| {
            let starting: Vec<_> =
                (0..8).map(|_| scope.spawn(|| in_home(&home).load(|| false).unwrap())).collect();
            starting.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seeds.iter().all(|seed| *seed == seeds[0]));
    }

    #[test]
    fn a_damaged_seed_is_an_error_and_stays_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("seed");
        in_home(place.path()).load(|| false).unwrap();
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        damaged[20] ^= 1;
        for content in [damaged.as_slice(), &[], &whole[..40], &[0; 5000]] {
            fs::write(&path, content).unwrap();
            let error = in_home(place.path()).load(|| false).unwrap_err();
            assert_eq!(error.code, Code::State);
            assert!(error.message.contains("seed") && !error.message.contains(&hex::encode(&whole[15..20])));
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_seed_that_others_can_read_is_an_error_that_says_what_to_do() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        in_home(place.path()).load(|| false).unwrap();
        let path = place.path().join("seed");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = in_home(place.path()).load(|| false).unwrap_err();
        assert_eq!(error.code, Code::State);
        assert!(error.message.contains("0644") && error.message.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_seed_is_replaced_only_where_that_is_said_and_kept_beside() {
        let place = tempfile::tempdir().unwrap();
        let file = in_home(place.path());
        let first = file.new_seed().unwrap();
        assert_eq!(file.put(&first, false).unwrap(), None, "there was none");
        assert_eq!(file.put(&first, false).unwrap(), None, "the same");
        let second = file.new_seed().unwrap();
        let error = file.put(&second, false).unwrap_err();
        assert_eq!(error.code, Code::AlreadyExists);
        assert!(error.message.contains("--force"), "{error}");
        assert_eq!(file.load(|| false).unwrap(), first);
        let kept = [file.put(&second, true), file.put(&first, true)].map(|kept| kept.unwrap().unwrap());
        assert_eq!(kept, [place.path().join("seed.1.old"), place.path().join("seed.2.old")]);
        assert_eq!(Seed::from_text(&fs::read(&kept[0]).unwrap()).as_ref(), Some(&first));
        assert_eq!(Seed::from_text(&fs::read(&kept[1]).unwrap()).as_ref(), Some(&second));
        assert_eq!(file.load(|| false).unwrap(), first);
        // A damaged one is one that exists.
        fs::write(file.path(), "damaged").unwrap();
        assert_eq!(file.put(&second, false).unwrap_err().code, Code::AlreadyExists);
        assert_eq!(fs::read_to_string(file.put(&second, true).unwrap().unwrap()).unwrap(), "damaged");
    }

    #[test]
    fn a_seed_that_was_rotated_elsewhere_needs_no_force_to_follow() {
        let places = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [here, there] = [0, 1].map(|at: usize| in_home(places[at].path()));
        there.put(&here.load(|| false).unwrap(), false).unwrap();
        here.rotate().unwrap();
        here.rotate().unwrap();
        let old = there.load(|| false).unwrap();
        assert_eq!(there.put(&here.load(|| false).unwrap(), false).unwrap(), None);
        assert_eq!(there.load(|| false).unwrap(), here.load(|| false).unwrap());
        assert_eq!(there.put(&old, false).unwrap_err().code, Code::AlreadyExists, "there is no way back");
    }

    #[test]
    fn a_seed_that_was_named_is_never_made() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("elsewhere");
        let named = SeedFile::new(place.path(), SeedChoice::File(path.clone())).unwrap();
        assert_eq!(named.load(|| false).unwrap_err().code, Code::State);
        assert!(!path.exists());
        let seed = in_home(place.path()).load(|| false).unwrap();
        fs::rename(place.path().join("seed"), &path).unwrap();
        assert_eq!(named.load(|| false).unwrap(), seed);
        assert!(SeedFile::new(place.path(), SeedChoice::Nobody).is_none());
    }
}
