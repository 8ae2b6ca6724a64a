//! Who waits for whom: the ends that have proven their keys. Of one name there is one end, the one that came
//! last; two that name each other meet here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};

use secret_stream::PublicKey;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::sync::lock;

/// What an end goes by: its key, and that of the end it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    pub(crate) key: PublicKey,
    pub(crate) peer: PublicKey,
}

impl Name {
    /// What the end goes by that it waits for.
    fn other(self) -> Self {
        Self { key: self.peer, peer: self.key }
    }
}

/// The ends of a hub's tunnel; `E` is what an end is once it is handed to the one that it met.
#[derive(Debug)]
pub(super) struct Rendezvous<E>(Arc<Mutex<Seats<E>>>);

#[derive(Debug)]
struct Seats<E> {
    next: u64,
    ends: HashMap<Name, Present<E>>,
}

#[derive(Debug)]
struct Present<E> {
    id: u64,
    /// By which it is handed the other end; gone once it was.
    meets: Option<oneshot::Sender<E>>,
    replaced: CancellationToken,
}

/// An end's place among the others, which it gives up when this is dropped.
#[derive(Debug)]
pub(super) struct Seat<E> {
    table: Arc<Mutex<Seats<E>>>,
    name: Name,
    id: u64,
    replaced: CancellationToken,
}

impl<E> Default for Rendezvous<E> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Seats { next: 0, ends: HashMap::new() })))
    }
}

impl<E> Rendezvous<E> {
    /// Seats an end that has proven its key; one of the same name that was there is told that it was
    /// replaced. The other end may be handed to it from now on.
    pub(super) fn enter(&self, name: Name) -> (Seat<E>, oneshot::Receiver<E>) {
        let (sender, meets) = oneshot::channel();
        let replaced = CancellationToken::new();
        let mut table = lock(&self.0);
        table.next += 1;
        let id = table.next;
        let present = Present { id, meets: Some(sender), replaced: replaced.clone() };
        if let Some(older) = table.ends.insert(name, present) {
            older.replaced.cancel();
        }
        drop(table);
        (Seat { table: self.0.clone(), name, id, replaced }, meets)
    }

    /// How many ends there are.
    pub(super) fn len(&self) -> usize {
        lock(&self.0).ends.len()
    }
}

impl<E> Seat<E> {
    pub(super) fn name(&self) -> Name {
        self.name
    }

    /// Cancelled once the same end has come again.
    pub(super) fn replaced(&self) -> &CancellationToken {
        &self.replaced
    }

    /// The end that waits for this one since before it came. Of two, the one that came last hands itself to
    /// the other.
    pub(super) fn other(&self) -> Option<u64> {
        let table = lock(&self.table);
        let other = table.ends.get(&self.name.other())?;
        (other.id < self.id && other.meets.is_some()).then_some(other.id)
    }
}

/// Hands an end to the one that waits for it, if that is still there and so is this one; else gives it back.
pub(super) fn meet<E>(end: E, seat: impl Fn(&E) -> &Seat<E>, other: u64) -> Result<(), E> {
    let (table, name, id) = (seat(&end).table.clone(), seat(&end).name, seat(&end).id);
    let mut table = lock(&table);
    if table.ends.get(&name).is_none_or(|own| own.id != id) {
        return Err(end);
    }
    let Some(waits) = table.ends.get_mut(&name.other()).filter(|waits| waits.id == other) else {
        return Err(end);
    };
    let Some(sender) = waits.meets.take() else { return Err(end) };
    // The end may be given up in there, which needs the table.
    match sender.send(end) {
        Ok(()) => {
            if let Some(own) = table.ends.get_mut(&name) {
                own.meets = None;
            }
            Ok(())
        }
        Err(end) => {
            drop(table);
            Err(end)
        }
    }
}

impl<E> Drop for Seat<E> {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        if let Entry::Occupied(present) = table.ends.entry(self.name)
            && present.get().id == self.id
        {
            present.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Name = Name { key: [1; 32], peer: [2; 32] };
    const OTHER: Name = Name { key: [2; 32], peer: [1; 32] };

    struct End(Seat<Self>);

    #[test]
    fn the_one_that_comes_last_is_handed_to_the_one_that_waits() {
        let ends = Rendezvous::default();
        let (one, mut meets) = ends.enter(ONE);
        assert_eq!(one.other(), None);
        let (other, _) = ends.enter(OTHER);
        let waits = other.other().expect("somebody waits");
        assert_eq!(one.other(), None, "the first one waits to be handed the other");
        assert!(meet(End(other), |end| &end.0, waits).is_ok());
        let met = meets.try_recv().expect("handed over");
        assert_eq!(met.0.name(), OTHER);
        // Neither is there for anybody else now.
        let (third, _) = ends.enter(OTHER);
        assert!(met.0.replaced().is_cancelled());
        assert_eq!(third.other(), None);
        drop((one, met));
        assert_eq!(ends.len(), 1, "the one that came last keeps its seat");
        drop(third);
        assert_eq!(ends.len(), 0);
    }

    #[test]
    fn nobody_is_handed_to_one_that_went_or_was_replaced_nor_if_it_was_replaced_itself() {
        let ends = Rendezvous::default();
        let (one, meets) = ends.enter(ONE);
        let (other, _) = ends.enter(OTHER);
        let waits = other.other().expect("somebody waits");
        let (again, _) = ends.enter(ONE);
        assert!(one.replaced().is_cancelled());
        let back = meet(End(other), |end: &End| &end.0, waits).expect_err("replaced");
        assert_eq!(again.other(), Some(back.0.id), "it is the one that comes last now");
        drop((again, meets));
        assert!(meet(back, |end| &end.0, waits).is_err(), "gone");

        let (one, meets) = ends.enter(ONE);
        let (other, _) = ends.enter(OTHER);
        let (waits, newer) = (other.other().expect("somebody waits"), ends.enter(OTHER));
        assert!(meet(End(other), |end| &end.0, waits).is_err(), "replaced itself");
        drop(meets);
        assert!(meet(End(newer.0), |end| &end.0, waits).is_err(), "it stopped waiting");
        drop(one);
        assert_eq!(ends.len(), 0);
    }
}
