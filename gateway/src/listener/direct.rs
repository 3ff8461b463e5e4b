//! Requests that are understood, over HTTP/1.1, without Pingora's proxy.
//!
//! The proxy makes ready for all that it might have to do with a request (modules, caches, subrequests, a loop of its own),
//! which costs as much as deciding a call does. A request whose head is plain is read and answered by a session of our own,
//! any other by Pingora's. One that its proxy's loop must carry (a WebSocket, an upload that isn't held) is put back into
//! the connection, and the proxy takes it from there.
//! Never decides more than that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use pingora::apps::ReusedHttpStream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use pingora::{Error, ErrorType};
use tokio::sync::Notify;

use super::{Listener, TARGET_BYTES, head_allowance};
use crate::clock;
use crate::config::plan::Limits;
use crate::context::Arrival;
use crate::downstream::Downstream;
use crate::downstream::http1::{Came, Http1};
use crate::downstream::joined::{self, Joined};
use crate::passthrough;
use crate::reply::{self, Unreadable};
use crate::upstream::fault::Fault;
use crate::wire;
use crate::within::within;

/// A colon, a blank and a line's end beside each field. Bytes.
const BETWEEN_FIELDS_BYTES: usize = 4;

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
                    // What a call takes, an idle connection doesn't hold.
                    Box::pin(self.plain(&mut own, shutdown)).await
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
        mut allowed: Duration,
        shutdown: &ShutdownWatch,
    ) -> Option<Joined> {
        let mut session = ServerSession::new_http1(Box::new(joined));
        let mut is_first = true;
        loop {
            // Without a bound of Pingora's, which would cut a longer `header-timeout` short.
            session.set_keepalive((!*shutdown.borrow()).then_some(0));
            session = self.read_head(session, allowed).await?;
            let mut arrival = Arrival::now(&self.gateway.state);
            let mut downstream = Downstream::Pingora(&mut session);
            if !passthrough::may_be_carried(&downstream, &arrival.plan.server) {
                if *shutdown.borrow() {
                    downstream.close();
                }
                joined::forget(&session);
                let downstream = Downstream::Pingora(&mut session);
                if !self.gateway.serve(downstream, &mut arrival).await {
                    return None;
                }
                let (stream, next) = session.finish().await.ok().flatten()?.into_parts();
                return joined::with_unread(stream, next);
            }
            drop(arrival);
            // What came along with the request before isn't here to be read again. Such a caller asks once more.
            if !is_first && !joined::is_kept(&session) {
                return None;
            }
            let again = joined::put_back(session)?;
            session = self.carried(again, allowed, shutdown).await?;
            is_first = false;
            allowed = head_allowance(false, &self.gateway.state.plan.load().server.limits);
        }
    }

    /// Leaves a request to Pingora's proxy; the connection, where another one may follow on it. The proxy may have read that
    /// one's beginning already.
    async fn carried(
        &self,
        session: ServerSession,
        allowed: Duration,
        shutdown: &ShutdownWatch,
    ) -> Option<ServerSession> {
        let served = self.proxied(session, allowed, shutdown).await;
        let (stream, settings) = served.map(ReusedHttpStream::consume)?;
        let mut session = ServerSession::new_http1(stream);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
        Some(session)
    }

    /// Reads a request's head. Where none came that can be served, its caller is told so, and the connection ends.
    async fn read_head(
        &self,
        mut session: ServerSession,
        allowed: Duration,
    ) -> Option<ServerSession> {
        let head_bytes = head_bytes(&self.gateway.state.plan.load().server.limits);
        joined::keep(&session, head_bytes);
        let read = tokio::select! {
            // What has come already is served.
            biased;
            read = within(allowed, session.read_request()) => read,
            () = self.leaving.comes() => return None,
        };
        let why = match read {
            Some(Ok(true)) if session.req_header().method == Method::CONNECT => Unreadable::Tunnel,
            Some(Ok(true)) => return Some(session),
            Some(Ok(false)) => return None,
            Some(Err(error)) => {
                tracing::debug!(error = %Fault(&error), "no request could be read");
                unreadable(&session, &error)?
            }
            None if joined::has_begun(&session) => Unreadable::TooSlow,
            None => return None,
        };
        self.decline(&mut session, why).await;
        if let ServerSession::H1(session) = session {
            wire::linger(&mut session.into_inner()).await;
        }
        None
    }

    /// Tells a caller why its request isn't read.
    pub(super) async fn decline(&self, session: &mut ServerSession, why: Unreadable) {
        let state = &self.gateway.state;
        state.metrics.refusal(why.code(), "");
        let told = reply::unreadable(session, why, state.next_request_id());
        let write_timeout = state.plan.load().server.limits.write_timeout;
        // Whoever isn't there any more can't be told.
        let _gone = within(write_timeout, told).await;
    }
}

/// How much of a head is read before it is too long: its fields as they are bounded, what stands between them, and the
/// target. Bytes.
fn head_bytes(limits: &Limits) -> usize {
    limits.max_header_bytes + limits.max_headers * BETWEEN_FIELDS_BYTES + TARGET_BYTES
}

/// What a failure to read a head says of it; nothing where the caller has gone.
fn unreadable(session: &ServerSession, error: &Error) -> Option<Unreadable> {
    let cause = error.cause.as_deref();
    let cause = cause.and_then(|cause| cause.downcast_ref::<httparse::Error>());
    match (error.etype(), cause) {
        _ if joined::is_full(session) => Some(Unreadable::TooLarge),
        (ErrorType::InvalidHTTPHeader, Some(httparse::Error::TooManyHeaders)) => {
            Some(Unreadable::TooLarge)
        }
        (ErrorType::InvalidHTTPHeader, _) => Some(Unreadable::Malformed),
        _ => None,
    }
}
