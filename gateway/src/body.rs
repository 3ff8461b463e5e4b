//! Reads a request body whole, within a bound and under one byte budget for all requests at once.
//!
//! One copy is made however often the body is sent: a body that arrives in one read isn't copied at all,
//! a longer one is gathered once, and every attempt sends slices of it. A body of stated length reserves
//! it before it is read, so that bodies that won't fit are declined before they cost anything.
//! Never looks into the body.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use filters::refusal::Refusal;
use http::header;
use pingora::{Error, ErrorType};

use crate::config::plan::Server;
use crate::downstream::Downstream;
use crate::state::{Budget, Held};
use crate::within::within;

/// Retry-After of a refusal for want of memory: bodies are held for as long as a call takes. Seconds.
const OVERLOADED_RETRY_S: u64 = 2;
/// First reservation for a body of unknown length; doubled as it grows. Bytes.
const FIRST_RESERVATION_BYTES: usize = 64 << 10;

/// A request body, held in memory until dropped.
#[derive(Debug)]
pub struct Body {
    /// Exactly what the caller sent, for as long as it may be sent on.
    pub bytes: Bytes,
    /// Its share of the budget.
    pub held: Held,
}

impl Body {
    /// Lets the body go and keeps this instead.
    pub fn shorten(&mut self, kept: Vec<u8>) {
        self.held.shrink_to(kept.len());
        self.bytes = kept.into();
    }
}

/// Why there is no body.
#[derive(Debug)]
pub enum Unread {
    /// The caller is to be told this.
    Refused(Refusal),
    /// The caller has gone.
    Gone,
}

/// The body's stated length. Bytes.
pub fn stated_length_bytes(session: &Downstream<'_>) -> Option<usize> {
    let value = session.field(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.trim().parse().ok()
}

/// Whether the caller waits for `100 Continue` before it sends its body.
pub fn expects_continue(session: &Downstream<'_>) -> bool {
    session
        .field(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Sends `100 Continue` to a caller that waits for it. (HTTP/2 has no need of it.)
///
/// # Errors
/// [`Unread::Gone`], when it doesn't wait any more.
pub async fn ask_for(session: &mut Downstream<'_>) -> Result<(), Unread> {
    if expects_continue(session) && !session.is_http2() {
        let answered = session.write_continue().await;
        answered.map_err(|_| Unread::Gone)?;
    }
    Ok(())
}

/// Reads the whole body.
///
/// # Errors
/// A refusal (413, 408, 503) if it passes a bound, or [`Unread::Gone`].
pub async fn read(
    session: &mut Downstream<'_>,
    server: &Server,
    budget: &Arc<Budget>,
) -> Result<Body, Unread> {
    let limit_bytes = server.max_request_body_bytes;
    let stated = stated_length_bytes(session);
    if stated.is_some_and(|length| length > limit_bytes) {
        return Err(Unread::Refused(Refusal::BodyTooLarge {
            limit_bytes: limit_bytes as u64,
        }));
    }
    let mut held = Held::nothing(budget.clone());
    if !held.grow_to(stated.unwrap_or(0)) {
        return Err(overloaded());
    }
    let timeout: Duration = server.limits.body_timeout;
    match within(timeout, gather(session, stated, limit_bytes, held)).await {
        Some(result) => result,
        None => Err(Unread::Refused(Refusal::BodyTooSlow)),
    }
}

async fn gather(
    session: &mut Downstream<'_>,
    stated: Option<usize>,
    limit_bytes: usize,
    mut held: Held,
) -> Result<Body, Unread> {
    ask_for(session).await?;
    let Some(first) = next(session).await? else {
        return Ok(Body {
            bytes: Bytes::new(),
            held,
        });
    };
    if stated == Some(first.len()) {
        return Ok(Body { bytes: first, held });
    }
    let mut whole = BytesMut::with_capacity(stated.unwrap_or(first.len() * 2).min(limit_bytes));
    let mut chunk = Some(first);
    while let Some(bytes) = chunk {
        let length = whole.len() + bytes.len();
        if length > limit_bytes {
            return Err(Unread::Refused(Refusal::BodyTooLarge {
                limit_bytes: limit_bytes as u64,
            }));
        }
        if stated.is_none() && !held.grow_to(reservation_bytes(length, limit_bytes)) {
            return Err(overloaded());
        }
        whole.extend_from_slice(&bytes);
        chunk = next(session).await?;
    }
    Ok(Body {
        bytes: whole.freeze(),
        held,
    })
}

async fn next(session: &mut Downstream<'_>) -> Result<Option<Bytes>, Unread> {
    match session.read_body().await {
        Ok(chunk) => Ok(chunk),
        Err(error) if *error.etype() == ErrorType::ReadTimedout => {
            Err(Unread::Refused(Refusal::BodyTooSlow))
        }
        Err(error) if is_malformed(&error) => {
            // Nobody can tell where the next request begins.
            session.close();
            Err(Unread::Refused(Refusal::BadRequest {
                message: "The request body's framing is broken.".into(),
            }))
        }
        Err(_) => Err(Unread::Gone),
    }
}

/// Whether what came isn't framed as HTTP frames a body. Pingora has no names for two of these.
fn is_malformed(error: &Error) -> bool {
    *error.etype() == ErrorType::InvalidHTTPHeader
        || MALFORMED
            .map(ErrorType::new)
            .iter()
            .any(|kind| kind == error.etype())
}

/// Of a chunk, and of what follows the last one.
const MALFORMED: [&str; 2] = ["InvalidChunk", "InvalidTrailerEnd"];

fn reservation_bytes(length: usize, limit_bytes: usize) -> usize {
    length
        .next_power_of_two()
        .max(FIRST_RESERVATION_BYTES)
        .min(limit_bytes)
}

fn overloaded() -> Unread {
    Unread::Refused(Refusal::Overloaded {
        retry_after_s: OVERLOADED_RETRY_S,
    })
}
