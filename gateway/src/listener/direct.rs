//! Requests that are understood, over HTTP/1.1, without Pingora's proxy.
//!
//! The proxy makes ready for all that it might have to do with a request (modules, caches, subrequests, a loop of its own),
//! which costs as much as deciding a call does. A request that its loop must carry (a WebSocket, an upload that isn't
//! held) is put back into the connection, and the proxy takes it, and this connection's later ones, from there.
//! Never decides more than that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::sync::Notify;

use super::{Listener, head_allowance};
use crate::context::Arrival;
use crate::downstream;
use crate::passthrough;
use crate::reply;
use crate::upstream::fault::Fault;
use crate::within::within;

/// Whether the listener is closing: then a connection doesn't wait for another request.
#[derive(Default)]
pub(super) struct Leaving {
    is_now: AtomicBool,
    told: Notify,
}

impl Leaving {
    /// Ends all waits for a request.
    pub(super) fn now(&self) {
        self.is_now.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    async fn comes(&self) {
        let told = self.told.notified();
        if !self.is_now.load(Ordering::Acquire) {
            told.await;
        }
    }
}

impl Listener {
    /// Serves the requests of a connection over HTTP/1.1, one after the other.
    pub(super) async fn connection(&self, stream: Stream, shutdown: &ShutdownWatch) {
        let mut session = ServerSession::new_http1(stream);
        // Without a bound of Pingora's, which would cut a longer `header-timeout` short.
        session.set_keepalive((!*shutdown.borrow()).then_some(0));
        loop {
            let allowed = head_allowance(&session, &self.gateway.state.plan.load().server.limits);
            let served = match downstream::begin(&session) {
                true => self.direct(session, allowed, shutdown).await,
                false => Box::pin(self.proxied(session, allowed, shutdown)).await,
            };
            let Some((stream, settings)) = served.map(ReusedHttpStream::consume) else {
                return;
            };
            session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
        }
    }

    /// Serves one request; the connection, where another one may follow on it.
    async fn direct(
        &self,
        mut session: ServerSession,
        allowed: Duration,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !self.read_head(&mut session, allowed).await {
            return None;
        }
        let mut arrival = Arrival::now(&self.gateway.state);
        let head = session.req_header();
        if head.method == Method::CONNECT
            || passthrough::may_be_carried(&session, &arrival.plan.server)
        {
            let session = downstream::put_back(session)?;
            return Box::pin(self.proxied(session, allowed, shutdown)).await;
        }
        downstream::keep_nothing(&session);
        if *shutdown.borrow() {
            // No request follows where the process is about to end.
            session.set_keepalive(None);
        }
        if !self.gateway.serve(&mut session, &mut arrival).await {
            return None;
        }
        let settings = HttpPersistentSettings::for_session(&session);
        let (stream, next) = session.finish().await.ok().flatten()?.into_parts();
        let stream = downstream::with_unread(stream, next)?;
        Some(ReusedHttpStream::new(stream, Some(settings)))
    }

    /// Reads a request's head; false where none came, or none that is one.
    async fn read_head(&self, session: &mut ServerSession, allowed: Duration) -> bool {
        let read = tokio::select! {
            // What has come already is served.
            biased;
            read = within(allowed, session.read_request()) => read,
            () = self.leaving.comes() => return false,
        };
        match read {
            Some(Ok(has_come)) => has_come,
            Some(Err(error)) => {
                tracing::debug!(error = %Fault(&error), "no request could be read");
                reply::unreadable(session, &error).await;
                false
            }
            None => false,
        }
    }
}
