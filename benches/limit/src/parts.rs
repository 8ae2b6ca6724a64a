//! Each part alone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread;
use std::time::Instant;

use secret_stream::secretstream::{BLOCK, Pull, Push, TAG_MESSAGE};
use sha2::{Digest, Sha256};

use crate::pipe::{BATCH, Link, MESSAGE, megabytes};

/// What one core, or for `Udp` two, does to every byte.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Hash,
    Encrypt,
    Decrypt,
    Udp,
    Write,
    Read,
}

impl Part {
    /// `Write` stands before `Read`, which reads what it has written.
    pub(crate) const ALL: [Self; 6] =
        [Self::Hash, Self::Encrypt, Self::Decrypt, Self::Udp, Self::Write, Self::Read];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Udp => "udp",
            Self::Write => "write",
            Self::Read => "read",
        }
    }

    /// Over `bytes` bytes, with `file` to write to and to read from; megabytes a second.
    pub(crate) fn run(self, file: &Path, bytes: u64) -> io::Result<f64> {
        let messages = bytes / u64::try_from(MESSAGE).unwrap_or(u64::MAX);
        let mut message = vec![7; MESSAGE];
        let key = [7; 32];
        let (mut push, header) = Push::new(&key);
        let mut pull = Pull::new(&key, &header);
        let started = Instant::now();
        let seconds = match self {
            Self::Hash => {
                let mut hasher = Sha256::new();
                (0..messages).for_each(|_| hasher.update(&message));
                std::hint::black_box(hasher.finalize());
                started.elapsed()
            }
            Self::Encrypt => {
                message.resize(BLOCK + MESSAGE, 7);
                for _ in 0..messages {
                    std::hint::black_box(push.push_in_place(TAG_MESSAGE, &mut message));
                }
                started.elapsed()
            }
            Self::Decrypt => decrypt(&mut push, &mut pull, messages)?,
            Self::Udp => {
                udp(messages * u64::try_from(MESSAGE).unwrap_or(u64::MAX))?;
                started.elapsed()
            }
            Self::Write => {
                let _ = std::fs::remove_file(file);
                let started = Instant::now();
                let mut file = File::create(file)?;
                for _ in 0..messages {
                    file.write_all(&message)?;
                }
                started.elapsed()
            }
            Self::Read => {
                let mut file = File::open(file)?;
                for _ in 0..messages {
                    file.read_exact(&mut message)?;
                }
                started.elapsed()
            }
        };
        Ok(megabytes(bytes) / seconds.as_secs_f64())
    }
}

/// Encrypts and decrypts in turn, and counts the time of the second alone.
fn decrypt(push: &mut Push, pull: &mut Pull, messages: u64) -> io::Result<std::time::Duration> {
    let mut message = vec![7; BLOCK + MESSAGE];
    let mut spent = std::time::Duration::ZERO;
    for _ in 0..messages {
        let (tag, mac) = push.push_in_place(TAG_MESSAGE, &mut message);
        let started = Instant::now();
        pull.pull_in_place(tag, &mut message, &mac).map_err(io::Error::other)?;
        spent += started.elapsed();
    }
    Ok(spent)
}

fn udp(bytes: u64) -> io::Result<()> {
    let link = Link::open()?;
    let batch = vec![7; BATCH];
    let batches = bytes.div_ceil(u64::try_from(BATCH).unwrap_or(u64::MAX));
    let mut left = batches * u64::try_from(BATCH).unwrap_or(u64::MAX);
    thread::scope(|scope| {
        let sender = scope.spawn(|| link.guard((0..batches).try_for_each(|_| link.send(&batch))));
        link.guard(link.receive(|received| {
            left = left.saturating_sub(u64::try_from(received.len()).unwrap_or(u64::MAX));
            Ok(left > 0)
        }))?;
        sender.join().unwrap_or_else(|_| Err(io::Error::other("the sender panicked")))
    })
}
