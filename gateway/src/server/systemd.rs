//! What a service manager is told, if there is one: that the process is ready, that it is the one to watch, that it stops.
//!
//! The protocol is a datagram to the socket that `NOTIFY_SOCKET` names (`sd_notify(3)`). Never fails: whoever isn't watched
//! has nobody to tell.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Every listener is bound, the configuration loaded. After a hand-over the manager has to watch this process instead.
pub fn ready() {
    tell(&format!("MAINPID={}\nREADY=1", std::process::id()));
}

/// Nothing is accepted any more. Where another process has taken over, the service as such goes on.
pub fn stopping(is_handed_over: bool) {
    if !is_handed_over {
        tell("STOPPING=1");
    }
}

fn tell(message: &str) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else {
        return;
    };
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let told = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.send_to_addr(message.as_bytes(), &address)
    });
    if let Err(error) = told {
        tracing::warn!(%error, "the service manager can't be told");
    }
}
