//! Answers in a Redis that all replicas share, found by its query engine.
//!
//! An answer is a hash under a key that its exact digest names, so an exact repeat is one command and needs no index.
//! For near ones there is an index for each embedding model and number of dimensions, under a name with the version of
//! this form: a partition's nearest are its tag and its vectors, compared by cosine. Redis lets answers go by their time
//! and by its own memory policy.
//!
//! **Never in the way.** Each command has the time that `[redis] timeout` gives it and is sent once; after some failures in
//! a row (late, or no connection) nothing is asked for a moment. An answer says by its digest that it is whole, unchanged and of its partition;
//! one that doesn't is taken out. An index that is gone (FLUSHALL drops it) is made again, and Redis fills it from what
//! is there.
//!
//! The connection is one of its own: answers are large, and limits mustn't wait behind them.

pub mod engine;
mod rest;
mod space;
mod wire;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use filters::cache::guard::{self, Verdict};
use filters::cache::prompt::Prompt;
use fred::clients::Client;
use fred::interfaces::{ClientLike, HashesInterface, LuaInterface};
use fred::types::{CustomCommand, Value};
use parking_lot::Mutex;
use tokio::runtime::Handle;

pub use self::space::Space;

use self::rest::Rest;
use self::wire::Near;
use super::kept::{Chosen, Found, Kept, Sought, StoreError};
use super::local::expiry;
use super::store::Kind;
use crate::clock;
use crate::store::redis::connection;
use crate::store::redis::{CallError, Endpoint};

/// Indexes that were seen, so that the loss of one is noticed. More than there are embedding models.
const MAX_SEEN: usize = 100;
/// Keys in one step of a purge: a millisecond of Redis.
const PURGE_STEP: usize = 1_000;
/// One step of a purge may take longer than a request waits.
const PURGE_TIMEOUT: Duration = Duration::from_secs(1);
/// An index is made in so long.
const MAKE_TIMEOUT: Duration = Duration::from_secs(1);

/// The connection.
#[derive(Debug)]
pub struct Shared {
    client: Client,
    runtime: Handle,
    timeout: Duration,
    rest: Rest,
    seen: Mutex<HashSet<String>>,
}

/// Why a command brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The index isn't there.
    NoIndex,
    /// The index is there already.
    Exists,
    /// Anything else; it was told to the log.
    Failed,
}

impl Shared {
    /// Connects in the background, and keeps the connection until the last user of it is gone. Needs a runtime.
    ///
    /// # Errors
    /// If the URL isn't one, or the authorities can't be read.
    pub fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<Arc<Self>, CallError> {
        Ok(Arc::new(Shared {
            client: connection::connect(endpoint)?,
            runtime: Handle::current(),
            timeout,
            rest: Rest::default(),
            seen: Mutex::default(),
        }))
    }

    /// Ends when it is connected for the first time.
    pub async fn wait_until_connected(&self) {
        // It is tried again and again, so this has no other end.
        let _ = self.client.wait_for_connect().await;
    }

    /// The answer to an exact repeat.
    ///
    /// # Errors
    /// Why Redis can't say.
    pub async fn find_exact(
        &self,
        space: &Space,
        prompt: &Prompt,
    ) -> Result<Option<Found>, StoreError> {
        let key = space.key(&prompt.exact);
        let Some(fields) = self.fetch(&key).await? else {
            return Ok(None);
        };
        let asked = prompt.question.as_deref().unwrap_or_default();
        let kept = wire::kept(fields, &prompt.partition);
        match kept.filter(|kept| kept.entry.question == asked) {
            Some(kept) => Ok(Some(Found {
                kept: Arc::new(kept),
                distance: 0.0,
            })),
            None => Err(self.poisoned(key).await),
        }
    }

    /// The nearest answer that the guard lets pass.
    ///
    /// # Errors
    /// Why Redis can't say.
    pub async fn find_near(
        &self,
        space: &Space,
        sought: &Sought,
    ) -> Result<Option<Found>, StoreError> {
        let dimensions = sought.vector.values().len();
        let index = space.index(dimensions);
        // Before it is asked for: of many that ask for one that is new, another may make it meanwhile.
        let was_there = self.seen.lock().contains(&index);
        let search = self.client.custom::<Value, Value>(
            CustomCommand::new_static("FT.SEARCH", None, false),
            wire::search(&index, sought, self.timeout),
        );
        let near = match self.call(self.timeout, search).await {
            Ok(reply) => wire::near(reply).ok_or(StoreError::Unavailable)?,
            Err(Failure::NoIndex) => {
                self.make(space, dimensions).await?;
                // One that is gone is an error to the call that notices.
                return match was_there {
                    true => Err(StoreError::Unavailable),
                    false => Ok(None),
                };
            }
            Err(Failure::Exists | Failure::Failed) => return Err(StoreError::Unavailable),
        };
        self.see(index);
        let mut is_poisoned = false;
        for near in near {
            let is_meant = sought.threshold.admits(near.distance)
                && guard::compare(&near.question, &sought.question) == Verdict::Match;
            if !is_meant {
                continue;
            }
            match self.found(sought, near).await {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(StoreError::Poisoned) => is_poisoned = true,
                Err(StoreError::Unavailable) => return Err(StoreError::Unavailable),
            }
        }
        match is_poisoned {
            true => Err(StoreError::Poisoned),
            false => Ok(None),
        }
    }

    /// Keeps an answer, over one with the same exact digest.
    ///
    /// # Errors
    /// Why it isn't kept.
    pub async fn keep(&self, space: &Space, kept: Kept, kind: Kind<'_>) -> Result<(), StoreError> {
        let now = clock::now().time();
        let is_fit = |vector: &filters::cache::score::Vector| {
            space.dimensions.compare(now, vector.values().len())
        };
        let vector = kind.vector.as_ref().filter(|vector| is_fit(vector));
        if let Some(vector) = vector {
            let until = expiry(now, kind.duration);
            space.dimensions.learn(vector.values().len(), until);
        }
        let key = space.key(&kind.prompt.exact);
        let values = wire::values(&kept, &kind, vector);
        let keep = self.client.eval::<Value, _, _, _>(KEEP, vec![key], values);
        self.ask(self.timeout, keep).await.map(|_| ())
    }

    /// Takes answers out, by a walk over the keys; how many there were.
    ///
    /// # Errors
    /// If Redis can't be asked to the end.
    pub async fn purge(&self, chosen: &Chosen) -> Result<usize, StoreError> {
        let (field, value) = match chosen {
            Chosen::Id(id) => ("id", format!("{id:032x}")),
            Chosen::Subscription(name) => ("subscription", name.clone()),
            Chosen::Policy(name) => ("policy", name.clone()),
        };
        let (mut purged, mut cursor) = (0, "0".to_owned());
        loop {
            let scan = self.client.custom::<(String, Vec<String>), Value>(
                CustomCommand::new_static("SCAN", None, false),
                wire::scan(&cursor, PURGE_STEP),
            );
            let (next, keys) = self.ask(PURGE_TIMEOUT, scan).await?;
            if !keys.is_empty() {
                let wanted = vec![field.to_owned(), value.clone()];
                let purge = self.client.eval::<usize, _, _, _>(PURGE, keys, wanted);
                purged += self.ask(PURGE_TIMEOUT, purge).await?;
            }
            if next == "0" {
                return Ok(purged);
            }
            cursor = next;
        }
    }

    /// The answer behind one that lies near. None if it is over meanwhile.
    async fn found(&self, sought: &Sought, near: Near) -> Result<Option<Found>, StoreError> {
        let Some(fields) = self.fetch(&near.key).await? else {
            return Ok(None);
        };
        let kept = wire::kept(fields, &sought.partition);
        match kept.filter(|kept| kept.entry.question == near.question) {
            Some(kept) => Ok(Some(Found {
                kept: Arc::new(kept),
                distance: near.distance,
            })),
            None => Err(self.poisoned(near.key).await),
        }
    }

    /// None if there is nothing under the key.
    async fn fetch(&self, key: &str) -> Result<Option<Vec<Value>>, StoreError> {
        let fields = wire::FIELDS.to_vec();
        let fetch = self.client.hmget::<Vec<Value>, _, _>(key, fields);
        let fields = self.ask(self.timeout, fetch).await?;
        Ok(fields
            .iter()
            .any(|field| !field.is_null())
            .then_some(fields))
    }

    /// What isn't what was put in goes, so that it isn't met again.
    async fn poisoned(&self, key: String) -> StoreError {
        tracing::warn!("redis: a kept answer is damaged or isn't ours; it is taken out");
        let unlink = CustomCommand::new_static("UNLINK", None, false);
        let unlink = self
            .client
            .custom::<Value, _>(unlink, vec![Value::from(key)]);
        // It expires by itself too.
        let _ = self.call(self.timeout, unlink).await;
        StoreError::Poisoned
    }

    /// Makes an index, unless another was quicker.
    async fn make(&self, space: &Space, dimensions: usize) -> Result<(), StoreError> {
        let index = space.index(dimensions);
        let make = self.client.custom::<Value, Value>(
            CustomCommand::new_static("FT.CREATE", None, false),
            wire::create(&index, space.prefix(), dimensions),
        );
        match self.call(MAKE_TIMEOUT, make).await {
            Ok(_) => tracing::info!(index, "redis: made an index for the semantic cache"),
            Err(Failure::Exists) => {}
            Err(Failure::NoIndex | Failure::Failed) => return Err(StoreError::Unavailable),
        }
        self.see(index);
        Ok(())
    }

    fn see(&self, index: String) {
        let mut seen = self.seen.lock();
        if seen.len() < MAX_SEEN {
            seen.insert(index);
        }
    }

    async fn ask<T>(
        &self,
        timeout: Duration,
        command: impl Future<Output = Result<T, fred::error::Error>>,
    ) -> Result<T, StoreError> {
        match self.call(timeout, command).await {
            Ok(answer) => Ok(answer),
            Err(Failure::NoIndex | Failure::Exists | Failure::Failed) => {
                Err(StoreError::Unavailable)
            }
        }
    }

    async fn call<T>(
        &self,
        timeout: Duration,
        command: impl Future<Output = Result<T, fred::error::Error>>,
    ) -> Result<T, Failure> {
        let now = clock::now().time();
        if !self.rest.may_ask(now) || !self.client.is_connected() {
            return Err(Failure::Failed);
        }
        let why = match tokio::time::timeout(timeout, command).await {
            Ok(Ok(answer)) => {
                self.rest.answered();
                return Ok(answer);
            }
            Ok(Err(error)) => match engine::fault(error.details()) {
                Some(fault) => {
                    self.rest.answered();
                    return Err(fault);
                }
                None if engine::is_refusal(error.details()) => {
                    if self.rest.refused(clock::now().time()) {
                        let reason = error.details();
                        tracing::warn!(reason, "redis: refuses the semantic cache");
                    }
                    return Err(Failure::Failed);
                }
                None => error.to_string(),
            },
            Err(_) => format!("no answer within {timeout:?}"),
        };
        if self.rest.failed(clock::now().time()) {
            tracing::warn!(reason = why, "redis: the semantic cache goes without it");
        }
        Err(Failure::Failed)
    }
}

impl Drop for Shared {
    /// fred keeps a connection, and makes it again, for as long as nobody says that it isn't wanted any more.
    fn drop(&mut self) {
        let client = self.client.clone();
        self.runtime.spawn(async move {
            // It may be gone already.
            let _ = client.quit().await;
        });
    }
}

/// All of an answer and its end in one step: one that stays for ever would be one that nobody meant to keep. The answer is
/// the first that is written: behind another write Redis wouldn't look whether it is full.
const KEEP: &str = "\
local put = redis.pcall('HSET', KEYS[1], unpack(ARGV, 2))
if type(put) == 'table' and put.err then
    if not string.find(put.err, 'WRONGTYPE') then
        return put
    end
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], unpack(ARGV, 2))
end
if ARGV[#ARGV - 1] ~= 'vector' then
    redis.call('HDEL', KEYS[1], 'vector')
end
return redis.call('PEXPIRE', KEYS[1], ARGV[1])";

/// Of these keys, those go whose field has this value.
const PURGE: &str = "\
local purged = 0
for _, key in ipairs(KEYS) do
    if redis.call('HGET', key, ARGV[1]) == ARGV[2] then
        purged = purged + redis.call('UNLINK', key)
    end
end
return purged";
