//! Everything, for a program to read.

use serde_json::{Value, json};

use crate::measure::{Round, Times};
use crate::memory::Held;
use crate::report::Report;
use crate::report::ratio::{PAIRS, goal};
use crate::report::spread::{Spread, percentile, percentiles};
use crate::workload::Workload;

impl Report {
    /// Every round with its percentiles, every ratio, what was held, and who was left out.
    pub(crate) fn json(&self, occasion: &str, settings: &Value) -> Value {
        let rounds: Vec<Value> = self.rounds.iter().map(round).collect();
        let held: Vec<Value> = self.held.iter().map(held).collect();
        let absent: Vec<Value> = self
            .absent
            .iter()
            .map(|(who, why)| json!([who.name(), why]))
            .collect();
        let failures: Vec<Value> = self
            .failures
            .iter()
            .map(|(who, workload, why)| json!([who.name(), workload.name(), why]))
            .collect();
        json!({"occasion": occasion, "settings": settings, "wanted": self.wanted(), "ratios": self.ratios(), "absent": absent, "failures": failures, "held": held,
            "rounds": rounds})
    }

    fn ratios(&self) -> Vec<Value> {
        let mut out = Vec::new();
        for workload in Workload::ALL {
            for (ours, theirs) in PAIRS {
                let Some(ratio) = self.ratio(workload, ours, theirs) else {
                    continue;
                };
                out.push(json!({"workload": workload.name(), "ours": ours.name(), "theirs": theirs.name(),
                    "cpu_ratio": ratio.value, "within_a_round": [ratio.within.0, ratio.within.1],
                    "noise": ratio.noise, "quiet": ratio.is_quiet(), "goal": goal(workload, ours, theirs)}));
            }
        }
        out
    }
}

fn round(round: &Round) -> Value {
    json!({"contestant": round.who.name(), "workload": round.workload.name(), "cpu_us": round.cpu_us,
        "requests_per_second": round.requests_per_second, "resident_mib": round.resident_mib, "wrong": round.wrong,
        "through": times(&round.through), "direct": times(&round.direct)})
}

fn times(times: &Times) -> Value {
    let shares = |values: &Vec<u32>| {
        let at = |share| percentile(values.clone(), share);
        json!({"count": values.len(), "p50_us": at(0.5), "p99_us": at(0.99), "p99.9_us": at(0.999)})
    };
    let typical = Spread::of(percentiles(&times.latencies, &times.slices, 0.99));
    json!({"latency": shares(&times.latencies), "latency_p99_us_of_a_quarter_second": typical.map(|typical| typical.median), "first": shares(&times.firsts), "event": shares(&times.delays)})
}

fn held(held: &Held) -> Value {
    json!({"contestant": held.who.name(), "idle_mib": held.idle, "connections": held.connections,
        "connection_kib": held.connection_kib, "streams": held.streams, "stream_kib": held.stream_kib,
        "body_ratio": held.body_ratio, "under_load_mib": held.under_load, "after_mib": held.after})
}
