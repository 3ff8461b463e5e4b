//! Which backend holds what, for the other replicas.
//!
//! One table of a fixed number of places: an id's digest says which, and the newest id that falls there stays. So the
//! memory is bounded whatever the traffic, and nothing has to be cleaned up: 262144 places of some 150 bytes are 40 MB
//! when all are taken, and at ten responses a second one is found for seven hours. A key with an expiry for each would
//! take as much as there is traffic, in the Redis that counters need.
//!
//! Told in the background, in batches, and never twice: what is lost costs a look elsewhere. Asked by a request that
//! names what this process doesn't know, once, within `[redis] timeout`. Never decides where a request goes.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Weak};
use std::time::Duration;

use filters::balance::affinity::HeldId;
use fred::interfaces::HashesInterface;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::health::Operation;
use super::{CallError, Redis};

/// Places in the table.
const PLACES: u32 = 1 << 18;
/// Ids in one batch: a millisecond of Redis at most.
const MAX_BATCH: usize = 256;
/// Ids that wait to be told; beyond it the oldest are left out.
const MAX_WAITING: usize = 4_096;
/// A batch may take longer than a request waits.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);

/// What the others have to be told.
#[derive(Debug, Default)]
pub(super) struct Untold {
    waiting: Mutex<VecDeque<(HeldId, Arc<str>)>>,
    pub(super) wake: Notify,
}

impl Redis {
    /// This backend holds it. Never waits; nobody is told while Redis is gone.
    pub fn tell_holder(&self, id: HeldId, backend: &Arc<str>) {
        if !self.health.is_up() {
            return;
        }
        let mut waiting = self.untold_holders.waiting.lock();
        if waiting.len() >= MAX_WAITING {
            waiting.pop_front();
        }
        waiting.push_back((id, Arc::clone(backend)));
        drop(waiting);
        self.untold_holders.wake.notify_one();
    }

    /// The name of the backend that holds it, if a replica has told.
    pub async fn holder(&self, id: HeldId) -> Option<String> {
        if !self.is_reachable() {
            return None;
        }
        let asked = self
            .client
            .hget::<Option<String>, _, _>(&self.names.holders, place(id));
        match tokio::time::timeout(self.settings.timeout, asked).await {
            Ok(Ok(entry)) => {
                let (digest, backend) = entry.as_deref()?.split_once(' ')?;
                (digest == digest_of(id)).then(|| backend.to_owned())
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "redis: can't tell who holds an id");
                self.health.missed(Operation::Holders);
                None
            }
            Err(_) => {
                let why = format!("no answer within {:?}", self.settings.timeout);
                self.health.failed(Operation::Holders, &why);
                None
            }
        }
    }

    async fn tell_holders(&self, batch: &[(HeldId, Arc<str>)]) -> Result<(), CallError> {
        let pair = |(id, backend): &(HeldId, Arc<str>)| {
            [place(*id), format!("{} {backend}", digest_of(*id))]
        };
        let arguments: Vec<String> = batch.iter().flat_map(pair).collect();
        let keys = vec![self.names.holders.clone()];
        let told = self
            .tell_holders
            .run::<Vec<i64>>(&self.client, TELL_TIMEOUT, keys, arguments);
        told.await.map(|_count| ())
    }
}

/// Tells until nobody uses the store.
pub(super) async fn keep(store: Weak<Redis>, untold: Arc<Untold>) {
    loop {
        untold.wake.notified().await;
        let Some(redis) = store.upgrade() else { return };
        while redis.health.is_up() {
            let batch = untold.next();
            if batch.is_empty() {
                break;
            }
            if let Err(error) = redis.tell_holders(&batch).await {
                tracing::debug!(reason = error.why(), "redis: can't be told who holds what");
                redis.health.missed(Operation::Holders);
            }
        }
    }
}

impl Untold {
    fn next(&self) -> Vec<(HeldId, Arc<str>)> {
        let mut waiting = self.waiting.lock();
        let count = waiting.len().min(MAX_BATCH);
        waiting.drain(..count).collect()
    }
}

fn place(id: HeldId) -> String {
    let [a, b, c, d, ..] = *id.as_bytes();
    (u32::from_be_bytes([a, b, c, d]) % PLACES).to_string()
}

fn digest_of(id: HeldId) -> String {
    let mut text = String::with_capacity(32);
    for byte in id.as_bytes() {
        // A String takes whatever is written.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
