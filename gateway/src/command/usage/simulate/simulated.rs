//! What a simulation found, for people and for programs.

use std::collections::HashMap;
use std::io::{self, Write};

use filters::limit::reservation::{Mode, Reason};
use filters::time::UnixMillis;
use serde_json::json;

use super::calls::Call;
use crate::config::plan::TokenLimit;

/// Keys that are named for each limit.
const KEYS_TOLD: usize = 3;

/// All of it.
#[derive(Debug)]
pub(super) struct Simulated {
    /// The configuration.
    pub source: String,
    /// Calls that were decided again.
    pub calls: u64,
    /// Of these, refused by some limit.
    pub refused_calls: u64,
    /// Left out: refused then.
    pub was_refused: u64,
    /// Left out: answered by a semantic cache.
    pub was_cached: u64,
    /// Left out: used no tokens.
    pub was_free: u64,
    /// One a limit, in the order of the configuration.
    pub tallies: Vec<Tally>,
}

/// One limit.
#[derive(Debug)]
pub(super) struct Tally {
    name: String,
    mode: Mode,
    /// What it asks for that the log doesn't hold.
    pub not_simulated: Option<String>,
    /// Calls that it was for.
    pub calls: u64,
    refused: u64,
    tokens: u64,
    first: Option<UnixMillis>,
    reasons: HashMap<&'static str, u64>,
    keys: HashMap<String, u64>,
}

impl Tally {
    /// Nothing refused yet.
    pub fn of(limit: &TokenLimit) -> Self {
        Self {
            name: limit.name.clone(),
            mode: limit.mode,
            not_simulated: None,
            calls: 0,
            refused: 0,
            tokens: 0,
            first: None,
            reasons: HashMap::new(),
            keys: HashMap::new(),
        }
    }

    /// A call is refused.
    pub fn refuse(&mut self, call: &Call, key: &str, reason: Reason) {
        self.refused += 1;
        self.tokens += u64::from(call.total);
        self.first = self.first.or(Some(call.begun));
        *self.reasons.entry(super::reason(reason)).or_default() += 1;
        match self.keys.get_mut(key) {
            Some(count) => *count += 1,
            None => drop(self.keys.insert(key.to_owned(), 1)),
        }
    }

    fn most_refused(&self) -> Vec<(&str, u64)> {
        let mut keys: Vec<(&str, u64)> = self
            .keys
            .iter()
            .map(|(key, count)| (key.as_str(), *count))
            .collect();
        keys.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
        keys.truncate(KEYS_TOLD);
        keys
    }
}

/// For a terminal.
pub(super) fn table(simulated: &Simulated, out: &mut dyn Write) -> io::Result<()> {
    let Simulated {
        source,
        calls,
        refused_calls,
        was_refused,
        was_cached,
        was_free,
        tallies,
    } = simulated;
    writeln!(
        out,
        "{source}: of {calls} calls, {refused_calls} would have been refused"
    )?;
    writeln!(
        out,
        "left out: {was_refused} that were refused then, {was_cached} that a cache answered, {was_free} that used no tokens"
    )?;
    if tallies.is_empty() {
        return writeln!(out, "there is no limit and no budget in it");
    }
    writeln!(out)?;
    let width = tallies
        .iter()
        .map(|tally| tally.name.chars().count())
        .max()
        .unwrap_or(0)
        .max(5);
    writeln!(
        out,
        "{:width$}  {:>10}  {:>10}  {:>7}  {:>14}  first refused; most refused",
        "limit", "calls", "refused", "share", "tokens"
    )?;
    for tally in tallies {
        writeln!(out, "{}", row(tally, width))?;
    }
    Ok(())
}

fn row(tally: &Tally, width: usize) -> String {
    let Tally {
        name,
        calls,
        refused,
        tokens,
        ..
    } = tally;
    if let Some(why) = &tally.not_simulated {
        return format!(
            "{name:width$}  not simulated: it asks for {why}, which the log doesn't hold"
        );
    }
    // Tenths of a percent, in whole numbers.
    let share = refused
        .saturating_mul(1_000)
        .checked_div(*calls)
        .unwrap_or(0);
    let share = format!("{}.{}%", share / 10, share % 10);
    let first = tally
        .first
        .map_or_else(|| "-".to_owned(), |first| first.to_string());
    let keys = tally.most_refused().into_iter();
    let keys: Vec<String> = keys
        .map(|(key, count)| format!("{} ({count})", key.escape_debug()))
        .collect();
    let observes = match tally.mode {
        Mode::Enforce => "",
        Mode::Observe => " (only observes)",
    };
    let keys = keys.join(", ");
    format!(
        "{name:width$}  {calls:>10}  {refused:>10}  {share:>7}  {tokens:>14}  {first}; {keys}{observes}"
    )
}

/// For programs.
pub(super) fn json(simulated: &Simulated, out: &mut dyn Write) -> io::Result<()> {
    let limit = |tally: &Tally| {
        let keys = tally
            .most_refused()
            .into_iter()
            .map(|(key, count)| json!({ "key": key, "refused": count }));
        json!({
            "name": tally.name,
            "mode": match tally.mode { Mode::Enforce => "enforce", Mode::Observe => "observe" },
            "not_simulated": tally.not_simulated,
            "calls": tally.calls,
            "refused": tally.refused,
            "refused_tokens": tally.tokens,
            "first_refused": tally.first.map(|first| first.to_string()),
            "reasons": tally.reasons,
            "most_refused": keys.collect::<Vec<_>>(),
        })
    };
    let shown = json!({
        "config": simulated.source,
        "calls": simulated.calls,
        "refused": simulated.refused_calls,
        "left_out": { "refused": simulated.was_refused, "cached": simulated.was_cached, "without_tokens": simulated.was_free },
        "limits": simulated.tallies.iter().map(limit).collect::<Vec<_>>(),
    });
    writeln!(out, "{shown:#}")
}
