//! `make bench`: CPU time and added latency of the gateway beside a bare Pingora proxy and nginx.
//!
//! Same request, same upstream, every answer checked, rounds interleaved so that a slow minute hits all. It measures on
//! the machine it runs on and claims nothing for another. It ends only what it started.

mod contestant;
mod driver;
mod process;
mod report;
mod upstream;
mod wire;
mod workload;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::contestant::{Contestant, Places, free_address, start};
use crate::driver::load;
use crate::process::Process;
use crate::report::{Report, Round};
use crate::workload::Workload;

/// Measures CPU time a request and added latency of tollgate, a bare Pingora proxy and nginx in one run
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Seconds of load for each contestant, workload and round
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Connections while CPU time is measured (latency: one)
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Microseconds between the events of a stream; 0: all at once
    #[arg(long, default_value_t = 0)]
    event_delay_us: u64,
    /// Measure what is built already, and don't call cargo
    #[arg(long)]
    no_build: bool,
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
    let ended = if arguments.part.is_some() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err("ended by a signal".into())
    };
    tokio::select! {
        outcome = run(arguments) => outcome,
        _ = terminate.recv() => ended,
        _ = interrupt.recv() => ended,
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    if let Some(Part::Upstream {
        listen,
        event_delay_us,
    }) = arguments.part
    {
        upstream::serve(listen, Duration::from_micros(event_delay_us)).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let places = places()?;
    if !arguments.no_build {
        build()?;
    }
    let report = measure(&arguments, &places).await?;
    say(&format!("\n{}", report.text()))?;
    if cfg!(debug_assertions) {
        say("This is a debug build: the figures mean nothing.")?;
    }
    let settings = json!({"seconds": arguments.seconds, "connections": arguments.connections,
        "rounds": arguments.rounds, "event_delay_us": arguments.event_delay_us,
        "debug_build": cfg!(debug_assertions), "cores": std::thread::available_parallelism()?.get()});
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/latest.json");
    fs::write(&file, serde_json::to_vec_pretty(&report.json(&settings))?)?;
    Ok(if report.is_complete() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn places() -> io::Result<Places> {
    let program = std::env::current_exe()?;
    let scratch = std::env::temp_dir().join(format!("tollgate-bench-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    Ok(Places {
        programs: program.parent().map(Path::to_path_buf).unwrap_or_default(),
        peers: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers"),
        scratch,
    })
}

/// Builds the contestants that come from this workspace as this program was built.
fn build() -> io::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--workspace",
        "--bin",
        "bare-proxy",
        "--bin",
        "tollgate",
    ]);
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

async fn measure(arguments: &Arguments, places: &Places) -> Result<Report, Box<dyn Error>> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("upstream")
        .arg("--listen")
        .arg(address.to_string());
    command
        .arg("--event-delay-us")
        .arg(arguments.event_delay_us.to_string());
    let _upstream = Process::start(command, address).await?;
    let mut report = Report::default();
    for round in 1..=arguments.rounds {
        for who in Contestant::ALL {
            if report.absent.iter().any(|(absent, _)| *absent == who) {
                continue;
            }
            say(&format!(
                "round {round} of {}: {}",
                arguments.rounds,
                who.name()
            ))?;
            if let Err(why) = take_turn(who, arguments, places, address, &mut report).await {
                say(&format!("  {why}"))?;
                report.absent.push((who, why));
            }
        }
    }
    Ok(report)
}

async fn take_turn(
    who: Contestant,
    arguments: &Arguments,
    places: &Places,
    upstream: SocketAddr,
    report: &mut Report,
) -> Result<(), String> {
    let running = start(who, places, upstream).await?;
    for workload in Workload::ALL {
        let time = Duration::from_secs(arguments.seconds);
        // Connections, caches and allocators get warm outside of the measurement.
        let warm = load(running.address, workload, arguments.connections, WARM_UP).await;
        if warm.requests == 0 {
            return Err(format!(
                "gives no right answer: {}",
                warm.complaint.unwrap_or_default()
            ));
        }
        let cpu = || running.process.as_ref().map_or(0, Process::cpu_us);
        let before = cpu();
        let busy = load(running.address, workload, arguments.connections, time).await;
        let spent = cpu() - before;
        let mut alone = load(running.address, workload, 1, time / 2).await;
        if let Some(complaint) = busy.complaint.as_ref().or(alone.complaint.as_ref()) {
            say(&format!("  wrong answer: {complaint}")).map_err(|error| error.to_string())?;
        }
        report.rounds.push(Round {
            who,
            workload,
            cpu_us: spent as f64 / busy.requests.max(1) as f64,
            p50_us: alone.percentile_us(0.5),
            p99_us: alone.percentile_us(0.99),
            requests_per_second: busy.requests_per_second(),
            resident_mib: running
                .process
                .as_ref()
                .map_or(0.0, |process| process.resident_kib() as f64 / 1024.0),
            wrong: busy.wrong + alone.wrong,
        });
    }
    Ok(())
}

const WARM_UP: Duration = Duration::from_millis(500);

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}
