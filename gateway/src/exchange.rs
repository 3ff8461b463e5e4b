//! The driver for calls that are understood: a plain loop over attempts on Pingora's own connector.
//!
//! Pingora's loop can't hold a large body, can't retry on a status, has one timeout for the first byte and
//! for gaps, and can't wait in a body hook (ARCHITECTURE.md lists what forced this). So the body is read here,
//! the request admitted, and then each attempt selects, forwards and looks at the answer before anything is
//! committed. The stages decide; this file only calls them in order.

mod attempt;
mod counting;
mod relay;

use std::time::Duration;

use filters::refusal::Refusal;
use filters::request::{self, BodyError, BodyFacts};
use filters::route::{Call, Shape};
use http::{Method, Uri};
use pingora::connectors::http::Connector;
use pingora::protocols::http::ServerSession;

use self::relay::{Relay, Relayed};
use crate::body::{self, Body, Unread};
use crate::clock;
use crate::config::plan::Backend;
use crate::context::{Admitted, Arrival, AttemptEnd, Caller, End, Record, Source};
use crate::passthrough::{self, Carried};
use crate::protocol;
use crate::reply;
use crate::stage::admit::{self, Head};
use crate::stage::forward::{self, Outgoing, Reading};
use crate::stage::respond::{self, Failure};
use crate::stage::select;
use crate::state::State;
use crate::upstream::fault::Fault;

/// What became of a request.
#[derive(Debug)]
pub enum Served {
    /// It was answered, or its caller has gone.
    Answered {
        /// What is accounted.
        record: Box<Record>,
        /// The connection must be closed: nothing else can tell the caller that the answer broke off.
        abort: bool,
    },
    /// It is for Pingora's own loop.
    Carry(Box<Carried>),
}

/// Serves requests that are understood.
pub struct Exchange<'a> {
    /// What outlives the request.
    pub state: &'a State,
    /// Pingora's pools of connections to backends.
    pub connector: &'a Connector,
    /// The connection to the caller.
    pub session: &'a mut ServerSession,
    /// The request's beginning.
    pub arrival: &'a Arrival,
}

/// A request that was read and admitted.
struct Understood<'u> {
    caller: Caller,
    call: Call<'u>,
    body: Body,
    facts: Option<BodyFacts>,
    admitted: Admitted,
    body_wait: Duration,
}

impl Exchange<'_> {
    /// Serves one request from its head on.
    pub async fn serve(mut self) -> Served {
        let uri = self.session.req_header().uri.clone();
        let method = self.session.req_header().method.clone();
        if let Err(refusal) = protocol::check(self.session, &self.arrival.plan.server.limits) {
            // Whoever sent this may see the next request's beginning elsewhere than we do.
            self.session.set_keepalive(None);
            return self.decline(refusal, None).await;
        }
        let (caller, call) = match self.identify(&uri, &method) {
            Ok(identified) => identified,
            Err((refusal, caller)) => return self.decline(refusal, caller).await,
        };
        if passthrough::is_carried(self.session, &call, &self.arrival.plan.server) {
            return self.carry(caller, &call).await;
        }
        match self.understand(caller, call).await {
            Ok(understood) => self.run(understood).await,
            Err((Unread::Refused(refusal), caller)) => self.decline(refusal, Some(caller)).await,
            Err((Unread::Gone, caller)) => gone(caller),
        }
    }

    async fn carry(mut self, caller: Caller, call: &Call<'_>) -> Served {
        let carried = match passthrough::prepare(caller, call) {
            Ok(carried) => carried,
            Err((refusal, caller)) => return self.decline(refusal, Some(caller)).await,
        };
        // Pingora's loop doesn't ask for a body that waits to be asked for.
        match body::ask_for(self.session).await {
            Ok(()) => Served::Carry(Box::new(carried)),
            Err(_left) => gone(carried.into_caller()),
        }
    }

    fn identify<'u>(
        &self,
        uri: &'u Uri,
        method: &'u Method,
    ) -> Result<(Caller, Call<'u>), (Refusal, Option<Caller>)> {
        let request = self.session.req_header();
        let peer = self
            .session
            .client_addr()
            .and_then(|address| address.as_inet());
        let head = Head {
            method,
            uri,
            headers: &request.headers,
            peer: peer.map(|address| address.ip()),
        };
        admit::identify(&self.arrival.plan, &self.state.slots, head)
            .map_err(|denied| (denied.refusal, denied.caller))
    }

    /// Reads the body and admits the call.
    async fn understand<'u>(
        &mut self,
        caller: Caller,
        call: Call<'u>,
    ) -> Result<Understood<'u>, (Unread, Caller)> {
        let begun = clock::now();
        let server = &self.arrival.plan.server;
        let body = match body::read(self.session, server, &self.state.bodies).await {
            Ok(body) => body,
            Err(unread) => return Err((unread, caller)),
        };
        let body_wait = clock::now().since(begun);
        let admitted = self
            .facts(&call, &body)
            .and_then(|facts| Ok((admit::admit(&caller, &call, facts.as_ref())?, facts)));
        match admitted {
            Ok((admitted, facts)) => Ok(Understood {
                caller,
                call,
                body,
                facts,
                admitted,
                body_wait,
            }),
            Err(refusal) => Err((Unread::Refused(refusal), caller)),
        }
    }

    /// What the body asks for. Bodies that nobody has to understand aren't looked into.
    fn facts(&self, call: &Call<'_>, body: &Body) -> Result<Option<BodyFacts>, Refusal> {
        let kind = self.session.get_header(http::header::CONTENT_TYPE);
        let kind = kind.and_then(|value| value.to_str().ok()).unwrap_or("");
        let is_form = kind
            .get(..10)
            .is_some_and(|start| start.eq_ignore_ascii_case("multipart/"));
        let facts = match (is_form, call.shape) {
            (true, Shape::Other) => request::read_multipart(kind, &body.bytes),
            (false, Shape::Other) if !call.model_in_body || body.bytes.is_empty() => {
                return Ok(None);
            }
            (_, shape) => request::read_json(shape, &body.bytes),
        };
        // An unknown operation may take any body; where it takes JSON, its model counts.
        if let (Err(BodyError::NotJson { .. }), "other") = (&facts, call.operation) {
            return Ok(None);
        }
        facts.map(Some).map_err(|error| Refusal::InvalidBody {
            message: error.to_string(),
        })
    }

    /// Attempts until one is committed or none is left.
    async fn run(mut self, understood: Understood<'_>) -> Served {
        let begun = clock::now();
        let mut record = Record {
            model: understood.admitted.model.clone(),
            user: understood.admitted.user.clone(),
            stream: understood.admitted.stream,
            waited: understood.body_wait,
            ..Record::refused(reply::CLIENT_GONE, "")
        };
        record.refusal = None;
        let mut abort = false;
        let mut failure = Failure::Connect;
        let mut left = false;
        let pool = understood.admitted.pool.clone();
        for backend in select::candidates(&pool) {
            record.backend = Some(backend.clone());
            match self.attempt(&understood, backend, &mut record).await {
                Tried::Relayed(relayed) => {
                    abort = relayed.abort;
                    record.waited += clock::now().since(begun);
                    self.close(&understood, *relayed, &mut record).await;
                    record.caller = Some(understood.caller);
                    return Served::Answered {
                        record: Box::new(record),
                        abort,
                    };
                }
                Tried::Gone => {
                    left = true;
                    abort = true;
                    break;
                }
                Tried::Failed(why) => failure = why,
            }
        }
        record.waited += clock::now().since(begun);
        if left {
            self.count(&understood, None, &mut record).await;
            record.end = End::ClientGone;
        } else {
            let refusal = failure.refusal();
            record.refusal = Some(refusal.code());
            record.end = End::UpstreamCut;
            let sent = reply::refuse(self.session, &refusal, self.arrival.request_id).await;
            abort = sent.is_err();
            record.status = sent.unwrap_or(reply::CLIENT_GONE);
        }
        record.caller = Some(understood.caller);
        Served::Answered {
            record: Box::new(record),
            abort,
        }
    }

    async fn attempt(
        &mut self,
        understood: &Understood<'_>,
        backend: &std::sync::Arc<Backend>,
        record: &mut Record,
    ) -> Tried {
        let tried = self.try_backend(understood, backend, record).await;
        let outcome = match &tried {
            Tried::Relayed(relayed) if relayed.end == End::UpstreamCut => "cut",
            Tried::Relayed(_) => return tried,
            Tried::Gone => "client_gone",
            Tried::Failed(failure) => failure.outcome(),
        };
        record.attempts.push(AttemptEnd {
            backend: backend.clone(),
            outcome,
        });
        tried
    }

    async fn try_backend(
        &mut self,
        understood: &Understood<'_>,
        backend: &std::sync::Arc<Backend>,
        record: &mut Record,
    ) -> Tried {
        let Understood { caller, call, .. } = understood;
        let outgoing = forward::outgoing(
            call,
            &understood.admitted,
            &caller.api,
            backend,
            (&understood.body.bytes, understood.facts.as_ref()),
        );
        let head = match self.head(understood, backend, &outgoing) {
            Ok(head) => head,
            Err(error) => {
                tracing::error!(error = %Fault(&error), "a request's head couldn't be made");
                return Tried::Failed(Failure::Connect);
            }
        };
        let connector = self.connector;
        let peers = &self.state.peers;
        let reached = tokio::select! {
            biased;
            reached = attempt::attempt(connector, peers, backend, &head, &outgoing) => reached,
            _ = self.session.read_body_or_idle(true) => return Tried::Gone,
        };
        let mut reached = match reached {
            Ok(reached) => reached,
            Err(failure) => return Tried::Failed(failure),
        };
        let Some(answer) = reached.upstream.response_header().cloned() else {
            return Tried::Failed(Failure::Reset);
        };
        if respond::refuses_credential(answer.status) {
            tracing::error!(backend = %backend.name, status = answer.status.as_u16(), "the backend refused our credential");
        }
        record.status = answer.status.as_u16();
        let outcome = respond::outcome(answer.status);
        let stream_open = understood
            .admitted
            .stream
            .then(|| self.state.metrics.stream());
        let relay = Relay {
            session: self.session,
            upstream: &mut reached.upstream,
            answer,
            shape: caller.shape,
            keeps_usage_chunk: outgoing.keeps_usage_chunk,
        };
        let relayed = relay.run().await;
        drop(stream_open);
        if !relayed.committed {
            return Tried::Failed(Failure::Reset);
        }
        if relayed.end != End::UpstreamCut {
            record.attempts.push(AttemptEnd {
                backend: backend.clone(),
                outcome,
            });
        }
        if relayed.drained {
            reached.release(connector).await;
        }
        Tried::Relayed(Box::new(relayed))
    }

    fn head(
        &self,
        understood: &Understood<'_>,
        backend: &Backend,
        outgoing: &Outgoing,
    ) -> pingora::Result<pingora::http::RequestHeader> {
        let request = self.session.req_header();
        let reading = match understood.caller.shape {
            Shape::Other => Reading::Untouched,
            Shape::Chat | Shape::Completions | Shape::Embeddings | Shape::Responses => {
                Reading::Understood
            }
        };
        let framing = forward::Framing::of(&request.method, outgoing.length_bytes);
        let to = (understood.caller.api.as_ref(), backend);
        forward::head(request, to, &outgoing.target, framing, reading)
    }

    /// Fills the record from what was relayed, counting tokens where the backend told none.
    async fn close(&self, understood: &Understood<'_>, relayed: Relayed, record: &mut Record) {
        record.end = relayed.end;
        record.first_token = relayed
            .first_token
            .map(|moment| moment.since(self.arrival.at));
        // What GET shows again (a stored response, a run that is polled) was used, and counted, by a POST.
        let uses_tokens = self.session.req_header().method == Method::POST;
        record.usage = relayed.usage.filter(|_| uses_tokens);
        record.source = match record.usage {
            Some(_) => Source::Upstream,
            None => Source::None,
        };
        let answered = respond::is_success(record.status);
        if record.usage.is_none() && answered {
            self.count(understood, Some(relayed), record).await;
        }
    }

    async fn count(
        &self,
        understood: &Understood<'_>,
        relayed: Option<Relayed>,
        record: &mut Record,
    ) {
        let shape = understood.caller.shape;
        let body = understood.body.bytes.clone();
        let model = understood.admitted.model.clone();
        if let Some(usage) = counting::usage(shape, model, body, relayed).await {
            record.usage = Some(usage);
            record.source = Source::Counted;
        }
    }

    async fn decline(&mut self, refusal: Refusal, caller: Option<Caller>) -> Served {
        let sent = reply::refuse(self.session, &refusal, self.arrival.request_id).await;
        let abort = sent.is_err();
        let mut record = Record::refused(sent.unwrap_or(reply::CLIENT_GONE), refusal.code());
        record.caller = caller;
        Served::Answered {
            record: Box::new(record),
            abort,
        }
    }
}

enum Tried {
    Relayed(Box<Relayed>),
    Failed(Failure),
    Gone,
}

fn gone(caller: Caller) -> Served {
    let mut record = Record::refused(reply::CLIENT_GONE, "");
    record.refusal = None;
    record.end = End::ClientGone;
    record.caller = Some(caller);
    Served::Answered {
        record: Box::new(record),
        abort: true,
    }
}
