//! What becomes of a backend's answer: how it is relayed, which fields go with it, and how a stream that
//! broke off is ended.
//!
//! Never reads from a connection; the drivers do.

use std::sync::LazyLock;

use bytes::Bytes;
use filters::outcome::{Credential, FailureReason, Outcome};
use filters::refusal::Refusal;
use filters::retry_after;
use filters::route::Shape;
use filters::time::UnixTime;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Method, StatusCode, Version};
use pingora::http::ResponseHeader;

use crate::config::plan::Auth;
use crate::context::hexadecimal;
use crate::reply;
use crate::upstream::headers::{self, HeaderView};

/// How an answer is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    /// Server-sent events, each read and passed on as it arrives.
    Events,
    /// Read whole, up to a bound, before its head is sent.
    Whole,
    /// Bytes as they come, unread.
    Untouched,
}

/// By the answer's own type: a caller that asked for a stream may get an error as JSON.
pub fn relay(answer: &ResponseHeader, shape: Shape) -> Relay {
    let kind = answer.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = match kind {
        "application/json" | "text/event-stream" => kind,
        _ => kind.split(';').next().unwrap_or("").trim(),
    };
    let encoded = answer
        .headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if encoded {
        return Relay::Untouched;
    }
    if essence.eq_ignore_ascii_case("text/event-stream") {
        return Relay::Events;
    }
    let json = essence.eq_ignore_ascii_case("application/json");
    match shape {
        Shape::Chat | Shape::Completions | Shape::Embeddings | Shape::Responses => Relay::Whole,
        Shape::Other if json => Relay::Whole,
        Shape::Other => Relay::Untouched,
    }
}

/// Whether a stream says in an event of its own that it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnEnd {
    /// It does: without it, it was cut off, however cleanly its body ended.
    Expected,
    /// Nobody knows.
    Unknown,
}

/// By what was asked for; an error that comes as events may end as it likes.
pub fn own_end(answer: &ResponseHeader, shape: Shape) -> OwnEnd {
    match shape {
        Shape::Chat | Shape::Completions | Shape::Responses if answer.status == StatusCode::OK => {
            OwnEnd::Expected
        }
        Shape::Chat | Shape::Completions | Shape::Responses | Shape::Embeddings | Shape::Other => {
            OwnEnd::Unknown
        }
    }
}

/// Whether an answer to `method` with this status has no body by HTTP's rules.
pub fn is_bodyless(method: &Method, status: StatusCode) -> bool {
    method == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// Whether an interim answer, after which the real one comes. An upgrade's 101 is the real one.
pub fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// Whether the connection isn't HTTP any more after this answer.
pub fn switches_protocols(status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS
}

/// Whether the call was served: only then has it used tokens.
pub fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Whether an answer may be kept, as far as its status tells.
pub fn may_be_kept(status: StatusCode) -> bool {
    status == StatusCode::OK
}

/// The label of an attempt that was answered.
pub fn outcome(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        429 => "429",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

/// The same for a status as a number; `none` if it is no status.
pub fn outcome_of(status: u16) -> &'static str {
    StatusCode::from_u16(status).map_or("none", outcome)
}

/// What an answer says of the backend that gave it.
pub fn judged(answer: &ResponseHeader, auth: &Auth, now: UnixTime) -> Outcome {
    let wait = retry_after::wait(&HeaderView(&answer.headers), now);
    Outcome::of_answer(answer.status.as_u16(), wait, credential(auth))
}

/// What an error in a stream says of the backend, by the status that it stands for; `head` is what the answer's head
/// said.
pub fn judged_event(status: u16, head: &Outcome, auth: &Auth) -> Outcome {
    let wait = match *head {
        Outcome::Answered { wait, .. } | Outcome::ErrorEvent { wait, .. } => wait,
        Outcome::EmptyStream
        | Outcome::Failed(_)
        | Outcome::Stale
        | Outcome::CallersFault
        | Outcome::CredentialRefused
        | Outcome::NoCredential
        | Outcome::NoVerdict => None,
    };
    Outcome::of_error_event(status, wait, credential(auth))
}

fn credential(auth: &Auth) -> Credential {
    match auth {
        Auth::None => Credential::Caller,
        Auth::ApiKey(_) | Auth::Bearer(_) | Auth::ManagedIdentity(_) => Credential::Gateway,
    }
}

/// Whether the backend doesn't know our token: it may have been withdrawn. A token that is known and may not is another
/// matter.
pub fn doubts_token(status: StatusCode) -> bool {
    status == StatusCode::UNAUTHORIZED
}

/// Whether an answer that comes before the request was sent whole makes the rest of it useless.
pub fn refuses_request(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// How the answer's body is framed towards the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// As the backend stated it, or in chunks.
    AsStated,
    /// There is no body, though its length may be stated (`HEAD`, 304).
    Bodyless,
    /// Exactly this many bytes.
    Length(usize),
    /// Its length isn't known, or changes on the way.
    Unknown,
}

/// Gives an answer the id of its line in the usage log, unless its backend gave it one.
pub fn mark(answer: &mut ResponseHeader, request_id: u128) {
    let is_named = answer.headers.contains_key(&REQUEST_ID);
    if !is_named && !is_interim(answer.status) {
        // A name and a value that are ready can't be refused.
        let _ = answer.insert_header(REQUEST_ID, hexadecimal(request_id));
    }
}

/// Gives an answer that Pingora passes on the version that is spoken here; its framing is that version's already.
pub fn speak_own_version(answer: &mut ResponseHeader) {
    if answer.version < Version::HTTP_11 {
        answer.set_version(Version::HTTP_11);
    }
}

/// By which callers find a call again.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Takes an answer's head to pass it on; its status stays.
pub fn taken(answer: &mut Box<ResponseHeader>) -> Box<ResponseHeader> {
    let mut stub = BARE.clone();
    // A status that was one stays one.
    let _ = stub.set_status(answer.status);
    std::mem::replace(answer, Box::new(stub))
}

/// A head without fields.
static BARE: LazyLock<ResponseHeader> = LazyLock::new(|| {
    let head = http::Response::new(()).into_parts().0;
    ResponseHeader::from(head)
});

/// The answer's head as the caller gets it, with fields of our own.
pub fn head(
    head: Box<ResponseHeader>,
    own: Vec<(HeaderName, HeaderValue)>,
    framing: Framing,
    downstream: Version,
) -> Box<ResponseHeader> {
    let mut head = Parts::from(*head);
    head.version = Version::HTTP_11;
    let nominated = match head.headers.contains_key(header::CONNECTION) {
        true => headers::nominated(&head.headers),
        false => Vec::new(),
    };
    // An answer without content may state no length (RFC 9110, 8.6).
    let restates = matches!(framing, Framing::Length(_) | Framing::Unknown)
        || head.status == StatusCode::NO_CONTENT;
    let goes = |name: &HeaderName| {
        let restated = restates && name == header::CONTENT_LENGTH;
        headers::goes_downstream(name) && !restated && !nominated.contains(name)
    };
    // A backend's own limits are a third of its fields; taking each out costs more than putting the others in anew.
    let room = head.headers.len() + own.len() + 1;
    let fields = std::mem::replace(&mut head.headers, HeaderMap::with_capacity(room));
    let mut current = None;
    for (name, value) in fields {
        // A field's further values come without its name.
        if let Some(name) = name {
            current = goes(&name).then_some(name);
        }
        if let Some(name) = &current {
            head.headers.append(name, value);
        }
    }
    for (name, value) in own {
        head.headers.insert(name, value);
    }
    if let Framing::Length(length) = framing {
        let length = HeaderValue::from(length);
        head.headers.insert(header::CONTENT_LENGTH, length);
    }
    let stated = head.headers.contains_key(header::CONTENT_LENGTH);
    if !stated && framing != Framing::Bodyless && downstream == Version::HTTP_11 {
        let chunked = HeaderValue::from_static("chunked");
        head.headers.insert(header::TRANSFER_ENCODING, chunked);
    }
    Box::new(ResponseHeader::from(head))
}

/// Why there is no answer of a backend to pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection: DNS, TCP, TLS.
    Connect,
    /// No first byte, or none in the middle of an answer that isn't committed, in time.
    Timeout,
    /// The connection broke.
    Reset,
}

impl Failure {
    /// The label of `tollgate_backend_attempts_total`.
    pub fn outcome(self) -> &'static str {
        match self {
            Failure::Connect => "connect",
            Failure::Timeout => "timeout",
            Failure::Reset => "reset",
        }
    }

    /// The same, as policy knows it.
    pub fn reason(self) -> FailureReason {
        match self {
            Failure::Connect => FailureReason::Connect,
            Failure::Timeout => FailureReason::Timeout,
            Failure::Reset => FailureReason::Reset,
        }
    }

    /// What the caller is told when no attempt is left.
    pub fn refusal(self) -> Refusal {
        match self {
            Failure::Timeout => Refusal::BackendTimeout,
            Failure::Connect | Failure::Reset => Refusal::NoBackendAvailable {
                retry_after_ms: None,
            },
        }
    }
}

/// Who broke a stream off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenBy {
    /// The backend, in this way.
    Upstream(Failure),
    /// The gateway, which was stopped.
    Gateway,
}

/// The event that ends a stream that broke off. SDKs raise on its `error` object; the responses
/// API names its events, so there it also has the form of that API's own error event.
pub fn broken_stream_event(shape: Shape, by: BrokenBy) -> Bytes {
    let (code, message) = match by {
        BrokenBy::Upstream(_) => (
            "upstream_cut",
            "The model endpoint broke off in the middle of this answer. What came before is incomplete: send the request again.",
        ),
        BrokenBy::Gateway => (
            "gateway_stopped",
            "The gateway was stopped in the middle of this answer. What came before is incomplete: send the request again.",
        ),
    };
    match shape {
        Shape::Responses => {
            let event = serde_json::json!({
                "type": "error", "code": code, "message": message, "param": null,
                "error": { "code": code, "message": message, "type": "server_error", "param": null },
            });
            Bytes::from(format!("event: error\ndata: {event}\n\n"))
        }
        Shape::Chat | Shape::Completions | Shape::Embeddings | Shape::Other => {
            let error = reply::error_json(code, message, "server_error");
            let text = String::from_utf8_lossy(&error);
            Bytes::from(format!("data: {text}\n\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut answer = ResponseHeader::build(200, None).unwrap();
        for (name, value) in fields {
            answer.append_header(*name, *value).unwrap();
        }
        answer
    }

    #[test]
    fn fields_of_one_hop_and_of_one_backend_stay_behind() {
        let upstream = answer(&[
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("x-ratelimit-remaining-tokens", "7"),
            ("x-ms-region", "East US"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("content-length", "10"),
        ]);
        let own = vec![(
            HeaderName::from_static("x-ratelimit-remaining-tokens"),
            HeaderValue::from(5),
        )];
        let head = head(
            Box::new(upstream),
            own,
            Framing::Length(4),
            Version::HTTP_11,
        );
        let mut names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        let own = "x-ratelimit-remaining-tokens";
        assert_eq!(names, ["content-length", "set-cookie", "x-ms-region", own]);
        assert_eq!(head.headers[own], "5");
        assert_eq!(head.headers["content-length"], "4");
        assert_eq!(head.headers.get_all("set-cookie").iter().count(), 2);
    }

    #[test]
    fn an_answer_without_content_states_no_length() {
        for (status, stated) in [(204, None), (304, Some("5"))] {
            let mut upstream = answer(&[("content-length", "5")]);
            upstream.set_status(status).unwrap();
            let upstream = Box::new(upstream);
            let head = head(upstream, Vec::new(), Framing::Bodyless, Version::HTTP_11);
            let length = head.headers.get("content-length");
            assert_eq!(length.map(|length| length.to_str().unwrap()), stated);
            assert!(!head.headers.contains_key("transfer-encoding"));
        }
    }

    #[test]
    fn an_answer_without_an_id_gets_the_gateways() {
        let mut bare = answer(&[]);
        mark(&mut bare, 0x0123_4567_89ab_cdef);
        let id = "00000000000000000123456789abcdef";
        assert_eq!(bare.headers["x-request-id"], id);
        let mut named = answer(&[("x-request-id", "theirs")]);
        mark(&mut named, 7);
        assert_eq!(named.headers["x-request-id"], "theirs");
    }

    #[test]
    fn an_answer_of_unknown_length_is_chunked_for_http_1_1_alone() {
        let upstream = answer(&[("content-length", "10")]);
        let unknown = |version| {
            head(
                Box::new(upstream.clone()),
                Vec::new(),
                Framing::Unknown,
                version,
            )
        };
        let chunked = unknown(Version::HTTP_11);
        assert_eq!(chunked.headers["transfer-encoding"], "chunked");
        let framed = unknown(Version::HTTP_2);
        assert!(framed.headers.is_empty());
    }

    #[test]
    fn an_end_is_expected_of_what_is_understood_and_went_well() {
        let well = answer(&[]);
        assert_eq!(own_end(&well, Shape::Responses), OwnEnd::Expected);
        assert_eq!(own_end(&well, Shape::Other), OwnEnd::Unknown);
        let failed = ResponseHeader::build(502, None).unwrap();
        assert_eq!(own_end(&failed, Shape::Chat), OwnEnd::Unknown);
    }

    #[test]
    fn how_an_answer_is_relayed_follows_its_type() {
        let events = answer(&[("content-type", "Text/Event-Stream; charset=utf-8")]);
        assert_eq!(relay(&events, Shape::Chat), Relay::Events);
        let json = answer(&[("content-type", "application/json")]);
        assert_eq!(relay(&json, Shape::Chat), Relay::Whole);
        assert_eq!(relay(&json, Shape::Other), Relay::Whole);
        let audio = answer(&[("content-type", "audio/mpeg")]);
        assert_eq!(relay(&audio, Shape::Other), Relay::Untouched);
        let packed = answer(&[
            ("content-type", "application/json"),
            ("content-encoding", "br"),
        ]);
        assert_eq!(relay(&packed, Shape::Chat), Relay::Untouched);
    }
}
