//! Who holds how many connections. One client never takes all places: each network of addresses has a share,
//! and so has each actor where a key says who that is; the last places are kept for those who hold few, and
//! a connection on which nothing happens gives way to one that has just come.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use crate::sync::lock;

/// The addresses that count as one client: this machine's, one of IPv4, or 2^64 of IPv6, which is what one
/// customer of a provider has at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    Loopback,
    V4(Ipv4Addr),
    /// The upper half of the address.
    V6(u64),
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_loopback() => Self::Loopback,
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(upper_half(address)),
        }
    }
}

fn upper_half(address: Ipv6Addr) -> u64 {
    let [a, b, c, d, ..] = address.segments().map(u64::from);
    a << 48 | b << 32 | c << 16 | d
}

/// Who counts as one: an actor that shows its key, wherever it comes from, or else a network of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Payer {
    Network(Network),
    /// By a hash of its id.
    Actor(u64),
}

impl From<Network> for Payer {
    fn from(network: Network) -> Self {
        Self::Network(network)
    }
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    /// All together.
    pub(crate) total: usize,
    /// Of this machine, and of trusted proxies together. Less than all, so that somebody else always has a
    /// place.
    pub(crate) large: usize,
    /// Of any other network, and of an actor.
    pub(crate) usual: usize,
    /// The last places, for those who hold few.
    pub(crate) reserve: usize,
}

/// What counts as few where only the reserve is left.
const FEW: usize = 4;

impl Shares {
    /// The shares of a total.
    pub(crate) fn of(total: usize) -> Self {
        Self { total, large: total / 4 * 3, usual: total / 16, reserve: total / 16 }
    }

    fn share(&self, payer: Payer, is_proxy: bool) -> usize {
        if is_proxy || payer == Payer::Network(Network::Loopback) { self.large } else { self.usual }
    }
}

/// Why a connection has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// Whose it is holds its share, and all of that is in use.
    Share,
    /// All places are taken and in use.
    Full,
}

/// The places of connections.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    shares: Shares,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    taken: usize,
    next: u64,
    holders: HashMap<Payer, Holder>,
}

#[derive(Debug, Default)]
struct Holder {
    taken: usize,
    /// The places where nothing happens, by since when.
    idle: BTreeMap<u64, CancellationToken>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// Whose it is; locked behind the table.
    payer: Mutex<Payer>,
    table: Arc<Mutex<Table>>,
    /// Cancelled, with the table locked, once the place was given to another.
    lost: CancellationToken,
    use_: Mutex<Use>,
}

#[derive(Debug)]
enum Use {
    /// Since this moment in the table's count.
    Idle(u64),
    /// By so many requests and sockets.
    Busy(usize),
}

/// That something happens on a connection, which is not ended for another as long as this is alive.
#[derive(Debug)]
pub(crate) struct InUse(Arc<Place>);

impl Places {
    pub(crate) fn new(shares: Shares) -> Self {
        Self { shares, table: Arc::default() }
    }

    /// A place for a connection of `payer`; if need be that of a connection on which nothing happens, which
    /// then ends.
    pub(crate) fn take(&self, payer: impl Into<Payer>, is_proxy: bool) -> Result<Arc<Place>, NoPlace> {
        let payer = payer.into();
        let mut table = lock(&self.table);
        let held = table.holders.get(&payer).map_or(0, |holder| holder.taken);
        if held >= self.shares.share(payer, is_proxy) {
            table.evict(payer).ok_or(NoPlace::Share)?;
        } else if table.taken >= self.shares.total
            || held >= FEW && table.taken >= self.shares.total - self.shares.reserve
        {
            let largest = table.holders.iter().filter(|(_, holder)| !holder.idle.is_empty());
            let largest = largest.max_by_key(|(_, holder)| holder.idle.len()).map(|(payer, _)| *payer);
            largest.and_then(|payer| table.evict(payer)).ok_or(NoPlace::Full)?;
        }
        let lost = CancellationToken::new();
        let at = table.moment();
        table.taken += 1;
        let holder = table.holders.entry(payer).or_default();
        holder.taken += 1;
        holder.idle.insert(at, lost.clone());
        drop(table);
        let (use_, payer) = (Mutex::new(Use::Idle(at)), Mutex::new(payer));
        Ok(Arc::new(Place { payer, table: self.table.clone(), lost, use_ }))
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        lock(&self.table).taken
    }
}

impl Table {
    fn moment(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Ends the connection of somebody on which nothing has happened for longest.
    fn evict(&mut self, payer: Payer) -> Option<()> {
        let (_, lost) = self.holders.get_mut(&payer)?.idle.pop_first()?;
        lost.cancel();
        self.give_back(payer);
        Some(())
    }

    fn give_back(&mut self, payer: Payer) {
        self.taken -= 1;
        if let Some(holder) = self.holders.get_mut(&payer) {
            holder.taken -= 1;
            if holder.taken == 0 {
                self.holders.remove(&payer);
            }
        }
    }
}

impl Place {
    /// Says that something happens on the connection.
    pub(crate) fn in_use(self: &Arc<Self>) -> InUse {
        let mut use_ = lock(&self.use_);
        match &mut *use_ {
            Use::Busy(count) => *count += 1,
            Use::Idle(since) => {
                let mut table = lock(&self.table);
                if let Some(holder) = table.holders.get_mut(&lock(&self.payer)) {
                    holder.idle.remove(since);
                }
                *use_ = Use::Busy(1);
            }
        }
        drop(use_);
        InUse(self.clone())
    }

    /// Counts the connection, on which something happens, as another's: nobody else's share is smaller for
    /// it.
    pub(crate) fn hand_over(&self, to: Payer) {
        let mut table = lock(&self.table);
        let mut payer = lock(&self.payer);
        if self.lost.is_cancelled() || *payer == to {
            return;
        }
        table.give_back(*payer);
        table.taken += 1;
        table.holders.entry(to).or_default().taken += 1;
        *payer = to;
    }

    /// Cancelled once the connection has to end, since another needs its place.
    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.lost
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut use_ = lock(&self.0.use_);
        match &mut *use_ {
            Use::Busy(count) if *count > 1 => *count -= 1,
            _ => {
                let mut table = lock(&self.0.table);
                let at = table.moment();
                if !self.0.lost.is_cancelled()
                    && let Some(holder) = table.holders.get_mut(&lock(&self.0.payer))
                {
                    holder.idle.insert(at, self.0.lost.clone());
                }
                *use_ = Use::Idle(at);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        if self.lost.is_cancelled() {
            return;
        }
        let payer = *lock(&self.payer);
        if let (Use::Idle(at), Some(holder)) = (&*lock(&self.use_), table.holders.get_mut(&payer)) {
            holder.idle.remove(at);
        }
        table.give_back(payer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHARES: Shares = Shares { total: 20, large: 12, usual: 6, reserve: 4 };

    fn network(last: u8) -> Network {
        IpAddr::from([192, 0, 2, last]).into()
    }

    fn fill(places: &Places, network: Network, count: usize) -> Vec<(Arc<Place>, InUse)> {
        let take = |_| {
            let place = places.take(network, false).expect("a place");
            let in_use = place.in_use();
            (place, in_use)
        };
        (0..count).map(take).collect()
    }

    #[test]
    fn addresses_of_one_client_are_one_network() {
        let network = |text: &str| Network::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(network("2001:db8:1:2:3::4"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::"), network("2001:db8:1:3::"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!([network("127.0.0.9"), network("::1")], [Network::Loopback; 2]);
    }

    #[test]
    fn one_network_never_has_more_than_its_share() {
        let places = Places::new(SHARES);
        let held = fill(&places, network(1), 6);
        assert_eq!(places.take(network(1), false).expect_err("refused"), NoPlace::Share);
        let others = fill(&places, network(2), 6);
        drop(held);
        assert_eq!(fill(&places, network(1), 6).len(), 6);
        drop(others);
        assert_eq!(fill(&places, Network::Loopback, 12).len(), 12);
        assert_eq!((places.taken(), lock(&places.table).holders.len()), (0, 0));
    }

    #[test]
    fn the_last_places_are_for_those_who_hold_few() {
        let places = Places::new(SHARES);
        let _held: Vec<_> = (1..=3).flat_map(|last| fill(&places, network(last), 5)).collect();
        let _more = fill(&places, network(4), 1);
        assert_eq!(places.take(network(1), false).expect_err("refused"), NoPlace::Full);
        let _newcomers = fill(&places, network(5), 4);
        assert_eq!(places.take(network(5), false).expect_err("refused"), NoPlace::Full);
        assert_eq!(places.take(network(6), false).expect_err("refused"), NoPlace::Full);
    }

    #[test]
    fn a_connection_that_is_an_actors_takes_nothing_from_its_network() {
        let places = Places::new(SHARES);
        let actors = [Payer::Actor(1), Payer::Actor(2)];
        let mut held = Vec::new();
        for n in 0..8 {
            let [taken] = fill(&places, network(1), 1).try_into().expect("one");
            taken.0.hand_over(actors[n % 2]);
            held.push(taken);
        }
        let others = fill(&places, network(1), 6);
        assert_eq!(places.take(network(1), false).expect_err("refused"), NoPlace::Share);
        assert_eq!(places.taken(), 14);
        // Wherever it comes from, its own are counted.
        let more: Vec<_> = (0..2).map(|_| places.take(actors[0], false).expect("a place")).collect();
        let in_use: Vec<_> = more.iter().map(Place::in_use).collect();
        assert_eq!(places.take(actors[0], false).expect_err("refused"), NoPlace::Share);
        drop((held, others, more, in_use));
        assert_eq!((places.taken(), lock(&places.table).holders.len()), (0, 0));
    }

    #[test]
    fn a_connection_on_which_nothing_happens_gives_way() {
        let places = Places::new(SHARES);
        let idle: Vec<_> = (0..6).map(|_| places.take(network(1), false).expect("a place")).collect();
        drop(idle[0].in_use());
        let busy = idle[2].in_use();
        let next = places.take(network(1), false).expect("a place");
        let lost: Vec<bool> = idle.iter().map(|place| place.lost().is_cancelled()).collect();
        assert_eq!(lost, [false, true, false, false, false, false]);
        assert_eq!(places.taken(), 6);
        drop((idle, next));
        assert_eq!(places.taken(), 1);
        drop(busy);
        assert_eq!((places.taken(), lock(&places.table).holders.len()), (0, 0));

        // Where all places are taken, the one who holds most that are idle gives one.
        let idle: Vec<_> = (0..12).map(|_| places.take(Network::Loopback, false).expect("a place")).collect();
        let _others: Vec<_> = (1..=8).flat_map(|last| fill(&places, network(last), 1)).collect();
        let newcomer = places.take(network(9), false).expect("a place");
        assert!(idle[0].lost().is_cancelled() && !idle[1].lost().is_cancelled());
        drop(newcomer);
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_the_counts_are_right(
            steps in prop::collection::vec((0_u8..7, 1_u8..5, 0_usize..40), 1..200),
        ) {
            let places = Places::new(SHARES);
            let (mut held, mut used) = (Vec::new(), Vec::new());
            for (step, last, at) in steps {
                match step {
                    0..=2 => held.extend(places.take(network(last), last == 1)),
                    3 if !held.is_empty() => drop(held.swap_remove(at % held.len())),
                    4 if !held.is_empty() => used.push(held[at % held.len()].in_use()),
                    5 if !used.is_empty() => drop(used.swap_remove(at % used.len())),
                    6 if !used.is_empty() => used[at % used.len()].0.hand_over(Payer::Actor(last.into())),
                    _ => {}
                }
                prop_assert!(places.taken() <= SHARES.total);
                let table = lock(&places.table);
                let sum: usize = table.holders.values().map(|holder| holder.taken).sum();
                prop_assert_eq!(sum, table.taken);
                prop_assert!(table.holders.values().all(|holder| holder.idle.len() <= holder.taken));
            }
            drop((held, used));
            prop_assert_eq!((places.taken(), lock(&places.table).holders.len()), (0, 0));
        }
    }
}
