//! One actor that was met, and how it stands in the file of them.

use protocol::handover::Handover;
use protocol::scope::Scope;
use protocol::text::display;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::{Code, Error};

/// Former identities that are kept of one actor, the newest.
const MAX_FORMER: usize = 8;

/// Refused identities that are kept of one actor: enough to tell a change from a dispute.
const MAX_REFUSED: usize = 4;

/// An actor that was met, and the identity that it goes by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownPeer {
    /// The task service, in its canonical form.
    pub url: String,
    /// The organization on it.
    pub organization: String,
    /// The project of that.
    pub project: String,
    /// The actor's id there.
    pub actor: String,
    /// The pinned identity.
    #[serde(with = "hex_text")]
    pub identity: [u8; 32],
    /// When it was pinned.
    #[serde(with = "time_text")]
    pub first_seen: OffsetDateTime,
    /// When a transfer with it was verified last, to the hour.
    #[serde(with = "time_text")]
    pub last_seen: OffsetDateTime,
    /// Whether a person accepted it; else it was the first one that was met.
    pub accepted: bool,
    /// Other identities that the actor showed since, and when each came first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<OtherIdentity>,
    /// Those that were pinned before, and when each handed over to the next: what they signed still stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<OtherIdentity>,
}

/// An identity of an actor beside the pinned one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherIdentity {
    /// The identity.
    #[serde(with = "hex_text")]
    pub identity: [u8; 32],
    /// Since when it is that.
    #[serde(with = "time_text")]
    pub at: OffsetDateTime,
}

impl KnownPeer {
    pub(super) fn new(scope: &Scope, actor: &str, identity: [u8; 32], now: OffsetDateTime) -> Self {
        Self {
            url: scope.url().to_owned(),
            organization: scope.organization().to_owned(),
            project: scope.project().to_owned(),
            actor: actor.to_owned(),
            identity,
            first_seen: now,
            last_seen: now,
            accepted: false,
            refused: Vec::new(),
            former: Vec::new(),
        }
    }

    pub(super) fn is_in(&self, scope: &Scope) -> bool {
        (self.url.as_str(), self.organization.as_str(), self.project.as_str())
            == (scope.url(), scope.organization(), scope.project())
    }

    pub(super) fn is(&self, scope: &Scope, actor: &str) -> bool {
        self.actor == actor && self.is_in(scope)
    }

    /// Whether the pinned identity says that this one takes its place.
    pub(super) fn hands_over_to(&self, identity: &[u8; 32], handovers: &[Handover]) -> bool {
        handovers.iter().any(|handover| handover.is_of(&self.identity, identity))
    }

    /// Takes the identity that the pinned one hands over to.
    pub(super) fn hand_over(&mut self, identity: [u8; 32], now: OffsetDateTime) {
        let before = std::mem::replace(&mut self.identity, identity);
        let surplus = (self.former.len() + 1).saturating_sub(MAX_FORMER);
        self.former.drain(..surplus);
        self.former.push(OtherIdentity { identity: before, at: now });
        self.refused.clear();
        (self.first_seen, self.last_seen) = (now, now);
    }

    /// Whether this is the pinned identity, or was before that handed over.
    pub(super) fn is_or_was(&self, identity: &[u8; 32]) -> bool {
        self.identity == *identity || self.former.iter().any(|former| former.identity == *identity)
    }

    /// Notes an identity that was refused; whether there was room for it, and it is new.
    pub(super) fn note_refused(&mut self, identity: &[u8; 32], now: OffsetDateTime) -> bool {
        let is_new = self.refused.iter().all(|refused| refused.identity != *identity);
        let noted = is_new && self.refused.len() < MAX_REFUSED;
        if noted {
            self.refused.push(OtherIdentity { identity: *identity, at: now });
        }
        noted
    }

    /// Why another identity than the pinned one, or none, is refused, and what to do.
    pub(super) fn refuses(&self, shown: Option<&[u8; 32]>) -> Error {
        let (actor, pinned, since) =
            (display(&self.actor), hex::encode(self.identity), date(self.first_seen));
        let message = match shown.map(hex::encode) {
            Some(shown) => format!(
                "{actor} shows another identity than the one that is known: {shown}, not {pinned} (since \
                 {since}). Either somebody else goes by that name, or {actor} runs with another seed: a new \
                 one, or on another machine, where `ats-p2p id export` and `import` take the seed to. Ask \
                 there for `ats-p2p id`; if that is the identity, accept it: \
                 ats-p2p peers accept {actor} {shown}"
            ),
            None => format!(
                "{actor} shows no identity, and is known by {pinned} (since {since}). Either somebody else \
                 goes by that name, or {actor} runs without an identity, or with a version that has none; to \
                 take what comes from {actor} on faith again: ats-p2p peers forget {actor}"
            ),
        };
        Error::new(Code::Identity, message)
    }
}

/// Why a signature proves nothing of an actor.
pub(super) fn not_vouched_for(actor: &str, identity: &[u8; 32], known: Option<&KnownPeer>) -> Error {
    let (actor, identity) = (display(actor), hex::encode(identity));
    let message = match known {
        Some(known) => format!(
            "this is signed in the name of {actor} by {identity}, and {actor} is known by {} (since {})",
            hex::encode(known.identity),
            date(known.first_seen)
        ),
        None => format!(
            "this is signed in the name of {actor} by {identity}, which is not known here. Ask there for \
             `ats-p2p id`; if that is the identity, accept it: ats-p2p peers accept {actor} {identity}"
        ),
    };
    Error::new(Code::Identity, message)
}

fn date(at: OffsetDateTime) -> String {
    at.date().to_string()
}

/// Bytes as lower-case hex.
mod hex_text {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| D::Error::custom("not 64 hex digits"))?;
        Ok(bytes)
    }
}

/// A moment in RFC 3339.
mod time_text {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{OffsetDateTime, Rfc3339};

    pub(super) fn serialize<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&at.format(&Rfc3339).map_err(S::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<OffsetDateTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        OffsetDateTime::parse(&text, &Rfc3339).map_err(D::Error::custom)
    }
}
