//! Many callers at once, each with a connection of its own that it keeps: on hyper's client, on the test's runtime.
//!
//! A caller notes when each call began and when its answer was there, on the clock that simulators in the same process
//! keep their journals by. It never tries again: what the gateway breaks off is the test's to judge.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::{DEADLINE, http};

/// A header that says when a call began, in nanoseconds since a moment that the test chose.
pub const BEGUN: &str = "x-begun";

/// One caller.
pub struct Line {
    authority: String,
    path: String,
    key: &'static str,
    epoch: Instant,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// One call and its whole answer.
#[derive(Debug, Clone)]
pub struct Called {
    /// When it began.
    pub begun: Instant,
    /// When the answer was there.
    pub ended: Instant,
    /// Its status.
    pub status: u16,
    /// `x-ms-region`; empty if there is none.
    pub region: String,
    /// Its body.
    pub body: Bytes,
}

impl Line {
    /// A caller of `http://AUTHORITY/PATH` with this key. It connects when it calls.
    pub fn new(url: &str, key: &'static str, epoch: Instant) -> Line {
        let (authority, path) = http::split(url);
        Line {
            authority: authority.to_owned(),
            path: path.to_owned(),
            key,
            epoch,
            sender: None,
        }
    }

    /// Posts JSON, and reads the whole answer. An error says at which point there was none.
    pub async fn call(&mut self, body: Bytes) -> Result<Called, String> {
        match tokio::time::timeout(DEADLINE, self.call_patiently(body)).await {
            Ok(called) => called,
            Err(_elapsed) => Err(format!("no answer within {DEADLINE:?}")),
        }
    }

    /// Likewise, for as long as it takes.
    pub async fn call_patiently(&mut self, body: Bytes) -> Result<Called, String> {
        let begun = Instant::now();
        let answer = self.begin(begun, body).await?;
        let (head, body) = answer.into_parts();
        let region = head.headers.get("x-ms-region");
        let region = region.and_then(|value| value.to_str().ok());
        let region = region.unwrap_or_default().to_owned();
        let body = body.collect().await;
        let body = body.map_err(|error| format!("no end of a {}: {error}", head.status))?;
        Ok(Called {
            begun,
            ended: Instant::now(),
            status: head.status.as_u16(),
            region,
            body: body.to_bytes(),
        })
    }

    /// Posts JSON and leaves as soon as `events` pieces of the answer are there.
    pub async fn leave_after(&mut self, body: Bytes, events: usize) -> Result<(), String> {
        let read = async {
            let mut answer = self.begin(Instant::now(), body).await?;
            for _ in 0..events {
                if answer.body_mut().frame().await.is_none() {
                    break;
                }
            }
            Ok(())
        };
        let left = tokio::time::timeout(DEADLINE, read).await;
        // With the sender goes the connection.
        self.sender = None;
        left.unwrap_or_else(|_| Err(format!("no beginning of an answer within {DEADLINE:?}")))
    }

    async fn begin(&mut self, begun: Instant, body: Bytes) -> Result<Response<Incoming>, String> {
        let mut sender = self.sender().await?;
        let request = Request::post(&self.path)
            .header("host", &self.authority)
            .header("api-key", self.key)
            .header("content-type", "application/json")
            .header(BEGUN, nanoseconds(begun.duration_since(self.epoch)))
            .body(Full::new(body))
            .unwrap();
        let answer = sender.send_request(request).await;
        self.sender = Some(sender);
        answer.map_err(|error| format!("no head of an answer: {error:?}"))
    }

    async fn sender(&mut self) -> Result<SendRequest<Full<Bytes>>, String> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let stream = tokio::net::TcpStream::connect(&self.authority).await;
        let stream = stream.map_err(|error| format!("no connection to the gateway: {error}"))?;
        stream.set_nodelay(true).unwrap();
        let shaken = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| format!("no handshake: {error}"))?;
        // An error of it is seen by the call that it belongs to.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

/// When the call of a record in a simulator's journal began at its caller.
pub fn begun(headers: &hyper::HeaderMap, epoch: Instant) -> Instant {
    let text = headers[BEGUN].to_str().unwrap();
    epoch + Duration::from_nanos(text.parse().unwrap())
}
