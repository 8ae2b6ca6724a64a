//! Any text as the name of a file: panics where what comes of it is not safe. Fuzzing runs it.

use std::path::{Component, Path};

use ats_p2p::files::{SafeName, display};

/// The longest name, in bytes.
const MAX_LEN: usize = 255;

pub(crate) fn run(data: &[u8]) {
    let offered = String::from_utf8_lossy(data);
    let name = SafeName::from_offered(&offered);
    check(&name);
    assert_eq!(SafeName::from_offered(name.as_str()), name, "a safe name stays as it is");
    let number = data.iter().fold(1, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
    let numbered = name.numbered(number);
    check(&numbered);
    assert_ne!(numbered, name);
    assert!(!display(&offered).contains(is_unseen), "what is shown is escaped");
}

fn check(name: &SafeName) {
    let text = name.as_str();
    let mut parts = Path::new(text).components();
    assert!(matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == text));
    assert!((1..=MAX_LEN).contains(&text.len()), "{} bytes", text.len());
    assert!(!text.contains(is_unseen) && !text.contains(['/', '\\', ':', '<', '>', '"', '|', '?', '*']));
    assert!(!text.starts_with(['-', ' ']) && !text.starts_with("..") && !text.ends_with(['.', ' ']));
    assert!(
        !text.contains("\u{200c}\u{200c}") && !text.starts_with(is_joiner) && !text.ends_with('\u{200c}')
    );
    assert!(![".bashrc", ".git", ".ssh"].contains(&text.to_ascii_lowercase().as_str()), "{text} is obeyed");
    let stem = text.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    assert!(!["CON", "NUL", "AUX", "PRN", "COM1", "LPT9"].contains(&stem.as_str()), "{text} is a device");
}

fn is_unseen(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || c == '\u{200b}' || turns
}

/// One that may stand between two others that it joins or keeps apart.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}
