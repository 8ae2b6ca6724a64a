//! The parts of a transfer without its protocol: what a perfect protocol could reach on this machine.
//!
//! `limit FILE COPY [RUNS]` carries FILE to COPY as a transfer does once its offer is claimed: one thread
//! reading, taking a checksum, encrypting and sending over loopback, another receiving, decrypting, hashing
//! and writing, in sizes that suit each part best; nothing is numbered, acknowledged or sent twice. Then it
//! runs each part alone. Prints megabytes a second as JSON.

mod parts;
mod pipe;

use std::error::Error;
use std::path::PathBuf;

use parts::Part;

/// Runs of which the median counts, unless told otherwise.
const RUNS: usize = 5;

/// Bytes that a part alone is run over: enough to last longer than the clock's and the scheduler's grain.
const ALONE: u64 = 256 * 1024 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let (Some(file), Some(copy)) = (args.next().map(PathBuf::from), args.next().map(PathBuf::from)) else {
        return Err("usage: limit FILE COPY [RUNS]".into());
    };
    let runs = match args.next() {
        Some(text) => text.to_string_lossy().parse()?,
        None => RUNS,
    };
    let whole = (0..runs).map(|_| pipe::run(&file, &copy)).collect::<Result<Vec<_>, _>>()?;
    print!("{{\"whole\": {whole:.1?}, \"parts\": {{");
    for (i, part) in Part::ALL.into_iter().enumerate() {
        let measured = (0..runs).map(|_| part.run(&copy, ALONE)).collect::<Result<Vec<_>, _>>()?;
        print!("{}\"{}\": {measured:.1?}", if i > 0 { ", " } else { "" }, part.name());
    }
    println!("}}}}");
    std::fs::remove_file(&copy)?;
    Ok(())
}
