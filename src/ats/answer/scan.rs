//! Cuts the entries of lists out of JSON that arrives in pieces, without reading them.
//!
//! Nothing here recurses, so depth costs nothing. Only brackets and strings are told apart: whether an entry
//! is JSON is for its reader to say.

/// The most bytes of one entry; a longer one is passed over.
const MAX_ENTRY: usize = 512 * 1024;
/// The most bytes of an answer besides the entries of its lists.
const MAX_REST: usize = 512 * 1024;
/// How deep a list may stand.
const MAX_PATH: usize = 3;
/// Longer than the longest name that matters.
const MAX_NAME: usize = 16;

/// A name on the way to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListKey {
    /// `data`
    Data,
    /// `task`
    Task,
    /// `tasks`
    Tasks,
    /// `messages`
    Messages,
    /// Any other, or a place in a list.
    Other,
}

/// Cuts the entries of some lists out of JSON.
#[derive(Debug)]
pub(super) struct Scanner {
    /// Where the lists stand whose entries are wanted.
    wanted: &'static [&'static [ListKey]],
    /// The list that is being read.
    list: Option<List>,
    has_found: bool,
    /// All but the entries.
    rest: Vec<u8>,
    is_full: bool,
    text: Text,
    /// The beginning of the last string, which may have been a name.
    last: Vec<u8>,
    depth: usize,
    path: [ListKey; MAX_PATH],
}

/// A list whose entries are wanted.
#[derive(Debug, Default)]
struct List {
    text: Text,
    /// How deep within the entry.
    depth: usize,
    entry: Vec<u8>,
    has_begun: bool,
    is_too_long: bool,
}

/// Whether a string is being read.
#[derive(Debug, Default)]
struct Text {
    is_open: bool,
    is_escaped: bool,
}

impl Scanner {
    pub(super) fn new(wanted: &'static [&'static [ListKey]]) -> Self {
        Self {
            wanted,
            list: None,
            has_found: false,
            rest: Vec::new(),
            is_full: false,
            text: Text::default(),
            last: Vec::new(),
            depth: 0,
            path: [ListKey::Other; MAX_PATH],
        }
    }

    /// Takes the next bytes. `each` is told every entry that ends in them, without those that are too long,
    /// and says whether to go on; `false` if it said not to.
    pub(super) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Option<&[u8]>) -> bool) -> bool {
        for &byte in bytes {
            let Some(list) = &mut self.list else {
                self.outside(byte);
                continue;
            };
            let is_outermost = !list.text.is_open && list.depth == 0;
            let ends = is_outermost && matches!(byte, b',' | b']');
            if !ends {
                list.push(byte);
                continue;
            }
            let goes_on = !list.has_begun || each((!list.is_too_long).then_some(&list.entry));
            *list = List::default();
            if byte == b']' {
                self.list = None;
                self.keep(byte);
            }
            if !goes_on {
                return false;
            }
        }
        true
    }

    /// The last entry, where the answer was cut short right behind it.
    pub(super) fn take_last(&mut self) -> Option<Vec<u8>> {
        let list = self.list.take().filter(|list| list.has_begun && !list.is_too_long)?;
        (list.depth == 0 && !list.text.is_open).then_some(list.entry)
    }

    /// Whether a list that is wanted was found.
    pub(super) fn has_found(&self) -> bool {
        self.has_found
    }

    /// Whether there was more besides the entries than can be kept.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// All but the entries.
    pub(super) fn into_rest(self) -> Vec<u8> {
        self.rest
    }

    fn keep(&mut self, byte: u8) {
        if self.rest.len() < MAX_REST {
            self.rest.push(byte);
        } else {
            self.is_full = true;
        }
    }

    fn outside(&mut self, byte: u8) {
        self.keep(byte);
        if self.text.is_open {
            self.text.step(byte);
            if self.text.is_open && self.last.len() < MAX_NAME {
                self.last.push(byte);
            }
            return;
        }
        match byte {
            b'"' => {
                self.text.step(byte);
                self.last.clear();
            }
            b':' => {
                let key = ListKey::named(&self.last);
                self.set_key(key);
            }
            b'[' if self.is_wanted() => {
                self.list = Some(List::default());
                self.has_found = true;
            }
            b'[' | b'{' => {
                self.depth = self.depth.saturating_add(1);
                self.set_key(ListKey::Other);
            }
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    /// Notes what is being read in the innermost object or array.
    fn set_key(&mut self, key: ListKey) {
        if let Some(place) = self.depth.checked_sub(1).and_then(|index| self.path.get_mut(index)) {
            *place = key;
        }
    }

    /// Whether the list that begins here is one of those wanted.
    fn is_wanted(&self) -> bool {
        self.path.get(..self.depth).is_some_and(|path| self.wanted.contains(&path))
    }
}

impl List {
    fn push(&mut self, byte: u8) {
        if !self.has_begun && byte.is_ascii_whitespace() {
            return;
        }
        self.has_begun = true;
        if self.text.is_open || byte == b'"' {
            self.text.step(byte);
        } else {
            match byte {
                b'[' | b'{' => self.depth = self.depth.saturating_add(1),
                b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        if self.entry.len() < MAX_ENTRY {
            self.entry.push(byte);
        } else {
            self.is_too_long = true;
        }
    }
}

impl Text {
    fn step(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.is_open => self.is_escaped = true,
            b'"' => self.is_open = !self.is_open,
            _ => {}
        }
    }
}

impl ListKey {
    fn named(name: &[u8]) -> Self {
        match name {
            b"data" => Self::Data,
            b"task" => Self::Task,
            b"tasks" => Self::Tasks,
            b"messages" => Self::Messages,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTS: &[&[ListKey]] = &[&[], &[ListKey::Tasks], &[ListKey::Data, ListKey::Tasks]];

    fn cut(json: &str) -> (Vec<String>, String) {
        let mut entries = Vec::new();
        let mut scanner = Scanner::new(LISTS);
        scanner.feed(json.as_bytes(), |entry| {
            entries.push(entry.map_or_else(
                || "(too long)".to_owned(),
                |entry| String::from_utf8_lossy(entry).into_owned(),
            ));
            true
        });
        (entries, String::from_utf8_lossy(&scanner.into_rest()).into_owned())
    }

    #[test]
    fn entries_are_cut_out_and_the_rest_remains() {
        for (json, entries, rest) in [
            ("[1, [2,3] ,\"]\"]", vec!["1", "[2,3] ", "\"]\""], "[]"),
            ("{\"tasks\":[{\"a\":\"\\\"]\"}],\"n\":1}", vec!["{\"a\":\"\\\"]\"}"], "{\"tasks\":[],\"n\":1}"),
            ("{\"data\":{\"tasks\":[{}]}}", vec!["{}"], "{\"data\":{\"tasks\":[]}}"),
            ("{\"x\":{\"tasks\":[{}]}}", vec![], "{\"x\":{\"tasks\":[{}]}}"),
            ("{\"x\":\"tasks\",\"y\":[1]}", vec![], "{\"x\":\"tasks\",\"y\":[1]}"),
            ("{\"tasks\":[]}", vec![], "{\"tasks\":[]}"),
            ("{\"tasks\":[ , ,]}", vec![], "{\"tasks\":[]}"),
        ] {
            let (found, left) = cut(json);
            assert_eq!(
                (found.iter().map(String::as_str).collect(), left.as_str()),
                (entries, rest),
                "{json}"
            );
        }
    }

    #[test]
    fn nothing_is_held_that_is_too_long() {
        let long = "x".repeat(3 * MAX_ENTRY);
        let (entries, rest) = cut(&format!("[\"{long}\",1]"));
        assert_eq!((entries, rest.as_str()), (vec!["(too long)".to_owned(), "1".to_owned()], "[]"));
        let mut scanner = Scanner::new(LISTS);
        scanner.feed(format!("{{\"x\":\"{long}").as_bytes(), |_| true);
        assert!(scanner.is_full() && scanner.into_rest().len() <= MAX_REST);
    }
}
