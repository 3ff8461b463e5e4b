//! The attempts of one request: select, forward, look at the answer, pass it on.
//!
//! A plain loop, so that what follows what can be read from top to bottom. The stages decide; this file calls
//! them and keeps the record of what happened. Never speaks HTTP itself.

mod reach;

use std::sync::Arc;

use filters::outcome::Outcome;
use filters::refusal::Refusal;
use filters::retry::{Caller, Next};
use filters::units::Tokens;
use futures_util::FutureExt;
use http::Method;
use pingora::http::ResponseHeader;

use super::attempt::Reached;
use super::cached::Missed;
use super::relay::{Relay, Relayed, Upstream};
use super::{Exchange, Served, Understood, counting, verdict};
use crate::clock::{self, Moment};
use crate::config::plan::Backend;
use crate::context::{Admitted, AttemptEnd, CacheResult, End, Record, Source};
use crate::reply::{self, Fields};
use crate::stage::cache::{self, Keeping};
use crate::stage::forward::Outgoing;
use crate::stage::limit::{self, Hold};
use crate::stage::respond::{self, Failure};
use crate::stage::select::{Course, Step};
use crate::state::State;

/// One understood request on its way to backends.
pub(super) struct Attempts<'a, 'u> {
    exchange: Exchange<'a>,
    understood: Box<Understood<'u>>,
    hold: Hold,
    record: Record,
    keeping: Option<Keeping>,
    /// What it names that only one backend may hold.
    named: Option<String>,
    begun: Moment,
}

/// How one attempt ended.
enum Tried {
    Relayed(Box<Relayed>),
    Failed(Next),
    Gone,
    Stopped,
}

/// Why no answer's head came.
enum Unreached {
    Failed(Failure),
    NoToken,
    Gone,
    Stopped,
}

/// An answer that goes to the caller.
struct Passing {
    reached: Reached,
    outgoing: Outgoing,
    answer: Box<ResponseHeader>,
    /// What its breaker is told when it has gone through; told already if absent.
    outcome: Option<Outcome>,
}

impl<'a, 'u> Attempts<'a, 'u> {
    /// No attempt made yet.
    pub fn new(
        exchange: Exchange<'a>,
        understood: Box<Understood<'u>>,
        hold: Hold,
        missed: Missed,
    ) -> Box<Self> {
        let record = Record {
            cache: missed.lookup,
            model: understood.admitted.model.clone(),
            user: understood.admitted.user.clone(),
            stream: understood.admitted.stream,
            waited: understood.body_wait,
            ..Record::unserved(reply::CLIENT_GONE)
        };
        // Most of a KiB, which is passed on from step to step.
        Box::new(Attempts {
            exchange,
            understood,
            hold,
            record,
            keeping: missed.keeping,
            named: None,
            begun: clock::now(),
        })
    }

    /// Attempts until one is committed or none is left.
    pub async fn run(mut self: Box<Self>) -> Served {
        let pool = self.understood.admitted.pool.clone();
        self.named = self.understood.named(self.exchange.state).await;
        let asks = self.understood.asks(&self.exchange, self.named.as_deref());
        let state: &State = self.exchange.state;
        let mut course = Course::begin(state, pool, asks, self.begun.time());
        while let Some(step) = course.next(clock::now().time()) {
            self.record.backend = Some(step.backend.clone());
            match self.attempt(&mut course, &step).await {
                Tried::Relayed(relayed) => return self.relayed(relayed).await,
                Tried::Gone => return self.left().await,
                Tried::Stopped => {
                    return Box::pin(self.failed(verdict::stopped(), End::Stopped)).await;
                }
                Tried::Failed(Next::Elsewhere(_) | Next::SameAgain(_)) if self.caller_waits() => {}
                Tried::Failed(Next::Elsewhere(_) | Next::SameAgain(_) | Next::GiveUp) => {
                    return self.left_unserved();
                }
                Tried::Failed(Next::PassOn | Next::Refuse) => break,
            }
        }
        let refusal = course.exhausted(clock::now().time());
        Box::pin(self.failed(refusal, End::UpstreamCut)).await
    }

    async fn attempt(&mut self, course: &mut Course<&State>, step: &Step) -> Tried {
        let backend = &step.backend;
        if let Some(trace) = &self.exchange.arrival.trace {
            trace.attempts(backend);
        }
        let (mut reached, outgoing) = match self.reach(backend).await {
            Ok(reached) => reached,
            Err(unreached) => return self.unreached(course, step, unreached),
        };
        let Some(answer) = reached.upstream.take_response_header() else {
            return self.unreached(course, step, Unreached::Failed(Failure::Reset));
        };
        course.heard(step, &answer.headers, clock::now().time());
        let outcome = respond::judged(&answer, &backend.auth, clock::unix_time());
        if outcome == Outcome::CredentialRefused {
            let status = answer.status.as_u16();
            tracing::error!(backend = %backend.name, status, "the backend refused our credential");
        }
        if respond::doubts_token(answer.status) {
            self.exchange.state.identities.refused(backend);
        }
        if respond::is_success(answer.status.as_u16()) {
            let passing = Passing {
                reached,
                outgoing,
                answer,
                outcome: Some(outcome),
            };
            return self.pass_on(course, step, passing).await;
        }
        let next = course.ended(step, &outcome, Caller::Waits, clock::now().time());
        if next == Next::PassOn {
            let passing = Passing {
                reached,
                outgoing,
                answer,
                outcome: None,
            };
            return self.pass_on(course, step, passing).await;
        }
        self.ended(backend, respond::outcome(answer.status));
        tokio::select! {
            () = reached.discard(self.exchange.connector) => Tried::Failed(next),
            _ = self.exchange.session.leaves() => Tried::Failed(Next::GiveUp),
        }
    }

    /// Whether there still is someone to try again for.
    fn caller_waits(&mut self) -> bool {
        let left = self.exchange.session.leaves().now_or_never();
        left.is_none()
    }

    /// No answer's head came.
    fn unreached(&mut self, course: &mut Course<&State>, step: &Step, why: Unreached) -> Tried {
        let now = clock::now().time();
        match why {
            Unreached::Gone => {
                self.ended(&step.backend, "client_gone");
                course.ended(step, &Outcome::NoVerdict, Caller::Gone, now);
                Tried::Gone
            }
            Unreached::NoToken => {
                self.ended(&step.backend, "no_credential");
                Tried::Failed(course.ended(step, &Outcome::NoCredential, Caller::Waits, now))
            }
            Unreached::Stopped => {
                self.ended(&step.backend, verdict::STOPPED);
                course.ended(step, &Outcome::NoVerdict, Caller::Gone, now);
                Tried::Stopped
            }
            Unreached::Failed(failure) => {
                self.ended(&step.backend, failure.outcome());
                let outcome = Outcome::Failed(failure.reason());
                Tried::Failed(course.ended(step, &outcome, Caller::Waits, now))
            }
        }
    }

    fn ended(&mut self, backend: &Arc<Backend>, outcome: &'static str) {
        if let Some(trace) = &self.exchange.arrival.trace {
            trace.attempted(outcome);
        }
        let backend = backend.clone();
        self.record.attempts.push(AttemptEnd { backend, outcome });
    }

    /// Sets what the caller is told beside the backend's own fields.
    fn mark(&self, answer: &mut ResponseHeader) {
        for (name, value) in self.record.cache.iter().flat_map(cache::fields) {
            // A name and a value that are ready can't be refused.
            let _ = answer.insert_header(name, value);
        }
        respond::mark(answer, self.exchange.arrival.request_id);
    }

    /// Passes an answer on to the caller.
    async fn pass_on(
        &mut self,
        course: &mut Course<&State>,
        step: &Step,
        mut passing: Passing,
    ) -> Tried {
        let status = passing.answer.status;
        self.mark(&mut passing.answer);
        self.record.status = status.as_u16();
        let is_stream = self.understood.admitted.stream;
        let stream_open = is_stream.then(|| self.exchange.state.live.stream());
        let mut relay = Relay {
            session: self.exchange.session.borrow(),
            upstream: Upstream::new(&mut passing.reached.upstream),
            answer: passing.answer,
            shape: self.understood.caller.shape,
            keeps_usage_chunk: passing.outgoing.keeps_usage_chunk,
            holder: None,
            begun: None,
            hold: &mut self.hold,
            keeping: self.keeping.as_mut(),
            stop: &self.exchange.state.stop,
        };
        if let Some(trouble) = relay.begin(course.is_last()).await {
            let head = passing.outcome.take().unwrap_or(Outcome::NoVerdict);
            let next = verdict::begun_badly(course, step, &head, trouble);
            if next != Next::PassOn {
                self.ended(&step.backend, verdict::label_of(trouble));
                return Tried::Failed(next);
            }
        } else {
            if relay.begun.is_some() {
                // From here on the stream is this one: nothing is sent again.
                passing.outgoing.body.clear();
                self.understood.let_go(&self.exchange.arrival.plan);
            }
            let cookie = course.cookie(step, relay.session.is_secure());
            let keeping = (&**self.exchange.state, step.backend.as_ref(), cookie);
            let named = self.named.as_deref();
            relay.holder = self.understood.keep(&mut relay.answer, named, keeping);
        }
        let relayed = Box::new(relay.run().await);
        if let (Some(lookup), Some(keeping)) = (&mut self.record.cache, &self.keeping) {
            lookup.apart = keeping.apart();
            if keeping.is_lost() {
                lookup.result = CacheResult::Error;
            }
        }
        drop(stream_open);
        let label = verdict::label_of_relayed(&relayed, status.as_u16());
        self.ended(&step.backend, label);
        if let Some(outcome) = passing.outcome
            && let Some(next) = verdict::relayed(course, step, outcome, &relayed)
            && relayed.end != End::Stopped
        {
            return Tried::Failed(next);
        }
        if !relayed.committed && relayed.end == End::Stopped {
            return Tried::Stopped;
        }
        if !relayed.committed {
            return Tried::Failed(Next::Refuse);
        }
        if relayed.drained {
            passing.reached.release(self.exchange.connector).await;
        }
        Tried::Relayed(relayed)
    }

    /// An answer was passed on: fills the record, counting tokens where the backend told none.
    async fn relayed(mut self: Box<Self>, relayed: Box<Relayed>) -> Served {
        self.record.waited += clock::now().since(self.begun);
        self.record.end = relayed.end;
        let first_token = relayed.first_token;
        self.record.first_token = first_token.map(|at| at.since(self.exchange.arrival.at));
        // What GET shows again (a stored response, a run that is polled) was used, and counted, by a POST.
        let uses_tokens = self.exchange.session.request().method == Method::POST;
        let answered = respond::is_success(self.record.status) && !relayed.is_only_error();
        self.record.usage = relayed.usage.filter(|_| uses_tokens && answered);
        self.record.source = match self.record.usage {
            Some(_) => Source::Upstream,
            None => Source::None,
        };
        let is_traced = self.exchange.arrival.trace.is_some();
        self.record.answered_by = relayed.model.clone().filter(|_| is_traced);
        let abort = relayed.abort;
        if let Some(model) = &relayed.model {
            let Admitted {
                pool, model: asked, ..
            } = &self.understood.admitted;
            let limits = &self.exchange.state.limits;
            limits.learn_model(&pool.name, asked, model);
        }
        self.record.heard = self.understood.hear(&self.exchange, || relayed.answered());
        if self.record.usage.is_none() && answered {
            // Most backends tell.
            Box::pin(self.count(Some(*relayed))).await;
        }
        self.served(abort)
    }

    /// The caller left before there was an answer; what it asked was asked.
    async fn left(mut self: Box<Self>) -> Served {
        self.record.waited += clock::now().since(self.begun);
        self.record.end = End::ClientGone;
        Box::pin(self.count(None)).await;
        self.served(true)
    }

    /// The caller left after an attempt that failed: nothing was used.
    fn left_unserved(mut self: Box<Self>) -> Served {
        self.record.waited += clock::now().since(self.begun);
        self.record.end = End::ClientGone;
        self.served(true)
    }

    /// No backend had an answer worth passing on.
    async fn failed(mut self: Box<Self>, refusal: Refusal, end: End) -> Served {
        self.hold.settle(None);
        self.record.waited += clock::now().since(self.begun);
        self.record.end = end;
        let request_id = self.exchange.arrival.request_id;
        let fields = Fields {
            retry_after: None,
            others: self.hold.fields(),
        };
        let sent = reply::refuse(&mut self.exchange.session, &refusal, fields, request_id).await;
        let abort = sent.is_err();
        self.record.status = sent.unwrap_or(reply::CLIENT_GONE);
        self.record.refusal = Some(refusal);
        self.served(abort)
    }

    async fn count(&mut self, relayed: Option<Relayed>) {
        let shape = self.understood.caller.shape;
        let body = self.understood.body.bytes.clone();
        let model = limit::counted_as(self.exchange.state, &self.understood.admitted);
        if let Some((usage, source)) = counting::usage(shape, model, body, relayed).await {
            self.record.usage = Some(usage);
            self.record.source = source;
        }
    }

    fn served(mut self: Box<Self>, abort: bool) -> Served {
        self.settle();
        self.record.caller = Some(self.understood.caller);
        Served::Answered {
            record: Box::new(self.record),
            abort,
        }
    }
}

impl Attempts<'_, '_> {
    /// What was held becomes what was used: the figures that are accounted, and no others.
    fn settle(&mut self) {
        let usage = self.record.usage;
        self.hold.settle(usage);
        if let (Some(usage), Source::Upstream) = (usage, self.record.source) {
            let Understood {
                caller,
                admitted,
                facts,
                ..
            } = &*self.understood;
            let choices = facts.as_ref().map_or(1, |facts| facts.choices.max(1));
            let completion = Tokens::new(usage.completion.div_ceil(choices));
            let subscription = limit::subscription(caller);
            let limits = &self.exchange.state.limits;
            limits.learn_completion(subscription, &admitted.model, completion);
        }
    }
}
