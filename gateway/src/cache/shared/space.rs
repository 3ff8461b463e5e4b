//! What one embedding model's answers are called in Redis.
//!
//! The name of the model is readable in it, and a digest of all that makes vectors comparable: who makes them, and by
//! which model. The version is that of the whole form: another one finds nothing of this.

use filters::cache::exact::Digest;
use sha2::{Digest as _, Sha256};

use crate::cache::dimensions::Dimensions;

/// All keys and indexes begin so.
pub(super) const PREFIX: &str = "{tollgate}:cache:v1:";

/// The answers whose vectors were made by one model.
#[derive(Debug)]
pub struct Space {
    prefix: String,
    /// Of the vectors that this process put in.
    pub dimensions: Dimensions,
}

impl Space {
    /// For vectors of this model, made there.
    pub fn new(maker: &str, model: &str) -> Self {
        let digest = Sha256::new_with_prefix(maker.as_bytes())
            .chain_update([0])
            .chain_update(model.as_bytes())
            .finalize();
        let digest: String = digest[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let plain = |c: char| match c.is_ascii_alphanumeric() || c == '-' || c == '.' {
            true => c,
            false => '-',
        };
        let model: String = model.chars().take(MAX_NAME).map(plain).collect();
        Space {
            prefix: format!("{PREFIX}{model}-{digest}:"),
            dimensions: Dimensions::default(),
        }
    }

    /// What all its keys begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of one answer.
    pub(super) fn key(&self, exact: &Digest) -> String {
        format!("{}{}", self.prefix, exact.to_hex())
    }

    /// The index over its vectors of so many dimensions.
    pub(super) fn index(&self, dimensions: usize) -> String {
        format!("{}{dimensions}", self.prefix)
    }
}

/// Of a model's name, so much is shown.
const MAX_NAME: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_maker_model_or_number_of_dimensions_has_another_name_without_odd_characters() {
        let index = |maker, model| Space::new(maker, model).index(1536);
        let one = index("embeddings", "text-embedding-3-small");
        assert!(one.starts_with("{tollgate}:cache:v1:text-embedding-3-small-"));
        assert!(one.ends_with(":1536"));
        let others = [
            index("other", "text-embedding-3-small"),
            index("embeddings", "text-embedding-3-large"),
            index("embeddings", "text embedding*3:small"),
            index("embeddingst", "ext-embedding-3-small"),
        ];
        assert!(others.iter().all(|other| *other != one));
        assert!(others[2].starts_with("{tollgate}:cache:v1:text-embedding-3-small-"));
    }
}
