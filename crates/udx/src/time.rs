//! Time as the state machines see it: microseconds that come in from outside.

use std::ops::{Add, Sub};

/// A length of time in microseconds.
pub type Micros = u64;

/// One millisecond in [`Micros`].
pub(crate) const MILLISECOND: Micros = 1_000;

/// One second in [`Micros`].
pub(crate) const SECOND: Micros = 1_000_000;

/// A point in time: microseconds since an epoch that the caller chose.
///
/// All instants given to one [`proto::StreamMachine`](crate::proto::StreamMachine) must share an epoch and
/// never go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The instant `micros` microseconds after the epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }
}

impl Add<Micros> for Instant {
    type Output = Self;

    fn add(self, micros: Micros) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

impl Sub for Instant {
    type Output = Micros;

    /// Zero if `earlier` is the later of the two.
    fn sub(self, earlier: Self) -> Micros {
        self.0.saturating_sub(earlier.0)
    }
}
