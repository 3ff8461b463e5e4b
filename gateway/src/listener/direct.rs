//! Requests that are understood, over HTTP/1.1, without Pingora's proxy.
//!
//! The proxy makes ready for all that it might have to do with a request (modules, caches, subrequests, a loop of its own),
//! which costs as much as deciding a call does. A request whose head is plain is read and answered by a session of our own,
//! any other by Pingora's. One that its proxy's loop must carry (a WebSocket, an upload that isn't held) is put back into
//! the connection, and the proxy takes it, and this connection's later ones, from there.
//! Never decides more than that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use pingora::apps::ReusedHttpStream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::sync::Notify;

use super::{Listener, head_allowance};
use crate::clock;
use crate::context::Arrival;
use crate::downstream::Downstream;
use crate::downstream::http1::{Came, Http1};
use crate::downstream::joined::{self, Joined};
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
    pub(super) async fn connection(&self, joined: Joined, shutdown: &ShutdownWatch) {
        let mut own = Http1::new(joined);
        let mut is_first = true;
        loop {
            let (allowed, held_bytes) = {
                let server = &self.gateway.state.plan.load().server;
                let allowed = head_allowance(is_first, &server.limits);
                (allowed, server.max_request_body_bytes)
            };
            let begun = clock::now();
            let came = tokio::select! {
                // What has come already is served.
                biased;
                came = within(allowed, own.next()) => came.unwrap_or(Came::Nothing),
                () = self.leaving.comes() => Came::Nothing,
            };
            let goes_on = match came {
                Came::Nothing => false,
                Came::Plain if own.unread_body_bytes() <= held_bytes => {
                    self.plain(&mut own, shutdown).await
                }
                // A longer body may be carried.
                Came::Plain | Came::Odd => {
                    let left = allowed.saturating_sub(clock::now().since(begun));
                    let served = self.odd(own.into_joined(), left, shutdown);
                    let Some(joined) = Box::pin(served).await else {
                        return;
                    };
                    own = Http1::new(joined);
                    true
                }
            };
            if !goes_on {
                return;
            }
            is_first = false;
        }
    }

    /// Serves a plain request; whether another one may follow.
    async fn plain(&self, own: &mut Http1, shutdown: &ShutdownWatch) -> bool {
        let mut arrival = Arrival::now(&self.gateway.state);
        if *shutdown.borrow() {
            // No request follows where the process is about to end.
            own.close();
        }
        let is_whole = self.gateway.serve(Downstream::Own(own), &mut arrival).await;
        is_whole && own.finish().await
    }

    /// Serves a request with Pingora's session; the connection, where another one may follow on it.
    async fn odd(
        &self,
        joined: Joined,
        allowed: Duration,
        shutdown: &ShutdownWatch,
    ) -> Option<Joined> {
        let mut session = ServerSession::new_http1(Box::new(joined));
        // Without a bound of Pingora's, which would cut a longer `header-timeout` short.
        session.set_keepalive((!*shutdown.borrow()).then_some(0));
        joined::keep(&session, true);
        if !self.read_head(&mut session, allowed).await {
            return None;
        }
        let mut arrival = Arrival::now(&self.gateway.state);
        let is_connect = session.req_header().method == Method::CONNECT;
        let mut downstream = Downstream::Pingora(&mut session);
        if is_connect || passthrough::may_be_carried(&downstream, &arrival.plan.server) {
            drop(arrival);
            self.carried(joined::put_back(session)?, allowed, shutdown)
                .await;
            return None;
        }
        if *shutdown.borrow() {
            downstream.close();
        }
        joined::keep(&session, false);
        let downstream = Downstream::Pingora(&mut session);
        if !self.gateway.serve(downstream, &mut arrival).await {
            return None;
        }
        let (stream, next) = session.finish().await.ok().flatten()?.into_parts();
        joined::with_unread(stream, next)
    }

    /// Leaves a connection to Pingora's proxy.
    async fn carried(&self, session: ServerSession, allowed: Duration, shutdown: &ShutdownWatch) {
        let mut served = self.proxied(session, allowed, shutdown).await;
        while let Some((stream, settings)) = served.map(ReusedHttpStream::consume) {
            let mut session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
            let limits = self.gateway.state.plan.load().server.limits.clone();
            let allowed = head_allowance(false, &limits);
            served = self.proxied(session, allowed, shutdown).await;
        }
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
