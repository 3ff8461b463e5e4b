//! Another process takes this one's place, without one connection refused: the listening sockets are handed over.
//!
//! The running process waits at `[server] upgrade-socket`. `tollgate run --upgrade` asks there for the listening sockets,
//! the admin listener's too, starts with them, and says when it is ready; only then does the old one leave, and until then
//! both accept nothing less than one did. A new process that fails (a wrong configuration, a binary that doesn't
//! start) changes nothing: the old one sees its end of the conversation close and goes on. Pingora's own hand-over has the
//! old process end whoever was or wasn't there to take over, doesn't know the admin listener, and waits fixed times.
//!
//! Only a process of the same user, or root, is given anything.

use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::sockets::Inherited;
use crate::state::State;
use crate::stop::Step;

/// Sockets in one hand-over. A gateway has two or three.
const SOCKETS_MAX: usize = 64;
/// Room for their addresses. Bytes.
const ADDRESSES_MAX_BYTES: usize = SOCKETS_MAX * 64;
/// A new process that isn't ready by then never will be.
const START_MAX: Duration = Duration::from_secs(300);
/// How long the other side of a short exchange may be silent.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const READY: &str = "ready";

/// What was taken over, and whom to tell when it is in use.
pub struct Taken {
    /// The listening sockets.
    pub sockets: Inherited,
    former: UnixStream,
}

/// Asks the process that waits at this path for its sockets.
///
/// # Errors
/// When nobody waits there, or it gives nothing.
pub fn take(path: &Path) -> io::Result<Taken> {
    let former = UnixStream::connect(path)?;
    former.set_read_timeout(Some(ANSWER_MAX))?;
    let mut text = vec![0; ADDRESSES_MAX_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut text)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(&former, &mut parts, &mut control, flags)?;
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            sockets.extend(fds);
        }
    }
    text.truncate(received.bytes);
    let addresses = String::from_utf8_lossy(&text);
    let addresses: Vec<String> = addresses.lines().map(str::to_owned).collect();
    if sockets.is_empty() || sockets.len() != addresses.len() {
        return Err(io::Error::other("it gave no listening sockets"));
    }
    Ok(Taken {
        sockets: addresses.into_iter().zip(sockets).collect(),
        former,
    })
}

/// Tells the former process that its time is over, and waits until it has let the path go.
pub fn ready(mut former: UnixStream) {
    let told = writeln!(former, "{READY}").and_then(|()| former.read_to_end(&mut Vec::new()));
    match told {
        Ok(_) => tracing::info!("the former process leaves"),
        Err(error) => tracing::error!(%error, "the former process can't be told to leave"),
    }
}

impl Taken {
    /// Its two parts.
    pub fn into_parts(self) -> (Inherited, UnixStream) {
        (self.sockets, self.former)
    }
}

/// Waits at this path for a process that takes over, in a thread, until one has.
pub fn offer(path: &Path, state: Arc<State>) {
    let listener = match bind(path) {
        Ok(listener) => listener,
        Err(error) => {
            let path = path.display();
            tracing::error!(%path, %error, "upgrade-socket can't be used; this process can only be restarted");
            return;
        }
    };
    tracing::info!(path = %path.display(), "waits for another process to take over");
    let spawned = std::thread::Builder::new()
        .name("hand-over".into())
        .spawn(move || serve(&listener, &state));
    if let Err(error) = spawned {
        tracing::error!(%error, "no thread for the hand-over; this process can only be restarted");
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::other("another process waits there"));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn serve(listener: &UnixListener, state: &State) {
    for stream in listener.incoming() {
        let handed = stream.and_then(|stream| hand_over(stream, state));
        match handed {
            Ok(()) => return,
            Err(error) if state.stop.step() > Step::Serving => {
                tracing::debug!(%error, "nothing to hand over any more");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "no other process took over; this one goes on");
            }
        }
    }
}

/// Gives the sockets, and leaves when the other is ready.
fn hand_over(stream: UnixStream, state: &State) -> io::Result<()> {
    let other = rustix::net::sockopt::socket_peercred(&stream)?;
    if other.uid != rustix::process::geteuid() && !other.uid.is_root() {
        return Err(io::Error::other(
            "a process of another user asked for the listeners",
        ));
    }
    tracing::info!(
        pid = other.pid.as_raw_nonzero().get(),
        "another process takes the listeners over"
    );
    state.stop.with_sockets(|sockets| send(&stream, sockets))?;
    stream.set_read_timeout(Some(START_MAX))?;
    let mut line = String::new();
    BufReader::new(stream.take(READY.len() as u64 + 1)).read_line(&mut line)?;
    if line.trim_end() != READY {
        return Err(io::Error::other("it ended before it was ready"));
    }
    state.stop.hand_over();
    Ok(())
}

fn send(stream: &UnixStream, sockets: &[(String, OwnedFd)]) -> io::Result<()> {
    if sockets.is_empty() || sockets.len() > SOCKETS_MAX {
        return Err(io::Error::other("there are no listeners to hand over"));
    }
    let addresses: Vec<&str> = sockets
        .iter()
        .map(|(address, _)| address.as_str())
        .collect();
    let addresses = addresses.join("\n");
    let fds: Vec<_> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other(
            "there are too many listeners to hand over",
        ));
    }
    let parts = [IoSlice::new(addresses.as_bytes())];
    sendmsg(stream, &parts, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Starts the binary that is on the disk now as this process was started, to take over from it.
pub fn start_successor(state: &Arc<State>) {
    if state.stop.with_sockets(<[_]>::is_empty) {
        tracing::error!("SIGUSR2: without [server] upgrade-socket no other process can take over");
        return;
    }
    let mut arguments = std::env::args_os();
    let Some(binary) = arguments.next() else {
        return;
    };
    let arguments = arguments.filter(|argument| argument != "--upgrade");
    let mut command = Command::new(binary);
    command.args(arguments).arg("--upgrade");
    let state = state.clone();
    let spawned = std::thread::Builder::new()
        .name("successor".into())
        .spawn(move || watch(command, &state));
    if let Err(error) = spawned {
        tracing::error!(%error, "SIGUSR2: no thread to start another process");
    }
}

/// A successor that ends is only news as long as this process depends on it.
fn watch(mut command: Command, state: &State) {
    match command.status() {
        Ok(status) if state.stop.step() == Step::Serving => {
            tracing::error!(%status, "the new process ended before it was ready; this one goes on");
        }
        Ok(_) => {}
        Err(error) => tracing::error!(%error, "the new process couldn't be started"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn sockets_arrive_with_their_addresses_and_still_listen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upgrade.sock");
        let waiting = bind(&path).unwrap();
        let listeners = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses: Vec<_> = listeners
            .iter()
            .map(|one| one.local_addr().unwrap())
            .collect();
        let sockets: Vec<_> = listeners
            .into_iter()
            .zip(&addresses)
            .map(|(listener, address)| (address.to_string(), OwnedFd::from(listener)))
            .collect();
        let giving = std::thread::spawn(move || {
            let (stream, _) = waiting.accept().unwrap();
            send(&stream, &sockets).unwrap();
        });
        let mut taken = take(&path).unwrap();
        giving.join().unwrap();
        for address in addresses {
            let socket = taken.sockets.remove(&address.to_string()).unwrap();
            let _caller = TcpStream::connect(address).unwrap();
            TcpListener::from(socket).accept().unwrap();
        }
    }

    #[test]
    fn a_path_that_a_dead_process_left_is_taken_and_a_living_one_s_isn_t() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upgrade.sock");
        drop(bind(&path).unwrap());
        let living = bind(&path).unwrap();
        assert!(bind(&path).is_err());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(living);
        assert!(take(&path).is_err());
    }
}
