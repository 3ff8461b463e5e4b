//! What the makers of answers get and give: the request as JSON in, an answer without transport out.
//!
//! It keeps chat, completions, embeddings and responses free of HTTP and of how bytes travel.

use bytes::Bytes;
use serde_json::Value;

use super::behaviour::Content;
use super::journal::Charge;
use super::route::Dialect;
use super::script::Piece;
use super::usage::Tally;

/// A request that was understood.
pub(crate) struct Call<'request> {
    pub(crate) dialect: Dialect,
    /// Deployment or model, as the caller named it.
    pub(crate) model: &'request str,
    pub(crate) body: &'request Value,
    pub(crate) content: &'request Content,
    /// The number of the request, which makes ids differ.
    pub(crate) number: u64,
}

/// An answer.
pub(crate) enum Made {
    /// JSON, whole.
    Json { value: Value, charge: Charge },
    /// Server-sent events.
    Stream { events: Vec<Piece>, tally: Tally },
    /// The request makes no sense.
    Wrong(String),
}

impl Call<'_> {
    pub(crate) fn is_azure(&self) -> bool {
        self.dialect == Dialect::Azure
    }

    pub(crate) fn streams(&self) -> bool {
        self.flag("/stream")
    }

    pub(crate) fn flag(&self, pointer: &str) -> bool {
        self.body
            .pointer(pointer)
            .and_then(Value::as_bool)
            .unwrap_or(false)
    }

    /// How many choices are asked for.
    pub(crate) fn choices(&self) -> u64 {
        self.body
            .get("n")
            .and_then(Value::as_u64)
            .unwrap_or(1)
            .clamp(1, MAX_CHOICES)
    }

    pub(crate) fn id(&self, prefix: &str) -> String {
        format!("{prefix}simulated{:08}", self.number)
    }
}

/// As the real ones.
const MAX_CHOICES: u64 = 128;

/// `data: ...` and a blank line.
pub(crate) fn data(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

/// The last event of chat and completions.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";

/// All made things are as old as this, so that answers are the same each time.
pub(crate) const CREATED: u64 = 1_760_000_000;
