//! What the simulator shall do with a request: plain data, from code, from JSON, or from an `x-simulator` header.
//!
//! One value covers everything, so that a test, the control endpoint and a single request speak the same words.
//! It decides nothing by itself; `script.rs` and `answer.rs` read it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How a request is answered. The default answers well, at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Behaviour {
    /// Only for the next so many requests; absent: until changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Only for requests whose path contains this text; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_contains: Option<String>,
    /// A fixed status instead of a model's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<FixedAnswer>,
    /// Recorded bytes instead of a model's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub playback: Option<Recording>,
    /// Latency.
    pub pace: Pace,
    /// What the made-up answer holds.
    pub content: Content,
    /// How the answer breaks, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breakage: Option<Breakage>,
    /// How the bytes are put on the wire.
    pub wire: WireForm,
    /// After each event, wait until the test releases the next one.
    pub gated: bool,
}

/// A status with its headers and body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FixedAnswer {
    /// The status code, 200 to 599.
    pub code: u16,
    /// Headers to add or replace.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body; absent: an error in Azure's shape.
    #[serde(default)]
    pub body: Option<String>,
}

/// Recorded bytes of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Recording(pub Bytes);

impl From<String> for Recording {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<Recording> for String {
    fn from(recording: Recording) -> Self {
        Self::from_utf8_lossy(&recording.0).into_owned()
    }
}

/// Latency, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Pace {
    /// Before the head of the answer, which leaves with the first token.
    pub first_token_ms: u64,
    /// Between the events of a stream; an unstreamed answer waits for the sum of them.
    pub between_tokens_ms: u64,
}

/// What the made-up answer holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Content {
    /// Words, each counted as one token. The caller's `max_tokens` still bounds it.
    pub tokens: u32,
    /// The text itself instead of made-up words; split at spaces into tokens.
    pub text: Option<String>,
    /// The caller's last text instead of made-up words: so a test can tell whose answer it is.
    pub echo: bool,
    /// Reported as cached, at most the prompt's tokens.
    pub cached_tokens: u64,
    /// Added to the completion tokens and reported as reasoning.
    pub reasoning_tokens: u64,
    /// Reported as prompt tokens instead of characters / 4.
    pub prompt_tokens: Option<u64>,
    /// Report no usage at all.
    pub no_usage: bool,
}

impl Default for Content {
    fn default() -> Self {
        Self {
            tokens: 16,
            text: None,
            echo: false,
            cached_tokens: 0,
            reasoning_tokens: 0,
            prompt_tokens: None,
            no_usage: false,
        }
    }
}

/// How the answer breaks. `after` counts events; absent: before the head of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Breakage {
    /// What happens.
    pub kind: BreakageKind,
    /// After how many events; `0` is after the head.
    #[serde(default)]
    pub after: Option<usize>,
}

/// The ways to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakageKind {
    /// TCP RST, also of all other streams on an HTTP/2 connection.
    Reset,
    /// Nothing more is sent; the connection stays open.
    Hang,
    /// The connection is closed without the end of the body (HTTP/2: the stream is reset).
    Cut,
    /// The body ends properly, but early: no last chunks, no `[DONE]`.
    End,
}

/// How the bytes are put on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct WireForm {
    /// How a stream's bytes are cut into writes.
    pub chunking: Chunking,
    /// Compress with gzip (in stored blocks, so nothing gets smaller).
    pub gzip: bool,
    /// `Connection: close` (HTTP/1.1 only).
    pub close: bool,
    /// HTTP/1.1 without length and without chunks: the close ends the body.
    pub close_delimited: bool,
    /// `103 Early Hints` first (HTTP/1.1 only).
    pub early_hints: bool,
    /// A response header `x-simulator-padding` of so many bytes.
    pub huge_header_bytes: usize,
    /// Answer before the body of the request is read.
    pub before_body: bool,
    /// Cut the JSON of an unstreamed answer in its middle, and claim that it is whole.
    pub malformed_json: bool,
    /// Use CRLF at the ends of a stream's lines.
    pub crlf: bool,
}

/// How a stream's bytes are cut into writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chunking {
    /// One write an event.
    #[default]
    Events,
    /// All at once.
    Whole,
    /// So many events a write.
    Coalesce(usize),
    /// So many bytes a write, wherever events end.
    Bytes(usize),
    /// Writes of these sizes in turn, starting over at the end of the list.
    Sizes(Vec<usize>),
}

impl Behaviour {
    /// A fixed status with an error body in Azure's shape.
    #[must_use]
    pub fn status(code: u16) -> Self {
        Self::answer(code, &[], None)
    }

    /// A fixed status with headers and body.
    #[must_use]
    pub fn answer(code: u16, headers: &[(&str, &str)], body: Option<&str>) -> Self {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let body = body.map(str::to_owned);
        Self {
            status: Some(FixedAnswer {
                code,
                headers,
                body,
            }),
            ..Self::default()
        }
    }

    /// Azure's 429 with `Retry-After` in seconds.
    #[must_use]
    pub fn throttled(retry_after_seconds: u64) -> Self {
        let seconds = retry_after_seconds.to_string();
        let millis = (retry_after_seconds * 1000).to_string();
        Self::answer(
            429,
            &[("retry-after", &seconds), ("retry-after-ms", &millis)],
            None,
        )
    }

    /// TCP RST before the answer.
    #[must_use]
    pub fn reset() -> Self {
        Self::breaks(BreakageKind::Reset, None)
    }

    /// No answer at all, with the connection open.
    #[must_use]
    pub fn hang() -> Self {
        Self::breaks(BreakageKind::Hang, None)
    }

    /// Breaks after so many events, or before the answer.
    #[must_use]
    pub fn breaks(kind: BreakageKind, after: Option<usize>) -> Self {
        Self {
            breakage: Some(Breakage { kind, after }),
            ..Self::default()
        }
    }

    /// Answers exactly these bytes as `text/event-stream`.
    #[must_use]
    pub fn playback(bytes: impl Into<Bytes>, chunking: Chunking) -> Self {
        let wire = WireForm {
            chunking,
            ..WireForm::default()
        };
        Self {
            playback: Some(Recording(bytes.into())),
            wire,
            ..Self::default()
        }
    }

    /// Sends the first event, and each further one when the test releases it.
    #[must_use]
    pub fn gated() -> Self {
        Self {
            gated: true,
            ..Self::default()
        }
    }

    /// So many words.
    #[must_use]
    pub fn tokens(tokens: u32) -> Self {
        Self {
            content: Content {
                tokens,
                ..Content::default()
            },
            ..Self::default()
        }
    }

    /// Says what the caller said last.
    #[must_use]
    pub fn echo() -> Self {
        Self {
            content: Content {
                echo: true,
                ..Content::default()
            },
            ..Self::default()
        }
    }

    /// The same, with latency.
    #[must_use]
    pub fn paced(mut self, first_token_ms: u64, between_tokens_ms: u64) -> Self {
        self.pace = Pace {
            first_token_ms,
            between_tokens_ms,
        };
        self
    }

    /// The same, for the next so many requests only.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// The same, for paths that contain this text only.
    #[must_use]
    pub fn on_path(mut self, part: &str) -> Self {
        self.path_contains = Some(part.to_owned());
        self
    }

    /// The same, with another wire form.
    #[must_use]
    pub fn wired(mut self, wire: WireForm) -> Self {
        self.wire = wire;
        self
    }

    /// The same, gated.
    #[must_use]
    pub fn with_gate(mut self) -> Self {
        self.gated = true;
        self
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        self.path_contains
            .as_ref()
            .is_none_or(|part| path.contains(part.as_str()))
    }
}
