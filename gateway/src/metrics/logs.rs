//! Figures of what is written down, or wasn't.

use metrics::{Key, Label, Recorder};

use super::{METADATA, Metrics};

const LINES_DROPPED: &str = "tollgate_log_lines_dropped_total";
const SPANS_DROPPED: &str = "tollgate_spans_dropped_total";
const USAGE_LOG_DROPPED: &str = "tollgate_usage_log_dropped_total";
pub(super) const USAGE_LOG_FAILING: &str = "tollgate_usage_log_failing";

pub(super) const DESCRIBED: [(&str, &str); 3] = [
    (
        USAGE_LOG_DROPPED,
        "Lines of the usage log that were never written.",
    ),
    (
        LINES_DROPPED,
        "Lines of the access log and the message log that were never written, by log.",
    ),
    (SPANS_DROPPED, "Spans that no collector took."),
];

impl Metrics {
    /// Lines of the usage log that were never written, since the start.
    pub fn usage_log_dropped(&self, lines: u64) {
        self.counter(USAGE_LOG_DROPPED, Vec::new()).absolute(lines);
    }

    /// Whether lines of the usage log wait because they can't be written.
    pub fn usage_log_failing(&self, failing: bool) {
        let key = Key::from_static_name(USAGE_LOG_FAILING);
        let gauge = self.recorder.register_gauge(&key, &METADATA);
        gauge.set(f64::from(u8::from(failing)));
    }

    /// Spans that no collector took, since the start.
    pub fn spans_dropped(&self, spans: u64) {
        self.counter(SPANS_DROPPED, Vec::new()).absolute(spans);
    }

    /// Lines of other logs that were never written, since the start.
    pub fn lines_dropped(&self, logs: &[(&'static str, u64)]) {
        for (log, lines) in logs {
            let labels = vec![Label::from_static_parts("log", log)];
            self.counter(LINES_DROPPED, labels).absolute(*lines);
        }
    }
}
