//! Which member of the pool an attempt goes to. Pools have one member until balancing comes.
//!
//! Never connects; `exchange` and `passthrough` do.

use std::sync::Arc;

use crate::config::plan::{Backend, Pool};

/// The candidates of a request, best first. Never empty: a pool has at least one member.
pub fn candidates(pool: &Pool) -> impl Iterator<Item = &Arc<Backend>> {
    pool.members.iter().map(|member| &member.backend)
}
