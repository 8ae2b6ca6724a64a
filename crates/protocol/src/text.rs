//! Which characters deceive, and foreign text made fit to be shown.

/// The characters that have no place in a line of text, as ranges of code points, both ends included, in
/// rising order: each controls a terminal, reorders what is around it, or has no shape of its own, so that
/// two names can look alike and be different.
///
/// These are the controls, the line and paragraph separators, the interlinear marks, and Unicode's property
/// Default_Ignorable_Code_Point, which the direction marks and all of zero width belong to. The command line
/// has the same table in `bin/output.js`; a test holds the two together.
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

/// Foreign text in a form that is safe to print and can be told from any other: hidden characters come as
/// `\u{…}`, `\n`, `\r` or `\t`, a backslash doubled. What has more than 1024 characters ends in `…`.
pub fn display(text: &str) -> String {
    escaped(text, MAX_SHOWN, |c, shown| match c {
        '\\' => shown.push_str(r"\\"),
        c if is_hidden(c) => shown.extend(c.escape_default()),
        c => shown.push(c),
    })
}

/// A foreign message in a form that is safe to print as part of one line: without white space around it, line
/// ends and tabs as spaces, all else that is hidden as `\u{…}`. What has more than `limit` characters ends in
/// `…`.
pub fn one_line(text: &str, limit: usize) -> String {
    escaped(text.trim(), limit, |c, shown| match c {
        '\n' | '\t' | '\r' => shown.push(' '),
        c if is_hidden(c) => shown.extend(c.escape_unicode()),
        c => shown.push(c),
    })
}

fn escaped(text: &str, limit: usize, show: impl Fn(char, &mut String)) -> String {
    let mut shown = String::with_capacity(text.len().min(limit));
    for (count, c) in text.chars().enumerate() {
        if count == limit {
            shown.push('…');
            break;
        }
        show(c, &mut shown);
    }
    shown
}

#[cfg(test)]
mod tests {
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
    fn what_is_long_is_cut() {
        let shown = display(&"x".repeat(100_000));
        assert_eq!(shown.chars().count(), MAX_SHOWN + 1);
        assert!(shown.ends_with('…'));
        assert_eq!(one_line("日本語", 2), "日本…");
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left(text in any::<String>()) {
            prop_assert!(!display(&text).chars().any(is_hidden));
            prop_assert!(!one_line(&text, 100).chars().any(is_hidden));
        }
    }
}
