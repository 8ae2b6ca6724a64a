//! The service's clock, read off its answers.
//!
//! Offers expire by the service's time, since two agents' clocks need not agree.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// A `Date` header names a whole second that has begun: on average half of it has passed.
const HALF_A_SECOND: Duration = Duration::from_millis(500);

const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// What the last answer said about the time.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Option<(SystemTime, Instant)>>);

impl Clock {
    /// Notes the `Date` header of an answer that has just arrived.
    pub(super) fn heard(&self, date: &str) {
        if let Some(time) = parse_http_date(date) {
            *self.last() = Some((time + HALF_A_SECOND, Instant::now()));
        }
    }

    /// Whether the service was heard.
    pub(super) fn is_set(&self) -> bool {
        self.last().is_some()
    }

    /// The service's time now, within about a second; this machine's until the service was heard.
    pub(super) fn now(&self) -> SystemTime {
        match *self.last() {
            Some((time, heard)) => time + heard.elapsed(),
            None => SystemTime::now(),
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<(SystemTime, Instant)>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Reads an HTTP date in the one form that is still sent (RFC 9110 §5.6.7).
pub(super) fn parse_http_date(text: &str) -> Option<SystemTime> {
    let date = time::PrimitiveDateTime::parse(text.trim(), HTTP_DATE).ok()?;
    let unix = u64::try_from(date.assume_utc().unix_timestamp()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(unix))
}

/// Reads a time of the service: RFC 3339, or a number of milliseconds (or, when it is too small for
/// those, seconds) since 1970.
pub(super) fn parse_time(value: &serde_json::Value) -> Option<OffsetDateTime> {
    /// 1973 in milliseconds, 5138 in seconds.
    const SECONDS_BELOW: f64 = 1e11;
    match value {
        serde_json::Value::String(text) => {
            OffsetDateTime::parse(text.trim(), &time::format_description::well_known::Rfc3339).ok()
        }
        serde_json::Value::Number(number) => {
            let number = number.as_f64()?;
            let seconds = if number.abs() < SECONDS_BELOW { number } else { number / 1000.0 };
            let duration = time::Duration::checked_seconds_f64(seconds)?;
            OffsetDateTime::UNIX_EPOCH.checked_add(duration)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn http_dates_are_read() {
        let time = parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        assert_eq!(time, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
        for wrong in ["", "now", "Sun, 06 Nov 1894 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(parse_http_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_clock_follows_the_service_and_ignores_nonsense() {
        let clock = Clock::default();
        clock.heard("Sun, 06 Nov 1994 08:49:37 GMT");
        clock.heard("tomorrow");
        let since = clock.now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        assert_eq!(since.as_secs(), 784_111_777);
    }

    #[test]
    fn times_come_as_text_or_numbers() {
        let expected = OffsetDateTime::from_unix_timestamp(1_700_000_000).expect("in range");
        for given in [
            json!("2023-11-14T22:13:20Z"),
            json!("2023-11-14T23:13:20.000+01:00"),
            json!(1_700_000_000),
            json!(1_700_000_000_000_u64),
        ] {
            assert_eq!(parse_time(&given), Some(expected), "{given}");
        }
        for given in [json!("yesterday"), json!(1e300), json!(null), json!({})] {
            assert_eq!(parse_time(&given), None, "{given}");
        }
    }
}
