//! The driver for what is only carried: WebSocket upgrades, and uploads too large or too open-ended to hold.
//!
//! Pingora's own loop moves the bytes; the same stages authenticate, route, rewrite the head and account.
//! A body that isn't held can't be sent twice, so an upload is tried elsewhere only while none of it has left: where no
//! connection came about. A WebSocket is, until it is open: its request has no body. Never reads a body.

mod kept;

use std::sync::Arc;
use std::time::Duration;

use filters::outcome::Outcome;
use filters::refusal::Refusal;
use filters::retry::{self, Next};
use filters::route::{Call, Shape};
use filters::units::Tokens;
use http::{HeaderName, HeaderValue, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

pub use self::kept::may_be_carried;
use self::kept::{Kept, is_large, is_websocket};
use crate::affinity::{self, Clues};
use crate::clock;
use crate::config::plan::{Plan, Server};
use crate::context::{Admitted, AttemptEnd, Caller, End, Record, Source};
use crate::downstream::Downstream;
use crate::identity::NoToken;
use crate::reply;
use crate::stage::forward;
use crate::stage::respond::{self, Failure};
use crate::stage::select::{Asks, Course, Step};
use crate::state::State;
use crate::traces::trace::Trace;
use crate::upstream::fault::Fault;
use crate::upstream::headers;

/// A WebSocket may be silent for as long as a realtime session lasts.
const WEBSOCKET_SILENCE: Duration = Duration::from_secs(3600);

/// An admitted call that Pingora's loop carries.
#[derive(Debug)]
pub struct Carried {
    caller: Caller,
    admitted: Admitted,
    call: Kept,
    course: Course<Arc<State>>,
    step: Step,
    /// The token for this step's backend, if it takes one.
    token: Option<HeaderValue>,
    /// How the attempts ended that came before this step's.
    attempts: Vec<AttemptEnd>,
    standing: Standing,
    /// Of this step's answer.
    status: u16,
    /// What the token limits say, for the answer's head.
    told: Vec<(HeaderName, HeaderValue)>,
}

/// What is known of this step's backend.
#[derive(Debug)]
enum Standing {
    /// It hasn't answered.
    Asked,
    /// Its answer goes to the caller. Its breaker is told when all of it has.
    Answered(Outcome),
    /// Its breaker was told.
    Told,
}

/// Whether a call is carried: a WebSocket, or an upload that is larger than the bound, of an operation that
/// names no model in its body. An upload of unknown length is held, up to the bound.
pub fn is_carried(session: &Downstream<'_>, call: &Call<'_>, server: &Server) -> bool {
    if call.shape != Shape::Other {
        return false;
    }
    is_websocket(session) || (is_large(session, server) && !call.model_in_body)
}

/// Chooses a backend for a call that will be carried.
///
/// # Errors
/// Where there is none, with the caller given back.
pub async fn prepare(
    state: &Arc<State>,
    (plan, session): (&Plan, &Downstream<'_>),
    (caller, admitted): (Caller, Admitted),
    call: &Call<'_>,
) -> std::result::Result<Carried, (Refusal, Caller)> {
    let id = affinity::named_id(call, None);
    if let Some(id) = id {
        affinity::recall(state, &admitted.pool, &caller.api.name, id).await;
    }
    let now = clock::now().time();
    let clues = Clues {
        api: &caller.api.name,
        id,
        headers: &session.request().headers,
    };
    let asks = Asks {
        belongs: affinity::belongs(&state.holders, plan, &admitted.pool, &clues, now),
        estimate: Tokens::ZERO,
    };
    let mut course = Course::begin(state.clone(), admitted.pool.clone(), asks, now);
    let Some(step) = course.next(now) else {
        return Err((course.exhausted(now), caller));
    };
    Ok(Carried {
        call: Kept::of(call, session),
        caller,
        admitted,
        course,
        step,
        token: None,
        attempts: Vec::new(),
        standing: Standing::Asked,
        status: 0,
        told: Vec::new(),
    })
}

impl Carried {
    /// The same, whose caller is told this in the answer's head.
    pub fn telling(self, told: Vec<(HeaderName, HeaderValue)>) -> Self {
        Carried { told, ..self }
    }

    /// The peer that Pingora connects to.
    ///
    /// # Errors
    /// When the backend's name has no address, or there is no token to show to it.
    pub async fn peer(&mut self, state: &State) -> Result<Box<HttpPeer>> {
        let backend = self.step.backend.clone();
        let token = state.identities.bearer(&backend).await;
        self.token = token.map_err(|NoToken| {
            let mut error = Error::explain(ErrorType::ConnectError, "no token for the backend");
            error.set_retry(self.unproven());
            error
        })?;
        let peer = state.peers.peer(&backend, backend.timeouts.connect).await;
        let peer = peer.map_err(|mut error| {
            tracing::warn!(backend = %backend.name, error = %Fault(&error), "a carried call found no address");
            error.set_retry(self.failed(Failure::Connect));
            error
        })?;
        let mut peer = HttpPeer::clone(&peer);
        if self.call.is_upgrade {
            peer.options.read_timeout = Some(WEBSOCKET_SILENCE);
            peer.options.alpn = pingora::protocols::ALPN::H1;
        }
        // Not used again. Pingora forwards an HTTP/2 upload of unknown length in a way that poisons the connection, and
        // what was sent over one that the backend had closed can't be sent again. (Pingora's clock can't count to 0.)
        peer.options.idle_timeout = Some(Duration::from_millis(1));
        Ok(Box::new(peer))
    }

    /// Rewrites the head that Pingora made: target, host, credential.
    ///
    /// # Errors
    /// When the target isn't a URI; it is made of checked parts.
    pub fn rewrite(&self, head: &mut RequestHeader, trace: Option<&Trace>) -> Result<()> {
        let kept_for_upgrade = |name: &header::HeaderName| {
            self.call.is_upgrade && (name == header::CONNECTION || name == header::UPGRADE)
        };
        let framing = |name: &header::HeaderName| {
            name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING
        };
        let names: Vec<_> = head.headers.keys().cloned().collect();
        for name in names {
            if !headers::goes_upstream(&name) && !kept_for_upgrade(&name) && !framing(&name) {
                head.remove_header(&name);
            }
        }
        if let Some(trace) = trace {
            trace.attempts(&self.step.backend);
            trace.pass_on(head);
        }
        let (call, backend) = (self.call.call(), &self.step.backend);
        let target = forward::target(&call, &self.admitted, &self.caller.api, backend);
        head.set_raw_path(target.as_bytes())?;
        head.insert_header(header::HOST, self.step.backend.url.authority.as_str())?;
        let schema = forward::schema(&self.caller.api, &self.step.backend);
        forward::credential(head, schema, &self.step.backend.auth)?;
        forward::bearer(head, self.token.as_ref())
    }

    /// Takes the answer in and leaves out what isn't for the caller.
    ///
    /// # Errors
    /// Where the answer doesn't go to the caller: it can be tried again if [`Error::retry`] says so.
    pub fn answered(&mut self, state: &State, head: &mut ResponseHeader) -> Result<()> {
        let now = clock::now().time();
        self.status = head.status.as_u16();
        self.course.heard(&self.step, &head.headers, now);
        let backend = &self.step.backend;
        let outcome = respond::judged(head, &backend.auth, clock::unix_time());
        if outcome == Outcome::CredentialRefused {
            tracing::error!(backend = %backend.name, status = self.status, "the backend refused our credential");
        }
        if respond::doubts_token(head.status) {
            state.identities.refused(backend);
        }
        self.standing = Standing::Answered(outcome);
        let is_served =
            respond::is_success(self.status) || respond::switches_protocols(head.status);
        if self.call.is_upgrade && !is_served {
            match self.ended(&outcome, respond::outcome(head.status)) {
                Next::PassOn => {}
                Next::Elsewhere(_) | Next::SameAgain(_) => return Err(refused(true)),
                Next::Refuse | Next::GiveUp => return Err(refused(false)),
            }
        }
        let nominated = headers::nominated(&head.headers);
        let names: Vec<_> = head.headers.keys().cloned().collect();
        for name in names {
            // Pingora reads these, and sets them anew.
            let hop = name == header::CONNECTION
                || name == header::UPGRADE
                || name == header::TRANSFER_ENCODING;
            let stays = !headers::goes_downstream(&name) || nominated.contains(&name);
            if stays && !hop {
                head.remove_header(&name);
            }
        }
        let cookie = self.course.cookie(&self.step, self.call.is_secure);
        affinity::mark(&self.admitted.pool, head, cookie.filter(|_| is_served));
        for (name, value) in self.told.drain(..) {
            // A name and a value that are ready can't be refused.
            let _ = head.insert_header(name, value);
        }
        Ok(())
    }

    /// No connection came about: whether another address or another backend is to be tried.
    pub fn unreached(&mut self, state: &State, peer: &HttpPeer, error: &Error) -> bool {
        let backend = &self.step.backend;
        tracing::warn!(backend = %backend.name, error = %Fault(error), "a carried call found no connection");
        if state.peers.leave_out(backend, peer) {
            return true;
        }
        self.failed(failure(error))
    }

    /// Pingora's loop failed: whether it goes on with another backend.
    pub fn goes_on(&mut self, error: &Error) -> bool {
        // Decided already, by the answer.
        if *error.etype() == REFUSED {
            return error.retry();
        }
        let asked = matches!(self.standing, Standing::Asked);
        let callers = *error.esource() == ErrorSource::Downstream;
        self.call.is_upgrade && asked && !callers && self.failed(failure(error))
    }

    /// There is no token to show to this step's backend: whether another is asked.
    fn unproven(&mut self) -> bool {
        match self.ended(&Outcome::NoCredential, "no_credential") {
            Next::Elsewhere(_) | Next::SameAgain(_) => true,
            Next::PassOn | Next::Refuse | Next::GiveUp => false,
        }
    }

    fn failed(&mut self, failure: Failure) -> bool {
        let outcome = Outcome::Failed(failure.reason());
        match self.ended(&outcome, failure.outcome()) {
            Next::Elsewhere(_) | Next::SameAgain(_) => true,
            Next::PassOn | Next::Refuse | Next::GiveUp => false,
        }
    }

    /// Tells the breaker how this step ended, before the caller has anything, and goes on to the next one, if any.
    fn ended(&mut self, outcome: &Outcome, label: &'static str) -> Next {
        let now = clock::now().time();
        let next = self
            .course
            .ended(&self.step, outcome, retry::Caller::Waits, now);
        self.standing = Standing::Told;
        if !matches!(next, Next::Elsewhere(_) | Next::SameAgain(_)) {
            return next;
        }
        let Some(step) = self.course.next(now) else {
            return Next::Refuse;
        };
        let former = std::mem::replace(&mut self.step, step);
        self.attempts.push(AttemptEnd {
            backend: former.backend.clone(),
            outcome: label,
        });
        self.standing = Standing::Asked;
        self.status = 0;
        next
    }

    /// What the caller is told when Pingora's loop failed; nothing if an answer has begun, or nobody listens.
    pub fn refusal(&self, session: &ServerSession, error: &Error) -> Option<Refusal> {
        let begun = session
            .response_written()
            .is_some_and(|head| !respond::is_interim(head.status));
        let gone = *error.esource() == ErrorSource::Downstream;
        let refusal = || match self.standing {
            Standing::Told => self.course.exhausted(clock::now().time()),
            Standing::Asked | Standing::Answered(_) => failure(error).refusal(),
        };
        (!begun && !gone).then(refusal)
    }

    /// Who called, where the backend wasn't asked: a breaker's probe is free again.
    pub fn into_caller(mut self) -> Caller {
        self.report(None);
        self.caller
    }

    /// Tells the backend's breaker how the call went, unless it knows.
    pub fn report(&mut self, error: Option<&Error>) {
        let standing = std::mem::replace(&mut self.standing, Standing::Told);
        let outcome = match (error, standing) {
            (_, Standing::Told) => return,
            (Some(error), _) if *error.esource() == ErrorSource::Downstream => Outcome::NoVerdict,
            (Some(error), _) => Outcome::Failed(failure(error).reason()),
            (None, Standing::Answered(outcome)) => outcome,
            (None, Standing::Asked) => Outcome::NoVerdict,
        };
        self.course
            .report(&self.step, &outcome, clock::now().time());
    }

    /// What is accounted.
    pub fn into_record(self, error: Option<&Error>, refused: Option<(u16, Refusal)>) -> Record {
        if let Some(error) = error
            && *error.esource() != ErrorSource::Downstream
        {
            tracing::warn!(backend = %self.step.backend.name, error = %Fault(error), "a carried call broke off");
        }
        let end = match error.map(|error| error.esource()) {
            None => End::Complete,
            Some(ErrorSource::Downstream) => End::ClientGone,
            Some(_) => End::UpstreamCut,
        };
        let outcome = match (self.status, end, error) {
            (0, End::ClientGone, _) => "client_gone",
            (0, _, Some(error)) => failure(error).outcome(),
            (0, _, None) => "none",
            (status, _, _) => respond::outcome_of(status),
        };
        let status = match (&refused, self.status) {
            (Some((status, _)), _) => *status,
            // Nobody was there to be told.
            (None, 0) => reply::CLIENT_GONE,
            (None, status) => status,
        };
        let mut attempts = self.attempts;
        attempts.push(AttemptEnd {
            backend: self.step.backend.clone(),
            outcome,
        });
        Record {
            model: self.admitted.model,
            user: self.admitted.user,
            backend: Some(self.step.backend),
            status,
            stream: self.admitted.stream,
            usage: None,
            source: Source::None,
            end,
            refusal: refused.map(|(_, refusal)| refusal),
            attempts,
            first_token: None,
            waited: Duration::ZERO,
            cache: None,
            heard: None,
            answered_by: None,
            caller: Some(self.caller),
        }
    }
}

/// The backend refused a WebSocket, and its answer isn't for the caller.
const REFUSED: ErrorType = ErrorType::Custom("a WebSocket was refused");

fn refused(is_tried_again: bool) -> Box<Error> {
    let mut error = Error::new_up(REFUSED);
    error.set_retry(is_tried_again);
    error
}

fn failure(error: &Error) -> Failure {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Timeout,
        ErrorType::ConnectTimedout
        | ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert => Failure::Connect,
        _ => Failure::Reset,
    }
}
