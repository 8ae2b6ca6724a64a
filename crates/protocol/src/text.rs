//! Which characters deceive, and foreign text made fit to be shown.

use crate::joiners::{MAX_MARKS, belongs, is_nonspacing};

/// The characters that have no place in a line of text, as ranges of code points, both ends included, in
/// rising order: each controls a terminal, reorders what is around it, or has no shape of its own, so that
/// two names can look alike and be different.
///
/// These are the controls, the line and paragraph separators, the interlinear marks, and Unicode's property
/// Default_Ignorable_Code_Point, which the direction marks and all of zero width belong to. The command line
/// has the same table in `bin/output.js`; a test holds the two together.
///
/// Some of them belong to a text in certain places: [`characters`] tells.
pub const HIDDEN: [(char, char); 19] = [
    ('\0', '\u{1F}'),
    ('\u{7F}', '\u{9F}'),
    ('\u{AD}', '\u{AD}'),
    ('\u{34F}', '\u{34F}'),
    ('\u{61C}', '\u{61C}'),
    ('\u{115F}', '\u{1160}'),
    ('\u{17B4}', '\u{17B5}'),
    ('\u{180B}', '\u{180F}'),
    ('\u{200B}', '\u{200F}'),
    ('\u{2028}', '\u{202E}'),
    ('\u{2060}', '\u{206F}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{FE00}', '\u{FE0F}'),
    ('\u{FEFF}', '\u{FEFF}'),
    ('\u{FFA0}', '\u{FFA0}'),
    ('\u{FFF0}', '\u{FFFB}'),
    ('\u{1BCA0}', '\u{1BCA3}'),
    ('\u{1D173}', '\u{1D17A}'),
    ('\u{E0000}', '\u{E0FFF}'),
];

/// Characters shown of a foreign text by [`display`]: several times any name, and no flood of a log or a
/// screen.
const MAX_SHOWN: usize = 1024;

/// Whether a character is one of [`HIDDEN`].
pub fn is_hidden(c: char) -> bool {
    HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

/// The characters of a text, and of each whether it has no place where it stands: it is one of [`HIDDEN`] and
/// changes the shape of nothing, or a mark above so many others that they cover the lines around them.
///
/// What is left of a text without these may hold others: those that belonged to what is gone.
pub fn characters(text: &str) -> impl Iterator<Item = (char, bool)> {
    let text = text.chars().collect::<Vec<_>>();
    let mut marks = 0;
    (0..text.len()).filter_map(move |at| {
        let (before, rest) = text.split_at_checked(at)?;
        let (c, after) = rest.split_first()?;
        if is_hidden(*c) {
            return Some((*c, !belongs(before, *c, after)));
        }
        marks = if !c.is_ascii() && is_nonspacing(*c) { marks + 1 } else { 0 };
        Some((*c, marks > MAX_MARKS))
    })
}

/// Foreign text in a form that is safe to print and can be told from any other: characters that have no
/// place where they stand come as `\u{…}`, `\n`, `\r` or `\t`, a backslash doubled. What has more than
/// 1024 characters ends in `…`.
pub fn display(text: &str) -> String {
    escaped(text, MAX_SHOWN, |c, is_hidden, shown| match c {
        '\\' => shown.push_str(r"\\"),
        c if is_hidden => shown.extend(c.escape_default()),
        c => shown.push(c),
    })
}

/// A foreign message in a form that is safe to print as part of one line: without white space around it, line
/// ends and tabs as spaces, all else that is hidden as `\u{…}`. What has more than `limit` characters ends in
/// `…`.
pub fn one_line(text: &str, limit: usize) -> String {
    escaped(text.trim(), limit, |c, is_hidden, shown| match c {
        '\n' | '\t' | '\r' => shown.push(' '),
        c if is_hidden => shown.extend(c.escape_unicode()),
        c => shown.push(c),
    })
}

fn escaped(text: &str, limit: usize, show: impl Fn(char, bool, &mut String)) -> String {
    let mut shown = String::with_capacity(text.len().min(limit));
    let end = text.char_indices().nth(limit).map_or(text.len(), |(end, _)| end);
    let (head, rest) = text.split_at_checked(end).unwrap_or_default();
    for (c, is_hidden) in characters(head) {
        show(c, is_hidden, &mut shown);
    }
    if !rest.is_empty() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_rises_and_holds_all_controls() {
        assert!(HIDDEN.iter().all(|(first, last)| first <= last));
        assert!(HIDDEN.windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert!((char::MIN..=char::MAX).filter(|c| c.is_control()).all(is_hidden));
    }

    #[test]
    fn plain_text_is_shown_as_it_is() {
        for text in ["", "report (1).pdf", "Größe 大きさ размер.txt", "🦀", "a\u{a0}b"] {
            assert_eq!(display(text), text);
            assert_eq!(one_line(text, 100), text);
        }
    }

    #[test]
    fn terminal_controls_directions_and_the_invisible_are_escaped() {
        assert_eq!(display("\x1b[2J\r\n\t\x07"), r"\u{1b}[2J\r\n\t\u{7}");
        assert_eq!(display("gpj.\u{202e}exe"), r"gpj.\u{202e}exe");
        assert_eq!(display("a\u{200b}b\u{feff}\u{2066}"), r"a\u{200b}b\u{feff}\u{2066}");
        assert_eq!(display("\u{9b}31m"), r"\u{9b}31m");
        assert_eq!(display(r"\u{202e}"), r"\\u{202e}");
        assert_eq!(one_line("a\x1b[31mb\u{202e}c\u{7f}", 100), r"a\u{1b}[31mb\u{202e}c\u{7f}");
        assert_eq!(one_line("a\u{2062}b\u{fe0f}c\u{e0fff}", 100), r"a\u{2062}b\u{fe0f}c\u{e0fff}");
    }

    #[test]
    fn line_ends_of_a_message_become_spaces() {
        assert_eq!(one_line(" one\ntwo\r\n ", 100), "one two");
        assert_eq!(one_line("a\tb", 100), "a b");
    }

    #[test]
    fn of_marks_in_heaps_those_that_would_cover_other_lines_are_escaped() {
        let heap = |count| format!("Z{}", "\u{301}".repeat(count));
        assert_eq!(display(&heap(MAX_MARKS)), heap(MAX_MARKS));
        assert_eq!(display(&heap(MAX_MARKS + 2)), format!(r"{}\u{{301}}\u{{301}}", heap(MAX_MARKS)));
        for word in ["ཧྐྵྨླྺྼྻྂ", "Vie\u{323}\u{302}t", "בְּרֵאשִׁ֖ית", "ကြွေးမြွှေ"]
        {
            assert_eq!(display(word), word);
        }
    }

    #[test]
    fn what_is_long_is_cut() {
        let shown = display(&"x".repeat(100_000));
        assert_eq!(shown.chars().count(), MAX_SHOWN + 1);
        assert!(shown.ends_with('…'));
        assert_eq!(one_line("日本語", 2), "日本…");
    }

    /// What the texts are and the texts themselves; the command line is tried with the same ones.
    fn texts(kind: &str) -> Vec<(String, String)> {
        let all: HashMap<String, Vec<(String, String)>> =
            serde_json::from_str(include_str!("../tests/joiners.json")).unwrap();
        all[kind].clone()
    }

    #[test]
    fn what_changes_the_shape_of_its_neighbours_belongs_to_the_text() {
        for (what, text) in texts("belong") {
            assert!(characters(&text).all(|(_, is_hidden)| !is_hidden), "{what}: {text:?}");
            assert_eq!(display(&text), text, "{what}");
        }
    }

    #[test]
    fn what_does_nothing_where_it_stands_is_hidden() {
        for (what, text) in texts("hidden") {
            assert!(characters(&text).any(|(_, is_hidden)| is_hidden), "{what}: {text:?}");
        }
    }

    #[test]
    fn alone_nothing_belongs() {
        for c in HIDDEN.iter().flat_map(|(first, last)| *first..=*last) {
            assert!(characters(&c.to_string()).all(|(_, is_hidden)| is_hidden), "{c:?}");
            assert!(characters(&format!("a{c}b")).any(|(_, is_hidden)| is_hidden), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left(text in prop_oneof![
            any::<String>(),
            "[ab\u{200c}\u{200d}\u{fe0f}\u{300}\u{94d}\u{915}\u{645}\u{1f468}\u{e0100}\u{845b}]{0,40}",
        ]) {
            prop_assert!(!characters(&display(&text)).any(|(_, is_hidden)| is_hidden));
            prop_assert!(!characters(&one_line(&text, 100)).any(|(_, is_hidden)| is_hidden));
        }
    }
}
