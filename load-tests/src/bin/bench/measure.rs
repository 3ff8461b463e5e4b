//! The rounds: each workload, each contestant, one after another, again and again, so that a slow minute hits all.
//!
//! All contestants are started once and stay; one that isn't called costs nothing. What is compared with the direct call
//! is compared with the direct call of the same second, at the same rate.

use std::time::Duration;

use crate::contestant::{Contestant, Running};
use crate::driver::{Exactness, Outcome, Target, closed, each_once, open};
use crate::report::Report;
use crate::workload::Workload;
use crate::{Arguments, say};

/// One round of one contestant under one workload. Times are in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) who: Contestant,
    pub(crate) workload: Workload,
    pub(crate) cpu_us: f64,
    pub(crate) requests_per_second: f64,
    /// The greatest that was seen under load.
    pub(crate) resident_mib: f64,
    pub(crate) wrong: u64,
    /// At half load through the contestant, and directly at the same rate.
    pub(crate) through: Times,
    pub(crate) direct: Times,
}

/// What callers waited for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    pub(crate) latencies: Vec<u32>,
    /// In which slice of the run each of them was due.
    pub(crate) slices: Vec<u16>,
    pub(crate) firsts: Vec<u32>,
    pub(crate) delays: Vec<u32>,
}

impl Times {
    fn of(outcome: &Outcome) -> Self {
        Self {
            latencies: outcome.latencies.clone(),
            slices: outcome.slices.clone(),
            firsts: outcome.firsts.clone(),
            delays: outcome.delays.clone(),
        }
    }
}

/// What a turn needs to know.
pub(crate) struct Field<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) running: &'a [Running],
}

impl Field<'_> {
    /// All rounds of all.
    pub(crate) async fn compete(&self, report: &mut Report) -> Result<(), String> {
        let rounds = self.arguments.rounds();
        for round in 1..=rounds {
            for workload in self.arguments.workloads() {
                say(&format!("round {round} of {rounds}: {}", workload.name()));
                for running in self.running {
                    if running.who.does(workload) && running.who.plays(round) {
                        self.turn(running, workload, report).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn turn(
        &self,
        running: &Running,
        workload: Workload,
        report: &mut Report,
    ) -> Result<(), String> {
        let who = running.who;
        if report.has_failed(who, workload) {
            return Ok(());
        }
        let target = target(running, workload);
        let connections = workload.connections(self.arguments.connections);
        // Connections, caches and allocators get warm outside of the measurement; a limit gets used up.
        let warm = match workload {
            // A stream with pauses takes seconds, and needs no more than its connections.
            Workload::Paced => each_once(&target, 1).await,
            Workload::Chat
            | Workload::History
            | Workload::Images
            | Workload::Stream
            | Workload::Embeddings
            | Workload::Mix
            | Workload::Refused
            | Workload::CacheHit
            | Workload::CacheMiss => {
                closed(&target, connections, self.arguments.time().min(WARM_UP)).await
            }
        };
        if warm.requests == 0 {
            let complaint = warm.complaint.unwrap_or_default();
            say(&format!("  {}: no right answer: {complaint}", who.name()));
            report.failures.push((who, workload, complaint));
            return Ok(());
        }
        let round = if workload == Workload::Paced {
            self.paced(running, (&target, connections), report).await
        } else {
            self.saturated(running, workload, &target).await?
        };
        report.rounds.push(round);
        Ok(())
    }

    /// At most, closed; then half of that, open; then the same directly.
    async fn saturated(
        &self,
        running: &Running,
        workload: Workload,
        target: &Target,
    ) -> Result<Round, String> {
        let time = self.arguments.time();
        let connections = workload.connections(self.arguments.connections);
        let (busy, cpu_us, resident_mib) =
            watched(running, closed(target, connections, time)).await;
        let rate = busy.requests_per_second() / 2.0;
        let half = open(target, connections, rate, time)
            .await
            .map_err(|error| error.to_string())?;
        let direct = self.direct(running.who, workload);
        let direct = match direct {
            Some(direct) => open(&direct, connections, rate, time)
                .await
                .map_err(|error| error.to_string())?,
            None => Outcome::default(),
        };
        complain(running.who, &[&busy, &half]);
        Ok(Round {
            who: running.who,
            workload,
            cpu_us: cpu_us / busy.requests.max(1) as f64,
            requests_per_second: busy.requests_per_second(),
            resident_mib,
            wrong: busy.wrong + half.wrong,
            through: Times::of(&half),
            direct: Times::of(&direct),
        })
    }

    /// Streams with pauses make their own rate: as many as there are connections, each once. They take four seconds
    /// whoever passes them on, so the direct ones are those of the same round.
    async fn paced(
        &self,
        running: &Running,
        (target, connections): (&Target, usize),
        report: &Report,
    ) -> Round {
        let (through, cpu_us, resident_mib) =
            watched(running, each_once(target, connections)).await;
        let direct = match self.direct(running.who, Workload::Paced) {
            Some(_) => report.last_direct(Workload::Paced),
            None => Times::default(),
        };
        complain(running.who, &[&through]);
        Round {
            who: running.who,
            workload: Workload::Paced,
            cpu_us: cpu_us / through.requests.max(1) as f64,
            requests_per_second: through.requests_per_second(),
            resident_mib,
            wrong: through.wrong,
            through: Times::of(&through),
            direct,
        }
    }

    /// The direct call that a contestant's is compared with: none for the direct one, and none of a refusal, which the
    /// upstream doesn't know.
    fn direct(&self, who: Contestant, workload: Workload) -> Option<Target> {
        let is_compared = who != Contestant::Direct && workload != Workload::Refused;
        let direct = self
            .running
            .iter()
            .find(|one| one.who == Contestant::Direct);
        direct
            .filter(|_| is_compared)
            .map(|direct| target(direct, workload))
    }
}

const WARM_UP: Duration = Duration::from_millis(300);

/// The calls of a workload for a contestant.
pub(crate) fn target(running: &Running, workload: Workload) -> Target {
    let exactness = match workload {
        Workload::Refused => Exactness::Sense,
        Workload::Chat
        | Workload::History
        | Workload::Images
        | Workload::Stream
        | Workload::Paced
        | Workload::Embeddings
        | Workload::Mix
        | Workload::CacheHit
        | Workload::CacheMiss => running.who.exactness(),
    };
    Target {
        address: running.address,
        calls: workload.calls(&running.headers).into(),
        exactness,
    }
}

/// Runs a load; with it the CPU time it cost the contestant, in microseconds, and the most memory it held, in MiB.
pub(crate) async fn watched(
    running: &Running,
    load: impl Future<Output = Outcome>,
) -> (Outcome, f64, f64) {
    let Some(process) = &running.process else {
        return (load.await, f64::NAN, f64::NAN);
    };
    process.forget_peak();
    let before = process.cpu_time();
    let outcome = load.await;
    let cpu_us = process.cpu_time().since_us(&before);
    (outcome, cpu_us, process.peak_kib() as f64 / 1024.0)
}

fn complain(who: Contestant, outcomes: &[&Outcome]) {
    for complaint in outcomes
        .iter()
        .filter_map(|outcome| outcome.complaint.as_ref())
    {
        say(&format!("  {}: wrong answer: {complaint}", who.name()));
    }
}
