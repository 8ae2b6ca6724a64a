//! What one check found.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::connection::ConnectionInfo;

/// What a finding means for transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Ok,
    /// Transfers work, but not always or not well.
    Warning,
    /// Transfers fail.
    Failed,
    /// It could not be looked at, because of what another check found.
    Skipped,
}

impl Verdict {
    /// The verdict in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The check, in one word that does not change.
    pub check: &'static str,
    /// What it means.
    pub verdict: Verdict,
    /// What was found, a sentence. Foreign text in it is escaped.
    pub found: String,
    /// What to do, where something is to be done.
    pub advice: Option<String>,
    /// The same for programs.
    pub facts: Map<String, Value>,
    /// The connection that was tried, where one came about.
    pub connection: Option<ConnectionInfo>,
    /// How long the check took, where it had to wait for others.
    pub took: Option<Duration>,
}

impl Finding {
    pub(super) fn new(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self {
            check,
            verdict,
            found: found.into(),
            advice: None,
            facts: Map::new(),
            connection: None,
            took: None,
        }
    }

    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, found)
    }

    pub(super) fn warning(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warning, found)
    }

    pub(super) fn failed(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Failed, found)
    }

    pub(super) fn skipped(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Skipped, found)
    }

    /// A warning in the place of a failure, where transfers go on in another way; `how` follows what was
    /// found.
    pub(super) fn only_warns(self, is_replaced: bool, how: &str) -> Self {
        match self.verdict {
            Verdict::Failed if is_replaced => {
                Self { verdict: Verdict::Warning, found: format!("{}{how}", self.found), ..self }
            }
            _ => self,
        }
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    pub(super) fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    pub(super) fn after(mut self, took: Duration) -> Self {
        self.took = Some(took);
        self
    }
}
