//! Whether a stream that has begun is an answer: what its first events show, and what status an error among them
//! stands for.
//!
//! A backend that fails after it sent `200` says so in the stream's first event, or says nothing. What it sends before
//! it has computed anything (a role, filter results of the prompt, `response.created`) shows nothing either way. Where
//! a shape isn't understood, any event is an answer.
//!
//! An error has no status in a stream, and whose fault it is hangs on that. Backends write codes of their own for it,
//! as a number or a word, in fields of several names; a word that nobody knows is the backend's failure.
//!
//! Never here: what follows from it (`retry`, `breaker`), and how long it is waited for.

use serde_json::Value;

use crate::answer::Seen;
use crate::answer::chunk::Chunk;
use crate::route::Shape;

/// What a stream has shown so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opening {
    /// No data yet: at most comments.
    #[default]
    Silent,
    /// That an answer is to begin.
    Announced,
    /// Something for the caller, or a proper end: it is an answer.
    Answered,
    /// An error before anything else.
    Failed {
        /// What it stands for.
        status: u16,
    },
    /// `[DONE]` before anything else.
    Empty,
}

impl Opening {
    /// Whether it can still turn out either way.
    pub fn is_undecided(self) -> bool {
        match self {
            Self::Silent | Self::Announced => true,
            Self::Answered | Self::Failed { .. } | Self::Empty => false,
        }
    }

    /// Takes in the next event. What is decided stays.
    pub(super) fn after(self, first: First) -> Self {
        match (self, first) {
            (Self::Answered | Self::Failed { .. } | Self::Empty, _) => self,
            (Self::Silent | Self::Announced, First::Error(status)) => Self::Failed { status },
            (Self::Silent | Self::Announced, First::Announcement) => Self::Announced,
            (Self::Silent, First::Done) => Self::Empty,
            (Self::Announced, First::Done) | (_, First::Answer) => Self::Answered,
        }
    }
}

/// What an event says, if it is the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    Announcement,
    Answer,
    Error(u16),
    Done,
}

/// Judges an event that has data.
pub(super) fn judge(shape: Shape, seen: Seen, chunk: &Chunk<'_>, data: &[u8]) -> First {
    match seen {
        Seen::Error => First::Error(error_status(data)),
        Seen::Terminal if chunk.is_failure() => First::Error(error_status(data)),
        Seen::Done => First::Done,
        Seen::Content | Seen::UsageOnly | Seen::Terminal => First::Answer,
        Seen::Other => match shape {
            Shape::Chat | Shape::Completions if chunk.only_announces_choices() => {
                First::Announcement
            }
            Shape::Responses if chunk.only_announces_response() => First::Announcement,
            Shape::Chat | Shape::Completions | Shape::Responses => First::Answer,
            Shape::Embeddings | Shape::Other => First::Answer,
        },
    }
}

/// The status of an error that came as JSON, bare or as an event's data.
pub fn error_status(data: &[u8]) -> u16 {
    let json: Value = serde_json::from_slice(data).unwrap_or_default();
    let found = PLACES
        .iter()
        .filter_map(|place| json.pointer(place))
        .find_map(status_of_error);
    found.unwrap_or(SERVER_ERROR)
}

/// The status of a body that is nothing but an error, as some send it for a stream.
pub fn bare_error_status(body: &[u8]) -> Option<u16> {
    let json: Value = match body.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(body).ok()?,
        Some(_) | None => return None,
    };
    let is_error = json.get("error").is_some_and(|error| !error.is_null());
    is_error.then(|| error_status(body))
}

fn status_of_error(error: &Value) -> Option<u16> {
    match error {
        Value::Object(_) => FIELDS
            .iter()
            .filter_map(|field| error.pointer(field))
            .find_map(status_of_code),
        Value::String(text) => status_of_word(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

fn status_of_code(code: &Value) -> Option<u16> {
    let number = match code {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match number {
        Some(number) => u16::try_from(number)
            .ok()
            .filter(|status| (400..600).contains(status)),
        None => status_of_word(code.as_str()?),
    }
}

/// `rate_limit_exceeded`, `RateLimitExceeded` and `rate limit exceeded` are one word.
fn status_of_word(text: &str) -> Option<u16> {
    if text.len() > MAX_WORD_BYTES {
        return None;
    }
    let letters = text.chars().filter(char::is_ascii_alphanumeric);
    let word: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
    let known = WORDS.iter().find(|(part, _)| match part.strip_prefix('^') {
        Some(beginning) => word.starts_with(beginning),
        None => word.contains(part),
    });
    known.map(|(_, status)| *status)
}

/// Where an event has its error; the last is the event itself.
const PLACES: [&str; 3] = ["/response/error", "/error", ""];

/// Where an error has its code, the most telling first.
const FIELDS: [&str; 6] = [
    "/code",
    "/type",
    "/innererror/code",
    "/status",
    "/status_code",
    "/http_status",
];

/// A longer text is a message, which may quote anything.
const MAX_WORD_BYTES: usize = 64;

const SERVER_ERROR: u16 = 500;

/// Parts of words, `^` for where they begin; the first that fits decides.
const WORDS: [(&str, u16); 38] = [
    ("ratelimit", 429),
    ("toomanyrequests", 429),
    ("throttl", 429),
    ("insufficientquota", 429),
    ("quotaexceeded", 429),
    ("resourceexhausted", 429),
    ("apikey", 401),
    ("authentication", 401),
    ("unauthorized", 401),
    ("unauthenticated", 401),
    ("permission", 403),
    ("forbidden", 403),
    ("toolarge", 413),
    ("contentfilter", 400),
    ("contentpolicy", 400),
    ("contentmanagement", 400),
    ("responsibleai", 400),
    ("moderation", 400),
    ("datainspection", 400),
    ("contextlength", 400),
    ("contextwindow", 400),
    ("badrequest", 400),
    ("^invalid", 400),
    ("^unsupported", 400),
    ("^stringabove", 400),
    ("^image", 400),
    ("^emptyimage", 400),
    ("^failedtodownload", 400),
    ("^validation", 400),
    ("notfound", 404),
    ("overload", 503),
    ("slowdown", 503),
    ("unavailable", 503),
    ("capacity", 503),
    ("timeout", 504),
    ("timedout", 504),
    ("internal", 500),
    ("server", 500),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::StreamMeter;
    use crate::sse::Event;

    fn opening(shape: Shape, events: &[&str]) -> Opening {
        let mut meter = StreamMeter::new(shape);
        for event in events {
            meter.read(&Event::parse(event.as_bytes()));
        }
        meter.opening()
    }

    const FILTERED: &str = r#"data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}"#;
    const ROLE: &str = r#"data: {"choices":[{"content_filter_results":{},"delta":{"content":"","refusal":null,"role":"assistant"},"finish_reason":null,"index":0,"logprobs":null}],"model":"gpt-4o","object":"chat.completion.chunk","usage":null}"#;
    const CONTENT: &str =
        r#"data: {"choices":[{"delta":{"content":"Why"},"finish_reason":null,"index":0}]}"#;
    const CREATED: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\",\"error\":null,\"usage\":null}}";
    const IN_PROGRESS: &str = "event: response.in_progress\ndata: {\"type\":\"response.in_progress\",\"response\":{\"error\":null}}";

    #[test]
    fn what_comes_before_the_first_token_shows_nothing() {
        assert_eq!(opening(Shape::Chat, &[]), Opening::Silent);
        assert_eq!(opening(Shape::Chat, &[": ping", ""]), Opening::Silent);
        assert_eq!(opening(Shape::Chat, &[FILTERED, ROLE]), Opening::Announced);
        let ping = "event: ping\ndata: {}";
        assert_eq!(opening(Shape::Chat, &[ping]), Opening::Announced);
        let queued = "event: response.queued\ndata: {\"type\":\"response.queued\"}";
        assert_eq!(
            opening(Shape::Responses, &[CREATED, queued, IN_PROGRESS]),
            Opening::Announced
        );
    }

    #[test]
    fn something_for_the_caller_or_a_proper_end_is_an_answer() {
        for events in [
            [FILTERED, CONTENT],
            [
                ROLE,
                r#"data: {"choices":[{"delta":{},"finish_reason":"stop","index":0}]}"#,
            ],
            [
                ROLE,
                r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}}]}}]}"#,
            ],
            [
                ROLE,
                r#"data: {"choices":[{"delta":{"audio":{"id":"a","transcript":"Why"}}}]}"#,
            ],
            [
                FILTERED,
                r#"data: {"choices":[],"usage":{"prompt_tokens":1}}"#,
            ],
            [ROLE, "data: [DONE]"],
        ] {
            assert_eq!(
                opening(Shape::Chat, &events),
                Opening::Answered,
                "{events:?}"
            );
        }
        for event in [
            r#"data: {"type":"response.output_item.added","item":{"type":"reasoning"}}"#,
            r#"data: {"type":"response.completed","response":{"output":[]}}"#,
            r#"data: {"type":"response.incomplete","response":{"incomplete_details":{"reason":"content_filter"}}}"#,
        ] {
            let opening = opening(Shape::Responses, &[CREATED, event]);
            assert_eq!(opening, Opening::Answered, "{event}");
        }
        assert_eq!(opening(Shape::Other, &["data: x"]), Opening::Answered);
    }

    #[test]
    fn an_error_first_is_a_failure_and_a_later_one_is_not() {
        let error = r#"data: {"error":{"code":"server_error","message":"x"}}"#;
        let failed = Opening::Failed { status: 500 };
        assert_eq!(opening(Shape::Chat, &[FILTERED, ROLE, error]), failed);
        assert_eq!(opening(Shape::Other, &[error]), failed);
        assert_eq!(opening(Shape::Chat, &[error, CONTENT]), failed);
        assert_eq!(opening(Shape::Chat, &[CONTENT, error]), Opening::Answered);
        let bad = "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"rate_limit_exceeded\"}}}";
        let throttled = Opening::Failed { status: 429 };
        assert_eq!(opening(Shape::Responses, &[CREATED, bad]), throttled);
        let bare = "event: error";
        assert_eq!(opening(Shape::Chat, &[bare]), failed);
        assert_eq!(opening(Shape::Chat, &["data: [DONE]"]), Opening::Empty);
    }

    #[test]
    fn an_error_stands_for_a_status() {
        for (error, status) in [
            (
                r#"{"error":{"code":"429","message":"Requests have exceeded the token rate limit."}}"#,
                429,
            ),
            (r#"{"error":{"code":429}}"#, 429),
            (r#"{"error":{"code":null,"type":"too_many_requests"}}"#, 429),
            (r#"{"error":{"code":"RateLimitReached"}}"#, 429),
            (r#"{"error":"rate limit exceeded"}"#, 429),
            (
                r#"{"type":"error","code":"rate_limit_exceeded","message":"x"}"#,
                429,
            ),
            (
                r#"{"type":"error","error":{"type":"rate_limit_error"}}"#,
                429,
            ),
            (
                r#"{"error":{"type":null,"code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
                400,
            ),
            (
                r#"{"error":{"code":"context_length_exceeded","type":"invalid_request_error"}}"#,
                400,
            ),
            (
                r#"{"error":{"code":null,"type":"invalid_request_error"}}"#,
                400,
            ),
            (
                r#"{"object":"error","message":"x","type":"BadRequestError","code":400}"#,
                400,
            ),
            (r#"{"response":{"error":{"code":"invalid_prompt"}}}"#, 400),
            (r#"{"error":{"code":"DeploymentNotFound"}}"#, 404),
            (
                r#"{"error":{"code":"invalid_api_key","type":"invalid_request_error"}}"#,
                401,
            ),
            (
                r#"{"error":{"code":"server_error","type":"invalid_request_error"}}"#,
                500,
            ),
            (
                r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
                503,
            ),
            (r#"{"error":{"code":502}}"#, 502),
            (r#"{"error":{"code":7,"type":"odd"}}"#, 500),
            (
                r#"{"error":{"message":"you sent an invalid rate limit"}}"#,
                500,
            ),
            ("overloaded", 500),
        ] {
            assert_eq!(error_status(error.as_bytes()), status, "{error}");
        }
    }

    #[test]
    fn a_body_that_is_only_an_error_is_known() {
        let status = |body: &str| bare_error_status(body.as_bytes());
        assert_eq!(status("{\"error\":{\"code\":\"429\"}}\n\n"), Some(429));
        assert_eq!(status("{\"error\":null}"), None);
        assert_eq!(status("{\"choices\":[]}"), None);
        assert_eq!(status(": comment\n\n"), None);
    }
}
