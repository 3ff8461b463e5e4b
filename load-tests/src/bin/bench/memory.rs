//! What a contestant holds: started anew, with idle connections, with open streams, with large bodies, under load, and some
//! time after.
//!
//! Allocators give memory back late if at all, so each contestant has two processes of its own for it: one for what is
//! counted a connection, one for bodies and load. Peaks are the kernel's (`VmHWM`). Each step is one reading and no round:
//! memory hardly differs between runs.

use std::io;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Arguments;
use crate::contestant::{Contestant, Running};
use crate::driver::closed;
use crate::measure::target;
use crate::process::Process;
use crate::workload::{Call, Workload, held_images, held_stream};

/// MiB but where it says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) who: Contestant,
    pub(crate) idle: f64,
    /// How many connections could be opened, and what each costs in KiB.
    pub(crate) connections: usize,
    pub(crate) connection_kib: f64,
    pub(crate) streams: usize,
    pub(crate) stream_kib: f64,
    /// Bodies of 5 MB in flight: memory to their bytes.
    pub(crate) body_ratio: f64,
    pub(crate) under_load: f64,
    /// Some time after all that: the greater of the two processes.
    pub(crate) after: Option<f64>,
}

/// A process that has been through it, and since when it rests.
pub(crate) struct Resting {
    running: Running,
    since: Instant,
}

/// Idle connections and open streams.
pub(crate) async fn hold(running: Running, arguments: &Arguments) -> Option<(Held, Resting)> {
    let process = running.process.as_ref()?;
    let (idle, warm) = warmed(&running, process, arguments).await;
    let chat = target(&running, Workload::Chat);
    // The same call each time: what is remembered of new texts isn't a connection's.
    let call = chat.calls.first().cloned()?.repeated();
    let wanted = arguments.idle_connections;
    let connections = open_all(&running, wanted, &call, b"\"usage\"").await;
    let with_connections = mib(process);
    let count = connections.len();
    drop(connections);
    pause(process).await;
    let call = held_stream(&running.headers).repeated();
    let wanted = arguments.open_streams;
    let streams = open_all(&running, wanted, &call, b"\"content\":\" token\"").await;
    let with_streams = mib(process);
    let streams_count = streams.len();
    drop(streams);
    pause(process).await;
    let each = |more: f64, count: usize| (more - warm) * 1024.0 / count.max(1) as f64;
    let held = Held {
        who: running.who,
        idle,
        connections: count,
        connection_kib: each(with_connections, count),
        streams: streams_count,
        // Memory that the idle connections left behind is used again: the start counts from before them.
        stream_kib: each(with_streams, streams_count),
        body_ratio: f64::NAN,
        under_load: f64::NAN,
        after: None,
    };
    Some((held, resting(running)))
}

/// Large bodies, and load.
pub(crate) async fn burden(
    running: Running,
    arguments: &Arguments,
    held: &mut Held,
) -> Option<Resting> {
    let process = running.process.as_ref()?;
    let (_, warm) = warmed(&running, process, arguments).await;
    let call = held_images(&running.headers);
    let bodies = open_all(&running, BODIES, &call, b"").await;
    pause(process).await;
    let bytes = (bodies.len() * call.body().len()) as f64 / f64::from(1 << 20);
    held.body_ratio = (mib(process) - warm) / bytes;
    drop(bodies);
    pause(process).await;
    process.forget_peak();
    let chat = target(&running, Workload::Chat);
    closed(&chat, arguments.connections, arguments.time()).await;
    let images = target(&running, Workload::Images);
    closed(&images, 4, arguments.time()).await;
    held.under_load = process.peak_kib() as f64 / 1024.0;
    Some(resting(running))
}

/// Waits until so long after its end, and reads again.
pub(crate) async fn settle(resting: Resting, time: Duration, held: &mut Held) {
    tokio::time::sleep_until(resting.since + time).await;
    let now = resting.running.process.as_ref().map(mib);
    held.after = held.after.into_iter().chain(now).reduce(f64::max);
}

/// In flight at once: some 100 MB.
const BODIES: usize = 20;

fn resting(running: Running) -> Resting {
    Resting {
        running,
        since: Instant::now(),
    }
}

fn mib(process: &Process) -> f64 {
    process.resident_kib() as f64 / 1024.0
}

/// Memory after the first calls, which make what every contestant needs from then on; and after some more, since what
/// comes once isn't a connection's.
async fn warmed(running: &Running, process: &Process, arguments: &Arguments) -> (f64, f64) {
    let chat = target(running, Workload::Chat);
    closed(&chat, 1, Duration::from_millis(50)).await;
    // Some go on loading what they need while they serve.
    rest(process).await;
    let idle = mib(process);
    closed(&chat, arguments.connections, WARM_UP).await;
    rest(process).await;
    (idle, mib(process))
}

/// Connections that have been called once and stay; fewer where the contestant is slow or refuses.
async fn open_all(running: &Running, count: usize, call: &Call, until: &[u8]) -> Vec<TcpStream> {
    let mut tasks = JoinSet::new();
    let mut open = Vec::with_capacity(count);
    let deadline = Instant::now() + OPEN_BOUND;
    let mut serial = 0;
    while serial < count && Instant::now() < deadline {
        while tasks.len() < AT_ONCE && serial < count {
            serial += 1;
            let (address, until) = (running.address, until.to_vec());
            let request = call.clone().numbered(serial as u64).to_vec();
            tasks.spawn(async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(&request).await?;
                read_until(&mut stream, &until).await?;
                io::Result::Ok(stream)
            });
        }
        if let Some(Ok(Ok(stream))) = tasks.join_next().await {
            open.push(stream);
        }
    }
    while let Ok(Some(done)) = tokio::time::timeout_at(deadline, tasks.join_next()).await {
        if let Ok(Ok(stream)) = done {
            open.push(stream);
        }
    }
    open
}

const WARM_UP: Duration = Duration::from_millis(300);
const AT_ONCE: usize = 32;
const OPEN_BOUND: Duration = Duration::from_secs(20);

async fn read_until(stream: &mut TcpStream, mark: &[u8]) -> io::Result<()> {
    let mut read = Vec::new();
    while memmem::find(&read, mark).is_none() {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Until it does nothing by itself.
async fn rest(process: &Process) {
    for _ in 0..20 {
        let before = process.cpu_time();
        tokio::time::sleep(Duration::from_secs(1)).await;
        if process.cpu_time().since_us(&before) < AT_REST_US {
            return;
        }
    }
}

/// Of a second.
const AT_REST_US: f64 = 20_000.0;

/// Until the contestant has seen what came, or that its callers are gone: until its memory stands still.
async fn pause(process: &Process) {
    let mut last = u64::MAX;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = process.resident_kib();
        if now == last {
            return;
        }
        last = now;
    }
}
