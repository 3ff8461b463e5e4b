//! The gateway's own identities: a token for each, fetched by a task of its own and kept ready for requests.
//!
//! Requests only ever look: where a token may be sent it is there without a wait, however its renewal goes, and where
//! none is, they wait for the fetch that is under way. So one token is asked for however many wait, and a service that
//! fails is asked again after a pause and not by every request. What is decided (until when, how long a pause) is
//! `filters::identity`'s. A token is known to its cell and to the head of a request, and to nothing that is logged.

mod proof;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use filters::identity::{self, Failure, Granted, Life};
use filters::time::UnixTime;
use http::HeaderValue;
use parking_lot::Mutex;
use pingora::connectors::http::Connector;
use tokio::task::AbortHandle;

use crate::clock;
use crate::config::plan::identity::Identity;
use crate::config::plan::{Auth, Backend, Plan};
use crate::pace::Pace;
use crate::state::State;

/// A token that a backend refused is fetched again, but no more often than this. Seconds.
const REFETCH_INTERVAL_S: u64 = 60;

/// Every identity of the plan in force and of the one before it, by key.
#[derive(Default)]
pub struct Identities {
    connector: OnceLock<Arc<Connector>>,
    cells: ArcSwap<Cells>,
}

type Cells = HashMap<Arc<str>, Arc<Cell>>;

/// One identity's token.
struct Cell {
    identity: Arc<Identity>,
    token: ArcSwapOption<Token>,
    pace: Pace,
    failure: Mutex<Option<Told>>,
    task: Mutex<Option<AbortHandle>>,
}

/// Ready to be sent.
struct Token {
    bearer: HeaderValue,
    life: Life,
}

/// Why the last fetch failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// When.
    pub at: UnixTime,
    /// In words.
    pub why: String,
}

/// There is no token that may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoToken;

/// An identity as `/status` shows it.
#[derive(Debug)]
pub struct Shown {
    /// Whose.
    pub identity: Arc<Identity>,
    /// When its token expires; `None`: there is none.
    pub expires_at: Option<UnixTime>,
    /// Why the last fetch failed, if it did.
    pub failure: Option<Told>,
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Identities({})", self.cells.load().len())
    }
}

impl Identities {
    /// What is called with. Before anything else.
    pub fn connect(&self, connector: Arc<Connector>) {
        // Set once, by the start of the process.
        let _ = self.connector.set(connector);
    }

    /// The token for a backend, as its `Authorization`; `None` where its credential is none that is fetched.
    ///
    /// # Errors
    /// Where there is no token by the time that a connection to the backend may take.
    pub async fn bearer(&self, backend: &Backend) -> Result<Option<HeaderValue>, NoToken> {
        let Auth::ManagedIdentity(identity) = &backend.auth else {
            return Ok(None);
        };
        let cell = self.cells.load().get(&identity.key).cloned();
        let cell = cell.ok_or(NoToken)?;
        match cell.usable() {
            Some(bearer) => Ok(Some(bearer)),
            None => cell.wait(backend.timeouts.connect).await.map(Some),
        }
    }

    /// A backend refused the token: it is fetched again, since it may have been withdrawn.
    pub fn refused(&self, backend: &Backend) {
        let Auth::ManagedIdentity(identity) = &backend.auth else {
            return;
        };
        if let Some(cell) = self.cells.load().get(&identity.key) {
            cell.pace.ring_once_in(REFETCH_INTERVAL_S);
        }
    }

    /// Waits until each identity was asked for once, so that a start doesn't begin with calls that wait.
    pub async fn wait_until_asked(&self, at_most: Duration) {
        let cells: Vec<Arc<Cell>> = self.cells.load().values().cloned().collect();
        let asked = async {
            for cell in cells {
                let now = cell.pace.progress();
                if now.fetches_ended == 0 {
                    cell.pace.wait(now, at_most).await;
                }
            }
        };
        // Without it the first requests wait.
        let _ = tokio::time::timeout(at_most, asked).await;
    }

    /// What `/status` shows, in the order of the plan.
    pub fn shown(&self, plan: &Plan) -> Vec<Shown> {
        let cells = self.cells.load();
        let found = of_plan(plan).into_iter().filter_map(|identity| {
            let cell = cells.get(&identity.key)?;
            let token = cell.token.load();
            Some(Shown {
                expires_at: token.as_ref().map(|token| token.life.expires_at()),
                failure: cell.failure.lock().clone(),
                identity,
            })
        });
        found.collect()
    }
}

/// Takes the identities of a plan: those that stay keep their token, new ones are fetched, and those of the plan before
/// are kept, but not renewed, for requests that began under it.
pub fn follow(state: &Arc<State>, plan: &Plan) {
    let former = state.identities.cells.load_full();
    let mut cells: Cells = HashMap::new();
    for identity in of_plan(plan) {
        let known = former.get(&identity.key);
        let known = known.filter(|cell| cell.task.lock().is_some());
        let cell = match known {
            Some(cell) => {
                // Whoever changed something at the service and reloads doesn't wait for a pause to end.
                if cell.pace.progress().is_failing {
                    cell.pace.ring();
                }
                cell.clone()
            }
            None => begin(state, identity.clone()),
        };
        cells.insert(identity.key.clone(), cell);
    }
    for (key, cell) in former.iter() {
        if !cells.contains_key(key)
            && let Some(task) = cell.task.lock().take()
        {
            task.abort();
            cell.pace.rest(true);
            cells.insert(key.clone(), cell.clone());
        }
    }
    state.identities.cells.store(Arc::new(cells));
}

/// Each identity once, in the order of the backends.
fn of_plan(plan: &Plan) -> Vec<Arc<Identity>> {
    let mut found: Vec<Arc<Identity>> = Vec::new();
    for backend in &plan.backends {
        match &backend.auth {
            Auth::ManagedIdentity(identity) => {
                if !found.iter().any(|known| known.key == identity.key) {
                    found.push(identity.clone());
                }
            }
            Auth::None | Auth::ApiKey(_) | Auth::Bearer(_) => {}
        }
    }
    found
}

fn begin(state: &Arc<State>, identity: Arc<Identity>) -> Arc<Cell> {
    let cell = Arc::new(Cell {
        identity,
        token: ArcSwapOption::empty(),
        pace: Pace::begin(),
        failure: Mutex::new(None),
        task: Mutex::new(None),
    });
    let task = tokio::spawn(keep(state.clone(), cell.clone()));
    *cell.task.lock() = Some(task.abort_handle());
    cell
}

/// Fetches a token again and again, for as long as its identity is in the plan.
async fn keep(state: Arc<State>, cell: Arc<Cell>) {
    let Some(connector) = state.identities.connector.get() else {
        tracing::error!("no connector to fetch tokens with");
        return;
    };
    let identity = cell.identity.as_ref();
    let mut failures: u32 = 0;
    loop {
        cell.pace.fetching();
        let fetched = proof::fetch(connector, identity).await;
        let result = fetched.as_ref().map_or_else(Failure::label, |_| "ok");
        state.metrics.token_fetched(identity, result);
        let pause = match fetched {
            Ok(granted) => {
                failures = 0;
                cell.take(granted)
            }
            Err(failure) => {
                failures = failures.saturating_add(1);
                cell.failed(&failure);
                failure.pause(failures)
            }
        };
        cell.pace.rest(failures > 0);
        cell.pace.pause(pause).await;
    }
}

impl Cell {
    fn usable(&self) -> Option<HeaderValue> {
        let token = self.token.load();
        let token = token.as_ref()?;
        let is_usable = token.life.is_usable(clock::unix_time());
        is_usable.then(|| token.bearer.clone())
    }

    /// Waits for the fetch that is under way. Where there is none because the last one failed, there is no wait.
    async fn wait(&self, at_most: Duration) -> Result<HeaderValue, NoToken> {
        let seen = self.pace.progress();
        if !seen.is_fetching {
            // It may have come since it was looked for.
            if let Some(bearer) = self.usable() {
                return Ok(bearer);
            }
            if seen.is_failing {
                return Err(NoToken);
            }
            // This host slept, or its clock was set: the token is too old, and nobody has noticed.
            self.pace.ring();
        }
        self.pace.wait(seen, at_most).await;
        self.usable().ok_or(NoToken)
    }

    /// Keeps a token, and says in how long it is fetched again.
    fn take(&self, granted: Granted) -> Duration {
        let Granted { token, life } = granted;
        let Ok(mut bearer) = HeaderValue::try_from(format!("Bearer {token}")) else {
            // Tokens are visible ASCII, or they aren't granted.
            self.failed(&Failure::Unreadable);
            return Failure::Unreadable.pause(1);
        };
        bearer.set_sensitive(true);
        self.token.store(Some(Arc::new(Token { bearer, life })));
        let had_failed = self.failure.lock().take().is_some();
        let (source, resource) = (self.identity.source.label(), &self.identity.resource);
        match had_failed {
            true => tracing::info!(source, resource, "there is a token again"),
            false => tracing::debug!(source, resource, "a token was fetched"),
        }
        life.refresh_in(clock::unix_time())
    }

    fn failed(&self, failure: &Failure) {
        let (source, resource) = (self.identity.source.label(), &self.identity.resource);
        let why = failure.to_string();
        match self.usable() {
            Some(_) => {
                tracing::warn!(source, resource, %why, "no new token; the one at hand is still good");
            }
            None => {
                tracing::error!(source, resource, %why, "no token: backends with this identity can't be called");
            }
        }
        let at = clock::unix_time();
        *self.failure.lock() = Some(Told { at, why });
    }
}

/// What a service answered, as policy reads it.
fn granted(
    asked: Result<crate::upstream::call::Answer, String>,
    asked_at: UnixTime,
) -> Result<Granted, Failure> {
    match asked {
        Ok(answer) => identity::read((answer.status, answer.wait), &answer.body, asked_at),
        Err(why) => {
            tracing::debug!(%why, "a token service couldn't be asked");
            Err(Failure::Unreachable)
        }
    }
}
