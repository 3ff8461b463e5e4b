//! The access log and the message log of the plan in force: started, followed through reloads, reopened and closed.
//!
//! A request takes a handle as it ends; a log that a reload takes away writes what it was handed before. Never decides
//! what is logged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use crate::config::plan::{self, Plan};
use crate::lines::{Lines, Place};
use crate::stage::account::messages::Said;

/// Both of them.
#[derive(Debug, Default)]
pub struct Logs {
    access: Log<Vec<u8>>,
    messages: Log<Box<Said>>,
}

/// One, while it is configured.
#[derive(Debug)]
struct Log<E> {
    lines: ArcSwapOption<Lines<E>>,
    dropped: Arc<AtomicU64>,
}

impl<E> Default for Log<E> {
    fn default() -> Self {
        Log {
            lines: ArcSwapOption::empty(),
            dropped: Arc::default(),
        }
    }
}

impl Logs {
    /// Those of a plan.
    pub fn new(plan: &Plan) -> Self {
        let logs = Logs::default();
        logs.access.replace(ACCESS, access(plan));
        logs.messages.replace(MESSAGES, messages(plan));
        logs
    }

    /// Goes on with another plan. Files that stay are opened anew by their names: they may have been rotated.
    pub fn follow(&self, former: &Plan, next: &Plan) {
        self.access.follow(ACCESS, access(former), access(next));
        self.messages
            .follow(MESSAGES, messages(former), messages(next));
    }

    /// Where a request gets its line, if anywhere.
    pub fn access(&self) -> Option<Arc<Lines<Vec<u8>>>> {
        self.access.lines.load_full()
    }

    /// Where what was said is written down, if anywhere.
    pub fn messages(&self) -> Option<Arc<Lines<Box<Said>>>> {
        self.messages.lines.load_full()
    }

    /// Lines that were never written, by log.
    pub fn dropped(&self) -> [(&'static str, u64); 2] {
        let count = |dropped: &AtomicU64| dropped.load(Ordering::Relaxed);
        [
            (ACCESS, count(&self.access.dropped)),
            (MESSAGES, count(&self.messages.dropped)),
        ]
    }

    /// Writes what is left, at the end of the process.
    pub fn close(&self) {
        if let Some(lines) = self.access() {
            lines.close();
        }
        if let Some(lines) = self.messages() {
            lines.close();
        }
    }
}

const ACCESS: &str = "access-log";
const MESSAGES: &str = "message-log";

impl<E: crate::lines::Entry> Log<E> {
    fn follow(&self, name: &'static str, former: Option<Place>, next: Option<Place>) {
        if former != next {
            self.replace(name, next);
        } else if let Some(lines) = &*self.lines.load() {
            lines.reopen();
        }
    }

    fn replace(&self, name: &'static str, place: Option<Place>) {
        let lines = place.and_then(|place| {
            let started = Lines::start(name, place, self.dropped.clone());
            started
                .inspect_err(|error| tracing::error!(log = name, %error, "no thread for a log"))
                .ok()
        });
        self.lines.store(lines.map(Arc::new));
    }
}

fn access(plan: &Plan) -> Option<Place> {
    let log = plan.access_log.as_ref()?;
    Some(match &log.place {
        plan::Place::Output => Place::Output,
        plan::Place::File(path) => Place::File(path.clone()),
    })
}

fn messages(plan: &Plan) -> Option<Place> {
    let log = plan.message_log.as_ref()?;
    Some(Place::Hours {
        directory: log.directory.clone(),
        prefix: "messages",
    })
}
