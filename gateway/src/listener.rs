//! A caller's connection before a request of it is known: how many there may be, and how long a head may take.
//!
//! Pingora bounds the silence between two reads of a head, but not the head as a whole, waits for the first 24 bytes of
//! a connection that speaks HTTP/2 for ever, and takes every connection there is. So a caller that drips its head byte by
//! byte, or opens connections and says nothing, would hold memory for as long as it likes. So would one that doesn't end
//! its TLS handshake, for Pingora's minute, and uncounted: it is made here (`handshake`).
//! Understood requests over HTTP/1.1 are served without Pingora's proxy (`direct`); the rest by it.
//! Never looks at a request.

mod direct;
mod handshake;

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;
use pingora_proxy::HttpProxy;

use crate::config::plan::Limits;
use crate::downstream::joined::Joined;
use crate::proxy::Gateway;
use crate::reply::Unreadable;
use crate::stop::Step;
use crate::tls;

use self::direct::Leaving;
pub use self::handshake::Encrypted;

/// Window of an HTTP/2 upload: images would crawl through the default 64 KiB on a long way. Bytes.
const HTTP2_WINDOW_BYTES: u32 = 1 << 20;
/// What a field counts beyond its name and value. Bytes.
const HTTP2_FIELD_BYTES: usize = 32;
/// Room for a request's path and query beside its fields. Bytes.
const TARGET_BYTES: usize = 32 << 10;
/// What HTTP/2 begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Shorter than any bound of a call.
const TICK: Duration = Duration::from_secs(1);
/// TLS reads a record in small pieces; a record is 16 KiB. Bytes.
const TLS_READ_BYTES: usize = 16 << 10;

/// A plain listener. Whoever reads has a buffer of its own, so a second one would only be copied from; Pingora's is
/// 64 KiB for each connection.
pub fn plain(address: &SocketAddr) -> ListenerConfig {
    ListenerConfig::tcp(address.to_string()).l4_buffer(L4BufferSettings::unbuffered())
}

/// A listener whose connections begin with a handshake: see [`Encrypted`].
pub fn encrypted(address: &SocketAddr) -> ListenerConfig {
    ListenerConfig::tcp(address.to_string()).l4_buffer(L4BufferSettings::new(TLS_READ_BYTES, 0))
}

tokio::task_local! {
    /// Whether the head of the request that this task serves has arrived.
    static HEAD_ARRIVED: Cell<bool>;
}

/// Notes that a request's head has arrived whole: its time doesn't run out any more.
pub fn head_arrived() {
    // A task without it serves a stream of HTTP/2, whose head came before the task.
    let _ = HEAD_ARRIVED.try_with(|arrived| arrived.set(true));
}

/// Raises this process' bound on open files to what it may have.
///
/// Each caller and each backend's connection is one; the customary 1024 is for programs that still use `select`.
pub fn raise_open_files() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the bound on open files stays as it is");
    }
}

/// Connections that are open, over all listeners.
#[derive(Debug, Default)]
pub struct Connections(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
struct Open(Arc<AtomicUsize>);

impl Connections {
    /// How many there are.
    pub fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn enter(&self, limit: usize) -> Option<Open> {
        let enter = |open| (open < limit).then_some(open + 1);
        let entered = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter);
        entered.is_ok().then(|| Open(self.0.clone()))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets connections in, as many as there may be.
pub struct Door(Arc<Listener>);

impl Door {
    /// In front of Pingora's proxy of this gateway; where TLS is spoken, if anywhere.
    pub fn new(proxy: HttpProxy<Gateway>, gateway: Gateway, encrypted: Option<Encrypted>) -> Self {
        Door(Arc::new(Listener {
            proxy: Arc::new(proxy),
            encrypted,
            gateway,
            leaving: Leaving::default(),
            ticks: OnceLock::new(),
        }))
    }
}

#[async_trait]
impl ServerApp for Door {
    /// Pingora's task has room for a handshake of Pingora's, 9 KB, for as long as it lasts. So the connection gets one of
    /// its own, and Pingora's is over.
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let state = &self.0.gateway.state;
        let limits = &state.plan.load().server.limits;
        match state.connections.enter(limits.max_connections) {
            Some(open) => {
                self.0.ticks.get_or_init(keep_ticking);
                let served = serve(self.0.clone(), stream, shutdown.clone(), open);
                tokio::spawn(served);
            }
            None => state.metrics.connection_refused(),
        }
        None
    }

    async fn cleanup(&self) {
        self.0.http_cleanup().await;
    }
}

/// Serves a connection to its end.
async fn serve(listener: Arc<Listener>, stream: Stream, shutdown: ShutdownWatch, _open: Open) {
    let bound = listener.header_timeout();
    let stream = match &listener.encrypted {
        Some(encrypted) if encrypted.speaks_on(&stream) => {
            // Its future is large, and most of a connection's time it is over.
            let shaken = encrypted.shake(stream, bound, &listener.gateway.state.metrics);
            match Box::pin(shaken).await {
                Some(shaken) => shaken,
                None => return,
            }
        }
        Some(_) | None => stream,
    };
    let may_be_h2c = listener.server_options().is_some_and(|options| options.h2c);
    let begun = tokio::time::timeout(bound, begun(stream, may_be_h2c)).await;
    match begun {
        Ok(Some((joined, true))) => {
            listener.process_new(Box::new(joined), &shutdown).await;
        }
        Ok(Some((joined, false))) => listener.connection(joined, &shutdown).await,
        Ok(None) | Err(_) => {}
    }
}

/// The connection, once what HTTP/2 begins with has come where HTTP/2 is spoken, and whether it is. Whoever serves it reads
/// that again.
async fn begun(mut stream: Stream, may_be_h2c: bool) -> Option<(Joined, bool)> {
    let Some(digest) = stream.get_ssl_digest() else {
        let mut preface = [0; PREFACE.len()];
        if may_be_h2c {
            stream.try_peek(&mut preface).await.ok()?;
        }
        return Some((Joined::new(stream), preface == *PREFACE));
    };
    if tls::is_stranger(&digest) {
        tracing::debug!(
            "a resumed session's certificate isn't of an authority for callers any more"
        );
        return None;
    }
    let speaks_h2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
    let mut joined = Joined::new(stream);
    if speaks_h2 {
        joined.expect(PREFACE.len()).await.ok()?;
    }
    Some((joined, speaks_h2))
}

/// Pingora's proxy for what comes over HTTP/2 or is carried; all else is served here.
struct Listener {
    proxy: Arc<HttpProxy<Gateway>>,
    encrypted: Option<Encrypted>,
    gateway: Gateway,
    leaving: Leaving,
    ticks: OnceLock<()>,
}

/// Has this runtime wake up once a second, for nothing.
///
/// Whenever a timer is set that is due before all others, tokio has its own thread woken by a system call, since that might
/// sleep for too long; and the bounds of a call are such timers more often than not. Beside one that is always due within
/// a second, they aren't.
fn keep_ticking() {
    tokio::spawn(async {
        loop {
            tokio::time::sleep(TICK).await;
        }
    });
}

#[async_trait]
impl HttpServerApp for Listener {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let is_stream = session.as_http2().is_some();
        if is_stream && session.req_header().method == Method::CONNECT {
            self.decline(&mut session, Unreadable::Tunnel).await;
            return None;
        }
        self.proxy.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        let limits = self.gateway.state.plan.load().server.limits.clone();
        let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let fields = limits.max_header_bytes + limits.max_headers * HTTP2_FIELD_BYTES;
        let mut options = default_h2_options();
        options.initial_window_size(HTTP2_WINDOW_BYTES);
        options.max_concurrent_streams(bounded(limits.max_concurrent_streams));
        options.max_header_list_size(bounded(fields + TARGET_BYTES));
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }

    /// Nothing is accepted any more; this closes connections without a call.
    async fn http_cleanup(&self) {
        self.gateway.state.stop.reached(Step::Idle).await;
        self.leaving.now();
        self.proxy.http_cleanup().await;
    }
}

impl Listener {
    fn header_timeout(&self) -> Duration {
        self.gateway.state.plan.load().server.limits.header_timeout
    }

    async fn proxied(
        &self,
        session: ServerSession,
        allowed: Duration,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let served = async {
            tokio::select! {
                biased;
                reused = self.proxy.process_new_http(session, shutdown) => reused,
                () = late(allowed) => None,
            }
        };
        HEAD_ARRIVED.scope(Cell::new(false), served).await
    }
}

/// A connection that has served a request may be idle before the next one; a new one has no reason to be.
fn head_allowance(is_first: bool, limits: &Limits) -> Duration {
    match is_first {
        true => limits.header_timeout,
        false => limits.idle_timeout + limits.header_timeout,
    }
}

/// Ends when the time for a head is over, and never if the head has come by then.
async fn late(allowed: Duration) {
    tokio::time::sleep(allowed).await;
    if HEAD_ARRIVED.with(Cell::get) {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_connections_are_open_than_may_be() {
        let connections = Connections::default();
        let first = connections.enter(2);
        let second = connections.enter(2);
        assert!(first.is_some() && second.is_some());
        assert!(connections.enter(2).is_none());
        drop(first);
        assert_eq!(connections.open(), 1);
        assert!(connections.enter(2).is_some());
    }
}
