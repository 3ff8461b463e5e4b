//! Which member of the pool the next attempt goes to, and whether there is a next attempt.
//!
//! A course is one request's way through its pool: the best priority with a usable member, by weight, never
//! the same member twice while another is left. A member that said that its quota can't take the request is
//! passed over, unless the whole pool says so: that is a forecast, and nobody is refused for one. A request
//! of a session goes where that is while the breaker lets it; one that names what a member holds goes there or
//! nowhere. What is decided is `filters`' (balance, breaker, retry); what is kept between requests is
//! `health`'s. Never connects.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use filters::balance::Members;
use filters::outcome::{FailureReason, Outcome};
use filters::refusal::Refusal;
use filters::retry::{self, Caller, End, Left, Next, SoFar};
use filters::time::Time;
use filters::units::Tokens;
use http::{HeaderMap, HeaderValue};

use crate::affinity::{self, Belongs};
use crate::config::plan::{Backend, Pool};
use crate::health::{Able, Admitted, PoolHealth};
use crate::state::State;
use crate::trips;
use crate::upstream::headers::HeaderView;

/// One request's way through its pool.
#[derive(Debug)]
pub struct Course<S> {
    state: S,
    pool: Arc<Pool>,
    health: Arc<PoolHealth>,
    asks: Asks,
    tried: Members,
    turn: Option<u64>,
    again: Option<usize>,
    attempts: u32,
    ends: Vec<(usize, End)>,
}

/// What of a request decides where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Asks {
    /// Where it belongs.
    pub belongs: Belongs,
    /// What it will be charged for, roughly.
    pub estimate: Tokens,
}

/// An attempt that may be made.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where.
    pub backend: Arc<Backend>,
    member: usize,
    sent_at: Time,
}

impl<S: Deref<Target = State>> Course<S> {
    /// A request that comes to the pool.
    pub fn begin(state: S, pool: Arc<Pool>, asks: Asks, now: Time) -> Self {
        let health = state.health.pool(&pool, now, state.seed());
        health.budget().deposit(now);
        Course {
            state,
            pool,
            health,
            asks,
            tried: Members::NONE,
            turn: None,
            again: None,
            attempts: 0,
            ends: Vec::new(),
        }
    }

    /// The next attempt, if any member can take it.
    pub fn next(&mut self, now: Time) -> Option<Step> {
        if let Some(member) = self.again.take() {
            return self.admit(member, now);
        }
        match self.asks.belongs {
            Belongs::Nowhere => {}
            Belongs::Holder(member) if self.tried.contains(member) => return None,
            Belongs::Holder(member) => return self.admit(member, now),
            Belongs::Session(member) => {
                if let Some(step) = self.in_session(member, now) {
                    return Some(step);
                }
            }
        }
        let estimate = self.asks.estimate;
        let health = &self.state.health;
        let Able { usable, roomy } = health.able(&self.pool, &self.health, estimate, now);
        let (usable, roomy) = (usable.but(self.tried), roomy.but(self.tried));
        self.choose(roomy, now)
            .or_else(|| self.choose(usable.but(roomy), now))
    }

    /// The cookie that keeps the caller with the member of this step; none if it has a good one, or needs none.
    pub fn cookie(&self, step: &Step, secure: bool) -> Option<HeaderValue> {
        let affinity = self.pool.session_affinity.as_ref()?;
        match self.asks.belongs {
            Belongs::Nowhere => affinity::cookie(affinity, step.member, secure),
            Belongs::Session(_) | Belongs::Holder(_) => None,
        }
    }

    /// What a backend's answer tells of it before it is judged.
    pub fn heard(&self, step: &Step, headers: &HeaderMap, now: Time) {
        let headers = HeaderView(headers);
        self.state.health.heard(&step.backend, &headers, now);
    }

    /// Tells the breaker how an attempt ended, where nothing can follow it.
    pub fn report(&self, step: &Step, outcome: &Outcome, now: Time) {
        let times = (step.sent_at, now);
        let (health, metrics) = (&self.state.health, &self.state.metrics);
        let transition = health.record(metrics, &step.backend, outcome, times);
        trips::tell(&self.state, &step.backend, transition, now);
    }

    /// How an attempt ended, and what follows it.
    pub fn ended(&mut self, step: &Step, outcome: &Outcome, caller: Caller, now: Time) -> Next {
        self.attempts += 1;
        self.report(step, outcome, now);
        self.ends.push((step.member, self.end(step, outcome, now)));
        let so_far = SoFar {
            attempts: self.attempts,
            stale: 0,
            members: self.members(),
            left: self.left(step, now),
            caller,
        };
        let next = self
            .pool
            .retry
            .next(outcome, so_far, &mut self.health.budget(), now);
        match next {
            Next::Elsewhere(why) => self.state.metrics.retried(&self.pool.name, why.label()),
            Next::SameAgain(why) => {
                self.again = Some(step.member);
                self.state.metrics.retried(&self.pool.name, why.label());
            }
            Next::PassOn | Next::Refuse | Next::GiveUp => {}
        }
        next
    }

    /// Whether no other attempt can follow this one, however it ends.
    pub fn is_last(&self) -> bool {
        self.members() == 1 || self.attempts >= self.pool.retry.count
    }

    /// How many members might serve it.
    fn members(&self) -> usize {
        match self.asks.belongs {
            Belongs::Holder(_) => 1,
            Belongs::Nowhere | Belongs::Session(_) => self.pool.members.len(),
        }
    }

    /// What the caller is told when no member can serve it.
    pub fn exhausted(&self, now: Time) -> Refusal {
        let is_tried = |place: &usize| self.ends.iter().any(|(member, _)| member == place);
        let others = match self.asks.belongs {
            Belongs::Holder(member) => member..member + 1,
            Belongs::Nowhere | Belongs::Session(_) => 0..self.pool.members.len(),
        };
        let others = others.filter(|place| !is_tried(place));
        let mut ends: Vec<End> = others
            .map(|place| {
                let backend = &self.pool.members[place].backend;
                let open = self.state.health.end(backend, now);
                open.unwrap_or(End::Unavailable { wait: None })
            })
            .collect();
        ends.extend(self.ends.iter().map(|(_, end)| *end));
        retry::exhausted(&ends)
    }

    /// The session's own member, once. The session is over when its breaker refuses.
    fn in_session(&mut self, member: usize, now: Time) -> Option<Step> {
        if !self.tried.contains(member)
            && let Some(step) = self.admit(member, now)
        {
            return Some(step);
        }
        let backend = &self.pool.members[member].backend;
        if !self.tried.contains(member) || !self.state.health.is_usable(backend, now) {
            self.asks.belongs = Belongs::Nowhere;
        }
        None
    }

    fn choose(&mut self, mut among: Members, now: Time) -> Option<Step> {
        while !among.is_empty() {
            let turn = match self.turn {
                Some(turn) => turn,
                None => self.health.turn(&self.pool, among),
            };
            let choice = self.pool.balance.choose(among, turn)?;
            self.turn = Some(choice.turn);
            among = among.without(choice.member);
            if let Some(step) = self.admit(choice.member, now) {
                return Some(step);
            }
        }
        None
    }

    fn is_another_left(&self, now: Time) -> bool {
        if matches!(self.asks.belongs, Belongs::Holder(_)) {
            return false;
        }
        let mut members = self.pool.members.iter().enumerate();
        members.any(|(place, member)| {
            !self.tried.contains(place) && self.state.health.is_usable(&member.backend, now)
        })
    }

    fn admit(&mut self, member: usize, now: Time) -> Option<Step> {
        let backend = self.pool.members[member].backend.clone();
        match self.state.health.admit(&backend, self.asks.estimate, now) {
            Admitted::Refused => None,
            Admitted::At(sent_at) => {
                self.tried = self.tried.with(member);
                Some(Step {
                    backend,
                    member,
                    sent_at,
                })
            }
        }
    }

    fn left(&self, step: &Step, now: Time) -> Left {
        if self.is_another_left(now) {
            return Left::Another;
        }
        match self.state.health.is_usable(&step.backend, now) {
            true => Left::Same,
            false => Left::Nobody,
        }
    }

    fn end(&self, step: &Step, outcome: &Outcome, now: Time) -> End {
        let open = self.state.health.end(&step.backend, now);
        match *outcome {
            Outcome::Failed(FailureReason::Timeout) => End::TimedOut,
            Outcome::Answered { wait, .. } => open.unwrap_or(match outcome.is_throttled() {
                true => End::Throttled { wait },
                false => End::Unavailable { wait },
            }),
            Outcome::ErrorEvent { wait, .. } => open.unwrap_or(End::Unavailable { wait }),
            Outcome::Failed(FailureReason::Connect | FailureReason::Reset)
            | Outcome::EmptyStream
            | Outcome::Stale
            | Outcome::CallersFault
            | Outcome::CredentialRefused
            | Outcome::NoCredential
            | Outcome::NoVerdict => open.unwrap_or(End::Unavailable {
                wait: None::<Duration>,
            }),
        }
    }
}
