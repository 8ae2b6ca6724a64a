//! A PostgreSQL server of the tests' own, and the hub's API from it.

use std::fs::Permissions;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::database::SERVER;

/// Debian's PostgreSQL, the newest that is installed, is in a folder of this one.
const DEBIAN: &str = "/usr/lib/postgresql";
/// Which user runs it where the tests run as root, which it refuses.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A server on a port of its own, which ends with this, or with this process.
pub(crate) struct Server {
    programs: PathBuf,
    user: Option<&'static str>,
    dir: tempfile::TempDir,
    port: u16,
    /// None while it is stopped.
    process: Option<Child>,
}

impl Server {
    /// Starts one; `None`, which is said, where it is not installed or can't be run by this user.
    pub(crate) fn start() -> Option<Self> {
        let mut server = Self::make()?;
        server.start_again();
        Some(server)
    }

    /// [`Server::start`] for one that speaks TLS with this certificate and its key, both in PEM.
    pub(crate) fn start_with_tls(certificate: &str, key: &str) -> Option<Self> {
        let mut server = Self::make()?;
        let settings = server.data().join("postgresql.conf");
        let own = std::fs::read_to_string(&settings).expect("settings");
        let tls = "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n";
        std::fs::write(&settings, format!("{own}\n{tls}")).expect("written");
        for (name, content) in [("server.crt", certificate), ("server.key", key)] {
            let file = server.data().join(name);
            std::fs::write(&file, content).expect("written");
            // It reads no key that others could.
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
            server.give(&file);
        }
        server.start_again();
        Some(server)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// One with its files made, which does not run yet.
    fn make() -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("skipped: PostgreSQL is not installed");
            return None;
        };
        let user = match is_root() {
            false => None,
            true => match USERS.into_iter().find(|user| runs("setpriv", &["--reuid", user, "true"])) {
                Some(user) => Some(user),
                None => {
                    eprintln!("skipped: PostgreSQL does not run as root, and there is no setpriv");
                    return None;
                }
            },
        };
        let dir = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let server = Self { programs, user, dir, port, process: None };
        server.give(server.dir.path());
        let made = server
            .command("initdb", &[])
            .args([
                "--username=hub",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--pgdata",
            ])
            .arg(server.data())
            .output()
            .expect("initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(server)
    }

    /// Makes a file or folder that of the user who runs it.
    fn give(&self, path: &Path) {
        if let Some(user) = self.user {
            assert!(Command::new("chown").arg(user).arg(path).status().expect("chown").success());
        }
    }

    /// Where it is, without a database.
    pub(crate) fn url(&self) -> String {
        format!("postgres://hub@127.0.0.1:{}", self.port)
    }

    /// Starts it after [`Server::stop`], and waits until it takes connections.
    pub(crate) fn start_again(&mut self) {
        // It ends when this process does, however that ends: then there is nothing more to read.
        let watched = r#""$@" & server=$!; exec 2>&-; read line; kill -INT $server; wait $server"#;
        let mut process = self
            .command("postgres", &["sh", "-c", watched, "sh"])
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-k", ""])
            .args(["-c", "fsync=off", "-c", "max_connections=300", "-c", "logging_collector=off"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut said = BufReader::new(process.stderr.take().expect("its errors"));
        let mut all = String::new();
        while !all.contains("ready to accept connections") {
            assert!(said.read_line(&mut all).expect("read") > 0, "PostgreSQL did not start: {all}");
        }
        // What it says later is read, so that it never waits for that.
        std::thread::spawn(move || said.read_to_end(&mut Vec::new()));
        self.process = Some(process);
    }

    /// Stops it, whatever its clients are doing.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.wait().expect("ended");
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// One of its programs, run by what comes before it.
    fn command(&self, program: &str, before: &[&str]) -> Command {
        let program = self.programs.join(program);
        let user = self.user.map(|user| ["setpriv", "--reuid", user, "--clear-groups", "--"]);
        let words = before.iter().copied().chain(user.into_iter().flatten());
        let mut words = words.map(PathBuf::from).chain([program]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).current_dir(self.dir.path()).env("LC_ALL", "C");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that no connection of this machine gets by chance while the server is stopped.
fn free_port() -> u16 {
    let random = RandomState::new();
    let mut candidates = (0..1000_u32).map(|n| 20_000 + (random.hash_one(n) % 10_000) as u16);
    candidates.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port")
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(DEBIAN).ok()?.flatten();
    let version = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let found = versions.map(|entry| entry.path()).filter(|path| path.join("bin/postgres").exists());
    found.max_by_key(|path| version(path)).map(|path| path.join("bin"))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    String::from_utf8_lossy(&id.stdout).trim() == "0"
}

fn runs(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// What the API does on SQLite it does on PostgreSQL: the same tests, but for those about the file itself,
/// and one whose clock runs ahead of the server's.
#[test]
fn the_whole_api_is_the_same_on_postgresql() {
    const MODULES: [&str; 8] =
        ["access::", "events::", "http::", "life::", "page::", "permissions::", "relay::", "store::"];
    const OTHERS: [&str; 5] = [
        "a_backup_",
        "the_open_tasks_of_a_database_of_version_1",
        "the_database_does_not_grow",
        "what_was_answered_survives_a_kill",
        "callers_that_dawdle_are_sent_away",
    ];
    let Some(server) = Server::start() else { return };
    let mut run = Command::new(std::env::current_exe().expect("this program"));
    run.args(MODULES).env(SERVER, server.url());
    for name in OTHERS {
        run.args(["--skip", name]);
    }
    let run = run.output().expect("a process");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("test result: ok.") && !said.contains("running 0 tests"), "{said}");
}
