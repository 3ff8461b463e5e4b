//! Callers' tokens: the issuer's keys, fetched by a task of their own and kept, and the tokens that were found good.
//!
//! Whether a token is good is `filters::token`'s to say. Here is what that needs: keys, which outlive any outage of the
//! issuer once they were fetched, and are asked for anew where a token names one that isn't known, once in half a minute
//! at most. A token that was found good isn't checked again until it ends or the keys change, since a signature costs
//! some fifty times what a look-up does. Never logs a token or a claim.

mod fetch;
mod verified;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use filters::auth::Digest;
use filters::refusal::Refusal;
use filters::time::UnixTime;
use filters::token::keys::KeySet;
use filters::token::{self, Claims, Problem};
use parking_lot::Mutex;
use pingora::connectors::http::Connector;
use tokio::task::AbortHandle;

use self::verified::Verified;
use crate::clock;
use crate::config::plan::Plan;
use crate::config::plan::jwt::{Jwt, Keys};
use crate::identity::Told;
use crate::pace::Pace;
use crate::state::State;

/// An unknown key is asked for no more often than this. Seconds.
const REFETCH_INTERVAL_S: u64 = 30;
/// A call waits this long for keys that are being fetched.
const WAIT: Duration = Duration::from_secs(5);
/// `Retry-After` where there are no keys yet. Seconds.
const RETRY_S: u64 = 5;

/// The issuer in force.
#[derive(Default)]
pub struct Issuers {
    connector: OnceLock<Arc<Connector>>,
    current: ArcSwapOption<Issuer>,
}

/// One issuer under one plan.
struct Issuer {
    settings: Arc<Jwt>,
    source: Arc<Source>,
}

/// Where its keys come from.
struct Source {
    from: Keys,
    known: ArcSwapOption<Known>,
    pace: Pace,
    failure: Mutex<Option<Told>>,
    task: Mutex<Option<AbortHandle>>,
}

/// Keys, and the tokens that were found good by them.
struct Known {
    keys: Arc<KeySet>,
    fetched_at: UnixTime,
    verified: Verified,
}

/// The issuer as `/status` shows it.
#[derive(Debug)]
pub struct Shown {
    /// Its name, if one is asked for.
    pub issuer: Option<String>,
    /// How many keys are known.
    pub keys: usize,
    /// When they were fetched; `None`: not yet.
    pub fetched_at: Option<UnixTime>,
    /// Why the last fetch failed, if it did.
    pub failure: Option<Told>,
}

impl std::fmt::Debug for Issuers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Issuers")
    }
}

impl Issuers {
    /// What is called with. Before anything else.
    pub fn connect(&self, connector: Arc<Connector>) {
        // Set once, by the start of the process.
        let _ = self.connector.set(connector);
    }

    /// What a token claims, if it is good.
    ///
    /// # Errors
    /// 401 where it isn't, 503 where nobody can tell for want of keys.
    pub async fn check(&self, token: &str) -> Result<Arc<Claims>, Refusal> {
        let unknown = Refusal::IssuerUnavailable {
            retry_after_s: RETRY_S,
        };
        let Some(issuer) = self.current.load_full() else {
            return Err(unknown);
        };
        let digest = Digest::of_key(token);
        let seen = issuer.source.pace.progress();
        let waits = match issuer.judge(token, &digest) {
            Some(Ok(claims)) => return Ok(claims),
            None => seen.is_fetching,
            Some(Err(Problem::UnknownKey)) => seen.is_fetching || issuer.source.asks_for_another(),
            Some(Err(_)) => false,
        };
        if waits {
            issuer.source.pace.wait(seen, WAIT).await;
        }
        match issuer.judge(token, &digest) {
            Some(judged) => judged.map_err(|problem| Refusal::InvalidToken { problem }),
            None => Err(unknown),
        }
    }

    /// Waits until the keys were asked for once.
    pub async fn wait_until_asked(&self, at_most: Duration) {
        if let Some(issuer) = self.current.load_full() {
            let now = issuer.source.pace.progress();
            if now.fetches_ended == 0 {
                issuer.source.pace.wait(now, at_most).await;
            }
        }
    }

    /// What `/status` shows.
    pub fn shown(&self) -> Option<Shown> {
        let issuer = self.current.load_full()?;
        let known = issuer.source.known.load();
        Some(Shown {
            issuer: issuer.settings.rule.issuer.clone(),
            keys: known.as_ref().map_or(0, |known| known.keys.count()),
            fetched_at: known.as_ref().map(|known| known.fetched_at),
            failure: issuer.source.failure.lock().clone(),
        })
    }
}

/// Takes the issuer of a plan. Keys stay where they come from the same place; what was found good by another rule isn't.
pub fn follow(state: &Arc<State>, plan: &Plan) {
    let former = state.issuers.current.load_full();
    let next = plan.jwt.as_ref().map(|settings| {
        let known = former.as_ref().map(|issuer| &issuer.source);
        let source = match known.filter(|source| source.from == settings.keys) {
            Some(source) => {
                source.forget();
                // Whoever mended something and reloads doesn't wait for a pause to end.
                if source.pace.progress().is_failing {
                    source.pace.ring();
                }
                source.clone()
            }
            None => begin(state, settings.keys.clone()),
        };
        Arc::new(Issuer {
            settings: settings.clone(),
            source,
        })
    });
    if let Some(former) = &former
        && next
            .as_ref()
            .is_none_or(|next| !Arc::ptr_eq(&next.source, &former.source))
        && let Some(task) = former.source.task.lock().take()
    {
        task.abort();
        former.source.pace.rest(true);
    }
    state.issuers.current.store(next);
}

fn begin(state: &Arc<State>, from: Keys) -> Arc<Source> {
    let source = Arc::new(Source {
        from,
        known: ArcSwapOption::empty(),
        pace: Pace::begin(),
        failure: Mutex::new(None),
        task: Mutex::new(None),
    });
    match &source.from {
        Keys::File(keys) => {
            source.know(keys.clone());
            source.pace.rest(false);
        }
        Keys::Url(_) | Keys::Discovery { .. } => {
            let task = tokio::spawn(fetch::keep(state.clone(), source.clone()));
            *source.task.lock() = Some(task.abort_handle());
        }
    }
    source
}

impl Issuer {
    /// Whether a token is good; `None` where there are no keys to tell by.
    fn judge(&self, token: &str, digest: &Digest) -> Option<Result<Arc<Claims>, Problem>> {
        let known = self.source.known.load_full()?;
        let now = clock::unix_time();
        if let Some(claims) = known.verified.find(digest, now) {
            return Some(Ok(claims));
        }
        let checked = token::check(token, &known.keys, &self.settings.rule, now);
        Some(checked.map(|claims| {
            let claims = Arc::new(claims);
            known.verified.keep(digest, claims.clone());
            claims
        }))
    }
}

impl Source {
    /// A token names a key that isn't known: the issuer may have a new one.
    fn asks_for_another(&self) -> bool {
        match self.from {
            Keys::File(_) => false,
            Keys::Url(_) | Keys::Discovery { .. } => self.pace.ring_once_in(REFETCH_INTERVAL_S),
        }
    }

    /// Takes fetched keys. What was found good by others isn't any more.
    fn know(&self, keys: Arc<KeySet>) {
        let verified = match self.known.load_full() {
            Some(known) if known.keys == keys => known.verified.clone(),
            Some(_) | None => Verified::default(),
        };
        self.known.store(Some(Arc::new(Known {
            keys,
            fetched_at: clock::unix_time(),
            verified,
        })));
    }

    /// Keeps the keys, and forgets what was found good by them.
    fn forget(&self) {
        if let Some(known) = self.known.load_full() {
            self.known.store(Some(Arc::new(Known {
                keys: known.keys.clone(),
                fetched_at: known.fetched_at,
                verified: Verified::default(),
            })));
        }
    }
}
