//! Whom the service takes this client for.

use serde_json::Value;

use super::client::Client;
use super::error::{AtsError, AtsResult};
use super::http::Request;

/// Where a service may say it: at the top of its answer, or in one of these objects.
const OBJECTS: [&str; 4] = ["actor", "identity", "me", "user"];
/// The fields that may hold the id of an actor. A number there is some other id.
const IDS: [&str; 3] = ["actor_id", "actorId", "id"];
/// The longest id that is taken, in bytes.
const MAX_ID: usize = 512;

/// What the service said when it was asked who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// The key was taken; the id is whom it speaks for, if the service says so.
    Accepted(Option<String>),
    /// The key was not taken, or is another actor's; why, in the service's words.
    Refused(String),
    /// The service has no such call.
    Unknown,
}

impl Client {
    /// Asks the service whom it takes this client for.
    ///
    /// # Errors
    /// As every call, but for a refusal of the key, which is an answer.
    pub async fn account(&self) -> AtsResult<Account> {
        match self.repeat(self.attempts(), || Request::get(vec!["auth", "me"])).await {
            Ok(answer) => Ok(Account::Accepted(actor_id(&answer))),
            Err(error) if error.is_refused() => Ok(Account::Refused(error.to_string())),
            Err(error) if error.is_not_found() => Ok(Account::Unknown),
            Err(AtsError::Status { status: 405 | 501, .. }) => Ok(Account::Unknown),
            Err(error) => Err(error),
        }
    }
}

fn actor_id(answer: &Value) -> Option<String> {
    let objects = OBJECTS.iter().filter_map(|name| answer.get(name)).chain([answer]);
    let mut ids = objects.flat_map(|object| IDS.iter().filter_map(|name| object.get(name)?.as_str()));
    ids.find(|id| !id.is_empty() && id.len() <= MAX_ID).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_actor_is_found_however_the_service_wraps_it() {
        for (answer, id) in [
            (json!({"actor_id": "a"}), Some("a")),
            (json!({"actor": {"id": "a", "type": "agent"}}), Some("a")),
            (json!({"identity": {"id": 5, "actor_id": "a"}, "id": "row"}), Some("a")),
            (json!({"id": 5}), None),
            (json!({"actor_id": ""}), None),
            (json!(["a"]), None),
            (json!(null), None),
        ] {
            assert_eq!(actor_id(&answer).as_deref(), id, "{answer}");
        }
    }
}
