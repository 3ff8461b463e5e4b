//! `bench growth`: what a call costs as its body, its history, its pool, the subscriptions and the label sets grow.
//!
//! Nothing on a request's way may grow faster than what it is given. So each of these is made larger step by step, all
//! else staying as it is, and a step that costs more than its share is told. CPU time of the whole process, the
//! least of three loads; a plot for each. Judged is the time in the program: what the kernel takes to copy a body grows where it
//! no longer fits into the processor's caches, whoever passes it on.

mod plot;

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::contestant::{Contestant, Places, Running, free_address};
use crate::driver::{Exactness, Target, closed};
use crate::process::Process;
use crate::record;
use crate::say;
use crate::workload::{Answer, Call, grown};

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growing {
    Body,
    History,
    Members,
    Subscriptions,
    LabelSets,
}

impl Growing {
    const ALL: [Self; 5] = [
        Self::Body,
        Self::History,
        Self::Members,
        Self::Subscriptions,
        Self::LabelSets,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Body => "body, bytes",
            Self::History => "history, messages of 400 bytes",
            Self::Members => "members of the pool",
            Self::Subscriptions => "subscriptions",
            Self::LabelSets => "label sets",
        }
    }

    fn sizes(self) -> &'static [usize] {
        match self {
            Self::Body => &[2_000, 8_000, 32_000, 128_000, 512_000, 2_048_000],
            Self::History => &[4, 16, 64, 256, 1_024],
            Self::Members => &[1, 4, 15, 30],
            Self::Subscriptions => &[1, 10, 100, 1_000, 10_000],
            Self::LabelSets => &[1, 10, 100, 1_000],
        }
    }

    /// The configuration at this size; `text` is that of the contestant with everything on.
    fn configured(self, text: &str, size: usize) -> String {
        let mut text = text.to_owned();
        // Writing to a String never fails.
        match self {
            Self::Body | Self::History | Self::LabelSets => {}
            Self::Members => {
                let mut members = String::from("{ backend = \"bench\" }");
                for number in 1..size {
                    let _ = write!(members, ", {{ backend = \"bench-{number}\" }}");
                    let _ = write!(
                        text,
                        "\n[backends.bench-{number}]\nurl = \"http://127.0.0.1:18480/v1\"\nschema = \"openai\"\n\
                        auth = {{ bearer = \"bench-upstream-key\" }}\n"
                    );
                }
                text = text.replace("{ backend = \"bench\" }", &members);
            }
            Self::Subscriptions => {
                for number in 1..size {
                    let _ = write!(
                        text,
                        "\n[subscriptions.bench-{number}]\nproduct = \"bench\"\nkeys = [\"sk-bench-key-{number}\"]\n\
                        attributes = {{ cost-center = \"{number}\" }}\n"
                    );
                }
            }
        }
        text
    }

    /// The calls at this size.
    fn calls(self, size: usize) -> Vec<Call> {
        let chat = |bytes, messages, header: &str| {
            Call::new(BENCH_KEY, &grown(bytes, messages), Answer::Chat, header)
        };
        match self {
            Self::Body => vec![chat(size, 1, "")],
            Self::History => vec![chat(400, size, "")],
            Self::Members | Self::Subscriptions => vec![chat(800, 1, "")],
            Self::LabelSets => (0..size)
                .map(|user| chat(800, 1, &format!("x-user-id: user-{user}\r\n")))
                .collect(),
        }
    }
}

/// Of the subscription that is there at every size.
const BENCH_KEY: &str = "sk-bench-key";
const ROUNDS: usize = 3;
const CONNECTIONS: usize = 4;
const LOAD: Duration = Duration::from_millis(400);
const START_BOUND: Duration = Duration::from_secs(60);
/// A step may cost so much more than its share: the loads of a busy machine differ by as much.
const SLACK: f64 = 1.3;

/// What a call costs at a size, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    size: usize,
    /// In the program.
    user: f64,
    /// With the kernel's.
    all: f64,
}

/// Measures all; false where something grows faster than it may.
pub(crate) async fn measure(places: &Places, records: bool) -> Result<bool, Box<dyn Error>> {
    let mut panels = Vec::new();
    let mut fits = true;
    for growing in Growing::ALL {
        let mut costs = Vec::new();
        for size in growing.sizes() {
            costs.push(cost(places, growing, *size).await?);
        }
        let steep = steepest(&costs);
        fits &= steep <= SLACK;
        let figures: Vec<String> = costs
            .iter()
            .map(|cost| format!("{}: {:.0} of {:.0}", cost.size, cost.user, cost.all))
            .collect();
        say(&format!(
            "{:<32} {} us; steepest step {steep:.2} of its share{}",
            growing.name(),
            figures.join(", "),
            if steep <= SLACK { "" } else { "  TOO STEEP" }
        ));
        panels.push((growing.name(), costs));
    }
    let all: Vec<_> = panels
        .iter()
        .map(|(name, costs)| {
            let costs: Vec<_> = costs
                .iter()
                .map(|cost| json!({"size": cost.size, "user_us": cost.user, "cpu_us": cost.all}))
                .collect();
            json!({"grows": name, "costs": costs})
        })
        .collect();
    let occasion = record::occasion();
    let plot = plot::plot(&panels, &occasion);
    let all = serde_json::to_string_pretty(&json!({"occasion": occasion, "costs": all}))?;
    if records {
        record::write(&[("growth.json", all.clone()), ("growth.svg", plot.clone())])?;
    }
    fs::write(places.results.join("growth.json"), all)?;
    fs::write(places.results.join("growth.svg"), plot)?;
    Ok(fits)
}

/// Of the steps between two sizes, the dearest: the growth of the cost, to that of the size.
fn steepest(costs: &[Cost]) -> f64 {
    let steps = costs.windows(2).filter_map(|pair| {
        let [small, large] = pair else {
            return None;
        };
        Some((large.user / small.user) / (large.size as f64 / small.size as f64))
    });
    steps.fold(0.0, f64::max)
}

async fn cost(places: &Places, growing: Growing, size: usize) -> Result<Cost, Box<dyn Error>> {
    let upstream = free_address()?;
    let mut server = Command::new(std::env::current_exe()?);
    server
        .args(["upstream", "--listen", &upstream.to_string()])
        .args(["--event-delay-us", "0"])
        .stdout(Stdio::null());
    let _server = Process::start(server, upstream, START_BOUND).await?;
    let running = start(places, (growing, size), upstream).await?;
    let target = Target {
        address: running.address,
        calls: Arc::from(growing.calls(size)),
        exactness: Exactness::Bytes,
    };
    let _warm = closed(&target, CONNECTIONS, LOAD).await;
    let process = running.process.as_ref().ok_or("not started")?;
    let begun = process.cpu_time();
    let mut all = f64::MAX;
    for _ in 0..ROUNDS {
        let before = process.cpu_time();
        let outcome = closed(&target, CONNECTIONS, LOAD).await;
        let cpu_us = process.cpu_time().since_us(&before);
        if outcome.requests == 0 || outcome.wrong > 0 {
            let complaint = outcome.complaint.unwrap_or_default();
            return Err(format!("{} at {size}: {complaint}", growing.name()).into());
        }
        all = all.min(cpu_us / outcome.requests as f64);
    }
    let user = all * process.cpu_time().user_share_since(&begun);
    Ok(Cost { size, user, all })
}

async fn start(
    places: &Places,
    (growing, size): (Growing, usize),
    upstream: SocketAddr,
) -> Result<Running, Box<dyn Error>> {
    let (address, admin) = (free_address()?, free_address()?);
    let text = fs::read_to_string(places.peers.join("tollgate-on.toml"))?;
    let text = growing
        .configured(&text, size)
        .replace("127.0.0.1:18480", &upstream.to_string())
        .replace("127.0.0.1:18481", &address.to_string())
        .replace("127.0.0.1:18482", &admin.to_string())
        .replace("/tmp/tollgate-bench", &places.scratch.display().to_string());
    let file = places.scratch.join("growth.toml");
    fs::write(&file, text)?;
    let mut command = Command::new(places.programs.join("tollgate"));
    command.args(["run", "--config"]).arg(&file);
    let log = fs::File::create(places.scratch.join("growth.log"))?;
    command.stderr(Stdio::from(log)).stdout(Stdio::null());
    Ok(Running {
        who: Contestant::TollgateOn,
        address,
        process: Some(Process::start(command, address, START_BOUND).await?),
        headers: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_costs_more_than_its_share_is_seen() {
        let of = |costs: &[(usize, f64)]| {
            let cost = |(size, user): &(usize, f64)| Cost {
                size: *size,
                user: *user,
                all: 2.0 * user,
            };
            steepest(&costs.iter().map(cost).collect::<Vec<_>>())
        };
        assert!(of(&[(1, 10.0), (10, 11.0), (100, 40.0)]) < 1.0);
        assert!((of(&[(1, 10.0), (10, 100.0)]) - 1.0).abs() < 0.001);
        assert!(of(&[(1, 10.0), (10, 10.0), (20, 40.0)]) > SLACK);
    }
}
