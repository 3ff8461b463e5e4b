//! The in-process store against the simplest one that could be right: a list, searched from end to end.

#![allow(clippy::unwrap_used)]

use filters::cache::exact::Digest;
use filters::cache::index::{ENTRY_BYTES, EntryId, Index, Item, Limits, MAX_NEAR, Near};
use filters::cache::prompt::{Scope, SystemMessages, read};
use filters::cache::score::{Threshold, Vector};
use filters::route::Shape;
use filters::time::Time;
use proptest::prelude::*;

const WIDE: Limits = Limits {
    entries: 1000,
    bytes: usize::MAX,
};

fn at(second: u64) -> Time {
    Time::from_nanoseconds(second * 1_000_000_000)
}

/// A partition and an exact digest.
fn digests(model: u8, question: u32) -> (Digest, Digest) {
    let body = format!(r#"{{"messages":[{{"role":"user","content":"q{question}"}}]}}"#);
    let scope = Scope {
        policy: "p",
        api: "a",
        operation: "o",
        model: &model.to_string(),
        vary_by: &[],
    };
    let prompt = read(
        Shape::Chat,
        body.as_bytes(),
        scope,
        SystemMessages::Embedded,
    )
    .unwrap();
    (prompt.partition, prompt.exact)
}

fn item(model: u8, question: u32, angle: f32, expires_at: u64) -> Item<u32> {
    let (partition, exact) = digests(model, question);
    Item {
        partition,
        exact,
        vector: Some(direction(angle)),
        expires_at: at(expires_at),
        bytes: 100,
        value: question,
    }
}

fn direction(angle: f32) -> Vector {
    Vector::new(&[angle.cos(), angle.sin()]).unwrap()
}

fn threshold(distance: f32) -> Threshold {
    Threshold::new(distance).unwrap()
}

fn found(index: &Index<u32>, now: u64, model: u8, angle: f32, within: f32) -> Vec<u32> {
    let near = index.nearest(
        at(now),
        &digests(model, 0).0,
        &direction(angle),
        threshold(within),
    );
    near.iter()
        .map(|near| *index.get(at(now), near.id).unwrap())
        .collect()
}

#[test]
fn the_nearest_of_the_partition_come_first_and_only_within_the_threshold() {
    let mut index = Index::new(WIDE);
    for (question, angle) in [(1, 0.3), (2, 0.1), (3, 0.2), (4, 2.0)] {
        index.insert(at(0), item(7, question, angle, 10)).unwrap();
    }
    index.insert(at(0), item(8, 5, 0.0, 10)).unwrap();
    assert_eq!(found(&index, 0, 7, 0.0, 0.1), [2, 3, 1]);
    assert_eq!(found(&index, 0, 7, 0.0, 0.01), [2]);
    assert_eq!(found(&index, 0, 8, 0.0, 0.0), [5]);
    assert_eq!(found(&index, 0, 9, 0.0, 1.0), [0; 0]);
    for question in 10..30 {
        index.insert(at(0), item(7, question, 0.0, 10)).unwrap();
    }
    assert_eq!(found(&index, 0, 7, 0.0, 1.0).len(), MAX_NEAR);
}

#[test]
fn an_entry_is_found_until_the_moment_that_it_expires() {
    let mut index = Index::new(WIDE);
    let exact = digests(7, 1).1;
    index.insert(at(0), item(7, 1, 0.0, 10)).unwrap();
    let last = Time::from_nanoseconds(at(10).as_nanoseconds() - 1);
    assert!(index.find_exact(last, &exact).is_some());
    assert_eq!(index.find_exact(at(10), &exact), None);
    assert_eq!(found(&index, 10, 7, 0.0, 1.0), [0; 0]);
    assert_eq!(
        index.insert(at(10), item(7, 2, 0.0, 10)),
        None,
        "it is expired already"
    );
    index.insert(at(10), item(7, 3, 0.0, 20)).unwrap();
    assert_eq!(index.len(), 1, "the expired one made room");
}

#[test]
fn the_oldest_gives_way_by_entries_and_by_bytes() {
    let each = ENTRY_BYTES + 100 + 2 * 4;
    for limits in [
        Limits {
            entries: 3,
            bytes: usize::MAX,
        },
        Limits {
            entries: 100,
            bytes: 3 * each + 1,
        },
    ] {
        let mut index = Index::new(limits);
        for question in 1..=5 {
            index
                .insert(at(0), item(7, question, 0.1 * question as f32, 10))
                .unwrap();
        }
        assert_eq!((index.len(), index.bytes()), (3, 3 * each));
        assert_eq!(found(&index, 0, 7, 0.0, 1.0), [3, 4, 5]);
    }
    let mut index = Index::new(Limits {
        entries: 3,
        bytes: each - 1,
    });
    assert_eq!(index.insert(at(0), item(7, 1, 0.0, 10)), None);
}

#[test]
fn a_vector_of_other_dimensions_is_neither_taken_nor_near() {
    let mut index = Index::new(WIDE);
    index.insert(at(0), item(7, 1, 0.0, 10)).unwrap();
    let three = Vector::new(&[1.0, 0.0, 0.0]).unwrap();
    let other = Item {
        vector: Some(three.clone()),
        ..item(7, 2, 0.0, 10)
    };
    assert_eq!(index.insert(at(0), other), None);
    assert_eq!(
        index.nearest(at(0), &digests(7, 0).0, &three, threshold(1.0)),
        []
    );
    let exact_only = Item {
        vector: None,
        ..item(7, 3, 0.0, 10)
    };
    let id = index.insert(at(0), exact_only).unwrap();
    assert_eq!(index.find_exact(at(0), &digests(7, 3).1), Some((id, &3)));
}

#[test]
fn a_purge_takes_out_what_it_names() {
    let mut index = Index::new(WIDE);
    for question in 1..=6 {
        index
            .insert(at(0), item(7, question, 0.1 * question as f32, 10))
            .unwrap();
    }
    assert_eq!(index.retain(|question| question % 2 == 0), 3);
    assert_eq!(found(&index, 0, 7, 0.0, 1.0), [2, 4, 6]);
    let id = index.find_exact(at(0), &digests(7, 4).1).unwrap().0;
    assert_eq!(EntryId::from_number(id.as_number()), id);
    assert_eq!(index.remove(id), Some(4));
    assert_eq!(index.remove(id), None);
    index.retain(|_| false);
    assert_eq!((index.len(), index.bytes(), index.is_empty()), (0, 0, true));
}

#[derive(Clone, Debug)]
enum Step {
    Insert {
        model: u8,
        question: u32,
        angle: u8,
        lasts: u64,
    },
    Remove(usize),
    Search {
        model: u8,
        angle: u8,
    },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u8, 0..12_u32, 0..60_u8, 1..9_u64)
            .prop_map(|(model, question, angle, lasts)| Step::Insert { model, question, angle, lasts }),
        1 => (0..20_usize).prop_map(Step::Remove),
        3 => (0..3_u8, 0..60_u8).prop_map(|(model, angle)| Step::Search { model, angle }),
        1 => (1..4_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn it_finds_what_a_list_finds_and_never_another_partition_s(steps in proptest::collection::vec(step(), 1..80), entries in 1..10_usize) {
        let mut index = Index::new(Limits { entries, bytes: usize::MAX });
        // Id, model, question, angle, expiry; by age.
        let mut list: Vec<(EntryId, u8, u32, f32, u64)> = Vec::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Insert { model, question, angle, lasts } => {
                    let (angle, expires) = (f32::from(angle) / 10.0, now + lasts);
                    list.retain(|known| (known.1, known.2) != (model, question));
                    while list.first().is_some_and(|oldest| oldest.4 <= now || list.len() >= entries) {
                        list.remove(0);
                    }
                    let id = index.insert(at(now), item(model, question, angle, expires)).unwrap();
                    list.push((id, model, question, angle, expires));
                }
                Step::Remove(place) => {
                    if place < list.len() {
                        let gone = list.remove(place);
                        prop_assert_eq!(index.remove(gone.0), Some(gone.2));
                    }
                }
                Step::Search { model, angle } => {
                    let vector = direction(f32::from(angle) / 10.0);
                    let found = index.nearest(at(now), &digests(model, 0).0, &vector, threshold(0.5));
                    let mut expected: Vec<Near> = list
                        .iter()
                        .filter(|known| known.1 == model && known.4 > now)
                        .map(|known| Near { id: known.0, distance: vector.distance(&direction(known.3)) })
                        .filter(|near| near.distance <= 0.5)
                        .collect();
                    expected.sort_by(|a, b| a.distance.total_cmp(&b.distance));
                    expected.truncate(MAX_NEAR);
                    let distances = |near: &[Near]| near.iter().map(|near| near.distance).collect::<Vec<_>>();
                    prop_assert_eq!(distances(&found), distances(&expected));
                    for near in found {
                        prop_assert!(list.iter().any(|known| known.0 == near.id && known.1 == model && known.4 > now));
                    }
                }
                Step::Wait(seconds) => now += seconds,
            }
            prop_assert_eq!(index.len(), list.len());
            prop_assert_eq!(index.bytes(), list.len() * (ENTRY_BYTES + 100 + 8));
        }
    }
}

/// Vectors that lie near one of a few, in every dimension that has pieces of its own, or none.
fn spread() -> impl Strategy<Value = Vec<Vec<f32>>> {
    (1..300_usize).prop_flat_map(|dimensions| {
        let vector = proptest::collection::vec(-1.0..1.0_f32, dimensions);
        let some = proptest::collection::vec(vector, 1..4);
        let noise = proptest::collection::vec((0..4_usize, 0.0..0.6_f32, any::<u32>()), 1..30);
        (some, noise).prop_map(|(some, noise)| {
            let near = noise.into_iter().map(|(of, size, seed)| {
                let mut seed = seed;
                let base = &some[of % some.len()];
                let moved = base.iter().map(|value| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    value + size * (seed as f32 / u32::MAX as f32 - 0.5)
                });
                moved.collect()
            });
            near.chain(some.clone()).collect()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_left_early_was_not_near(vectors in spread(), within in 0.0..1.0_f32) {
        let vectors: Vec<Vector> = vectors.iter().filter_map(|values| Vector::new(values)).collect();
        let mut index = Index::new(Limits { entries: 1_000, bytes: usize::MAX });
        for (number, vector) in vectors.iter().enumerate() {
            let mut item = item(1, number as u32, 0.0, 100);
            item.vector = Some(vector.clone());
            prop_assert!(index.insert(at(0), item).is_some());
        }
        let (partition, _) = digests(1, 0);
        for sought in &vectors {
            let mut expected: Vec<f32> = vectors
                .iter()
                .map(|vector| vector.distance(sought))
                .filter(|distance| *distance <= within)
                .collect();
            expected.sort_unstable_by(f32::total_cmp);
            expected.truncate(MAX_NEAR);
            let found = index.nearest(at(0), &partition, sought, threshold(within));
            let found: Vec<f32> = found.into_iter().map(|near| near.distance).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
