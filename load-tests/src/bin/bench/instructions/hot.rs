//! The pure functions that every request or every event goes through, one repetition each.
//!
//! Inputs are made before the repetitions begin, and what comes out goes through `black_box`, so that nothing is left
//! out. Which shape a call has, and which gateway code calls these in which order, is the gateway's business.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use filters::answer::StreamMeter;
use filters::balance::{Pool, Standing, Turns};
use filters::breaker::{Cell as BreakerCell, Condition, FailureReasons, Failures, Rule};
use filters::expression::{Expression, Place, RequestScope, Scope, SubscriptionScope, Want};
use filters::limit::bucket::Rate;
use filters::limit::quota::{Period, Quota};
use filters::limit::reservation::{Cell, Check, Mode, plan};
use filters::limit::{Hold, Limit, Now};
use filters::outcome::{Credential, Outcome};
use filters::request::read_json;
use filters::route::Shape;
use filters::sse::Splitter;
use filters::status::StatusRanges;
use filters::time::{Time, UnixTime};
use filters::tokens::{Encoding, Memo, prompt_with};
use filters::units::Tokens;

use crate::instructions::callgrind::{Profile, collected, command, each};
use crate::workload::{Answer, Workload};

type Fallible = Result<(), Box<dyn Error>>;

/// One of them: its name in the table and on the command line, its repetitions under callgrind, and itself.
struct Hot {
    name: &'static str,
    repetitions: u64,
    run: fn(u64) -> Fallible,
}

const ALL: [Hot; 7] = [
    Hot {
        name: "facts of a request of 2 KB",
        repetitions: 2000,
        run: facts,
    },
    Hot {
        name: "a stream of 200 events, cut and metered",
        repetitions: 50,
        run: stream,
    },
    Hot {
        name: "breaker and choice of 3 members",
        repetitions: 5000,
        run: choice,
    },
    Hot {
        name: "two limits, decided and settled",
        repetitions: 5000,
        run: limits,
    },
    Hot {
        name: "estimate of a prompt seen before, 2 KB",
        repetitions: 500,
        run: estimate,
    },
    Hot {
        name: "a condition that is plain",
        repetitions: 5000,
        run: condition,
    },
    Hot {
        name: "a dimension by a header",
        repetitions: 5000,
        run: header,
    },
];

/// Counts each, in runs of this program under callgrind.
pub(super) fn count(profiles: &Path) -> Result<Vec<(Profile, u64)>, Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let mut counted = Vec::new();
    for hot in &ALL {
        let profile = Profile::new(profiles, hot.name);
        let of = |repetitions: u64| -> Result<u64, Box<dyn Error>> {
            let mut run = command(&program, &profile);
            run.args(["hot", hot.name, &repetitions.to_string()]);
            let output = run.stdin(Stdio::null()).output()?;
            Ok(collected(&String::from_utf8_lossy(&output.stderr))?)
        };
        let (shorter, longer) = (of(hot.repetitions)?, of(hot.repetitions * 2)?);
        counted.push((profile, each(shorter, longer, hot.repetitions)));
    }
    Ok(counted)
}

/// Runs one of them so often: what `count` starts.
pub(crate) fn run(name: &str, repetitions: u64) -> Fallible {
    let hot = ALL.iter().find(|hot| hot.name == name);
    let hot = hot.ok_or_else(|| format!("nothing hot is called {name:?}"))?;
    (hot.run)(repetitions)
}

fn chat_body() -> Vec<u8> {
    Workload::Chat
        .calls("")
        .first()
        .map(|call| call.body().to_vec())
        .unwrap_or_default()
}

fn facts(repetitions: u64) -> Fallible {
    let body = chat_body();
    for _ in 0..repetitions {
        black_box(read_json(Shape::Chat, black_box(&body))?);
    }
    Ok(())
}

fn stream(repetitions: u64) -> Fallible {
    let events: Vec<Bytes> = Answer::Stream
        .parts()
        .into_iter()
        .map(Bytes::from)
        .collect();
    let mut pieces = Vec::new();
    for _ in 0..repetitions {
        let mut splitter = Splitter::new(1 << 20);
        let mut meter = StreamMeter::new(Shape::Chat);
        for event in &events {
            splitter.push(event.clone(), &mut pieces);
            for piece in pieces.drain(..) {
                black_box(meter.read(&piece.event()));
            }
        }
        if meter.usage().is_none() {
            return Err("the stream's usage wasn't seen".into());
        }
    }
    Ok(())
}

fn choice(repetitions: u64) -> Fallible {
    let failures = Failures {
        statuses: StatusRanges::new([429..=429, 500..=599])?,
        reasons: FailureReasons::default(),
    };
    let condition = Condition::Percentage {
        percentage: 50,
        minimum_requests: 20,
    };
    let minute = Duration::from_secs(60);
    let rule = Rule::new(condition, minute, failures, minute, None)?;
    let standing = |priority, weight| Standing { priority, weight };
    let pool = Pool::new(&[standing(1, 1), standing(2, 3), standing(2, 1)])?;
    let turns = Turns::beginning_at(0);
    let mut cells = [(); 3].map(|()| BreakerCell::default());
    for repetition in 0..repetitions {
        let now = Time::from_nanoseconds(1_000_000_000 + repetition * 1_000_000);
        let best = pool.best(pool.all());
        let chosen = pool.choose(best, turns.take(best)).ok_or("no choice")?;
        let cell = cells.get_mut(chosen.member).ok_or("no such member")?;
        black_box(cell.admit(now));
        let outcome = Outcome::of_answer(black_box(200), None, Credential::Gateway);
        black_box(cell.record(&rule, &outcome, now, now));
    }
    black_box(&cells);
    Ok(())
}

fn limits(repetitions: u64) -> Fallible {
    let rate = Limit::new(Rate::new(1_000_000_000), None, Hold::Prompt);
    let quota = Limit::new(None, Quota::new(1 << 40, Period::Monthly), Hold::Prompt);
    let nothing = |_| "a limit that limits nothing";
    let limits = [rate.map_err(nothing)?, quota.map_err(nothing)?];
    let mut cells = [Cell::UNUSED; 2];
    for repetition in 0..repetitions {
        let now = Now {
            time: Time::from_nanoseconds(1_000_000_000_000 + repetition * 1_000),
            unix: UnixTime::from_seconds(1_760_000_000),
        };
        let check = |(limit, cell): (_, &Cell)| Check {
            limit,
            amount: Tokens::new(700),
            mode: Mode::Enforce,
            cell: *cell,
        };
        let checks: Vec<Check<'_>> = limits.iter().zip(&cells).map(check).collect();
        let granted = plan(black_box(&checks), now).map_err(|_| "refused")?;
        for ((limit, cell), held) in limits.iter().zip(&mut cells).zip(granted.held) {
            let taken = cell.take(limit, held, now);
            *cell = taken.settle(limit, held, Tokens::new(650), now);
        }
    }
    black_box(&cells);
    Ok(())
}

fn estimate(repetitions: u64) -> Fallible {
    let body = chat_body();
    let memo = Seen::default();
    for _ in 0..repetitions {
        let estimate = prompt_with(&memo, "gpt-4o", Shape::Chat, black_box(&body));
        black_box(estimate.ok_or("no estimate")?);
    }
    Ok(())
}

fn condition(repetitions: u64) -> Fallible {
    let source = r#"product.id == "gold" && request.model == "gpt-4o""#;
    let condition = Expression::compile(source, Place::Request, Want::Truth)?;
    with_scope(|scope| {
        for _ in 0..repetitions {
            black_box(condition.truth(black_box(scope))?);
        }
        Ok(())
    })
}

fn header(repetitions: u64) -> Fallible {
    let source = r#""x-user-id" in request.headers ? request.headers["x-user-id"] : "N/A""#;
    let dimension = Expression::compile(source, Place::Answer, Want::Text)?;
    with_scope(|scope| {
        for _ in 0..repetitions {
            black_box(dimension.text(black_box(scope))?);
        }
        Ok(())
    })
}

fn with_scope(run: impl FnOnce(&Scope<'_>) -> Fallible) -> Fallible {
    let headers: &[(&str, &str)] = &[
        ("host", "bench.test"),
        ("content-type", "application/json"),
        ("user-agent", "tollgate-bench"),
        ("accept", "*/*"),
        ("x-user-id", "4711"),
        ("content-length", "2048"),
    ];
    let attributes = BTreeMap::from([("cost-center".to_owned(), "4711".to_owned())]);
    run(&Scope {
        request: RequestScope {
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            method: "POST",
            path: "/v1/chat/completions",
            headers: &headers,
            query: "",
            model: "gpt-4o",
            stream: false,
            user: "",
        },
        subscription: Some(SubscriptionScope {
            id: "bench",
            attributes: &attributes,
        }),
        product: Some("gold"),
        api: "openai",
        operation: "chat-completions",
        gateway_id: "gateway-1",
        gateway_location: "",
        jwt: None,
        backend: Some("bench"),
        status: Some(200),
    })
}

/// A memo that forgets nothing and hashes without a secret, so that each run takes the same instructions.
#[derive(Default)]
struct Seen(RefCell<HashMap<u128, u64, BuildHasherDefault<DefaultHasher>>>);

impl Memo for Seen {
    fn key(&self, encoding: Encoding, text: &str) -> u128 {
        let mut hasher = DefaultHasher::new();
        (encoding, text).hash(&mut hasher);
        u128::from(hasher.finish())
    }

    fn recall(&self, key: u128) -> Option<u64> {
        self.0.borrow().get(&key).copied()
    }

    fn note(&self, key: u128, tokens: u64) {
        self.0.borrow_mut().insert(key, tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_runs() {
        for hot in &ALL {
            run(hot.name, 3).unwrap();
        }
        assert!(run("nothing", 1).is_err());
    }
}
