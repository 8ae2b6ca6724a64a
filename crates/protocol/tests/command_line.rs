//! The command line, which is JavaScript, hides what the Rust side hides.

use std::fmt::Write as _;

use icu_properties::CodePointMapData;
use icu_properties::props::JoiningType;
use protocol::text::HIDDEN;
use unicode_normalization::char::canonical_combining_class;

const SOURCE: &str = include_str!("../../../bin/output.js");

/// The ranges in `bin/output.js`: all numbers between `const HIDDEN = [` and the bracket that closes it.
fn javascript_table() -> Vec<(u32, u32)> {
    let (_, table) = SOURCE.split_once("const HIDDEN = [\n").expect("the table");
    let (table, _) = table.split_once("\n]\n").expect("its end");
    let number = |text: &str| {
        let digits = text.trim_matches(['[', ']', ' ']).strip_prefix("0x").expect("a hexadecimal number");
        u32::from_str_radix(digits, 16).expect("a hexadecimal number")
    };
    let range = |line: &str| {
        let (first, last) = line.trim().trim_end_matches(',').split_once(',').expect("two numbers");
        (number(first), number(last))
    };
    table.lines().map(range).collect()
}

#[test]
fn the_command_line_has_the_same_table() {
    let ours = HIDDEN.map(|(first, last)| (u32::from(first), u32::from(last)));
    assert_eq!(javascript_table(), ours);
}

const JOINERS: &str = include_str!("../../../bin/joiners.js");

/// The characters of a table in `bin/joiners.js`, with one space between.
fn characters_of(table: &str) -> String {
    let (_, table) = JOINERS.split_once(&format!("const {table} = characters(`")).expect("the table");
    let (table, _) = table.split_once('`').expect("its end");
    table.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// All characters that are `wanted`, as that table has them.
fn ranges(wanted: impl Fn(char) -> bool) -> String {
    let (mut text, mut rest) = (String::new(), (char::MIN..=char::MAX).filter(|c| wanted(*c)).peekable());
    while let Some(first) = rest.next() {
        let mut last = first;
        while let Some(next) = rest.next_if(|next| u32::from(*next) == u32::from(last) + 1) {
            last = next;
        }
        write!(text, "{:x}", u32::from(first)).expect("written");
        if last != first {
            write!(text, "-{:x}", u32::from(last)).expect("written");
        }
        text.push(' ');
    }
    text.trim_end().to_owned()
}

#[test]
fn the_command_line_knows_which_letters_join() {
    let joining = |c| CodePointMapData::<JoiningType>::new().get(c);
    let next = ranges(|c| matches!(joining(c), JoiningType::DualJoining | JoiningType::LeftJoining));
    let last = ranges(|c| matches!(joining(c), JoiningType::DualJoining | JoiningType::RightJoining));
    let viramas = ranges(|c| canonical_combining_class(c) == 9);
    assert_eq!(["JOINING_NEXT", "JOINING_LAST", "VIRAMAS"].map(characters_of), [next, last, viramas]);
}
