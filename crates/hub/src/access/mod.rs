//! Who is let in, and as whom: keys, who needs one, and what a request may see and do with it.
//!
//! # Layout
//! - `secret`: keys and invitations as texts, and their hashes.
//! - `keys`: their tables.
//! - `guard`: the keys in use: whose connections are cut when one is revoked.
//! - `sessions`: who has signed in to the page with a key.
//! - `admin`: keys and invitations for who runs the hub.

pub(crate) mod admin;
pub(crate) mod guard;
pub(crate) mod keys;
pub(crate) mod secret;
pub(crate) mod sessions;

use std::net::IpAddr;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use ipnet::IpNet;

use crate::error::Refusal;
use crate::sql::Pool;
use crate::task::{Actor, Rights, View};
use keys::Key;
use secret::{Purpose, Secret};
use sessions::Session;

/// Who is let in without a key, besides this machine itself.
#[derive(Debug, Clone, Default)]
pub struct AccessConfig {
    /// Everybody.
    pub open: bool,
    /// Clients of these networks.
    pub trust: Vec<IpNet>,
    /// Take keys over plain HTTP from other machines too, where anybody on the way can read them.
    pub insecure: bool,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Of the client, as far as that can be known.
    pub(crate) client: IpAddr,
    /// Whether it comes from another machine, or may.
    pub(crate) is_remote: bool,
    /// Whether it came over TLS.
    pub(crate) is_encrypted: bool,
}

/// Who asks, and with what right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Requester {
    /// `None` where the request does not say.
    pub(crate) actor: Option<Actor>,
    /// `None` without a key where one is needed: it may know that the hub is alive.
    pub(crate) rights: Option<Rights>,
    /// The key that was shown.
    pub(crate) key: Option<i64>,
}

impl Requester {
    /// Refuses who does not see the tasks of all.
    pub(crate) fn check_sees_all(&self) -> Result<(), Refusal> {
        match self.view() {
            View::All => Ok(()),
            View::Of(_) => Err(Refusal::forbidden("this is shown to an admin's key alone")),
        }
    }

    /// Which tasks there are for them.
    pub(crate) fn view(&self) -> View {
        match (&self.actor, self.rights) {
            (Some(actor), Some(rights)) => View::of(&actor.id, rights),
            _ => View::All,
        }
    }
}

impl AccessConfig {
    /// Finds out who sends a request and with what right; `secret` is the key that it shows, `claimed` who it
    /// says it is.
    ///
    /// # Errors
    /// 401 for a key that opens nothing, 403 for one that was shown to everybody on the way, or that is
    /// another actor's than the headers claim.
    pub(crate) async fn admit(
        &self,
        arrival: Arrival,
        secret: Option<Secret>,
        claimed: Option<Actor>,
        readers: &Pool,
    ) -> Result<Requester, Refusal> {
        let Some(secret) = secret else {
            let needs_none = !arrival.is_remote || self.open || self.trusts(arrival.client);
            let rights = needs_none.then_some(Rights::Unproven);
            return Ok(Requester { actor: claimed, rights, key: None });
        };
        let key = self.key(arrival, &secret, readers).await?;
        let actor = speaks_for(&key.actor, claimed)?;
        Ok(Requester { actor: Some(actor), rights: Some(rights_of(key.is_admin)), key: Some(key.id) })
    }

    /// The key that a secret is, if it holds.
    ///
    /// # Errors
    /// 401 for one that opens nothing, 403 for one that was shown to everybody on the way.
    pub(crate) async fn key(
        &self,
        arrival: Arrival,
        secret: &Secret,
        readers: &Pool,
    ) -> Result<Key, Refusal> {
        self.check_way(arrival, "a key")?;
        let key = keys::find(&mut readers.acquire().await?, secret).await?;
        key.filter(|key| key.holds(readers.now()))
            .ok_or_else(|| unauthorized("this key is unknown here, was revoked or has expired"))
    }

    /// [`Self::admit`] for a browser that has signed in; `None` where the key of its session no longer holds.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn admit_session(
        &self,
        arrival: Arrival,
        session: &Session,
        claimed: Option<Actor>,
        readers: &Pool,
    ) -> Result<Option<Requester>, Refusal> {
        self.check_way(arrival, "a session")?;
        let over = keys::over(&mut readers.acquire().await?, &[session.key], readers.now()).await?;
        if !over.is_empty() {
            return Ok(None);
        }
        let actor = speaks_for(&session.actor, claimed)?;
        let rights = Some(rights_of(session.is_admin));
        Ok(Some(Requester { actor: Some(actor), rights, key: Some(session.key) }))
    }

    /// Refuses a secret that came over a way on which others can read it.
    pub(crate) fn check_way(&self, arrival: Arrival, what: &str) -> Result<(), Refusal> {
        if arrival.is_encrypted || !arrival.is_remote || self.insecure {
            return Ok(());
        }
        tracing::warn!("{what} came over plain HTTP from {}: take it for lost", arrival.client);
        Err(Refusal::forbidden(format!(
            "{what} is taken over TLS alone, and this one came over plain HTTP, where others can read it: \
             get another one, and use an https address"
        )))
    }

    fn trusts(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.trust.iter().any(|network| network.contains(&client))
    }
}

/// The refusal of a request without a key where one is needed.
pub(crate) fn key_needed() -> Refusal {
    unauthorized("this hub asks for a key")
}

pub(crate) fn unauthorized(why: &str) -> Refusal {
    let message = format!(
        "{why}: whoever runs it makes one with `ats-p2p hub key create --actor ID`, or invites you with \
         `ats-p2p hub invite --actor ID`; a key is sent as `Authorization: Bearer KEY` (ATS_API_KEY)"
    );
    Refusal { status: StatusCode::UNAUTHORIZED, message }
}

/// The secret that a request carries as `Authorization: Bearer …`, if it has the form of one for this
/// purpose. What has not is for some other service: no hub knows it.
pub(crate) fn bearer(headers: &HeaderMap, purpose: Purpose) -> Option<Secret> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    let secret = Secret::parse(secret.trim(), purpose)?;
    scheme.eq_ignore_ascii_case("bearer").then_some(secret)
}

fn rights_of(is_admin: bool) -> Rights {
    if is_admin { Rights::Admin } else { Rights::Key }
}

/// Whom the key of an actor makes of who its request says it is.
fn speaks_for(holder: &str, claimed: Option<Actor>) -> Result<Actor, Refusal> {
    match claimed {
        None => Ok(Actor { kind: "agent".into(), name: holder.to_owned(), id: holder.to_owned() }),
        Some(actor) if actor.id == holder => Ok(actor),
        Some(actor) => Err(Refusal::forbidden(format!(
            "the key is that of the actor {holder}, and the request says it comes from {}: set ATS_ACTOR_ID \
             (--actor-id) to {holder}",
            actor.id
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_trusted_whichever_way_their_addresses_are_written() {
        let trust = vec!["10.1.0.0/16".parse().expect("a network"), "fd00::/8".parse().expect("a network")];
        let access = AccessConfig { trust, ..AccessConfig::default() };
        for (client, expected) in [
            ("10.1.255.1", true),
            ("::ffff:10.1.0.1", true),
            ("10.2.0.1", false),
            ("fd12::1", true),
            ("fe80::1", false),
        ] {
            assert_eq!(access.trusts(client.parse().expect("an address")), expected, "{client}");
        }
    }

    #[test]
    fn a_key_is_found_behind_its_scheme_alone() {
        let key = Secret::generate(Purpose::Key).expect("random bytes");
        let of = |value: String| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().expect("a header value"));
            bearer(&headers, Purpose::Key)
        };
        let text = key.expose();
        assert_eq!(of(format!("Bearer {text}")), Some(key.clone()));
        assert_eq!(of(format!("bearer  {text} ")), Some(key.clone()));
        for other in [format!("Basic {text}"), text.to_owned(), "Bearer of-another-service".to_owned()] {
            assert_eq!(of(other.clone()), None, "{other}");
        }
        assert_eq!(bearer(&HeaderMap::new(), Purpose::Key), None);
    }
}
