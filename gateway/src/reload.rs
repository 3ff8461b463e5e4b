//! Takes another configuration while requests are served: all of it at once, or nothing.
//!
//! Requests in flight end under the plan that they began with. Live state is kept by name and stays. A bad
//! file changes nothing: its errors are logged and counted, and the old plan stays. What only a restart can
//! change is named in the log, and the rest is taken. Never binds or closes a listener.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::shared::engine;
use crate::clock;
use crate::config::inputs::{self, Input};
use crate::config::outline::{self, Change, Outline};
use crate::config::plan::Plan;
use crate::config::secret::System;
use crate::config::{self, Source};
use crate::embed::local;
use crate::identity;
use crate::jwt;
use crate::state::State;
use crate::tls::Material;
use crate::upstream::peers::Sites;
use crate::watch::Watch;
use crate::{traces, trips};

/// What became of the last reload, for `/status`, and what it goes by.
#[derive(Debug)]
pub struct Reloads {
    /// What the process was started with: some of it only a restart changes.
    started: Outline,
    last: Mutex<Option<Outcome>>,
    /// The files of the last file that was tried, taken or not.
    inputs: Mutex<Vec<Input>>,
    watch: Mutex<Watch>,
}

/// One reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Seconds since 1970.
    pub at: u64,
    /// Every error of the file that wasn't taken, one a line.
    pub failure: Option<String>,
    /// What it changed, by name, one an entry.
    pub changes: Vec<String>,
}

impl Reloads {
    /// None since the start.
    pub fn new(plan: &Plan) -> Self {
        Reloads {
            started: plan.outline.clone(),
            last: Mutex::default(),
            inputs: Mutex::new(plan.inputs.clone()),
            watch: Mutex::default(),
        }
    }

    /// The last one since the start.
    pub fn outcome(&self) -> Option<Outcome> {
        self.last.lock().clone()
    }

    /// What is in the file that is in force, and not in force before a restart.
    pub fn needs_restart(&self, plan: &Plan) -> Vec<String> {
        outline::needs_restart(&self.started.changes(&plan.outline))
    }
}

/// A configuration, or every error one a line; and the files that it was loaded from either way.
pub struct Loaded {
    /// What came of it.
    pub plan: Result<Plan, String>,
    /// What was read.
    pub inputs: Vec<Input>,
}

/// Loads a configuration exactly as `run` does.
pub fn load(path: &str) -> Loaded {
    let source = match Source::read(path) {
        Ok(source) => source,
        Err(error) => {
            let inputs = vec![Input::of(path, &System::at(0))];
            let plan = Err(error.to_string());
            return Loaded { plan, inputs };
        }
    };
    let system = System::at(clock::unix_seconds());
    let (plan, inputs) = config::load_noting(&source, &system);
    let plan = plan.map_err(|errors| errors.to_string());
    let plan = plan.and_then(|plan| {
        let mut refusals = plan.refusals();
        if !cfg!(feature = "local-embeddings") {
            refusals.extend(local::refusals(&plan));
        }
        match refusals.is_empty() {
            true => Ok(plan),
            false => Err(refusals.join("\n")),
        }
    });
    Loaded { plan, inputs }
}

/// Looks whether a file has changed, and reloads if one has and the configuration asks for it.
pub async fn look(state: &Arc<State>) {
    if !state.plan.load().server.watch {
        return;
    }
    let looking = state.clone();
    let look = move || {
        let inputs = looking.reloads.inputs.lock().clone();
        let mut watch = looking.reloads.watch.lock();
        watch.look(&inputs, &System::at(0))
    };
    if tokio::task::spawn_blocking(look).await.unwrap_or(false) {
        tracing::info!("a file of the configuration has changed");
        reload(state).await;
    }
}

/// Loads the file again and takes it, or says why not.
pub async fn reload(state: &Arc<State>) {
    let path = state.plan.load().source.clone();
    let loaded = match path.as_str() {
        "stdin" => Err("the configuration came from standard input; it can't be read again".into()),
        _ => tokio::task::spawn_blocking(move || load(&path))
            .await
            .map_err(|_| "the loader stopped unexpectedly".to_owned()),
    };
    let taken = match loaded {
        Ok(loaded) => {
            *state.reloads.inputs.lock() = loaded.inputs;
            try_to_take(state, loaded.plan).await
        }
        Err(error) => Err(error),
    };
    let (failure, changes) = match taken {
        Ok(changes) => (None, changes),
        Err(errors) => {
            let errors = errors.trim_end().to_owned();
            tracing::error!(%errors, "the configuration wasn't reloaded; the old one stays");
            (Some(errors), Vec::new())
        }
    };
    state.metrics.reloaded(failure.is_none());
    let at = clock::unix_seconds();
    *state.reloads.last.lock() = Some(Outcome {
        at,
        failure,
        changes,
    });
}

async fn try_to_take(
    state: &Arc<State>,
    plan: Result<Plan, String>,
) -> Result<Vec<String>, String> {
    let plan = plan?;
    has_engine(&plan).await?;
    let plan = load_models(state, plan).await?;
    // Waits for DNS, and changes nothing yet.
    let sites = state.peers.prepare(&plan).await;
    take(state, plan, sites)
}

/// Reads what may be large, where that may take its time.
async fn load_models(state: &Arc<State>, plan: Plan) -> Result<Plan, String> {
    let state = state.clone();
    let load = move || state.models.follow(&plan).map(|()| plan);
    let loaded = tokio::task::spawn_blocking(load).await;
    loaded.unwrap_or_else(|_| Err("the loader of the model stopped unexpectedly".into()))
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

fn take(state: &Arc<State>, plan: Plan, sites: Sites) -> Result<Vec<String>, String> {
    let material = Material::of(&plan.server)?;
    state.limits.follow(&plan)?;
    state.tls.take(material);
    let runtime = state.limits.runtime();
    state.caches.connect(&plan, runtime.as_ref())?;
    let former = state.plan.load_full();
    let changes = changes(&former, &plan);
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    let names = plan.backends.iter().map(|backend| backend.name.as_ref());
    let changed = (former.revision != plan.revision).then_some(former.revision.as_str());
    state
        .metrics
        .configured((&plan.revision, plan.loaded_at), changed, names);
    state.bodies.resize(plan.server.max_buffered_bodies_bytes);
    state.peers.replace(sites);
    state.caches.follow(&former, &plan);
    state.logs.follow(&former, &plan);
    identity::follow(state, &plan);
    jwt::follow(state, &plan);
    tracing::info!(
        former = former.revision,
        revision = plan.revision,
        changes = changes.join("; "),
        "configuration reloaded"
    );
    for key in state.reloads.needs_restart(&plan) {
        tracing::warn!(key, "changed in the file, but only a restart takes it");
    }
    state.plan.store(Arc::new(plan));
    trips::follow(state);
    traces::follow(state);
    Ok(changes)
}

/// By name: what is added, removed or changed in the file, and which files that it names say something else.
fn changes(former: &Plan, next: &Plan) -> Vec<String> {
    let line = |(name, change): &(String, Change)| change.line(name);
    let changes = former.outline.changes(&next.outline);
    let mut lines: Vec<String> = changes.iter().map(line).collect();
    let files = inputs::changed(&former.inputs, &next.inputs);
    let others = files.iter().filter(|path| **path != next.source);
    lines.extend(others.map(|path| format!("file \"{path}\" changed")));
    if lines.is_empty() && former.revision != next.revision {
        lines.push("a secret or the text's form changed".to_owned());
    }
    lines
}
