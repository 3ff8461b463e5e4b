//! `[backends.*]`: one model endpoint, its credential, its timeouts, its circuit breaker.

use std::ops::RangeInclusive;
use std::time::Duration;

use filters::breaker::MAX_SPAN;
use filters::outcome::FailureReason;

use super::super::error::{Located, Place};
use super::field::Field;
use super::nested::TextOrTable;
use super::secret::{Origin, secret};
use super::table::Table;

/// `[backends.NAME]`
#[derive(Debug)]
pub struct Backend {
    /// Its key in the file.
    pub name: Located<String>,
    /// Where it is.
    pub url: Option<Located<String>>,
    /// The schema's name.
    pub schema: Option<Located<String>>,
    /// The deployment's name there.
    pub deployment: Option<Located<String>>,
    /// Its `api-version`.
    pub api_version: Option<Located<String>>,
    /// The credential. `None`: not said.
    pub auth: Option<Auth>,
    /// `timeouts`
    pub timeouts: Timeouts,
    /// `tls`
    pub tls: Option<Tls>,
    /// Forced or forbidden.
    pub http2: Option<Located<bool>>,
    /// `[backends.NAME.circuit-breaker]`
    pub circuit_breaker: Option<CircuitBreaker>,
}

/// `auth`
#[derive(Debug)]
pub enum Auth {
    /// `"none"`
    None,
    /// `{ api-key = SECRET }`
    ApiKey(Located<Origin>),
    /// `{ bearer = SECRET }`
    Bearer(Located<Origin>),
    /// `{ managed-identity = { ... } }`
    ManagedIdentity(ManagedIdentity),
    /// Something that is already reported.
    Wrong,
}

/// `managed-identity`
#[derive(Debug)]
pub struct ManagedIdentity {
    /// Where it stands.
    pub place: Place,
    /// What the token is for.
    pub resource: Option<Located<String>>,
    /// A user-assigned identity.
    pub client_id: Option<Located<String>>,
    /// Path of the authorities to trust.
    pub ca: Option<Located<String>>,
}

/// `timeouts`
#[derive(Debug, Default)]
pub struct Timeouts {
    /// TCP and TLS.
    pub connect: Option<Located<Duration>>,
    /// Until the answer's first byte.
    pub first_byte: Option<Located<Duration>>,
    /// Between two reads.
    pub between_bytes: Option<Located<Duration>>,
}

/// `tls`
#[derive(Debug)]
pub struct Tls {
    /// Where it stands.
    pub place: Place,
    /// Path of the authorities.
    pub ca: Option<Located<String>>,
    /// Instead of the URL's host.
    pub server_name: Option<Located<String>>,
    /// Path of a PEM chain.
    pub client_certificate: Option<Located<String>>,
    /// Path of a PEM key.
    pub client_key: Option<Located<String>>,
}

/// `circuit-breaker`
#[derive(Debug)]
pub struct CircuitBreaker {
    /// Where it stands.
    pub place: Place,
    /// What trips it.
    pub failure_condition: Option<FailureCondition>,
    /// How long it stays open.
    pub trip_duration: Option<Located<Duration>>,
    /// Whether the backend's `Retry-After` sets that.
    pub accept_retry_after: Option<Located<bool>>,
    /// How much of it is believed.
    pub max_retry_after: Option<Located<Duration>>,
}

/// `failure-condition`
#[derive(Debug)]
pub struct FailureCondition {
    /// Where it stands.
    pub place: Place,
    /// Failures within the interval.
    pub count: Option<Located<u64>>,
    /// Of the calls within the interval.
    pub percentage: Option<Located<u64>>,
    /// Calls below which a percentage says nothing.
    pub minimum_requests: Option<Located<u64>>,
    /// The window.
    pub interval: Option<Located<Duration>>,
    /// Which answers are failures.
    pub status_code_ranges: Option<Located<Vec<RangeInclusive<u16>>>>,
    /// Which errors are.
    pub error_reasons: Option<Vec<FailureReason>>,
}

/// Reads `[backends.NAME]`.
pub fn backend(name: Located<String>, table: Table<'_, '_>) -> Backend {
    let url = table.field("url");
    let url = url.required("a URL such as \"https://contoso.openai.azure.com\"");
    let timeouts_table = table.field("timeouts").table();
    let breaker = table.field("circuit-breaker").table();
    let backend = Backend {
        name,
        url: url.text(),
        schema: table.field("schema").text(),
        deployment: table.field("deployment").text(),
        api_version: table.field("api-version").text(),
        auth: auth(&table.field("auth")),
        timeouts: timeouts_table.map(timeouts).unwrap_or_default(),
        tls: table.field("tls").table().map(tls),
        http2: table.field("http2").flag(),
        circuit_breaker: breaker.map(circuit_breaker),
    };
    table.finish();
    backend
}

fn auth(field: &Field<'_, '_, '_>) -> Option<Auth> {
    if !field.is_there() && !field.is_survey() {
        return None;
    }
    let table = match field.text_or_table(AUTH) {
        Some(TextOrTable::Table(table)) => table,
        Some(TextOrTable::Text(text)) if text.value == "none" => return Some(Auth::None),
        Some(TextOrTable::Text(_)) => {
            // The text isn't shown: it may be a key.
            field.refuse(&format!("found other text, expected {AUTH}"));
            return Some(Auth::Wrong);
        }
        None => return Some(Auth::Wrong),
    };
    let api_key = secret(&table.field("api-key")).map(Auth::ApiKey);
    let bearer = secret(&table.field("bearer")).map(Auth::Bearer);
    let identity = table
        .field("managed-identity")
        .table()
        .map(managed_identity);
    let keys = ["api-key", "bearer", "managed-identity"];
    let there = keys.iter().filter(|key| table.field(key).is_there());
    // Another key than these is reported as unknown.
    if there.count() > 1 || table.is_empty() {
        table.refuse(&format!("expected {AUTH}, with one key"));
    }
    table.finish();
    Some(api_key.or(bearer).or(identity).unwrap_or(Auth::Wrong))
}

fn managed_identity(table: Table<'_, '_>) -> Auth {
    let place = table.place().clone();
    let resource = table.field("resource");
    let resource =
        resource.required("the resource, such as \"https://cognitiveservices.azure.com\"");
    let resource = resource.text();
    let client_id = table.field("client-id").text();
    let ca = table.field("ca").text();
    table.finish();
    Auth::ManagedIdentity(ManagedIdentity {
        place,
        resource,
        client_id,
        ca,
    })
}

fn timeouts(table: Table<'_, '_>) -> Timeouts {
    let timeouts = Timeouts {
        connect: table.field("connect").duration(CONNECT),
        first_byte: table.field("first-byte").duration(ANSWER),
        between_bytes: table.field("between-bytes").duration(ANSWER),
    };
    table.finish();
    timeouts
}

fn tls(table: Table<'_, '_>) -> Tls {
    let tls = Tls {
        place: table.place().clone(),
        ca: table.field("ca").text(),
        server_name: table.field("server-name").text(),
        client_certificate: table.field("client-certificate").text(),
        client_key: table.field("client-key").text(),
    };
    let (certificate, key) = ("client-certificate", "client-key");
    let there = |key| table.field(key).is_there();
    if there(certificate) != there(key) {
        let missing = if there(key) { certificate } else { key };
        table.missing(
            missing,
            "both client-certificate and client-key, or neither",
        );
    }
    table.finish();
    tls
}

fn circuit_breaker(table: Table<'_, '_>) -> CircuitBreaker {
    let condition = table.field("failure-condition");
    let condition = condition.required("a table such as { count = 3, interval = \"60s\" }");
    let trip = table.field("trip-duration");
    let breaker = CircuitBreaker {
        place: table.place().clone(),
        failure_condition: condition.table().map(failure_condition),
        trip_duration: trip.required("a duration such as \"60s\"").duration(TRIP),
        accept_retry_after: table.field("accept-retry-after").flag(),
        max_retry_after: table.field("max-retry-after").duration(TRIP),
    };
    table.finish();
    breaker
}

fn failure_condition(table: Table<'_, '_>) -> FailureCondition {
    let interval = table
        .field("interval")
        .required("a duration such as \"60s\"");
    let condition = FailureCondition {
        place: table.place().clone(),
        count: table.field("count").integer(COUNT),
        percentage: table.field("percentage").integer(1..=100),
        minimum_requests: table.field("minimum-requests").integer(COUNT),
        interval: interval.duration(INTERVAL),
        status_code_ranges: table.field("status-code-ranges").status_code_ranges(),
        error_reasons: error_reasons(&table.field("error-reasons")),
    };
    let there = |key| table.field(key).is_there();
    match (there("count"), there("percentage")) {
        (true, true) => table.refuse("found count and percentage, expected one of them"),
        (false, false) => table.missing("count", "count, or percentage with minimum-requests"),
        (false, true) if !there("minimum-requests") => {
            table.missing(
                "minimum-requests",
                "the number of calls below which a percentage says nothing",
            );
        }
        (true, false) if there("minimum-requests") => {
            table.refuse("found minimum-requests with count, expected it only with percentage");
        }
        (true, false) | (false, true) => {}
    }
    table.finish();
    condition
}

fn error_reasons(field: &Field<'_, '_, '_>) -> Option<Vec<FailureReason>> {
    let words = [
        FailureReason::Connect,
        FailureReason::Timeout,
        FailureReason::Reset,
    ];
    let words = words.map(|reason| (reason.label(), reason));
    let elements = field.elements()?;
    let reason = |element: &Field<'_, '_, '_>| element.choice(&words).map(|word| word.value);
    Some(elements.iter().filter_map(reason).collect())
}

const AUTH: &str = "\"none\", { api-key = SECRET }, { bearer = SECRET } or { managed-identity = { resource = \"...\" } }";
/// A connection over the ocean takes 0.3 s.
const CONNECT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
/// A reasoning model may think for minutes before its first byte.
const ANSWER: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3_600);
/// Longer than a day is a backend to take out of the file.
const TRIP: RangeInclusive<Duration> = Duration::from_secs(1)..=MAX_SPAN;
/// As in API Management.
const COUNT: RangeInclusive<u64> = 1..=10_000;
/// The window in which failures are counted.
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
