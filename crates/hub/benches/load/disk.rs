//! How long the disk takes to keep something.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use crate::figures::Times;

/// Appends 4 KiB to a file and syncs it, many times.
pub(crate) fn sync_times(folder: &Path) -> Times {
    let path = folder.join("sync");
    let mut file = File::create(&path).expect("a file");
    let mut times = Times::default();
    for _ in 0..200 {
        file.write_all(&[1; 4096]).expect("written");
        let started = Instant::now();
        file.sync_data().expect("synced");
        times.add(started.elapsed());
    }
    std::fs::remove_file(path).expect("removed");
    times
}
