//! The command line, which is JavaScript, hides what the Rust side hides.

use protocol::text::HIDDEN;

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
