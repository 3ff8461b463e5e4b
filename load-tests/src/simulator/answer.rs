//! The way of one request: journal, behaviour, body, key, limits, answer, wire form.
//!
//! Everything that the transport can show of an answer is decided here, and the bytes themselves in the makers. A break
//! before the head happens here, a later one in `script.rs`.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::behaviour::{Behaviour, BreakageKind};
use super::echo;
use super::journal::{AnswerRecord, Charge, Ending, Entry, ReceivedBody, Record};
use super::made::{CREATED, Call, Made};
use super::receive::{Received, receive};
use super::reply::{Reply, put};
use super::route::{Operation, Place, place};
use super::script::{Script, ScriptBody, events_of};
use super::shape::shape;
use super::state::State;
use super::wire::Link;
use super::{chat, completions, embeddings, responses};

/// One connection's view of the simulator.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) number: u64,
    pub(crate) state: Arc<State>,
    pub(crate) link: Arc<Link>,
}

impl Connection {
    /// Answers one request; an error breaks the connection.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> io::Result<Response<ScriptBody>> {
        let (head, body) = request.into_parts();
        let behaviour = self.behaviour(head.uri.path(), &head.headers);
        let mut entry = self.begin(&head);
        let place = place(head.method.as_str(), head.uri.path());
        let received = if behaviour.wire.before_body {
            Received::default()
        } else {
            receive(
                body,
                place.operation != Operation::Other || is_form(&head.headers),
                &entry,
            )
            .await?
        };
        if let Some(breakage) = behaviour
            .breakage
            .filter(|breakage| breakage.after.is_none())
        {
            self.break_before_head(breakage.kind, &mut entry).await?;
        }
        let reply = self.reply(&head, &place, &received, &behaviour, entry.id());
        self.wait(&reply, &behaviour).await;
        self.log(&head, reply.status);
        entry.status(reply.status);
        Ok(self.send(reply, behaviour, entry, head.version))
    }

    /// The request's own behaviour goes first; one that can't be read is answered with what is wrong with it.
    fn behaviour(&self, path: &str, headers: &HeaderMap) -> Behaviour {
        match headers
            .get("x-simulator")
            .map(|value| serde_json::from_slice(value.as_bytes()))
        {
            None => self.state.behaviours.lock().next(path),
            Some(Ok(own)) => own,
            Some(Err(error)) => {
                let body = json!({"error": {"code": "x-simulator", "message": error.to_string()}});
                Behaviour::answer(400, &[], Some(&body.to_string()))
            }
        }
    }

    pub(crate) fn begin(&self, head: &http::request::Parts) -> Entry {
        let answer = AnswerRecord {
            status: 0,
            events_sent: 0,
            charged: Charge::default(),
            ending: Ending::Open,
            arrived: Instant::now(),
            decided: None,
            ended: None,
        };
        self.state.journal.begin(Record {
            id: 0,
            connection: self.number,
            version: head.version,
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers.clone(),
            body: ReceivedBody::default(),
            answer,
        })
    }

    async fn break_before_head(&self, kind: BreakageKind, entry: &mut Entry) -> io::Result<()> {
        match kind {
            BreakageKind::Hang => std::future::pending().await,
            BreakageKind::Reset => self.link.reset(),
            BreakageKind::Cut => {}
            BreakageKind::End => return Ok(()),
        }
        entry.end(Ending::Broken);
        Err(io::ErrorKind::ConnectionReset.into())
    }

    fn reply(
        &self,
        head: &http::request::Parts,
        place: &Place,
        received: &Received,
        behaviour: &Behaviour,
        number: u64,
    ) -> Reply {
        if !self.key_fits(&head.headers) {
            return Reply::unauthorized();
        }
        if let Some(fixed) = &behaviour.status {
            return Reply::fixed(fixed);
        }
        if let Some(recording) = &behaviour.playback {
            return Reply::events(events_of(&recording.0));
        }
        let body = received.json();
        let model = place
            .deployment
            .clone()
            .or_else(|| body.get("model")?.as_str().map(str::to_owned));
        let model = model.unwrap_or_else(|| "unnamed".to_owned());
        if !place.operation.is_limited() {
            return self.plain(head, place, received);
        }
        let standing = match self.state.limits.admit(&model, Instant::now()) {
            Ok(standing) => standing,
            Err((exceeded, standing)) => return Reply::throttled(exceeded, &standing),
        };
        if place.operation == Operation::Audio {
            return self.plain(head, place, received);
        }
        if body.is_null() && !behaviour.wire.before_body {
            return Reply::error(400, "BadRequest", "The request body is not valid JSON.");
        }
        let call = Call {
            dialect: place.dialect,
            model: &model,
            body: &body,
            content: &behaviour.content,
            number,
        };
        let (mut reply, tokens) = self.made(place.operation, &call);
        let standing = self
            .state
            .limits
            .charge(&model, tokens, Instant::now())
            .unwrap_or(standing);
        reply.standing(&standing);
        reply
    }

    fn made(&self, operation: Operation, call: &Call<'_>) -> (Reply, u64) {
        let made = match operation {
            Operation::Chat => chat::answer(call),
            Operation::Completions => completions::answer(call),
            Operation::Embeddings => embeddings::answer(call),
            Operation::Responses => {
                let (made, stored) = responses::answer(call);
                if let Some(response) = stored {
                    self.state.stored.lock().keep(response);
                }
                made
            }
            Operation::StoredResponse
            | Operation::Models
            | Operation::Info
            | Operation::Audio
            | Operation::Other => Made::Wrong("not understood".to_owned()),
        };
        match made {
            Made::Json { value, charge } => (Reply::json(200, &value, charge), charge.total_tokens),
            Made::Stream { events, tally } => (Reply::events(events), tally.total()),
            Made::Wrong(message) => (Reply::error(400, "BadRequest", &message), 0),
        }
    }

    /// Answers that no model has a part in.
    fn plain(&self, head: &http::request::Parts, place: &Place, received: &Received) -> Reply {
        let value = match (place.operation, &place.id) {
            (Operation::Models, None) => json!({"object": "list", "data": MODELS.map(model)}),
            (Operation::Models, Some(id)) => model(id),
            (Operation::Info, _) => {
                json!({"model_name": "simulated", "model_type": "chat-completion",
                "model_provider_name": "tollgate-simulator"})
            }
            (Operation::StoredResponse, Some(id)) => match self.state.stored.lock().find(id) {
                Some(response) => response,
                None => {
                    return Reply::error(
                        404,
                        "not_found",
                        "No response with this id was made here.",
                    );
                }
            },
            (
                Operation::StoredResponse
                | Operation::Audio
                | Operation::Other
                | Operation::Chat
                | Operation::Completions
                | Operation::Embeddings
                | Operation::Responses,
                _,
            ) => echoed(head, place, received),
        };
        Reply::json(200, &value, Charge::default())
    }

    pub(crate) fn key_fits(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.state.api_key else {
            return true;
        };
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        header("api-key").or(bearer) == Some(key.as_str())
    }

    async fn wait(&self, reply: &Reply, behaviour: &Behaviour) {
        if behaviour.gated && !reply.streamed {
            self.state.gate.pass().await;
        }
        let words = u64::from(behaviour.content.tokens);
        let rest = if reply.streamed {
            0
        } else {
            behaviour.pace.between_tokens_ms.saturating_mul(words)
        };
        let pause = behaviour.pace.first_token_ms.saturating_add(rest);
        if pause > 0 {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    fn log(&self, head: &http::request::Parts, status: u16) {
        if self.state.log {
            eprintln!("{} {} {status}", head.method, head.uri.path());
        }
    }

    fn send(
        &self,
        mut reply: Reply,
        behaviour: Behaviour,
        entry: Entry,
        version: Version,
    ) -> Response<ScriptBody> {
        shape(&mut reply, &behaviour);
        self.common_headers(&mut reply.headers, &entry);
        let http1 = version != Version::HTTP_2;
        let mut response = Response::builder()
            .status(StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK));
        if http1 && behaviour.wire.early_hints {
            self.link.prefix(Bytes::from_static(EARLY_HINTS));
        }
        if http1 && behaviour.wire.close_delimited {
            self.link.claim_http11();
            response = response.version(Version::HTTP_10);
        } else if matches!(reply.status, 204 | 304) {
            reply.pieces.clear();
        } else if !reply.streamed {
            let length = reply.length().to_string();
            put(&mut reply.headers, "content-length", &length);
        }
        if http1 && behaviour.wire.close {
            put(&mut reply.headers, "connection", "close");
        }
        let (gate, link) = (Arc::clone(&self.state.gate), Arc::clone(&self.link));
        let script = Script {
            pieces: reply.pieces,
            streamed: reply.streamed,
            behaviour,
            gate,
            link,
        };
        let mut response = response
            .body(script.play(entry))
            .expect("status and version are valid");
        *response.headers_mut() = reply.headers;
        response
    }

    pub(crate) fn common_headers(&self, headers: &mut HeaderMap, entry: &Entry) {
        let id = format!("simulated-{}-{}", self.state.region, entry.id());
        let common = [
            ("server", "tollgate-simulator"),
            ("x-ms-region", &self.state.region),
            ("x-request-id", &id),
            ("apim-request-id", &id),
        ];
        for (name, value) in common {
            if !headers.contains_key(name) {
                put(headers, name, value);
            }
        }
    }
}

const EARLY_HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </simulator>; rel=preload\r\n\r\n";
const MODELS: [&str; 4] = [
    "gpt-4o",
    "gpt-4o-mini",
    "text-embedding-3-small",
    "text-embedding-3-large",
];

fn model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": CREATED, "owned_by": "tollgate-simulator"})
}

fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn is_form(headers: &HeaderMap) -> bool {
    echo::boundary(content_type(headers)).is_some()
}

fn echoed(head: &http::request::Parts, place: &Place, received: &Received) -> Value {
    let query = head.uri.query().unwrap_or_default();
    let mut value = echo::describe(head.method.as_str(), head.uri.path(), query, &received.body);
    if let Some(boundary) = echo::boundary(content_type(&head.headers)) {
        value["form"] = Value::Object(echo::form(&received.bytes, boundary));
    }
    if place.operation == Operation::Audio {
        value["text"] = json!("This is a simulated transcription.");
    }
    value
}
