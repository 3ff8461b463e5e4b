//! What is written down of requests, and where.

use std::path::PathBuf;

use filters::expression::Expression;

pub use super::super::file::records::{LineFormat, OtlpProtocol};
use super::{Endpoint, Redis};

/// `[usage-log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageLog {
    /// Where its files go; made where it isn't there.
    pub directory: Option<PathBuf>,
    /// Where else its lines go, or instead.
    pub stream: Option<UsageStream>,
}

/// `redis-stream` of the usage log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageStream {
    /// The server.
    pub redis: Redis,
    /// The stream's key.
    pub key: String,
    /// Older entries go.
    pub max_entries: u64,
}

/// `[access-log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Where its lines go.
    pub place: Place,
    /// How they look.
    pub format: LineFormat,
}

/// Where lines go that others rotate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Standard output.
    Output,
    /// A file; made where it isn't there.
    File(PathBuf),
}

/// `[message-log]`
#[derive(Debug)]
pub struct MessageLog {
    /// Where its files go; made where it isn't there.
    pub directory: PathBuf,
    /// Which calls.
    pub when: Expression,
    /// Of a prompt, and of an answer; what is longer is cut.
    pub max_bytes: usize,
}

/// `[otlp]`
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// The collector.
    pub endpoint: Endpoint,
    /// How it is spoken to.
    pub protocol: OtlpProtocol,
    /// The part of the calls that are traced, of those whose caller didn't decide. From 0 to 1.
    pub sample: f64,
}
