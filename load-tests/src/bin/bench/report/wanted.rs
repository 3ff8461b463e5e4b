//! What the project wants of memory and latency, and whether it was reached. Ratios of CPU time are in `ratio`.
//!
//! Memory hardly depends on what else the machine does. Latency does: where the direct call itself was slow, no verdict.

use crate::contestant::Contestant;
use crate::measure::Times;
use crate::report::Report;
use crate::workload::Workload;

/// Of `tollgate-on`.
const US: Contestant = Contestant::TollgateOn;
const STREAM_KIB: f64 = 50.0;
const CONNECTION_KIB: f64 = 30.0;
const BODY_RATIO: f64 = 1.2;
const AFTER_RATIO: f64 = 1.3;
const MEDIAN_US: f64 = 150.0;
const P99_US: f64 = 1000.0;

impl Report {
    pub(super) fn wanted(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(held) = self.held.iter().find(|held| held.who == US) {
            let after = held.after.map(|after| after / held.idle);
            let figures = [
                ("KiB for an open stream", Some(held.stream_kib), STREAM_KIB),
                (
                    "KiB for an idle connection",
                    Some(held.connection_kib),
                    CONNECTION_KIB,
                ),
                (
                    "memory to bodies of 5 MB in flight",
                    Some(held.body_ratio),
                    BODY_RATIO,
                ),
                ("memory after a burst to idle", after, AFTER_RATIO),
            ];
            for (what, found, most) in figures {
                if let Some(found) = found {
                    lines.push(verdict(what, found, most, true));
                }
            }
        }
        let chat = Workload::Chat;
        let medians = (
            self.together(chat, US, |round| &round.through.latencies, 0.5),
            self.together(chat, US, |round| &round.direct.latencies, 0.5),
        );
        for (what, (through, direct), most) in [
            (
                "us added to a 2 KB chat at half load, p50",
                medians,
                MEDIAN_US,
            ),
            (
                "us added to a 2 KB chat at half load, p99 of a quarter second",
                self.typical_p99(chat, US),
                P99_US,
            ),
        ] {
            if let (Some(through), Some(direct)) = (through, direct) {
                lines.push(verdict(what, through - direct, most, direct <= most));
            }
        }
        let first = |who| self.added(Workload::Stream, who, firsts, 0.5);
        if let (Some(ours), Some(bare)) = (first(US), first(Contestant::BarePingora)) {
            let what = "us added to a stream's first event, p50, beside a bare proxy's";
            lines.push(verdict(what, ours, bare, true));
        }
        if !lines.is_empty() {
            lines.insert(0, format!("{}:", US.name()));
        }
        lines
    }
}

fn firsts(times: &Times) -> &Vec<u32> {
    &times.firsts
}

fn verdict(what: &str, found: f64, most: f64, is_quiet: bool) -> String {
    let figures = format!("{what:<66} {found:>8.2}; wanted: at most {most:.2}");
    match (is_quiet, found <= most) {
        (false, _) => format!("{figures}; the direct call took as long: no verdict"),
        (true, true) => format!("{figures}: reached"),
        (true, false) => format!("{figures}: missed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_direct_call_allows_no_verdict() {
        assert!(verdict("x", 1.0, 2.0, true).ends_with(": reached"));
        assert!(verdict("x", 3.0, 2.0, true).ends_with(": missed"));
        assert!(verdict("x", 1.0, 2.0, false).ends_with("no verdict"));
    }
}
