//! Tokens that were found good, by their digest, so that the same one isn't checked anew on each call.
//!
//! Two generations: what is asked for moves into the younger, and when that is full it becomes the older and what was
//! there goes. So the store is bounded, nothing is searched for what to throw away, and a token in use stays. Holds
//! digests and claims, never a token.

use std::collections::HashMap;
use std::sync::Arc;

use filters::auth::Digest;
use filters::time::UnixTime;
use filters::token::Claims;
use parking_lot::Mutex;

/// Parts that are locked apart.
const SHARDS: usize = 16;
/// Tokens in one generation of one part: 8192 in all are remembered at least, 16384 at most.
const GENERATION: usize = 512;

/// The store; a clone is the same one.
#[derive(Clone, Default)]
pub(super) struct Verified(Arc<[Mutex<Shard>; SHARDS]>);

#[derive(Default)]
struct Shard {
    younger: HashMap<[u8; 32], Arc<Claims>>,
    older: HashMap<[u8; 32], Arc<Claims>>,
}

impl Verified {
    /// What a token claims that was found good, and whose time isn't over.
    pub fn find(&self, digest: &Digest, now: UnixTime) -> Option<Arc<Claims>> {
        let key = digest.bytes();
        let mut shard = self.shard(key).lock();
        let found = match shard.younger.get(key) {
            Some(claims) => claims.clone(),
            None => {
                let claims = shard.older.remove(key)?;
                shard.add(*key, claims.clone());
                claims
            }
        };
        found.is_current(now).then_some(found)
    }

    /// Remembers that a token is good.
    pub fn keep(&self, digest: &Digest, claims: Arc<Claims>) {
        let key = digest.bytes();
        self.shard(key).lock().add(*key, claims);
    }

    fn shard(&self, key: &[u8; 32]) -> &Mutex<Shard> {
        &self.0[usize::from(key[0]) % SHARDS]
    }
}

impl Shard {
    fn add(&mut self, key: [u8; 32], claims: Arc<Claims>) {
        if self.younger.len() >= GENERATION {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(key, claims);
    }
}
