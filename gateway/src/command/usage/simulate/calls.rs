//! The usage log as calls that limits can be tried on: when each began, what it used, and which counters are its.
//!
//! Expressions are evaluated once, as a record is read, so that nothing of it has to be kept but numbers.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use filters::expression::{Expression, RequestScope, Scope, SubscriptionScope};
use filters::price::NanoUsd;
use filters::record::Record;
use filters::time::UnixMillis;

use super::SimulateError;
use crate::config::plan::{Plan, Subscription, TokenLimit};

/// Some gigabyte.
pub(super) const MAX_CALLS: usize = 20_000_000;
/// Names that the log doesn't hold.
const UNKNOWN: [&str; 7] = [
    "request.headers",
    "request.ip",
    "request.path",
    "request.query",
    "request.method",
    "gateway.location",
    "jwt",
];

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    /// When it began.
    pub begun: UnixMillis,
    /// Prompt tokens.
    pub prompt: u32,
    /// All tokens.
    pub total: u32,
    /// By the configuration's price list.
    pub cost: NanoUsd,
    /// Its part of the lines.
    first_line: u32,
    lines: u16,
}

/// All calls, and what they count on.
pub(super) struct Calls<'p> {
    plan: &'p Plan,
    subscriptions: HashMap<&'p str, &'p Subscription>,
    not_simulated: BTreeMap<usize, String>,
    list: Vec<Call>,
    /// Limit and counter.
    lines: Vec<(u16, u32)>,
    counters: HashMap<(u16, String), u32>,
    keys: Vec<String>,
    /// Calls that were refused then: what they would have used isn't known.
    pub was_refused: u64,
    /// Answers of a semantic cache, which no limit counts.
    pub was_cached: u64,
    /// Calls that used nothing: lists, stored answers, failures.
    pub was_free: u64,
}

impl<'p> Calls<'p> {
    /// None yet.
    pub fn new(plan: &'p Plan) -> Self {
        let by_name = |subscription: &'p std::sync::Arc<Subscription>| {
            (subscription.name.as_ref(), subscription.as_ref())
        };
        let limits = plan.token_limits.iter().enumerate();
        Self {
            plan,
            subscriptions: plan.subscriptions.iter().map(by_name).collect(),
            not_simulated: limits
                .filter_map(|(index, limit)| Some((index, unknown(limit)?)))
                .collect(),
            list: Vec::new(),
            lines: Vec::new(),
            counters: HashMap::new(),
            keys: Vec::new(),
            was_refused: 0,
            was_cached: 0,
            was_free: 0,
        }
    }

    /// One record; calls that no limit is for are calls too.
    pub fn add(&mut self, record: &Record<'_>) -> Result<(), SimulateError> {
        if record.served.cache == "hit" {
            self.was_cached += 1;
            return Ok(());
        }
        if record.usage.total == 0 {
            match record.served.end.as_ref() {
                "refused" => self.was_refused += 1,
                _ => self.was_free += 1,
            }
            return Ok(());
        }
        if self.list.len() == MAX_CALLS {
            return Err(SimulateError::TooManyCalls);
        }
        let first_line = self.lines.len() as u32;
        self.count(record);
        let prices = self.plan.prices.as_ref();
        let price =
            prices.and_then(|prices| prices.find(&record.asked.model, record.time.second()));
        let cost = price.and_then(|price| price.of(&record.usage));
        let begun = record.time.as_millis().saturating_sub(record.duration_ms);
        self.list.push(Call {
            begun: UnixMillis::from_millis(begun),
            prompt: u32::try_from(record.usage.prompt).unwrap_or(u32::MAX),
            total: u32::try_from(record.usage.total).unwrap_or(u32::MAX),
            cost: cost.unwrap_or(NanoUsd::ZERO),
            first_line,
            lines: (self.lines.len() as u32 - first_line) as u16,
        });
        Ok(())
    }

    /// The lines of one call.
    fn count(&mut self, record: &Record<'_>) {
        let known = self
            .subscriptions
            .get(record.who.subscription.as_ref())
            .copied();
        let logged: BTreeMap<String, String> = match known {
            Some(_) => BTreeMap::new(),
            None => record
                .who
                .attributes
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
        };
        let scope = scope(self.plan, record, known, &logged);
        for (index, limit) in self.plan.token_limits.iter().enumerate() {
            let applies = limit
                .when
                .as_ref()
                .is_none_or(|when| when.truth(&scope).unwrap_or(false));
            if !applies || self.not_simulated.contains_key(&index) {
                continue;
            }
            let Ok(key) = limit.counter_key.text(&scope) else {
                continue;
            };
            let (index, next) = (index as u16, self.keys.len() as u32);
            let counter = *self
                .counters
                .entry((index, key.clone().into_owned()))
                .or_insert(next);
            if counter == next {
                self.keys.push(key.into_owned());
            }
            self.lines.push((index, counter));
        }
    }

    /// By when they began; those of one moment as they were written.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|call| call.begun);
    }

    /// Every call.
    pub fn list(&self) -> &[Call] {
        &self.list
    }

    /// Limit and counter of each line of a call.
    pub fn lines(&self, call: &Call) -> &[(u16, u32)] {
        let first = call.first_line as usize;
        &self.lines[first..first + usize::from(call.lines)]
    }

    /// How many counters there are.
    pub fn counters(&self) -> usize {
        self.keys.len()
    }

    /// A counter's key.
    pub fn key(&self, counter: u32) -> &str {
        self.keys.get(counter as usize).map_or("", String::as_str)
    }

    /// Limits that ask for what the log doesn't hold, and what that is.
    pub fn not_simulated(&self) -> impl Iterator<Item = (usize, &String)> {
        self.not_simulated.iter().map(|(index, why)| (*index, why))
    }
}

/// What a limit asks for that the log doesn't hold.
fn unknown(limit: &TokenLimit) -> Option<String> {
    let sources = limit.when.iter().chain([&limit.counter_key]);
    let sources: Vec<&str> = sources.map(Expression::source).collect();
    let asks = |name: &str| match name {
        "jwt" => {
            limit.counter_key.names("jwt")
                || limit.when.as_ref().is_some_and(|when| when.names("jwt"))
        }
        name => sources.iter().any(|source| source.contains(name)),
    };
    let asked = UNKNOWN.into_iter().find(|name| asks(name));
    asked.map(str::to_owned)
}

/// The subscription as the configuration has it now, else as the record has it.
fn scope<'a>(
    plan: &'a Plan,
    record: &'a Record<'_>,
    known: Option<&'a Subscription>,
    logged: &'a BTreeMap<String, String>,
) -> Scope<'a> {
    let subscription = record.who.subscription.as_ref();
    let logged_product = Some(record.who.product.as_ref()).filter(|product| !product.is_empty());
    let known_product =
        |known: &'a Subscription| known.product.as_ref().map(|product| product.name.as_ref());
    Scope {
        request: RequestScope {
            ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            method: "POST",
            path: "",
            headers: &NO_HEADERS,
            query: "",
            model: &record.asked.model,
            stream: record.asked.stream,
            user: &record.who.user,
        },
        subscription: (!subscription.is_empty()).then_some(SubscriptionScope {
            id: subscription,
            attributes: known.map_or(logged, |known| &known.attributes),
        }),
        product: known.map_or(logged_product, known_product),
        api: &record.asked.api,
        operation: &record.asked.operation,
        gateway_id: &record.gateway,
        gateway_location: &plan.gateway.location,
        jwt: None,
        backend: None,
        status: None,
    }
}

static NO_HEADERS: &[(&str, &str)] = &[];
