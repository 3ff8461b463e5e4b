//! What the gateway answers itself: refusal -> status, type, headers and JSON, in one exhaustive table.
//!
//! The only place where a refusal gets an HTTP status. The body has the shape that OpenAI's SDKs parse.
//! Never names a backend, never holds a secret.

use std::time::Duration;

use bytes::Bytes;
use filters::refusal::Refusal;
use http::header::{self, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;

use crate::body;
use crate::context::hexadecimal;
use crate::downstream::{Downstream, Patience};

/// A caller that still sends its body gets this long until the answer is written all the same. A body that
/// ends by then leaves a connection that can be used again.
const BEFORE: Patience = Patience {
    in_all: Duration::from_secs(5),
    silence: Duration::from_secs(1),
};
/// After the answer, what still comes of the body is read for this long. A connection that is closed on unread
/// bytes is reset, and the answer is lost on its way. One that says nothing any more isn't waited for.
const AFTER: Patience = Patience {
    in_all: Duration::from_secs(30),
    silence: Duration::from_secs(2),
};

/// The status in records of a caller that left before it got one (nginx's convention). Never sent.
pub const CLIENT_GONE: u16 = 499;
/// The status of an answer that isn't a refusal.
pub const OK: u16 = 200;

/// What an answer made here says beside its refusal.
#[derive(Debug, Default)]
pub struct Fields {
    /// Instead of `Retry-After`; `None`: that.
    pub retry_after: Option<HeaderName>,
    /// Further fields.
    pub others: Vec<(HeaderName, HeaderValue)>,
}

/// A refusal in HTTP's words.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// `error.type`.
    pub kind: &'static str,
    /// When to come back. Milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Whether `retry-after-ms` is sent beside `Retry-After`.
    pub precise: bool,
}

/// What is asked for besides tunnels.
const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

const INVALID_REQUEST: &str = "invalid_request_error";
const AUTHENTICATION: &str = "authentication_error";
const PERMISSION: &str = "permission_error";
const TOKENS: &str = "tokens";
const QUOTA: &str = "insufficient_quota";
const SERVER: &str = "server_error";

/// The table.
pub fn of(refusal: &Refusal) -> Reply {
    let plain = |status, kind| Reply {
        status,
        kind,
        retry_after_ms: None,
        precise: false,
    };
    let wait = |status, kind, retry_after_ms, precise| Reply {
        status,
        kind,
        retry_after_ms,
        precise,
    };
    match refusal {
        Refusal::NoApi | Refusal::NoOperation | Refusal::UnknownModel { .. } => {
            plain(404, INVALID_REQUEST)
        }
        Refusal::MissingKey
        | Refusal::InvalidKey
        | Refusal::SuspendedKey
        | Refusal::MissingToken
        | Refusal::InvalidToken { .. } => plain(401, AUTHENTICATION),
        Refusal::ModelNotAllowed { .. } => plain(403, PERMISSION),
        Refusal::InvalidBody { .. } | Refusal::BadRequest { .. } => plain(400, INVALID_REQUEST),
        Refusal::BodyTooLarge { .. } => plain(413, INVALID_REQUEST),
        Refusal::BodyTooSlow => plain(408, INVALID_REQUEST),
        Refusal::HeadTooLarge { .. } => plain(431, INVALID_REQUEST),
        Refusal::RateLimitExceeded { retry_after_ms, .. } => {
            wait(429, TOKENS, Some(*retry_after_ms), true)
        }
        Refusal::RequestExceedsLimit { .. } => plain(429, TOKENS),
        Refusal::QuotaExceeded { retry_after_s, .. }
        | Refusal::BudgetSpent { retry_after_s, .. } => {
            wait(403, QUOTA, Some(retry_after_s.saturating_mul(1000)), false)
        }
        Refusal::BackendsThrottled { retry_after_ms } => wait(429, TOKENS, *retry_after_ms, false),
        Refusal::NoBackendAvailable { retry_after_ms } => wait(503, SERVER, *retry_after_ms, false),
        Refusal::BackendTimeout => plain(504, SERVER),
        Refusal::Overloaded { retry_after_s } | Refusal::IssuerUnavailable { retry_after_s } => {
            wait(503, SERVER, Some(retry_after_s.saturating_mul(1000)), false)
        }
        Refusal::PolicyFailed { .. } => plain(500, SERVER),
    }
}

/// Why a request isn't read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It isn't one of HTTP.
    Malformed,
    /// Its head is longer than any that is taken.
    TooLarge,
    /// Its head didn't arrive in time.
    TooSlow,
    /// It asks for a tunnel.
    Tunnel,
}

impl Unreadable {
    /// The stable word, as a refusal has one.
    pub fn code(self) -> &'static str {
        match self {
            Unreadable::Malformed => "bad_request",
            Unreadable::TooLarge => "request_head_too_large",
            Unreadable::TooSlow => "request_timeout",
            Unreadable::Tunnel => "method_not_allowed",
        }
    }

    fn told(self) -> (u16, &'static str) {
        match self {
            Unreadable::Malformed => (
                400,
                "The request isn't well-formed HTTP. Check what sent it, and each proxy on its way.",
            ),
            Unreadable::TooLarge => (
                431,
                "The request's head is larger than any that is taken. Send fewer or shorter header fields.",
            ),
            Unreadable::TooSlow => (
                408,
                "The request's head didn't arrive in time. Send it again, faster.",
            ),
            Unreadable::Tunnel => (405, "CONNECT isn't served here: this is no proxy."),
        }
    }
}

/// Tells a caller whose request isn't read why not. No request can follow it on its connection.
///
/// # Errors
/// Pingora's, when the caller has gone.
pub async fn unreadable(
    session: &mut ServerSession,
    why: Unreadable,
    request_id: u128,
) -> pingora::Result<()> {
    let (status, message) = why.told();
    let body = error_json(why.code(), message, INVALID_REQUEST);
    let mut head = ResponseHeader::build(status, Some(6))?;
    head.insert_header(header::CONTENT_TYPE, "application/json")?;
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    head.insert_header("x-request-id", hexadecimal(request_id))?;
    if why == Unreadable::Tunnel {
        head.insert_header(header::ALLOW, ALLOWED)?;
    }
    session.write_error_response(head, body).await
}

/// `{"error":{"code","message","type","param":null}}`
pub fn json(refusal: &Refusal) -> Bytes {
    error_json(refusal.code(), &refusal.message(), of(refusal).kind)
}

/// The error object under a code that isn't a refusal's, for streams that broke off.
pub fn error_json(code: &str, message: &str, kind: &str) -> Bytes {
    let error = serde_json::json!({
        "error": { "code": code, "message": message, "type": kind, "param": null }
    });
    Bytes::from(error.to_string())
}

/// Sends a refusal; the status that was sent. Reads what is left of the request's body first.
///
/// # Errors
/// Pingora's, when the caller has gone.
pub async fn refuse(
    session: &mut Downstream<'_>,
    refusal: &Refusal,
    fields: Fields,
    request_id: u128,
) -> pingora::Result<u16> {
    let reply = of(refusal);
    let body = json(refusal);
    let mut head = ResponseHeader::build(reply.status, Some(7 + fields.others.len()))?;
    for (name, value) in fields.others {
        head.insert_header(name, value)?;
    }
    head.insert_header(header::CONTENT_TYPE, "application/json")?;
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    head.insert_header("x-request-id", hexadecimal(request_id))?;
    if let Some(challenge) = challenge(refusal) {
        head.insert_header(header::WWW_AUTHENTICATE, challenge)?;
    }
    if let Some(milliseconds) = reply.retry_after_ms {
        let name = fields.retry_after.unwrap_or(header::RETRY_AFTER);
        let precise = reply.precise && name == header::RETRY_AFTER;
        head.insert_header(name, milliseconds.div_ceil(1000))?;
        if precise {
            head.insert_header("retry-after-ms", milliseconds)?;
        }
    }
    if worth_reading(session, refusal) {
        read_out(session, BEFORE).await;
    }
    let bodyless = session.request().method == http::Method::HEAD;
    session.write_head(Box::new(head)).await?;
    if !bodyless {
        session.write_body(body, true).await?;
    }
    read_out(session, AFTER).await;
    Ok(reply.status)
}

/// What a client of OAuth goes by (RFC 6750), where a token is what is wanted.
fn challenge(refusal: &Refusal) -> Option<String> {
    match refusal {
        Refusal::MissingToken => Some("Bearer realm=\"tollgate\"".to_owned()),
        Refusal::InvalidToken { problem } => Some(format!(
            "Bearer realm=\"tollgate\", error=\"invalid_token\", error_description=\"{}\"",
            problem.message()
        )),
        Refusal::NoApi
        | Refusal::NoOperation
        | Refusal::MissingKey
        | Refusal::InvalidKey
        | Refusal::SuspendedKey
        | Refusal::IssuerUnavailable { .. }
        | Refusal::ModelNotAllowed { .. }
        | Refusal::UnknownModel { .. }
        | Refusal::InvalidBody { .. }
        | Refusal::BodyTooLarge { .. }
        | Refusal::BodyTooSlow
        | Refusal::RateLimitExceeded { .. }
        | Refusal::RequestExceedsLimit { .. }
        | Refusal::BudgetSpent { .. }
        | Refusal::QuotaExceeded { .. }
        | Refusal::BackendsThrottled { .. }
        | Refusal::NoBackendAvailable { .. }
        | Refusal::BackendTimeout
        | Refusal::Overloaded { .. }
        | Refusal::HeadTooLarge { .. }
        | Refusal::BadRequest { .. }
        | Refusal::PolicyFailed { .. } => None,
    }
}

/// An answer that is none of a backend's and no refusal: one that was kept.
#[derive(Debug)]
pub struct Kept {
    /// Its type.
    pub content_type: &'static str,
    /// Its body.
    pub body: Bytes,
    /// Further fields.
    pub fields: Vec<(HeaderName, HeaderValue)>,
}

/// Sends a kept answer; the request's body must have been read.
///
/// # Errors
/// Pingora's, when the caller has gone.
pub async fn kept(
    session: &mut Downstream<'_>,
    kept: Kept,
    request_id: u128,
) -> pingora::Result<u16> {
    let mut head = ResponseHeader::build(OK, Some(3 + kept.fields.len()))?;
    head.insert_header(header::CONTENT_TYPE, kept.content_type)?;
    head.insert_header(header::CONTENT_LENGTH, kept.body.len())?;
    head.insert_header("x-request-id", hexadecimal(request_id))?;
    for (name, value) in kept.fields {
        head.insert_header(name, value)?;
    }
    session.write_head(Box::new(head)).await?;
    session.write_body(kept.body, true).await?;
    Ok(OK)
}

/// Whether the rest of the body is read before the answer is sent. A caller that waits for `100 Continue`
/// hasn't sent it, and one that is too slow has had its time.
fn worth_reading(session: &Downstream<'_>, refusal: &Refusal) -> bool {
    let waits = body::expects_continue(session) && !session.has_begun() && !session.is_http2();
    !waits && *refusal != Refusal::BodyTooSlow
}

/// Reads what is left of the request's body. A connection on which that fails isn't used again.
async fn read_out(session: &mut Downstream<'_>, patience: Patience) {
    if !session.is_body_read() && !session.drain(patience).await {
        session.close();
    }
}
