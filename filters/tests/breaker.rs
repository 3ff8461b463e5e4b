//! Promises of the circuit breaker, whatever the outcomes and times are.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use filters::breaker::{
    Admission, Cell, Condition, FailureReasons, Failures, News, PROBE_NANOSECONDS, Rule, RuleError,
    State, Transition, TripReason,
};
use filters::outcome::{Credential, FailureReason, Outcome};
use filters::status::StatusRanges;
use filters::time::Time;
use proptest::prelude::*;
use proptest::sample::Index;

const SECOND: u64 = 1_000_000_000;
const INTERVAL: u64 = 60 * SECOND;
const TRIP: u64 = 20 * SECOND;
const CAP: u64 = 600 * SECOND;

const OK: Outcome = answered(200);
const DOWN: Outcome = answered(500);

const fn answered(status: u16) -> Outcome {
    Outcome::Answered { status, wait: None }
}

const fn throttled(wait_ms: u64) -> Outcome {
    let wait = Some(Duration::from_millis(wait_ms));
    Outcome::Answered { status: 429, wait }
}

fn failures() -> Failures {
    Failures {
        statuses: StatusRanges::new([429..=429, 500..=599]).unwrap(),
        reasons: FailureReasons::new([FailureReason::Connect, FailureReason::Timeout]),
    }
}

fn rule_of(condition: Condition, cap: Option<u64>) -> Rule {
    let span = Duration::from_nanos;
    let cap = cap.map(span);
    Rule::new(condition, span(INTERVAL), failures(), span(TRIP), cap).unwrap()
}

fn rule(count: u32) -> Rule {
    rule_of(Condition::Count(count), Some(CAP))
}

fn at(nanoseconds: u64) -> Time {
    Time::from_nanoseconds(nanoseconds)
}

/// A cell that opened at one second for `wait_ms`.
fn tripped(rule: &Rule, wait_ms: u64) -> (Cell, Time) {
    let mut cell = Cell::default();
    assert_eq!(cell.admit(at(SECOND)), Admission::Closed);
    let transition = cell.record(rule, &throttled(wait_ms), at(SECOND), at(SECOND));
    let Some(Transition::Tripped { until, reason }) = transition else {
        panic!("{transition:?}");
    };
    assert_eq!(reason, TripReason::Throttled);
    (cell, until)
}

#[test]
fn it_is_refused_a_tick_before_the_trip_ends_and_probed_at_it() {
    let (mut cell, until) = tripped(&rule(1), 1_500);
    assert_eq!(until, at(SECOND + 1_500_000_000));
    let before = at(until.as_nanoseconds() - 1);
    assert_eq!(cell.admit(before), Admission::Refused { until });
    let reason = TripReason::Throttled;
    assert_eq!(cell.state(before), State::Open { until, reason });
    assert_eq!(cell.refuses_until(), until);
    assert_eq!(cell.state(until), State::HalfOpen { reason });
    assert_eq!(cell.admit(until), Admission::Probe);
    assert!(matches!(cell.admit(until), Admission::Refused { .. }));
}

#[test]
fn a_served_probe_closes_and_a_failed_one_opens_again() {
    let rule = rule(3);
    for (outcome, closes) in [(OK, true), (DOWN, false)] {
        let mut cell = Cell::default();
        for _ in 0..3 {
            cell.record(&rule, &DOWN, at(1), at(1));
        }
        let probe = at(1 + TRIP);
        assert_eq!(cell.admit(probe), Admission::Probe);
        let now = at(probe.as_nanoseconds() + 5);
        let transition = cell.record(&rule, &outcome, probe, now);
        if closes {
            assert_eq!(transition, Some(Transition::Closed));
            assert_eq!(cell.admit(now), Admission::Closed);
            assert_eq!(cell.record(&rule, &DOWN, now, now), None, "counts anew");
        } else {
            let until = now.plus_nanoseconds(TRIP);
            let reason = TripReason::Status;
            assert_eq!(transition, Some(Transition::Tripped { reason, until }));
        }
    }
}

#[test]
fn the_wait_is_believed_where_accepted_and_up_to_the_cap() {
    let day = 86_400_000;
    let (_, until) = tripped(&rule(1), day);
    assert_eq!(until, at(SECOND + CAP));
    let (_, until) = tripped(&rule_of(Condition::Count(1), None), 5_000);
    assert_eq!(until, at(SECOND + TRIP));
}

#[test]
fn late_answers_neither_extend_nor_close_nor_count_twice() {
    let rule = rule(1);
    let (mut cell, until) = tripped(&rule, 5_000);
    for outcome in [OK, DOWN, throttled(60_000)] {
        assert_eq!(
            cell.record(&rule, &outcome, at(SECOND), at(2 * SECOND)),
            None
        );
    }
    assert_eq!(cell.refuses_until(), until);
    assert_eq!(cell.admit(until), Admission::Probe);
    assert_eq!(cell.record(&rule, &DOWN, at(SECOND), until), None);
    assert_eq!(
        cell.record(&rule, &OK, until, until),
        Some(Transition::Closed)
    );
    assert_eq!(cell.record(&rule, &DOWN, at(SECOND), until), None);
    assert_eq!(cell.state(until), State::Closed);
}

#[test]
fn a_lost_probe_is_given_up_and_its_late_answer_still_closes() {
    let rule = rule(1);
    let (mut cell, first) = tripped(&rule, 5_000);
    assert_eq!(cell.admit(first), Admission::Probe);
    let second = first.plus_nanoseconds(PROBE_NANOSECONDS);
    let before = at(second.as_nanoseconds() - 1);
    assert_eq!(cell.admit(before), Admission::Refused { until: second });
    assert_eq!(cell.admit(second), Admission::Probe);
    let transition = cell.record(&rule, &OK, first, second);
    assert_eq!(transition, Some(Transition::Closed));
}

#[test]
fn no_verdict_releases_the_probe_and_nothing_else() {
    let rule = rule(1);
    let (mut cell, until) = tripped(&rule, 5_000);
    let unlisted = Outcome::Failed(FailureReason::Reset);
    for outcome in [
        Outcome::NoVerdict,
        Outcome::Stale,
        Outcome::CallersFault,
        unlisted,
    ] {
        assert_eq!(cell.admit(until), Admission::Probe, "{outcome:?}");
        assert!(matches!(cell.admit(until), Admission::Refused { .. }));
        assert_eq!(cell.record(&rule, &outcome, until, until), None);
    }
    assert!(matches!(cell.state(until), State::HalfOpen { .. }));
}

#[test]
fn the_callers_fault_never_trips_whatever_the_ranges_say() {
    let failures = Failures {
        statuses: StatusRanges::new(std::iter::once(200..=599)).unwrap(),
        reasons: FailureReasons::default(),
    };
    let span = Duration::from_secs(60);
    let rule = Rule::new(Condition::Count(1), span, failures, span, None).unwrap();
    let mut cell = Cell::default();
    for status in [400, 401, 403, 404, 413] {
        let outcome = Outcome::of_answer(status, None, Credential::Caller);
        assert_eq!(cell.record(&rule, &outcome, at(1), at(1)), None, "{status}");
    }
}

#[test]
fn a_stream_that_begins_badly_counts_as_its_error_or_as_a_reset() {
    let reset = Failures {
        reasons: FailureReasons::new([FailureReason::Reset]),
        ..failures()
    };
    let span = Duration::from_secs(20);
    let rule = Rule::new(Condition::Count(1), span, reset, span, None).unwrap();
    let error = |status| Outcome::of_error_event(status, None, Credential::Gateway);
    for (outcome, reason) in [
        (error(500), TripReason::Status),
        (error(429), TripReason::Throttled),
        (Outcome::EmptyStream, TripReason::Reset),
    ] {
        let transition = Cell::default().record(&rule, &outcome, at(1), at(1));
        let until = at(1 + TRIP);
        assert_eq!(transition, Some(Transition::Tripped { reason, until }));
    }
    let callers = Cell::default().record(&rule, &error(400), at(1), at(1));
    assert_eq!(callers, None);
}

#[test]
fn a_credential_trips_when_refused_in_a_row_and_not_while_it_serves() {
    let rule = rule(100);
    let refused = Outcome::of_answer(401, None, Credential::Gateway);
    let mut cell = Cell::default();
    for _ in 0..50 {
        assert_eq!(cell.record(&rule, &refused, at(1), at(1)), None);
        assert_eq!(cell.record(&rule, &refused, at(1), at(1)), None);
        assert_eq!(cell.record(&rule, &OK, at(1), at(1)), None);
    }
    cell.record(&rule, &refused, at(1), at(1));
    cell.record(&rule, &refused, at(1), at(1));
    let transition = cell.record(&rule, &refused, at(1), at(1));
    let (reason, until) = (TripReason::Credential, at(1 + TRIP));
    assert_eq!(transition, Some(Transition::Tripped { reason, until }));
}

#[test]
fn a_percentage_waits_for_its_minimum_of_requests() {
    let condition = Condition::Percentage {
        percentage: 50,
        minimum_requests: 20,
    };
    let rule = rule_of(condition, None);
    let mut cell = Cell::default();
    for call in 1..=19 {
        let outcome = if call % 2 == 0 { OK } else { DOWN };
        assert_eq!(cell.record(&rule, &outcome, at(1), at(1)), None, "{call}");
    }
    assert!(cell.record(&rule, &DOWN, at(1), at(1)).is_some());
    let mut healthy = Cell::default();
    for call in 1..=1_000 {
        let outcome = if call % 5 < 3 { OK } else { DOWN };
        assert_eq!(
            healthy.record(&rule, &outcome, at(1), at(1)),
            None,
            "{call}"
        );
    }
}

#[test]
fn failures_are_forgotten_after_the_interval() {
    let rule = rule(3);
    let mut cell = Cell::default();
    for call in 0..100 {
        let now = at(call * INTERVAL / 2);
        assert_eq!(cell.record(&rule, &DOWN, now, now), None, "{call}");
    }
}

#[test]
fn news_is_a_hint_and_own_evidence_wins_over_it() {
    let rule = rule(3);
    let news = |tripped_at| News {
        tripped_at: at(tripped_at),
        until: at(10 * SECOND),
        reason: TripReason::Throttled,
    };
    let mut cell = Cell::default();
    cell.record(&rule, &OK, at(5), at(9));
    assert_eq!(
        cell.hear(&rule, news(5), at(9)),
        None,
        "older than it serves"
    );
    assert_eq!(cell.hear(&rule, news(6), at(10 * SECOND)), None, "over");
    let (reason, until) = (TripReason::Throttled, at(10 * SECOND));
    let transition = Some(Transition::Tripped { reason, until });
    assert_eq!(cell.hear(&rule, news(6), at(9)), transition);
    assert_eq!(cell.hear(&rule, news(7), at(9)), None, "open already");
    assert_eq!(cell.admit(until), Admission::Probe);
    let probed = News {
        until: at(20 * SECOND),
        ..news(10 * SECOND)
    };
    assert_eq!(
        cell.hear(&rule, probed, until),
        None,
        "its own probe decides"
    );
    cell.record(&rule, &OK, until, until);
    assert_eq!(cell.hear(&rule, news(8), until), None, "closed since");
}

fn news_of(reason: TripReason, tripped_at: u64, until: u64) -> News {
    News {
        tripped_at: at(tripped_at),
        until: at(until),
        reason,
    }
}

#[test]
fn a_replica_that_starts_hears_of_a_trip_from_before_its_clock_began() {
    let mut cell = Cell::default();
    let news = news_of(TripReason::Throttled, 0, SECOND);
    assert!(cell.hear(&rule(3), news, at(1)).is_some());
    assert_eq!(cell.refuses_until(), at(SECOND));
}

#[test]
fn what_is_heard_lasts_no_longer_than_a_trip_of_its_own_could() {
    let mut cell = Cell::default();
    let news = news_of(TripReason::Throttled, 5, u64::MAX);
    cell.hear(&rule(3), news, at(9));
    assert_eq!(cell.refuses_until(), at(9).plus_nanoseconds(CAP));
}

#[test]
fn one_replicas_probe_that_fails_spares_the_others_theirs() {
    let rule = rule(1);
    let mut cell = Cell::default();
    cell.hear(&rule, news_of(TripReason::Throttled, 5, SECOND), at(9));
    let earlier = news_of(TripReason::Throttled, SECOND - 1, 3 * SECOND);
    assert_eq!(cell.hear(&rule, earlier, at(2 * SECOND)), None);
    let probed = news_of(TripReason::Throttled, SECOND, 3 * SECOND);
    assert!(cell.hear(&rule, probed, at(2 * SECOND)).is_some());
    assert_eq!(cell.refuses_until(), at(3 * SECOND));
}

#[test]
fn a_replica_that_is_cut_off_takes_no_backend_from_those_that_it_serves() {
    let rule = rule(1);
    let lately = 30 * SECOND;
    for reason in TripReason::ALL {
        let hears = |tripped_at: u64| {
            let mut cell = Cell::default();
            cell.record(&rule, &OK, at(5), at(9));
            let news = news_of(reason, tripped_at, tripped_at + SECOND);
            cell.hear(&rule, news, at(tripped_at)).is_some()
        };
        let found = (hears(6), hears(lately + 5), hears(lately + 6));
        let expected = match reason {
            TripReason::Throttled | TripReason::Status => (true, true, true),
            TripReason::Connect | TripReason::Timeout | TripReason::Reset => (false, false, true),
            TripReason::Credential => (false, false, false),
        };
        assert_eq!(found, expected, "{reason:?}");
    }
}

#[test]
fn a_rule_that_makes_no_sense_is_refused() {
    let span = Duration::from_secs(1);
    let make = |condition, interval, failures| Rule::new(condition, interval, failures, span, None);
    let one = Condition::Count(1);
    let percentage = |percentage, minimum_requests| Condition::Percentage {
        percentage,
        minimum_requests,
    };
    let nothing = Failures {
        statuses: StatusRanges::new([]).unwrap(),
        reasons: FailureReasons::default(),
    };
    for (found, error) in [
        (
            make(Condition::Count(0), span, failures()),
            RuleError::Count(0),
        ),
        (
            make(percentage(101, 1), span, failures()),
            RuleError::Percentage(101),
        ),
        (
            make(percentage(50, 0), span, failures()),
            RuleError::MinimumRequests,
        ),
        (
            make(one, Duration::ZERO, failures()),
            RuleError::Span(Duration::ZERO),
        ),
        (make(one, span, nothing), RuleError::NothingFails),
    ] {
        assert_eq!(found, Err(error));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    /// To the tick before, at, or after the moment when a refusal ends.
    PassToEnd(u64),
    Ask,
    Answer(Index, Outcome),
    Hear {
        age: u64,
        lasts: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        4 => Just(DOWN),
        3 => (0_u64..1_000_000).prop_map(throttled),
        3 => Just(OK),
        1 => Just(Outcome::Failed(FailureReason::Connect)),
        1 => Just(Outcome::Failed(FailureReason::Reset)),
        1 => Just(Outcome::CredentialRefused),
        1 => Just(Outcome::CallersFault),
        1 => Just(Outcome::Stale),
        1 => Just(Outcome::NoVerdict),
    ];
    let step = prop_oneof![
        1 => (0..2 * TRIP).prop_map(Step::Pass),
        1 => (0_u64..3).prop_map(Step::PassToEnd),
        5 => Just(Step::Ask),
        5 => (any::<Index>(), outcome).prop_map(|(index, outcome)| Step::Answer(index, outcome)),
        1 => (0..3 * TRIP, 0..2 * CAP).prop_map(|(age, lasts)| Step::Hear { age, lasts }),
    ];
    prop::collection::vec(step, 1..400)
}

/// What an outsider knows of the breaker from what it was told.
#[derive(Default)]
struct Watcher {
    now: u64,
    /// When the requests were sent that haven't been answered.
    in_flight: Vec<Time>,
    /// Until when it said that it would refuse.
    open_until: Option<Time>,
    /// The last probe that wasn't answered.
    probe: Option<Time>,
    /// Whether a probe went since it opened.
    was_probed: bool,
    /// Since when answers count: the last transition.
    epoch: u64,
}

impl Watcher {
    fn ask(&mut self, cell: &mut Cell) {
        let now = at(self.now);
        let word = cell.refuses_until();
        match (cell.admit(now), self.open_until) {
            (Admission::Closed, None) => assert_eq!(word, at(0)),
            (Admission::Refused { until }, Some(open_until)) => {
                assert!(now < until && until == word);
                assert!(until == open_until || self.probe.is_some());
                return;
            }
            (Admission::Probe, Some(open_until)) => {
                assert!(open_until <= now && word <= now);
                if let Some(other) = self.probe {
                    assert!(
                        PROBE_NANOSECONDS <= now.nanoseconds_since(other),
                        "two probes"
                    );
                }
                self.probe = Some(now);
                self.was_probed = true;
            }
            (admission, open_until) => panic!("{admission:?} with {open_until:?}"),
        }
        self.in_flight.push(now);
    }

    fn answer(&mut self, cell: &mut Cell, rule: &Rule, sent_at: Time, outcome: &Outcome) {
        let before = cell.clone();
        let transition = cell.record(rule, outcome, sent_at, at(self.now));
        let is_open = self.open_until.is_some();
        if sent_at < at(self.epoch) || (is_open && !self.was_probed) {
            assert_eq!(*cell, before, "a late answer changed something");
        }
        if self.probe == Some(sent_at) {
            self.probe = None;
        }
        if transition == Some(Transition::Closed) {
            assert!(is_open && self.was_probed && *outcome == OK);
        }
        self.see(transition);
    }

    fn see(&mut self, transition: Option<Transition>) {
        let now = at(self.now);
        match transition {
            None => return,
            Some(Transition::Closed) => self.open_until = None,
            Some(Transition::Tripped { until, .. }) => {
                assert!(now < until && until <= now.plus_nanoseconds(CAP));
                self.open_until = Some(until);
            }
        }
        self.probe = None;
        self.was_probed = false;
        self.epoch = self.now;
    }
}

proptest! {
    #[test]
    fn any_outcomes_at_any_times_keep_its_promises(count in 1_u32..5, steps in steps()) {
        let rule = rule(count);
        let mut cell = Cell::default();
        let mut watcher = Watcher { now: SECOND, ..Watcher::default() };
        for step in steps {
            match step {
                Step::Pass(nanoseconds) => watcher.now += nanoseconds,
                Step::PassToEnd(ticks) => {
                    let end = cell.refuses_until().as_nanoseconds();
                    watcher.now = watcher.now.max((end + ticks).saturating_sub(1));
                }
                Step::Ask => watcher.ask(&mut cell),
                Step::Answer(index, outcome) if !watcher.in_flight.is_empty() => {
                    let place = index.index(watcher.in_flight.len());
                    let sent_at = watcher.in_flight.swap_remove(place);
                    watcher.answer(&mut cell, &rule, sent_at, &outcome);
                }
                Step::Answer(..) => {}
                Step::Hear { age, lasts } => {
                    let news = News {
                        tripped_at: at(watcher.now.saturating_sub(age)),
                        until: at(watcher.now + lasts),
                        reason: TripReason::Status,
                    };
                    let transition = cell.hear(&rule, news, at(watcher.now));
                    watcher.see(transition);
                }
            }
            // Whatever happened, it comes back by itself.
            let end = cell.refuses_until();
            prop_assert!(end <= at(watcher.now).plus_nanoseconds(CAP));
            let later = cell.clone().admit(end.max(at(watcher.now)));
            let refuses = matches!(later, Admission::Refused { .. });
            prop_assert!(!refuses);
        }
    }
}
