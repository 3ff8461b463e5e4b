//! The one way in and out: Pingora's `ProxyHttp`, thin. Each method calls one stage or driver and stores
//! what it returns. Never decides.

use std::sync::Arc;

use async_trait::async_trait;
use filters::refusal::Refusal;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::clock;
use crate::context::{Arrival, Record};
use crate::downstream::Downstream;
use crate::exchange::{Exchange, Served};
use crate::listener::head_arrived;
use crate::passthrough::Carried;
use crate::reply::{self, Fields};
use crate::stage::{account, respond};
use crate::state::State;
use crate::traces;
use crate::upstream::connector::Connector;

/// The gateway as Pingora sees it.
#[derive(Clone)]
pub struct Gateway {
    /// What outlives a request.
    pub state: Arc<State>,
    /// Connections to backends.
    pub connector: Arc<Connector>,
}

/// A request on its way. Only this file sees that its parts are filled over time.
pub struct Context {
    arrival: Arrival,
    carried: Option<Carried>,
    refused: Option<(u16, Refusal)>,
    record: Option<Box<Record>>,
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        head_arrived();
        Context {
            arrival: Arrival::now(&self.state),
            carried: None,
            refused: None,
            record: None,
        }
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        let downstream = Downstream::Pingora(session.as_downstream_mut());
        prepare(&self.state, downstream, &mut ctx.arrival);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let downstream = Downstream::Pingora(session.as_downstream_mut());
        match self.exchange(downstream, &ctx.arrival).serve().await {
            Served::Answered { record, abort } => ctx.answered(record, abort),
            Served::Carry(carried) => {
                ctx.carried = Some(*carried);
                Ok(false)
            }
        }
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Context,
    ) -> Result<Box<HttpPeer>> {
        let carried = ctx.carried.as_mut().ok_or_else(not_carried)?;
        carried.peer(&self.state).await
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        head: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let carried = ctx.carried.as_ref().ok_or_else(not_carried)?;
        carried.rewrite(head, ctx.arrival.trace.as_deref())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let carried = ctx.carried.as_mut().ok_or_else(not_carried)?;
        carried.answered(&self.state, head)?;
        respond::mark(head, ctx.arrival.request_id);
        respond::speak_own_version(head);
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        peer: &HttpPeer,
        ctx: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let carried = ctx.carried.as_mut();
        error
            .set_retry(carried.is_some_and(|carried| carried.unreached(&self.state, peer, &error)));
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        _session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Context,
        _client_reused: bool,
    ) -> Box<Error> {
        let carried = ctx.carried.as_mut();
        error.set_retry(carried.is_some_and(|carried| carried.goes_on(&error)));
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Context,
    ) -> FailToProxy {
        ctx.refused = ctx.refuse(session, error).await;
        FailToProxy {
            error_code: ctx.refused.as_ref().map_or(0, |(status, _)| *status),
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        if let Some(record) = ctx.take_record(error) {
            let head = session.req_header();
            account::account(&self.state, &ctx.arrival, head, &record, clock::now());
        }
    }

    fn request_summary(&self, _session: &Session, ctx: &Context) -> String {
        format!("request {:032x}", ctx.arrival.request_id)
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Context,
        _error: &Error,
        _when: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

impl Gateway {
    /// Serves a request without Pingora's proxy; false where its connection must be closed.
    pub async fn serve(&self, mut session: Downstream<'_>, arrival: &mut Arrival) -> bool {
        prepare(&self.state, session.borrow(), arrival);
        let (record, abort) = match self.exchange(session.borrow(), arrival).serve().await {
            Served::Answered { record, abort } => (record, abort),
            Served::Carry(carried) => (Box::new(carried.into_record(None, None)), true),
        };
        let head = session.request();
        account::account(&self.state, arrival, head, &record, clock::now());
        !abort
    }

    fn exchange<'a>(&'a self, session: Downstream<'a>, arrival: &'a Arrival) -> Exchange<'a> {
        Exchange {
            state: &self.state,
            connector: &self.connector,
            session,
            arrival,
        }
    }
}

fn prepare(state: &State, mut session: Downstream<'_>, arrival: &mut Arrival) {
    session.begin(&arrival.plan.server.limits);
    if state.stop.is_leaving() {
        session.close();
    }
    arrival.trace = traces::begin(&arrival.plan, session.request());
}

impl Context {
    fn answered(&mut self, record: Box<Record>, abort: bool) -> Result<bool> {
        self.record = Some(record);
        match abort {
            true => Error::e_explain(ErrorType::ConnectionClosed, "the answer broke off"),
            false => Ok(true),
        }
    }

    /// Tells the caller that Pingora's loop failed, if no answer has begun.
    async fn refuse(&self, session: &mut Session, error: &Error) -> Option<(u16, Refusal)> {
        let refusal = self
            .carried
            .as_ref()?
            .refusal(session.as_downstream(), error)?;
        let mut downstream = Downstream::Pingora(session.as_downstream_mut());
        downstream.close();
        let (id, fields) = (self.arrival.request_id, Fields::default());
        let status = reply::refuse(&mut downstream, &refusal, fields, id).await;
        Some((status.ok()?, refusal))
    }

    fn take_record(&mut self, error: Option<&Error>) -> Option<Box<Record>> {
        let refused = self.refused.take();
        let mut carried = self.carried.take();
        if let Some(carried) = &mut carried {
            carried.report(error);
        }
        self.record
            .take()
            .or_else(|| carried.map(|carried| Box::new(carried.into_record(error, refused))))
    }
}

impl Arrival {
    /// A request that arrives now.
    pub fn now(state: &State) -> Self {
        Arrival {
            at: clock::now(),
            plan: state.plan.load_full(),
            request_id: state.next_request_id(),
            in_flight: state.enter(),
            trace: None,
        }
    }
}

fn not_carried() -> Box<Error> {
    Error::explain(
        ErrorType::InternalError,
        "an understood request in Pingora's loop",
    )
}
