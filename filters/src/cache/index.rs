//! The in-process store: what was answered, found again by digest or by nearness.
//!
//! Search is exact: every vector of the partition is looked at, as far as it takes to know that it isn't near (`rows`), and
//! nothing is missed as an approximate index misses it. `cargo bench -p filters --bench cache` tells how long it takes.
//! Who holds many belongs on a thread that may block.
//!
//! Bounded by entries and by bytes. What is too much drives out the oldest, expired ones first: all live equally long, so
//! the oldest is the next to expire. The bytes are what the values say they take, their vectors, and an allowance for
//! the tables around them.
//!
//! Never here: the clock (`now` is an argument), a lock, and the answer's meaning.

use std::collections::{HashMap, VecDeque};

use crate::cache::exact::Digest;
use crate::cache::index::rows::Rows;
use crate::cache::score::{Threshold, Vector};
use crate::time::Time;

mod rows;

/// How much an index may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: usize,
    /// Bytes: values, vectors and [`ENTRY_BYTES`] for each.
    pub bytes: usize,
}

/// What an entry takes beside its value and vector.
pub const ENTRY_BYTES: usize = 320;

/// Names an entry for as long as it is there; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(u64);

impl EntryId {
    /// The number, for a purge.
    pub const fn as_number(self) -> u64 {
        self.0
    }

    /// The id of that number.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// What is put in.
#[derive(Clone, Debug)]
pub struct Item<V> {
    /// Where it may be found.
    pub partition: Digest,
    /// By what an exact repeat finds it.
    pub exact: Digest,
    /// By what a near one finds it; absent: only an exact repeat does.
    pub vector: Option<Vector>,
    /// From when on it isn't found any more.
    pub expires_at: Time,
    /// What the value takes.
    pub bytes: usize,
    /// What was kept.
    pub value: V,
}

/// One that lies near.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// Which.
    pub id: EntryId,
    /// How far from what was looked for.
    pub distance: f32,
}

/// Most candidates that a search gives: the guard may turn the nearest down and take the next.
pub const MAX_NEAR: usize = 8;

/// The store of one policy.
#[derive(Debug)]
pub struct Index<V> {
    limits: Limits,
    bytes: usize,
    next_id: u64,
    items: HashMap<EntryId, Held<V>>,
    exact: HashMap<Digest, EntryId>,
    partitions: HashMap<Digest, Rows>,
    /// By age; may still name what is gone.
    order: VecDeque<EntryId>,
}

#[derive(Debug)]
struct Held<V> {
    item: Item<V>,
    /// Its place in its partition.
    row: Option<usize>,
}

impl<V> Index<V> {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            bytes: 0,
            next_id: 0,
            items: HashMap::new(),
            exact: HashMap::new(),
            partitions: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Takes other bounds. What is too much goes when the next entry comes.
    pub fn resize(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// How many entries there are, expired ones too until they are driven out.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts an entry in, in place of one with the same exact digest. Absent if it is expired, too large for the index, or
    /// its vector has other dimensions than those of its partition: those came from another model, and stay.
    pub fn insert(&mut self, now: Time, item: Item<V>) -> Option<EntryId> {
        let size = size(&item);
        if item.expires_at <= now || size > self.limits.bytes || self.limits.entries == 0 {
            return None;
        }
        if let (Some(vector), Some(rows)) = (&item.vector, self.partitions.get(&item.partition))
            && rows.dimensions != vector.values().len()
        {
            return None;
        }
        if let Some(known) = self.exact.get(&item.exact).copied() {
            self.remove(known);
        }
        self.drive_out(now, size);
        let id = EntryId(self.next_id);
        self.next_id += 1;
        let row = item.vector.as_ref().map(|vector| {
            let rows = self
                .partitions
                .entry(item.partition)
                .or_insert_with(|| Rows::new(vector.values().len()));
            rows.push(id, vector.values())
        });
        self.exact.insert(item.exact, id);
        self.order.push_back(id);
        self.bytes += size;
        // The row is the one copy of the vector.
        let item = Item {
            vector: None,
            ..item
        };
        self.items.insert(id, Held { item, row });
        Some(id)
    }

    /// What was kept for an exact repeat.
    pub fn find_exact(&self, now: Time, exact: &Digest) -> Option<(EntryId, &V)> {
        let id = *self.exact.get(exact)?;
        Some((id, self.get(now, id)?))
    }

    /// The nearest of a partition within the threshold, nearest first, at most [`MAX_NEAR`]. Costs one pass over the
    /// partition's vectors.
    pub fn nearest(
        &self,
        now: Time,
        partition: &Digest,
        vector: &Vector,
        threshold: Threshold,
    ) -> Vec<Near> {
        let mut best: Vec<Near> = Vec::new();
        let Some(rows) = self.partitions.get(partition) else {
            return best;
        };
        for (id, distance) in rows.near(vector.values(), threshold) {
            let is_near =
                best.len() < MAX_NEAR || best.last().is_some_and(|last| distance < last.distance);
            if !is_near || self.get(now, id).is_none() {
                continue;
            }
            let at = best.partition_point(|near| near.distance <= distance);
            best.insert(at, Near { id, distance });
            best.truncate(MAX_NEAR);
        }
        best
    }

    /// The value of an entry that isn't expired.
    pub fn get(&self, now: Time, id: EntryId) -> Option<&V> {
        let held = self.items.get(&id)?;
        (now < held.item.expires_at).then_some(&held.item.value)
    }

    /// Takes an entry out.
    pub fn remove(&mut self, id: EntryId) -> Option<V> {
        let held = self.items.remove(&id)?;
        self.exact.remove(&held.item.exact);
        self.bytes = self.bytes.saturating_sub(size(&held.item));
        if let Some(row) = held.row {
            self.bytes = self
                .bytes
                .saturating_sub(self.remove_row(&held.item.partition, row));
        }
        if self.order.len() > 2 * self.items.len() + 64 {
            let items = &self.items;
            self.order.retain(|id| items.contains_key(id));
        }
        Some(held.item.value)
    }

    /// Takes out all whose value isn't wanted any more, and says how many: a purge by subscription.
    pub fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) -> usize {
        let unwanted = self
            .items
            .iter()
            .filter(|(_, held)| !keep(&held.item.value));
        let unwanted: Vec<EntryId> = unwanted.map(|(id, _)| *id).collect();
        for id in &unwanted {
            self.remove(*id);
        }
        unwanted.len()
    }

    /// Makes room for `bytes` more.
    fn drive_out(&mut self, now: Time, bytes: usize) {
        while let Some(oldest) = self.order.front().copied() {
            let is_gone = self
                .items
                .get(&oldest)
                .is_none_or(|held| held.item.expires_at <= now);
            let is_full =
                self.items.len() >= self.limits.entries || self.bytes + bytes > self.limits.bytes;
            if !is_gone && !is_full {
                return;
            }
            self.order.pop_front();
            self.remove(oldest);
        }
    }

    /// The last row of the partition moves to the free place. Says what the row took.
    fn remove_row(&mut self, partition: &Digest, row: usize) -> usize {
        let Some(rows) = self.partitions.get_mut(partition) else {
            return 0;
        };
        if let Some(held) = rows
            .remove(row)
            .and_then(|moved| self.items.get_mut(&moved))
        {
            held.row = Some(row);
        }
        let bytes = vector_bytes(rows.dimensions);
        if rows.ids.is_empty() {
            self.partitions.remove(partition);
        }
        bytes
    }
}

fn size<V>(item: &Item<V>) -> usize {
    let vector = item
        .vector
        .as_ref()
        .map_or(0, |vector| vector_bytes(vector.values().len()));
    ENTRY_BYTES
        .saturating_add(item.bytes)
        .saturating_add(vector)
}

fn vector_bytes(dimensions: usize) -> usize {
    Rows::numbers(dimensions) * size_of::<f32>()
}
