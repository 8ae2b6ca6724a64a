//! The name a file is written under.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

use super::text::is_hidden;

/// The longest name, in bytes: what the file systems in use allow (some count UTF-16 units, of which
/// there are never more).
const MAX_LEN: usize = 255;

/// The longest ending, dot included, in bytes, that is kept whole when a name is cut.
const MAX_EXTENSION: usize = 32;

/// The name of a file whose offered name has nothing that can be kept.
const FALLBACK: &str = "file";

/// Names that Windows gives to devices, whatever ending follows.
const DEVICES: [&str; 7] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"];

/// A name of one file in a folder, which can be written on every system and hides nothing.
///
/// It is 1 to 255 bytes long and in Unicode's form NFC; it has no separator, no control, no character
/// that can't be seen or that turns the direction of text, and none that Windows refuses; it starts with
/// neither a dot nor a dash nor a space, ends with neither a dot nor a space, and names no device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SafeName(String);

impl SafeName {
    /// The safe name closest to an offered one: the last part of a path that has anything to keep.
    ///
    /// A name that is safe already stays as it is.
    pub fn from_offered(offered: &str) -> Self {
        let last = offered.rsplit(['/', '\\']).map(clean).find(|part| !part.is_empty());
        let name = last.unwrap_or_else(|| FALLBACK.to_owned());
        let name = fit(&name, "");
        Self(if is_device(&name) { fit(&format!("_{name}"), "") } else { name })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name with a number before its ending, for use where the name itself is taken: `a (1).txt`.
    pub fn numbered(&self, number: u32) -> Self {
        Self(fit(&self.0, &format!(" ({number})")))
    }
}

impl fmt::Display for SafeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One part of a path with all that may not be in a name removed or replaced; empty where nothing is left.
fn clean(part: &str) -> String {
    let mut name: String = part
        .nfc()
        .filter(|c| !is_hidden(*c))
        .map(|c| match c {
            c if c.is_whitespace() => ' ',
            '<' | '>' | ':' | '"' | '|' | '?' | '*' | '/' | '\\' => '_',
            c => c,
        })
        // Again, since a character that was removed may have stood between two that combine.
        .nfc()
        .collect();
    name.truncate(name.trim_end_matches([' ', '.']).len());
    let name = name.trim_start_matches(' ');
    match name.strip_prefix(['.', '-']) {
        Some(rest) => format!("_{rest}"),
        None => name.to_owned(),
    }
}

/// `name` with `suffix` before its ending, the part before both cut so that all fits.
fn fit(name: &str, suffix: &str) -> String {
    let (stem, extension) = split_extension(name);
    let room = MAX_LEN - suffix.len() - extension.len();
    if stem.len() <= room {
        return format!("{stem}{suffix}{extension}");
    }
    let cut = stem.floor_char_boundary(room);
    let stem = stem.get(..cut).unwrap_or_default().trim_end_matches([' ', '.']);
    format!("{stem}{suffix}{extension}")
}

/// A name cut before its ending, both parts of `.tar.gz` and its like together; the ending may be empty.
fn split_extension(name: &str) -> (&str, &str) {
    let dot = match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_EXTENSION => dot,
        _ => name.len(),
    };
    let (stem, _) = name.split_at(dot);
    let dot = match stem.strip_suffix(".tar") {
        Some(rest) if !rest.is_empty() && dot < name.len() => rest.len(),
        _ => dot,
    };
    name.split_at(dot)
}

/// Whether Windows takes the name for a device.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end_matches(' ').to_ascii_uppercase();
    let port = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|rest| {
            let mut digits = rest.chars();
            matches!((digits.next(), digits.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
        })
    };
    DEVICES.contains(&stem.as_str()) || port("COM") || port("LPT")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::is_nfc;

    use super::*;

    fn safe(offered: &str) -> String {
        SafeName::from_offered(offered).0
    }

    #[test]
    fn good_names_stay() {
        for name in [
            "a",
            "report.pdf",
            "Größe.txt",
            "大きさ.csv",
            "with space (1).tar.gz",
            "🦀.rs",
            "~x",
            "a..b",
            "_",
        ] {
            assert_eq!(safe(name), name);
        }
    }

    #[test]
    fn paths_leave_their_last_part() {
        assert_eq!(safe("../../etc/passwd"), "passwd");
        assert_eq!(safe("/etc/passwd"), "passwd");
        assert_eq!(safe(r"C:\Windows\system.ini"), "system.ini");
        assert_eq!(safe(r"\\server\share\x.doc"), "x.doc");
        assert_eq!(safe("dir/sub/"), "sub");
        assert_eq!(safe("a/.."), "a");
        assert_eq!(safe("C:evil.exe"), "C_evil.exe");
    }

    #[test]
    fn nothing_to_keep_becomes_file() {
        for name in ["", ".", "..", "...", "/", "//", r"\", " ", ". .", "\u{200b}", "\0", "\u{202e}/.."] {
            assert_eq!(safe(name), "file", "{name:?}");
        }
    }

    #[test]
    fn what_deceives_is_removed() {
        assert_eq!(safe("gpj.\u{202e}exe"), "gpj.exe");
        assert_eq!(safe("a\u{200b}\u{feff}b\0c\x1b[31m.txt"), "abc[31m.txt");
        assert_eq!(safe(".\u{200b}."), "file");
        assert_eq!(safe("a\u{a0}b\u{3000}c\td"), "a b cd");
    }

    #[test]
    fn what_windows_refuses_is_replaced() {
        assert_eq!(safe("a:b*c?d\"e<f>g|h"), "a_b_c_d_e_f_g_h");
        assert_eq!(safe("name. . "), "name");
        for device in ["CON", "con.txt", "Nul .tar.gz", "COM1", "lpt9.x", "COM¹", "conin$", "aux.", "CLOCK$"]
        {
            assert!(safe(device).starts_with('_'), "{device}");
        }
        for no_device in ["COM", "COM10", "console", "CONS.txt", "xcon"] {
            assert_eq!(safe(no_device), no_device);
        }
    }

    #[test]
    fn dotfiles_and_options_lose_their_first_character() {
        assert_eq!(safe(".bashrc"), "_bashrc");
        assert_eq!(safe("-rf"), "_rf");
        assert_eq!(safe(" .ssh"), "_ssh");
        assert_eq!(safe("..hidden"), "_.hidden");
    }

    #[test]
    fn names_of_one_look_are_one_name() {
        assert_eq!(safe("Gro\u{308}ße"), "Größe");
        assert_eq!(safe("o\u{200d}\u{308}"), "ö");
    }

    #[test]
    fn long_names_keep_their_ending() {
        let name = safe(&format!("{}.tar.gz", "ä".repeat(300)));
        assert_eq!(name.len(), 255);
        assert!(name.ends_with("ä.tar.gz"));
        assert_eq!(safe(&"x".repeat(256)).len(), 255);
        assert_eq!(safe(&format!("x.{}", "y".repeat(300))).len(), 255);
        assert_eq!(safe(&format!("CON{}x.txt", " ".repeat(300))), "_CON.txt");
        assert_eq!(safe(&format!("CON.{}", "y".repeat(300))).len(), 255);
    }

    #[test]
    fn numbers_stand_before_the_ending() {
        let numbered = |name: &str| SafeName::from_offered(name).numbered(12).0;
        assert_eq!(numbered("a.txt"), "a (12).txt");
        assert_eq!(numbered("a"), "a (12)");
        assert_eq!(numbered("a.tar.gz"), "a (12).tar.gz");
        assert_eq!(numbered("tar.gz"), "tar (12).gz");
        assert_eq!(numbered(&"x".repeat(255)), format!("{} (12)", "x".repeat(250)));
    }

    proptest! {
        #[test]
        fn any_name_becomes_a_safe_one(
            offered in prop_oneof![
                any::<String>(),
                "[ ./\\\\:\u{200b}\u{202e}\u{308}a-cCON0-9ä-]{0,12}",
                "[a. ä]{200,400}",
            ],
            number in any::<u32>(),
        ) {
            let name = SafeName::from_offered(&offered);
            for name in [&name, &name.numbered(number)] {
                let text = name.as_str();
                prop_assert!(!text.is_empty() && text.len() <= 255);
                prop_assert!(!text.contains(['/', '\\', ':', '<', '>', '"', '|', '?', '*']));
                prop_assert!(!text.starts_with(['.', '-', ' ']) && !text.ends_with(['.', ' ']));
                prop_assert!(!text.chars().any(is_hidden) && !is_device(text) && is_nfc(text));
                prop_assert_eq!(&SafeName::from_offered(text), name);
            }
        }
    }
}
