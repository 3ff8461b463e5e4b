//! The recorded cases of `*.json` as values: read by every test that runs them, against whatever keeps the
//! counters. Figures are from what API Management was seen to answer and from arithmetic by hand.

use std::time::Duration;

use filters::limit::bucket::Rate;
use filters::limit::quota::{Period, Quota};
use filters::limit::reservation::{Mode, Reason, Refused, Remaining};
use filters::limit::{Hold, Limit, Now};
use filters::time::{Time, UnixTime};
use filters::units::Tokens;
use serde_json::Value;

/// One story: limits, and what happens to them.
pub struct Case {
    pub name: String,
    pub start: u64,
    pub limits: Vec<(Limit, Mode)>,
    pub steps: Vec<Step>,
}

/// One thing that happens.
pub struct Step {
    pub at_us: u64,
    pub act: Act,
    /// What is left then, of each limit.
    pub remaining: Option<Vec<Remaining>>,
    /// `remaining` is of the counters as they are now, others' calls included: a store that answers from what
    /// it was told before can't know.
    pub live_only: bool,
}

/// What it is.
pub enum Act {
    Call {
        name: String,
        key: String,
        prompt: Tokens,
        completion: Tokens,
        expected: Expected,
    },
    Settle {
        name: String,
        used: Tokens,
    },
    Drop {
        name: String,
    },
}

/// What a call gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    Admitted {
        would_refuse: Vec<usize>,
    },
    Refused {
        limit: usize,
        reason: String,
        retry_after: Option<Duration>,
    },
}

/// Every case of every file.
pub fn all() -> Vec<Case> {
    let files = [
        include_str!("rate.json"),
        include_str!("quota.json"),
        include_str!("several.json"),
    ];
    let read = |text: &str| serde_json::from_str::<Vec<Value>>(text).unwrap();
    files
        .iter()
        .flat_map(|text| read(text))
        .map(|case| Case::of(&case))
        .collect()
}

impl Case {
    fn of(value: &Value) -> Self {
        Case {
            name: text(&value["name"]),
            start: value["start"].as_u64().unwrap_or(1_795_342_830),
            limits: list(&value["limits"]).iter().map(limit).collect(),
            steps: list(&value["steps"]).iter().map(Step::of).collect(),
        }
    }

    /// The moment of a step. Both clocks begin with 1970, as a store with one clock needs it.
    pub fn now(&self, step: &Step) -> Now {
        let now_us = self.start * 1_000_000 + step.at_us;
        Now {
            time: Time::from_nanoseconds(now_us * 1_000),
            unix: UnixTime::from_seconds(now_us / 1_000_000),
        }
    }
}

impl Step {
    fn of(value: &Value) -> Self {
        let remaining = |all: &Vec<Value>| all.iter().map(remaining).collect();
        Step {
            at_us: value["at-us"].as_u64().unwrap(),
            act: act(value),
            remaining: value["remaining"].as_array().map(remaining),
            live_only: value["live-only"].as_bool().unwrap_or(false),
        }
    }
}

impl Expected {
    /// What a decision said, as the cases tell it.
    pub fn from(decided: Result<&[Refused], Refused>) -> Self {
        match decided {
            Ok(would_refuse) => Expected::Admitted {
                would_refuse: would_refuse.iter().map(|refused| refused.limit).collect(),
            },
            Err(refused) => Expected::Refused {
                limit: refused.limit,
                reason: match refused.reason {
                    Reason::Rate => "rate",
                    Reason::Quota => "quota",
                    Reason::TooLarge { .. } => "too-large",
                }
                .to_owned(),
                retry_after: refused.retry_after,
            },
        }
    }
}

fn act(value: &Value) -> Act {
    let name = |key: &str| value[key].as_str().map(str::to_owned);
    let tokens = |key: &str| Tokens::new(value[key].as_u64().unwrap_or(0));
    if let Some(name) = name("settle") {
        let used = tokens("used");
        return Act::Settle { name, used };
    }
    if let Some(name) = name("drop") {
        return Act::Drop { name };
    }
    Act::Call {
        name: text(&value["call"]),
        key: name("key").unwrap_or("key".to_owned()),
        prompt: tokens("prompt"),
        completion: tokens("completion"),
        expected: expected(value),
    }
}

fn expected(value: &Value) -> Expected {
    let refused = &value["refused"];
    if refused.is_null() {
        let indices = value["would-refuse"].as_array();
        let index = |value: &Value| value.as_u64().unwrap() as usize;
        return Expected::Admitted {
            would_refuse: indices.map_or(Vec::new(), |all| all.iter().map(index).collect()),
        };
    }
    Expected::Refused {
        limit: refused["limit"].as_u64().unwrap() as usize,
        reason: text(&refused["reason"]),
        retry_after: refused["retry-after-us"]
            .as_u64()
            .map(Duration::from_micros),
    }
}

fn limit(value: &Value) -> (Limit, Mode) {
    let rate = value["tokens-per-minute"].as_u64().and_then(Rate::new);
    let quota = value["token-quota"].as_u64().and_then(|tokens| {
        let period = match text(&value["token-quota-period"]).as_str() {
            "hourly" => Period::Hourly,
            "daily" => Period::Daily,
            "weekly" => Period::Weekly,
            "monthly" => Period::Monthly,
            "yearly" => Period::Yearly,
            other => panic!("no period {other}"),
        };
        Quota::new(tokens, period)
    });
    let hold = match value["hold"].as_str() {
        None => Hold::Nothing,
        Some("prompt") => Hold::Prompt,
        Some("prompt-and-completion") => Hold::PromptAndCompletion,
        Some(other) => panic!("no hold {other}"),
    };
    let mode = match value["mode"].as_str() {
        None => Mode::Enforce,
        Some("observe") => Mode::Observe,
        Some(other) => panic!("no mode {other}"),
    };
    (Limit::new(rate, quota, hold).unwrap(), mode)
}

/// The time until a bucket is full isn't told: it follows from the rest.
fn remaining(value: &Value) -> Remaining {
    let tokens = |key: &str| value[key].as_u64().map(Tokens::new);
    Remaining {
        tokens: tokens("tokens"),
        reset: Duration::ZERO,
        quota: tokens("quota"),
    }
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
