//! The nodes this one knows, by closeness to its own id and by when they were last heard.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddrV4;

use crate::id::{Id, common_prefix, distance};

/// Nodes in a row of the table, replies in a full result, and nodes named in an answer.
pub(crate) const K: usize = 20;

/// Nodes of one /24 network in a row, where the table defends itself: enough for a cluster of real nodes, too
/// few to own a row with one cheap network.
const MAX_PER_NETWORK: usize = 3;

/// A node of the table. Times are ticks of 5 s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub id: Id,
    pub addr: SocketAddrV4,
    pub added: u64,
    /// When it was last asked, or heard from.
    pub pinged: u64,
    /// When it was last heard from.
    pub seen: u64,
    /// When its view of our address was last counted.
    pub sampled: Option<u64>,
    /// How often others said that it is down.
    pub down_hints: u32,
}

/// The result of offering a node to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Added {
    Yes,
    Known,
    /// Its row holds 20 others.
    RowFull,
    /// It is this node itself, or its /24 network has its share of the row.
    Refused,
}

/// 256 rows by length of the prefix shared with the own id.
#[derive(Clone, Debug)]
pub(super) struct Table {
    own: Id,
    defended: bool,
    rows: Vec<Vec<Id>>,
    nodes: HashMap<Id, Entry>,
    /// Ids from the one not heard for longest to the one heard last.
    heard: BTreeMap<u64, Id>,
    next_heard: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    node: Node,
    heard: u64,
}

impl Table {
    /// `defended`: only a few nodes of one /24 network share a row.
    pub(super) fn new(own: Id, defended: bool) -> Self {
        Self {
            own,
            defended,
            rows: vec![Vec::new(); 256],
            nodes: HashMap::new(),
            heard: BTreeMap::new(),
            next_heard: 0,
        }
    }

    pub(super) fn own_id(&self) -> &Id {
        &self.own
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Node> {
        self.nodes.get(id).map(|entry| &entry.node)
    }

    pub(super) fn get_mut(&mut self, id: &Id) -> Option<&mut Node> {
        self.nodes.get_mut(id).map(|entry| &mut entry.node)
    }

    /// Whether [`Table::add`] would take a node of this id and address right now.
    pub(super) fn has_room(&self, id: &Id, addr: SocketAddrV4) -> bool {
        let row = self.row(id);
        *id != self.own
            && !self.nodes.contains_key(id)
            && self.rows[row].len() < K
            && !self.network_is_full(row, addr)
    }

    pub(super) fn add(&mut self, node: Node) -> Added {
        if node.id == self.own {
            return Added::Refused;
        }
        if self.nodes.contains_key(&node.id) {
            return Added::Known;
        }
        let row = self.row(&node.id);
        if self.network_is_full(row, node.addr) {
            return Added::Refused;
        }
        if self.rows[row].len() >= K {
            return Added::RowFull;
        }
        self.rows[row].push(node.id);
        let heard = self.next_heard();
        self.heard.insert(heard, node.id);
        self.nodes.insert(node.id, Entry { node, heard });
        Added::Yes
    }

    pub(super) fn remove(&mut self, id: &Id) -> Option<Node> {
        let entry = self.nodes.remove(id)?;
        self.heard.remove(&entry.heard);
        let row = self.row(id);
        self.rows[row].retain(|other| other != id);
        Some(entry.node)
    }

    /// Marks a node as the one heard last.
    pub(super) fn touch(&mut self, id: &Id) {
        let heard = self.next_heard();
        if let Some(entry) = self.nodes.get_mut(id) {
            self.heard.remove(&entry.heard);
            entry.heard = heard;
            self.heard.insert(heard, *id);
        }
    }

    /// The nodes of the row `id` belongs to.
    pub(super) fn row_of(&self, id: &Id) -> impl Iterator<Item = &Node> {
        self.rows[self.row(id)].iter().filter_map(|id| self.get(id))
    }

    /// From the node heard last to the one not heard for longest; reversible.
    pub(super) fn latest(&self) -> impl DoubleEndedIterator<Item = &Node> {
        self.heard.values().rev().filter_map(|id| self.get(id))
    }

    /// The known nodes closest to `target`, closest first.
    pub(super) fn closest(&self, target: &Id, count: usize) -> Vec<&Node> {
        let row = self.row(target);
        let mut found = Vec::with_capacity(count.min(self.len()));
        // A node of the target's own row shares more bits with it than any other node. Nodes of higher rows
        // differ from it in the bit of that row; nodes of lower rows differ in earlier bits. So each group as
        // a whole is closer than the next.
        self.extend_closest(&mut found, target, row..row + 1);
        if found.len() < count {
            self.extend_closest(&mut found, target, row + 1..self.rows.len());
        }
        for lower in (0..row).rev() {
            if found.len() >= count {
                break;
            }
            self.extend_closest(&mut found, target, lower..lower + 1);
        }
        found.truncate(count);
        found
    }

    fn extend_closest<'a>(&'a self, found: &mut Vec<&'a Node>, target: &Id, rows: std::ops::Range<usize>) {
        let start = found.len();
        found.extend(self.rows[rows].iter().flatten().filter_map(|id| self.get(id)));
        found[start..].sort_unstable_by_key(|node| distance(target, &node.id));
    }

    fn row(&self, id: &Id) -> usize {
        common_prefix(&self.own, id).min(self.rows.len() - 1)
    }

    fn network_is_full(&self, row: usize, addr: SocketAddrV4) -> bool {
        self.defended && {
            let network = network_of(addr);
            let ids = self.rows[row].iter();
            let neighbours =
                ids.filter_map(|id| self.get(id)).filter(|node| network_of(node.addr) == network);
            neighbours.count() >= MAX_PER_NETWORK
        }
    }

    fn next_heard(&mut self) -> u64 {
        self.next_heard += 1;
        self.next_heard
    }
}

/// The /24 network of an address, which is cheap to own as a whole.
pub(super) fn network_of(addr: SocketAddrV4) -> [u8; 3] {
    let [a, b, c, _] = addr.ip().octets();
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::vectors::connect::array;
    use crate::testing::vectors::trace;

    fn node(id: Id, host: [u8; 4]) -> Node {
        let addr = SocketAddrV4::new(host.into(), 1);
        Node { id, addr, added: 0, pinged: 0, seen: 0, sampled: None, down_hints: 0 }
    }

    fn id_of(bytes: &[u8]) -> Id {
        let mut id = [0; 32];
        id[..bytes.len()].copy_from_slice(bytes);
        id
    }

    /// JavaScript walks its rows downwards first; what it finds there is what is closest, where the rows hold
    /// enough.
    #[test]
    fn the_closest_are_those_of_the_trace() {
        let trace = trace("table-closest");
        let mut table = Table::new(array(&trace["ownId"]), false);
        for step in trace["added"].as_array().unwrap() {
            assert_eq!(table.add(node(array(&step["id"]), [1, 1, 1, 1])), Added::Yes);
        }
        for query in trace["queries"].as_array().unwrap() {
            let target = array(&query["target"]);
            let expected = query["closest"].as_array().unwrap();
            let mut expected: Vec<Id> = expected.iter().map(array).collect();
            let found: Vec<Id> = table.closest(&target, 3).iter().map(|node| node.id).collect();
            assert!(found.is_sorted_by_key(|id| distance(&target, id)));
            // From the fourth row on, JavaScript's choice is not the closest.
            let better = |id: &Id| distance(&target, id) <= distance(&target, &expected[2]);
            assert!(found.iter().all(better));
            expected.sort_unstable_by_key(|id| distance(&target, id));
            if query["target"].as_str().unwrap().starts_with(['8', '0']) {
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn a_row_holds_twenty_and_nobody_twice() {
        let mut table = Table::new([0; 32], false);
        for i in 0..20 {
            assert_eq!(table.add(node(id_of(&[0x80, i]), [1, 1, 1, 1])), Added::Yes);
        }
        assert_eq!(table.add(node(id_of(&[0x80, 20]), [1, 1, 1, 1])), Added::RowFull);
        assert_eq!(table.add(node(id_of(&[0x80, 3]), [1, 1, 1, 1])), Added::Known);
        assert_eq!(table.add(node([0; 32], [1, 1, 1, 1])), Added::Refused);
        assert_eq!(table.add(node(id_of(&[0x40]), [1, 1, 1, 1])), Added::Yes);
        assert!(table.remove(&id_of(&[0x80, 7])).is_some());
        assert_eq!(table.len(), 20);
        assert_eq!(table.row_of(&id_of(&[0xff])).count(), 19);
    }

    #[test]
    fn a_defended_row_takes_few_of_one_network() {
        let mut table = Table::new([0; 32], true);
        for i in 0..MAX_PER_NETWORK as u8 {
            assert_eq!(table.add(node(id_of(&[0x80, i]), [1, 1, 1, i])), Added::Yes);
        }
        assert_eq!(table.add(node(id_of(&[0x80, 9]), [1, 1, 1, 9])), Added::Refused);
        assert_eq!(table.add(node(id_of(&[0x80, 9]), [1, 1, 2, 9])), Added::Yes);
        assert_eq!(table.add(node(id_of(&[0x40, 9]), [1, 1, 1, 9])), Added::Yes);
    }

    #[test]
    fn it_remembers_who_was_heard_last() {
        let mut table = Table::new([0; 32], false);
        for i in 1..=3 {
            table.add(node(id_of(&[i]), [1, 1, 1, i]));
        }
        table.touch(&id_of(&[1]));
        table.remove(&id_of(&[3]));
        let order: Vec<_> = table.latest().map(|node| node.id[0]).collect();
        assert_eq!(order, [1, 2]);
    }

    proptest! {
        #[test]
        fn the_closest_are_the_closest_of_all(
            own: Id, target: Id, ids in proptest::collection::vec(any::<Id>(), 0..100), count in 0usize..30,
        ) {
            let mut table = Table::new(own, false);
            for id in &ids {
                table.add(node(*id, [1, 1, 1, 1]));
            }
            let mut all: Vec<Id> = table.latest().map(|node| node.id).collect();
            all.sort_unstable_by_key(|id| distance(&target, id));
            all.truncate(count);
            let found: Vec<Id> = table.closest(&target, count).iter().map(|node| node.id).collect();
            prop_assert_eq!(found, all);
        }
    }
}
