#![no_main]

#[path = "../../crates/udx/tests/common/fuzzing.rs"]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::packet(data));
