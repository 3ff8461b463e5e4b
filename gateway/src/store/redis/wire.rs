//! What is said to `reserve.lua`, and what it says: keys, arguments, states.

use std::sync::Arc;

use filters::limit::Now;
use filters::limit::bucket::{Bucket, Refill};
use filters::limit::quota::{Hour, Quota, Used};
use filters::limit::reservation::{Cell, Check, Mode};
use filters::time::UnixTime;
use filters::units::Tokens;
use sha2::{Digest, Sha256};

use super::claim::Claim;
use super::connection::CallError;
use crate::store::LimitRequest;

/// All keys are in its hash slot.
pub const TAG: &str = "{tollgate}";

/// A counter key's value that is longer is replaced by its digest: a key in Redis has a bound.
const MAX_KEY_BYTES: usize = 128;

/// Numbers before the first limit's, and of each limit.
const HEAD: usize = 2;
const STATE: usize = 3;

const MICROSECONDS: u64 = 1_000_000;

/// What the script says.
#[derive(Debug)]
pub struct Told {
    /// Whether the limits were taken.
    pub taken: bool,
    /// The caller's time and the server's calendar.
    pub now: Now,
    /// The states as they were found.
    pub cells: Vec<Cell>,
}

impl Told {
    /// Reads the answer for so many limits.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(numbers: &[i64], limits: usize, asked: Now) -> Result<Self, CallError> {
        let unsigned: Vec<u64> = numbers
            .iter()
            .map(|number| u64::try_from(*number).unwrap_or(0))
            .collect();
        match numbers.first() {
            Some(0 | 1) if numbers.len() == HEAD + limits * STATE => {}
            Some(-2) => {
                let why = "the server's clock and this one's are more than a quota's period apart";
                return Err(CallError::new(why));
            }
            Some(_) | None => return Err(CallError::new("not the answer of reserve.lua")),
        }
        let now = Now {
            time: asked.time,
            unix: UnixTime::from_seconds(unsigned[1] / MICROSECONDS),
        };
        let cell = |state: &[u64]| Cell {
            bucket: Bucket::full_in(Refill::from_nanoseconds(state[0]), now.time),
            used: Used {
                since: Hour::from_number(state[1]),
                tokens: Tokens::new(state[2]),
            },
        };
        Ok(Told {
            taken: unsigned[0] == 1,
            now,
            cells: unsigned[HEAD..].chunks_exact(STATE).map(cell).collect(),
        })
    }
}

/// One limit of a request and its state.
pub fn check<'a>(request: &'a LimitRequest<'_>, cell: Cell) -> Check<'a> {
    Check {
        limit: &request.limit,
        amount: request.amount,
        mode: request.mode,
        cell,
    }
}

/// The replica's open reservations, then a key a limit.
pub fn keys(open: &str, claim: &Claim) -> Vec<String> {
    let counters = claim.lines.iter().map(|line| line.key.to_string());
    std::iter::once(open.to_owned()).chain(counters).collect()
}

/// The time, the reservation's number, then eight a limit.
pub fn arguments(time: &str, id: u64, requests: &[LimitRequest<'_>], now: Now) -> Vec<String> {
    let mut arguments = vec![time.to_owned(), id.to_string()];
    for request in requests {
        push(&mut arguments, request, now);
    }
    arguments
}

/// A counter's key. The policy's length tells where its name ends, since either may hold any character.
pub fn counter_key(policy: &str, key: &str) -> Arc<str> {
    let length = policy.len();
    if key.len() <= MAX_KEY_BYTES {
        return format!("{TAG}:limit:{length}:{policy}:{key}").into();
    }
    let digest = Sha256::digest(key.as_bytes());
    format!("{TAG}:digest:{length}:{policy}:{digest:x}").into()
}

fn push(arguments: &mut Vec<String>, request: &LimitRequest<'_>, now: Now) {
    let observes = match request.mode {
        Mode::Enforce => "0",
        Mode::Observe => "1",
    };
    let cost = request
        .limit
        .rate()
        .map(|rate| rate.cost(request.amount).as_nanoseconds().to_string());
    arguments.extend([
        observes.to_owned(),
        cost.unwrap_or("-1".to_owned()),
        request.amount.get().min(MOST_SAID).to_string(),
    ]);
    match request.limit.quota() {
        Some(quota) => {
            arguments.push(quota.tokens().to_string());
            arguments.extend(windows(quota, now).map(|hour| hour.number().to_string()));
        }
        None => arguments.extend(["-1", "0", "0", "0", "0"].map(str::to_owned)),
    }
}

/// More than any quota, and still a whole number in a script.
const MOST_SAID: u64 = 1 << 43;

/// Where the window before this one, this one and the next begin, and where the next ends: the server's
/// clock decides which it is, and needs no calendar for it.
fn windows(quota: Quota, now: Now) -> [Hour; 4] {
    let period = quota.period();
    let this = period.window(now.unix);
    let second_before = this.from.start().as_seconds().saturating_sub(1);
    let before = period.window(UnixTime::from_seconds(second_before));
    let next = period.window(this.until.start());
    [before.from, this.from, this.until, next.until]
}
