#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hub::testing::tunnel_frames(data));
