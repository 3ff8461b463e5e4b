//! Ours to theirs, and whether it is what the project wants. Where the rounds lie too far apart, no verdict.

use crate::contestant::Contestant;
use crate::report::Report;
use crate::report::spread::Spread;
use crate::workload::Workload;

/// A ratio of CPU times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio {
    /// Of the least of each.
    pub(super) value: f64,
    /// Least and greatest of the ratios within one round.
    pub(super) within: (f64, f64),
    /// How far the rounds of the noisier of the two lie apart.
    pub(super) noise: f64,
}

/// More than this between the rounds of one contestant, and a ratio says nothing.
pub(super) const MAX_NOISE: f64 = 0.25;

impl Ratio {
    /// One round shows no noise, so it allows no verdict.
    pub(super) fn is_quiet(self) -> bool {
        self.noise <= MAX_NOISE
    }
}

impl Report {
    pub(super) fn verdicts(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for workload in Workload::ALL {
            for (ours, theirs) in PAIRS {
                if let Some(ratio) = self.ratio(workload, ours, theirs) {
                    lines.push(verdict(workload, (ours, theirs), ratio));
                }
            }
        }
        if !lines.is_empty() {
            lines.insert(0, "CPU time, ours to theirs:".to_owned());
        }
        lines
    }

    pub(super) fn ratio(
        &self,
        workload: Workload,
        ours: Contestant,
        theirs: Contestant,
    ) -> Option<Ratio> {
        let spread = |who| self.spread(workload, who, |round| round.cpu_us);
        let (our_spread, their_spread) = (spread(ours)?, spread(theirs)?);
        let within = self
            .of(workload, ours)
            .zip(self.of(workload, theirs))
            .map(|(ours, theirs)| ours.cpu_us / theirs.cpu_us.max(f64::EPSILON))
            .collect();
        let within = Spread::of(within)?;
        let rounds = self.of(workload, ours).count();
        Some(Ratio {
            value: our_spread.least / their_spread.least.max(f64::EPSILON),
            within: (within.least, within.greatest),
            noise: match rounds {
                0 | 1 => f64::INFINITY,
                _ => our_spread.noise().max(their_spread.noise()),
            },
        })
    }
}

fn verdict(workload: Workload, (ours, theirs): (Contestant, Contestant), ratio: Ratio) -> String {
    let (least, greatest) = ratio.within;
    let figures = format!(
        "{:<11} {:<14} / {:<12} {:>7.3}  ({least:.3} to {greatest:.3} within a round)",
        workload.name(),
        ours.name(),
        theirs.name(),
        ratio.value
    );
    let goal = goal(workload, ours, theirs);
    let wanted = goal.map_or_else(String::new, |goal| format!("; wanted: at most {goal}"));
    if ratio.noise.is_infinite() {
        return format!("{figures}{wanted}; one round only: no verdict");
    }
    let apart = ratio.noise * 100.0;
    if !ratio.is_quiet() {
        return format!("{figures}{wanted}; rounds lie {apart:.0}% apart: no verdict");
    }
    match goal {
        Some(goal) if ratio.value <= goal => format!("{figures}{wanted}: reached"),
        Some(_) => format!("{figures}{wanted}: missed"),
        None => format!("{figures}; rounds lie {apart:.0}% apart"),
    }
}

/// What the project wants to reach, where it has said so.
pub(super) fn goal(workload: Workload, ours: Contestant, theirs: Contestant) -> Option<f64> {
    GOALS
        .iter()
        .find(|(at, our, their, _)| *at == workload && *our == ours && *their == theirs)
        .map(|(.., goal)| *goal)
}

/// Who is compared with whom.
pub(super) const PAIRS: [(Contestant, Contestant); 7] = [
    (Contestant::TollgateOff, Contestant::BarePingora),
    (Contestant::TollgateOn, Contestant::BarePingora),
    (Contestant::TollgateOn, Contestant::Nginx),
    (Contestant::TollgateOn, Contestant::Envoy),
    (Contestant::TollgateOn, Contestant::Portkey),
    (Contestant::TollgateOn, Contestant::LiteLlm),
    (Contestant::TollgateCache, Contestant::TollgateOn),
];

const GOALS: [(Workload, Contestant, Contestant, f64); 7] = [
    (
        Workload::Chat,
        Contestant::TollgateOff,
        Contestant::BarePingora,
        0.85,
    ),
    (
        Workload::Chat,
        Contestant::TollgateOn,
        Contestant::BarePingora,
        1.0,
    ),
    (
        Workload::Chat,
        Contestant::TollgateOn,
        Contestant::Nginx,
        3.0,
    ),
    (
        Workload::Chat,
        Contestant::TollgateOn,
        Contestant::Envoy,
        0.75,
    ),
    (
        Workload::Chat,
        Contestant::TollgateOn,
        Contestant::Portkey,
        0.033,
    ),
    (
        Workload::Chat,
        Contestant::TollgateOn,
        Contestant::LiteLlm,
        0.01,
    ),
    (
        Workload::Paced,
        Contestant::TollgateOn,
        Contestant::BarePingora,
        0.7,
    ),
];
