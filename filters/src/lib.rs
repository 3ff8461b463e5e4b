//! Tollgate's policy. Pure and deterministic: no Pingora, no async, no clock, no randomness, no I/O.
//!
//! Reading order: `route` (which API, which operation) -> `auth` (whose key), `token` (whose token) -> `request` (what the body
//! asks) -> `pattern` (which model) -> `balance` (which backend of the pool) -> `outcome`, `status`,
//! `retry_after` (how an attempt ended) -> `breaker` (whether the backend is left alone) -> `retry` (what
//! follows) -> `sse`, `usage`, `answer` (what came back) -> `dimensions` (under which labels it counts) ->
//! `record` (what is written down of it) -> `price` (what it cost).
//! Beside them stand `cache` (whether an earlier answer may be given instead) and `identity` (how long the gateway's own
//! tokens are good for).

pub mod answer;
pub mod auth;
pub mod balance;
pub mod breaker;
pub mod cache;
pub mod dimensions;
pub mod expression;
pub mod identity;
pub mod limit;
pub mod outcome;
pub mod pattern;
pub mod price;
pub mod record;
pub mod refusal;
pub mod request;
pub mod retry;
pub mod retry_after;
pub mod route;
pub mod sse;
pub mod status;
pub mod time;
pub mod token;
pub mod tokens;
pub mod traceparent;
pub mod units;
pub mod usage;

mod scan;
