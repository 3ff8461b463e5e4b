//! Embeddings for the semantic cache: texts that wait for a backend's, and a model in this process.
//!
//! Never makes a call (`exchange::embedding`), and never judges a distance.

pub mod local;
#[cfg(feature = "local-embeddings")]
mod minilm;
pub mod queue;
