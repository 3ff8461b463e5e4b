//! What is written down, and where state is shared: `[redis]`, `[usage-log]`, `[prices]`, `[access-log]`,
//! `[message-log]`, `[otlp]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::error::{Located, Place};
use super::secret::{self, Origin};
use super::table::Table;

/// `[redis]`
#[derive(Debug)]
pub struct Redis {
    /// Where it stands.
    pub place: Place,
    /// `redis://` and its kin; a password may stand in it.
    pub url: Option<Located<Origin>>,
    /// For one command.
    pub timeout: Option<Located<Duration>>,
    /// A path.
    pub ca: Option<Located<String>>,
}

/// Everything that is written down.
#[derive(Debug)]
pub struct Records {
    /// `[usage-log]`
    pub usage_log: Option<UsageLog>,
    /// `[prices]`
    pub prices: Option<Prices>,
    /// `[access-log]`
    pub access_log: Option<AccessLog>,
    /// `[message-log]`
    pub message_log: Option<MessageLog>,
    /// `[otlp]`
    pub otlp: Option<Otlp>,
}

/// `[usage-log]`
#[derive(Debug)]
pub struct UsageLog {
    /// A path.
    pub directory: Option<Located<String>>,
    /// The name of a stream.
    pub redis_stream: Option<Located<String>>,
    /// Entries that the stream keeps.
    pub max_entries: Option<Located<u64>>,
}

/// `[prices]`
#[derive(Debug)]
pub struct Prices {
    /// A path.
    pub file: Option<Located<String>>,
}

/// `[access-log]`
#[derive(Debug)]
pub struct AccessLog {
    /// A path, or `-`.
    pub file: Option<Located<String>>,
    /// Whether lines are JSON.
    pub format: Option<Located<LineFormat>>,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object a line.
    Json,
    /// `name=value`, for people.
    Text,
}

/// `[message-log]`
#[derive(Debug)]
pub struct MessageLog {
    /// A path.
    pub directory: Option<Located<String>>,
    /// CEL: which calls.
    pub when: Option<Located<String>>,
    /// Of a prompt or an answer.
    pub max_bytes: Option<Located<u64>>,
}

/// `[otlp]`
#[derive(Debug)]
pub struct Otlp {
    /// A URL.
    pub endpoint: Option<Located<String>>,
    /// How it is spoken to.
    pub protocol: Option<Located<OtlpProtocol>>,
    /// Which part of the calls.
    pub sample: Option<Located<f64>>,
}

/// The two forms of OTLP that collectors take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC, usually at port 4317.
    Grpc,
    /// Protocol buffers over HTTP, usually at port 4318.
    Http,
}

/// Reads `[redis]`.
pub fn redis(table: Table<'_, '_>) -> Redis {
    let url = table.field("url");
    let redis = Redis {
        place: table.place().clone(),
        url: secret::url(&url.required("a URL such as \"redis://127.0.0.1:6379\"")),
        timeout: table.field("timeout").duration(REDIS),
        ca: table.field("ca").text(),
    };
    table.finish();
    redis
}

/// Reads the sections of this file.
pub fn records(root: &Table<'_, '_>) -> Records {
    Records {
        usage_log: root.field("usage-log").table().map(usage_log),
        prices: root.field("prices").table().map(prices),
        access_log: root.field("access-log").table().map(access_log),
        message_log: root.field("message-log").table().map(message_log),
        otlp: root.field("otlp").table().map(otlp),
    }
}

fn usage_log(table: Table<'_, '_>) -> UsageLog {
    let directory = table.field("directory");
    let stream = table.field("redis-stream");
    if !directory.is_there() && !stream.is_there() {
        table.missing("directory", "a directory, a redis-stream, or both");
    }
    let log = UsageLog {
        directory: directory.text(),
        redis_stream: stream.text(),
        max_entries: table.field("redis-stream-max-entries").integer(ENTRIES),
    };
    table.finish();
    log
}

fn prices(table: Table<'_, '_>) -> Prices {
    let file = table.field("file").required("the path of a price list");
    let prices = Prices { file: file.text() };
    table.finish();
    prices
}

fn access_log(table: Table<'_, '_>) -> AccessLog {
    let formats = [("json", LineFormat::Json), ("text", LineFormat::Text)];
    let file = table.field("file");
    let log = AccessLog {
        file: file.required("a path, or \"-\" for standard output").text(),
        format: table.field("format").choice(&formats),
    };
    table.finish();
    log
}

fn message_log(table: Table<'_, '_>) -> MessageLog {
    let when = table.field("when");
    let when = when.required("which calls are written down, such as 'product.id == \"audited\"'");
    let log = MessageLog {
        directory: table.field("directory").required("a directory").text(),
        when: when.text(),
        max_bytes: table.field("max-bytes").size(MESSAGE_BYTES),
    };
    table.finish();
    log
}

fn otlp(table: Table<'_, '_>) -> Otlp {
    let endpoint = table.field("endpoint");
    let endpoint = endpoint.required("a URL such as \"http://127.0.0.1:4317\"");
    let protocols = [("grpc", OtlpProtocol::Grpc), ("http", OtlpProtocol::Http)];
    let otlp = Otlp {
        endpoint: endpoint.text(),
        protocol: table.field("protocol").choice(&protocols),
        sample: table.field("sample").number(0.0..=1.0),
    };
    table.finish();
    otlp
}

/// Every limited request waits for Redis: more than a few seconds is an outage.
const REDIS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);
/// Up to a body at its default bound.
const MESSAGE_BYTES: RangeInclusive<u64> = 1 << 10..=32 << 20;
/// From what a test needs to some 60 GB.
const ENTRIES: RangeInclusive<u64> = 1..=100_000_000;
