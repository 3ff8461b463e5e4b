//! One attempt: a connection, the request, and the head of the answer.
//!
//! A pooled connection that the backend closed meanwhile is no failure of the backend: the request is sent
//! again, once, over a connection that is surely new. Where one of its addresses takes no connection, another does, within
//! the same time. A write error isn't final: the backend may have answered early and closed, so its answer is looked for
//! all the same.
//! Never decides whether another backend is asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use crate::clock;
use crate::config::plan::Backend;
use crate::stage::forward::{self, Outgoing};
use crate::stage::respond::{self, Failure};
use crate::upstream::connector::{Connector, Session};
use crate::upstream::fault::Fault;
use crate::upstream::http1::{Http1, Parts};
use crate::upstream::peers::Peers;

/// Tells a new connection's pool key from the pooled ones'.
const FRESH: u64 = 0x9e37_79b9_7f4a_7c15;
/// A body is written in slices of this size: the write timeout is for each, and a refusal that comes early is
/// seen between two. Bytes.
const SLICE_BYTES: usize = 64 << 10;
/// An answer that is tried elsewhere is read out up to this size. Bytes.
const DISCARD_MAX_BYTES: usize = 64 << 10;
/// And for this long: its caller waits meanwhile, and a new connection costs about as much.
const DISCARD_TIMEOUT: Duration = Duration::from_millis(250);
/// A connection that was closed shows it within a round trip. One that breaks later has had the request, and what the
/// backend did with it isn't done twice behind its back.
const STALE_WITHIN: Duration = Duration::from_secs(5);
/// When the backend takes no more of a request, an answer is there already, or none will come.
const EARLY_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Interim answers (100, 103) beyond this many are no answer.
const INTERIM_ANSWERS_MAX: usize = 8;

/// A backend that has answered: the head is read, the body isn't.
pub struct Reached {
    /// The connection, with the answer's head.
    pub upstream: Session,
    /// The request was sent whole, so the connection can be used again.
    pub reusable: bool,
    peer: Arc<HttpPeer>,
}

impl Reached {
    /// Reads out an answer that nobody gets, so that its connection can be used again, unless that takes long.
    pub async fn discard(mut self, connector: &Connector) {
        let read = tokio::time::timeout(DISCARD_TIMEOUT, read_out(&mut self.upstream)).await;
        if read == Ok(true) {
            self.release(connector).await;
        }
    }

    /// Gives the connection back to the pool; the answer must have been read to its end.
    pub async fn release(self, connector: &Connector) {
        if self.reusable {
            connector.release(self.upstream, &self.peer).await;
        }
    }
}

/// Why no answer's head came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// The backend had closed a pooled connection: it isn't to blame, and a new connection may do.
    Stale,
    /// The backend is to blame.
    Failed(Failure),
}

impl Missed {
    /// What it is where nothing else is tried.
    pub fn failure(self) -> Failure {
        match self {
            Missed::Stale => Failure::Reset,
            Missed::Failed(failure) => failure,
        }
    }
}

/// Sends a request to a backend and reads the head of its answer; `fresh` over a connection that is surely new.
///
/// # Errors
/// Why there is none. The detail is logged here, since it names the backend.
pub async fn attempt(
    connector: &Connector,
    peers: &Peers,
    backend: &Backend,
    (head, outgoing): (&RequestHeader, &Outgoing),
    fresh: bool,
) -> std::result::Result<Reached, Missed> {
    let sent = match connect(connector, peers, backend, fresh).await {
        Ok(connected) => send_over(connected, backend, (head, outgoing)).await,
        Err(broken) => Err(broken),
    };
    match sent {
        Ok(reached) => Ok(reached),
        Err(Broken { error, stale, .. }) if stale && !fresh => {
            tracing::debug!(backend = %backend.name, error = %Fault(&error), "a pooled connection was stale");
            Err(Missed::Stale)
        }
        Err(Broken { error, failure, .. }) => {
            tracing::warn!(backend = %backend.name, error = %Fault(&error), failure = failure.outcome(), "attempt failed");
            Err(Missed::Failed(failure))
        }
    }
}

struct Broken {
    error: Box<Error>,
    failure: Failure,
    stale: bool,
}

struct Connected {
    upstream: Session,
    reused: bool,
    /// By which it is given back.
    peer: Arc<HttpPeer>,
}

/// A connection to one of the backend's addresses.
async fn connect(
    connector: &Connector,
    peers: &Peers,
    backend: &Backend,
    fresh: bool,
) -> std::result::Result<Connected, Broken> {
    let within = backend.timeouts.connect;
    let begun = clock::now();
    let mut left = within;
    loop {
        let peer = peers.peer(backend, left).await;
        let peer = peer.map_err(|error| Broken::unconnected(error, false))?;
        let by = if fresh { unpooled(&peer) } else { peer.clone() };
        match connector.get(by.as_ref()).await {
            Ok((upstream, reused)) => {
                return Ok(Connected {
                    upstream,
                    reused,
                    peer,
                });
            }
            Err(error) => {
                // A pooled connection of HTTP/2 that takes no more streams.
                let stale = !fresh && *error.etype() == ErrorType::H2Error;
                left = within.saturating_sub(clock::now().since(begun));
                if stale || !peers.leave_out(backend, &peer) || left.is_zero() {
                    return Err(Broken::unconnected(error, stale));
                }
                tracing::warn!(backend = %backend.name, error = %Fault(&error), "one of the backend's addresses takes no connection; another is tried");
            }
        }
    }
}

impl Broken {
    fn unconnected(error: Box<Error>, stale: bool) -> Self {
        Broken {
            error,
            failure: Failure::Connect,
            stale,
        }
    }
}

/// A peer whose connections aren't found in the pool: it has none under this key. One of HTTP/2 would be put there before
/// it is given back, if it took a second stream.
fn unpooled(peer: &HttpPeer) -> Arc<HttpPeer> {
    let mut unpooled = HttpPeer::clone(peer);
    unpooled.group_key ^= FRESH;
    unpooled.options.max_h2_streams = 1;
    Arc::new(unpooled)
}

async fn send_over(
    connected: Connected,
    backend: &Backend,
    (head, outgoing): (&RequestHeader, &Outgoing),
) -> std::result::Result<Reached, Broken> {
    let Connected {
        mut upstream,
        reused,
        peer,
    } = connected;
    let begun = clock::now();
    match send(&mut upstream, backend, head, outgoing).await {
        Ok(reusable) => Ok(Reached {
            upstream,
            reusable,
            peer,
        }),
        Err(error) => {
            let failure = failure_of(&error);
            let at_once = clock::now().since(begun) < STALE_WITHIN;
            // Whoever has said something has had the request.
            let unheard = !upstream.has_heard() && *error.etype() != ErrorType::InvalidHTTPHeader;
            Err(Broken {
                stale: reused && at_once && unheard && failure == Failure::Reset,
                failure,
                error,
            })
        }
    }
}

/// What a failure on a backend's connection is.
pub fn failure_of(error: &Error) -> Failure {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Timeout,
        _ => Failure::Reset,
    }
}

/// Whether the whole request was taken.
async fn send(
    upstream: &mut Session,
    backend: &Backend,
    head: &RequestHeader,
    outgoing: &Outgoing,
) -> Result<bool> {
    upstream.set_read_timeout(None);
    let written = match upstream {
        Session::Own(session) => write(session, head, &outgoing.body).await,
        Session::Pingora(session) => {
            let mut head = Box::new(head.clone());
            if session.as_http2().is_some() {
                forward::to_http2(&mut head, backend)?;
            }
            session.write_request_header(head).await?;
            write_apart(session, &outgoing.body).await
        }
    };
    let first_byte = backend.timeouts.first_byte;
    upstream.set_read_timeout(Some(match &written {
        Ok(_) => first_byte,
        Err(_) => first_byte.min(EARLY_ANSWER_TIMEOUT),
    }));
    let answered = match &written {
        Ok(Written::Refused) => Ok(()),
        Ok(Written::Whole) | Err(_) => read_head(upstream).await,
    };
    match (written, answered) {
        (written, Ok(())) => {
            upstream.set_read_timeout(Some(between_bytes(backend)));
            Ok(matches!(written, Ok(Written::Whole)))
        }
        (Err(error), Err(_)) | (Ok(_), Err(error)) => Err(error),
    }
}

fn between_bytes(backend: &Backend) -> Duration {
    backend.timeouts.between_bytes
}

/// How far the body was written.
enum Written {
    /// To its end.
    Whole,
    /// Until the backend refused the request; its answer's head is read.
    Refused,
}

/// Head and body together, as far as one write goes.
async fn write(session: &mut Http1, head: &RequestHeader, parts: &[Bytes]) -> Result<Written> {
    let mut parts = Parts::new(parts);
    session.send_head(head, &mut parts).await?;
    while !parts.is_empty() {
        if session.answer().is_none()
            && let Some(read) = session.read_head().now_or_never()
        {
            read?;
        }
        if is_refusal(session.answer()) {
            return Ok(Written::Refused);
        }
        session.send_body(&mut parts).await?;
    }
    Ok(Written::Whole)
}

/// The body, after its head.
async fn write_apart(upstream: &mut HttpSession, parts: &[Bytes]) -> Result<Written> {
    let mut first = true;
    for part in parts {
        let mut rest = part.clone();
        while !rest.is_empty() {
            if !first && refused_already(upstream)? {
                return Ok(Written::Refused);
            }
            first = false;
            let slice = rest.split_to(rest.len().min(SLICE_BYTES));
            upstream.write_request_body(slice, false).await?;
        }
    }
    upstream.finish_request_body().await?;
    Ok(Written::Whole)
}

/// Whether a refusal has come by now. Doesn't wait; half a head stays in the connection's buffer.
fn refused_already(upstream: &mut HttpSession) -> Result<bool> {
    if upstream.response_header().is_none() {
        match upstream.read_response_header().now_or_never() {
            None => return Ok(false),
            Some(read) => read?,
        }
    }
    Ok(is_refusal(upstream.response_header()))
}

fn is_refusal(answer: Option<&ResponseHeader>) -> bool {
    answer.is_some_and(|answer| respond::refuses_request(answer.status))
}

async fn read_head(upstream: &mut Session) -> Result<()> {
    for _ in 0..INTERIM_ANSWERS_MAX + 2 {
        match upstream.response_header().map(|head| head.status) {
            None => upstream.read_response_header().await?,
            Some(status) if respond::is_interim(status) => upstream.read_response_header().await?,
            // Nobody asked for another protocol.
            Some(status) if respond::switches_protocols(status) => break,
            Some(_) => return Ok(()),
        }
    }
    Error::e_explain(ErrorType::InvalidHTTPHeader, "no answer but interim ones")
}

/// Whether an answer came to its end within the bound.
async fn read_out(upstream: &mut Session) -> bool {
    let mut read_bytes = 0;
    while read_bytes <= DISCARD_MAX_BYTES {
        match upstream.read_response_body().await {
            Ok(Some(chunk)) => read_bytes += chunk.len(),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;

    use pingora::connectors::ConnectorOptions;

    use super::*;
    use crate::upstream::peers::tests::{at, plan};

    #[tokio::test]
    async fn where_one_address_takes_no_connection_another_does() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let well = listener.local_addr().unwrap().to_string();
        let nobody = well.replace("127.0.0.1", "127.0.0.2");
        let plan = plan("models.example", "1s");
        let backend = &plan.backends[0];
        let peers = at(backend, &[&well, &nobody]).await;
        let connector = Connector::new(ConnectorOptions::new(8));
        let mut tried = Vec::new();
        for _ in 0..6 {
            let connected = connect(&connector, &peers, backend, false).await;
            let peer = connected
                .unwrap_or_else(|broken| panic!("{}", broken.error))
                .peer;
            tried.push(peer._address.to_string());
        }
        assert_eq!(tried, vec![well; 6]);
    }

    #[tokio::test]
    async fn where_no_address_takes_a_connection_that_is_the_backends_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let first = listener.local_addr().unwrap().to_string();
        drop(listener);
        let second = first.replace("127.0.0.1", "127.0.0.2");
        let plan = plan("models.example", "1s");
        let backend = &plan.backends[0];
        let peers = at(backend, &[&first, &second]).await;
        let connected = connect(
            &Connector::new(ConnectorOptions::new(8)),
            &peers,
            backend,
            false,
        )
        .await;
        let broken = connected.err().unwrap();
        assert_eq!((broken.failure, broken.stale), (Failure::Connect, false));
    }
}
