//! What all connections of one simulator share.
//!
//! Everything that a test can change while requests run is here, behind one lock each, and bounded. It answers nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde_json::Value;

use super::behaviour::Behaviour;
use super::gate::Gate;
use super::journal::Journal;
use super::limits::Limits;

/// The state of a simulator.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) region: String,
    pub(crate) api_key: Option<String>,
    pub(crate) log: bool,
    pub(crate) journal: Arc<Journal>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) limits: Limits,
    pub(crate) behaviours: Mutex<Behaviours>,
    pub(crate) stored: Mutex<Stored>,
    pub(crate) connections: AtomicU64,
}

impl State {
    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// What is to be done with the next requests.
#[derive(Debug, Default)]
pub(crate) struct Behaviours {
    first: Behaviour,
    limited: VecDeque<Behaviour>,
    standing: Vec<Behaviour>,
}

impl Behaviours {
    pub(crate) fn new(first: Behaviour) -> Self {
        Self {
            first,
            ..Self::default()
        }
    }

    /// Those with `times` queue up; others replace the one for the same path.
    pub(crate) fn set(&mut self, behaviour: Behaviour) {
        if behaviour.times.is_some() {
            if self.limited.len() < MAX_BEHAVIOURS {
                self.limited.push_back(behaviour);
            }
            return;
        }
        self.standing
            .retain(|known| known.path_contains != behaviour.path_contains);
        if self.standing.len() < MAX_BEHAVIOURS {
            self.standing.push(behaviour);
        }
    }

    /// Back to what the simulator started with.
    pub(crate) fn reset(&mut self) {
        self.limited.clear();
        self.standing.clear();
    }

    pub(crate) fn next(&mut self, path: &str) -> Behaviour {
        self.limited.retain(|behaviour| behaviour.times != Some(0));
        if let Some(behaviour) = self
            .limited
            .iter_mut()
            .find(|behaviour| behaviour.matches(path))
        {
            behaviour.times = behaviour.times.map(|times| times - 1);
            return behaviour.clone();
        }
        let special = self
            .standing
            .iter()
            .find(|behaviour| behaviour.path_contains.is_some() && behaviour.matches(path));
        let general = || {
            self.standing
                .iter()
                .find(|behaviour| behaviour.path_contains.is_none())
        };
        special.or_else(general).unwrap_or(&self.first).clone()
    }
}

/// More than any test sets.
const MAX_BEHAVIOURS: usize = 10_000;

/// Responses that can be asked for again.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    by_id: HashMap<String, Value>,
    order: VecDeque<String>,
}

impl Stored {
    pub(crate) fn keep(&mut self, response: Value) {
        let Some(id) = response
            .get("id")
            .and_then(Value::as_str)
            .map(str::to_owned)
        else {
            return;
        };
        self.order.push_back(id.clone());
        self.by_id.insert(id, response);
        if self.order.len() > MAX_STORED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }

    pub(crate) fn find(&self, id: &str) -> Option<Value> {
        self.by_id.get(id).cloned()
    }
}

/// Responses kept; the oldest go first.
const MAX_STORED: usize = 1000;
