//! The log: what happens inside, on stderr, for whoever looks for a fault.
//!
//! It is off unless `ATS_P2P_LOG` turns it on. While it is off it costs nothing: no subscriber is installed.
//! It never has a thread. Secrets and the contents of files are never logged, whatever the filter.

use std::io::{self, Write};
use std::sync::Mutex;

use protocol::text::one_line;
use tracing::{debug, trace};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::error::{Code, Error, Result};
use crate::event::{Direction, Event, Transfer};
use crate::sync::lock;

/// The environment variable that turns it on: a filter as of the crate tracing-subscriber.
const VARIABLE: &str = "ATS_P2P_LOG";

/// The environment variable that says how a line is written: `text` unless it says `json`.
const FORMAT: &str = "ATS_P2P_LOG_FORMAT";

/// What only a filter that names it lets through: a hub's every query of its database.
const QUIET: &str = "sqlx=warn";

/// The most characters of a line: room for what an error says of another's, and no flood.
const MAX_LINE: usize = 4096;

/// Turns the log on where the environment asks for it. The first call of a process decides; once it has
/// succeeded, further calls do nothing.
///
/// # Errors
/// `INVALID_ARGUMENT` where the variable holds no filter, or the other one no format.
pub fn start() -> Result<()> {
    static STARTED: Mutex<bool> = Mutex::new(false);
    let mut started = lock(&STARTED);
    if *started {
        return Ok(());
    }
    if let Some(filter) = wanted(std::env::var_os(VARIABLE).as_deref().map(|text| text.to_string_lossy()))? {
        let builder = tracing_subscriber::fmt().with_env_filter(filter);
        // It fails where a program that links this crate has a log of its own, which then gets it all.
        let _ = match is_json(std::env::var_os(FORMAT).as_deref().map(|text| text.to_string_lossy()))? {
            true => {
                let json = builder.json().flatten_event(true).with_writer(|| JsonStderr).finish();
                tracing::subscriber::set_global_default(json)
            }
            false => tracing::subscriber::set_global_default(builder.with_writer(|| Stderr).finish()),
        };
    }
    *started = true;
    Ok(())
}

/// Whether lines are JSON.
fn is_json(text: Option<impl AsRef<str>>) -> Result<bool> {
    match text.as_ref().map(|text| text.as_ref().trim()) {
        None | Some("" | "text") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => {
            let message = format!("{FORMAT} is text or json, not {:?}", one_line(other, 100));
            Err(Error::new(Code::InvalidArgument, message))
        }
    }
}

/// The filter that `text` describes; `None` where nothing passes it.
fn wanted(text: Option<impl AsRef<str>>) -> Result<Option<EnvFilter>> {
    let Some(text) = text.as_ref().map(|text| text.as_ref().trim()).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let parse = |text: &str| EnvFilter::builder().parse(text);
    let filter = parse(text).map_err(|error| {
        let message = format!(
            "{VARIABLE} is no filter of a log ({}): \"debug\" or \"ats_p2p=debug,hub=info\" is one",
            one_line(&error.to_string(), MAX_LINE)
        );
        Error::new(Code::InvalidArgument, message)
    })?;
    if filter.max_level_hint() == Some(LevelFilter::OFF) {
        return Ok(None);
    }
    Ok(Some(parse(&format!("{QUIET},{text}")).unwrap_or(filter)))
}

/// Logs what a node tells its owner.
pub(crate) fn event(event: &Event) {
    match event {
        Event::OfferSent { transfer, .. }
        | Event::OfferResumed { transfer, .. }
        | Event::TransferStart { transfer, .. }
        | Event::TransferComplete { transfer, .. }
        | Event::File { transfer, .. } => step(event, transfer),
        Event::PeerConnected { transfer, connection } => {
            step(event, transfer);
            debug!(transfer = %transfer.transfer_id, ?connection, "how the peer is connected");
        }
        Event::TransferProgress { transfer, progress } => {
            let (phase, bytes) = (progress.phase.name(), progress.bytes);
            trace!(transfer = %transfer.transfer_id, phase, bytes, of = transfer.size, "transfer_progress");
        }
        Event::TransferFailed { transfer, error } => {
            step(event, transfer);
            failure(event, error);
        }
        Event::Connected { ats_url, channel, actor_id } => {
            debug!(%ats_url, %channel, %actor_id, "watching");
        }
        Event::Disconnected { reason } => debug!(%reason, "no longer watching"),
        Event::Warning { message } => debug!(%message, "warning"),
        Event::Error { error } => failure(event, error),
    }
}

fn step(event: &Event, transfer: &Transfer) {
    debug!(
        transfer = %transfer.transfer_id,
        task = transfer.task_id.as_ref().map(tracing::field::display),
        direction = match transfer.direction {
            Direction::Send => "send",
            Direction::Receive => "receive",
        },
        file = %transfer.file_name,
        size = transfer.size,
        peer = %transfer.peer_id,
        "{}",
        event.name()
    );
}

fn failure(event: &Event, error: &Error) {
    debug!(
        transfer = error.transfer_id.as_ref().map(tracing::field::display),
        code = error.code.as_str(),
        step = error.step.map(|step| step.name()),
        error = %error.message,
        "{}",
        event.name()
    );
}

/// Standard error, one line an event: what a peer or a service said in it can neither begin another line nor
/// act on a terminal.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // Who closed stderr wants no log, and a transfer does not fail over it.
        let _ = io::stderr().lock().write_all(line(event).as_bytes());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error for events in JSON, which has no raw control character in it as it is.
struct JsonStderr;

impl Write for JsonStderr {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().lock().write_all(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn line(event: &[u8]) -> String {
    let text = String::from_utf8_lossy(event);
    one_line(&text, MAX_LINE) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_as_their_crate_documents_them() {
        for text in ["debug", " info ", "ats_p2p=debug,hub=info", "warn,hyperdht::connect=trace"] {
            assert!(wanted(Some(text)).expect("a filter").is_some(), "{text}");
        }
        for text in ["", "  ", "off"] {
            assert!(wanted(Some(text)).expect("a filter").is_none(), "{text}");
        }
        assert!(wanted(None::<&str>).expect("no filter").is_none());
    }

    #[test]
    fn the_queries_of_a_hub_are_told_to_who_asks_for_them() {
        let directives = |text| wanted(Some(text)).expect("a filter").expect("not off").to_string();
        assert!(directives("debug").contains("sqlx=warn"), "{}", directives("debug"));
        assert!(directives("debug,sqlx=info").contains("sqlx=info"));
        assert!(!directives("debug,sqlx=info").contains("sqlx=warn"));
    }

    #[test]
    fn what_is_no_filter_is_an_error_of_one_line_that_names_the_variable() {
        for text in ["ats_p2p=loud", "debug,=,", "a=b=c", "ats_p2p=\x1b[2J\n"] {
            let error = wanted(Some(text)).expect_err(text);
            assert_eq!(error.code, Code::InvalidArgument);
            assert!(error.message.starts_with("ATS_P2P_LOG is no filter"), "{}", error.message);
            assert!(!error.message.contains(['\n', '\x1b']), "{:?}", error.message);
        }
    }

    #[test]
    fn a_line_is_text_or_json() {
        assert!(!is_json(None::<&str>).expect("text") && !is_json(Some(" text ")).expect("text"));
        assert!(is_json(Some("json")).expect("json"));
        assert!(is_json(Some("xml")).expect_err("no format").message.starts_with(FORMAT));
    }

    #[test]
    fn an_event_is_one_line_whatever_a_peer_said_in_it() {
        assert_eq!(line(b"DEBUG said: a\nb\x1b[2J\xff\n"), "DEBUG said: a b\\u{1b}[2J\u{fffd}\n");
        assert!(line(&[b'x'; 100_000]).len() < 2 * MAX_LINE);
    }
}
