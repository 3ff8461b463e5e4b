//! The table, the ratios, and whether they may be believed.
//!
//! Each figure is a minimum and a median over rounds: the minimum is nearest to what the code costs, the distance of the
//! two shows the machine's noise. Beyond a bound of noise no verdict is given, only the figures.

use serde_json::{Value, json};

use crate::contestant::Contestant;
use crate::workload::Workload;

/// One round of one contestant under one workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) who: Contestant,
    pub(crate) workload: Workload,
    pub(crate) cpu_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) resident_mib: f64,
    pub(crate) wrong: u64,
}

/// All rounds, and those who couldn't take part.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) rounds: Vec<Round>,
    pub(crate) absent: Vec<(Contestant, String)>,
}

/// Least, median and greatest of a figure.
#[derive(Clone, Copy, Debug)]
struct Spread {
    least: f64,
    median: f64,
    greatest: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        Some(Self {
            least,
            median: *values.get(values.len() / 2)?,
            greatest,
        })
    }

    /// How far apart the rounds are, as a share of the least.
    fn noise(self) -> f64 {
        (self.greatest - self.least) / self.least.max(f64::EPSILON)
    }
}

/// More than this between the rounds of one contestant, and a ratio says nothing.
const MAX_NOISE: f64 = 0.25;

impl Report {
    /// The table and the ratios, as text.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![format!(
            "{:<11} {:<13} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6}",
            "workload",
            "contestant",
            "cpu min",
            "cpu med",
            "+p50",
            "+p99",
            "req/s",
            "RSS MiB",
            "wrong"
        )];
        for workload in Workload::ALL {
            for who in Contestant::ALL {
                lines.push(self.row(workload, who));
            }
        }
        lines.push("cpu: microseconds of user and system time a request. +p50, +p99: microseconds added to the".to_owned());
        lines.push(
            "direct call of the same round, over one connection (medians of the rounds)."
                .to_owned(),
        );
        lines.push(String::new());
        for workload in Workload::ALL {
            for other in [Contestant::BarePingora, Contestant::Nginx] {
                lines.push(self.verdict(workload, other));
            }
        }
        lines.join("\n")
    }

    /// Everything, for a program to read.
    pub(crate) fn json(&self, settings: &Value) -> Value {
        let round = |round: &Round| {
            json!({"contestant": round.who.name(), "workload": round.workload.name(), "cpu_us": round.cpu_us,
                "p50_us": round.p50_us, "p99_us": round.p99_us, "requests_per_second": round.requests_per_second,
                "resident_mib": round.resident_mib, "wrong": round.wrong})
        };
        let rounds: Vec<Value> = self.rounds.iter().map(round).collect();
        let absent: Vec<Value> = self
            .absent
            .iter()
            .map(|(who, why)| json!([who.name(), why]))
            .collect();
        let ratio = |workload: Workload, other: Contestant| {
            let ratio = self.ratio(workload, other);
            json!({"workload": workload.name(), "tollgate_to": other.name(), "cpu_ratio": ratio.map(|ratio| ratio.0),
                "noise": ratio.map(|ratio| ratio.1), "verdict": ratio.map(|ratio| ratio.1 <= MAX_NOISE)})
        };
        let others = [Contestant::BarePingora, Contestant::Nginx];
        let ratios: Vec<Value> = Workload::ALL
            .iter()
            .flat_map(|workload| others.map(|other| ratio(*workload, other)))
            .collect();
        json!({"settings": settings, "ratios": ratios, "absent": absent, "rounds": rounds})
    }

    /// Whether tollgate took part and every answer of everyone was right.
    pub(crate) fn is_complete(&self) -> bool {
        let measured = self
            .rounds
            .iter()
            .any(|round| round.who == Contestant::Tollgate);
        measured && self.rounds.iter().all(|round| round.wrong == 0)
    }

    fn row(&self, workload: Workload, who: Contestant) -> String {
        let (name, kind) = (who.name(), workload.name());
        if let Some((_, why)) = self.absent.iter().find(|(absent, _)| *absent == who) {
            return format!("{kind:<11} {name:<13} {why}");
        }
        let figure = |read: fn(&Round) -> f64| {
            self.spread(workload, who, read)
                .map_or(f64::NAN, |spread| spread.median)
        };
        let least = self
            .spread(workload, who, |round| round.cpu_us)
            .map_or(f64::NAN, |spread| spread.least);
        let added = |read: fn(&Round) -> f64| self.added(workload, who, read);
        let wrong: u64 = self.of(workload, who).map(|round| round.wrong).sum();
        format!(
            "{kind:<11} {name:<13} {least:>9.1} {:>9.1} {:>9.0} {:>9.0} {:>9.0} {:>9.1} {wrong:>6}",
            figure(|round| round.cpu_us),
            added(|round| round.p50_us),
            added(|round| round.p99_us),
            figure(|round| round.requests_per_second),
            figure(|round| round.resident_mib),
        )
    }

    fn verdict(&self, workload: Workload, other: Contestant) -> String {
        let name = workload.name();
        let pair = format!("{name}: tollgate / {}", other.name());
        match self.ratio(workload, other) {
            None => format!("{pair}: not measured"),
            Some((ratio, noise)) if noise > MAX_NOISE => format!(
                "{pair}: {ratio:.2} of its CPU time, but the rounds lie {:.0}% apart: no verdict",
                noise * 100.0
            ),
            Some((ratio, noise)) => {
                format!(
                    "{pair}: {ratio:.2} of its CPU time (rounds lie {:.0}% apart)",
                    noise * 100.0
                )
            }
        }
    }

    /// The ratio of the minima, and the greater noise of the two.
    fn ratio(&self, workload: Workload, other: Contestant) -> Option<(f64, f64)> {
        let ours = self.spread(workload, Contestant::Tollgate, |round| round.cpu_us)?;
        let theirs = self.spread(workload, other, |round| round.cpu_us)?;
        Some((
            ours.least / theirs.least.max(f64::EPSILON),
            ours.noise().max(theirs.noise()),
        ))
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
        Spread::of(
            self.of(workload, who)
                .map(read)
                .filter(|value| value.is_finite())
                .collect(),
        )
    }

    fn added(&self, workload: Workload, who: Contestant, read: fn(&Round) -> f64) -> f64 {
        let direct = self.of(workload, Contestant::Direct).map(read);
        let differences = self
            .of(workload, who)
            .map(read)
            .zip(direct)
            .map(|(ours, direct)| ours - direct)
            .collect();
        Spread::of(differences).map_or(f64::NAN, |spread| spread.median)
    }
}
