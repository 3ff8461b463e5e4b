//! The command line. Exit status: 0 well, 2 the configuration or the arguments are wrong, 1 anything else.

pub mod check;
pub mod import;
pub mod key;
mod log;
pub mod run;
pub mod usage;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Parser, Subcommand, ValueEnum};

use crate::clock;
use crate::config::schema;
use crate::config::secret::System;
use crate::server::Start;

/// Wrong configuration or arguments; clap exits with the same.
pub const EXIT_WRONG_INPUT: u8 = 2;

/// Describes each key, for the schema.
const REFERENCE: &str = include_str!("../../docs/configuration.md");

/// The version, and the commit that this was built from where the build named it.
fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let commit = option_env!("TOLLGATE_COMMIT").filter(|commit| !commit.is_empty());
        let commit = commit.unwrap_or("unknown");
        format!("{} (commit {commit})", env!("CARGO_PKG_VERSION"))
    })
}

#[derive(Parser)]
#[command(name = "tollgate", version = version(), about = "A self-hosted GenAI gateway: meters, limits and balances tokens.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the gateway in the foreground; logs go to stderr.
    Run {
        #[command(flatten)]
        config: ConfigArgument,
        /// How log lines look; default: text on a terminal, else json.
        #[arg(long, value_enum)]
        log_format: Option<LogFormat>,
        /// Takes the listeners over from the process that waits at `[server] upgrade-socket`, which then ends.
        #[arg(long)]
        upgrade: bool,
    },
    /// Loads the configuration exactly as `run` does, and prints every error, or what would run.
    Check {
        #[command(flatten)]
        config: ConfigArgument,
        /// Also asks Redis whether it answers, and whether it can hold a semantic cache.
        #[arg(long)]
        connect: bool,
        /// Prints what would change against the gateway whose admin listener this is, such as http://127.0.0.1:9090.
        #[arg(long, value_name = "URL", conflicts_with = "connect")]
        against: Option<String>,
        /// The environment variable that holds the token which that admin listener asks for.
        #[arg(long, value_name = "NAME", requires = "against")]
        admin_token_env: Option<String>,
    },
    /// Prints the JSON Schema of the configuration, for editors.
    ConfigSchema,
    /// Prints a configuration from what is there already.
    Import {
        #[command(subcommand)]
        command: Box<import::ImportCommand>,
    },
    /// Makes subscription keys.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Reads the usage log.
    Usage {
        #[command(subcommand)]
        command: UsageCommand,
    },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Prints a new key, and its entry for the configuration.
    New,
}

#[derive(Subcommand)]
enum UsageCommand {
    /// Reports who used what, and what it cost.
    Report(usage::ReportArguments),
    /// Tells which calls the limits of another configuration would have refused.
    Simulate(usage::simulate::SimulateArguments),
}

#[derive(clap::Args)]
struct ConfigArgument {
    /// The configuration; `-` reads standard input.
    #[arg(long, env = "TOLLGATE_CONFIG", value_name = "FILE")]
    config: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Run {
            config,
            log_format,
            upgrade,
        } => {
            let start = match upgrade {
                true => Start::Upgrade,
                false => Start::Fresh,
            };
            run::run(&config.config, log_format, start)
        }
        Command::Check {
            config,
            connect,
            against,
            admin_token_env,
        } => print(|out| {
            let asks = match connect {
                true => check::Asks::Redis,
                false => check::Asks::Nobody,
            };
            let gateway = against
                .as_deref()
                .map(|url| (url, admin_token_env.as_deref()));
            checked(&config.config, asks, gateway, out)
        }),
        Command::ConfigSchema => print(|out| {
            writeln!(out, "{:#}", schema::schema(REFERENCE))?;
            Ok(ExitCode::SUCCESS)
        }),
        Command::Import { command } => print(|out| {
            let system = System::at(clock::unix_seconds());
            let imported = import::import(&command, &system, out, &mut io::stderr())?;
            Ok(ended(imported.map_err(|error| (true, error.to_string()))))
        }),
        Command::Key {
            command: KeyCommand::New,
        } => print(|out| key::new(out).map(|()| ExitCode::SUCCESS)),
        Command::Usage {
            command: UsageCommand::Report(arguments),
        } => print(|out| {
            let mut out = io::BufWriter::new(out);
            let done = usage::report(&arguments, &mut out, &mut io::stderr());
            out.flush()?;
            Ok(ended(done.map_err(|error| {
                (error.is_wrong_input(), error.to_string())
            })))
        }),
        Command::Usage {
            command: UsageCommand::Simulate(arguments),
        } => print(|out| {
            let system = System::at(clock::unix_seconds());
            let done = usage::simulate::simulate(&arguments, system, out, &mut io::stderr());
            Ok(ended(done.map_err(|error| {
                (error.is_wrong_input(), error.to_string())
            })))
        }),
    }
}

/// Checks a configuration, or compares it with a gateway's: its URL, and the variable that holds its token.
fn checked(
    path: &str,
    asks: check::Asks,
    gateway: Option<(&str, Option<&str>)>,
    out: &mut dyn Write,
) -> io::Result<ExitCode> {
    let system = System::at(clock::unix_seconds());
    let outputs = (out, &mut io::stderr() as &mut dyn Write);
    let outcome = match gateway {
        None => check::check(path, &system, asks, outputs)?,
        Some(gateway) => check::against::check(path, gateway, &system, outputs)?,
    };
    Ok(match outcome {
        check::Outcome::Well => ExitCode::SUCCESS,
        check::Outcome::Wrong => ExitCode::from(EXIT_WRONG_INPUT),
        check::Outcome::Silent => ExitCode::FAILURE,
    })
}

/// Complains of an error; whether it is the input's tells how it ended.
fn ended(done: Result<(), (bool, String)>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((is_wrong_input, error)) => {
            complain(&error);
            match is_wrong_input {
                true => ExitCode::from(EXIT_WRONG_INPUT),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// Gives a command standard output, and turns what it returns into an exit code.
fn print(command: impl FnOnce(&mut dyn Write) -> io::Result<ExitCode>) -> ExitCode {
    let mut out = io::stdout().lock();
    match command(&mut out).and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("tollgate: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says on stderr what went wrong.
pub fn complain(message: &str) {
    // Nothing is left to tell it to if stderr is gone.
    let _ = writeln!(io::stderr(), "{message}");
}
