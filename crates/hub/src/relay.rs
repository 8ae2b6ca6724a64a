//! The hub's blind relay: it carries the bytes of peers that find no direct way to each other, and can't
//! read them. By default it serves the peers of the hub's own open tasks.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use hyperdht::Dht;
use hyperdht::relay::{AdmitHook, Relay, RelayLimits, RelayOptions};
use secret_stream::{KeyPair, PublicKey};

use crate::announced;
use crate::error::Error;
use crate::relay_allowlist::RelayAllowlist;
use crate::sql::Pool;
use crate::store;

/// Whom the relay of a hub serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RelayAccess {
    /// Two peers if the key of one of them stands in an open task of this hub.
    #[default]
    Tasks,
    /// Everybody who knows its key.
    Open,
    /// Nobody: there is none.
    Off,
}

/// What decides whom a relay serves.
pub(crate) struct Admission {
    pub(crate) access: RelayAccess,
    /// Of the hub's tasks.
    pub(crate) readers: Pool,
    pub(crate) allowlist: Arc<RelayAllowlist>,
}

/// Starts the relay on a node of the hub's DHT, with the key that is kept in `file`.
pub(crate) async fn start(
    node: &Dht,
    file: &Path,
    admission: Admission,
    limits: RelayLimits,
) -> Result<Option<Relay>, Error> {
    let admit = match admission.access {
        RelayAccess::Off => return Ok(None),
        RelayAccess::Open => None,
        RelayAccess::Tasks => Some(admit_known(admission)),
    };
    let keys = keys(file)?;
    let relay = node.relay(keys, RelayOptions { admit, limits }).await;
    relay.map(Some).map_err(|error| Error::Dht(format!("no relay: {error}")))
}

/// Admits the keys on the allowlist, and those that open tasks name.
fn admit_known(Admission { readers, allowlist, .. }: Admission) -> AdmitHook {
    Arc::new(move |key| {
        let readers = readers.clone();
        let is_allowed = allowlist.contains(Instant::now(), &key);
        Box::pin(async move {
            if is_allowed {
                return true;
            }
            is_announced(&readers, &key).await.unwrap_or_else(|error| {
                tracing::warn!("whom the relay serves cannot be read: {error}");
                false
            })
        }) as BoxFuture<'static, bool>
    })
}

async fn is_announced(readers: &Pool, key: &PublicKey) -> sqlx::Result<bool> {
    announced::is_announced(&mut readers.acquire().await?, key).await
}

/// The relay's key pair. Its seed is kept in the file, so that the relay has the same key after a restart.
fn keys(file: &Path) -> Result<KeyPair, Error> {
    let failed = |source| Error::Folder { path: file.to_owned(), source };
    if let Ok(kept) = std::fs::read(file)
        && let Ok(seed) = <[u8; 32]>::try_from(kept)
    {
        return Ok(KeyPair::from_seed(&seed));
    }
    let keys = KeyPair::generate();
    store::private_file(file).map_err(failed)?;
    std::fs::write(file, keys.seed()).map_err(failed)?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_kept_and_nonsense_is_replaced() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("relay.seed");
        let first = keys(&file).expect("made").public_key();
        assert_eq!(keys(&file).expect("read").public_key(), first);
        std::fs::write(&file, "nonsense").expect("written");
        let second = keys(&file).expect("made").public_key();
        assert!(second != first && keys(&file).expect("read").public_key() == second);
    }
}
