//! `make bench`: CPU time, latency and memory of the gateway beside those that its users would pick instead.
//!
//! Same calls, same upstream, every answer checked, rounds interleaved so that a slow minute hits all. It measures on
//! the machine it runs on and claims nothing for another. It ends only what it started.

mod contestant;
mod driver;
mod growth;
mod instructions;
mod measure;
mod memory;
mod process;
mod record;
mod report;
mod upstream;
mod wire;
mod workload;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::contestant::{Contestant, Places, Running, free_address, start};
use crate::instructions::Then;
use crate::measure::Field;
use crate::process::Process;
use crate::report::Report;
use crate::workload::Workload;

/// Measures CPU time, added latency and memory of tollgate and of what its users would pick instead
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Two short rounds and fewer connections: a minute or two, and rough
    #[arg(long)]
    quick: bool,
    /// Only these contestants (and the direct call, which all are compared with)
    #[arg(long, value_name = "CONTESTANT", value_parser = contestant_named)]
    only: Vec<Contestant>,
    /// Only these workloads
    #[arg(long = "workload", value_name = "WORKLOAD", value_parser = workload_named)]
    workload: Vec<Workload>,
    /// Measure what is built already, and don't call cargo
    #[arg(long)]
    no_build: bool,
    /// Seconds of each load; three loads make a turn; default: 1, with --quick 0.4
    #[arg(long)]
    seconds: Option<f64>,
    /// Connections of a load
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Write the results into load-tests/results too, to be committed
    #[arg(long, global = true)]
    record: bool,
    /// Rounds; default: 3, with --quick 2
    #[arg(long, value_name = "ROUNDS")]
    rounds: Option<usize>,
    /// Microseconds between the events of a stream with pauses
    #[arg(long, default_value_t = 20_000)]
    event_delay_us: u64,
    /// Leave out what is held: idle connections, open streams
    #[arg(long)]
    no_memory: bool,
    /// Idle connections while memory is measured
    #[arg(long, default_value_t = 1000)]
    idle_connections: usize,
    /// Open streams while memory is measured: try 5000
    #[arg(long, default_value_t = 1000)]
    open_streams: usize,
    /// Seconds after a load until memory is read again; 0: it isn't; default: 60, with --quick 0
    #[arg(long)]
    settle_seconds: Option<u64>,
}

impl Arguments {
    fn time(&self) -> Duration {
        let default = if self.quick { 0.4 } else { 1.0 };
        Duration::from_secs_f64(self.seconds.unwrap_or(default).clamp(0.05, 600.0))
    }

    fn settle_seconds(&self) -> u64 {
        self.settle_seconds
            .unwrap_or(if self.quick { 0 } else { 60 })
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 2 } else { 3 })
    }

    fn contestants(&self) -> impl Iterator<Item = Contestant> {
        let wanted = |who: &Contestant| {
            *who == Contestant::Direct || self.only.is_empty() || self.only.contains(who)
        };
        Contestant::ALL.into_iter().filter(wanted)
    }

    fn workloads(&self) -> impl Iterator<Item = Workload> {
        let wanted = |one: &Workload| self.workload.is_empty() || self.workload.contains(one);
        Workload::ALL.into_iter().filter(wanted)
    }
}

fn contestant_named(name: &str) -> Result<Contestant, String> {
    let names = Contestant::ALL.map(Contestant::name).join(", ");
    let found = Contestant::ALL.into_iter().find(|who| who.name() == name);
    found.ok_or_else(|| format!("one of {names}"))
}

fn workload_named(name: &str) -> Result<Workload, String> {
    let names = Workload::ALL.map(Workload::name).join(", ");
    let found = Workload::ALL.into_iter().find(|one| one.name() == name);
    found.ok_or_else(|| format!("one of {names}"))
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The fixed upstream, as a process of its own
    #[command(hide = true)]
    Upstream {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        event_delay_us: u64,
    },
    /// Counts instructions by callgrind, and compares them with load-tests/instructions.toml
    Instructions {
        /// Write what is counted down instead
        #[arg(long)]
        update: bool,
    },
    /// What a call costs as body, history, members, subscriptions and label sets grow
    Growth,
    /// One hot function, for callgrind
    #[command(hide = true)]
    Hot { name: String, repetitions: u64 },
}

fn main() -> ExitCode {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(until_signal()));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Dropping what runs ends the processes that were started for it.
async fn until_signal() -> Result<ExitCode, Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let arguments = Arguments::parse();
    // The upstream has no other end than this.
    let ended = match arguments.part {
        Some(Part::Upstream { .. }) => Ok(ExitCode::SUCCESS),
        Some(Part::Instructions { .. } | Part::Hot { .. } | Part::Growth) | None => {
            Err("ended by a signal".into())
        }
    };
    tokio::select! {
        outcome = run(arguments) => outcome,
        _ = terminate.recv() => ended,
        _ = interrupt.recv() => ended,
    }
}

async fn run(mut arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    match arguments.part.take() {
        Some(Part::Upstream {
            listen,
            event_delay_us,
        }) => {
            upstream::serve(listen, Duration::from_micros(event_delay_us)).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Part::Hot { name, repetitions }) => {
            instructions::hot::run(&name, repetitions)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Part::Growth) => {
            let places = prepared(&arguments, &["tollgate"])?;
            Ok(exit(growth::measure(&places, arguments.record).await?))
        }
        Some(Part::Instructions { update }) => {
            let places = prepared(&arguments, &["tollgate"])?;
            let then = if update {
                Then::WriteDown
            } else {
                Then::Compare
            };
            Ok(exit(instructions::count(&places, then).await?))
        }
        None => {
            let places = prepared(&arguments, &["bare-proxy", "tollgate"])?;
            mind_open_files(&mut arguments);
            compete(&arguments, &places).await
        }
    }
}

fn prepared(arguments: &Arguments, programs: &[&str]) -> io::Result<Places> {
    let places = Places::find()?;
    if !arguments.no_build {
        build(programs)?;
    }
    Ok(places)
}

fn exit(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn compete(arguments: &Arguments, places: &Places) -> Result<ExitCode, Box<dyn Error>> {
    let mut report = Report::default();
    measure(arguments, places, &mut report).await?;
    let text = report.text();
    say(&format!("\n{text}"));
    if cfg!(debug_assertions) {
        say("This is a debug build: the figures mean nothing.");
    }
    let results = &places.results;
    let occasion = record::occasion();
    let all = serde_json::to_string_pretty(&report.json(&occasion, &settings(arguments)?))?;
    let plot = report.plot(&occasion);
    if arguments.record {
        let text = format!("{occasion}\n\n{text}\n");
        record::write(&[
            ("speed.txt", text),
            ("speed.json", all.clone()),
            ("speed.svg", plot.clone()),
        ])?;
    }
    fs::write(results.join("latest.json"), all)?;
    fs::write(results.join("latest.txt"), text)?;
    fs::write(results.join("latest.svg"), plot)?;
    let shown = results.canonicalize()?;
    say(&format!(
        "\nin {}: latest.txt, latest.json, latest.svg",
        shown.display()
    ));
    Ok(exit(report.is_complete()))
}

fn settings(arguments: &Arguments) -> io::Result<Value> {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Ok(
        json!({"seconds": arguments.time().as_secs_f64(), "connections": arguments.connections,
        "rounds": arguments.rounds(), "event_delay_us": arguments.event_delay_us,
        "debug_build": cfg!(debug_assertions), "cores": std::thread::available_parallelism()?.get(),
        "load_average_at_the_end": load.trim()}),
    )
}

/// Builds the contestants that come from this workspace as this program was built.
fn build(programs: &[&str]) -> io::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--workspace"]);
    for program in programs {
        command.args(["--bin", program]);
    }
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let status = command
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other("cargo couldn't build the contestants"))
    }
}

/// A stream takes two open files of a proxy: raises this process's bound, which the contestants inherit, to what the
/// system allows, and opens fewer where that isn't enough.
fn mind_open_files(arguments: &mut Arguments) {
    let bounds = || -> Option<(usize, usize)> {
        let text = fs::read_to_string("/proc/self/limits").ok()?;
        let line = text
            .lines()
            .find(|line| line.starts_with("Max open files"))?;
        let mut numbers = line.split_whitespace().skip(3);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    if let Some((soft, hard)) = bounds()
        && soft < hard
    {
        // Where the program isn't there, the bound stays, and fewer are opened.
        let _ = Command::new("prlimit")
            .args(["--pid", &std::process::id().to_string()])
            .arg(format!("--nofile={hard}:{hard}"))
            .stderr(Stdio::null())
            .status();
    }
    let most = bounds().map_or(500, |(soft, _)| soft.saturating_sub(200) / 2);
    if arguments.open_streams.max(arguments.idle_connections) > most {
        say(&format!(
            "open files are bounded: at most {most} streams and connections"
        ));
    }
    arguments.open_streams = arguments.open_streams.min(most);
    arguments.idle_connections = arguments.idle_connections.min(most);
}

async fn measure(
    arguments: &Arguments,
    places: &Places,
    report: &mut Report,
) -> Result<(), Box<dyn Error>> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("upstream")
        .args(["--listen", &address.to_string()])
        .args(["--event-delay-us", &arguments.event_delay_us.to_string()]);
    let _upstream = Process::start(command, address, Duration::from_secs(15)).await?;
    let mut running: Vec<Running> = Vec::new();
    for who in arguments.contestants() {
        match start(who, places, address).await {
            Ok(one) => running.push(one),
            Err(why) => {
                say(&format!("{} left out: {why}", who.name()));
                report.absent.push((who, why));
            }
        }
    }
    let field = Field {
        arguments,
        running: &running,
    };
    field.compete(report).await?;
    let present: Vec<Contestant> = running.iter().map(|one| one.who).collect();
    drop(running);
    if !arguments.no_memory {
        hold(arguments, places, (present, address), report).await?;
    }
    Ok(())
}

/// What each holds. They rest side by side, since resting takes no time of anyone's.
async fn hold(
    arguments: &Arguments,
    places: &Places,
    (present, upstream): (Vec<Contestant>, SocketAddr),
    report: &mut Report,
) -> Result<(), Box<dyn Error>> {
    let mut all = Vec::new();
    for who in present {
        if matches!(who, Contestant::Direct | Contestant::TollgateCache) {
            continue;
        }
        say(&format!("memory of {}", who.name()));
        let one = start(who, places, upstream).await?;
        let Some((mut held, first)) = memory::hold(one, arguments).await else {
            continue;
        };
        let one = start(who, places, upstream).await?;
        let second = memory::burden(one, arguments, &mut held).await;
        all.push((held, [Some(first), second]));
    }
    let time = Duration::from_secs(arguments.settle_seconds());
    for (mut held, resting) in all {
        for one in resting.into_iter().flatten().filter(|_| !time.is_zero()) {
            memory::settle(one, time, &mut held).await;
        }
        report.held.push(held);
    }
    Ok(())
}

fn say(line: &str) {
    // Whoever closed the terminal doesn't want the rest either.
    let _ = writeln!(io::stdout(), "{line}");
}
