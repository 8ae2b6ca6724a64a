//! How much each client may ask for: requests and bytes a second, and bytes to keep in a day, counted for
//! each actor that shows its key, and else for each network of addresses. Who asks for more is told when to
//! come again.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::connections::{Network, Payer};
use super::recent::Recent;
use crate::sync::lock;

/// How many times the requests and bytes of an address elsewhere this machine may ask for.
const LOOPBACK_REQUESTS: u32 = 100;
const LOOPBACK_BYTES: u32 = 16;
/// How many times the bytes to keep: its own disk is not its friends'.
const LOOPBACK_STORED: u64 = 8;
/// For how long a client may save up what it does not ask for.
const REQUEST_SAVINGS: Duration = Duration::from_secs(5);
const BYTE_SAVINGS: Duration = Duration::from_secs(4);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How many bytes of memory a request takes besides its body, about.
const REQUEST_BYTES: u64 = 1024;

/// What one client may ask for in a second, and have kept in a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) requests: u32,
    pub(crate) bytes: u32,
    pub(crate) stored_a_day: u64,
}

/// The counters.
#[derive(Debug)]
pub(crate) struct Rates {
    rate: Rate,
    accounts: Mutex<Accounts>,
}

/// What clients asked for. Addresses may be made up by the thousand, and make no actor's account forgotten.
#[derive(Debug, Default)]
struct Accounts {
    networks: Recent<Network, Account>,
    actors: Recent<u64, Account>,
}

/// What one client has asked for: when it would have been done, had it kept to the rates.
#[derive(Debug, Clone, Copy)]
struct Account {
    requests: Instant,
    bytes: Instant,
    stored: Instant,
}

impl Rates {
    /// Counters for what an address off this machine may ask for.
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, accounts: Mutex::default() }
    }

    /// Counts a request of a payer that comes from this network, with a body of `bytes`, which are kept or
    /// only read.
    ///
    /// # Errors
    /// Where that is too much, how long to wait; it is not counted then.
    pub(crate) fn count(
        &self,
        now: Instant,
        payer: Payer,
        from: Network,
        bytes: u64,
        are_kept: bool,
    ) -> Result<(), Duration> {
        let (requests, volume, stored) = match from {
            Network::Loopback => (LOOPBACK_REQUESTS, LOOPBACK_BYTES, LOOPBACK_STORED),
            _ => (1, 1, 1),
        };
        let rate = Rate {
            requests: self.rate.requests.saturating_mul(requests),
            bytes: self.rate.bytes.saturating_mul(volume),
            stored_a_day: self.rate.stored_a_day.saturating_mul(stored),
        };
        let mut accounts = lock(&self.accounts);
        let first = || Account { requests: now, bytes: now, stored: now };
        let account = match payer {
            Payer::Network(network) => accounts.networks.get_or_insert(network, first),
            Payer::Actor(actor) => accounts.actors.get_or_insert(actor, first),
        };
        *account = account.after(now, rate, bytes.saturating_add(REQUEST_BYTES), are_kept)?;
        Ok(())
    }
}

impl Account {
    /// The account once a request is on it, too.
    fn after(self, now: Instant, rate: Rate, bytes: u64, are_kept: bool) -> Result<Self, Duration> {
        let took =
            |count: u64, a_second: u32| Duration::from_secs_f64(count as f64 / f64::from(a_second.max(1)));
        let kept = if are_kept { bytes as f64 / rate.stored_a_day.max(1) as f64 } else { 0.0 };
        let step = |done: Instant, cost: Duration, savings: Duration| {
            let done = done.max(now) + cost;
            // A request may cost more than anybody can have saved; it may be made by one who saved all of it.
            let ahead = done.saturating_duration_since(now + savings.max(cost));
            if ahead.is_zero() { Ok(done) } else { Err(ahead) }
        };
        Ok(Self {
            requests: step(self.requests, took(1, rate.requests), REQUEST_SAVINGS)?,
            bytes: step(self.bytes, took(bytes, rate.bytes), BYTE_SAVINGS)?,
            // More than a day's worth at once is refused by the bounds of a body long before.
            stored: step(self.stored, DAY.mul_f64(kept.min(1.0)), DAY)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::recent::MAX_REMEMBERED;
    use super::*;
    use std::net::IpAddr;

    const RATE: Rate = Rate { requests: 10, bytes: 100_000, stored_a_day: 1_000_000_000 };

    fn network(last: u8) -> Network {
        IpAddr::from([192, 0, 2, last]).into()
    }

    fn count(
        rates: &Rates,
        now: Instant,
        network: Network,
        bytes: u64,
        are_kept: bool,
    ) -> Result<(), Duration> {
        rates.count(now, network.into(), network, bytes, are_kept)
    }

    /// How many requests in a row are served.
    fn served(rates: &Rates, now: Instant, network: Network, bytes: u64) -> usize {
        served_to(rates, now, network.into(), network, bytes)
    }

    fn served_to(rates: &Rates, now: Instant, payer: Payer, from: Network, bytes: u64) -> usize {
        (0..1_000_000).take_while(|_| rates.count(now, payer, from, bytes, true).is_ok()).count()
    }

    #[test]
    fn an_actor_has_one_account_wherever_it_comes_from_and_takes_from_no_other() {
        let rate = Rate { requests: 10, bytes: 100_000, stored_a_day: 10_000 };
        let (rates, now) = (Rates::new(rate), Instant::now());
        let (one, other) = (Payer::Actor(1), Payer::Actor(2));
        assert_eq!(served_to(&rates, now, one, network(1), 0), 9);
        for last in 1..=9 {
            assert_eq!(served_to(&rates, now, one, network(last), 0), 0);
        }
        assert_eq!(served_to(&rates, now, other, network(1), 0), 9);
        assert_eq!(served(&rates, now, network(1), 0), 9);
        // Nor is it forgotten for any number of addresses.
        for n in 0..30_000 {
            count(&rates, now, Network::V6(n), 0, false).expect("served");
        }
        assert_eq!(served_to(&rates, now, one, network(1), 0), 0);
    }

    #[test]
    fn who_saved_up_may_spend_it_and_then_keeps_the_rate() {
        let (rates, now) = (Rates::new(RATE), Instant::now());
        assert_eq!(served(&rates, now, network(1), 0), 50);
        assert_eq!(count(&rates, now, network(1), 0, true), Err(Duration::from_millis(100)));
        let later = now + Duration::from_secs(1);
        assert_eq!(served(&rates, later, network(1), 0), 10);
        assert_eq!(served(&rates, later, network(2), 0), 50);
        let much_later = later + Duration::from_secs(3600);
        assert_eq!(served(&rates, much_later, network(1), 0), 50);
    }

    #[test]
    fn bytes_count_and_the_longest_body_passes_now_and_then() {
        let (rates, now) = (Rates::new(Rate { requests: 1000, ..RATE }), Instant::now());
        assert_eq!(served(&rates, now, network(1), 98_976), 4);
        assert_eq!(count(&rates, now, network(1), 98_976, true), Err(Duration::from_secs(1)));
        assert_eq!(served(&rates, now, network(2), 10_000_000), 1);
    }

    #[test]
    fn what_is_kept_is_bounded_by_the_day() {
        let rate = Rate { requests: 1000, bytes: 1_000_000_000, stored_a_day: 1_000_000 };
        let (rates, now) = (Rates::new(rate), Instant::now());
        assert_eq!(served(&rates, now, network(1), 98_976), 10);
        let wait = count(&rates, now, network(1), 98_976, true).expect_err("too much");
        assert_eq!(wait.as_secs(), DAY.as_secs() / 10);
        assert_eq!(count(&rates, now, network(1), 98_976, false), Ok(()));
        assert_eq!(served(&rates, now + DAY / 2, network(1), 98_976), 5);
    }

    #[test]
    fn this_machine_may_do_more() {
        let (rates, now) = (Rates::new(RATE), Instant::now());
        assert_eq!(served(&rates, now, Network::Loopback, 0), 5000);
    }

    #[test]
    fn no_number_of_clients_makes_the_counters_grow_for_ever() {
        let (rates, now) = (Rates::new(RATE), Instant::now());
        let busy = network(1);
        served(&rates, now, busy, 0);
        for n in 0..30_000_u64 {
            count(&rates, now, Network::V6(n), 0, true).expect("served");
            // One that goes on asking is not forgotten.
            assert!(count(&rates, now, busy, 0, true).is_err());
        }
        let accounts = lock(&rates.accounts);
        assert!(accounts.networks.len() <= 2 * MAX_REMEMBERED);
    }
}
