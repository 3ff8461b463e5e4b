//! `[[semantic-cache]]`, as the program uses it. Never a kept answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use filters::cache::entry::ToolCalls;
use filters::cache::prompt::SystemMessages;
use filters::cache::score::Threshold;
use filters::expression::Expression;

use super::Backend;

/// One policy.
#[derive(Debug)]
pub struct SemanticCache {
    /// Names the store and the metric's label.
    pub name: Arc<str>,
    /// Which calls it is for; `None`: all.
    pub when: Option<Expression>,
    /// How near two questions must lie.
    pub threshold: Threshold,
    /// Who makes the vectors.
    pub embeddings: Embedder,
    /// Whose answers are kept apart.
    pub vary_by: VaryBy,
    /// Whether system messages count as messages.
    pub system: SystemMessages,
    /// Whether answers that call tools are kept.
    pub tool_calls: ToolCalls,
    /// Longer conversations aren't looked up.
    pub max_message_count: usize,
    /// How long an answer is kept.
    pub duration: Duration,
    /// Where.
    pub keeps: Keeps,
    /// How many are kept in this process.
    pub max_entries: usize,
    /// Whether it answers.
    pub mode: Mode,
}

/// Whose answers are kept apart.
#[derive(Debug)]
pub enum VaryBy {
    /// Each subscription's.
    Subscription,
    /// By these values; by none: all callers share.
    Values(Vec<Expression>),
}

/// Where answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// In each process its own.
    Process,
    /// In Redis, for all replicas.
    Redis,
}

/// Whether a cache answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Serve,
    /// Every answer is a backend's; what would have been a hit is counted.
    Observe,
}

/// Who makes the vectors.
#[derive(Debug, Clone)]
pub enum Embedder {
    /// A backend, for the model of its deployment.
    Backend(Arc<Backend>),
    /// This process.
    Local(LocalModel),
}

/// A model in this process: all-MiniLM-L6-v2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalModel {
    /// The folder of `model.safetensors` and `tokenizer.json`.
    pub path: PathBuf,
    /// SHA-256 of the first.
    pub sha256: [u8; 32],
}

/// The model that a backend without a `deployment` is asked for.
pub const DEFAULT_EMBEDDINGS_MODEL: &str = "text-embedding-3-small";

/// The embedding model of a backend, as it knows it.
pub fn embeddings_model(backend: &Backend) -> &str {
    let deployment = backend.deployment.as_deref();
    deployment.unwrap_or(DEFAULT_EMBEDDINGS_MODEL)
}

/// The one that can be had in this process.
pub const LOCAL_MODEL: &str = "all-minilm-l6-v2";

impl Embedder {
    /// Who it is: a backend's name, or this process.
    pub fn maker(&self) -> &str {
        match self {
            Embedder::Backend(backend) => &backend.name,
            Embedder::Local(_) => "this process",
        }
    }

    /// The model, as its maker knows it.
    pub fn model(&self) -> &str {
        match self {
            Embedder::Backend(backend) => embeddings_model(backend),
            Embedder::Local(_) => LOCAL_MODEL,
        }
    }
}
