//! Which characters deceive, and text escaped for showing.

use std::path::Path;

/// Characters shown of a foreign text: several times any name, and no flood of a log or a screen.
const MAX_SHOWN: usize = 1024;

/// Foreign text in a form that is safe to print: characters that move the cursor, turn the direction of
/// text or can't be seen come as `\u{…}`, a backslash doubled; what is very long ends in `…`.
pub fn display(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MAX_SHOWN));
    for (count, c) in text.chars().enumerate() {
        if count == MAX_SHOWN {
            shown.push('…');
            break;
        }
        if c == '\\' || is_hidden(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A path of this machine in the same form; bytes that are not UTF-8 come as U+FFFD.
pub fn display_path(path: &Path) -> String {
    display(&path.to_string_lossy())
}

/// Whether a character has no place in a line of text: it controls a terminal, reorders what is around
/// it, or has no shape of its own, so that two names can look alike and be different.
///
/// These are the controls, the line and paragraph separators, the interlinear marks, and Unicode's
/// property Default_Ignorable_Code_Point, which the direction marks and all of zero width belong to.
pub(super) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}'
            | '\u{034F}'
            | '\u{061C}'
            | '\u{115F}'..='\u{1160}'
            | '\u{17B4}'..='\u{17B5}'
            | '\u{180B}'..='\u{180F}'
            | '\u{200B}'..='\u{200F}'
            | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{3164}'
            | '\u{FE00}'..='\u{FE0F}'
            | '\u{FEFF}'
            | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFFB}'
            | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_text_is_shown_as_it_is() {
        for text in ["", "report (1).pdf", "Größe 大きさ размер.txt", "🦀", "a\u{a0}b"] {
            assert_eq!(display(text), text);
        }
    }

    #[test]
    fn terminal_controls_directions_and_the_invisible_are_escaped() {
        assert_eq!(display("\x1b[2J\r\n\t\x07"), r"\u{1b}[2J\r\n\t\u{7}");
        assert_eq!(display("gpj.\u{202e}exe"), r"gpj.\u{202e}exe");
        assert_eq!(display("a\u{200b}b\u{feff}\u{2066}"), r"a\u{200b}b\u{feff}\u{2066}");
        assert_eq!(display("\u{9b}31m"), r"\u{9b}31m");
        assert_eq!(display(r"\u{202e}"), r"\\u{202e}");
    }

    #[test]
    fn what_is_long_is_cut() {
        let shown = display(&"x".repeat(100_000));
        assert_eq!(shown.chars().count(), MAX_SHOWN + 1);
        assert!(shown.ends_with('…'));
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left(text in any::<String>()) {
            prop_assert!(!display(&text).chars().any(is_hidden));
        }
    }
}
