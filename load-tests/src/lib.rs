//! A simulator of a model endpoint, and what the benchmarks share.
//!
//! The simulator is not a model: it makes up words, counts them, and breaks on request. It exists so that tests and
//! `make run` need no account anywhere. Reading order: `simulator`, `simulator/behaviour`, `simulator/answer`.
//! Nothing here is part of the gateway, and the gateway depends on it in tests only.

pub mod simulator;
