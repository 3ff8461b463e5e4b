//! The tables, the ratios, and whether they may be believed.
//!
//! Each figure is a minimum and a median over rounds: the minimum is nearest to what the code costs, the distance of the
//! two shows the machine's noise. Beyond a bound of noise no verdict is given, only the figures.

mod json;
mod plot;
mod ratio;
mod spread;
mod wanted;

use crate::contestant::Contestant;
use crate::measure::{Round, Times};
use crate::memory::Held;
use crate::workload::Workload;

use spread::{Spread, percentile, percentiles};

/// All rounds, what was held, and those who couldn't take part.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) rounds: Vec<Round>,
    pub(crate) held: Vec<Held>,
    pub(crate) absent: Vec<(Contestant, String)>,
    pub(crate) failures: Vec<(Contestant, Workload, String)>,
}

impl Report {
    /// The tables and the ratios, as text.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![HEAD.to_owned()];
        for workload in Workload::ALL {
            let before = lines.len();
            lines.extend(
                Contestant::ALL
                    .iter()
                    .filter_map(|who| self.row(workload, *who)),
            );
            if lines.len() > before {
                lines.push(String::new());
            }
        }
        lines.extend(LEGEND.iter().map(|line| (*line).to_owned()));
        lines.extend(self.memory());
        lines.push(String::new());
        lines.extend(self.verdicts());
        lines.extend(self.wanted());
        for (who, why) in &self.absent {
            lines.push(format!("{} left out: {why}", who.name()));
        }
        for (who, workload, why) in &self.failures {
            lines.push(format!("{} fails {}: {why}", who.name(), workload.name()));
        }
        lines.join("\n")
    }

    /// Whether tollgate took part and every one of its answers was right.
    pub(crate) fn is_complete(&self) -> bool {
        let ours = [Contestant::TollgateOff, Contestant::TollgateOn];
        let mut measured = self.rounds.iter().filter(|round| ours.contains(&round.who));
        let is_there = self.rounds.is_empty() || measured.clone().count() > 0;
        let failed = self.failures.iter().any(|(who, ..)| ours.contains(who));
        is_there && !failed && measured.all(|round| round.wrong == 0)
    }

    /// Whether this one couldn't do this, so that further rounds needn't try.
    pub(crate) fn has_failed(&self, who: Contestant, workload: Workload) -> bool {
        self.failures
            .iter()
            .any(|(failed, at, _)| *failed == who && *at == workload)
    }

    /// What the direct calls took in the last round.
    pub(crate) fn last_direct(&self, workload: Workload) -> Times {
        let last = self.of(workload, Contestant::Direct).last();
        last.map(|round| round.through.clone()).unwrap_or_default()
    }

    fn row(&self, workload: Workload, who: Contestant) -> Option<String> {
        let cpu = self.spread(workload, who, |round| round.cpu_us);
        let rate = self.spread(workload, who, |round| round.requests_per_second)?;
        let busy = self.spread(workload, who, |round| {
            round.cpu_us * round.requests_per_second / 1e6
        });
        let resident = self.spread(workload, who, |round| round.resident_mib);
        let per_event = cpu
            .zip(workload.events())
            .map(|(cpu, events)| cpu.least / events as f64);
        let latency = |share| self.added(workload, who, |times| &times.latencies, share);
        let first = match workload.events() {
            Some(_) => self.added(workload, who, |times| &times.firsts, 0.5),
            None => None,
        };
        let delay = |share| self.added(workload, who, |times| &times.delays, share);
        let wrong: u64 = self.of(workload, who).map(|round| round.wrong).sum();
        Some(format!(
            "{:<11} {:<14} {:>9} {:>9} {:>8} {:>9} {:>5} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {wrong:>5}",
            workload.name(),
            who.name(),
            figure(cpu.map(|cpu| cpu.least), 1),
            figure(cpu.map(|cpu| cpu.median), 1),
            figure(per_event, 2),
            figure(Some(rate.median), 0),
            figure(busy.map(|busy| busy.median), 2),
            figure(latency(0.5), 0),
            figure(self.added_p99(workload, who), 0),
            figure(latency(0.99), 0),
            figure(latency(0.999), 0),
            figure(first, 0),
            figure(delay(0.5), 0),
            figure(delay(0.99), 0),
            figure(resident.map(|resident| resident.greatest), 0),
        ))
    }

    fn memory(&self) -> Vec<String> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![
            String::new(),
            "memory (MiB)      idle  connections  KiB each      streams  KiB each  5 MB bodies  under load  after"
                .to_owned(),
        ];
        for held in &self.held {
            lines.push(format!(
                "{:<14} {:>7.1} {:>12} {:>9.1} {:>12} {:>9.1} {:>12.2} {:>11.1} {:>6}",
                held.who.name(),
                held.idle,
                held.connections,
                held.connection_kib,
                held.streams,
                held.stream_kib,
                held.body_ratio,
                held.under_load,
                figure(held.after, 1),
            ));
        }
        lines
    }

    fn of(&self, workload: Workload, who: Contestant) -> impl Iterator<Item = &Round> {
        self.rounds
            .iter()
            .filter(move |round| round.workload == workload && round.who == who)
    }

    fn spread(
        &self,
        workload: Workload,
        who: Contestant,
        read: fn(&Round) -> f64,
    ) -> Option<Spread> {
        let values = self.of(workload, who).map(read);
        Spread::of(values.filter(|value| value.is_finite()).collect())
    }

    /// The p99 of a slice of a run, the median of all slices of all rounds: through the contestant, and directly in the same
    /// seconds, at the same rate.
    fn typical_p99(&self, workload: Workload, who: Contestant) -> (Option<f64>, Option<f64>) {
        let typical = |side: fn(&Round) -> &Times| {
            let rounds = self.of(workload, who).map(side);
            let slices =
                rounds.flat_map(|times| percentiles(&times.latencies, &times.slices, 0.99));
            Some(Spread::of(slices.collect())?.median)
        };
        (
            typical(|round| &round.through),
            typical(|round| &round.direct),
        )
    }

    /// The typical p99 less the direct call's.
    fn added_p99(&self, workload: Workload, who: Contestant) -> Option<f64> {
        match self.typical_p99(workload, who) {
            (Some(through), Some(direct)) => Some(through - direct),
            (through, None) => through,
            (None, Some(_)) => None,
        }
    }

    /// A percentile through the contestant less that of the direct call, all rounds together; of the direct call itself
    /// it is what it took.
    fn added(
        &self,
        workload: Workload,
        who: Contestant,
        read: fn(&Times) -> &Vec<u32>,
        share: f64,
    ) -> Option<f64> {
        let of = |side: fn(&Round) -> &Times| {
            self.together(workload, who, |round| read(side(round)), share)
        };
        let through = of(|round| &round.through)?;
        let is_compared = who != Contestant::Direct && workload != Workload::Refused;
        match is_compared {
            true => Some(through - of(|round| &round.direct)?),
            false => Some(through),
        }
    }

    /// A percentile of all rounds together.
    fn together(
        &self,
        workload: Workload,
        who: Contestant,
        read: impl Fn(&Round) -> &Vec<u32>,
        share: f64,
    ) -> Option<f64> {
        let values = self.of(workload, who).flat_map(read).copied();
        percentile(values.collect(), share)
    }
}

fn figure(value: Option<f64>, digits: usize) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:.digits$}"),
        Some(_) | None => "-".to_owned(),
    }
}

const HEAD: &str = "workload    contestant       cpu min   cpu med cpu/evnt     req/s  busy    \
    +p50   +p99~     +p99   +p99.9   +first +evt p50 +evt p99 RSS MiB wrong";
const LEGEND: [&str; 10] = [
    "cpu: microseconds of user and system time a request (closed loop), the least and the median of the rounds; cpu/evnt: of the",
    "least, an event's share. req/s: closed loop, driver and upstream on the same cores. busy: the share of one core that it had then;",
    "well below 1 others set the pace, and req/s is less than it can. +p50 +p99 +p99.9: microseconds added to",
    "the direct call, in an open loop at half of req/s, both in the same seconds; - where too few calls were made for it. Of the",
    "direct call, and of refusals, they are the whole time; of stream-20ms they are over the four seconds that the pauses take.",
    "+p99~: the same of each quarter of a second by itself, the median of all of them: what halts the machine for a moment lies in few",
    "of them, and in +p99 and +p99.9 all of it.",
    "+first: added to the time to the first event (p50). +evt: added to an event's way from the upstream to the caller.",
    "RSS: the greatest under load. Each call bears a new text, and its history was seen before.",
    "Who does what: load-tests/README.md.",
];
