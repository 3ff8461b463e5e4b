//! When a backend is left alone, and how it comes back.
//!
//! ```text
//!            the failure condition is met, or the credential is refused again and again
//!   CLOSED ----------------------------------------------------------------------------> OPEN
//!     ^                                                                                   |
//!     |  a probe is answered        a probe fails: open again                             | until
//!     +---------------------- HALF-OPEN <------------------------------------------------+
//! ```
//!
//! Closed flows, open refuses, half-open lets one request through as a probe, so that a backend that
//! recovers isn't hit by everyone at once. API Management closes at once; a probe is the safer superset.
//!
//! - **When it opens.** The failure condition alone decides. How long: what the backend asks, if the
//!   rule accepts that, at most its cap; else the rule's trip duration. Of several failures the one
//!   that meets the condition is the newest, so it is the one believed.
//! - **Late answers** don't count: an answer whose request was sent before the last transition neither
//!   opens, extends nor closes anything. `sent_at` must be the `now` that the request was admitted with.
//! - **A probe that never reports** is given up after [`PROBE_NANOSECONDS`], and another may go. Its late
//!   answer is still evidence: a model that needs longer than that must be able to close its breaker.
//! - **The caller's fault**, a stale connection and a caller who left are no verdict: they release
//!   the probe and count nowhere.
//! - **A refused credential** trips when it was refused several times and no answer in between
//!   showed that it is good: one caller who tries what the credential isn't allowed mustn't take the
//!   backend away from everyone.
//!
//! A cell is plain data for a short lock; [`Cell::refuses_until`] is one word of it that a gateway may
//! mirror in an atomic to look at many cells without their locks. It never counts attempts or reads headers.

mod rule;
mod window;

use std::time::Duration;

pub use rule::{Condition, FailureReasons, Failures, MAX_SPAN, Rule, RuleError};

use crate::outcome::{FailureReason, Outcome};
use crate::time::Time;
use rule::Verdict;
use window::Window;

/// How long one probe keeps others away. Longer than most first bytes take, and short enough that a lost
/// one costs little: 30 s.
pub const PROBE_NANOSECONDS: u64 = 30_000_000_000;

/// A replica whose backend served a request that was sent so shortly before finds out by itself, and at little cost,
/// whether it can still be reached: 30 s, so that long answers count too.
const LATELY_NANOSECONDS: u64 = 30_000_000_000;

/// One backend's live state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    phase: Phase,
    window: Window,
    refusals: Refusals,
    /// When the newest request was sent that the backend served.
    served: Option<Time>,
}

/// Whether a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// As any other.
    Closed,
    /// As the one probe: its outcome must be recorded, whatever it is.
    Probe,
    /// Not before this time.
    Refused {
        /// When to ask again.
        until: Time,
    },
}

/// What a breaker is, for `/status` and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It flows.
    Closed,
    /// It refuses.
    Open {
        /// When it lets a probe through.
        until: Time,
        /// Why.
        reason: TripReason,
    },
    /// Its time is over, and a probe decides.
    HalfOpen {
        /// Why it was open.
        reason: TripReason,
    },
}

/// What a recorded outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// It is open now.
    Tripped {
        /// Why.
        reason: TripReason,
        /// When it lets a probe through.
        until: Time,
    },
    /// It is closed again.
    Closed,
}

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TripReason {
    /// 429.
    Throttled,
    /// Another status of the rule.
    Status,
    /// No connection.
    Connect,
    /// No first byte in time, or nothing more.
    Timeout,
    /// A broken connection.
    Reset,
    /// The gateway's own credential was refused.
    Credential,
}

/// A trip on another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// When it opened there, on this replica's clock.
    pub tripped_at: Time,
    /// Until when, on this replica's clock.
    pub until: Time,
    /// Why.
    pub reason: TripReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed {
        since: Time,
    },
    Open {
        until: Time,
        reason: TripReason,
    },
    HalfOpen {
        /// The first probe's time: no answer to an earlier request counts.
        since: Time,
        /// The newest probe's.
        probe: Time,
        /// When the next one may go.
        until: Time,
        reason: TripReason,
    },
}

/// Refusals of the credential in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Refusals {
    count: u32,
    first: Option<Time>,
}

impl Default for Cell {
    fn default() -> Self {
        Self {
            phase: Phase::Closed { since: BEGINNING },
            window: Window::default(),
            refusals: Refusals::default(),
            served: None,
        }
    }
}

impl Cell {
    /// Whether a request may go now. Half-open, the first to ask becomes the probe.
    pub fn admit(&mut self, now: Time) -> Admission {
        let (since, until, reason) = match self.phase {
            Phase::Closed { .. } => return Admission::Closed,
            Phase::Open { until, reason } => (now, until, reason),
            Phase::HalfOpen {
                since,
                until,
                reason,
                probe: _,
            } => (since, until, reason),
        };
        if now < until {
            return Admission::Refused { until };
        }
        self.phase = Phase::HalfOpen {
            since,
            probe: now,
            until: now.plus_nanoseconds(PROBE_NANOSECONDS),
            reason,
        };
        Admission::Probe
    }

    /// Takes in how an attempt ended, once for each that was admitted. `sent_at` is the `now` of its admission.
    pub fn record(
        &mut self,
        rule: &Rule,
        outcome: &Outcome,
        sent_at: Time,
        now: Time,
    ) -> Option<Transition> {
        match self.phase {
            Phase::Closed { since } if since <= sent_at => {
                self.record_closed(rule, outcome, sent_at, now)
            }
            Phase::HalfOpen { since, .. } if since <= sent_at => {
                self.record_probe(rule, outcome, sent_at, now)
            }
            Phase::Closed { .. } | Phase::Open { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// Takes in what another replica tells. It is a hint: a breaker that is open or probes knows better, and so does
    /// one whose backend has served a request sent after that trip. One whose time was over when the other tripped
    /// stays open, so that not every replica sends a probe that one has sent already.
    pub fn hear(&mut self, rule: &Rule, news: News, now: Time) -> Option<Transition> {
        let is_known = match self.phase {
            Phase::Closed { since } => news.tripped_at < since || self.knows_better(news),
            Phase::Open { until, .. } => news.tripped_at < until,
            Phase::HalfOpen { .. } => true,
        };
        let until = news.until.min(now.plus_nanoseconds(rule.longest_trip_ns()));
        if is_known || until <= now {
            return None;
        }
        Some(self.open(news.reason, until))
    }

    /// What it is now.
    pub fn state(&self, now: Time) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until, reason } if now < until => State::Open { until, reason },
            Phase::Open { reason, .. } | Phase::HalfOpen { reason, .. } => {
                State::HalfOpen { reason }
            }
        }
    }

    /// Before this time a request would be refused; the clock's beginning if closed. It changes with
    /// [`Cell::admit`], [`Cell::record`] and [`Cell::hear`] only.
    pub fn refuses_until(&self) -> Time {
        match self.phase {
            Phase::Closed { .. } => BEGINNING,
            Phase::Open { until, .. } | Phase::HalfOpen { until, .. } => until,
        }
    }

    /// Whether what the backend served outweighs the news.
    fn knows_better(&self, news: News) -> bool {
        let outweighed_ns = match news.reason {
            // The backend's own words.
            TripReason::Throttled | TripReason::Status => 0,
            // May be the other replica's network. One that is cut off mustn't take the backend from those it serves.
            TripReason::Connect | TripReason::Timeout | TripReason::Reset => LATELY_NANOSECONDS,
            // The other replica's configuration.
            TripReason::Credential => return true,
        };
        let is_outweighed =
            |served: Time| news.tripped_at <= served.plus_nanoseconds(outweighed_ns);
        self.served.is_some_and(is_outweighed)
    }

    fn record_closed(
        &mut self,
        rule: &Rule,
        outcome: &Outcome,
        sent_at: Time,
        now: Time,
    ) -> Option<Transition> {
        match rule.verdict(outcome) {
            Verdict::None => None,
            Verdict::Good => {
                self.refusals = Refusals::default();
                self.served = self.served.max(Some(sent_at));
                self.window.count(false, rule.interval_ns(), now);
                None
            }
            Verdict::Refused => {
                let refused = self.refusals.count(rule.interval_ns(), now);
                let is_met = refused >= rule.credential_refusals();
                is_met.then(|| self.trip(rule, TripReason::Credential, None, now))
            }
            Verdict::Bad { reason, wait } => {
                let sums = self.window.count(true, rule.interval_ns(), now);
                let is_met = rule.is_met(sums);
                is_met.then(|| self.trip(rule, reason, wait, now))
            }
        }
    }

    fn record_probe(
        &mut self,
        rule: &Rule,
        outcome: &Outcome,
        sent_at: Time,
        now: Time,
    ) -> Option<Transition> {
        match rule.verdict(outcome) {
            Verdict::None => {
                self.release(sent_at, now);
                None
            }
            Verdict::Good => {
                *self = Self {
                    phase: Phase::Closed { since: now },
                    served: self.served.max(Some(sent_at)),
                    ..Self::default()
                };
                Some(Transition::Closed)
            }
            Verdict::Refused => Some(self.trip(rule, TripReason::Credential, None, now)),
            Verdict::Bad { reason, wait } => Some(self.trip(rule, reason, wait, now)),
        }
    }

    /// The next request may be the probe, if this one still was.
    fn release(&mut self, sent_at: Time, now: Time) {
        if let Phase::HalfOpen { probe, until, .. } = &mut self.phase
            && *probe == sent_at
        {
            *until = now.min(*until);
        }
    }

    fn trip(
        &mut self,
        rule: &Rule,
        reason: TripReason,
        wait: Option<Duration>,
        now: Time,
    ) -> Transition {
        self.open(reason, now.plus_nanoseconds(rule.trip_ns(wait)))
    }

    fn open(&mut self, reason: TripReason, until: Time) -> Transition {
        *self = Self {
            phase: Phase::Open { until, reason },
            served: self.served,
            ..Self::default()
        };
        Transition::Tripped { reason, until }
    }
}

impl Refusals {
    /// One more; the first after an interval without one begins a new row.
    fn count(&mut self, interval_ns: u64, now: Time) -> u32 {
        let first = self
            .first
            .filter(|first| now.nanoseconds_since(*first) < interval_ns);
        self.count = first.map_or(1, |_| self.count.saturating_add(1));
        self.first = Some(first.unwrap_or(now));
        self.count
    }
}

impl TripReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Throttled,
        Self::Status,
        Self::Connect,
        Self::Timeout,
        Self::Reset,
        Self::Credential,
    ];

    /// The word in metrics, logs, `/status`, and between replicas.
    pub fn label(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Status => "status",
            Self::Connect => FailureReason::Connect.label(),
            Self::Timeout => FailureReason::Timeout.label(),
            Self::Reset => FailureReason::Reset.label(),
            Self::Credential => "credential",
        }
    }
}

const BEGINNING: Time = Time::from_nanoseconds(0);
