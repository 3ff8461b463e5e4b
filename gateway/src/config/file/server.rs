//! `[server]`, `[server.tls]`, `[server.limits]` and `[gateway]`: this process and how callers reach it.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::error::{Located, Place};
use super::field::Field;
use super::secret::{Origin, secret};
use super::table::Table;

/// `[server]`
#[derive(Debug, Default)]
pub struct Server {
    /// Addresses of plain HTTP/1.1.
    pub listen: Option<Vec<Located<String>>>,
    /// Where `listen` stands.
    pub listen_place: Place,
    /// Address of HTTP/2 with prior knowledge.
    pub h2c: Option<Located<String>>,
    /// Address of the admin listener.
    pub admin: Option<Located<String>>,
    /// What is asked for there.
    pub admin_token: Option<Located<Origin>>,
    /// Worker threads.
    pub threads: Option<Located<u64>>,
    /// Bytes.
    pub max_request_body: Option<Located<u64>>,
    /// Bytes.
    pub max_buffered_bodies: Option<Located<u64>>,
    /// On SIGTERM, before the drain.
    pub shutdown_delay: Option<Located<Duration>>,
    /// On SIGTERM.
    pub drain_timeout: Option<Located<Duration>>,
    /// A path.
    pub upgrade_socket: Option<Located<String>>,
    /// Whether changed files are noticed.
    pub watch: Option<Located<bool>>,
    /// Networks.
    pub trusted_proxies: Vec<Located<String>>,
    /// `[server.tls]`
    pub tls: Option<Tls>,
    /// `[server.limits]`
    pub limits: Limits,
}

/// `[server.tls]`
#[derive(Debug)]
pub struct Tls {
    /// Addresses.
    pub listen: Vec<Located<String>>,
    /// Path of a PEM chain.
    pub certificate: Option<Located<String>>,
    /// Path of a PEM key.
    pub key: Option<Located<String>>,
    /// Path of the authorities whose callers are let in.
    pub client_ca: Option<Located<String>>,
}

/// `[server.limits]`
#[derive(Debug, Default)]
pub struct Limits {
    /// Lines.
    pub max_headers: Option<Located<u64>>,
    /// Bytes.
    pub max_header_bytes: Option<Located<u64>>,
    /// For the head.
    pub header_timeout: Option<Located<Duration>>,
    /// For the whole body.
    pub body_timeout: Option<Located<Duration>>,
    /// Between two requests of a connection.
    pub idle_timeout: Option<Located<Duration>>,
    /// For a reader that takes nothing.
    pub write_timeout: Option<Located<Duration>>,
    /// Per subscription.
    pub max_concurrent_requests: Option<Located<u64>>,
    /// Per connection of HTTP/2.
    pub max_concurrent_streams: Option<Located<u64>>,
    /// Over all listeners.
    pub max_connections: Option<Located<u64>>,
}

/// `[gateway]`
#[derive(Debug, Default)]
pub struct Gateway {
    /// Its name in metrics.
    pub id: Option<Located<String>>,
    /// Where it stands.
    pub location: Option<Located<String>>,
}

/// Reads `[server]`.
pub fn server(field: &Field<'_, '_, '_>) -> Server {
    let Some(table) = field.table() else {
        return Server::default();
    };
    let server = Server {
        listen: table.field("listen").texts(),
        listen_place: table.field("listen").place(),
        h2c: table.field("h2c").text(),
        admin: table.field("admin").text(),
        admin_token: secret(&table.field("admin-token")),
        threads: table.field("threads").integer(THREADS),
        max_request_body: table.field("max-request-body").size(BODY_BYTES),
        max_buffered_bodies: table.field("max-buffered-bodies").size(BUFFERED_BYTES),
        shutdown_delay: table.field("shutdown-delay").duration(DRAIN),
        drain_timeout: table.field("drain-timeout").duration(DRAIN),
        upgrade_socket: table.field("upgrade-socket").text(),
        watch: table.field("watch").flag(),
        trusted_proxies: table.field("trusted-proxies").list().unwrap_or_default(),
        tls: table.field("tls").table().map(tls),
        limits: table
            .field("limits")
            .table()
            .map(limits)
            .unwrap_or_default(),
    };
    table.finish();
    server
}

/// Reads `[gateway]`.
pub fn gateway(field: &Field<'_, '_, '_>) -> Gateway {
    let Some(table) = field.table() else {
        return Gateway::default();
    };
    let gateway = Gateway {
        id: table.field("id").text(),
        location: table.field("location").text(),
    };
    table.finish();
    gateway
}

fn tls(table: Table<'_, '_>) -> Tls {
    let listen = table.field("listen");
    let listen = listen.required("an address such as \"0.0.0.0:8443\"");
    let tls = Tls {
        listen: listen.texts().unwrap_or_default(),
        certificate: path(&table, "certificate"),
        key: path(&table, "key"),
        client_ca: table.field("client-ca").text(),
    };
    table.finish();
    tls
}

fn path(table: &Table<'_, '_>, key: &'static str) -> Option<Located<String>> {
    table.field(key).required("the path of a PEM file").text()
}

fn limits(table: Table<'_, '_>) -> Limits {
    let limits = Limits {
        max_headers: table.field("max-headers").integer(HEADERS),
        max_header_bytes: table.field("max-header-bytes").size(HEADER_BYTES),
        header_timeout: table.field("header-timeout").duration(TIMEOUT),
        body_timeout: table.field("body-timeout").duration(TIMEOUT),
        idle_timeout: table.field("idle-timeout").duration(TIMEOUT),
        write_timeout: table.field("write-timeout").duration(TIMEOUT),
        max_concurrent_requests: table.field("max-concurrent-requests").integer(CONCURRENT),
        max_concurrent_streams: table.field("max-concurrent-streams").integer(STREAMS),
        max_connections: table.field("max-connections").integer(CONNECTIONS),
    };
    table.finish();
    limits
}

/// More threads than this are a slip of the keyboard.
const THREADS: RangeInclusive<u64> = 1..=1024;
/// From the smallest useful chat call to what still fits in memory several times.
const BODY_BYTES: RangeInclusive<u64> = 1 << 10..=1 << 30;
/// Up to 64 GiB: a large host.
const BUFFERED_BYTES: RangeInclusive<u64> = 1 << 10..=64 << 30;
/// `"0s"`: streams in flight are cut at once.
const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_600);
/// Of one connection; the protocol's own bound is far beyond.
const STREAMS: RangeInclusive<u64> = 1..=10_000;
/// More need more than one address.
const CONNECTIONS: RangeInclusive<u64> = 1..=1_000_000;
/// A client of OpenAI sends about 20; Pingora reads no more than 256 over HTTP/1.1.
const HEADERS: RangeInclusive<u64> = 8..=256;
/// Below 1 KiB a bearer token doesn't fit; above 1 MiB a head is an attack.
const HEADER_BYTES: RangeInclusive<u64> = 1 << 10..=1 << 20;
/// None is turned off: a caller that sends nothing must go at some time.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
/// Sockets of one process.
const CONCURRENT: RangeInclusive<u64> = 1..=1_000_000;
