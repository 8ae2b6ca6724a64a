//! A network link between two namespaces of this machine, in user space: real programs meet its rate, delay,
//! loss and buffer, whatever the kernel can emulate. Linux, as root.
//!
//! `link --rate MBIT [--rtt MS] [--loss PERCENT] [--buffer BYTES] [--jitter MS] [--seed N]`
//! `[--receive-buffer BYTES]`
//!
//! Says in a line of JSON which namespaces there are (`ip netns exec NAMESPACE COMMAND`), and runs until its
//! standard input closes or it is told to end; then it says what the link did to packets, and removes the
//! namespaces.

#[cfg(target_os = "linux")]
#[path = "../tests/common/link.rs"]
mod link;

#[cfg(target_os = "linux")]
#[path = "link/emulator.rs"]
mod emulator;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    emulator::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("link: needs Linux");
    std::process::exit(2);
}
