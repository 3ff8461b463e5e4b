//! The priority lab: what a first priority can't take spills over to the second in equal shares and to the third last,
//! and comes back when its minute is over. No caller sees any of it but by `x-ms-region`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use load_tests::simulator::{Handle, Options, Simulator};
use support::DEADLINE;
use support::gateway::Gateway;
use support::load::Line;
use support::pool::{self, CHAT, KEY, Member, PATIENT};

const BODY: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
/// What the simulator counts for an answer to it: a token for the prompt, sixteen for the words.
const TOKENS: u64 = 17;
const REGIONS: [&str; 4] = ["first", "second-a", "second-b", "third"];

const BREAKER: &str = r#"failure-condition = { count = 1, interval = "60s" }
trip-duration = "1s"
accept-retry-after = true
"#;

/// The four backends of the lab. Their minutes last two seconds.
async fn lab() -> (Vec<Handle>, Gateway) {
    let mut simulators = Vec::new();
    for region in REGIONS {
        let options = Options {
            region: region.into(),
            minute: Duration::from_secs(2),
            ..Options::default()
        };
        simulators.push(Simulator::start(options).await.unwrap());
    }
    let urls: Vec<String> = simulators.iter().map(Handle::url).collect();
    let places = [
        "priority = 1",
        "priority = 2",
        "priority = 2",
        "priority = 3",
    ];
    let member = |(url, place)| Member {
        url,
        place,
        breaker: BREAKER,
        timeouts: PATIENT,
    };
    let members: Vec<Member<'_>> = urls
        .iter()
        .map(String::as_str)
        .zip(places)
        .map(member)
        .collect();
    // Where all but one can be throttled at once, each of them may have to say so.
    let config = pool::config(&members, "", "retry = { count = 3 }");
    (simulators, Gateway::start(&config))
}

fn line(gateway: &Gateway) -> Line {
    Line::new(&format!("{}{CHAT}", gateway.url), KEY, Instant::now())
}

/// One call, which must be served; by whom.
async fn region(line: &mut Line) -> &'static str {
    let called = line
        .call(Bytes::from_static(BODY.as_bytes()))
        .await
        .unwrap();
    assert_eq!(called.status, 200, "{called:?}");
    let place = REGIONS.iter().position(|region| *region == called.region);
    REGIONS[place.unwrap()]
}

/// Calls while the answers come from these regions; how many came from each, and who answered then.
async fn calls_while(
    line: &mut Line,
    regions: &[&str],
    from: &'static str,
) -> (Vec<usize>, &'static str) {
    let mut counts = vec![0; regions.len()];
    let (mut answered, began) = (from, Instant::now());
    while let Some(place) = regions.iter().position(|region| *region == answered) {
        counts[place] += 1;
        assert!(began.elapsed() < DEADLINE, "always {regions:?}: {counts:?}");
        answered = region(line).await;
    }
    (counts, answered)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_priority_cannot_take_spills_over_in_equal_shares_and_comes_back() {
    let (simulators, gateway) = lab().await;
    let calls = 6;
    simulators[0].set_limits(Some(calls * TOKENS), None);
    let mut line = line(&gateway);
    let mut answered = region(&mut line).await;
    for minute in 0..3 {
        let (counts, next) = calls_while(&mut line, &["first"], answered).await;
        assert!(0 < counts[0], "{minute}: {counts:?}");
        let (counts, next) = calls_while(&mut line, &["second-a", "second-b"], next).await;
        eprintln!("minute {minute}: {counts:?} spilled over");
        // The call that was refused first has its turn by the first backend's count, not by this pair's.
        assert!(counts[0].abs_diff(counts[1]) <= 2, "{minute}: {counts:?}");
        assert_eq!(
            next, "first",
            "{minute}: no worse priority while this one can"
        );
        answered = next;
    }
    assert_eq!(simulators[3].requests().len(), 0);
    let refused = simulators[0]
        .requests()
        .iter()
        .filter(|record| record.answer.status == 429)
        .count();
    assert!(
        refused <= 3,
        "asked in vain {refused} times for three spills"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_priority_serves_while_all_others_are_throttled_and_callers_see_only_200() {
    let (simulators, gateway) = lab().await;
    for simulator in &simulators[..3] {
        simulator.set_limits(Some(4 * TOKENS), None);
    }
    let callers = (0..8).map(|_| {
        let mut line = line(&gateway);
        tokio::spawn(async move {
            // Until the third has served, and the first again after it.
            let (mut third, began) = (false, Instant::now());
            loop {
                assert!(began.elapsed() < DEADLINE, "the third served: {third}");
                match region(&mut line).await {
                    "third" => third = true,
                    "first" if third => return,
                    _ => {}
                }
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    for caller in callers {
        caller.await.unwrap();
    }
}
