//! The driver for what is only carried: WebSocket upgrades, and uploads too large or too open-ended to hold.
//!
//! Pingora's own loop moves the bytes; the same stages authenticate, route, rewrite the head and account.
//! A body that isn't held can't be sent twice, so nothing here is tried again. Never reads a body.

use std::time::Duration;

use filters::outcome::Outcome;
use filters::refusal::Refusal;
use filters::route::{Call, Shape};
use filters::units::Tokens;
use http::{HeaderName, HeaderValue, Method, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use crate::affinity::{self, Clues};
use crate::body;
use crate::clock;
use crate::config::plan::{Plan, Server};
use crate::context::{Admitted, AttemptEnd, Caller, End, Record, Source};
use crate::stage::forward;
use crate::stage::respond::{self, Failure};
use crate::stage::select::{Asks, Course, Step};
use crate::state::State;
use crate::upstream::fault::Fault;
use crate::upstream::headers;

/// A WebSocket may be silent for as long as a realtime session lasts.
const WEBSOCKET_SILENCE: Duration = Duration::from_secs(3600);

/// An admitted call that Pingora's loop carries.
#[derive(Debug)]
pub struct Carried {
    caller: Caller,
    admitted: Admitted,
    step: Step,
    cookie: Option<HeaderValue>,
    target: String,
    status: u16,
    outcome: Option<Outcome>,
    upgrade: bool,
    told: Vec<(HeaderName, HeaderValue)>,
}

/// Whether a call is carried: a WebSocket, or an upload that is larger than the bound, of an operation that
/// names no model in its body. An upload of unknown length is held, up to the bound.
pub fn is_carried(session: &ServerSession, call: &Call<'_>, server: &Server) -> bool {
    if call.shape != Shape::Other {
        return false;
    }
    let stated = body::stated_length_bytes(session);
    let large = stated.is_some_and(|length| length > server.max_request_body_bytes);
    is_websocket(session) || (large && !call.model_in_body)
}

/// Whether the caller asks for a WebSocket. Any other `Upgrade`, such as to HTTP/2, is an offer that a server
/// may ignore: a call with it is understood and metered like every other.
fn is_websocket(session: &ServerSession) -> bool {
    let head = session.req_header();
    let asks = head
        .headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    session.is_upgrade_req() && head.method == Method::GET && asks
}

/// Chooses a backend for a call that will be carried.
///
/// # Errors
/// Where there is none, with the caller given back.
pub async fn prepare(
    state: &State,
    (plan, session): (&Plan, &ServerSession),
    (caller, admitted): (Caller, Admitted),
    call: &Call<'_>,
) -> std::result::Result<Carried, (Refusal, Caller)> {
    let id = affinity::named_id(call, None);
    affinity::recall(state, &admitted.pool, &caller.api.name, id).await;
    let now = clock::now().time();
    let clues = Clues {
        api: &caller.api.name,
        id,
        headers: &session.req_header().headers,
    };
    let asks = Asks {
        belongs: affinity::belongs(&state.holders, plan, &admitted.pool, &clues, now),
        estimate: Tokens::ZERO,
    };
    let mut course = Course::begin(state, admitted.pool.clone(), asks, now);
    let Some(step) = course.next(now) else {
        return Err((course.exhausted(now), caller));
    };
    let target = forward::target(call, &admitted, &caller.api, &step.backend);
    Ok(Carried {
        caller,
        admitted,
        cookie: course.cookie(&step, affinity::is_secure(session)),
        step,
        target,
        status: 0,
        outcome: None,
        upgrade: false,
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
    /// When the backend's name has no address.
    pub async fn peer(&mut self, state: &State, session: &ServerSession) -> Result<Box<HttpPeer>> {
        self.upgrade = is_websocket(session);
        let peer = state.peers.peer(&self.step.backend).await?;
        let mut peer = HttpPeer::clone(&peer);
        if self.upgrade {
            peer.options.read_timeout = Some(WEBSOCKET_SILENCE);
            peer.options.alpn = pingora::protocols::ALPN::H1;
        } else {
            // Pingora forwards an HTTP/2 upload of unknown length in a way that poisons the connection.
            peer.options.idle_timeout = Some(Duration::ZERO);
        }
        Ok(Box::new(peer))
    }

    /// Rewrites the head that Pingora made: target, host, credential.
    ///
    /// # Errors
    /// When the target isn't a URI; it is made of checked parts.
    pub fn rewrite(&self, head: &mut RequestHeader) -> Result<()> {
        let kept_for_upgrade = |name: &header::HeaderName| {
            self.upgrade && (name == header::CONNECTION || name == header::UPGRADE)
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
        head.set_raw_path(self.target.as_bytes())?;
        head.insert_header(header::HOST, self.step.backend.url.authority.as_str())?;
        let schema = forward::schema(&self.caller.api, &self.step.backend);
        forward::credential(head, schema, &self.step.backend.auth)
    }

    /// Takes the answer's status and leaves out what isn't for the caller.
    pub fn answered(&mut self, head: &mut ResponseHeader) {
        self.status = head.status.as_u16();
        let auth = &self.step.backend.auth;
        self.outcome = Some(respond::judged(head, auth, clock::unix_time()));
        if respond::refuses_credential(head.status) {
            tracing::error!(backend = %self.step.backend.name, status = self.status, "the backend refused our credential");
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
        let is_served =
            respond::is_success(self.status) || respond::switches_protocols(head.status);
        let cookie = self.cookie.take().filter(|_| is_served);
        affinity::mark(&self.admitted.pool, head, cookie);
        for (name, value) in self.told.drain(..) {
            // A name and a value that are ready can't be refused.
            let _ = head.insert_header(name, value);
        }
    }

    /// What the caller is told when Pingora's loop failed; nothing if an answer has begun, or nobody listens.
    pub fn refusal(&self, session: &ServerSession, error: &Error) -> Option<Refusal> {
        let begun = session
            .response_written()
            .is_some_and(|head| !respond::is_interim(head.status));
        let gone = *error.esource() == ErrorSource::Downstream;
        (!begun && !gone).then(|| failure(error).refusal())
    }

    /// Who called.
    pub fn into_caller(self) -> Caller {
        self.caller
    }

    /// Tells the backend's breaker how the call went.
    pub fn report(&self, state: &State, error: Option<&Error>) {
        let outcome = match (error, self.outcome) {
            (Some(error), _) if *error.esource() == ErrorSource::Downstream => Outcome::NoVerdict,
            (Some(error), _) => Outcome::Failed(failure(error).reason()),
            (None, answered) => answered.unwrap_or(Outcome::NoVerdict),
        };
        self.step.report(state, &outcome, clock::now().time());
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
        let outcome = match (self.status, error) {
            (0, Some(error)) => failure(error).outcome(),
            (0, None) => "none",
            (status, _) => respond::outcome_of(status),
        };
        Record {
            model: self.admitted.model,
            user: self.admitted.user,
            backend: Some(self.step.backend.clone()),
            status: refused.as_ref().map_or(self.status, |(status, _)| *status),
            stream: self.admitted.stream,
            usage: None,
            source: Source::None,
            end,
            refusal: refused.map(|(_, refusal)| refusal),
            attempts: vec![AttemptEnd {
                backend: self.step.backend,
                outcome,
            }],
            first_token: None,
            waited: Duration::ZERO,
            cache: None,
            caller: Some(self.caller),
        }
    }
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
