//! Keys and invitations for who runs the hub: on its database, whether it runs or not. A running hub knows of
//! each change at once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{self, Grant, Key};
use super::secret::{Purpose, Secret};
use crate::error::Error;
use crate::input;
use crate::sql::Connection;
use crate::store::{self, Database, Folder, PostgresUrl};
use crate::time::Millis;

/// The file beside the database that names the URL of the hub.
const URL_FILE: &str = "url";

/// The keys of the hub whose data is in a folder.
#[derive(Debug)]
pub struct HubKeys {
    connection: Connection,
    /// As errors name it.
    database: String,
    data: PathBuf,
}

/// A key that was just made. Its text is kept nowhere else. `Debug` does not show it.
#[derive(Debug)]
pub struct NewKey {
    /// By which it is listed and revoked.
    pub id: i64,
    secret: Secret,
}

/// An invitation that was just made. Its text is kept nowhere else. `Debug` does not show it.
#[derive(Debug)]
pub struct Invitation {
    /// When it ends, in RFC 3339.
    pub expires_at: String,
    token: Secret,
}

/// What is known of a key. Times are in RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// By which it is revoked.
    pub id: i64,
    /// The actor that it speaks for.
    pub actor: String,
    /// Whether it sees and changes the tasks of all.
    pub is_admin: bool,
    /// When it was made.
    pub created_at: String,
    /// When it ends, if it ever does.
    pub expires_at: Option<String>,
    /// When it was revoked.
    pub revoked_at: Option<String>,
    /// When it was last used, within ten seconds.
    pub last_used: Option<String>,
}

impl NewKey {
    /// The key, to be shown once.
    pub fn expose(&self) -> &str {
        self.secret.expose()
    }
}

impl Invitation {
    /// The token, to be shown once.
    pub fn expose(&self) -> &str {
        self.token.expose()
    }
}

impl HubKeys {
    /// Opens the hub's database, which is the one of the URL, else a file in the folder; makes it if there is
    /// none yet.
    ///
    /// # Errors
    /// [`Error`] says what could not be had: the folder or the database.
    pub async fn open(data: &Path, url: Option<&PostgresUrl>) -> Result<Self, Error> {
        Folder::make(data)?;
        let (_, connection) = Database::open(data, url).await?;
        Ok(Self { connection, database: store::name(data, url), data: data.to_owned() })
    }

    /// Makes a key for an actor; `lifetime` is how long it holds, for ever if `None`.
    ///
    /// # Errors
    /// [`Error::Actor`] if that is no actor's id, and those of the database.
    pub async fn create(
        &mut self,
        actor: &str,
        is_admin: bool,
        lifetime: Option<Duration>,
    ) -> Result<NewKey, Error> {
        let grant = grant(actor, is_admin, lifetime)?;
        let secret = generate(Purpose::Key)?;
        let id =
            self.change(async |connection, now| keys::create(connection, &secret, &grant, now).await).await?;
        Ok(NewKey { id, secret })
    }

    /// All keys, in the order in which they were made.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(&mut self) -> Result<Vec<KeyInfo>, Error> {
        let listed = keys::list(&mut self.connection).await.map_err(|error| self.failed(&error))?;
        Ok(listed.into_iter().map(KeyInfo::from).collect())
    }

    /// Ends a key at once; gives what is known of it, or `None` if there is none of that id.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn revoke(&mut self, id: i64) -> Result<Option<KeyInfo>, Error> {
        let revoked = self.change(async |connection, now| keys::revoke(connection, id, now).await).await?;
        Ok(revoked.map(KeyInfo::from))
    }

    /// Invites an actor to get a key of its own; `lifetime` is how long that key will hold.
    ///
    /// # Errors
    /// As [`HubKeys::create`].
    pub async fn invite(
        &mut self,
        actor: &str,
        is_admin: bool,
        lifetime: Option<Duration>,
    ) -> Result<Invitation, Error> {
        let grant = grant(actor, is_admin, lifetime)?;
        let token = generate(Purpose::Invitation)?;
        let until =
            self.change(async |connection, now| keys::invite(connection, &token, &grant, now).await).await?;
        Ok(Invitation { expires_at: until.to_text(), token })
    }

    /// Where the hub could be called when it was last started.
    pub fn url(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.data.join(URL_FILE)).ok()?;
        Some(text.trim().to_owned()).filter(|url| !url.is_empty())
    }

    /// Closes the database.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn close(self) -> Result<(), Error> {
        let database = self.database;
        let failed = |error: sqlx::Error| Error::Database { database, reason: error.to_string() };
        self.connection.close().await.map_err(failed)
    }

    /// Makes a change, whole or not at all, at this moment.
    async fn change<T>(
        &mut self,
        make: impl AsyncFnOnce(&mut Connection, Millis) -> sqlx::Result<T>,
    ) -> Result<T, Error> {
        let Self { connection, .. } = self;
        let made: sqlx::Result<T> = async {
            let now = connection.begin().await?;
            let made = make(connection, now).await?;
            connection.commit().await?;
            Ok(made)
        }
        .await;
        if made.is_err() {
            // Where the connection itself is broken, that has ended the transaction.
            let _ = connection.roll_back().await;
        }
        made.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &sqlx::Error) -> Error {
        Error::Database { database: self.database.clone(), reason: error.to_string() }
    }
}

impl From<Key> for KeyInfo {
    fn from(key: Key) -> Self {
        Self {
            id: key.id,
            actor: key.actor,
            is_admin: key.is_admin,
            created_at: key.created_at.to_text(),
            expires_at: key.expires_at.map(Millis::to_text),
            revoked_at: key.revoked_at.map(Millis::to_text),
            last_used: key.last_used.map(Millis::to_text),
        }
    }
}

/// Keeps the URL of a hub for [`HubKeys::url`]. Without it an invitation just names none.
pub(crate) fn keep_url(data: &Path, url: &str) {
    let file = data.join(URL_FILE);
    if let Err(error) = std::fs::write(&file, url) {
        tracing::warn!("the hub's URL cannot be kept in {}: {error}", file.display());
    }
}

fn grant(actor: &str, is_admin: bool, lifetime: Option<Duration>) -> Result<Grant, Error> {
    let actor = input::actor_id(actor).map_err(|refusal| Error::Actor(refusal.message))?;
    Ok(Grant { actor, is_admin, lifetime })
}

fn generate(purpose: Purpose) -> Result<Secret, Error> {
    Secret::generate(purpose).map_err(|error| Error::Random(error.to_string()))
}
