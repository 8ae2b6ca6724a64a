//! A WebSocket to the service, by the same way as every other request: one set of headers, certificates and
//! proxies, and an error that says what the service answered.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tracing::debug;

use super::answer::{Budget, LISTED_TASK, read};
use super::error::{AtsError, AtsResult};
use super::http::{Http, Request};
use super::text::SHOWN;

/// The most bytes of one message: an event holds one task, which may have large outputs and many messages. A
/// longer one ends the connection.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// What is held of messages of ours that the service does not take: a few of them. Answers to pings that find
/// no room give way to later ones.
const MAX_UNSENT: usize = 64 * 1024;
/// Messages of ours are sent one by one.
const WRITE_BUFFER: usize = 4 * 1024;
/// How long the other side may take to accept a message of ours, which are all small.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// What is kept of one message.
const KEPT: Budget = LISTED_TASK;

/// An open WebSocket that carries JSON.
pub(super) struct Socket<'a> {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    url: String,
    http: &'a Http,
}

impl<'a> Socket<'a> {
    /// Opens the WebSocket at `/ws`.
    pub(super) async fn connect(http: &'a Http, query: Vec<(&'static str, String)>) -> AtsResult<Self> {
        let request = Request { query, ..Request::get(vec!["ws"]) };
        let url = http.shown(&request.path);
        let opened = http.open_web_socket(&request).await?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE))
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(MAX_UNSENT);
        let stream = WebSocketStream::from_raw_socket(opened, Role::Client, Some(config)).await;
        debug!(%url, "event connection open");
        Ok(Self { stream, url, http })
    }

    /// Sends one message.
    pub(super) async fn send(&mut self, message: &Value) -> AtsResult<()> {
        let sent = self.stream.send(Message::text(message.to_string()));
        match tokio::time::timeout(SEND_TIMEOUT, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.ended(&error.to_string())),
            Err(_) => Err(self.ended("it takes no more messages")),
        }
    }

    /// The next message that is JSON; null for any other sign of life. May be cancelled and called again.
    pub(super) async fn next(&mut self) -> AtsResult<Value> {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => Ok(self.read(text.as_bytes())),
            Some(Ok(Message::Binary(bytes))) => Ok(self.read(&bytes)),
            Some(Ok(Message::Close(frame))) => Err(match frame {
                Some(frame) => self.ended(&format!("closed with {}: {}", frame.code, frame.reason)),
                None => self.ended("closed by the service"),
            }),
            Some(Ok(_)) => Ok(Value::Null),
            Some(Err(error)) => Err(self.ended(&error.to_string())),
            None => Err(self.ended("closed by the service")),
        }
    }

    fn read(&self, message: &[u8]) -> Value {
        match read(message, KEPT, self.http.secret()) {
            Some(read) => {
                self.http.leave_out(u32::from(!read.is_whole));
                read.value
            }
            None => {
                self.http.leave_out(1);
                Value::Null
            }
        }
    }

    /// The error that this connection ends with.
    pub(super) fn ended(&self, reason: &str) -> AtsError {
        AtsError::EventsEnded { url: self.url.clone(), reason: self.http.printable(reason, SHOWN) }
    }
}
