//! Reads the body of a request: its length and SHA-256 always, its bytes where the answer depends on them.
//!
//! A body of any length can be received; what is held is bounded.

use std::io;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::echo::hex_digest;
use super::journal::{Entry, MAX_BODY_BYTES, ReceivedBody};

/// A body that was read.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) body: ReceivedBody,
    pub(crate) bytes: Vec<u8>,
}

impl Received {
    /// The body as JSON, null if it isn't.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }
}

/// Reads to the end; an error when the caller goes away before.
pub(crate) async fn receive(
    mut body: Incoming,
    needed: bool,
    entry: &Entry,
) -> io::Result<Received> {
    let bound = if needed {
        MAX_NEEDED_BYTES
    } else {
        MAX_BODY_BYTES
    };
    let mut received = Received::default();
    let mut hash = Sha256::new();
    let mut failed = false;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            failed = true;
            break;
        };
        let Some(data) = frame.data_ref() else {
            continue;
        };
        hash.update(data);
        received.body.length += data.len() as u64;
        let room = bound.saturating_sub(received.bytes.len());
        received
            .bytes
            .extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
    }
    let kept = received
        .bytes
        .get(..MAX_BODY_BYTES)
        .unwrap_or(&received.bytes);
    received.body.bytes = Bytes::copy_from_slice(kept);
    received.body.complete = !failed;
    received.body.sha256 = hex_digest(&hash.finalize());
    entry.body(received.body.clone());
    if failed {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(received)
    }
}

/// The longest body that is understood; of a longer one only length and digest are known.
const MAX_NEEDED_BYTES: usize = 64 << 20;
