//! The live side of semantic caches: the answers that are kept, by policy, and the calls that others wait for.
//!
//! Survives a reload, by the policy's name. Answers live in this process; each replica has its own. Never decides
//! whether two questions mean the same (`filters::cache`), nor which policy is for a call (`stage::cache`).

pub mod flights;
pub mod kept;
pub mod local;

use std::sync::Arc;

use filters::time::Time;

use crate::config::plan::Plan;
use crate::config::plan::cache::SemanticCache;
use crate::state::Registry;

use self::flights::Flights;
use self::kept::Chosen;
use self::local::Local;

/// Every policy's answers.
#[derive(Debug, Default)]
pub struct Caches {
    /// Bounded by the policies ever configured in this process.
    stores: Registry<String, Local>,
    flights: Arc<Flights>,
}

impl Caches {
    /// The answers of a policy.
    pub fn store(&self, policy: &SemanticCache) -> Arc<Local> {
        self.stores
            .entry(policy.name.as_ref(), || Local::new(policy.max_entries))
    }

    /// The calls that are under way.
    pub fn flights(&self) -> &Arc<Flights> {
        &self.flights
    }

    /// Takes the bounds of another plan. Answers of policies that it hasn't go.
    pub fn follow(&self, former: &Plan, plan: &Plan) {
        for policy in &plan.semantic_caches {
            self.store(policy).resize(policy.max_entries);
        }
        for policy in &former.semantic_caches {
            let mut names = plan.semantic_caches.iter().map(|policy| &policy.name);
            if !names.any(|name| *name == policy.name) {
                self.store(policy).purge(&Chosen::All);
            }
        }
    }

    /// Takes answers out of every policy's store, and says how many.
    pub fn purge(&self, chosen: &Chosen) -> usize {
        let stores = self.stores.values();
        stores.iter().map(|store| store.purge(chosen)).sum()
    }

    /// Takes out all that a policy of this name keeps. None if there never was one.
    pub fn purge_policy(&self, name: &str) -> Option<usize> {
        Some(self.stores.find(name)?.purge(&Chosen::All))
    }

    /// Takes out what is expired; how many there were.
    pub fn sweep(&self, now: Time) -> usize {
        self.purge(&Chosen::Expired(now))
    }
}
