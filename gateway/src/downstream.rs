//! The connection to a caller, whoever reads and writes it: ours for plain requests over HTTP/1.1, Pingora's for all else.
//!
//! Never decides what is said.

mod answer;
pub mod head;
pub mod http1;
pub mod joined;
pub mod link;

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, header::AsHeaderName};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::{ErrorType, OrErr, Result};

use self::http1::Http1;
use crate::config::plan::Limits;
use crate::within::within;

/// A request's connection to its caller.
pub enum Downstream<'s> {
    /// A plain request over HTTP/1.1.
    Own(&'s mut Http1),
    /// Any other, and those over HTTP/2.
    Pingora(&'s mut ServerSession),
}

/// How long a body that nobody needs is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// All of it.
    pub in_all: Duration,
    /// Between two pieces of it.
    pub silence: Duration,
}

/// For how long somebody who waits for something is woken by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wakes {
    /// Until it comes.
    Always,
    /// Until the connection is used for something else.
    Once,
}

impl Downstream<'_> {
    /// The same, for a while.
    pub fn borrow(&mut self) -> Downstream<'_> {
        match self {
            Downstream::Own(own) => Downstream::Own(own),
            Downstream::Pingora(session) => Downstream::Pingora(session),
        }
    }

    /// A request begins, under these bounds.
    pub fn begin(&mut self, limits: &Limits) {
        match self {
            Downstream::Own(own) => own.set_write_timeout(limits.write_timeout),
            Downstream::Pingora(session) => {
                session.set_pipelining_enabled(true);
                session.set_read_timeout(Some(limits.body_timeout));
                session.set_write_timeout(Some(limits.write_timeout));
                if session.get_keepalive().is_some() {
                    // For as long as it likes: the next head is waited for under `listener`'s bound, and two timers cost
                    // twice.
                    session.set_keepalive(Some(0));
                }
            }
        }
    }

    /// The request's head.
    pub fn request(&self) -> &RequestHeader {
        match self {
            Downstream::Own(own) => own.request(),
            Downstream::Pingora(session) => session.req_header(),
        }
    }

    /// The first field of this name.
    pub fn field(&self, name: impl AsHeaderName) -> Option<&HeaderValue> {
        self.request().headers.get(name)
    }

    /// Where the caller is.
    pub fn peer(&self) -> Option<IpAddr> {
        match self {
            Downstream::Own(own) => own.peer(),
            Downstream::Pingora(session) => {
                let address = session.client_addr().and_then(|address| address.as_inet());
                address.map(|address| address.ip())
            }
        }
    }

    /// Whether the caller came by TLS.
    pub fn is_secure(&self) -> bool {
        match self {
            Downstream::Own(own) => own.is_secure(),
            Downstream::Pingora(session) => {
                let digest = session.digest();
                digest.is_some_and(|digest| digest.ssl_digest.is_some())
            }
        }
    }

    /// Whether it is a stream of HTTP/2.
    pub fn is_http2(&self) -> bool {
        match self {
            Downstream::Own(_) => false,
            Downstream::Pingora(session) => session.as_http2().is_some(),
        }
    }

    /// Whether the caller asks for its connection to become another protocol's.
    pub fn is_upgrade(&self) -> bool {
        match self {
            // Such a request isn't plain.
            Downstream::Own(_) => false,
            Downstream::Pingora(session) => session.is_upgrade_req(),
        }
    }

    /// The head's lines as they came, where they might be read in two ways.
    pub fn raw_head(&self) -> Option<Bytes> {
        match self {
            Downstream::Own(_) => None,
            Downstream::Pingora(session) => Some(session.as_http1()?.get_headers_raw_bytes()),
        }
    }

    /// No request follows this one on its connection.
    pub fn close(&mut self) {
        match self {
            Downstream::Own(own) => own.close(),
            Downstream::Pingora(session) => session.set_keepalive(None),
        }
    }

    /// Whether the request's body has been read.
    pub fn is_body_read(&mut self) -> bool {
        match self {
            Downstream::Own(own) => own.unread_body_bytes() == 0,
            Downstream::Pingora(session) => session.is_body_done(),
        }
    }

    /// Reads what is left of the request's body, for nobody; false where that didn't end well, or in time.
    pub async fn drain(&mut self, patience: Patience) -> bool {
        match self {
            Downstream::Own(own) => {
                let drained = within(patience.in_all, own.drain(patience.silence)).await;
                matches!(drained, Some(Ok(())))
            }
            Downstream::Pingora(session) => {
                // A stream of HTTP/2 knows no bound between two pieces.
                session.set_read_timeout(Some(patience.silence));
                session.set_total_drain_timeout(Some(patience.in_all));
                session.drain_request_body().await.is_ok()
            }
        }
    }

    /// Ends when the caller leaves; the request's body must have been read.
    pub async fn leaves(&mut self) {
        match self {
            Downstream::Own(own) => poll_fn(|context| own.poll_leaves(context)).await,
            Downstream::Pingora(session) => {
                let _gone = session.read_body_or_idle(true).await;
            }
        }
    }

    /// The same, asked once. Whether it goes on waking whoever asked, however much is written meanwhile, is told along.
    pub fn poll_leaves(&mut self, context: &mut Context<'_>) -> (Poll<()>, Wakes) {
        match self {
            Downstream::Own(own) => (own.poll_leaves(context), Wakes::Always),
            Downstream::Pingora(session) => {
                let leaves = pin!(session.read_body_or_idle(true));
                (leaves.poll(context).map(|_gone| ()), Wakes::Once)
            }
        }
    }

    /// Whether the answer's head was written.
    pub fn has_begun(&self) -> bool {
        match self {
            Downstream::Own(own) => own.has_begun(),
            Downstream::Pingora(session) => session.response_written().is_some(),
        }
    }

    /// Writes the answer's head.
    ///
    /// # Errors
    /// When the caller has gone.
    pub async fn write_head(&mut self, head: Box<ResponseHeader>) -> Result<()> {
        match self {
            Downstream::Own(own) => {
                own.write_head(&head);
                Ok(())
            }
            Downstream::Pingora(session) => {
                // It leaves with what follows it.
                joined::hold(session, true);
                let written = session.write_response_header(head).await;
                joined::hold(session, false);
                written
            }
        }
    }

    /// Writes some of the answer's body; with `end` the last of it.
    ///
    /// # Errors
    /// When the caller has gone.
    pub async fn write_body(&mut self, body: Bytes, end: bool) -> Result<()> {
        match self {
            Downstream::Own(own) => own.write_body(body, end).await,
            Downstream::Pingora(session) => session.write_response_body(body, end).await,
        }
    }

    /// What is written next leaves with what is written after it, which comes at once.
    pub fn hold(&mut self, holds: bool) {
        match self {
            Downstream::Own(own) => own.hold(holds),
            Downstream::Pingora(session) => joined::hold(session, holds),
        }
    }

    /// Reads the next bytes of the request's body; `None` after the last.
    ///
    /// # Errors
    /// When none come.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>> {
        match self {
            Downstream::Own(own) if own.unread_body_bytes() == 0 => Ok(None),
            Downstream::Own(own) => {
                let read = own.read_body().await;
                read.map(Some)
                    .or_err(ErrorType::ReadError, "reading a request's body")
            }
            Downstream::Pingora(session) => session.read_request_body().await,
        }
    }

    /// Asks a caller that waits to be asked for its body.
    ///
    /// # Errors
    /// When the caller has gone.
    pub async fn write_continue(&mut self) -> Result<()> {
        match self {
            // A request that waits isn't plain.
            Downstream::Own(_) => Ok(()),
            Downstream::Pingora(session) => session.write_continue_response().await,
        }
    }
}
