//! Token limits are counted the same in this process and in Redis, whatever happens to Redis.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "these tests show what they measured")]
#![allow(dead_code, reason = "the servers can do more than these tests need")]

#[path = "../../filters/tests/vectors/cases.rs"]
mod cases;
#[path = "limit_store/server.rs"]
mod server;
#[path = "limit_store/stores.rs"]
mod stores;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cases::{Act, Case, Expected};
use filters::limit::bucket::Rate;
use filters::limit::quota::{Period, Quota};
use filters::limit::reservation::{Mode, Remaining};
use filters::limit::{Hold, Limit};
use filters::units::Tokens;
use gateway::store::local::Local;
use gateway::store::redis::Clock;
use gateway::store::{LimitRequest, OnRedisError, Refused, Reservation, Store};
use server::{Cluster, Place, Server};
use stores::{
    BRIEF, PATIENT, at, both, connect, connect_to, on, open_reservations, request, settled,
    until_down, up, used, wall,
};

#[tokio::test]
async fn the_local_store_agrees_with_every_recorded_case() {
    for case in &cases::all() {
        let store = Store::Local(Arc::new(Local::default()));
        run(case, &store, &case.name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redis_store_agrees_with_every_recorded_case() {
    let server = Server::start();
    let redis = connect(&server, PATIENT, Clock::Caller).await;
    for case in &cases::all() {
        run(case, &Store::Redis(redis.clone()), &case.name).await;
    }
    assert_eq!(redis.dropped(), 0);
    assert_eq!(open_reservations(&server), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_agrees_with_every_recorded_case_in_one_slot() {
    let cluster = Cluster::start();
    let redis = connect_to(cluster.url(), PATIENT, Clock::Caller).await;
    for case in &cases::all() {
        run(case, &Store::Redis(redis.clone()), &case.name).await;
    }
    assert_eq!(cluster.nodes_with_keys(), 1);
}

/// What is promised of one server holds of a cluster: one after the other, so that it is set up once.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_of_three_keeps_every_promise_of_one_server() {
    let mut cluster = Cluster::start();
    // Before there were others, whose shares it would leave them.
    gone(&mut cluster).await;
    four_replicas(&mut cluster).await;
    dropped(&mut cluster).await;
    abandoned(&mut cluster).await;
    scripts_lost(&mut cluster).await;
    standing_still(&mut cluster).await;
}

/// Random stories, told to both: every admission, refusal, wait and remainder is the same.
#[tokio::test(flavor = "multi_thread")]
async fn both_stores_tell_the_same_in_random_stories() {
    let server = Server::start();
    let redis = connect(&server, PATIENT, Clock::Caller).await;
    for seed in 1..=30 {
        let case = random_case(seed);
        let local = Store::Local(Arc::new(Local::default()));
        let one = tell(&case, &local, &case.name).await;
        let other = tell(&case, &Store::Redis(redis.clone()), &case.name).await;
        for (index, (one, other)) in one.iter().zip(&other).enumerate() {
            // After a settlement only a store that counts here knows of the other calls.
            if one.0.is_some() {
                assert_eq!(one, other, "seed {seed}, step {index}");
            }
        }
    }
}

#[test]
fn eight_threads_never_pass_a_limit_that_holds_everything() {
    const LIMIT: u64 = 10_000;
    let rate = Limit::new(Rate::new(LIMIT), None, Hold::PromptAndCompletion).unwrap();
    let quota = Quota::new(LIMIT, Period::Yearly);
    let quota = Limit::new(None, quota, Hold::PromptAndCompletion).unwrap();
    let local = Arc::new(Local::default());
    let (admitted, now) = (AtomicU64::new(0), at(0));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (local, admitted) = (local.clone(), &admitted);
            scope.spawn(move || {
                for round in 0..20_000 {
                    let amount = 1 + (thread * 31 + round * 17) % 50;
                    let limits = [
                        request("rate", rate, amount),
                        request("quota", quota, amount),
                    ];
                    let Ok((claim, _)) = local.reserve(&limits, now) else {
                        continue;
                    };
                    // Every third call uses less than it held, every seventh fails.
                    let used = match round {
                        _ if round % 7 == 0 => 0,
                        _ if round % 3 == 0 => amount / 2,
                        _ => amount,
                    };
                    claim.settle(Tokens::new(used), now);
                    admitted.fetch_add(used, Ordering::Relaxed);
                }
            });
        }
    });
    let admitted = admitted.into_inner();
    println!("8 threads: {admitted} of {LIMIT} tokens admitted");
    assert!(admitted <= LIMIT && admitted > LIMIT - 50);
    let store = Store::Local(local);
    let limits = [request("rate", rate, 0), request("quota", quota, 0)];
    if let Ok(left) = runtime.block_on(store.reserve(&limits, now)) {
        let left = left.remaining(now);
        assert_eq!(left[0].tokens, Some(Tokens::new(LIMIT - admitted)));
        assert_eq!(left[1].quota, Some(Tokens::new(LIMIT - admitted)));
    }
}

/// Four stores on one Redis, as four processes would be.
#[tokio::test(flavor = "multi_thread")]
async fn four_replicas_never_pass_a_limit_that_holds_everything() {
    four_replicas(&mut Server::start()).await;
}

async fn four_replicas(place: &mut impl Place) {
    const LIMIT: u64 = 5_000;
    let quota = Quota::new(LIMIT, Period::Yearly);
    let limit = Limit::new(None, quota, Hold::PromptAndCompletion).unwrap();
    let mut replicas = Vec::new();
    for _ in 0..4 {
        replicas.push(connect(place, PATIENT, Clock::Server).await);
    }
    let holder = place.holder();
    let open = open_reservations(holder);
    let admitted = Arc::new(AtomicU64::new(0));
    let mut callers = Vec::new();
    for caller in 0..64u64 {
        let store = Store::Redis(replicas[caller as usize % 4].clone());
        let admitted = admitted.clone();
        callers.push(tokio::spawn(async move {
            for round in 0..20 {
                let amount = 1 + (caller * 31 + round * 17) % 50;
                let limits = [request("shared", limit, amount)];
                if let Ok(reservation) = store.reserve(&limits, wall()).await {
                    let used = if round % 3 == 0 { amount / 2 } else { amount };
                    reservation.settle(Tokens::new(used), wall());
                    admitted.fetch_add(used, Ordering::Relaxed);
                }
            }
        }));
    }
    for caller in callers {
        caller.await.unwrap();
    }
    for replica in &replicas {
        settled(replica).await;
    }
    let admitted = admitted.load(Ordering::Relaxed);
    println!("4 replicas, 64 callers: {admitted} of {LIMIT} tokens admitted");
    assert!(admitted <= LIMIT);
    let used = holder.ask(&["hget", "{tollgate}:limit:6:shared:key", "u"]);
    assert_eq!(used, admitted.to_string());
    assert_eq!(open_reservations(holder), open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_that_is_dropped_gives_everything_back_once() {
    dropped(&mut Server::start()).await;
}

async fn dropped(place: &mut impl Place) {
    let redis = connect(place, PATIENT, Clock::Server).await;
    let local = Store::Local(Arc::new(Local::default()));
    for store in [local, Store::Redis(redis.clone())] {
        let limits = [request("both", both(100), 60)];
        for _ in 0..3 {
            let held = store.reserve(&limits, wall()).await.unwrap();
            assert!(store.reserve(&limits, wall()).await.is_err());
            drop(held);
            settled(&redis).await;
        }
        let left = store
            .reserve(&limits, wall())
            .await
            .unwrap()
            .remaining(wall());
        assert_eq!(left[0].quota, Some(Tokens::new(40)));
    }
}

/// A panic anywhere in a call unwinds through what it holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_panics_gives_back_what_it_holds_once() {
    let server = Server::start();
    let redis = connect(&server, PATIENT, Clock::Server).await;
    let local = Store::Local(Arc::new(Local::default()));
    for store in [local, Store::Redis(redis.clone())] {
        let limits = [request("panics", both(100), 60)];
        for _ in 0..3 {
            let held = store.reserve(&limits, wall()).await.unwrap();
            let call = tokio::spawn(async move {
                let left = held.remaining(wall());
                assert!(left.is_empty(), "as a stage with a fault would");
            });
            assert!(call.await.unwrap_err().is_panic());
            settled(&redis).await;
        }
        let left = store.left(&limits, wall()).await.unwrap();
        assert_eq!(left[0].quota, Some(Tokens::new(100)));
    }
    assert_eq!(open_reservations(&server), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_abandoned_while_redis_is_asked_leaves_nothing_held() {
    abandoned(&mut Server::start()).await;
}

async fn abandoned(place: &mut impl Place) {
    let redis = connect(place, PATIENT, Clock::Server).await;
    let store = Store::Redis(redis.clone());
    let limits = [request("left", both(1_000), 10)];
    for pause_us in 0..60 {
        let reserving = store.reserve(&limits, wall());
        let pause = Duration::from_micros(pause_us * 20);
        if let Ok(Ok(reservation)) = tokio::time::timeout(pause, reserving).await {
            drop(reservation);
        }
    }
    settled(&redis).await;
    let left = store
        .reserve(&limits, wall())
        .await
        .unwrap()
        .remaining(wall());
    assert_eq!(left[0].quota, Some(Tokens::new(990)));
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_redis_lost_are_sent_again() {
    scripts_lost(&mut Server::start()).await;
}

async fn scripts_lost(place: &mut impl Place) {
    let redis = connect(place, PATIENT, Clock::Server).await;
    let holder = place.holder();
    let store = Store::Redis(redis.clone());
    let limits = [request("scripts", both(100), 10)];
    let held = store.reserve(&limits, wall()).await.unwrap();
    holder.ask(&["script", "flush"]);
    let next = store.reserve(&limits, wall()).await.unwrap();
    assert_eq!(next.remaining(wall())[0].quota, Some(Tokens::new(80)));
    holder.ask(&["script", "flush"]);
    held.settle(Tokens::new(1), wall());
    settled(&redis).await;
    assert_eq!(used(holder, "scripts"), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_limit_does_what_it_was_told_and_what_was_used_is_added_after() {
    gone(&mut Server::start()).await;
}

async fn gone(place: &mut impl Place) {
    let redis = connect(place, BRIEF, Clock::Server).await;
    let holder = place.holder();
    let store = Store::Redis(redis.clone());
    let local = [request("local", both(100), 30)];
    let refuse = [on(OnRedisError::Refuse, request("refuse", both(100), 30))];
    let allow = [on(OnRedisError::Allow, request("allow", both(100), 30))];
    store
        .reserve(&local, wall())
        .await
        .unwrap()
        .settle(Tokens::new(40), wall());
    settled(&redis).await;
    let before = store.reserve(&local, wall()).await.unwrap();
    holder.kill();

    // 40 used and 30 held as last known: 30 more are there, and no more.
    let during = until_down(&redis, &store, &allow).await;
    assert_eq!(
        during,
        Some(0),
        "calls that found Redis gone waited or were refused"
    );
    assert!(matches!(
        store.reserve(&refuse, wall()).await,
        Err(Refused::Unavailable { limit: 0 })
    ));
    let share = store.reserve(&local, wall()).await.unwrap();
    assert!(matches!(
        store.reserve(&local, wall()).await,
        Err(Refused::Limit { .. })
    ));
    share.settle(Tokens::new(25), wall());
    store
        .reserve(&allow, wall())
        .await
        .unwrap()
        .settle(Tokens::new(500), wall());

    holder.restart();
    up(&redis).await;
    settled(&redis).await;
    assert_eq!(used(holder, "local"), 25);
    assert_eq!(used(holder, "allow"), 500);
    // Held before Redis lost everything: it counts what was used, not less for a hold that is gone.
    before.settle(Tokens::new(10), wall());
    settled(&redis).await;
    assert_eq!(used(holder, "local"), 35);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stands_still_costs_the_timeout_and_what_it_does_late_is_undone() {
    standing_still(&mut Server::start()).await;
}

async fn standing_still(place: &mut impl Place) {
    let redis = connect(place, BRIEF, Clock::Server).await;
    let holder = place.holder();
    let store = Store::Redis(redis.clone());
    let limits = [request("still", both(10_000), 100)];
    store
        .reserve(&limits, wall())
        .await
        .unwrap()
        .settle(Tokens::new(7), wall());
    settled(&redis).await;
    holder.pause();
    let mut settled_tokens = 7;
    for _ in 0..20 {
        let begun = std::time::Instant::now();
        let reservation = store.reserve(&limits, wall()).await.unwrap();
        assert!(begun.elapsed() < BRIEF * 4, "{:?}", begun.elapsed());
        reservation.settle(Tokens::new(3), wall());
        settled_tokens += 3;
    }
    assert!(!redis.health().is_up());
    holder.go_on();
    up(&redis).await;
    settled(&redis).await;
    assert_eq!(used(holder, "still"), settled_tokens);
    assert_eq!(redis.dropped(), 0);
}

#[tokio::test]
async fn idle_counters_go_and_busy_ones_never_do() {
    let store = Local::with_most(10);
    let limit = both(100);
    for index in 0..10u64 {
        let key = format!("key-{index}");
        let limits = [LimitRequest {
            key: &key,
            ..request("idle", limit, 1)
        }];
        let (claim, _) = store.reserve(&limits, at(0)).unwrap();
        let used = if index < 4 { 1 } else { 0 };
        claim.settle(Tokens::new(used), at(0));
    }
    for index in 10..16u64 {
        let key = format!("key-{index}");
        let limits = [LimitRequest {
            key: &key,
            ..request("idle", limit, 1)
        }];
        let (claim, _) = store.reserve(&limits, at(2_000_000)).unwrap();
        claim.settle(Tokens::new(1), at(2_000_000));
    }
    assert_eq!(store.len(), 10);
    let limits = [LimitRequest {
        key: "one more",
        ..request("idle", limit, 1)
    }];
    let full = store.reserve(&limits, at(4_000_000)).unwrap_err();
    assert_eq!(full, Refused::Unavailable { limit: 0 });
    let limits = [LimitRequest {
        key: "key-0",
        ..request("idle", limit, 0)
    }];
    let (claim, _) = store.reserve(&limits, at(4_000_000)).unwrap();
    assert_eq!(
        claim.remaining(at(4_000_000))[0].quota,
        Some(Tokens::new(99))
    );
}

#[tokio::test]
async fn what_is_settled_on_a_counter_that_went_is_counted_all_the_same() {
    let store = Local::with_most(10);
    let limits = [request("went", both(100), 0)];
    let (claim, _) = store.reserve(&limits, at(0)).unwrap();
    assert_eq!(store.sweep(at(1)), 1);
    let left = claim.settle(Tokens::new(60), at(2));
    assert_eq!(left[0].quota, Some(Tokens::new(40)));
    let (claim, _) = store.reserve(&limits, at(3)).unwrap();
    assert_eq!(claim.remaining(at(3))[0].quota, Some(Tokens::new(40)));
}

async fn run(case: &Case, store: &Store, policy: &str) {
    let said = tell(case, store, policy).await;
    for (step, (decided, left)) in case.steps.iter().zip(said) {
        let place = format!("{} at {} us", case.name, step.at_us);
        if let Act::Call { expected, .. } = &step.act {
            assert_eq!(decided.as_ref(), Some(expected), "{place}");
        }
        let exact = !step.live_only || matches!(store, Store::Local(_));
        if let (Some(expected), true) = (&step.remaining, exact) {
            assert_eq!(left, *expected, "{place}");
        }
    }
}

type Said = (Option<Expected>, Vec<Remaining>);

/// Plays a case; what each step was told.
async fn tell(case: &Case, store: &Store, policy: &str) -> Vec<Said> {
    let mut open: HashMap<String, Reservation> = HashMap::new();
    let mut said = Vec::new();
    let names: Vec<String> = (0..case.limits.len())
        .map(|index| format!("{policy}/{index}"))
        .collect();
    for step in &case.steps {
        let now = case.now(step);
        let (decided, left) = match &step.act {
            Act::Call {
                name,
                key,
                prompt,
                completion,
                ..
            } => {
                let request = |(index, (limit, mode)): (usize, &(Limit, Mode))| LimitRequest {
                    policy: &names[index],
                    key,
                    limit: *limit,
                    amount: limit.hold().amount(*prompt, *completion),
                    mode: *mode,
                    on_error: OnRedisError::Refuse,
                };
                let limits: Vec<_> = case.limits.iter().enumerate().map(request).collect();
                match store.reserve(&limits, now).await {
                    Ok(reservation) => {
                        let left = reservation.remaining(now);
                        let decided = Expected::from(Ok(reservation.would_refuse()));
                        open.insert(name.clone(), reservation);
                        (Some(decided), left)
                    }
                    Err(Refused::Limit { by: refused, .. }) => {
                        (Some(Expected::from(Err(refused))), Vec::new())
                    }
                    Err(Refused::Unavailable { limit }) => panic!("{}: limit {limit}", case.name),
                }
            }
            // A random story settles what was refused, too.
            Act::Settle { name, used } => match open.remove(name) {
                Some(reservation) => (None, reservation.settle(*used, now)),
                None => (None, Vec::new()),
            },
            Act::Drop { name } => {
                drop(open.remove(name).unwrap());
                (None, Vec::new())
            }
        };
        if let Store::Redis(redis) = store {
            settled(redis).await;
        }
        let bare = |left: Remaining| Remaining {
            reset: Duration::ZERO,
            ..left
        };
        said.push((decided, left.into_iter().map(bare).collect()));
    }
    said
}

/// Two limits by one key and a hundred calls, some settled at once and some much later.
fn random_case(seed: u64) -> Case {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut below = move |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    let hold = [Hold::Nothing, Hold::Prompt, Hold::PromptAndCompletion][below(3) as usize];
    let periods = [
        Period::Hourly,
        Period::Daily,
        Period::Weekly,
        Period::Monthly,
        Period::Yearly,
    ];
    let quota = Quota::new(1 + below(3_000), periods[below(5) as usize]);
    let mode = [Mode::Enforce, Mode::Observe][usize::from(below(4) == 0)];
    let limits = vec![
        (
            Limit::new(Rate::new(1 + below(5_000)), quota, hold).unwrap(),
            Mode::Enforce,
        ),
        (
            Limit::new(Rate::new(1 + below(5_000)), None, Hold::Prompt).unwrap(),
            mode,
        ),
    ];
    let (mut at_us, mut steps, mut open) = (0, Vec::new(), Vec::new());
    for index in 0..100 {
        at_us += [0, below(1_000), below(10_000_000), below(1_000_000_000)][below(4) as usize];
        let act = if below(2) == 0 || open.is_empty() {
            let name = index.to_string();
            open.push(name.clone());
            Act::Call {
                name,
                key: "key".to_owned(),
                prompt: Tokens::new(below(300)),
                completion: Tokens::new(below(300)),
                expected: Expected::Admitted {
                    would_refuse: Vec::new(),
                },
            }
        } else {
            let name = open.swap_remove(below(open.len() as u64) as usize);
            Act::Settle {
                name,
                used: Tokens::new(below(900)),
            }
        };
        steps.push(cases::Step {
            at_us,
            act,
            remaining: None,
            live_only: false,
        });
    }
    Case {
        name: format!("random {seed}"),
        start: 1_795_342_830,
        limits,
        steps,
    }
}
