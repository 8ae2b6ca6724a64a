//! The state of a task.

use std::fmt;

/// The most characters that are kept of a state this client does not know.
const MAX_NAME: usize = 128;

/// The state of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// To be claimed.
    Pending,
    /// Claimed, by the task's assignee.
    InProgress,
    /// Done.
    Completed,
    /// Withdrawn by who made it.
    Cancelled,
    /// Given up by who had claimed it.
    Failed,
    /// Declined by whom it was for.
    Rejected,
    /// One that this client does not know.
    Other(String),
}

impl Status {
    /// Reads a state by its name.
    pub fn from_name(name: &str) -> Self {
        match name {
            "pending" => Self::Pending,
            "in_progress" => Self::InProgress,
            "completed" => Self::Completed,
            "cancelled" | "canceled" => Self::Cancelled,
            "failed" => Self::Failed,
            "rejected" => Self::Rejected,
            other => Self::Other(other.chars().take(MAX_NAME).collect()),
        }
    }

    /// The state's name in the service's language.
    pub fn name(&self) -> &str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Other(name) => name,
        }
    }

    /// Whether the task has come to one of its four ends.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Failed | Self::Rejected)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
