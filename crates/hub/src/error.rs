//! Why a hub does not start, and how it refuses a request.

use std::path::PathBuf;

use axum::Json;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why a hub cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system does not let it listen on the address.
    #[error("the hub cannot listen on {address}: {source}; {}", listen_advice(source))]
    Listen {
        /// As configured.
        address: std::net::SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The data folder or a file in it can't be made, read or written.
    #[error("the hub cannot use the folder {}: {source}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another hub, of this process or another, has the data folder.
    #[error(
        "another hub is using the folder {}; stop it, or give this one another with --data",
        path.display()
    )]
    FolderInUse {
        /// The folder.
        path: PathBuf,
    },
    /// The database can't be opened or read, or is none.
    #[error("the hub's database {database} cannot be used: {reason}")]
    Database {
        /// The database's file, or its URL without user and password.
        database: String,
        /// What the database says.
        reason: String,
    },
    /// The database has tables that this version does not know. It was left as it is.
    #[error(
        "the hub's database {database} was written by a newer version ({found}, this one knows {known}); \
         update ats-p2p"
    )]
    NewerDatabase {
        /// The database's file, or its URL without user and password.
        database: String,
        /// The version of its tables.
        found: i64,
        /// The newest version that this hub knows.
        known: i64,
    },
    /// There is such a file already.
    #[error("there is a file {} already; --force replaces it", file.display())]
    BackupExists {
        /// The backup's file.
        file: PathBuf,
    },
    /// The backup can't be written.
    #[error("the backup {} cannot be written: {source}", file.display())]
    Backup {
        /// The backup's file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The certificate or its key can't be used.
    #[error("the certificate {} cannot be used: {reason}", certificate.display())]
    Tls {
        /// The certificate's file.
        certificate: PathBuf,
        /// Which file is wrong, and how; nothing of what is in it.
        reason: String,
    },
    /// No key can be made for such an actor.
    #[error("no key can be made for that actor: {0}")]
    Actor(String),
    /// The system gives no random bytes to make a key from.
    #[error("no key can be made: {0}")]
    Random(String),
    /// The DHT or the relay beside the hub does not start; the text says why.
    #[error("the hub's DHT cannot start: {0}")]
    Dht(String),
}

/// What would help where an address can't be listened on.
fn listen_advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrNotAvailable => {
            "it is none of this machine's; --listen :8787 listens on all of them"
        }
        std::io::ErrorKind::PermissionDenied => "--listen with a port from 1024 on needs no rights",
        _ => "is one running already? --listen takes another address",
    }
}

/// The answer to a request that is not served: a status, and a sentence that says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, message: message.into() }
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, message: message.into() }
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, message: message.into() }
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, message: message.into() }
    }

    pub(crate) fn too_many(message: impl Into<String>) -> Self {
        Self { status: StatusCode::TOO_MANY_REQUESTS, message: message.into() }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, message: message.into() }
    }

    pub(crate) fn database_away() -> Self {
        Self::unavailable("the hub's database cannot be reached; try again later")
    }
}

/// Why something was not read or changed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The caller is told.
    Refused(Refusal),
    /// The database failed.
    Database(sqlx::Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Failure> for sqlx::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::Protocol(refusal.message),
            Failure::Database(error) => error,
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => refusal,
            Failure::Database(error) => error.into(),
        }
    }
}

/// The database's error goes to the log; callers have no use for it.
impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        tracing::error!("hub database: {error}");
        if crate::sql::is_unreachable(&error) {
            return Self::database_away();
        }
        let message = "the hub's database failed; its log says why".to_owned();
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.message }))).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
