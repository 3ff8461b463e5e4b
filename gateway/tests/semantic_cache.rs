//! The semantic cache with its answers in the gateway's own process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "semantic_cache/answers.rs"]
mod answers;
#[path = "semantic_cache/cases.rs"]
mod cases;
#[path = "support/support.rs"]
mod support;

use std::sync::Arc;

use gateway::cache::local::Local;
use gateway::cache::store;

/// Nothing to start.
struct Store;

impl Store {
    fn start() -> Self {
        Store
    }

    fn section(&self) -> String {
        String::new()
    }

    async fn opened(&self) -> store::Store {
        store::Store::Local(Arc::new(Local::new(1_000)))
    }
}
