//! What is known of the backends' health: a breaker cell for each, and for each pool whose turn it is and
//! how many retries it can afford. Kept by name, so that a reload forgets nothing.
//!
//! Choosing looks at one word of each breaker and takes no lock; the lock of a cell is held for a few
//! instructions when a request is admitted to a backend that has a breaker, and when it ends.
//! Never decides: `filters::breaker`, `filters::balance` and `filters::retry` do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use filters::balance::{Members, Turns};
use filters::breaker::{Admission, Cell, State, Transition, TripReason};
use filters::outcome::Outcome;
use filters::retry::{Budget, End};
use filters::time::Time;
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

/// One backend's breaker.
#[derive(Debug, Default)]
pub struct BackendHealth {
    cell: Mutex<Cell>,
    /// `Cell::refuses_until` in nanoseconds, to be read without the lock.
    refuses_until: AtomicU64,
}

/// One pool's turns and retries.
#[derive(Debug)]
pub struct PoolHealth {
    turns: Turns,
    budget: Mutex<Budget>,
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
        })
    }

    /// The members whose breaker would let a request through.
    pub fn usable(&self, pool: &Pool, now: Time) -> Members {
        let members = pool.members.iter().enumerate();
        members
            .filter(|(_, member)| self.is_usable(&member.backend, now))
            .map(|(place, _)| place)
            .collect()
    }

    /// Whether a backend's breaker would let a request through.
    pub fn is_usable(&self, backend: &Backend, now: Time) -> bool {
        backend.breaker.is_none()
            || self
                .backends
                .find(backend.name.as_ref())
                .is_none_or(|health| health.refuses_until() <= now)
    }

    /// Why a member that wasn't tried can't serve, for what the caller is told.
    pub fn end(&self, backend: &Backend, now: Time) -> Option<End> {
        let State::Open { until, reason } = self.backend(backend).state(now) else {
            return None;
        };
        let wait = Some(Duration::from_nanos(until.nanoseconds_since(now)));
        Some(match reason {
            TripReason::Throttled => End::Throttled { wait },
            TripReason::Status
            | TripReason::Connect
            | TripReason::Timeout
            | TripReason::Reset
            | TripReason::Credential => End::Unavailable { wait },
        })
    }

    /// Asks a backend's breaker to let a request through.
    pub fn admit(&self, backend: &Backend, now: Time) -> Admitted {
        if backend.breaker.is_none() {
            return Admitted::At(now);
        }
        match self.backend(backend).admit(now) {
            Admission::Closed | Admission::Probe => Admitted::At(now),
            Admission::Refused { .. } => Admitted::Refused,
        }
    }

    /// Takes in how an attempt ended, once for each that was admitted.
    pub fn record(
        &self,
        metrics: &Metrics,
        backend: &Backend,
        outcome: &Outcome,
        (sent_at, now): (Time, Time),
    ) {
        let Some(rule) = &backend.breaker else {
            return;
        };
        let health = self.backend(backend);
        let transition = health.change(|cell| cell.record(rule, outcome, sent_at, now));
        match transition {
            None => {}
            Some(Transition::Tripped { reason, until }) => {
                let seconds = Duration::from_nanos(until.nanoseconds_since(now)).as_secs_f64();
                tracing::warn!(backend = %backend.name, reason = reason.label(), seconds, "breaker open");
                metrics.tripped(&backend.name, reason.label());
            }
            Some(Transition::Closed) => {
                tracing::info!(backend = %backend.name, "breaker closed");
            }
        }
    }
}

impl BackendHealth {
    /// What its breaker is now.
    pub fn state(&self, now: Time) -> State {
        self.cell.lock().state(now)
    }

    fn refuses_until(&self) -> Time {
        Time::from_nanoseconds(self.refuses_until.load(Ordering::Relaxed))
    }

    fn admit(&self, now: Time) -> Admission {
        self.change(|cell| cell.admit(now))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Cell) -> T) -> T {
        let mut cell = self.cell.lock();
        let changed = change(&mut cell);
        let until = cell.refuses_until().as_nanoseconds();
        self.refuses_until.store(until, Ordering::Relaxed);
        changed
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
