//! Tollgate's mechanism: everything that touches the world. `filters` decides, this crate acts.
//!
//! The path of a request, in the order in which the files take it:
//! `proxy` (the one way in and out) -> `stage::admit` (which API, whose key) -> `body` (read, bounded) ->
//! `stage::admit` again (which model) -> `stage::cache` -> `stage::limit` -> `exchange` (the driver: attempts) -> `stage::select` (by
//! `affinity` and `health`) -> `stage::forward` -> `stage::respond` -> `stage::account` -> `usage_log`. What can't be
//! held in memory goes through `passthrough`, which drives the same stages from Pingora's own loop.

pub mod admin;
pub mod affinity;
pub mod body;
pub mod cache;
pub mod clock;
pub mod command;
pub mod config;
pub mod context;
pub mod downstream;
pub mod embed;
pub mod exchange;
pub mod health;
pub mod holders;
pub mod identity;
pub mod jwt;
pub mod limits;
pub mod lines;
pub mod listener;
pub mod live;
pub mod logs;
pub mod memo;
pub mod metrics;
pub mod pace;
pub mod passthrough;
pub mod protocol;
pub mod proxy;
pub mod reload;
pub mod reply;
pub mod scope;
pub mod server;
pub mod stage;
pub mod state;
pub mod stop;
pub mod store;
pub mod tls;
pub mod traces;
pub mod trips;
pub mod upstream;
pub mod usage_log;
pub mod watch;
mod wire;
mod within;
