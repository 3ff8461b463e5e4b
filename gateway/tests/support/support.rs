//! What the integration tests share: a gateway process, a scripted backend, and a small HTTP client.
//!
//! A test says `#[path = "support/support.rs"] mod support;`. (A file `tests/support.rs` would be taken for a
//! test of its own.) Everything here blocks and reads HTTP with the standard library alone (or is
//! curl), so that a test without a runtime can use it, and so that a fault of the gateway's HTTP code isn't hidden by
//! the same code here.
//! Nothing waits without a deadline, and every process and port is given back on `Drop`.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test takes what it needs of it, and a test may panic"
)]

pub mod backend;
pub mod before;
pub mod browser;
pub mod caller;
pub mod certificates;
pub mod command;
pub mod curl;
pub mod events;
pub mod gateway;
pub mod http;
pub mod http2;
pub mod installed;
pub mod issuer;
pub mod load;
pub mod metrics;
pub mod plain;
pub mod pool;
pub mod reference;
pub mod tls_front;
pub mod token_service;

use std::time::{Duration, Instant};

/// The longest that anything in a test is waited for. Long, since CI shares two cores; a test that passes never needs it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks until there is an answer, and panics with `what` when the deadline is over.
pub fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "waited {DEADLINE:?} in vain: {what}"
        );
        std::thread::sleep(PAUSE);
    }
}

const PAUSE: Duration = Duration::from_millis(10);
