//! The model in this process, where tollgate was built with it.
//!
//! It is loaded when the configuration is taken, and only if its files are those that the configuration means. It runs on
//! threads of its own, half as many as there are cores, so that it never holds up a request that doesn't wait for it;
//! what waits is bounded, and what nobody waits for any more isn't made.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use filters::cache::score::Vector;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

#[cfg(feature = "local-embeddings")]
use super::minilm::MiniLm;
use crate::config::plan::Plan;
use crate::config::plan::cache::{Embedder, LOCAL_MODEL, LocalModel, SemanticCache};

/// Texts that wait for it. Beyond it a text has no embedding: a second's worth.
const MAX_WAITING: usize = 64;
/// Its tokenizer's file, as published.
const TOKENIZER_SHA256: &str = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037";

/// The models that the plan in force uses. Bounded by its policies.
#[derive(Debug, Default)]
pub struct Models(ArcSwap<Vec<Arc<Local>>>);

/// One model.
#[derive(Debug)]
pub struct Local {
    written: LocalModel,
    model: Arc<MiniLm>,
    waiting: Arc<AtomicUsize>,
}

/// Why there is no embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmade {
    /// The model can't read the text.
    Unreadable,
    /// Too many wait, or the model failed.
    Failed,
}

impl Models {
    /// Loads what a plan uses and isn't there yet; what it doesn't use goes. Reads 91 MB.
    ///
    /// # Errors
    /// Why one can't be loaded; then nothing changes.
    pub fn follow(&self, plan: &Plan) -> Result<(), String> {
        let mut loaded: Vec<Arc<Local>> = Vec::new();
        for (policy, written) in used(plan) {
            let known = self.find(written);
            let known = known.or_else(|| {
                loaded
                    .iter()
                    .find(|local| local.written == *written)
                    .cloned()
            });
            let local = match known {
                Some(local) => local,
                None => Arc::new(Local::load(written).map_err(|why| told(policy, &why))?),
            };
            loaded.push(local);
        }
        self.0.store(Arc::new(loaded));
        Ok(())
    }

    /// A model that was loaded.
    pub fn find(&self, written: &LocalModel) -> Option<Arc<Local>> {
        let loaded = self.0.load();
        loaded
            .iter()
            .find(|local| local.written == *written)
            .cloned()
    }
}

/// Why `run` would refuse a plan, a line each.
pub fn refusals(plan: &Plan) -> Vec<String> {
    let refused = used(plan).filter_map(|(policy, written)| {
        let why = match cfg!(feature = "local-embeddings") {
            true => files(written).err()?,
            false => NOT_BUILT.to_owned(),
        };
        Some(told(policy, &why))
    });
    refused.collect()
}

fn used(plan: &Plan) -> impl Iterator<Item = (&SemanticCache, &LocalModel)> {
    let policies = plan.semantic_caches.iter();
    policies.filter_map(|policy| match &policy.embeddings {
        Embedder::Backend(_) => None,
        Embedder::Local(written) => Some((policy.as_ref(), written)),
    })
}

fn told(policy: &SemanticCache, why: &str) -> String {
    let name = &policy.name;
    format!("[[semantic-cache]] \"{name}\": embeddings = {{ local = \"{LOCAL_MODEL}\" }}: {why}")
}

const NOT_BUILT: &str = "this tollgate was built without it; expected one built with `cargo build --release --features local-embeddings`, or embeddings = { backend = \"NAME\" }";

impl Local {
    /// Reads and checks the files of a model.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn load(written: &LocalModel) -> Result<Self, String> {
        let (weights, tokenizer) = files(written)?;
        Ok(Local {
            model: Arc::new(MiniLm::new(weights, &tokenizer)?),
            written: written.clone(),
            waiting: Arc::default(),
        })
    }

    /// The embedding of a text.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn embed(&self, text: &str) -> Result<Vector, Unmade> {
        let place = Place::take(&self.waiting).ok_or(Unmade::Failed)?;
        let (made, making) = oneshot::channel();
        let (model, text) = (self.model.clone(), text.to_owned());
        self.model.spawn(move || {
            if !made.is_closed() {
                // Nobody may want it any more.
                let _ = made.send(model.embed(&text));
            }
            drop(place);
        });
        match making.await {
            Ok(Ok(Some(numbers))) => Vector::new(&numbers).ok_or(Unmade::Failed),
            Ok(Ok(None)) => Err(Unmade::Unreadable),
            Ok(Err(why)) => {
                tracing::error!(why, "the model in this process failed");
                Err(Unmade::Failed)
            }
            Err(_) => Err(Unmade::Failed),
        }
    }
}

/// One of those that wait, or are made.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(waiting: &Arc<AtomicUsize>) -> Option<Self> {
        let taken = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < MAX_WAITING).then_some(count + 1)
        });
        taken.is_ok().then(|| Place(waiting.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The weights and the tokenizer, if they are those that are meant.
fn files(written: &LocalModel) -> Result<(Vec<u8>, Vec<u8>), String> {
    let weights = read(
        &written.path.join("model.safetensors"),
        &hex(&written.sha256),
    )?;
    let tokenizer = read(&written.path.join("tokenizer.json"), TOKENIZER_SHA256)?;
    Ok((weights, tokenizer))
}

fn read(path: &Path, sha256: &str) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| {
        format!("{shown}: {error}; `scripts/local-embeddings FOLDER` puts the model into a folder")
    })?;
    let found = hex(&Sha256::digest(&bytes));
    match found == sha256 {
        true => Ok(bytes),
        false => Err(format!(
            "{shown}: found a file with SHA-256 {found}, expected {sha256}"
        )),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// No value of it exists where the model wasn't built in.
#[cfg(not(feature = "local-embeddings"))]
#[derive(Debug)]
enum MiniLm {}

#[cfg(not(feature = "local-embeddings"))]
impl MiniLm {
    fn new(_weights: Vec<u8>, _tokenizer: &[u8]) -> Result<Self, String> {
        Err(NOT_BUILT.to_owned())
    }

    fn spawn(&self, _work: impl FnOnce() + Send + 'static) {
        match *self {}
    }

    fn embed(&self, _text: &str) -> Result<Option<Vec<f32>>, String> {
        match *self {}
    }
}
