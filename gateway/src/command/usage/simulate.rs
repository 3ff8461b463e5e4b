//! `tollgate usage simulate`: what the limits of another configuration would have refused of the calls in the usage log.
//!
//! Each served call is decided again, in the order in which the calls began, by the same arithmetic that `run` uses, and
//! settled at once with what it used then. That makes it an estimate: calls that overlapped are taken one after the other,
//! the longest answer is the one that was given, and callers that are refused don't try again. What the log doesn't hold
//! (headers, addresses, claims) can't be asked for: such a limit isn't simulated, and said so.
//!
//! Memory is some 50 bytes a call and those of the counters. Reading order: `calls` (the log as calls), this file
//! (deciding), `simulated` (how it is shown).

mod calls;
mod simulated;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;

use filters::limit::Now;
use filters::limit::reservation::{Cell, Check, Held, Mode, Reason, Refused, plan};
use filters::time::{Time, UnixMillis};
use filters::units::Tokens;

use super::Format;
use super::input::{Files, InputError};
use super::{BadLines, ReportError, Span};
use crate::config::error::Errors;
use crate::config::plan::{Plan, TokenLimit};
use crate::config::secret::{Environment, System};
use crate::config::{self, Source, Unreadable};
use calls::{Call, Calls};
use simulated::{Simulated, Tally};

/// What to simulate, and how it is shown.
#[derive(Debug, clap::Args)]
pub struct SimulateArguments {
    /// The configuration whose limits and budgets are tried; its secrets needn't be there.
    #[arg(long, value_name = "FILE")]
    config: String,
    /// The first moment, as 2026-11-01 or 2026-11-01T13:05:00Z; UTC where no zone is given.
    #[arg(long, value_name = "T")]
    from: Option<UnixMillis>,
    /// The first moment that no longer counts.
    #[arg(long, value_name = "T")]
    to: Option<UnixMillis>,
    /// How it is shown: table or json.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Files of the usage log, plain, gzip or zstd, and directories of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// Why nothing was simulated.
#[derive(Debug)]
pub enum SimulateError {
    /// The configuration can't be read.
    NoConfig(Unreadable),
    /// The configuration is wrong.
    WrongConfig(Errors),
    /// `--format csv` or `html`.
    NoSuchFormat,
    /// As for a report.
    Report(ReportError),
    /// There are more calls than are held.
    TooManyCalls,
}

impl SimulateError {
    /// Whether the arguments are wrong, and not the world.
    pub fn is_wrong_input(&self) -> bool {
        match self {
            Self::NoConfig(_) | Self::WrongConfig(_) | Self::NoSuchFormat => true,
            Self::Report(error) => error.is_wrong_input(),
            Self::TooManyCalls => false,
        }
    }
}

impl fmt::Display for SimulateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConfig(error) => write!(formatter, "tollgate: --config: {error}"),
            Self::WrongConfig(errors) => write!(formatter, "{errors}"),
            Self::NoSuchFormat => formatter.write_str("tollgate: --format: expected table or json"),
            Self::Report(error) => error.fmt(formatter),
            Self::TooManyCalls => write!(
                formatter,
                "tollgate: there are more than {} calls; name a shorter time with --from and --to",
                calls::MAX_CALLS
            ),
        }
    }
}

impl std::error::Error for SimulateError {}

impl From<InputError> for SimulateError {
    fn from(error: InputError) -> Self {
        Self::Report(ReportError::Input(error))
    }
}

impl From<ReportError> for SimulateError {
    fn from(error: ReportError) -> Self {
        Self::Report(error)
    }
}

/// Reads, decides and shows.
///
/// # Errors
/// [`SimulateError`]; nothing was shown then.
pub fn simulate(
    arguments: &SimulateArguments,
    system: System,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), SimulateError> {
    let show = match arguments.format {
        Format::Table => simulated::table,
        Format::Json => simulated::json,
        Format::Csv | Format::Html => return Err(SimulateError::NoSuchFormat),
    };
    let (from, to) = (arguments.from, arguments.to);
    if let (Some(from), Some(to)) = (from, to)
        && to <= from
    {
        return Err(ReportError::EmptySpan.into());
    }
    let source = Source::read(&arguments.config).map_err(SimulateError::NoConfig)?;
    let plan = config::load(&source, &Unsecret(system)).map_err(SimulateError::WrongConfig)?;
    let mut calls = Calls::new(&plan);
    let mut bad_lines = BadLines::default();
    let span = Span { from, to };
    let files = Files::of(&arguments.paths)?;
    files.read(|line| -> Result<(), SimulateError> {
        match super::parsed(&line) {
            Ok(record) if span.holds(record.time) => calls.add(&record)?,
            Ok(_outside) => {}
            Err(reason) => bad_lines.tell(&line, &reason, errors)?,
        }
        Ok(())
    })?;
    bad_lines.sum_up(errors)?;
    let simulated = decide(&plan, calls);
    show(&simulated, out).map_err(|error| ReportError::Output(error).into())
}

/// Every call, in the order in which they began.
fn decide(plan: &Plan, mut calls: Calls<'_>) -> Simulated {
    calls.sort();
    let mut tallies: Vec<Tally> = plan
        .token_limits
        .iter()
        .map(|limit| Tally::of(limit))
        .collect();
    for (index, why) in calls.not_simulated() {
        tallies[index].not_simulated = Some(why.clone());
    }
    let mut cells = vec![Cell::UNUSED; calls.counters()];
    let mut refused_calls = 0;
    for call in calls.list() {
        let lines = calls.lines(call);
        let told = one(plan, call, lines, &mut cells);
        for (limit, _) in lines {
            tallies[*limit as usize].calls += 1;
        }
        refused_calls += u64::from(told.iter().any(|(_, mode)| *mode == Mode::Enforce));
        for (refused, _) in told {
            let (limit, counter) = lines[refused.limit];
            tallies[limit as usize].refuse(call, calls.key(counter), refused.reason);
        }
    }
    Simulated {
        source: plan.source.clone(),
        calls: calls.list().len() as u64,
        refused_calls,
        was_refused: calls.was_refused,
        was_cached: calls.was_cached,
        was_free: calls.was_free,
        tallies,
    }
}

/// Decides one call; who refuses it, and whether that counts.
fn one(plan: &Plan, call: &Call, lines: &[(u16, u32)], cells: &mut [Cell]) -> Vec<(Refused, Mode)> {
    let now = Now {
        time: Time::from_nanoseconds(call.begun.as_millis().saturating_mul(1_000_000)),
        unix: call.begun.second(),
    };
    let limit = |line: &(u16, u32)| -> &TokenLimit { &plan.token_limits[line.0 as usize] };
    let checks: Vec<Check<'_>> = lines
        .iter()
        .map(|line| Check {
            limit: &limit(line).limit,
            amount: amount(limit(line), call),
            mode: limit(line).mode,
            cell: cells[line.1 as usize],
        })
        .collect();
    let grant = match filters_plan(&checks, now) {
        Ok(grant) => grant,
        Err(refused) => return vec![(refused, Mode::Enforce)],
    };
    for (line, held) in lines.iter().zip(&grant.held) {
        if *held == Held::Skipped {
            continue;
        }
        let (rule, cell) = (limit(line), &mut cells[line.1 as usize]);
        let used = match rule.budget {
            Some(budget) => budget.units(call.cost),
            None => Tokens::new(u64::from(call.total)),
        };
        *cell = cell
            .take(&rule.limit, *held, now)
            .settle(&rule.limit, *held, used, now);
    }
    let observed = grant.would_refuse.into_iter();
    observed.map(|refused| (refused, Mode::Observe)).collect()
}

/// Under a name of its own: `plan` is the configuration here.
use plan as filters_plan;

/// What the limit would hold: the true figures stand for the estimates.
fn amount(limit: &TokenLimit, call: &Call) -> Tokens {
    let prompt = Tokens::new(u64::from(call.prompt));
    let completion = Tokens::new(u64::from(call.total.saturating_sub(call.prompt)));
    limit.limit.hold().amount(prompt, completion)
}

/// The system, but for its secrets: limits can be tried where they aren't.
struct Unsecret(System);

impl Environment for Unsecret {
    fn variable(&self, name: &str) -> Option<String> {
        // Different ones, since two keys may not be the same.
        self.0
            .variable(name)
            .or_else(|| Some(format!("unset-{name}")))
    }
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.0.read(path)
    }
    fn host_name(&self) -> String {
        self.0.host_name()
    }
    fn cores(&self) -> usize {
        self.0.cores()
    }
    fn now(&self) -> u64 {
        self.0.now()
    }
}

/// In words, for a person.
fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Rate => "rate",
        Reason::Quota => "quota",
        Reason::TooLarge { .. } => "too-large",
    }
}
