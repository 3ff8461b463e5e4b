//! A request that is traced: its place in the trace, and what it did so far.
//!
//! Only requests that are sampled have one. A step is a note of two moments; spans are made of them when the request is
//! over. Never sends anything.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use filters::traceparent::{TraceParent, is_sampled};
use parking_lot::Mutex;
use pingora::http::RequestHeader;

use crate::clock::{self, Moment};
use crate::config::plan::{Backend, Otlp};

/// More steps than any request has: attempts are bounded far below.
const STEPS_MAX: usize = 64;
const HEADER: &str = "traceparent";

/// A traced request.
#[derive(Debug)]
pub struct Trace {
    trace_id: u128,
    parent_id: Option<u64>,
    span_id: u64,
    steps: Mutex<Vec<Step>>,
}

/// A part of its way.
#[derive(Debug)]
pub struct Step {
    /// What was done.
    pub what: What,
    /// Names it in the trace.
    pub span_id: u64,
    /// When it began.
    pub begun: Moment,
    /// When it was over; `None`: with the request.
    pub ended: Option<Moment>,
}

/// What was done.
#[derive(Debug)]
pub enum What {
    /// A semantic cache was asked.
    Cache,
    /// Token limits were asked.
    Limit {
        /// One said no.
        refused: bool,
    },
    /// A backend was asked.
    Attempt {
        /// Which.
        backend: Arc<Backend>,
        /// A status class or an error; empty until it is over.
        outcome: &'static str,
    },
}

impl Step {
    /// Whether a backend was asked.
    pub fn is_attempt(&self) -> bool {
        matches!(self.what, What::Attempt { .. })
    }
}

impl Trace {
    /// For a request with this head, if it is sampled: by its caller, who knows of the rest of the trace, or else by the part
    /// of all that the configuration names.
    pub fn begin(settings: &Otlp, head: &RequestHeader) -> Option<Arc<Trace>> {
        let parent = head.headers.get(HEADER);
        let parent = parent.and_then(|value| TraceParent::parse(value.to_str().ok()?));
        let trace_id = match parent {
            Some(parent) if !parent.is_sampled => return None,
            Some(parent) => parent.trace_id,
            None => u128::from(random()) << 64 | u128::from(random()),
        };
        (parent.is_some() || is_sampled(trace_id, settings.sample)).then(|| {
            Arc::new(Trace {
                trace_id,
                parent_id: parent.map(|parent| parent.span_id),
                span_id: random(),
                steps: Mutex::default(),
            })
        })
    }

    /// Of the whole trace.
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// Of the request.
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// Of the caller.
    pub fn parent_id(&self) -> Option<u64> {
        self.parent_id
    }

    /// Notes what was done from `begun` until now.
    pub fn did(&self, what: What, begun: Moment) {
        self.push(what, begun, Some(clock::now()));
    }

    /// Notes that a backend is asked now.
    pub fn attempts(&self, backend: &Arc<Backend>) {
        let what = What::Attempt {
            backend: backend.clone(),
            outcome: "",
        };
        self.push(what, clock::now(), None);
    }

    /// Notes how that ended.
    pub fn attempted(&self, result: &'static str) {
        let mut steps = self.steps.lock();
        if let Some(step) = steps.last_mut()
            && let What::Attempt { outcome, .. } = &mut step.what
        {
            *outcome = result;
            step.ended = Some(clock::now());
        }
    }

    /// Has the backend continue the trace from the attempt at it.
    pub fn pass_on(&self, head: &mut RequestHeader) {
        let attempt = self.steps.lock().last().map(|step| step.span_id);
        let parent = TraceParent {
            trace_id: self.trace_id,
            span_id: attempt.unwrap_or(self.span_id),
            is_sampled: true,
        };
        // Hex digits can't be refused.
        let _ = head.insert_header(HEADER, parent.header());
    }

    /// All of them, once the request is over.
    pub fn take_steps(&self) -> Vec<Step> {
        std::mem::take(&mut self.steps.lock())
    }

    fn push(&self, what: What, begun: Moment, ended: Option<Moment>) {
        let mut steps = self.steps.lock();
        if steps.len() < STEPS_MAX {
            steps.push(Step {
                what,
                span_id: random(),
                begun,
                ended,
            });
        }
    }
}

/// Not zero. Each state of the standard library's hasher has keys of its own, from the system's randomness.
fn random() -> u64 {
    RandomState::new().build_hasher().finish().max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::plan::{Endpoint, OtlpProtocol};

    fn settings(sample: f64) -> Otlp {
        Otlp {
            endpoint: Endpoint {
                tls: false,
                host: "127.0.0.1".into(),
                port: 4317,
                base_path: String::new(),
                authority: "127.0.0.1:4317".into(),
            },
            protocol: OtlpProtocol::Grpc,
            sample,
        }
    }

    fn head(parent: Option<&str>) -> RequestHeader {
        let mut head = RequestHeader::build("POST", b"/", None).unwrap();
        if let Some(parent) = parent {
            head.insert_header(HEADER, parent).unwrap();
        }
        head
    }

    #[test]
    fn a_caller_s_trace_is_continued_if_it_is_sampled_and_only_then() {
        let sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = Trace::begin(&settings(0.0), &head(Some(sampled))).unwrap();
        assert_eq!(trace.parent_id(), Some(0xb7ad_6b71_6920_3331));
        let mut passed = head(Some(sampled));
        trace.pass_on(&mut passed);
        let value = passed.headers[HEADER].to_str().unwrap();
        let parent = TraceParent::parse(value).unwrap();
        assert_eq!(
            (parent.trace_id, parent.span_id),
            (trace.trace_id(), trace.span_id())
        );
        let unsampled = sampled.replace("-01", "-00");
        assert!(Trace::begin(&settings(1.0), &head(Some(&unsampled))).is_none());
    }

    #[test]
    fn without_a_caller_s_decision_the_part_decides() {
        assert!(Trace::begin(&settings(0.0), &head(None)).is_none());
        let trace = Trace::begin(&settings(1.0), &head(Some("nonsense"))).unwrap();
        assert_eq!(trace.parent_id(), None);
        let other = Trace::begin(&settings(1.0), &head(None)).unwrap();
        assert_ne!(trace.trace_id(), other.trace_id());
    }
}
