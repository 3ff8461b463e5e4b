//! Connections to backends: who makes them, where they wait, and what speaks on them.
//!
//! Pingora makes all of them. Where only HTTP/1.1 can be spoken, this project's own session does ([`Http1`] says why), and
//! between calls they wait in a pool of this project's own ([`Idle`]); where HTTP/2 may be negotiated, both are Pingora's.
//! Never decides which backend is asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pingora::Result;
use pingora::connectors::http::Connector as HttpConnector;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::http::ResponseHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::{HttpPeer, Peer};

use super::http1::Http1;
use super::idle::Idle;

/// Where a peer says nothing. It always does.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The same of an idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// All connections to backends.
pub struct Connector {
    http1: TransportConnector,
    idle: Idle,
    any: Arc<HttpConnector>,
}

/// A connection while one call is on it.
pub enum Session {
    /// Over HTTP/1.1.
    Own(Box<Http1>),
    /// Over what was negotiated.
    Pingora(Box<HttpSession>),
}

impl Connector {
    /// No connection yet.
    pub fn new(options: ConnectorOptions) -> Self {
        Connector {
            idle: Idle::new(options.keepalive_pool_size),
            http1: TransportConnector::new(Some(options.clone())),
            any: Arc::new(HttpConnector::new(Some(options))),
        }
    }

    /// Pingora's own, for the gateway's calls of its own.
    pub fn any(&self) -> Arc<HttpConnector> {
        self.any.clone()
    }

    /// A connection to this peer, and whether it was used before.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get(&self, peer: &HttpPeer) -> Result<(Session, bool)> {
        if is_http1(peer) {
            let kept = self.idle.take(peer.reuse_hash());
            let reused = kept.is_some();
            let stream = match kept {
                Some(stream) => stream,
                // Its future is 8 KB, and most calls need no new connection.
                None => Box::pin(self.http1.new_stream(peer)).await?,
            };
            let write_timeout = peer.options.write_timeout.unwrap_or(WRITE_TIMEOUT);
            let session = Http1::new(stream, write_timeout);
            return Ok((Session::Own(Box::new(session)), reused));
        }
        let (session, reused) = Box::pin(self.any.get_http_session(peer)).await?;
        Ok((Session::Pingora(Box::new(session)), reused))
    }

    /// Closes connections that nobody needs any more. Once a second is often enough.
    pub fn sweep(&self) {
        self.idle.sweep();
    }

    /// Gives a connection back to the pool, if its answer was read to its end.
    pub async fn release(&self, session: Session, peer: &HttpPeer) {
        let idle_timeout = peer.idle_timeout();
        match session {
            Session::Own(session) => {
                if let Some(stream) = session.into_reusable() {
                    let at_most = idle_timeout.unwrap_or(IDLE_TIMEOUT);
                    self.idle.give(peer.reuse_hash(), stream, at_most);
                }
            }
            Session::Pingora(session) => {
                let released = self.any.release_http_session(*session, peer, idle_timeout);
                Box::pin(released).await;
            }
        }
    }
}

fn is_http1(peer: &HttpPeer) -> bool {
    peer.options.alpn.get_max_http_version() == 1
}

impl Session {
    /// The answer's head, once it was read.
    pub fn response_header(&self) -> Option<&ResponseHeader> {
        match self {
            Session::Own(session) => session.answer(),
            Session::Pingora(session) => session.response_header(),
        }
    }

    /// Whether anything came of the backend, as far as is known.
    pub fn has_heard(&self) -> bool {
        match self {
            Session::Own(session) => session.has_heard(),
            Session::Pingora(session) => session.response_header().is_some(),
        }
    }

    /// The answer's head, for whoever passes it on.
    pub fn take_response_header(&mut self) -> Option<Box<ResponseHeader>> {
        match self {
            Session::Own(session) => session.take_answer(),
            Session::Pingora(session) => session.response_header().cloned().map(Box::new),
        }
    }

    /// How long the next reads wait.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        match self {
            Session::Own(session) => session.set_read_timeout(timeout),
            Session::Pingora(session) => session.set_read_timeout(timeout),
        }
    }

    /// Reads the next head.
    ///
    /// # Errors
    /// Why none came.
    pub async fn read_response_header(&mut self) -> Result<()> {
        match self {
            Session::Own(session) => session.read_head().await,
            Session::Pingora(session) => session.read_response_header().await,
        }
    }

    /// The next bytes of the answer's body; `None` after the last.
    ///
    /// # Errors
    /// How it broke off.
    pub async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        match self {
            Session::Own(session) => session.read_body().await,
            Session::Pingora(session) => session.read_response_body().await,
        }
    }
}
