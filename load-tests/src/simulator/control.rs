//! `/__simulator/...`: the same switches as the library's handle, for a simulator in another process.
//!
//! These requests aren't in the journal and need no key: it listens on loopback, in tests.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::behaviour::Behaviour;
use super::journal::Record;
use super::limits::Allowance;
use super::state::State;

/// Where the switches are.
pub(crate) const PREFIX: &str = "/__simulator/";

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Release {
    #[serde(default)]
    release: usize,
    #[serde(default)]
    open: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct NewLimits {
    tokens_per_minute: Option<u64>,
    requests_per_minute: Option<u64>,
}

/// Turns a switch.
pub(crate) async fn answer(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let what = head
        .uri
        .path()
        .strip_prefix(PREFIX)
        .unwrap_or_default()
        .to_owned();
    let outcome = match Limited::new(body, MAX_BYTES).collect().await {
        Ok(body) => turn(state, head.method.as_str(), &what, &body.to_bytes()),
        Err(error) => Err((400, error.to_string())),
    };
    let (status, value) = match outcome {
        Ok(value) => (200, value),
        Err((status, message)) => (status, json!({"error": message})),
    };
    let mut response = Response::new(Full::new(Bytes::from(format!("{value}\n"))));
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_REQUEST);
    let headers = response.headers_mut();
    super::reply::put(headers, "content-type", "application/json");
    super::reply::put(headers, "server", "tollgate-simulator");
    response
}

/// A behaviour with a recording in it may be long.
const MAX_BYTES: usize = 64 << 20;

fn turn(state: &State, method: &str, what: &str, body: &[u8]) -> Result<Value, (u16, String)> {
    match (method, what) {
        ("GET", "requests") => {
            return Ok(Value::Array(state.journal.all().iter().map(told).collect()));
        }
        ("DELETE", "requests") => state.journal.clear(),
        ("GET", "bill") => return Ok(json!(state.journal.bill())),
        ("POST", "behaviour") => state.behaviours.lock().set(parsed::<Behaviour>(body)?),
        ("DELETE", "behaviour") => state.behaviours.lock().reset(),
        ("POST", "limits") => {
            let limits: NewLimits = parsed(body)?;
            let allowance = Allowance {
                tokens: limits.tokens_per_minute,
                requests: limits.requests_per_minute,
            };
            state.limits.set(allowance);
        }
        ("POST", "refill") => state.limits.refill(),
        ("POST", "gate") => {
            let wanted: Release = parsed(body)?;
            state.gate.release(wanted.release);
            if wanted.open {
                state.gate.open();
            }
        }
        (_, _) => return Err((404, "see load-tests/README.md for what is here".to_owned())),
    }
    Ok(json!({"ok": true}))
}

fn parsed<'body, T: Deserialize<'body>>(body: &'body [u8]) -> Result<T, (u16, String)> {
    serde_json::from_slice(body).map_err(|error| (400, error.to_string()))
}

fn told(record: &Record) -> Value {
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let ended = record
        .answer
        .ended
        .map(|ended| ended.duration_since(record.answer.arrived).as_micros());
    json!({
        "id": record.id, "connection": record.connection, "version": format!("{:?}", record.version),
        "method": record.method.as_str(), "path": record.path, "query": record.query, "headers": headers,
        "body": {"complete": record.body.complete, "length": record.body.length, "sha256": record.body.sha256,
            "text": String::from_utf8_lossy(&record.body.bytes)},
        "answer": {"status": record.answer.status, "events-sent": record.answer.events_sent,
            "ending": record.answer.ending, "charged": record.answer.charged,
            "duration-us": ended.and_then(|ended| u64::try_from(ended).ok())},
    })
}
