//! The links of a swarm: at most one for each peer, a dial or an open connection. No I/O.

use std::collections::HashMap;

use secret_stream::PublicKey;

/// Names one dial or connection. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LinkId(u64);

/// A dial, or an open connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    /// We dialled it.
    pub(crate) dialled: bool,
    pub(crate) open: bool,
    /// Takes its place once it is gone.
    pub(crate) replacement: Option<LinkId>,
}

/// All links, by the peer and by name.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: HashMap<PublicKey, Link>,
    keys: HashMap<LinkId, PublicKey>,
    last_id: u64,
    dialling: usize,
}

impl Links {
    /// A name for a dial or connection.
    pub(crate) fn new_id(&mut self) -> LinkId {
        self.last_id += 1;
        LinkId(self.last_id)
    }

    pub(crate) fn get(&self, key: &PublicKey) -> Option<&Link> {
        self.links.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &PublicKey) -> Option<&mut Link> {
        self.links.get_mut(key)
    }

    pub(crate) fn contains(&self, key: &PublicKey) -> bool {
        self.links.contains_key(key)
    }

    /// Whom a link goes to.
    pub(crate) fn key(&self, id: LinkId) -> Option<PublicKey> {
        self.keys.get(&id).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// Dials under way.
    pub(crate) fn dialling(&self) -> usize {
        self.dialling
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PublicKey, &Link)> {
        self.links.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.links.values_mut()
    }

    /// Adds a dial to a peer that has no link.
    pub(crate) fn add_dial(&mut self, key: PublicKey) -> LinkId {
        let id = self.new_id();
        self.dialling += 1;
        self.add(key, Link { id, dialled: true, open: false, replacement: None });
        id
    }

    /// Adds a connection that a peer without a link has dialled.
    pub(crate) fn add_open(&mut self, id: LinkId, key: PublicKey) {
        self.add(key, Link { id, dialled: false, open: true, replacement: None });
    }

    fn add(&mut self, key: PublicKey, link: Link) {
        self.keys.insert(link.id, key);
        self.links.insert(key, link);
    }

    /// A dial has succeeded: whom it went to. `None` if there is no such dial any more.
    pub(crate) fn opened(&mut self, id: LinkId) -> Option<PublicKey> {
        let key = self.key(id)?;
        let link = self.links.get_mut(&key).filter(|link| !link.open)?;
        link.open = true;
        self.dialling -= 1;
        Some(key)
    }

    /// Takes out a link that is gone.
    pub(crate) fn remove(&mut self, id: LinkId) -> Option<(PublicKey, Link)> {
        let key = self.keys.remove(&id)?;
        let link = self.links.remove(&key)?;
        if !link.open {
            self.dialling -= 1;
        }
        Some((key, link))
    }
}
