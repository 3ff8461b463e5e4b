//! `tollgate usage report`: who used what, and what it cost, from the files of the usage log.
//!
//! Lines are read one by one and added to their group, so memory is that of the groups, whatever the number of
//! records. A line that can't be read is named on standard error and left out, and the report says how many were; a
//! file that can't be read ends the report, since it would leave out an unknown amount.
//!
//! Reading order: `input` (files to lines), `pricing` (what a record cost), `groups` (sums), `report` (all of it,
//! in order), `table`, `csv`, `json`, `html` (how it is shown).

mod csv;
mod groups;
mod html;
mod input;
mod json;
mod pricing;
mod report;
pub mod simulate;
mod table;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use filters::record::{Field, Record};
use filters::time::UnixMillis;

use crate::config::error::{Errors, suggestion};
use crate::config::{self, Source, Unreadable};
use groups::{Groups, TooManyGroups};
use input::{Files, InputError, Line};
use pricing::Pricing;
use report::Report;

/// What to report, and how.
#[derive(Debug, clap::Args)]
pub struct ReportArguments {
    /// The first moment, as 2026-11-01 or 2026-11-01T13:05:00Z; UTC where no zone is given.
    #[arg(long, value_name = "T")]
    from: Option<UnixMillis>,
    /// The first moment that no longer counts.
    #[arg(long, value_name = "T")]
    to: Option<UnixMillis>,
    /// What to group by: any field of the log, attributes.NAME, hour, day, month or year.
    #[arg(long, value_name = "FIELD", value_delimiter = ',', value_parser = field, default_value = "subscription,model")]
    by: Vec<Field>,
    /// The price list; without it nothing has a price.
    #[arg(long, value_name = "FILE")]
    prices: Option<String>,
    /// How it is shown.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Files of the usage log, plain, gzip or zstd, and directories of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// How a report is shown.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For a terminal.
    Table,
    /// RFC 4180, for spreadsheets.
    Csv,
    /// For programs.
    Json,
    /// One page with charts, for people.
    Html,
}

/// The moments that count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    from: Option<UnixMillis>,
    to: Option<UnixMillis>,
}

impl Span {
    fn holds(self, time: UnixMillis) -> bool {
        self.from.is_none_or(|from| from <= time) && self.to.is_none_or(|to| time < to)
    }
}

/// Why there is no report.
#[derive(Debug)]
pub enum ReportError {
    /// `--from` isn't before `--to`.
    EmptySpan,
    /// The price list can't be read.
    NoPrices(Unreadable),
    /// The price list is wrong.
    WrongPrices(Errors),
    /// A path, or what is behind it.
    Input(InputError),
    /// There are more groups than are held.
    TooManyGroups,
    /// The report can't be written.
    Output(io::Error),
}

impl ReportError {
    /// Whether the arguments are wrong, and not the world.
    pub fn is_wrong_input(&self) -> bool {
        match self {
            Self::EmptySpan | Self::NoPrices(_) | Self::WrongPrices(_) => true,
            Self::Input(error) => error.is_wrong_path(),
            Self::TooManyGroups | Self::Output(_) => false,
        }
    }
}

impl fmt::Display for ReportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptySpan => formatter
                .write_str("tollgate: --to isn't after --from: no moment lies between them"),
            Self::NoPrices(error) => write!(formatter, "tollgate: --prices: {error}"),
            Self::WrongPrices(errors) => write!(formatter, "{errors}"),
            Self::Input(error) => write!(formatter, "tollgate: {error}"),
            Self::TooManyGroups => formatter.write_str(
                "tollgate: there are more than a million groups; name fields with fewer values in --by",
            ),
            Self::Output(error) => write!(formatter, "tollgate: {error}"),
        }
    }
}

impl std::error::Error for ReportError {}

impl From<InputError> for ReportError {
    fn from(error: InputError) -> Self {
        Self::Input(error)
    }
}

impl From<TooManyGroups> for ReportError {
    fn from(_: TooManyGroups) -> Self {
        Self::TooManyGroups
    }
}

/// Reads, adds up and shows. Lines that are left out are named on `errors`.
///
/// # Errors
/// [`ReportError`]; nothing was shown then.
pub fn report(
    arguments: &ReportArguments,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), ReportError> {
    let report = read(arguments, errors)?;
    let shown = match arguments.format {
        Format::Table => table::show(&report, out),
        Format::Csv => csv::show(&report, out),
        Format::Json => json::show(&report, out),
        Format::Html => html::show(&report, out),
    };
    shown.map_err(ReportError::Output)
}

fn read(arguments: &ReportArguments, errors: &mut dyn Write) -> Result<Report, ReportError> {
    let (from, to) = (arguments.from, arguments.to);
    if let (Some(from), Some(to)) = (from, to)
        && to <= from
    {
        return Err(ReportError::EmptySpan);
    }
    let span = Span { from, to };
    let pricing = arguments.prices.as_deref().map(prices).transpose()?;
    let files = Files::of(&arguments.paths)?;
    for path in files.left_out() {
        let path = path.display();
        let told = writeln!(
            errors,
            "{path}: left out, since it is there uncompressed too"
        );
        told.map_err(ReportError::Output)?;
    }
    let mut bad_lines = BadLines::default();
    let mut groups = Groups::new(arguments.by.clone(), pricing);
    let read = files.read(|line| -> Result<(), ReportError> {
        match parsed(&line) {
            Ok(record) if span.holds(record.time) => groups.add(&record)?,
            Ok(_outside) => {}
            Err(reason) => bad_lines.tell(&line, &reason, errors)?,
        }
        Ok(())
    })?;
    bad_lines.sum_up(errors)?;
    Ok(Report::new(groups, span, read, bad_lines.count))
}

fn parsed<'l>(line: &Line<'l>) -> Result<Record<'l>, String> {
    let bytes = line.bytes.map_err(|too_long| too_long.to_string())?;
    Record::read(bytes).map_err(|reason| reason.to_string())
}

fn prices(path: &str) -> Result<Pricing, ReportError> {
    let source = Source::read(path).map_err(ReportError::NoPrices)?;
    let list = config::prices(&source).map_err(ReportError::WrongPrices)?;
    Ok(Pricing::new(list))
}

fn field(name: &str) -> Result<Field, String> {
    Field::new(name).map_err(|_unknown| {
        let known = Field::names().chain(["attributes.NAME"]);
        format!("unknown field \"{name}\"{}", suggestion(name, known))
    })
}

/// Lines that were left out.
#[derive(Debug, Default)]
struct BadLines {
    count: u64,
}

/// More of them don't help whoever reads them.
const BAD_LINES_TOLD: u64 = 20;

impl BadLines {
    fn tell(
        &mut self,
        line: &Line<'_>,
        reason: &str,
        errors: &mut dyn Write,
    ) -> Result<(), ReportError> {
        self.count += 1;
        if self.count > BAD_LINES_TOLD {
            return Ok(());
        }
        let (path, number) = (line.path.display(), line.number);
        writeln!(errors, "{path}:{number}: {reason}").map_err(ReportError::Output)
    }

    fn sum_up(&self, errors: &mut dyn Write) -> Result<(), ReportError> {
        let told = match self.count {
            0 => Ok(()),
            1 => writeln!(errors, "1 line was left out"),
            count if count > BAD_LINES_TOLD => writeln!(
                errors,
                "{count} lines were left out, of which the first {BAD_LINES_TOLD} are told"
            ),
            count => writeln!(errors, "{count} lines were left out"),
        };
        told.map_err(ReportError::Output)
    }
}
