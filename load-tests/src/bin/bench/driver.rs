//! Closed-loop load: each connection sends its next request when the last answer is complete and right.
//!
//! A closed loop can't show what happens beyond saturation, and its latencies under many connections are queueing; so
//! latency is measured with one connection, and CPU time with many. Every answer's status and bytes are checked.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::wire::Reader;
use crate::workload::Workload;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) wrong: u64,
    /// The first wrong answer, for the report.
    pub(crate) complaint: Option<String>,
    pub(crate) elapsed: Duration,
    /// Microseconds from the request's first byte to the answer's last.
    pub(crate) latencies_us: Vec<u32>,
}

impl Outcome {
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    /// The latency that this share of the requests doesn't exceed.
    pub(crate) fn percentile_us(&mut self, share: f64) -> f64 {
        self.latencies_us.sort_unstable();
        let last = self.latencies_us.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        self.latencies_us
            .get(index)
            .copied()
            .map_or(f64::NAN, f64::from)
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.wrong += other.wrong;
        self.complaint = self.complaint.take().or(other.complaint);
        self.latencies_us.extend(other.latencies_us);
    }
}

/// Loads an address for so long with so many connections.
pub(crate) async fn load(
    address: SocketAddr,
    workload: Workload,
    connections: usize,
    time: Duration,
) -> Outcome {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(one_connection(address, workload, began + time));
    }
    let mut sum = Outcome::default();
    while let Some(outcome) = tasks.join_next().await {
        match outcome {
            Ok(outcome) => sum.add(outcome),
            Err(error) => sum.complaint = Some(error.to_string()),
        }
    }
    sum.elapsed = began.elapsed();
    sum
}

async fn one_connection(address: SocketAddr, workload: Workload, end: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    while Instant::now() < end {
        if let Err(error) = converse(address, workload, end, &mut outcome).await {
            outcome.wrong += 1;
            outcome.complaint = outcome.complaint.take().or(Some(error.to_string()));
            // What refuses at once would otherwise be asked in a busy loop.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    outcome
}

async fn converse(
    address: SocketAddr,
    workload: Workload,
    end: Instant,
    outcome: &mut Outcome,
) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = workload.request();
    let expected = workload.answer_bytes();
    let (read, mut write) = stream.split();
    let mut reader = Reader::new(read);
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(());
        }
        write.write_all(request.as_bytes()).await?;
        let next = tokio::time::timeout(ANSWER_BOUND, reader.next()).await;
        let answer = next.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let answer = answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        if answer.status != 200 || answer.body.len() != expected {
            let (status, length) = (answer.status, answer.body.len());
            let found =
                format!("status {status} with {length} bytes instead of 200 with {expected}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, found));
        }
        let micros = sent.elapsed().as_micros();
        outcome.requests += 1;
        outcome
            .latencies_us
            .push(u32::try_from(micros).unwrap_or(u32::MAX));
        if answer.closes {
            return Ok(());
        }
    }
}

/// Nothing measured here takes this long.
const ANSWER_BOUND: Duration = Duration::from_secs(20);
