//! Takes another configuration while requests are served: all of it at once, or nothing.
//!
//! Requests in flight end under the plan that they began with. Live state is kept by name and stays. A bad
//! file changes nothing: its errors are logged and counted, and the old plan stays. What only a restart can
//! change is named in the log, and the rest is taken. Never binds or closes a listener.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::shared::engine;
use crate::clock;
use crate::config::plan::Plan;
use crate::config::secret::System;
use crate::config::{self, Source};
use crate::state::State;
use crate::trips;
use crate::upstream::peers::Sites;

/// What became of the last reload, for `/status`.
#[derive(Debug, Default)]
pub struct LastReload(Mutex<Option<Outcome>>);

/// One reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Seconds since 1970.
    pub at: u64,
    /// Every error of the file that wasn't taken, one a line.
    pub failure: Option<String>,
}

impl LastReload {
    /// The last one since the start.
    pub fn outcome(&self) -> Option<Outcome> {
        self.0.lock().clone()
    }
}

/// Loads a configuration exactly as `run` does.
///
/// # Errors
/// Every error, one a line.
pub fn load(path: &str) -> Result<Plan, String> {
    let source = Source::read(path).map_err(|error| error.to_string())?;
    let system = System::at(clock::unix_seconds());
    let plan = config::load(&source, &system).map_err(|errors| errors.to_string())?;
    match plan.refusals() {
        refusals if refusals.is_empty() => Ok(plan),
        refusals => Err(refusals.join("\n")),
    }
}

/// Loads the file again and takes it, or says why not.
pub async fn reload(state: &Arc<State>) {
    let path = state.plan.load().source.clone();
    let loaded = match path.as_str() {
        "stdin" => Err("the configuration came from standard input; it can't be read again".into()),
        _ => tokio::task::spawn_blocking(move || load(&path))
            .await
            .unwrap_or_else(|_| Err("the loader stopped unexpectedly".into())),
    };
    let loaded = match loaded {
        Ok(plan) => has_engine(&plan).await.map(|()| plan),
        Err(errors) => Err(errors),
    };
    let taken = match loaded {
        Ok(plan) => {
            // Waits for DNS, and changes nothing yet.
            let sites = state.peers.prepare(&plan).await;
            take(state, plan, sites)
        }
        Err(errors) => Err(errors),
    };
    let failure = match taken {
        Ok(()) => None,
        Err(errors) => {
            let errors = errors.trim_end().to_owned();
            tracing::error!(%errors, "the configuration wasn't reloaded; the old one stays");
            Some(errors)
        }
    };
    state.metrics.reloaded(failure.is_none());
    let at = clock::unix_seconds();
    *state.last_reload.0.lock() = Some(Outcome { at, failure });
}

/// As `run` does.
async fn has_engine(plan: &Plan) -> Result<(), String> {
    match engine::of(plan).await {
        Some(engine) if engine.is_refused() => {
            Err(format!("[[semantic-cache]] in [redis]: {engine}"))
        }
        Some(_) | None => Ok(()),
    }
}

fn take(state: &Arc<State>, plan: Plan, sites: Sites) -> Result<(), String> {
    state.limits.follow(&plan)?;
    let runtime = state.limits.runtime();
    state.caches.connect(&plan, runtime.as_ref())?;
    let former = state.plan.load_full();
    for key in needs_restart(&former, &plan) {
        tracing::warn!(key, "changed in the file, but only a restart takes it");
    }
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    let names = plan.backends.iter().map(|backend| backend.name.as_ref());
    let changed = (former.revision != plan.revision).then_some(former.revision.as_str());
    state.metrics.configured(&plan.revision, changed, names);
    state.bodies.resize(plan.server.max_buffered_bodies_bytes);
    state.peers.replace(sites);
    state.caches.follow(&former, &plan);
    tracing::info!(
        former = former.revision,
        revision = plan.revision,
        "configuration reloaded"
    );
    state.plan.store(Arc::new(plan));
    trips::follow(state);
    Ok(())
}

/// The keys that a running process can't change; those without a section are of `[server]`.
fn needs_restart(former: &Plan, next: &Plan) -> Vec<&'static str> {
    let is_log_changed = former.usage_log != next.usage_log;
    let (former, next) = (&former.server, &next.server);
    let changes = [
        ("usage-log", is_log_changed),
        ("listen", former.listen != next.listen),
        ("h2c", former.h2c != next.h2c),
        ("tls", former.tls != next.tls),
        ("admin", former.admin != next.admin),
        ("threads", former.threads != next.threads),
        ("drain-timeout", former.drain_timeout != next.drain_timeout),
    ];
    let changed = changes.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| key).collect()
}
