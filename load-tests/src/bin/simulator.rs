//! The simulator as a program: a pretended model endpoint for `make run` and for trying things by hand.
//!
//! It turns arguments into options of the library and waits for a signal. It answers nothing itself.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use load_tests::simulator::behaviour::{Chunking, Content, Pace, WireForm};
use load_tests::simulator::{Behaviour, Options, Simulator};
use tokio::signal::unix::{SignalKind, signal};

/// A simulator of a model endpoint, as Azure OpenAI and as OpenAI at once. No model is asked: every answer is made up,
/// and every word counts as one token. For tests, benchmarks and trying out.
#[derive(Debug, Parser)]
#[command(name = "simulator")]
struct Arguments {
    /// Where it listens (HTTP/1.1, and HTTP/2 by prior knowledge)
    #[arg(long, default_value = "127.0.0.1:4010")]
    listen: SocketAddr,
    /// Tokens a minute for each deployment; beyond it 429 as Azure sends it
    #[arg(long)]
    tpm: Option<u64>,
    /// Requests a minute for each deployment; beyond it 429
    #[arg(long)]
    rpm: Option<u64>,
    /// The key that it asks for, as `api-key` or bearer; absent: none
    #[arg(long)]
    api_key: Option<String>,
    /// Milliseconds before the first token
    #[arg(long, default_value_t = 0)]
    first_token_ms: u64,
    /// Milliseconds between tokens
    #[arg(long, default_value_t = 0)]
    token_ms: u64,
    /// Words of an answer
    #[arg(long, default_value_t = 16)]
    tokens: u32,
    /// What the header `x-ms-region` says
    #[arg(long, default_value = "Simulated")]
    region: String,
    /// Answers every call with the bytes of this file, as a stream
    #[arg(long)]
    playback: Option<PathBuf>,
    /// Cuts streams into writes of so many bytes instead of one an event
    #[arg(long)]
    chunk_bytes: Option<usize>,
    /// One line a request on stderr
    #[arg(long)]
    log: bool,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = runtime.and_then(|runtime| runtime.block_on(run(Arguments::parse())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulator: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let options = Options {
        listen: arguments.listen,
        api_key: arguments.api_key.clone(),
        tokens_per_minute: arguments.tpm,
        requests_per_minute: arguments.rpm,
        region: arguments.region.clone(),
        behaviour: behaviour(&arguments)?,
        log: arguments.log,
        ..Options::default()
    };
    let handle = Simulator::start(options).await?;
    writeln!(
        std::io::stdout(),
        "simulator (no model, made-up answers) listens on {}",
        handle.url()
    )?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    handle.stop().await;
    Ok(())
}

fn behaviour(arguments: &Arguments) -> std::io::Result<Behaviour> {
    let chunking = arguments
        .chunk_bytes
        .map_or(Chunking::Events, Chunking::Bytes);
    let mut behaviour = match &arguments.playback {
        Some(file) => Behaviour::playback(std::fs::read(file)?, chunking),
        None => Behaviour::default().wired(WireForm {
            chunking,
            ..WireForm::default()
        }),
    };
    behaviour.content = Content {
        tokens: arguments.tokens,
        ..Content::default()
    };
    behaviour.pace = Pace {
        first_token_ms: arguments.first_token_ms,
        between_tokens_ms: arguments.token_ms,
    };
    Ok(behaviour)
}
