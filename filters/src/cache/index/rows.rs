//! The vectors of a partition, one behind the other, and how those that are near are found among them.
//!
//! A vector is compared piece by piece. Behind each piece it is known how much the rest can add at most: the product of the
//! lengths of both rests (Cauchy and Schwarz), of which a row's are kept beside it. Once that can't bring a row near enough it
//! is left. Vectors have length 1 and most have little in common with what is looked for, so at a small threshold
//! most are left after their first piece; the answer is that of a full comparison all the same. The first pieces are kept a
//! second time, one behind the other, so that a search reads them in a row: a sixteenth of memory more, and three times
//! as fast where the vectors don't fit a cache.
//!
//! Never here: which of the near ones is given.

use crate::cache::index::EntryId;
use crate::cache::score::{LANES, Threshold, distance, dot};

/// A vector is compared in so many pieces, of whole lanes.
const PIECES: usize = 16;

/// What rounding may add to a product of two vectors of length 1: some 1e-6 for the longest.
const SLACK: f32 = 1e-4;

/// The vectors of a partition.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) dimensions: usize,
    pub(super) ids: Vec<EntryId>,
    values: Vec<f32>,
    /// The first piece of each row, with the length of what is left behind it; nothing if there is only one.
    heads: Vec<f32>,
    /// Of each row, the length of what is left behind each piece but the last.
    rests: Vec<f32>,
}

impl Rows {
    pub(super) fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            ids: Vec::new(),
            values: Vec::new(),
            heads: Vec::new(),
            rests: Vec::new(),
        }
    }

    /// How many numbers are kept for a vector.
    pub(super) fn numbers(dimensions: usize) -> usize {
        dimensions + head(dimensions) + rests_of(dimensions)
    }

    pub(super) fn push(&mut self, id: EntryId, values: &[f32]) -> usize {
        self.ids.push(id);
        self.values.extend_from_slice(values);
        if let Some(rest) = rests(values).next() {
            self.heads.extend(&values[..piece(values.len())]);
            self.heads.push(rest);
        }
        self.rests.extend(rests(values));
        self.ids.len() - 1
    }

    /// Takes a row out. The last one takes its place; says which that was.
    pub(super) fn remove(&mut self, row: usize) -> Option<EntryId> {
        let last = self.ids.len().checked_sub(1)?;
        move_last(&mut self.values, row, last, self.dimensions);
        move_last(&mut self.heads, row, last, head(self.dimensions));
        move_last(&mut self.rests, row, last, rests_of(self.dimensions));
        self.ids.swap_remove(row);
        self.ids.get(row).copied()
    }

    /// Those within the threshold, in no order.
    pub(super) fn near(
        &self,
        vector: &[f32],
        threshold: Threshold,
    ) -> impl Iterator<Item = (EntryId, f32)> {
        // Rows of other dimensions came from another model: none is near.
        let ids = if vector.len() == self.dimensions {
            &self.ids[..]
        } else {
            &[]
        };
        let sought = Sought {
            vector,
            rests: rests(vector).collect(),
            least: threshold.least_cosine() - SLACK,
        };
        let (dimensions, head) = (self.dimensions, head(self.dimensions));
        let rests = rests_of(dimensions);
        ids.iter().enumerate().filter_map(move |(at, id)| {
            if !sought.may_begin_so(&self.heads[at * head..(at + 1) * head]) {
                return None;
            }
            let row = &self.values[at * dimensions..(at + 1) * dimensions];
            if !sought.may_be_near(row, &self.rests[at * rests..(at + 1) * rests]) {
                return None;
            }
            let distance = distance(row, vector);
            threshold.admits(distance).then_some((*id, distance))
        })
    }
}

/// What is looked for.
struct Sought<'a> {
    vector: &'a [f32],
    rests: Vec<f32>,
    /// The smallest product that is near.
    least: f32,
}

impl Sought<'_> {
    /// By its first piece, and the length of what is left behind it.
    fn may_begin_so(&self, head: &[f32]) -> bool {
        let (Some((rest, piece)), Some(other)) = (head.split_last(), self.rests.first()) else {
            return true;
        };
        dot(piece, &self.vector[..piece.len()]) + rest * other >= self.least
    }

    fn may_be_near(&self, row: &[f32], rests: &[f32]) -> bool {
        let piece = piece(row.len());
        let mut product = 0.0;
        let pieces = row.chunks(piece).zip(self.vector.chunks(piece));
        for ((a, b), (rest, other)) in pieces.zip(rests.iter().zip(&self.rests)) {
            product += dot(a, b);
            if product + rest * other < self.least {
                return false;
            }
        }
        true
    }
}

fn move_last(numbers: &mut Vec<f32>, row: usize, last: usize, width: usize) {
    numbers.copy_within(last * width.., row * width);
    numbers.truncate(last * width);
}

fn piece(dimensions: usize) -> usize {
    dimensions.div_ceil(PIECES).next_multiple_of(LANES)
}

fn rests_of(dimensions: usize) -> usize {
    dimensions.div_ceil(piece(dimensions)).saturating_sub(1)
}

/// The numbers of a head: a piece, and the length of what is left behind it.
fn head(dimensions: usize) -> usize {
    if rests_of(dimensions) == 0 {
        return 0;
    }
    piece(dimensions) + 1
}

/// The length of what is left behind each piece but the last.
fn rests(values: &[f32]) -> impl Iterator<Item = f32> {
    let piece = piece(values.len());
    (1..=rests_of(values.len())).map(move |pieces| {
        let rest = &values[pieces * piece..];
        dot(rest, rest).sqrt()
    })
}
