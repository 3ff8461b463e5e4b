//! The driver for calls that are understood: a plain loop over attempts on Pingora's own connector.
//!
//! Pingora's loop can't hold a large body, can't retry on a status, has one timeout for the first byte and
//! for gaps, and can't wait in a body hook (ARCHITECTURE.md lists what forced this). So the body is read here,
//! the request admitted, and then each attempt selects, forwards and looks at the answer before anything is
//! committed. The stages decide; this file only calls them in order.

mod attempt;
mod attempts;
mod belonging;
mod cached;
mod counting;
mod embedding;
mod hearing;
mod relay;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use filters::refusal::Refusal;
use filters::request::{self, BodyError, BodyFacts};
use filters::route::{Call, Shape};
use http::{Method, Uri};

use crate::body::{self, Body, Unread};
use crate::clock;
use crate::context::{Admitted, Arrival, CacheLookup, Caller, End, Record};
use crate::downstream::Downstream;
use crate::passthrough::{self, Carried};
use crate::protocol;
use crate::reply::{self, Fields};
use crate::stage::admit::token::{self, Token};
use crate::stage::admit::{self, Head};
use crate::stage::limit::{self, Asking, Denied, Hold};
use crate::state::State;
use crate::upstream::connector::Connector;

/// Of a body that isn't JSON for a reason that its caller has told.
const PACKED: &str =
    "the request body is compressed, as its Content-Encoding says; send it uncompressed";

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
    pub state: &'a Arc<State>,
    /// Pingora's pools of connections to backends.
    pub connector: &'a Arc<Connector>,
    /// The connection to the caller.
    pub session: Downstream<'a>,
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

impl Understood<'_> {
    /// Takes what the call holds of its token limits.
    async fn hold(&self, exchange: &Exchange<'_>) -> Result<Hold, Box<Denied>> {
        let call = limit::Call {
            plan: &exchange.arrival.plan,
            head: exchange.session.request(),
            caller: &self.caller,
            admitted: &self.admitted,
            facts: self.facts.as_ref(),
            body: &self.body.bytes,
            carried: false,
        };
        Hold::take(exchange.state, call).await
    }
}

impl Exchange<'_> {
    /// Serves one request from its head on.
    pub async fn serve(mut self) -> Served {
        let uri = self.session.request().uri.clone();
        let method = self.session.request().method.clone();
        if let Err(refusal) = protocol::check(&self.session, &self.arrival.plan.server.limits) {
            // Whoever sent this may see the next request's beginning elsewhere than we do.
            self.session.close();
            return Box::pin(self.decline(refusal, None)).await;
        }
        let token = self.token(&uri).map(str::to_owned);
        let token = Token::checked(self.state, token.as_deref()).await;
        let (caller, call) = match self.identify(&uri, &method, token) {
            Ok(identified) => identified,
            Err((refusal, caller)) => return Box::pin(self.decline(refusal, caller)).await,
        };
        if passthrough::is_carried(&self.session, &call, &self.arrival.plan.server) {
            return Box::pin(self.carry(caller, &call)).await;
        }
        match self.understand(caller, call).await {
            Ok(understood) => self.answer(understood).await,
            Err((Unread::Refused(refusal), caller)) => {
                Box::pin(self.decline(refusal, Some(caller))).await
            }
            Err((Unread::Gone, caller)) => gone(caller),
        }
    }

    async fn carry(mut self, caller: Caller, call: &Call<'_>) -> Served {
        let admitted = match admit::admit(&caller, call, None) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.decline(refusal, Some(caller)).await,
        };
        // What it uses isn't known, so nothing is held; where a limit is used up, it doesn't begin.
        let asked = limit::Call {
            plan: &self.arrival.plan,
            head: self.session.request(),
            caller: &caller,
            admitted: &admitted,
            facts: None,
            body: &Bytes::new(),
            carried: true,
        };
        let hold = match Hold::take(self.state, asked).await {
            Ok(hold) => hold,
            Err(denied) => {
                let record = Record::unserved(reply::CLIENT_GONE);
                let caller = Some(caller);
                return self.refuse(*denied, Record { caller, ..record }).await;
            }
        };
        let from = (self.arrival.plan.as_ref(), &self.session);
        let carried = passthrough::prepare(self.state, from, (caller, admitted), call);
        let carried = match carried.await {
            Ok(carried) => carried.telling(hold.fields()),
            Err((refusal, caller)) => return self.decline(refusal, Some(caller)).await,
        };
        // Pingora's loop doesn't ask for a body that waits to be asked for.
        match body::ask_for(&mut self.session).await {
            Ok(()) => Served::Carry(Box::new(carried)),
            Err(_left) => gone(carried.into_caller()),
        }
    }

    /// The token that the caller shows, if it shows one.
    fn token(&self, uri: &Uri) -> Option<&str> {
        let headers = &self.session.request().headers;
        token::shown(&self.arrival.plan, uri.path(), headers)
    }

    fn identify<'u>(
        &self,
        uri: &'u Uri,
        method: &'u Method,
        token: Token,
    ) -> Result<(Caller, Call<'u>), (Refusal, Option<Caller>)> {
        let request = self.session.request();
        let head = Head {
            method,
            uri,
            headers: &request.headers,
            peer: self.session.peer(),
        };
        admit::identify(&self.arrival.plan, &self.state.slots, head, token)
            .map_err(|denied| (denied.refusal, denied.caller))
    }

    /// Reads the body and admits the call.
    async fn understand<'u>(
        &mut self,
        caller: Caller,
        call: Call<'u>,
    ) -> Result<Box<Understood<'u>>, (Unread, Caller)> {
        let begun = clock::now();
        let server = &self.arrival.plan.server;
        let read = tokio::select! {
            biased;
            read = body::read(&mut self.session, server, &self.state.bodies) => read,
            () = self.state.stop.cut() => Err(Unread::Refused(verdict::stopped())),
        };
        let body = match read {
            Ok(body) => body,
            Err(unread) => return Err((unread, caller)),
        };
        let body_wait = clock::now().since(begun);
        let admitted = self
            .facts(&call, &body)
            .and_then(|facts| Ok((admit::admit(&caller, &call, facts.as_ref())?, facts)));
        match admitted {
            // Passed on from step to step, half a KiB of it.
            Ok((admitted, facts)) => Ok(Box::new(Understood {
                caller,
                call,
                body,
                facts,
                admitted,
                body_wait,
            })),
            Err(refusal) => Err((Unread::Refused(refusal), caller)),
        }
    }

    /// What the body asks for. Bodies that nobody has to understand aren't looked into.
    fn facts(&self, call: &Call<'_>, body: &Body) -> Result<Option<BodyFacts>, Refusal> {
        let kind = self.session.field(http::header::CONTENT_TYPE);
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
        let told = |error: BodyError| {
            let is_unread = matches!(error, BodyError::NotJson { .. });
            match is_unread && self.is_packed() {
                true => PACKED.to_owned(),
                false => error.to_string(),
            }
        };
        facts.map(Some).map_err(|error| Refusal::InvalidBody {
            message: told(error),
        })
    }

    /// Whether the body's bytes stand for others.
    fn is_packed(&self) -> bool {
        let encoding = self.session.field(http::header::CONTENT_ENCODING);
        encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    }

    async fn decline(&mut self, refusal: Refusal, caller: Option<Caller>) -> Served {
        let others = match &caller {
            Some(caller) => self.standing(caller, None).await.fields(),
            None => Vec::new(),
        };
        let denied = Denied {
            refusal,
            fields: Fields {
                retry_after: None,
                others,
            },
        };
        let record = Record::unserved(reply::CLIENT_GONE);
        self.refuse(denied, Record { caller, ..record }).await
    }

    /// How a caller's limits stand, for an answer that costs nothing.
    async fn standing(&self, caller: &Caller, admitted: Option<&Admitted>) -> Hold {
        let asking = Asking {
            plan: &self.arrival.plan,
            head: self.session.request(),
            caller,
            admitted,
        };
        Hold::standing(self.state, asking).await
    }

    /// A token limit said no.
    async fn deny(
        &mut self,
        denied: Denied,
        understood: Box<Understood<'_>>,
        cache: Option<CacheLookup>,
    ) -> Served {
        let record = Record {
            cache,
            caller: Some(understood.caller),
            model: understood.admitted.model,
            user: understood.admitted.user,
            stream: understood.admitted.stream,
            waited: understood.body_wait,
            ..Record::unserved(reply::CLIENT_GONE)
        };
        self.refuse(denied, record).await
    }

    async fn refuse(&mut self, denied: Denied, mut record: Record) -> Served {
        let Denied { refusal, fields } = denied;
        let request_id = self.arrival.request_id;
        let sent = reply::refuse(&mut self.session, &refusal, fields, request_id).await;
        let abort = sent.is_err();
        record.status = sent.unwrap_or(reply::CLIENT_GONE);
        if let Some(model) = refusal.model() {
            record.model = model.to_owned();
        }
        record.refusal = Some(refusal);
        Served::Answered {
            record: Box::new(record),
            abort,
        }
    }
}

fn gone(caller: Caller) -> Served {
    let mut record = Record::unserved(reply::CLIENT_GONE);
    record.end = End::ClientGone;
    record.caller = Some(caller);
    Served::Answered {
        record: Box::new(record),
        abort: true,
    }
}
