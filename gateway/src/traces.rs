//! Traces: OpenTelemetry spans of the requests that are sampled, sent to a collector.
//!
//! Off, a request costs the look at one field that is empty. On, a request that isn't sampled costs the look at its
//! `traceparent`. One that is notes moments as it goes (`trace`), becomes spans when it is over (`span`), and is handed to a
//! bounded queue, which a task empties in batches (`export`); what doesn't fit is dropped and counted. No call waits.

mod export;
mod protobuf;
pub mod span;
pub mod trace;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pingora::http::RequestHeader;
use tokio::task::JoinHandle;

use self::export::Exporter;
use self::span::{Finished, Span};
use self::trace::Trace;
use crate::config::plan::{Otlp, Plan};
use crate::state::State;

/// Requests whose spans wait for the collector.
const QUEUE_REQUESTS: usize = 4_096;
/// How long the end of the process waits for the last spans.
const STOP_WAIT: Duration = Duration::from_secs(3);

/// Where spans go, while traces are configured.
#[derive(Debug, Default)]
pub struct Traces {
    running: Mutex<Option<Running>>,
    /// Spans that no collector took.
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Running {
    settings: Otlp,
    queue: tokio::sync::mpsc::Sender<Vec<Span>>,
    task: JoinHandle<()>,
}

/// Begins the trace of a request, if it is sampled.
pub fn begin(plan: &Plan, head: &RequestHeader) -> Option<Arc<Trace>> {
    Trace::begin(plan.otlp.as_ref()?, head)
}

/// Goes on with the plan in force. A task that a reload takes away sends what it was handed before.
pub fn follow(state: &State) {
    let plan = state.plan.load();
    let mut running = state.traces.running.lock();
    if running.as_ref().map(|running| &running.settings) == plan.otlp.as_ref() {
        return;
    }
    *running = plan.otlp.as_ref().map(|settings| {
        let (queue, spans) = tokio::sync::mpsc::channel(QUEUE_REQUESTS);
        let mut resource = vec![
            ("service.name", "tollgate".to_owned()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", plan.gateway.id.clone()),
            ("tollgate.location", plan.gateway.location.clone()),
        ];
        resource.retain(|(_, value)| !value.is_empty());
        let dropped = state.traces.dropped.clone();
        let exporter = Exporter::new(settings, resource, dropped);
        Running {
            settings: settings.clone(),
            queue,
            task: tokio::spawn(exporter.run(spans)),
        }
    });
}

impl Traces {
    /// Hands over a request that is over.
    pub fn finish(&self, trace: &Trace, finished: &Finished<'_>) {
        let queue = self
            .running
            .lock()
            .as_ref()
            .map(|running| running.queue.clone());
        let Some(queue) = queue else { return };
        let spans = span::spans(trace, finished);
        let count = spans.len() as u64;
        if queue.try_send(spans).is_err() {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Spans that no collector took.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Sends what is left, for a short time.
    pub async fn stop(&self) {
        let running = self.running.lock().take();
        if let Some(Running { queue, task, .. }) = running {
            drop(queue);
            let _late = tokio::time::timeout(STOP_WAIT, task).await;
        }
    }
}
