//! The tables of keys and invitations: one function a statement, or a few that belong together. Their times
//! are those of [`Millis`].

use std::net::IpAddr;
use std::time::Duration;

use super::secret::Secret;
use crate::sql::{Connection, Row, query};
use crate::time::Millis;

/// How long an invitation can be taken.
pub(crate) const INVITATION_TIME: Duration = Duration::from_secs(60 * 60);

/// What a key is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The one actor that it speaks for.
    pub(crate) actor: String,
    /// Whether it may do all, to the tasks of all.
    pub(crate) is_admin: bool,
    /// How long it holds from when it is made; for ever if `None`.
    pub(crate) lifetime: Option<Duration>,
}

/// A key as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) id: i64,
    pub(crate) actor: String,
    pub(crate) is_admin: bool,
    pub(crate) created_at: Millis,
    pub(crate) expires_at: Option<Millis>,
    pub(crate) revoked_at: Option<Millis>,
    pub(crate) last_used: Option<Millis>,
}

impl Key {
    /// Whether it opens anything.
    pub(crate) fn holds(&self, now: Millis) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|until| now < until)
    }
}

/// What is noted in the log of keys, which is only ever added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noted {
    Created,
    Revoked,
    Invited,
    Joined,
}

impl Noted {
    fn name(self) -> &'static str {
        match self {
            Self::Created => "key.created",
            Self::Revoked => "key.revoked",
            Self::Invited => "invitation.created",
            Self::Joined => "invitation.redeemed",
        }
    }
}

/// Keeps a new key; gives its id.
pub(crate) async fn create(
    connection: &mut Connection,
    secret: &Secret,
    grant: &Grant,
    now: Millis,
) -> sqlx::Result<i64> {
    let id = insert(connection, secret, grant, now).await?;
    note(connection, Noted::Created, Some(id), &grant.actor, None, now).await?;
    Ok(id)
}

/// The key that a secret is, whether it still holds or not.
pub(crate) async fn find(connection: &mut Connection, secret: &Secret) -> sqlx::Result<Option<Key>> {
    let hash = secret.hash();
    let row = query("SELECT * FROM access_keys WHERE hash = $1")
        .bind(hash.as_str())
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    if !hash.is(row.try_get("hash")?) {
        return Ok(None);
    }
    Ok(Some(key(&row)?))
}

/// All keys, in the order in which they were made.
pub(crate) async fn list(connection: &mut Connection) -> sqlx::Result<Vec<Key>> {
    let rows = query("SELECT * FROM access_keys ORDER BY id").fetch_all(connection).await?;
    rows.iter().map(key).collect()
}

/// Those of some keys that no longer open anything.
pub(crate) async fn over(connection: &mut Connection, ids: &[i64], now: Millis) -> sqlx::Result<Vec<i64>> {
    let mut over = Vec::new();
    for &id in ids {
        let row =
            query("SELECT * FROM access_keys WHERE id = $1").bind(id).fetch_optional(connection).await?;
        let holds = row.as_ref().map(key).transpose()?.is_some_and(|key| key.holds(now));
        if !holds {
            over.push(id);
        }
    }
    Ok(over)
}

/// Ends a key; `None` if there is none of that id. One that was revoked before stays as it is.
pub(crate) async fn revoke(connection: &mut Connection, id: i64, now: Millis) -> sqlx::Result<Option<Key>> {
    let revoked = query("UPDATE access_keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
        .bind(now.0)
        .bind(id)
        .execute(connection)
        .await?;
    let row = query("SELECT * FROM access_keys WHERE id = $1").bind(id).fetch_optional(connection).await?;
    let Some(key) = row.as_ref().map(key).transpose()? else { return Ok(None) };
    if revoked > 0 {
        note(connection, Noted::Revoked, Some(id), &key.actor, None, now).await?;
    }
    Ok(Some(key))
}

/// Notes when keys were last used.
pub(crate) async fn note_uses(connection: &mut Connection, uses: &[(i64, Millis)]) -> sqlx::Result<()> {
    for (id, at) in uses {
        query(
            "UPDATE access_keys SET last_used = $1 WHERE id = $2 AND (last_used IS NULL OR last_used < $1)",
        )
        .bind(at.0)
        .bind(*id)
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Keeps a new invitation; gives when it ends.
pub(crate) async fn invite(
    connection: &mut Connection,
    token: &Secret,
    grant: &Grant,
    now: Millis,
) -> sqlx::Result<Millis> {
    let until = now.plus(INVITATION_TIME);
    let lifetime = grant.lifetime.map(|lifetime| i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX));
    query(
        "INSERT INTO invitations (hash, actor_id, is_admin, key_lifetime, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(token.hash().as_str())
    .bind(&grant.actor)
    .bind(i64::from(grant.is_admin))
    .bind(lifetime)
    .bind(now.0)
    .bind(until.0)
    .execute(connection)
    .await?;
    note(connection, Noted::Invited, None, &grant.actor, None, now).await?;
    Ok(until)
}

/// Takes an invitation, once, and keeps the key that it is for; gives what the key was made for. `None` if
/// there is no such invitation, or it was taken before, or its time is over. Must be in a transaction.
pub(crate) async fn redeem(
    connection: &mut Connection,
    token: &Secret,
    key: &Secret,
    address: IpAddr,
    now: Millis,
) -> sqlx::Result<Option<Grant>> {
    let hash = token.hash();
    // One statement finds and takes it: of two at once, one finds it taken.
    let taken = query(
        "UPDATE invitations SET redeemed_at = $1 WHERE hash = $2 AND redeemed_at IS NULL AND expires_at > $1",
    )
    .bind(now.0)
    .bind(hash.as_str())
    .execute(connection)
    .await?;
    if taken == 0 {
        return Ok(None);
    }
    let row =
        query("SELECT * FROM invitations WHERE hash = $1").bind(hash.as_str()).fetch_one(connection).await?;
    let lifetime = row.try_get::<Option<i64>>("key_lifetime")?;
    let grant = Grant {
        actor: row.try_get("actor_id")?,
        is_admin: row.try_get::<i64>("is_admin")? != 0,
        lifetime: lifetime.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))),
    };
    let id = insert(connection, key, &grant, now).await?;
    note(connection, Noted::Joined, Some(id), &grant.actor, Some(address), now).await?;
    Ok(Some(grant))
}

async fn insert(
    connection: &mut Connection,
    secret: &Secret,
    grant: &Grant,
    now: Millis,
) -> sqlx::Result<i64> {
    query(
        "INSERT INTO access_keys (hash, actor_id, is_admin, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5) RETURNING id",
    )
    .bind(secret.hash().as_str())
    .bind(&grant.actor)
    .bind(i64::from(grant.is_admin))
    .bind(now.0)
    .bind(grant.lifetime.map(|lifetime| now.plus(lifetime).0))
    .fetch_value(connection)
    .await
}

async fn note(
    connection: &mut Connection,
    what: Noted,
    key: Option<i64>,
    actor: &str,
    address: Option<IpAddr>,
    now: Millis,
) -> sqlx::Result<()> {
    query("INSERT INTO access_log (at, what, key_id, actor_id, address) VALUES ($1, $2, $3, $4, $5)")
        .bind(now.0)
        .bind(what.name())
        .bind(key)
        .bind(actor)
        .bind(address.map(|address| address.to_string()))
        .execute(connection)
        .await?;
    Ok(())
}

fn key(row: &Row) -> sqlx::Result<Key> {
    let time = |column: &str| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>>(column)?.map(Millis));
    Ok(Key {
        id: row.try_get("id")?,
        actor: row.try_get("actor_id")?,
        is_admin: row.try_get::<i64>("is_admin")? != 0,
        created_at: Millis(row.try_get("created_at")?),
        expires_at: time("expires_at")?,
        revoked_at: time("revoked_at")?,
        last_used: time("last_used")?,
    })
}
