//! An answer before it is on the wire: status, headers and pieces, and the errors in the shape of the real endpoints.
//!
//! It knows what Azure's answers look like outside of the model's part. It doesn't know how they break.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::behaviour::FixedAnswer;
use super::journal::Charge;
use super::limits::{Exceeded, Standing};
use super::script::Piece;

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) streamed: bool,
}

impl Reply {
    pub(crate) fn json(status: u16, value: &Value, charge: Charge) -> Self {
        Self::whole(
            status,
            "application/json",
            Piece {
                bytes: Bytes::from(value.to_string()),
                charge,
            },
        )
    }

    pub(crate) fn events(pieces: Vec<Piece>) -> Self {
        let mut headers = HeaderMap::new();
        put(
            &mut headers,
            "content-type",
            "text/event-stream; charset=utf-8",
        );
        put(&mut headers, "cache-control", "no-cache");
        Self {
            status: 200,
            headers,
            pieces,
            streamed: true,
        }
    }

    /// An error in Azure's shape.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let value =
            json!({"error": {"code": code, "message": message, "type": null, "param": null}});
        Self::json(status, &value, Charge::default())
    }

    pub(crate) fn unauthorized() -> Self {
        let message = "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a \
            valid key for an active subscription and use a correct regional API endpoint for your resource.";
        Self::error(401, "401", message)
    }

    /// What a behaviour prescribes.
    pub(crate) fn fixed(fixed: &FixedAnswer) -> Self {
        let code = fixed.code.clamp(200, 599);
        let mut reply = match &fixed.body {
            Some(body) => Self::whole(code, "application/json", Piece::free(body.clone())),
            None => Self::error(
                code,
                &code.to_string(),
                "The simulator was told to answer so.",
            ),
        };
        for (name, value) in &fixed.headers {
            put(&mut reply.headers, name, value);
        }
        reply
    }

    /// Azure's 429.
    pub(crate) fn throttled(exceeded: Exceeded, standing: &Standing) -> Self {
        let seconds = standing.reset.as_millis().div_ceil(1000).max(1);
        let what = match exceeded {
            Exceeded::Tokens => "token rate limit",
            Exceeded::Requests => "call rate limit",
        };
        let message = format!(
            "Requests to the simulated deployment have exceeded {what} of your current pricing tier. \
            Please retry after {seconds} seconds."
        );
        let mut reply = Self::error(429, "429", &message);
        put(&mut reply.headers, "retry-after", &seconds.to_string());
        put(
            &mut reply.headers,
            "retry-after-ms",
            &(seconds * 1000).to_string(),
        );
        reply.standing(standing);
        reply
    }

    /// The headers on what is left.
    pub(crate) fn standing(&mut self, standing: &Standing) {
        let reset = format!("{}s", standing.reset.as_secs());
        let values = [
            (
                "x-ratelimit-limit-requests",
                standing.limit_requests().to_string(),
            ),
            (
                "x-ratelimit-limit-tokens",
                standing.limit_tokens().to_string(),
            ),
            (
                "x-ratelimit-remaining-requests",
                standing.remaining_requests().to_string(),
            ),
            (
                "x-ratelimit-remaining-tokens",
                standing.remaining_tokens().to_string(),
            ),
            ("x-ratelimit-reset-requests", reset.clone()),
            ("x-ratelimit-reset-tokens", reset),
        ];
        for (name, value) in values {
            put(&mut self.headers, name, &value);
        }
    }

    /// How many bytes there are in all.
    pub(crate) fn length(&self) -> usize {
        self.pieces.iter().map(|piece| piece.bytes.len()).sum()
    }

    fn whole(status: u16, content_type: &str, piece: Piece) -> Self {
        let mut headers = HeaderMap::new();
        put(&mut headers, "content-type", content_type);
        Self {
            status,
            headers,
            pieces: vec![piece],
            streamed: false,
        }
    }
}

/// Sets a header; one that HTTP can't carry is left out.
pub(crate) fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        headers.insert(name, value);
    }
}
