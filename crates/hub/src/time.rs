//! The hub's time: milliseconds since 1970, written as RFC 3339; and whose time that is.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::sync::lock;

/// Milliseconds since 1970. Those of this century fit a signed 64-bit integer, which is what SQLite has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(pub i64);

const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

impl Millis {
    /// This machine's time.
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// The time as it is sent.
    pub(crate) fn to_text(self) -> String {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000);
        time.ok().and_then(|time| time.format(FORMAT).ok()).unwrap_or_default()
    }

    /// The time as the header `Date` has it.
    pub(crate) fn to_http_date(self) -> String {
        const DATE: &[BorrowedFormatItem<'_>] = format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        let time = OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1000));
        time.ok().and_then(|time| time.format(DATE).ok()).unwrap_or_default()
    }

    /// Reads RFC 3339, a date alone (its beginning in UTC), or a number of milliseconds.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
        let text = text.trim();
        if let Ok(number) = text.parse() {
            return Some(Self(number));
        }
        let time = OffsetDateTime::parse(text, &Rfc3339)
            .or_else(|_| time::Date::parse(text, DATE).map(|date| date.midnight().assume_utc()))
            .ok()?;
        Some(Self::from(time))
    }

    /// The time `duration` later.
    pub(crate) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The time `duration` earlier.
    pub(crate) fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long it is from `earlier` to this time; nothing if that is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// The clock that claims, offers and keys are judged by: this machine's, or that of the database's server
/// once it was heard. Hubs that share a database agree on what is over however wrong their own clocks are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock(Arc<Mutex<Option<Heard>>>);

/// What the server said, and when.
#[derive(Debug, Clone, Copy)]
struct Heard {
    said: Millis,
    at: Instant,
}

impl Clock {
    /// The time.
    pub(crate) fn now(&self) -> Millis {
        let heard = *lock(&self.0);
        heard.map_or_else(Millis::now, |heard| heard.said.plus(heard.at.elapsed()))
    }

    /// Notes what the server has just said that the time is.
    pub(crate) fn hear(&self, said: Millis) {
        *lock(&self.0) = Some(Heard { said, at: Instant::now() });
    }
}

impl From<OffsetDateTime> for Millis {
    fn from(time: OffsetDateTime) -> Self {
        let millis = time.unix_timestamp_nanos().div_euclid(1_000_000);
        // An i64 holds the milliseconds of every year that the crate `time` knows.
        Self(i64::try_from(millis).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds_and_read_back() {
        let time = Millis(1_700_000_000_123);
        assert_eq!(time.to_text(), "2023-11-14T22:13:20.123Z");
        assert_eq!(Millis::from_text("2023-11-14T22:13:20.123Z"), Some(time));
        assert_eq!(Millis::from_text("2023-11-14T23:13:20.123+01:00"), Some(time));
        assert_eq!(Millis::from_text("1700000000123"), Some(time));
        assert_eq!(Millis::from_text("2023-11-14"), Some(Millis(1_699_920_000_000)));
        assert_eq!(Millis::from_text("yesterday"), None);
        assert_eq!(Millis(i64::MAX).to_text(), "");
        assert_eq!(Millis(784_111_777_999).to_http_date(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn a_clock_that_heard_of_another_goes_on_from_there() {
        let clock = Clock::default();
        assert!(clock.now() >= Millis(1_700_000_000_000));
        clock.hear(Millis(5_000));
        let now = clock.clone().now();
        assert!(now >= Millis(5_000) && now < Millis(1_700_000_000_000), "{now:?}");
    }

    #[test]
    fn differences_do_not_wrap() {
        assert_eq!(Millis(5).since(Millis(9)), Duration::ZERO);
        assert_eq!(Millis(9).since(Millis(5)), Duration::from_millis(4));
        assert_eq!(Millis(i64::MAX).plus(Duration::MAX), Millis(i64::MAX));
    }
}
