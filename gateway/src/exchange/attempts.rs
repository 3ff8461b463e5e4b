//! The attempts of one request: select, forward, look at the answer, pass it on.
//!
//! A plain loop, so that what follows what can be read from top to bottom. The stages decide; this file calls
//! them and keeps the record of what happened. Never speaks HTTP itself.

use std::sync::Arc;

use filters::route::Shape;
use http::Method;
use pingora::http::RequestHeader;

use super::attempt::{self, Reached};
use super::relay::{Relay, Relayed};
use super::{Exchange, Served, Understood, counting};
use crate::clock::{self, Moment};
use crate::config::plan::Backend;
use crate::context::{AttemptEnd, End, Record, Source};
use crate::reply;
use crate::stage::forward::{self, Outgoing, Reading};
use crate::stage::respond::{self, Failure};
use crate::stage::select;
use crate::upstream::fault::Fault;

/// One understood request on its way to backends.
pub(super) struct Attempts<'a, 'u> {
    exchange: Exchange<'a>,
    understood: Understood<'u>,
    record: Record,
    begun: Moment,
}

/// How one attempt ended.
enum Tried {
    Relayed(Box<Relayed>),
    Failed(Failure),
    Gone,
}

impl<'a, 'u> Attempts<'a, 'u> {
    /// No attempt made yet.
    pub fn new(exchange: Exchange<'a>, understood: Understood<'u>) -> Self {
        let record = Record {
            model: understood.admitted.model.clone(),
            user: understood.admitted.user.clone(),
            stream: understood.admitted.stream,
            waited: understood.body_wait,
            refusal: None,
            ..Record::refused(reply::CLIENT_GONE, "")
        };
        Attempts {
            exchange,
            understood,
            record,
            begun: clock::now(),
        }
    }

    /// Attempts until one is committed or none is left.
    pub async fn run(mut self) -> Served {
        let mut failure = Failure::Connect;
        let pool = self.understood.admitted.pool.clone();
        for backend in select::candidates(&pool) {
            self.record.backend = Some(backend.clone());
            match self.attempt(backend).await {
                Tried::Relayed(relayed) => return self.relayed(*relayed).await,
                Tried::Gone => return self.left().await,
                Tried::Failed(why) => failure = why,
            }
        }
        self.failed(failure).await
    }

    async fn attempt(&mut self, backend: &Arc<Backend>) -> Tried {
        let reached = match self.reach(backend).await {
            Ok(reached) => reached,
            Err(tried) => {
                let outcome = match &tried {
                    Tried::Relayed(_) => return tried,
                    Tried::Gone => "client_gone",
                    Tried::Failed(failure) => failure.outcome(),
                };
                self.ended(backend, outcome);
                return tried;
            }
        };
        self.pass_on(backend, reached).await
    }

    fn ended(&mut self, backend: &Arc<Backend>, outcome: &'static str) {
        let backend = backend.clone();
        self.record.attempts.push(AttemptEnd { backend, outcome });
    }

    /// Sends the request to a backend, while watching that the caller stays.
    async fn reach(&mut self, backend: &Arc<Backend>) -> Result<(Reached, Outgoing), Tried> {
        let Understood { caller, call, .. } = &self.understood;
        let outgoing = forward::outgoing(
            call,
            &self.understood.admitted,
            &caller.api,
            backend,
            (&self.understood.body.bytes, self.understood.facts.as_ref()),
        );
        let head = self.head(backend, &outgoing).map_err(|error| {
            tracing::error!(error = %Fault(&error), "a request's head couldn't be made");
            Tried::Failed(Failure::Connect)
        })?;
        let connector = self.exchange.connector;
        let peers = &self.exchange.state.peers;
        let reached = tokio::select! {
            biased;
            reached = attempt::attempt(connector, peers, backend, &head, &outgoing) => reached,
            _ = self.exchange.session.read_body_or_idle(true) => return Err(Tried::Gone),
        };
        match reached {
            Ok(reached) => Ok((reached, outgoing)),
            Err(failure) => Err(Tried::Failed(failure)),
        }
    }

    fn head(&self, backend: &Backend, outgoing: &Outgoing) -> pingora::Result<RequestHeader> {
        let request = self.exchange.session.req_header();
        let reading = match self.understood.caller.shape {
            Shape::Other => Reading::Untouched,
            Shape::Chat | Shape::Completions | Shape::Embeddings | Shape::Responses => {
                Reading::Understood
            }
        };
        let framing = forward::Framing::of(&request.method, outgoing.length_bytes);
        let to = (self.understood.caller.api.as_ref(), backend);
        forward::head(request, to, &outgoing.target, framing, reading)
    }

    /// Passes an answer on to the caller.
    async fn pass_on(
        &mut self,
        backend: &Arc<Backend>,
        (mut reached, outgoing): (Reached, Outgoing),
    ) -> Tried {
        let Some(answer) = reached.upstream.response_header().cloned() else {
            self.ended(backend, Failure::Reset.outcome());
            return Tried::Failed(Failure::Reset);
        };
        let status = answer.status;
        if respond::refuses_credential(status) {
            tracing::error!(backend = %backend.name, status = status.as_u16(), "the backend refused our credential");
        }
        self.record.status = status.as_u16();
        let is_stream = self.understood.admitted.stream;
        let stream_open = is_stream.then(|| self.exchange.state.metrics.stream());
        let relay = Relay {
            session: self.exchange.session,
            upstream: &mut reached.upstream,
            answer,
            shape: self.understood.caller.shape,
            keeps_usage_chunk: outgoing.keeps_usage_chunk,
        };
        let relayed = relay.run().await;
        drop(stream_open);
        let outcome = match (relayed.committed, relayed.end) {
            (false, _) => Failure::Reset.outcome(),
            (true, End::UpstreamCut) => "cut",
            (true, End::Complete | End::ClientGone | End::Refused) => respond::outcome(status),
        };
        self.ended(backend, outcome);
        if !relayed.committed {
            return Tried::Failed(Failure::Reset);
        }
        if relayed.drained {
            reached.release(self.exchange.connector).await;
        }
        Tried::Relayed(Box::new(relayed))
    }

    /// An answer was passed on: fills the record, counting tokens where the backend told none.
    async fn relayed(mut self, relayed: Relayed) -> Served {
        self.record.waited += clock::now().since(self.begun);
        self.record.end = relayed.end;
        let first_token = relayed.first_token;
        self.record.first_token = first_token.map(|at| at.since(self.exchange.arrival.at));
        // What GET shows again (a stored response, a run that is polled) was used, and counted, by a POST.
        let uses_tokens = self.exchange.session.req_header().method == Method::POST;
        self.record.usage = relayed.usage.filter(|_| uses_tokens);
        self.record.source = match self.record.usage {
            Some(_) => Source::Upstream,
            None => Source::None,
        };
        let abort = relayed.abort;
        let answered = respond::is_success(self.record.status);
        if self.record.usage.is_none() && answered {
            self.count(Some(relayed)).await;
        }
        self.served(abort)
    }

    /// The caller left before there was an answer; what it asked was asked.
    async fn left(mut self) -> Served {
        self.record.waited += clock::now().since(self.begun);
        self.record.end = End::ClientGone;
        self.count(None).await;
        self.served(true)
    }

    /// No backend had an answer.
    async fn failed(mut self, failure: Failure) -> Served {
        self.record.waited += clock::now().since(self.begun);
        let refusal = failure.refusal();
        self.record.refusal = Some(refusal.code());
        self.record.end = End::UpstreamCut;
        let request_id = self.exchange.arrival.request_id;
        let sent = reply::refuse(self.exchange.session, &refusal, request_id).await;
        let abort = sent.is_err();
        self.record.status = sent.unwrap_or(reply::CLIENT_GONE);
        self.served(abort)
    }

    async fn count(&mut self, relayed: Option<Relayed>) {
        let shape = self.understood.caller.shape;
        let body = self.understood.body.bytes.clone();
        let model = self.understood.admitted.model.clone();
        if let Some(usage) = counting::usage(shape, model, body, relayed).await {
            self.record.usage = Some(usage);
            self.record.source = Source::Counted;
        }
    }

    fn served(mut self, abort: bool) -> Served {
        self.record.caller = Some(self.understood.caller);
        Served::Answered {
            record: Box::new(self.record),
            abort,
        }
    }
}
