//! The service's clock, read off its answers.
//!
//! Offers expire by the service's time, since the clocks of two agents need not agree.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::moment::Moment;

/// A `Date` header names a whole second that has begun: on average half of it has passed.
const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// 2020 began, seconds since 1970. No task service of this protocol is older: an earlier `Date` is a fault.
const EARLIEST: u64 = 1_577_836_800;

/// 2100 begins, seconds since 1970. A later `Date` is a fault. All times that are computed from one below it
/// stay far below the year 9999, where the types for times end.
const LATEST: u64 = 4_102_444_800;

const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// What the last answer said about the time.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Option<(SystemTime, Moment)>>);

impl Clock {
    /// Notes the `Date` header of an answer that has just arrived. One that can't be right is ignored.
    pub(super) fn heard(&self, date: &str) {
        if let Some(time) = parse_http_date(date).filter(is_plausible) {
            *self.last() = Some((time + HALF_A_SECOND, Moment::now()));
        }
    }

    /// Whether the service was heard.
    pub(super) fn is_set(&self) -> bool {
        self.last().is_some()
    }

    /// The service's time now, within about a second; this machine's until the service was heard.
    pub(super) fn now(&self) -> SystemTime {
        match *self.last() {
            Some((time, heard)) => extrapolate(time, heard.elapsed()),
            None => SystemTime::now(),
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<(SystemTime, Moment)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time on a clock that showed `heard` before `elapsed` passed; it stops at [`LATEST`].
fn extrapolate(heard: SystemTime, elapsed: Duration) -> SystemTime {
    let latest = SystemTime::UNIX_EPOCH + Duration::from_secs(LATEST);
    heard.checked_add(elapsed).map_or(latest, |now| now.min(latest))
}

fn is_plausible(time: &SystemTime) -> bool {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH);
    since_1970.is_ok_and(|since| (EARLIEST..LATEST).contains(&since.as_secs()))
}

/// Reads an HTTP date in the one form that is still sent (RFC 9110 §5.6.7).
pub(super) fn parse_http_date(text: &str) -> Option<SystemTime> {
    let date = PrimitiveDateTime::parse(text.trim(), HTTP_DATE).ok()?;
    let unix = u64::try_from(date.assume_utc().unix_timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(unix))
}

/// Reads a time of the service: RFC 3339, or a number of milliseconds (or, when it is too small for
/// those, seconds) since 1970.
pub(super) fn parse_time(value: &Value) -> Option<OffsetDateTime> {
    /// 1973 in milliseconds, 5138 in seconds.
    const SECONDS_BELOW: f64 = 1e11;
    match value {
        Value::String(text) => OffsetDateTime::parse(text.trim(), &Rfc3339).ok(),
        Value::Number(number) => {
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
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Sun, 06 Nov 2022 08:49:37 GMT.
    const HEARD: u64 = 1_667_724_577;

    fn unix(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn http_dates_are_read() {
        assert_eq!(parse_http_date("Sun, 06 Nov 2022 08:49:37 GMT"), Some(unix(HEARD)));
        for wrong in ["", "now", "Sun, 06 Nov 1894 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(parse_http_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_clock_follows_the_service_and_ignores_what_is_no_date() {
        let clock = Clock::default();
        clock.heard("tomorrow");
        assert!(!clock.is_set());
        clock.heard("Sun, 06 Nov 2022 08:49:37 GMT");
        clock.heard("tomorrow");
        let now = clock.now().duration_since(unix(HEARD)).expect("at or after what was heard");
        assert!(now < Duration::from_secs(60), "{now:?}");
    }

    #[test]
    fn a_date_of_another_age_is_not_believed() {
        let wrong = [
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Tue, 31 Dec 2019 23:59:59 GMT",
            "Fri, 01 Jan 2100 00:00:00 GMT",
            "Fri, 31 Dec 9999 23:59:59 GMT",
        ];
        let clock = Clock::default();
        for date in wrong {
            assert!(parse_http_date(date).is_some(), "{date}");
            clock.heard(date);
            assert!(!clock.is_set(), "{date}");
        }
        clock.heard("Sun, 06 Nov 2022 08:49:37 GMT");
        wrong.iter().for_each(|date| clock.heard(date));
        assert!(clock.now() < unix(HEARD + 60));
    }

    #[test]
    fn the_time_that_a_machine_slept_counts() {
        let night = Duration::from_secs(8 * 60 * 60);
        assert_eq!(extrapolate(unix(HEARD), night), unix(HEARD) + night);
        assert_eq!(extrapolate(unix(HEARD), Duration::ZERO), unix(HEARD));
        assert_eq!(extrapolate(unix(HEARD), Duration::MAX), unix(LATEST));
    }

    proptest! {
        #[test]
        fn no_date_makes_a_time_that_cannot_be_computed_with(year in 0u32..=9999, hours in 0u64..1_000_000) {
            let clock = Clock::default();
            clock.heard(&format!("Mon, 01 Mar {year:04} 12:00:00 GMT"));
            prop_assert_eq!(clock.is_set(), (2020..2100).contains(&year));
            // The longest timeout is the longest of a JavaScript timer, below 25 days.
            let limit = Duration::from_secs(25 * 24 * 60 * 60);
            let now = extrapolate(clock.now(), Duration::from_secs(hours * 60 * 60));
            let _ = OffsetDateTime::from(now) + limit;
        }
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
