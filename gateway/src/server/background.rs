//! What runs beside the requests: names are resolved, histograms folded, idle counters swept, changed files noticed, and the
//! signals heard that don't end the process. Before all that it brings the process to where it is ready.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::{handover, systemd};
use crate::clock;
use crate::identity;
use crate::jwt;
use crate::reload;
use crate::state::State;
use crate::upstream::addresses::RESOLVE_INTERVAL;
use crate::upstream::connector::Connector;
use crate::watch as files;
use crate::{traces, trips};

/// Histograms hold their samples until they are folded this often.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How often connections that are closed or were unused for too long are looked for.
const CONNECTIONS_INTERVAL: Duration = Duration::from_secs(1);
/// How often idle counters are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// A start waits this long for the trips that other replicas have told.
const TRIPS_WAIT: Duration = Duration::from_secs(1);
/// A start waits this long for the gateway's own tokens, and for the keys of callers'. Requests wait for what is slower.
const TOKENS_WAIT: Duration = Duration::from_secs(1);
/// A start waits this long for the answers that replicas share.
const CACHE_WAIT: Duration = Duration::from_secs(1);

/// Resolves names, folds histograms, and takes another configuration or gives way to another process when told to.
pub(super) struct Background {
    /// What outlives a request.
    pub state: Arc<State>,
    /// Connections to backends.
    pub connector: Arc<Connector>,
    /// Lets callers in.
    pub opening: watch::Sender<bool>,
    /// The process before, until it is told that this one is ready.
    pub former: Mutex<Option<UnixStream>>,
}

#[async_trait]
impl BackgroundService for Background {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let state = &self.state;
        let (Ok(mut hangup), Ok(mut successor)) = (
            signal(SignalKind::hangup()),
            signal(SignalKind::user_defined2()),
        ) else {
            tracing::error!("SIGHUP can't be watched; the configuration can't be reloaded");
            return;
        };
        let loading = tokio::task::spawn_blocking(filters::tokens::load);
        identity::follow(state, &state.plan.load_full());
        jwt::follow(state, &state.plan.load_full());
        state.peers.resolve().await;
        if loading.await.is_err() {
            tracing::error!("the token encodings couldn't be loaded");
        }
        trips::follow(state);
        traces::follow(state);
        state.limits.start().await;
        let connected = state.caches.wait_until_connected();
        if tokio::time::timeout(CACHE_WAIT, connected).await.is_err() {
            tracing::warn!(
                "redis: no answer yet; the semantic cache goes without it until there is one"
            );
        }
        trips::wait_until_read(state, TRIPS_WAIT).await;
        state.identities.wait_until_asked(TOKENS_WAIT).await;
        state.issuers.wait_until_asked(TOKENS_WAIT).await;
        self.ready().await;
        let mut resolve = tokio::time::interval(RESOLVE_INTERVAL);
        let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
        let mut look = tokio::time::interval(files::INTERVAL);
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        let mut connections = tokio::time::interval(CONNECTIONS_INTERVAL);
        connections.set_missed_tick_behavior(MissedTickBehavior::Delay);
        resolve.reset();
        loop {
            tokio::select! {
                _ = hangup.recv() => reload::reload(state).await,
                _ = look.tick() => reload::look(state).await,
                _ = successor.recv() => handover::start_successor(state),
                _ = resolve.tick() => state.peers.resolve().await,
                _ = connections.tick() => self.connector.sweep(),
                _ = upkeep.tick() => state.metrics.run_upkeep(),
                _ = sweep.tick() => sweep_counters(state).await,
            }
        }
    }
}

impl Background {
    /// Everybody who waits for it is told: probes, the service manager, and the process before, whose place at
    /// `upgrade-socket` this one takes.
    async fn ready(&self) {
        self.state.ready.store(true, Ordering::Relaxed);
        self.opening.send_replace(true);
        systemd::ready();
        let former = self.former.lock().take();
        let state = self.state.clone();
        let path = state.plan.load().server.upgrade_socket.clone();
        let told = tokio::task::spawn_blocking(move || {
            if let Some(former) = former {
                handover::ready(former);
            }
            if let Some(path) = path {
                handover::offer(Path::new(&path), state);
            }
        });
        let _ = told.await;
    }
}

/// Idle counters and expired answers go. A million of them take a moment, so not on this thread.
async fn sweep_counters(state: &Arc<State>) {
    let state = state.clone();
    let now = clock::now().time();
    let sweep = move || (state.limits.sweep(), state.caches.sweep(now));
    if let Ok((counters, answers)) = tokio::task::spawn_blocking(sweep).await
        && counters + answers > 0
    {
        tracing::debug!(
            counters,
            answers,
            "idle counters and expired answers removed"
        );
    }
}
