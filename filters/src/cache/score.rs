//! How far two embeddings lie apart.
//!
//! The score is the cosine distance, 1 - cos: 0 for the same direction, 1 for nothing in common, 2 for the opposite. A
//! policy's `score-threshold` is the largest distance that is a hit, as in API Management's documentation: lower is
//! stricter. Vectors are normalised once, when they are made, so a distance is one dot product.
//!
//! The loop adds in 16 lanes, which the compiler turns into vector instructions; the order of additions is fixed, so the
//! same two vectors have the same distance on any machine.
//!
//! Never here: which distance is near enough (the policy), and what the texts say (`guard`).

/// A vector of length 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Vector(Box<[f32]>);

impl Vector {
    /// Normalises an embedding. Absent if it is empty, longer than [`MAX_DIMENSIONS`], has no direction, or holds what
    /// isn't a number.
    pub fn new(embedding: &[f32]) -> Option<Self> {
        if embedding.is_empty() || embedding.len() > MAX_DIMENSIONS {
            return None;
        }
        let square: f64 = embedding
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum();
        let length = square.sqrt();
        if !length.is_finite() || length == 0.0 {
            return None;
        }
        Some(Self(
            embedding
                .iter()
                .map(|value| (f64::from(*value) / length) as f32)
                .collect(),
        ))
    }

    /// The values.
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// The cosine distance, from 0 to 2. Two vectors of different dimensions have nothing in common: 2.
    pub fn distance(&self, other: &Vector) -> f32 {
        if self.0.len() == other.0.len() {
            distance(&self.0, &other.0)
        } else {
            2.0
        }
    }
}

/// The longest embedding that is taken. The largest of today's models have 4,096 dimensions.
pub const MAX_DIMENSIONS: usize = 8192;

/// The largest distance that is a hit.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Threshold(f32);

impl Threshold {
    /// A `score-threshold`, from 0 to 1. Absent for anything else.
    pub fn new(distance: f32) -> Option<Self> {
        (0.0..=1.0).contains(&distance).then_some(Self(distance))
    }

    /// The smallest product of two vectors of length 1 that is near enough.
    pub(super) fn least_cosine(self) -> f32 {
        1.0 - self.0
    }

    /// Whether a distance is near enough. At the threshold it is.
    pub fn admits(self, distance: f32) -> bool {
        distance <= self.0
    }
}

/// The distance of two vectors of length 1 and of the same dimensions.
pub(super) fn distance(a: &[f32], b: &[f32]) -> f32 {
    (1.0 - dot(a, b)).clamp(0.0, 2.0)
}

/// The product of two vectors of the same dimensions.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (blocks_a, blocks_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = blocks_a
        .remainder()
        .iter()
        .zip(blocks_b.remainder())
        .map(|(a, b)| a * b)
        .sum();
    for (block_a, block_b) in blocks_a.zip(blocks_b) {
        for ((lane, a), b) in lanes.iter_mut().zip(block_a).zip(block_b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// So many products are added side by side.
pub(super) const LANES: usize = 16;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_distance_is_one_minus_the_cosine_whatever_the_lengths() {
        let vector = |values: &[f32]| Vector::new(values).unwrap();
        let east = vector(&[3.0, 0.0]);
        for (other, expected) in [
            ([5.0, 0.0], 0.0),
            ([0.0, 0.1], 1.0),
            ([-2.0, 0.0], 2.0),
            ([1.0, 1.0], 0.292_893_2),
        ] {
            assert!(
                (east.distance(&vector(&other)) - expected).abs() < 1e-6,
                "{other:?}"
            );
        }
        assert_eq!(
            east.distance(&vector(&[1.0, 0.0, 0.0])),
            2.0,
            "other dimensions"
        );
        let long: Vec<f32> = (0..1537).map(|at| (at as f32).sin()).collect();
        assert!(vector(&long).distance(&vector(&long)) < 1e-6);
    }

    #[test]
    fn what_has_no_direction_is_no_vector() {
        for values in [
            &[][..],
            &[0.0, 0.0],
            &[f32::NAN, 1.0],
            &[f32::INFINITY, 1.0],
            &vec![1.0; MAX_DIMENSIONS + 1],
        ] {
            assert_eq!(Vector::new(values), None);
        }
        assert!(Vector::new(&[f32::MAX, f32::MAX]).is_some());
    }

    #[test]
    fn the_threshold_is_the_largest_distance_that_hits() {
        let threshold = Threshold::new(0.05).unwrap();
        assert!(threshold.admits(0.0) && threshold.admits(0.05));
        assert!(!threshold.admits(0.050_001) && !threshold.admits(f32::NAN));
        for wrong in [-0.1, 1.1, f32::NAN] {
            assert_eq!(Threshold::new(wrong), None);
        }
    }
}
