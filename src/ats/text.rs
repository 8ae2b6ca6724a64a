//! Text from the network, made fit to be shown.

/// The most characters of a foreign text that an error repeats: two lines of a terminal.
pub(super) const SHOWN: usize = 200;

/// `text` with everything invisible or able to steer a terminal written as an escape, and cut after
/// `limit` characters of the original.
pub(super) fn printable(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for (at, c) in text.trim().chars().enumerate() {
        if at == limit {
            shown.push('…');
            break;
        }
        match c {
            '\n' | '\t' | '\r' => shown.push(' '),
            c if is_unsafe(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// Controls, and the characters that hide or reorder what stands around them.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert_eq!(printable("a\x1b[31mb\u{202e}c\u{7f}", 100), r"a\u{1b}[31mb\u{202e}c\u{7f}");
    }

    #[test]
    fn line_ends_become_spaces_and_length_is_bounded() {
        assert_eq!(printable(" one\ntwo ", 100), "one two");
        assert_eq!(printable("日本語", 2), "日本…");
    }
}
