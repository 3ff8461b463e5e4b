//! The listening sockets: bound here and not by Pingora, or taken over from the process before.
//!
//! Pingora tries a taken port again and again, silently, and binds on its own time; here a taken port is an error at once,
//! and a caller that comes before everything has started waits in the kernel. Pingora takes the sockets by its own
//! table of inherited descriptors. Never accepts.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::Service as PingoraService;
use pingora::services::listening::Service;

use super::{StartError, taken};

/// Sockets that another process has handed over, by their addresses.
pub type Inherited = HashMap<String, OwnedFd>;

/// All that this process listens on.
pub struct Sockets {
    /// For callers, as Pingora takes them.
    pub public: ListenFds,
    /// For those who watch.
    pub admin: TcpListener,
    /// Duplicates of all of them, by their addresses.
    pub duplicates: Vec<(String, OwnedFd)>,
    /// Where those for callers are, by what was asked for: port 0 becomes another.
    bound: HashMap<SocketAddr, SocketAddr>,
}

impl Sockets {
    /// Binds what wasn't inherited; what was and isn't listened on any more is closed.
    ///
    /// # Errors
    /// When an address can't be bound.
    pub fn open<'a>(
        public: impl Iterator<Item = &'a SocketAddr>,
        admin: &SocketAddr,
        mut inherited: Inherited,
    ) -> Result<Self, StartError> {
        let mut fds = Fds::new();
        let mut duplicates = Vec::new();
        let mut bound = HashMap::new();
        for address in public {
            let socket = socket(address, &mut inherited)?;
            let local = socket.local_addr();
            bound.insert(*address, local.map_err(|error| taken(address, &error))?);
            duplicates.push(duplicate(address, &socket)?);
            fds.add(address.to_string(), socket.into_raw_fd());
        }
        let socket = socket(admin, &mut inherited)?;
        duplicates.push(duplicate(admin, &socket)?);
        Ok(Sockets {
            public: Arc::new(Mutex::new(fds)),
            admin: socket,
            duplicates,
            bound,
        })
    }

    /// Where these of the addresses for callers are.
    pub fn bound(&self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let bound = addresses.iter().map(|address| self.bound.get(address));
        bound.flatten().copied().collect()
    }
}

fn socket(address: &SocketAddr, inherited: &mut Inherited) -> Result<TcpListener, StartError> {
    let socket = match inherited.remove(&address.to_string()) {
        Some(socket) => TcpListener::from(socket),
        None => TcpListener::bind(address).map_err(|error| taken(address, &error))?,
    };
    let set = socket.set_nonblocking(true);
    set.map_err(|error| taken(address, &error))?;
    Ok(socket)
}

fn duplicate(address: &SocketAddr, socket: &TcpListener) -> Result<(String, OwnedFd), StartError> {
    let duplicate = socket.try_clone();
    let duplicate = duplicate.map_err(|error| taken(address, &error))?;
    Ok((address.to_string(), OwnedFd::from(duplicate)))
}

/// A service of Pingora's on sockets of ours, which ends when we say so.
pub struct Accepting<A> {
    /// Has the endpoints.
    pub service: Service<A>,
    /// What they listen on.
    pub sockets: ListenFds,
    /// Begins it: while the process before serves, a caller mustn't meet one that isn't ready.
    pub opening: ShutdownWatch,
    /// Ends the accepting, while connections go on.
    pub closing: ShutdownWatch,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> PingoraService for Accepting<A> {
    async fn start_service(
        &mut self,
        _inherited: Option<ListenFds>,
        _shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        // Its other end lives as long as the process.
        let _ = self.opening.wait_for(|is_open| *is_open).await;
        let sockets = Some(self.sockets.clone());
        let closing = self.closing.clone();
        let service = &mut self.service;
        PingoraService::start_service(service, sockets, closing, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        PingoraService::name(&self.service)
    }

    fn threads(&self) -> Option<usize> {
        PingoraService::threads(&self.service)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_free_port_is_known_once_it_is_bound() {
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let sockets = Sockets::open([&free].into_iter(), &free, Inherited::new()).unwrap();
        let bound = sockets.bound(&[free, "127.0.0.1:1".parse().unwrap()]);
        assert!(matches!(bound[..], [address] if address.port() != 0));
    }
}
