//! The live side of semantic caches: the answers that are kept, by policy, and the calls that others wait for.
//!
//! Survives a reload, by the policy's name. Answers live in this process, or in a Redis that all replicas share. Never
//! decides whether two questions mean the same (`filters::cache`), nor which policy is for a call (`stage::cache`).

pub mod dimensions;
pub mod flights;
pub mod kept;
pub mod local;
pub mod shared;
pub mod store;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use filters::time::Time;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::config::plan::cache::{Keeps, SemanticCache};
use crate::config::plan::{Plan, Redis};
use crate::state::Registry;

use self::flights::Flights;
use self::kept::{Chosen, StoreError};
use self::local::{Gone, Local};
use self::shared::{Shared, Space};
use self::store::Store;

/// Every policy's answers.
#[derive(Debug, Default)]
pub struct Caches {
    /// Bounded by the policies ever configured in this process.
    stores: Registry<String, Local>,
    /// Bounded by the embedding models ever configured in this process.
    spaces: Registry<(String, String), Space>,
    shared: ArcSwapOption<Shared>,
    connected: Mutex<Option<Redis>>,
    flights: Arc<Flights>,
}

impl Caches {
    /// The answers of a policy. None while there is no connection to be had to where they are.
    pub fn store(&self, policy: &SemanticCache) -> Option<Store> {
        match policy.keeps {
            Keeps::Process => Some(Store::Local(self.local(policy))),
            Keeps::Redis => {
                let names = (
                    policy.embeddings.maker().to_owned(),
                    policy.embeddings.model().to_owned(),
                );
                let space = || Space::new(&names.0, &names.1);
                let space = self.spaces.entry(&names, space);
                Some(Store::Shared(self.shared.load_full()?, space))
            }
        }
    }

    fn local(&self, policy: &SemanticCache) -> Arc<Local> {
        let make = || Local::new(policy.max_entries);
        self.stores.entry(policy.name.as_ref(), make)
    }

    /// How many answers of a policy this process keeps, if it ever kept one.
    pub fn entries(&self, policy: &SemanticCache) -> Option<usize> {
        let store = self.stores.find(policy.name.as_ref())?;
        Some(store.entries())
    }

    /// The calls that are under way.
    pub fn flights(&self) -> &Arc<Flights> {
        &self.flights
    }

    /// Connects to where a plan's answers are, if that is elsewhere and another place than before; on that runtime.
    ///
    /// # Errors
    /// If the URL isn't one; the former connection stays.
    pub fn connect(&self, plan: &Plan, runtime: Option<&Handle>) -> Result<(), String> {
        let mut caches = plan.semantic_caches.iter();
        let is_shared = caches.any(|policy| policy.keeps == Keeps::Redis);
        let redis = plan.redis.as_ref().filter(|_| is_shared);
        let mut connected = self.connected.lock();
        if connected.as_ref() == redis {
            return Ok(());
        }
        let shared =
            match (redis, runtime) {
                (Some(redis), Some(runtime)) => {
                    let _inside = runtime.enter();
                    let shared = Shared::connect(&redis.into(), redis.timeout);
                    Some(shared.map_err(|error| {
                        format!("redis: the URL can't be used: {}", error.why())
                    })?)
                }
                (None, _) | (_, None) => None,
            };
        self.shared.store(shared);
        *connected = redis.cloned();
        Ok(())
    }

    /// Ends when the store that replicas share was reached, or at once if there is none.
    pub async fn wait_until_connected(&self) {
        if let Some(shared) = self.shared.load_full() {
            shared.wait_until_connected().await;
        }
    }

    /// Takes the bounds of another plan. What this process keeps for policies that it hasn't goes.
    pub fn follow(&self, former: &Plan, plan: &Plan) {
        let is_here = |policy: &&Arc<SemanticCache>| policy.keeps == Keeps::Process;
        for policy in plan.semantic_caches.iter().filter(is_here) {
            self.local(policy).resize(policy.max_entries);
        }
        for policy in &former.semantic_caches {
            let mut kept = plan.semantic_caches.iter().filter(is_here);
            if !kept.any(|other| other.name == policy.name) {
                self.local(policy).purge(Gone::All);
            }
        }
    }

    /// Takes answers out, here and from what replicas share, and says how many. None if no policy has that name.
    ///
    /// # Errors
    /// If the shared store can't be asked.
    pub async fn purge(&self, plan: &Plan, chosen: &Chosen) -> Result<Option<usize>, StoreError> {
        let mut policies = plan.semantic_caches.iter();
        let here = match chosen {
            Chosen::Id(id) => self.purge_all(Gone::Id(*id)),
            Chosen::Subscription(name) => self.purge_all(Gone::Subscription(name)),
            Chosen::Policy(name) => {
                let store = self.stores.find(name);
                if store.is_none() && !policies.any(|policy| *policy.name == **name) {
                    return Ok(None);
                }
                store.map_or(0, |store| store.purge(Gone::All))
            }
        };
        match self.shared.load_full() {
            Some(shared) => Ok(Some(here + shared.purge(chosen).await?)),
            None => Ok(Some(here)),
        }
    }

    fn purge_all(&self, gone: Gone<'_>) -> usize {
        let stores = self.stores.values();
        stores.iter().map(|store| store.purge(gone)).sum()
    }

    /// Takes out what is expired; how many there were.
    pub fn sweep(&self, now: Time) -> usize {
        self.purge_all(Gone::Expired(now))
    }
}
