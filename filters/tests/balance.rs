//! Promises of balancing, whatever the weights and whoever is out.

#![allow(clippy::unwrap_used)]

use filters::balance::{MAX_MEMBERS, MAX_WEIGHT, Members, Pool, PoolError, Standing, Turns};
use proptest::prelude::*;

fn pool(members: &[(u32, u32)]) -> Pool {
    let standing = |&(priority, weight): &(u32, u32)| Standing { priority, weight };
    let members: Vec<Standing> = members.iter().map(standing).collect();
    Pool::new(&members).unwrap()
}

fn first(pool: &Pool, usable: Members, turn: u64) -> usize {
    pool.choose(usable, turn).unwrap().member
}

fn places(pool: &Pool, usable: Members, turns: u64) -> Vec<usize> {
    (0..turns).map(|turn| first(pool, usable, turn)).collect()
}

#[test]
fn equal_weights_go_round_and_unequal_ones_are_spread() {
    let equal = pool(&[(1, 1), (1, 1), (1, 1)]);
    assert_eq!(places(&equal, equal.all(), 6), [0, 1, 2, 0, 1, 2]);
    let unequal = pool(&[(1, 1), (1, 5), (1, 1)]);
    assert_eq!(places(&unequal, unequal.all(), 7), [1, 0, 1, 1, 1, 2, 1]);
}

#[test]
fn a_worse_priority_serves_only_when_no_better_member_is_usable() {
    let pool = pool(&[(2, 9), (1, 1), (3, 1), (2, 9)]);
    let usable = pool.all();
    assert_eq!(pool.best(usable), Members::NONE.with(1));
    let spilled = usable.without(1);
    assert_eq!(places(&pool, spilled, 4), [0, 3, 0, 3]);
    let worst = spilled.without(0).without(3);
    assert_eq!(first(&pool, worst, 5), 2);
    assert_eq!(pool.choose(worst.without(2), 0), None);
    let order: Vec<usize> = pool.candidates(usable, 3).collect();
    assert_eq!((order[0], order[3]), (1, 2));
}

#[test]
fn members_that_make_no_pool_are_refused() {
    let one = Standing {
        priority: 1,
        weight: 1,
    };
    assert_eq!(Pool::new(&[]), Err(PoolError::Members(0)));
    let many = vec![one; MAX_MEMBERS + 1];
    assert_eq!(Pool::new(&many), Err(PoolError::Members(MAX_MEMBERS + 1)));
    for weight in [0, MAX_WEIGHT + 1] {
        let odd = Standing { weight, ..one };
        assert_eq!(Pool::new(&[odd]), Err(PoolError::Weight(weight)));
    }
}

#[test]
fn two_sets_that_alternate_keep_their_own_shares() {
    let pool = pool(&[(1, 1), (1, 1), (1, 1), (1, 1)]);
    let (all, fewer) = (pool.all(), pool.all().without(2));
    let turns = Turns::beginning_at(0);
    let mut served = [[0; 4]; 2];
    for call in 0..2 * 12 {
        let usable = [all, fewer][call % 2];
        served[call % 2][first(&pool, usable, turns.take(usable))] += 1;
    }
    assert_eq!(served, [[3, 3, 3, 3], [4, 4, 0, 4]]);
}

#[test]
fn a_failing_members_load_is_spread_by_weight() {
    let pool = pool(&[(1, 2), (1, 1), (1, 3), (1, 1)]);
    let mut second = [0; 4];
    for turn in 0..7 * 5 {
        let mut order = pool.candidates(pool.all(), turn);
        if order.next() == Some(0) {
            second[order.next().unwrap()] += 1;
        }
    }
    assert_eq!(second, [0, 2, 6, 2]);
}

#[test]
fn the_largest_weights_fit() {
    let members: Vec<(u32, u32)> = (0..30).map(|place| (1, MAX_WEIGHT - place)).collect();
    let pool = pool(&members);
    let sum: u32 = members.iter().map(|member| member.1).sum();
    let mut served = vec![0; 30];
    for turn in 0..u64::from(sum) {
        served[first(&pool, pool.all(), u64::MAX - turn)] += 1;
    }
    let weights: Vec<u32> = members.iter().map(|member| member.1).collect();
    assert_eq!(served, weights);
}

fn members() -> impl Strategy<Value = Vec<(u32, u32)>> {
    let weight = prop_oneof![4 => 1_u32..8, 2 => 1_u32..40, 1 => 1..=MAX_WEIGHT];
    prop::collection::vec((0_u32..4, weight), 1..=MAX_MEMBERS)
}

proptest! {
    #[test]
    fn shares_are_exact_over_any_window_of_the_sum_of_weights(
        members in members(), out in any::<u32>(), start in 0_u64..100_000,
    ) {
        let pool = pool(&members);
        let usable: Members = (0..members.len()).filter(|place| out >> place & 1 == 0).collect();
        let best = pool.best(usable);
        let sum: u64 = best.iter().map(|member| u64::from(members[member].1)).sum();
        let mut served = vec![0; members.len()];
        for turn in start..start + sum {
            served[first(&pool, usable, turn)] += 1;
        }
        for (member, served) in served.into_iter().enumerate() {
            let share = if best.contains(member) { members[member].1 } else { 0 };
            prop_assert_eq!(served, share, "member {}", member);
        }
    }

    #[test]
    fn short_windows_are_near_their_shares_too(
        weights in prop::collection::vec(1_u32..20, 1..10), start in 0_u64..10_000, length in 1_u64..100,
    ) {
        let members: Vec<(u32, u32)> = weights.iter().map(|weight| (1, *weight)).collect();
        let pool = pool(&members);
        let sum: u32 = weights.iter().sum();
        let mut served = vec![0_u32; weights.len()];
        for turn in start..start + length {
            served[first(&pool, pool.all(), turn)] += 1;
        }
        for (served, weight) in served.into_iter().zip(weights) {
            let exact = length as f64 * f64::from(weight) / f64::from(sum);
            prop_assert!((f64::from(served) - exact).abs() < 2.5, "{} of {}", served, exact);
        }
    }

    #[test]
    fn candidates_are_every_usable_member_once_the_better_priority_first(
        members in members(), out in any::<u32>(), turn in any::<u64>(),
    ) {
        let pool = pool(&members);
        let usable: Members = (0..members.len()).filter(|place| out >> place & 1 == 0).collect();
        let order: Vec<usize> = pool.candidates(usable, turn).collect();
        prop_assert_eq!(order.iter().copied().collect::<Members>(), usable);
        prop_assert_eq!(order.len(), usable.count() as usize);
        let priorities: Vec<u32> = order.iter().map(|member| members[*member].0).collect();
        prop_assert!(priorities.is_sorted());
    }
}
