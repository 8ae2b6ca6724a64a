//! The task that owns a node: it drives the state machines over the sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use udx::{Datagram, Datagrams, Socket, Udx};

use crate::callers::Callers;
use crate::config::{Bootstrap, Config};
use crate::handle::{Handle, NodeSockets};
use crate::instruction::Command;
use crate::machine::Machine;
use crate::network::Network;
use crate::network_interfaces::NetworkInterfaces;
use crate::pool::Pool;
use crate::resolve::resolve;
use crate::rpc::{Event, RpcConfig, Via};
use crate::store::Now;

/// Ports that are tried, from the wished one up, before any free one is taken.
const PORTS: u16 = 5;
/// Least time between two look-ups of the bootstrap nodes' names.
const RESOLVE_EVERY: Duration = Duration::from_secs(60);

/// Binds the sockets of a node and starts its task, which ends with its last [`Handle`].
pub(crate) async fn start(config: &Config) -> io::Result<Handle> {
    if config.host.is_ipv6() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the DHT has IPv4 alone"));
    }
    let (udx, datagrams) = Udx::spawn(udx::Config::default());
    let mut ports = NodePorts { server: config.port, client: 0, exact: config.exact_port };
    let sockets = ports.bind(&udx, config.host).await?;

    let now = Instant::now();
    let (commands, receiver) = mpsc::unbounded_channel();
    let mut machine = Machine::new(now, rpc_config(config), seed()?, seed()?);
    machine.rpc.bind(now, sockets.server.local_addr().port());
    let node = NodeTask {
        network: watch::Sender::new(machine.network()),
        bound: watch::Sender::new(Some(sockets.clone())),
        machine,
        callers: Callers::default(),
        udx,
        sockets: Some(sockets),
        pool: Pool::default(),
        commands: commands.downgrade(),
        bootstrap: config.bootstrap.clone(),
        resolved: None,
        host: config.host,
        ports,
        interfaces: NetworkInterfaces::new(now),
    };
    let handle = node.handle(commands);
    tokio::spawn(node.run(receiver, datagrams));
    Ok(handle)
}

struct NodeTask {
    machine: Machine,
    callers: Callers,
    udx: Udx,
    /// `None` while suspended.
    sockets: Option<NodeSockets>,
    pool: Pool,
    /// Weak, so that the node ends when nobody else can reach it.
    commands: mpsc::WeakUnboundedSender<Command>,
    bootstrap: Vec<Bootstrap>,
    resolved: Option<Instant>,
    host: IpAddr,
    ports: NodePorts,
    network: watch::Sender<Network>,
    bound: watch::Sender<Option<NodeSockets>>,
    interfaces: NetworkInterfaces,
}

impl NodeTask {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>, mut datagrams: Datagrams) {
        self.resolve_bootstrap();
        loop {
            self.settle();
            let rpc = self.machine.rpc.poll_timeout();
            let wake = rpc.into_iter().chain([self.interfaces.next()]).min();
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                batch = datagrams.recv() => match batch {
                    Some(batch) => batch.into_iter().for_each(|datagram| self.handle_datagram(datagram)),
                    None => break,
                },
                command = commands.recv() => match command {
                    Some(Command::Destroy(done)) => {
                        self.destroy().await;
                        self.udx.close().await;
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.handle_command(command).await,
                    None => break,
                },
                () = sleep => self.handle_timeout(),
            }
        }
        self.destroy().await;
    }

    fn handle_datagram(&mut self, datagram: Datagram) {
        let SocketAddr::V4(from) = datagram.from else { return };
        let Some(sockets) = &self.sockets else { return };
        match sockets.via(datagram.socket).or_else(|| self.pool.via(datagram.socket)) {
            Some(via) if datagram.data.len() == 1 => self.pool.probed(via, from),
            Some(via) => self.machine.rpc.handle_datagram(Instant::now(), via, from, &datagram.data),
            None => {}
        }
    }

    fn handle_timeout(&mut self) {
        let now = Instant::now();
        let change = self.interfaces.look(now);
        if change.slept && self.sockets.is_some() {
            self.machine.rpc.wakeup(now);
        }
        if change.moved {
            self.machine.changes += 1;
        }
        self.machine.rpc.handle_timeout(now);
    }

    async fn handle_command(&mut self, command: Command) {
        match command {
            Command::Instruction(instruction) => {
                self.callers.instruct(&mut self.machine, Instant::now(), *instruction);
            }
            Command::Suspend(done) => {
                self.suspend().await;
                let _ = done.send(());
            }
            Command::Resume(done) => {
                let result = self.resume().await;
                let _ = done.send(result);
            }
            Command::Destroy(done) => drop(done.send(())),
        }
    }

    /// Sends what the state machines decided to send, and hands their events on.
    fn settle(&mut self) {
        let now = Now { instant: Instant::now(), unix_millis: unix_millis() };
        while let Some(event) = self.machine.poll_event(now) {
            match self.callers.tell(event) {
                Some(Event::ResolveBootstrap) => self.resolve_bootstrap(),
                Some(event @ (Event::Ready | Event::Persistent | Event::Ephemeral | Event::NatUpdate)) => {
                    tracing::debug!(?event, seen_as = ?self.machine.rpc.seen_as(), "DHT node");
                }
                _ => {}
            }
        }
        if let Some(sockets) = &self.sockets {
            while let Some(transmit) = self.machine.rpc.poll_transmit() {
                let (data, to) = (transmit.data, transmit.to.into());
                match transmit.via {
                    Via::Server if transmit.is_whole => sockets.server.send_whole(data, to),
                    Via::Client if transmit.is_whole => sockets.client.send_whole(data, to),
                    Via::Server => sockets.server.send(data, to),
                    Via::Client => sockets.client.send(data, to),
                    Via::Pool(number) => {
                        if let Some(socket) = self.pool.get(number) {
                            socket.send(data, to);
                        }
                    }
                }
            }
        }
        let network = Network { suspended: self.sockets.is_none(), ..self.machine.network() };
        self.network.send_if_modified(|held| {
            let changed = *held != network;
            *held = network;
            changed
        });
    }

    /// Looks the bootstrap nodes up in the background, unless that was done less than a minute ago.
    fn resolve_bootstrap(&mut self) {
        let now = Instant::now();
        let lately = self.resolved.is_some_and(|at| now.saturating_duration_since(at) < RESOLVE_EVERY);
        let Some(commands) = self.commands.upgrade() else { return };
        if lately {
            return;
        }
        self.resolved = Some(now);
        let handle = self.handle(commands);
        let nodes = self.bootstrap.clone();
        tokio::spawn(async move {
            let found = resolve(&handle, nodes).await;
            handle.set_bootstrap(found);
        });
    }

    fn handle(&self, commands: mpsc::UnboundedSender<Command>) -> Handle {
        let (network, bound) = (self.network.subscribe(), self.bound.subscribe());
        Handle::new(commands, network, bound, self.pool.clone(), self.host, self.udx.clone())
    }

    async fn suspend(&mut self) {
        self.machine.rpc.suspend();
        self.settle();
        self.close_sockets().await;
    }

    async fn resume(&mut self) -> io::Result<()> {
        if self.sockets.is_some() {
            return Ok(());
        }
        let sockets = self.ports.bind(&self.udx, self.host).await?;
        self.bound.send_replace(Some(sockets.clone()));
        self.machine.rpc.bind(Instant::now(), sockets.server.local_addr().port());
        self.sockets = Some(sockets);
        Ok(())
    }

    async fn destroy(&mut self) {
        self.machine.rpc.destroy();
        self.settle();
        self.close_sockets().await;
        self.network.send_modify(|network| network.destroyed = true);
    }

    async fn close_sockets(&mut self) {
        self.bound.send_replace(None);
        self.pool.clear();
        if let Some(sockets) = self.sockets.take() {
            sockets.server.close().await;
            sockets.client.close().await;
        }
    }
}

/// The ports of a node: first the wished ones, later those it had.
struct NodePorts {
    server: u16,
    client: u16,
    exact: bool,
}

impl NodePorts {
    async fn bind(&mut self, udx: &Udx, host: IpAddr) -> io::Result<NodeSockets> {
        let server = self.bind_server(udx, host).await?;
        let client = match udx.bind((host, self.client).into()).await {
            Ok(client) => client,
            Err(_) => udx.bind((host, 0).into()).await?,
        };
        self.server = server.local_addr().port();
        self.client = client.local_addr().port();
        Ok(NodeSockets { server, client })
    }

    async fn bind_server(&self, udx: &Udx, host: IpAddr) -> io::Result<Socket> {
        if self.exact {
            return udx.bind((host, self.server).into()).await;
        }
        if self.server != 0 {
            for port in self.server..=self.server.saturating_add(PORTS - 1) {
                if let Ok(socket) = udx.bind((host, port).into()).await {
                    return Ok(socket);
                }
            }
        }
        udx.bind((host, 0).into()).await
    }
}

fn rpc_config(config: &Config) -> RpcConfig {
    RpcConfig {
        ephemeral: config.ephemeral,
        firewalled: config.firewalled,
        stays_firewalled: config.stays_firewalled,
        known_host: config.known_host,
        defended: config.address_defence,
        adaptive_timeouts: config.adaptive_timeouts,
    }
}

fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(seed)
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
