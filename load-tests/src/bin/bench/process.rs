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

/// CPU time at a moment; two of them make a duration.
#[derive(Clone, Debug, Default)]
pub(crate) struct CpuTime {
    /// Of all threads that ever were, in hundredths of a second.
    ticks: u64,
    /// Of these, in the programs and not in the kernel.
    user_ticks: u64,
    /// Of each thread that is, in nanoseconds, where the kernel tells.
    threads: HashMap<u32, u64>,
}

impl CpuTime {
    /// User and system time since, in microseconds.
    pub(crate) fn since_us(&self, earlier: &Self) -> f64 {
        let still_there = |thread| self.threads.contains_key(thread);
        if earlier.threads.is_empty() || !earlier.threads.keys().all(still_there) {
            // A thread that ended took its nanoseconds with it; the ticks of its process stay.
            return self.ticks.saturating_sub(earlier.ticks) as f64 * MICROS_PER_TICK;
        }
        let sum = |time: &Self| time.threads.values().sum::<u64>();
        sum(self).saturating_sub(sum(earlier)) as f64 / 1000.0
    }
}

impl CpuTime {
    /// The share of user time since, of user and system time; in hundredths of a second, so only of long loads.
    pub(crate) fn user_share_since(&self, earlier: &Self) -> f64 {
        let all = self.ticks.saturating_sub(earlier.ticks);
        let user = self.user_ticks.saturating_sub(earlier.user_ticks);
        user as f64 / all.max(1) as f64
    }
}

impl Process {
    /// Starts it, and waits until it accepts connections.
    pub(crate) async fn start(
        mut command: Command,
        address: SocketAddr,
        bound: Duration,
    ) -> io::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn()?;
        let mut process = Self { child };
        let began = Instant::now();
        while began.elapsed() < bound {
            if TcpStream::connect(address).await.is_ok() {
                return Ok(process);
            }
            if let Some(status) = process.child.try_wait()? {
                return Err(io::Error::other(format!("ended at once with {status}")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let seconds = bound.as_secs();
        let message = format!("didn't listen within {seconds} s");
        Err(io::Error::new(io::ErrorKind::TimedOut, message))
    }

    /// User and system time so far, of all threads and children.
    pub(crate) fn cpu_time(&self) -> CpuTime {
        let mut time = CpuTime::default();
        for id in self.family() {
            if let Some(stat) = stat(id) {
                time.ticks += stat.ticks;
                time.user_ticks += stat.user_ticks;
            }
            let threads = fs::read_dir(format!("/proc/{id}/task"));
            for thread in threads.into_iter().flatten().flatten() {
                let number = thread.file_name().to_str().and_then(|id| id.parse().ok());
                let spent = fs::read_to_string(thread.path().join("schedstat")).ok();
                let spent = spent.and_then(|text| text.split(' ').next()?.parse().ok());
                if let (Some(number), Some(spent)) = (number, spent) {
                    time.threads.insert(number, spent);
                }
            }
        }
        time
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let resident = |id| status_kib(id, "VmRSS:");
        self.family().into_iter().filter_map(resident).sum()
    }

    /// The most that was resident since it began, or since that was forgotten, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        peak_kib_of(&self.family())
    }

    /// Peaks count from now on.
    pub(crate) fn forget_peak(&self) {
        for id in self.family() {
            // Where the kernel can't, the peak is that of the whole life.
            let _ = fs::write(format!("/proc/{id}/clear_refs"), "5");
        }
    }

    /// The process and all that descend from it.
    pub(crate) fn family(&self) -> Vec<u32> {
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

    /// Asks it to end, waits, and kills it if it doesn't.
    pub(crate) fn end(&mut self, bound: Duration) {
        for id in self.family().into_iter().rev() {
            // By number, and only our own: a worker ends with its master, but not if that was killed first.
            let _ = Command::new("kill")
                .arg("-TERM")
                .arg(id.to_string())
                .stderr(Stdio::null())
                .status();
        }
        let began = Instant::now();
        while began.elapsed() < bound {
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

impl Drop for Process {
    fn drop(&mut self) {
        self.end(END_BOUND);
    }
}

/// The most that was resident of these processes, in KiB.
fn peak_kib_of(family: &[u32]) -> u64 {
    let peak = |id: &u32| status_kib(*id, "VmHWM:");
    family.iter().filter_map(peak).sum()
}

const END_BOUND: Duration = Duration::from_secs(3);
/// Linux shows times to programs in hundredths of a second, whatever its own clock.
const MICROS_PER_TICK: f64 = 10_000.0;

struct Stat {
    parent: u32,
    ticks: u64,
    user_ticks: u64,
}

/// Fields 4, 14 and 15 of `/proc/PID/stat`, counted after the name, which may hold blanks.
fn stat(id: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)?,
        user_ticks: number(11)?,
    })
}

fn status_kib(id: u32, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ended_makes_the_ticks_count() {
        let time = |ticks, threads: &[(u32, u64)]| CpuTime {
            ticks,
            user_ticks: ticks / 2,
            threads: threads.iter().copied().collect(),
        };
        let before = time(3, &[(1, 1_000_000), (2, 5_000_000)]);
        let after = time(5, &[(1, 2_500_000), (2, 5_000_000), (3, 500_000)]);
        assert_eq!(after.since_us(&before), 2000.0);
        assert_eq!(after.user_share_since(&before), 0.5);
        let without_a_thread = time(5, &[(1, 2_500_000)]);
        assert_eq!(without_a_thread.since_us(&before), 20_000.0);
    }
}
