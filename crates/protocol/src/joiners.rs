//! Where characters that can't be seen belong: there each changes the shape of its neighbours, and a text
//! without it would be another one. Anywhere else it does nothing but make two texts that look alike.
//!
//! The rules are those of UAX 31 (profile 1) and RFC 5892 (appendix A) for the joiners between letters, of
//! UTS 51 for emoji, and of the standardised variation sequences. The command line has the same ones in
//! `bin/joiners.js`.

use icu_properties::props::{
    DefaultIgnorableCodePoint, Emoji, GeneralCategory, GeneralCategoryGroup, JoiningType, UnifiedIdeograph,
};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicode_normalization::char::canonical_combining_class;

/// Marks upon one character, at most: Tibetan has nine, Vietnamese two. UTS 39 would have four.
pub(crate) const MAX_MARKS: usize = 10;

const ZWNJ: char = '\u{200C}';
const ZWJ: char = '\u{200D}';
const TEXT_STYLE: char = '\u{FE0E}';
const EMOJI_STYLE: char = '\u{FE0F}';
const KEYCAP: char = '\u{20E3}';
const MONGOLIAN_VOWEL_SEPARATOR: char = '\u{180E}';
const BLACK_FLAG: char = '\u{1F3F4}';

/// The class of a sign that takes the vowel from a letter, so that it joins the next one.
const VIRAMA: u8 = 9;

/// The flags that are written as a black one and tags: England, Scotland and Wales. All others would be
/// shown as a black flag, with text in it that nobody sees.
const FLAGS: [&str; 3] = ["gbeng", "gbsct", "gbwls"];

/// The letters `r` that show by a joiner that they do not become a stroke above the next one: of Bengali,
/// Telugu and Kannada (The Unicode Standard, chapter 12).
const RA: [char; 3] = ['\u{9B0}', '\u{C30}', '\u{CB0}'];

/// Whether a character that can't be seen belongs between what stands before and behind it.
pub(crate) fn belongs(before: &[char], c: char, after: &[char]) -> bool {
    match c {
        ZWNJ => is_between_letters_that_join(before, after) || is_behind_virama(before) && is_letter(after),
        ZWJ => {
            is_within_emoji(before, after)
                || is_behind_virama(before) && !is_mark(after)
                || is_ra(before, after)
        }
        TEXT_STYLE | EMOJI_STYLE => match before.last() {
            Some('0'..='9' | '#' | '*') => c == EMOJI_STYLE && after.first() == Some(&KEYCAP),
            last => last.is_some_and(|last| is_pictograph(*last)),
        },
        '\u{FE00}'..='\u{FE02}' | '\u{E0100}'..='\u{E01EF}' => {
            before.last().is_some_and(|last| CodePointSetData::new::<UnifiedIdeograph>().contains(*last))
        }
        '\u{180B}'..='\u{180D}' | '\u{180F}' => before.last().is_some_and(|last| is_mongolian(*last)),
        MONGOLIAN_VOWEL_SEPARATOR => {
            let letter = match before {
                [rest @ .., '\u{180B}'..='\u{180D}' | '\u{180F}'] => rest.last(),
                _ => before.last(),
            };
            let is_final_vowel = matches!(after.first(), Some('\u{1820}' | '\u{1821}'));
            is_final_vowel && letter.is_some_and(|letter| is_mongolian(*letter))
        }
        '\u{E0020}'..='\u{E007F}' => is_within_flag(before, c, after),
        _ => false,
    }
}

/// Whether it is a mark that stands upon another character.
pub(crate) fn is_nonspacing(c: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    matches!(category, GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark)
}

/// Whether the letters on both sides would join, as those of Arabic do: RFC 5892, A.1.
fn is_between_letters_that_join(before: &[char], after: &[char]) -> bool {
    let joining = |c: char| CodePointMapData::<JoiningType>::new().get(c);
    let behind = letter_below(before).map(joining);
    let ahead = after.first().map(|c| joining(*c));
    matches!(behind, Some(JoiningType::DualJoining | JoiningType::LeftJoining))
        && matches!(ahead, Some(JoiningType::DualJoining | JoiningType::RightJoining))
}

/// Whether a letter without its vowel is the last: the joiners show how it joins the next one.
fn is_behind_virama(before: &[char]) -> bool {
    before.last().is_some_and(|last| canonical_combining_class(*last) == VIRAMA)
        && letter_below(before).is_some()
}

/// The letter that the last marks stand upon, of which there may be none.
fn letter_below(before: &[char]) -> Option<char> {
    let mut last =
        before.iter().rev().copied().enumerate().skip_while(|(count, c)| *count < MAX_MARKS && is_upon(*c));
    last.next().map(|(_, c)| c).filter(|c| is_letter(&[*c]))
}

/// Whether it is a mark that can be seen.
fn is_upon(c: char) -> bool {
    is_mark(&[c]) && !CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

fn is_ra(before: &[char], after: &[char]) -> bool {
    let is_virama = |c: &char| canonical_combining_class(*c) == VIRAMA;
    before.last().is_some_and(|last| RA.contains(last)) && after.first().is_some_and(is_virama)
}

fn is_within_emoji(before: &[char], after: &[char]) -> bool {
    let pictograph = match before {
        [rest @ .., EMOJI_STYLE | '\u{1F3FB}'..='\u{1F3FF}'] => rest.last(),
        _ => before.last(),
    };
    pictograph.is_some_and(|c| is_pictograph(*c)) && after.first().is_some_and(|c| is_pictograph(*c))
}

/// Whether it is an emoji by itself: no part of a keycap, a flag or a colour of skin.
fn is_pictograph(c: char) -> bool {
    let is_part = c.is_ascii() || matches!(c, '\u{1F1E6}'..='\u{1F1FF}' | '\u{1F3FB}'..='\u{1F3FF}');
    !is_part && CodePointSetData::new::<Emoji>().contains(c)
}

fn is_within_flag(before: &[char], c: char, after: &[char]) -> bool {
    FLAGS.iter().any(|flag| {
        let tags = flag.bytes().filter_map(|byte| char::from_u32(0xE_0000 + u32::from(byte)));
        let flag = std::iter::once(BLACK_FLAG).chain(tags).chain(['\u{E007F}']).collect::<Vec<_>>();
        let places = flag.iter().enumerate().skip(1).filter(|(_, tag)| **tag == c);
        places.into_iter().any(|(at, _)| {
            let (begin, rest) = flag.split_at(at);
            before.ends_with(begin) && after.starts_with(rest.get(1..).unwrap_or_default())
        })
    })
}

fn is_mongolian(c: char) -> bool {
    matches!(c, '\u{1820}'..='\u{18AA}') && is_letter(&[c])
}

fn is_letter(text: &[char]) -> bool {
    is_of(GeneralCategoryGroup::Letter, text)
}

fn is_mark(text: &[char]) -> bool {
    is_of(GeneralCategoryGroup::Mark, text)
}

fn is_of(group: GeneralCategoryGroup, text: &[char]) -> bool {
    text.first().is_some_and(|c| group.contains(CodePointMapData::<GeneralCategory>::new().get(*c)))
}
