//! Whole requests: the gateway under callgrind, called by one connection, once so many times and once twice as many.
//!
//! Everything the process does in user space is counted: reading, deciding, writing, its other threads. The kernel isn't,
//! so this sees no system call that is one too many; the benchmark's CPU time does.

use std::error::Error;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::contestant::{Contestant, Places, free_address, start_under};
use crate::driver::times;
use crate::instructions::callgrind::{Profile, collected, command, each};
use crate::measure::target;
use crate::process::Process;
use crate::workload::Workload;

/// What is called, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) name: &'static str,
    who: Contestant,
    workload: Workload,
    repetitions: u64,
}

/// So many that what starting costs, which differs by some million, doesn't show.
pub(super) const REQUESTS: [Request; 4] = [
    Request {
        name: "request, chat 2 KB, all off",
        who: Contestant::TollgateOff,
        workload: Workload::Chat,
        repetitions: 4000,
    },
    Request {
        name: "request, chat 2 KB, all on",
        who: Contestant::TollgateOn,
        workload: Workload::Chat,
        repetitions: 4000,
    },
    Request {
        name: "request, stream of 200 at once, all on",
        who: Contestant::TollgateOn,
        workload: Workload::Stream,
        repetitions: 500,
    },
    Request {
        name: "request, refused",
        who: Contestant::TollgateOn,
        workload: Workload::Refused,
        repetitions: 4000,
    },
];

/// Instructions of one such request.
pub(super) async fn count(
    places: &Places,
    request: Request,
    profile: &Profile,
) -> Result<u64, Box<dyn Error>> {
    let shorter = run(places, request, profile, request.repetitions).await?;
    let longer = run(places, request, profile, request.repetitions * 2).await?;
    Ok(each(shorter, longer, request.repetitions))
}

async fn run(
    places: &Places,
    request: Request,
    profile: &Profile,
    repetitions: u64,
) -> Result<u64, Box<dyn Error>> {
    let upstream = free_address()?;
    let mut server = std::process::Command::new(std::env::current_exe()?);
    server
        .args(["upstream", "--listen", &upstream.to_string()])
        .args(["--event-delay-us", "0"])
        .stdout(Stdio::null());
    let _server = Process::start(server, upstream, Duration::from_secs(15)).await?;
    let mut running = start_under(request.who, places, upstream, |plain| {
        let mut under = command(std::path::Path::new(plain.get_program()), profile);
        under.args(plain.get_args());
        under
    })
    .await?;
    let outcome = times(&target(&running, request.workload), WARM_UP + repetitions).await;
    if outcome.requests < repetitions {
        let complaint = outcome.complaint.unwrap_or_default();
        return Err(format!("{}: {complaint}", request.name).into());
    }
    if let Some(process) = &mut running.process {
        process.end(Duration::from_secs(60));
    }
    Ok(collected(&fs::read_to_string(places.log(request.who))?)?)
}

/// The first refusals of a used-up limit are none.
const WARM_UP: u64 = 10;
