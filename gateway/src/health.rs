//! What is known of the backends' health: a breaker cell for each and what it last said is left of its quota,
//! and for each pool whose turn it is and how many retries it can afford. Kept by name, so that a reload forgets nothing.
//!
//! Choosing looks at one word of each breaker and takes no lock; the lock of a cell is held for a few
//! instructions when a request is admitted to a backend that has a breaker, and when it ends.
//! Never decides: `filters::breaker`, `filters::balance` and `filters::retry` do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use filters::balance::remaining::Remaining;
use filters::balance::{Members, Turns};
use filters::breaker::{Admission, Cell, News, State, Transition, TripReason};
use filters::expression::Headers;
use filters::outcome::Outcome;
use filters::retry::{Budget, End};
use filters::time::Time;
use filters::units::Tokens;
use parking_lot::Mutex;

use crate::config::plan::{Backend, Pool};
use crate::metrics::Metrics;
use crate::state::Registry;

/// The health of everything that was ever configured in this process.
#[derive(Debug, Default)]
pub struct Health {
    backends: Registry<String, BackendHealth>,
    pools: Registry<String, PoolHealth>,
}

/// One backend's breaker and quota.
#[derive(Debug, Default)]
pub struct BackendHealth {
    cell: Mutex<Cell>,
    /// Whether its last trip was another replica's.
    is_heard: AtomicBool,
    /// `Cell::refuses_until` in nanoseconds, to be read without the lock.
    refuses_until: AtomicU64,
    remaining: Remaining,
    /// Tokens of the last request that didn't fit in `remaining`; 0 before the first.
    did_not_fit: AtomicU64,
    /// Attempts since the start.
    sent: AtomicU64,
}

/// One pool's turns and retries.
#[derive(Debug)]
pub struct PoolHealth {
    turns: Turns,
    budget: Mutex<Budget>,
    /// Looked up once a plan, or thirty members would cost thirty look-ups a request.
    members: ArcSwap<MembersHealth>,
}

/// The health of a pool's members, in their order.
#[derive(Debug, Default)]
struct MembersHealth {
    /// Whose they are.
    pool: Weak<Pool>,
    members: Box<[Arc<BackendHealth>]>,
}

/// Who of a pool can serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Able {
    /// Those whose breaker would let it through.
    pub usable: Members,
    /// Those of them whose quota has room for it, as far as is known.
    pub roomy: Members,
}

/// Who saw what a breaker goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// This replica.
    Own,
    /// Another one.
    Heard,
}

/// What a request may do at a backend now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It may be sent; its outcome is recorded with this time.
    At(Time),
    /// It may not.
    Refused,
}

impl Health {
    /// A backend's breaker; closed when first seen.
    pub fn backend(&self, backend: &Backend) -> Arc<BackendHealth> {
        self.backends
            .entry(backend.name.as_ref(), BackendHealth::default)
    }

    /// A pool's turns and retries. Replicas begin at turns of their own, by `seed`.
    pub fn pool(&self, pool: &Pool, now: Time, seed: u64) -> Arc<PoolHealth> {
        self.pools.entry(pool.name.as_ref(), || PoolHealth {
            turns: Turns::beginning_at(seed),
            budget: Mutex::new(Budget::new(now)),
            members: ArcSwap::default(),
        })
    }

    /// The members that can serve a request of so many tokens.
    pub fn able(&self, pool: &Arc<Pool>, of: &PoolHealth, estimate: Tokens, now: Time) -> Able {
        let mut known = of.members.load();
        if !std::ptr::eq(known.pool.as_ptr(), Arc::as_ptr(pool)) {
            let looked_up = Arc::new(self.members(pool));
            of.members.store(looked_up.clone());
            known = Guard::from_inner(looked_up);
        }
        let (mut usable, mut roomy) = (Members::NONE, Members::NONE);
        let members = pool.members.iter().zip(&known.members);
        for (place, (member, health)) in members.enumerate() {
            if member.backend.breaker.is_none() || health.lets(now) {
                usable = usable.with(place);
                if health.fits(estimate, now) {
                    roomy = roomy.with(place);
                }
            }
        }
        Able { usable, roomy }
    }

    fn members(&self, pool: &Arc<Pool>) -> MembersHealth {
        let members = pool.members.iter();
        MembersHealth {
            pool: Arc::downgrade(pool),
            members: members
                .map(|member| self.backend(&member.backend))
                .collect(),
        }
    }

    /// Whether a backend's breaker would let a request through.
    pub fn is_usable(&self, backend: &Backend, now: Time) -> bool {
        backend.breaker.is_none()
            || self
                .backends
                .find(backend.name.as_ref())
                .is_none_or(|health| health.lets(now))
    }

    /// Why a member that wasn't tried can't serve, for what the caller is told.
    pub fn end(&self, backend: &Backend, now: Time) -> Option<End> {
        let health = self.backend(backend);
        let (reason, wait) = match health.state(now) {
            State::Open { until, reason } => (reason, until.nanoseconds_since(now)),
            // Another request is its probe.
            State::HalfOpen { reason } if !health.lets(now) => (reason, PROBING_NANOSECONDS),
            State::Closed | State::HalfOpen { .. } => return None,
        };
        let wait = Some(Duration::from_nanos(wait));
        Some(match reason {
            TripReason::Throttled => End::Throttled { wait },
            TripReason::Status
            | TripReason::Connect
            | TripReason::Timeout
            | TripReason::Reset
            | TripReason::Credential => End::Unavailable { wait },
        })
    }

    /// Asks a backend's breaker to let a request of so many tokens through.
    pub fn admit(&self, backend: &Backend, estimate: Tokens, now: Time) -> Admitted {
        let health = self.backend(backend);
        let admission = match backend.breaker {
            Some(_) => health.admit(now),
            None => Admission::Closed,
        };
        match admission {
            Admission::Closed | Admission::Probe => {
                health.remaining.take(estimate);
                health.sent.fetch_add(1, Ordering::Relaxed);
                Admitted::At(now)
            }
            Admission::Refused { .. } => Admitted::Refused,
        }
    }

    /// Takes in what an answer says is left of its backend's quota.
    pub fn heard(&self, backend: &Backend, headers: &dyn Headers, now: Time) {
        self.backend(backend).remaining.read(headers, now);
    }

    /// Takes in how an attempt ended, once for each that was admitted; what that changed.
    pub fn record(
        &self,
        metrics: &Metrics,
        backend: &Backend,
        outcome: &Outcome,
        (sent_at, now): (Time, Time),
    ) -> Option<Transition> {
        let rule = backend.breaker.as_ref()?;
        let health = self.backend(backend);
        let transition =
            health.change(Source::Own, |cell| cell.record(rule, outcome, sent_at, now));
        match transition {
            None => {}
            Some(Transition::Tripped { reason, until }) => {
                let seconds = seconds_until(until, now);
                tracing::warn!(backend = %backend.name, reason = reason.label(), seconds, "breaker open");
                metrics.tripped(&backend.name, reason.label());
            }
            Some(Transition::Closed) => {
                tracing::info!(backend = %backend.name, "breaker closed");
            }
        }
        transition
    }

    /// Takes in that a backend's breaker has opened on another replica.
    pub fn hear(&self, metrics: &Metrics, backend: &Backend, news: News, now: Time) {
        let Some(rule) = &backend.breaker else {
            return;
        };
        let health = self.backend(backend);
        let transition = health.change(Source::Heard, |cell| cell.hear(rule, news, now));
        match transition {
            None | Some(Transition::Closed) => {}
            Some(Transition::Tripped { reason, until }) => {
                let seconds = seconds_until(until, now);
                let reason = reason.label();
                tracing::warn!(backend = %backend.name, reason, seconds, "breaker open: another replica's trip");
                metrics.tripped(&backend.name, HEARD);
            }
        }
    }
}

impl BackendHealth {
    /// What its breaker is now.
    pub fn state(&self, now: Time) -> State {
        self.cell.lock().state(now)
    }

    /// Whether that is so because another replica's breaker opened.
    pub fn is_heard(&self) -> bool {
        self.is_heard.load(Ordering::Relaxed)
    }

    /// Attempts that were admitted to it since the start.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// What it last said is left of its quota, less what was sent since.
    pub fn remaining(&self) -> &Remaining {
        &self.remaining
    }

    /// Until when it is passed over for requests such as the last one that didn't fit in its quota.
    pub fn short_until(&self, now: Time) -> Option<Time> {
        let estimate = Tokens::new(self.did_not_fit.load(Ordering::Relaxed));
        self.remaining.short_until(estimate, now)
    }

    fn fits(&self, estimate: Tokens, now: Time) -> bool {
        let fits = self.remaining.can_take(estimate, now);
        if !fits {
            self.did_not_fit.store(estimate.get(), Ordering::Relaxed);
        }
        fits
    }

    fn lets(&self, now: Time) -> bool {
        Time::from_nanoseconds(self.refuses_until.load(Ordering::Relaxed)) <= now
    }

    fn admit(&self, now: Time) -> Admission {
        let mut cell = self.cell.lock();
        let admission = cell.admit(now);
        self.mirror(&cell);
        admission
    }

    fn change(
        &self,
        source: Source,
        change: impl FnOnce(&mut Cell) -> Option<Transition>,
    ) -> Option<Transition> {
        let mut cell = self.cell.lock();
        let changed = change(&mut cell);
        if changed.is_some() {
            let is_heard = source == Source::Heard;
            self.is_heard.store(is_heard, Ordering::Relaxed);
        }
        self.mirror(&cell);
        changed
    }

    fn mirror(&self, cell: &Cell) {
        let until = cell.refuses_until().as_nanoseconds();
        self.refuses_until.store(until, Ordering::Relaxed);
    }
}

impl PoolHealth {
    /// The turn of the best usable members.
    pub fn turn(&self, pool: &Pool, usable: Members) -> u64 {
        self.turns.take(pool.balance.best(usable))
    }

    /// The pool's retries, for the time of a decision.
    pub fn budget(&self) -> parking_lot::MutexGuard<'_, Budget> {
        self.budget.lock()
    }
}

fn seconds_until(until: Time, now: Time) -> f64 {
    Duration::from_nanos(until.nanoseconds_since(now)).as_secs_f64()
}

/// Who meets a probe that is on its way is told to come back after this long: most are answered by then. 1 s.
const PROBING_NANOSECONDS: u64 = 1_000_000_000;

/// Trips of other replicas bear it in the place of a reason, so that the sum over the replicas counts each once.
const HEARD: &str = "heard";
