//! `tollgate check --connect`: asks Redis, as `run` would. Writes nothing there.

use std::io::{self, Write};

use super::Outcome;
use crate::cache::shared::engine::{self, Engine};
use crate::config::plan::Plan;
use crate::config::plan::cache::Keeps;

/// Says what Redis is, or what is wrong with it.
pub(super) fn redis(
    plan: &Plan,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> io::Result<Outcome> {
    let Some(redis) = &plan.redis else {
        writeln!(out, "connections:\n  none: there is no [redis]")?;
        return Ok(Outcome::Well);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let engine = runtime.block_on(engine::probe(&redis.into(), engine::PROBE_WAIT));
    let mut caches = plan.semantic_caches.iter();
    let is_needed = caches.any(|policy| policy.keeps == Keeps::Redis);
    match (&engine, is_needed) {
        (Engine::Unreachable(_), _) => {
            writeln!(errors, "{engine}")?;
            Ok(Outcome::Silent)
        }
        (Engine::Missing { .. } | Engine::Cluster | Engine::Forbidden(_), true) => {
            writeln!(errors, "loads, but `run` would refuse: {engine}")?;
            Ok(Outcome::Wrong)
        }
        (Engine::Missing { version }, false) => {
            writeln!(
                out,
                "connections:\n  redis: Redis {version}, without the query engine"
            )?;
            Ok(Outcome::Well)
        }
        (Engine::Cluster, false) => {
            writeln!(out, "connections:\n  redis: a node of a cluster")?;
            Ok(Outcome::Well)
        }
        (Engine::Forbidden(_), false) => {
            writeln!(
                out,
                "connections:\n  redis: answers; this user mustn't use the query engine"
            )?;
            Ok(Outcome::Well)
        }
        (Engine::Ready { .. }, _) => {
            writeln!(out, "connections:\n  redis: {engine}")?;
            Ok(Outcome::Well)
        }
    }
}
