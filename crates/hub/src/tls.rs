//! TLS by certificate files, which are read anew when they change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::sync::lock;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The files of a certificate, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those of the authorities between it and the one that clients know.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Speaks TLS with clients, by the certificate that is in the files.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    current: Arc<Current>,
    files: TlsFiles,
    /// What the files were when they were last read.
    seen: [Stamp; 2],
}

/// The certificate that new connections get.
#[derive(Debug)]
struct Current {
    key: Mutex<Arc<CertifiedKey>>,
    provider: Arc<CryptoProvider>,
}

/// What tells that a file was changed.
type Stamp = Option<(SystemTime, u64)>;

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Error::Tls`] says what is wrong with them.
    pub(crate) fn new(files: TlsFiles) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let failed = |reason: String| Error::Tls { certificate: files.certificate.clone(), reason };
        let seen = stamps(&files);
        let key = Mutex::new(Arc::new(read(&files, &provider).map_err(failed)?));
        let current = Arc::new(Current { key, provider: provider.clone() });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), current, files, seen })
    }

    /// What makes a connection one of TLS.
    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Reads the files anew whenever they change, until `stop`.
    pub(crate) async fn watch(mut self, stop: CancellationToken) {
        let mut turn = interval(LOOK_EVERY);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(turn.tick()).await.is_some() {
            self.look();
        }
    }

    /// Reads the files anew if they changed. While they can't be used, what was read before stays.
    fn look(&mut self) {
        let found = stamps(&self.files);
        if found == self.seen {
            return;
        }
        self.seen = found;
        let shown = self.files.certificate.display();
        match read(&self.files, &self.current.provider) {
            Ok(key) => {
                *lock(&self.current.key) = Arc::new(key);
                tracing::info!("the certificate in {shown} was changed and is in use from now on");
            }
            Err(reason) => tracing::error!(
                "the certificate in {shown} was changed and cannot be used, so the one before stays: {reason}"
            ),
        }
    }
}

fn stamps(files: &TlsFiles) -> [Stamp; 2] {
    [&files.certificate, &files.key].map(|file| {
        let meta = std::fs::metadata(file).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    })
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(lock(&self.key).clone())
    }
}

/// Reads a certificate and its key. Neither is in what it says of a failure.
fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let in_file = |file: &Path, error: &dyn fmt::Display| format!("{}: {error}", file.display());
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| in_file(&files.certificate, &error))?;
    if chain.is_empty() {
        return Err(in_file(&files.certificate, &"it holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| in_file(&files.key, &error))?;
    // That the two belong together is checked here.
    CertifiedKey::from_der(chain, key, provider).map_err(|error| in_file(&files.key, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, key: &rcgen::KeyPair, other: &rcgen::KeyPair) -> TlsFiles {
        let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let files = TlsFiles { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
        std::fs::write(&files.certificate, parameters.self_signed(key).expect("a certificate").pem())
            .expect("written");
        std::fs::write(&files.key, other.serialize_pem()).expect("written");
        files
    }

    fn chain(tls: &Tls) -> CertificateDer<'static> {
        lock(&tls.current.key).cert[0].clone()
    }

    #[test]
    fn a_new_pair_is_taken_and_a_broken_one_leaves_the_old() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (first, second) = (rcgen::KeyPair::generate(), rcgen::KeyPair::generate());
        let (first, second) = (first.expect("a key"), second.expect("a key"));
        let mut tls = Tls::new(write(dir.path(), &first, &first)).expect("a pair");
        let old = chain(&tls);
        // The certificate comes before its key, as when both are copied one after the other.
        write(dir.path(), &second, &first);
        tls.look();
        assert_eq!(chain(&tls), old);
        std::fs::write(dir.path().join("key.pem"), "nonsense").expect("written");
        tls.look();
        assert_eq!(chain(&tls), old);
        std::fs::write(dir.path().join("key.pem"), second.serialize_pem()).expect("written");
        tls.look();
        assert_ne!(chain(&tls), old);
    }

    #[test]
    fn files_that_are_no_pair_are_said_so_without_what_is_in_them() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let key = rcgen::KeyPair::generate().expect("a key");
        let files = write(dir.path(), &key, &key);
        Tls::new(files.clone()).expect("a pair");

        let secret = key.serialize_pem();
        let another = rcgen::KeyPair::generate().expect("a key");
        let mismatched = Tls::new(write(dir.path(), &key, &another)).expect_err("two keys").to_string();
        std::fs::write(&files.certificate, "").expect("written");
        let empty = Tls::new(files.clone()).expect_err("empty").to_string();
        std::fs::write(&files.key, &secret).expect("written");
        let swapped = TlsFiles { certificate: files.key.clone(), key: files.certificate.clone() };
        let swapped = Tls::new(swapped).expect_err("swapped").to_string();
        std::fs::remove_file(&files.key).expect("removed");
        let missing = Tls::new(files).expect_err("missing").to_string();
        for (text, part) in
            [(mismatched, "key.pem"), (empty, "cert.pem"), (swapped, "key.pem"), (missing, "cert.pem")]
        {
            assert!(text.contains(part), "{text}");
            let is_shown =
                secret.lines().filter(|line| !line.starts_with('-')).any(|line| text.contains(line));
            assert!(!is_shown, "{text}");
        }
    }
}
