//! What a contestant holds: started anew, with idle connections, with open streams, under load, and some time after.
//!
//! Each step is one reading of resident memory, which allocators give back late if at all; so it runs once, on a process
//! of its own, and not in the rounds.

use std::io;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Arguments;
use crate::contestant::{Contestant, Running};
use crate::driver::closed;
use crate::measure::{target, watched};
use crate::workload::{Call, Workload, held_stream};

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
    pub(crate) under_load: f64,
    /// Some time after the load.
    pub(crate) after: Option<f64>,
}

/// Takes all readings of one contestant.
pub(crate) async fn hold(running: &Running, arguments: &Arguments) -> Option<Held> {
    let process = running.process.as_ref()?;
    let mib = || process.resident_kib() as f64 / 1024.0;
    let chat = target(running, Workload::Chat);
    // The first call makes what every contestant needs from then on.
    closed(&chat, 1, Duration::from_millis(50)).await;
    let idle = mib();
    // What comes once isn't a connection's.
    closed(&chat, arguments.connections, WARM_UP).await;
    let warm = mib();
    let call = chat.calls.first().cloned()?;
    let connections = open_all(running, arguments.idle_connections, &call, b"\"usage\"").await;
    let with_connections = mib();
    let count = connections.len();
    drop(connections);
    pause(running).await;
    let call = held_stream(&running.headers);
    let streams = open_all(
        running,
        arguments.open_streams,
        &call,
        b"\"content\":\" token\"",
    )
    .await;
    let with_streams = mib();
    let streams_count = streams.len();
    drop(streams);
    pause(running).await;
    let (_, _, under_load) = watched(
        running,
        closed(&chat, arguments.connections, arguments.time()),
    )
    .await;
    let images = target(running, Workload::Images);
    let (_, _, with_images) = watched(running, closed(&images, 4, arguments.time())).await;
    let after = match arguments.settle_seconds {
        0 => None,
        seconds => {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Some(mib())
        }
    };
    let each = |more: f64, less: f64, count: usize| (more - less) * 1024.0 / count.max(1) as f64;
    Some(Held {
        who: running.who,
        idle,
        connections: count,
        connection_kib: each(with_connections, warm, count),
        streams: streams_count,
        // Memory that the idle connections left behind is used again: the start counts from before them.
        stream_kib: each(with_streams, warm, streams_count),
        under_load: under_load.max(with_images),
        after,
    })
}

/// Connections that have been called once and stay; fewer where the contestant is slow or refuses.
async fn open_all(running: &Running, count: usize, call: &Call, until: &[u8]) -> Vec<TcpStream> {
    let mut tasks = JoinSet::new();
    let mut open = Vec::with_capacity(count);
    let deadline = tokio::time::Instant::now() + OPEN_BOUND;
    let mut serial = 0;
    while serial < count && tokio::time::Instant::now() < deadline {
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
const OPEN_BOUND: Duration = Duration::from_secs(60);

async fn read_until(stream: &mut TcpStream, mark: &[u8]) -> io::Result<()> {
    let mut read = Vec::new();
    while memmem::find(&read, mark).is_none() {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Until the contestant has seen that its callers are gone: until its memory stands still.
async fn pause(running: &Running) {
    let Some(process) = &running.process else {
        return;
    };
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
