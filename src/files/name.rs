//! The name a file is written under.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

use super::{
    obeyed::is_obeyed,
    temporary::is_temporary,
    text::{characters, is_hidden},
};

/// The longest name, in bytes: what the file systems in use allow (some count UTF-16 units, of which
/// there are never more).
const MAX_LEN: usize = 255;

/// The longest ending, dot included, in bytes, that is kept whole when a name is cut.
const MAX_EXTENSION: usize = 32;

/// Times that it is looked what belongs to what in a name; whoever made one that takes more wants to keep
/// us busy.
const MAX_PASSES: u32 = 8;

/// The name of a file whose offered name has nothing that can be kept.
const FALLBACK: &str = "file";

/// Names that Windows gives to devices, whatever ending follows.
const DEVICES: [&str; 7] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"];

/// A name of one file in a folder, which can be written on every system and hides nothing.
///
/// It is 1 to 255 bytes long and in Unicode's form NFC; it has no separator, no control, no character
/// that turns the direction of text or can't be seen where it is no part of a word or an emoji, and none that
/// Windows refuses; it starts with neither two dots nor a dash nor a space, ends with neither a dot nor a
/// space, names no device, no file of a transfer under way, and none that programs obey wherever they find
/// it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SafeName(String);

impl SafeName {
    /// The safe name closest to an offered one: the last part of a path that has anything to keep.
    ///
    /// A name that is safe already stays as it is.
    pub fn from_offered(offered: &str) -> Self {
        let last = offered.rsplit(['/', '\\']).map(clean).find(|part| !part.is_empty());
        let name = last.unwrap_or_else(|| FALLBACK.to_owned());
        Self(guarded(fit(&name, "")))
    }

    /// The safe name closest to that of one file in a tree, which is no path.
    pub(super) fn of_part(name: &str) -> Self {
        Self::from_offered(&name.replace(['/', '\\'], "_"))
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
    let replaced = part.nfc().map(|c| match c {
        // A line's end is white space too, and is taken out.
        c if c.is_whitespace() && !is_hidden(c) => ' ',
        '<' | '>' | ':' | '"' | '|' | '?' | '*' | '/' | '\\' => '_',
        c => c,
    });
    let name = visible(replaced.collect());
    let name = name.trim_matches(' ').trim_end_matches([' ', '.']);
    if name.starts_with("..") || name.starts_with('-') {
        return format!("_{}", name.get(1..).unwrap_or_default());
    }
    name.to_owned()
}

/// A name without the characters that have no place in it.
fn visible(mut name: String) -> String {
    for pass in 0.. {
        // What is taken out may leave others without their place, and bring together two that combine.
        let has_place = |(c, has_none): (char, bool)| !has_none && (pass < MAX_PASSES || !is_hidden(c));
        let kept: String =
            characters(&name).filter(|character| has_place(*character)).map(|(c, _)| c).nfc().collect();
        if kept == name {
            break;
        }
        name = kept;
    }
    name
}

/// A name that nothing but people goes by.
fn guarded(name: String) -> String {
    match name {
        name if is_device(&name) => fit(&format!("_{name}"), ""),
        name if is_obeyed(&name) || is_temporary(name.as_ref()) => {
            format!("_{}", name.get(1..).unwrap_or_default())
        }
        name => name,
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
    let stem = visible(stem.get(..cut).unwrap_or_default().to_owned());
    let stem = match stem.trim_end_matches([' ', '.']) {
        "" => FALLBACK,
        stem => stem,
    };
    format!("{stem}{suffix}{extension}")
}

/// A name cut before its ending, both parts of `.tar.gz` and its like together; the ending may be empty, as
/// in `a.jpg and 2 more`.
fn split_extension(name: &str) -> (&str, &str) {
    let is_ending = |ending: &str| ending.len() <= MAX_EXTENSION && !ending.contains(' ');
    let dot = match name.rfind('.') {
        Some(dot) if dot > 0 && name.get(dot..).is_some_and(is_ending) => dot,
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
            ".env",
            ".gitignore",
            ".env.local",
            "می\u{200c}خواهم.txt",
            "क्\u{200d}ष.txt",
            "👨\u{200d}👩\u{200d}👧.png",
            "❤\u{fe0f}.txt",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f} 1\u{fe0f}\u{20e3}.txt",
            "葛\u{e0100}城.txt",
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
    fn options_and_files_that_programs_obey_lose_their_first_character() {
        assert_eq!(safe(".bashrc"), "_bashrc");
        // What some disks take for one of these.
        for name in [".BASHRC", ".ba\u{17f}hrc", ".pro\u{fb01}le", ".\u{df}h", ".\u{1e9e}h"] {
            assert_eq!(safe(name), name.replacen('.', "_", 1));
        }
        assert_eq!(safe("-rf"), "_rf");
        assert_eq!(safe(" .ssh"), "_ssh");
        assert_eq!(safe(".g\u{200c}It"), "_gIt");
        assert_eq!(safe(&format!(".zshenv{}x", " ".repeat(300))), "_zshenv");
        assert_eq!(safe("..hidden"), "_.hidden");
        assert_eq!(safe(".0123456789abcdef.part"), "_0123456789abcdef.part");
        assert_eq!(safe(&format!(".{}x", " ".repeat(300))), "file");
    }

    #[test]
    fn heaps_of_marks_become_as_few_as_letters_have() {
        let heap = format!("Z{}.txt", "\u{334}".repeat(500));
        assert_eq!(safe(&heap), format!("Z{}.txt", "\u{334}".repeat(10)));
    }

    #[test]
    fn a_name_that_is_cut_ends_in_no_joiner() {
        let family = "👨\u{200d}👩\u{200d}👧\u{200d}👦";
        for before in 0..8 {
            let name = safe(&format!("{}{}.png", "a".repeat(before), family.repeat(20)));
            assert!(name.len() <= 255 && name.ends_with(".png") && !name.contains("\u{200d}."), "{name:?}");
            assert_eq!(safe(&name), name);
        }
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
        assert_eq!(numbered("a.jpg and 2 more"), "a.jpg and 2 more (12)");
        assert_eq!(numbered(&"x".repeat(255)), format!("{} (12)", "x".repeat(250)));
    }

    proptest! {
        #[test]
        fn any_name_becomes_a_safe_one(
            offered in prop_oneof![
                any::<String>(),
                "[ ./\\\\:\u{200b}\u{202e}\u{308}a-cCON0-9ä-]{0,12}",
                "[a. ä]{200,400}",
                "[.a\u{200c}\u{200d}\u{fe0f}\u{301}\u{94d}\u{915}\u{645}\u{1f468}\u{180b}\u{1820}]{0,30}",
                "[.\u{200d}\u{fe0f}\u{1f468}\u{645}\u{200c}]{60,120}",
                "[.][a-z]{2,8}(rc|[.]part)?",
            ],
            number in any::<u32>(),
        ) {
            let name = SafeName::from_offered(&offered);
            for name in [&name, &name.numbered(number)] {
                let text = name.as_str();
                prop_assert!(!text.is_empty() && text.len() <= 255);
                prop_assert!(!text.contains(['/', '\\', ':', '<', '>', '"', '|', '?', '*']));
                prop_assert!(!text.starts_with(['-', ' ']) && !text.starts_with(".."));
                prop_assert!(!text.ends_with(['.', ' ']) && !is_obeyed(text) && !is_temporary(text.as_ref()));
                prop_assert!(!characters(text).any(|(_, is_hidden)| is_hidden), "{:?}", text);
                prop_assert!(!is_device(text) && is_nfc(text));
                prop_assert_eq!(&SafeName::from_offered(text), name);
            }
        }
    }
}
