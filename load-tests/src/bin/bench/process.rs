//! A contestant's process: started, watched through `/proc`, ended.
//!
//! CPU time and memory are read from the operating system for the process and its children (nginx has a worker). Only
//! processes that were started here are ended.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

/// A process that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts it, and waits until it accepts connections.
    pub(crate) async fn start(mut command: Command, address: SocketAddr) -> io::Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut process = Self { child };
        let began = Instant::now();
        while began.elapsed() < START_BOUND {
            if TcpStream::connect(address).await.is_ok() {
                return Ok(process);
            }
            if let Some(status) = process.child.try_wait()? {
                return Err(io::Error::other(format!("ended at once with {status}")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "didn't listen within 15 s",
        ))
    }

    /// User and system time so far, all threads and children, in microseconds.
    pub(crate) fn cpu_us(&self) -> u64 {
        let ticks = self
            .family()
            .into_iter()
            .filter_map(stat)
            .map(|stat| stat.ticks)
            .sum::<u64>();
        ticks * MICROS_PER_TICK
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.family().into_iter().filter_map(resident_kib).sum()
    }

    fn family(&self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        for id in all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            if let Some(stat) = stat(id) {
                children.entry(stat.parent).or_default().push(id);
            }
        }
        let mut family = vec![self.child.id()];
        let mut next = 0;
        while let Some(id) = family.get(next).copied() {
            family.extend(children.remove(&id).unwrap_or_default());
            next += 1;
        }
        family
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for id in self.family().into_iter().rev() {
            // By number, and only our own: a worker ends with its master, but not if that was killed first.
            let _ = Command::new("kill")
                .arg("-TERM")
                .arg(id.to_string())
                .stderr(Stdio::null())
                .status();
        }
        let began = Instant::now();
        while began.elapsed() < END_BOUND {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // It had its time; the result no longer matters.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const START_BOUND: Duration = Duration::from_secs(15);
const END_BOUND: Duration = Duration::from_secs(3);
/// Linux shows times to programs in hundredths of a second, whatever its own clock.
const MICROS_PER_TICK: u64 = 10_000;

struct Stat {
    parent: u32,
    ticks: u64,
}

/// Fields 4, 14 and 15 of `/proc/PID/stat`, counted after the name, which may hold blanks.
fn stat(id: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)?,
    })
}

fn resident_kib(id: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
