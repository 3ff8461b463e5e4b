//! Lines to files: appended by one thread, in files that nobody else writes.
//!
//! A request hands over its line and goes on: the queue is bounded, and what doesn't fit is dropped and counted. A full
//! disk or a missing directory is told once, and again when it is over; it never holds a request up.
//!
//! **What survives.** A line is written within [`GATHER`](writer) of its request's end, so a killed process loses those of
//! some milliseconds; it is on the disk a second later, so a machine without power loses about a second. A line that a
//! crash cut in the middle is taken off by the next process that starts on the directory.
//!
//! Never decides what stands in a line.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use parking_lot::Mutex;

use super::queue::Queue;
use super::writer::Writer;
use crate::clock;

/// Lines that wait for the writer: ten thousand requests a second for as long as a slow disk takes to sync. About 12 MiB.
const QUEUE_LINES: u64 = 16_384;
/// How long the end of the process waits for the last lines.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Takes lines. Its thread ends with [`close`](Files::close), or with the process.
#[derive(Debug)]
pub struct Files {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    ended: Mutex<Receiver<()>>,
}

/// What both sides see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub dropped: AtomicU64,
    pub failing: AtomicBool,
}

impl Files {
    /// Starts the thread. What is wrong with the directory is told by it, and is no error here.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(directory: PathBuf) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(QUEUE_LINES));
        let (end, ended) = channel();
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(directory, process_name(), queue.clone(), shared.clone());
        std::thread::Builder::new()
            .name("usage-log".into())
            .spawn(move || {
                writer.run();
                drop(end);
            })?;
        Ok(Self {
            queue,
            shared,
            ended: Mutex::new(ended),
        })
    }

    /// Hands over a line with its line end. Never waits: a line that finds the queue full is dropped and counted.
    pub fn write(&self, line: &[u8]) {
        if !self.queue.put(line) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were never written.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Whether the last try to write failed: a full disk, a directory that isn't there.
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Writes what is queued and ends. Blocks for some seconds at most; what comes later is dropped.
    pub fn close(&self) {
        self.queue.close();
        let ended = self.ended.lock().recv_timeout(CLOSE_WAIT);
        if ended == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the usage log's last lines couldn't be written in time");
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Unlike that of any other process on the same volume: in containers, all have the process id 1.
pub(crate) fn process_name() -> String {
    let nanoseconds = clock::unix_nanoseconds() as u64;
    format!("{:x}-{nanoseconds:016x}", std::process::id())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn written(directory: &std::path::Path) -> String {
        let files = std::fs::read_dir(directory).unwrap();
        let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        texts.collect()
    }

    fn start(directory: &std::path::Path) -> Files {
        Files::start(directory.to_owned()).unwrap()
    }

    #[test]
    fn every_line_that_was_taken_is_there_after_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("a/b");
        let log = start(&directory);
        let lines: Vec<String> = (0..5_000).map(|number| format!("{number}\n")).collect();
        for line in &lines {
            log.write(line.as_bytes());
        }
        log.close();
        assert_eq!(log.dropped(), 0);
        assert_eq!(written(&directory), lines.concat());
        log.write(b"late\n");
        log.close();
        assert_eq!(log.dropped(), 1);
    }

    #[test]
    fn two_processes_on_one_directory_have_files_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let logs = [start(folder.path()), start(folder.path())];
        for log in &logs {
            log.write(b"line\n");
        }
        logs.iter().for_each(Files::close);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        assert_eq!(written(folder.path()), "line\nline\n");
    }

    #[test]
    fn lines_that_can_never_be_written_are_dropped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "no directory").unwrap();
        let log = start(&file.join("below"));
        for _ in 0..3 {
            log.write(b"line\n");
        }
        log.close();
        assert_eq!(log.dropped(), 3);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "no directory");
    }
}
