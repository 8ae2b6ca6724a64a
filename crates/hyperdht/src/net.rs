//! The sockets of a node.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

#[derive(Clone, Debug)]
pub struct Socket {
    socket: Arc<UdpSocket>,
    reader: Arc<tokio::task::AbortHandle>,
    id: u32,
}

#[derive(Debug)]
pub struct Datagram {
    pub socket: u32,
    pub from: SocketAddr,
    pub data: Bytes,
}

#[derive(Debug)]
pub struct Net {
    sender: mpsc::Sender<Datagram>,
    next: u32,
}

impl Net {
    pub fn new() -> (Self, mpsc::Receiver<Datagram>) {
        let (sender, receiver) = mpsc::channel(256);
        (Self { sender, next: 0 }, receiver)
    }

    pub async fn bind(&mut self, addr: SocketAddr) -> io::Result<Socket> {
        let socket = Arc::new(UdpSocket::bind(addr).await?);
        socket.writable().await?;
        self.next += 1;
        let (id, reading, sender) = (self.next, socket.clone(), self.sender.clone());
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; 2048];
            while let Ok((length, from)) = reading.recv_from(&mut buffer).await {
                let data = Bytes::copy_from_slice(&buffer[..length]);
                if sender.send(Datagram { socket: id, from, data }).await.is_err() {
                    break;
                }
            }
        });
        Ok(Socket { socket, reader: Arc::new(reader.abort_handle()), id })
    }
}

impl Socket {
    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap_or_else(|_| ([0, 0, 0, 0], 0).into())
    }

    pub fn send(&self, data: Bytes, to: SocketAddr) {
        let _ = self.socket.try_send_to(&data, to);
    }

    pub async fn close(&self) {
        self.reader.abort();
    }
}
