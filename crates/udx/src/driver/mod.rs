//! The tokio driver: one task owns an instance's sockets, streams and timers.

mod command;
mod datagrams;
mod options;
mod owner;
mod relay_meter;
mod shared;
mod socket;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use command::Command;
pub use datagrams::{Datagram, Datagrams};
pub use options::{Firewall, StreamOptions, Verdict};
use owner::Owner;
pub use relay_meter::RelayMeter;
pub use socket::Socket;
pub use stream::{ReadHalf, Stream, StreamHandle, WriteHalf};

/// Settings of an instance.
#[derive(Debug, Clone)]
pub struct Config {
    /// Receive buffer asked of the system for each socket, in bytes; halved until the system agrees. Larger
    /// buffers survive longer pauses of the process without loss. Default 4 MiB.
    pub receive_buffer: usize,
    /// Send buffer asked of the system for each socket, in bytes. Default 1 MiB.
    pub send_buffer: usize,
    /// What a stream's receive window starts from, in bytes: most that waits for its reader on a short path;
    /// on a long one, what the path itself carries is added. Default just under 4 MiB; a socket with a
    /// smaller receive buffer lowers it.
    pub receive_window: u32,
    /// Bytes that all streams of the instance together may hold for their readers: what is free of it is
    /// divided among the streams that receive. Default 64 MiB.
    pub receive_memory: usize,
    /// Most datagrams handed to the system in one call. Default 64, what Linux takes; 1 does without offload,
    /// as where the system has none.
    pub batch: usize,
}

impl Default for Config {
    fn default() -> Self {
        // One less than what libudx always says, so that peers of ours can tell a window that means
        // something.
        Self {
            receive_buffer: 4 << 20,
            send_buffer: 1 << 20,
            receive_window: crate::proto::LIBUDX_WINDOW - 1,
            receive_memory: 64 << 20,
            batch: 64,
        }
    }
}

/// A UDX instance: several sockets that share one table of streams. Clones are handles to the same one; when
/// the last handle of any kind is gone, open streams are finished and the instance ends.
#[derive(Debug, Clone)]
pub struct Udx {
    instance: Arc<Instance>,
}

/// Keeps the owner task alive while any handle exists.
#[derive(Debug)]
pub(super) struct Instance {
    commands: mpsc::UnboundedSender<Command>,
    /// Raw datagrams that wait for the owner.
    datagrams_queued: Arc<AtomicUsize>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Abandon);
    }
}

impl Udx {
    /// Starts an instance on the current tokio runtime, which must have time and I/O enabled. All that
    /// arrives and belongs to no stream comes out of the [`Datagrams`].
    pub fn spawn(config: Config) -> (Self, Datagrams) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let datagrams = Datagrams::new();
        let datagrams_queued = Arc::new(AtomicUsize::new(0));
        tokio::spawn(Owner::new(config, receiver, datagrams.queue(), datagrams_queued.clone()));
        (Self { instance: Arc::new(Instance { commands, datagrams_queued }) }, datagrams)
    }

    /// Opens a socket; port 0 takes any free one.
    ///
    /// # Errors
    /// What the system says, or that the instance is closed.
    pub async fn bind(&self, address: SocketAddr) -> io::Result<Socket> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Bind { address, reply })?;
        let (id, local) = answer.await.map_err(|_| Error::Closed)??;
        Ok(Socket::new(id, local, self.instance.clone()))
    }

    /// Makes a stream. It can receive from now on, as far as its firewall allows, and send once connected.
    ///
    /// # Errors
    /// [`Error::IdInUse`], or [`Error::Closed`].
    pub async fn stream(&self, options: StreamOptions) -> Result<Stream, Error> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Open { options, reply })?;
        let shared = answer.await.map_err(|_| Error::Closed)??;
        Ok(Stream::new(shared, self.instance.clone()))
    }

    /// Destroys all streams, closes all sockets and ends the instance. Returns when that is done.
    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.command(Command::Close { reply }).is_ok() {
            // An error means that the instance was closed already.
            let _ = answer.await;
        }
    }

    fn command(&self, command: Command) -> Result<(), Error> {
        self.instance.commands.send(command).map_err(|_| Error::Closed)
    }
}
