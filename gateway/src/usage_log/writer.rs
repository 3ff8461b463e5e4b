//! When what is written: lines are gathered for a moment, written together, and synced once a second.
//!
//! The moment saves a wake-up and a system call for most lines; the second bounds what a power cut takes. What can't be
//! written is kept, up to a bound, and tried again every second: a disk that has room again loses nothing until then.
//! Beyond the bound nothing is taken from the queue, so that requests drop their lines and count them.
//! Tells a change of its state once, not every line.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use filters::limit::quota::Hour;

use super::file::HourFile;
use super::files::Shared;
use super::queue::{Lines, Queue};
use super::repair;
use crate::clock::{self, Moment};

/// Lines that come within this time of the first are written together.
const GATHER: Duration = Duration::from_millis(20);
/// How often the disk is asked to hold what was written, and how often a failing one is tried again.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Lines that are kept while they can't be written. Bytes.
const PENDING_MAX_BYTES: usize = 8 << 20;

/// The thread's own.
pub(super) struct Writer {
    directory: PathBuf,
    process: String,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    file: Option<HourFile>,
    pending: Lines,
    /// The last sync, or the last try that failed.
    tried: Moment,
    failing: bool,
    /// Lines dropped when that was last told, while more are.
    dropping: bool,
    dropped_seen: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

impl Writer {
    /// Nothing is written yet, and the directory not looked at.
    pub fn new(
        directory: PathBuf,
        process: String,
        queue: Arc<Queue>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            directory,
            process,
            queue,
            shared,
            file: None,
            pending: Lines::default(),
            tried: clock::now(),
            failing: false,
            dropping: false,
            dropped_seen: 0,
        }
    }

    /// Until the end.
    pub fn run(mut self) {
        repair::repair(&self.directory);
        while self.receive() == Next::GoOn {
            self.commit(clock::now(), Hour::of(clock::unix_time()));
        }
        self.end(Hour::of(clock::unix_time()));
    }

    /// Waits for a line and for those that come with it.
    fn receive(&mut self) -> Next {
        if self.is_full() {
            std::thread::sleep(SYNC_EVERY);
        } else if self.queue.wait(self.patience()) {
            std::thread::sleep(GATHER);
        }
        self.drain();
        match self.queue.is_closing() {
            true => Next::End,
            false => Next::GoOn,
        }
    }

    /// An idle writer with nothing left to do isn't woken up.
    fn patience(&self) -> Option<Duration> {
        let unsynced = self.file.as_ref().is_some_and(HourFile::is_unsynced);
        let waits = unsynced || self.pending.count > 0 || self.dropping;
        waits.then_some(SYNC_EVERY)
    }

    fn drain(&mut self) {
        if !self.is_full() {
            self.queue.take(&mut self.pending);
        }
    }

    fn is_full(&self) -> bool {
        self.pending.bytes.len() >= PENDING_MAX_BYTES
    }

    /// Writes what is pending, and syncs if it is time.
    fn commit(&mut self, now: Moment, hour: Hour) {
        let is_time = now.since(self.tried) >= SYNC_EVERY;
        if self.failing && !is_time {
            return;
        }
        let mut done = self.write(hour);
        if is_time {
            self.tried = now;
            done = done.and_then(|()| self.sync());
            self.tell_dropped();
        }
        self.tell(done);
    }

    fn write(&mut self, hour: Hour) -> io::Result<()> {
        if self.pending.count == 0 {
            return Ok(());
        }
        let written = self
            .file(hour)
            .and_then(|(file, pending)| file.append(pending));
        match written {
            Ok(()) => {
                self.pending.clear();
                Ok(())
            }
            Err(error) => {
                // Room may come back to this file; whatever else is wrong with it may stay.
                let is_full = matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                );
                if !is_full && let Some(file) = self.file.take() {
                    file.abandon();
                }
                Err(error)
            }
        }
    }

    /// The hour's file, and what goes into it.
    fn file(&mut self, hour: Hour) -> io::Result<(&mut HourFile, &[u8])> {
        if self.file.as_ref().is_some_and(|file| file.hour() != hour) {
            self.sync()?;
            self.file = None;
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => HourFile::create(&self.directory, &self.process, hour)?,
        };
        Ok((self.file.insert(file), &self.pending.bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.sync()?;
        if file.is_deleted() {
            self.file = None;
            return Err(io::Error::other("its file was deleted while it was open"));
        }
        Ok(())
    }

    /// One line when it begins to fail and one when that is over.
    fn tell(&mut self, done: io::Result<()>) {
        let directory = self.directory.display();
        match (done, self.failing) {
            (Err(error), false) => {
                tracing::error!(%directory, %error, "the usage log can't be written; lines are kept up to a bound and then dropped, requests go on");
                self.fails(true);
                self.tried = clock::now();
            }
            (Ok(()), true) => {
                let dropped = self.shared.dropped.load(Ordering::Relaxed);
                tracing::info!(%directory, dropped, "the usage log is written again");
                self.fails(false);
            }
            (Ok(()), false) | (Err(_), true) => {}
        }
    }

    fn fails(&mut self, failing: bool) {
        self.failing = failing;
        self.shared.failing.store(failing, Ordering::Relaxed);
    }

    /// As [`tell`](Self::tell), of lines that found the queue full.
    fn tell_dropped(&mut self) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        match (dropped > self.dropped_seen, self.dropping) {
            (true, false) => {
                tracing::error!(
                    dropped,
                    "lines of the usage log are dropped: the queue is full"
                );
                self.dropping = true;
            }
            (false, true) => {
                tracing::info!(dropped, "lines of the usage log are no longer dropped");
                self.dropping = false;
            }
            (true, true) | (false, false) => {}
        }
        self.dropped_seen = dropped;
    }

    /// Writes what is left; what can't be written now never will be.
    fn end(mut self, hour: Hour) {
        let mut done = Ok(());
        loop {
            self.drain();
            if self.pending.count == 0 || done.is_err() {
                break;
            }
            done = self.write(hour);
        }
        let done = done.and_then(|()| self.sync());
        self.queue.take(&mut self.pending);
        let lost = self.pending.count;
        if let Err(error) = done {
            tracing::error!(lost, %error, "the usage log ends without its last lines");
        }
        self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;

    fn writer(directory: &Path) -> (Writer, Arc<Queue>) {
        let queue = Arc::new(Queue::new(4));
        let writer = Writer::new(
            directory.to_owned(),
            "7".into(),
            queue.clone(),
            Arc::default(),
        );
        (writer, queue)
    }

    fn take(writer: &mut Writer, line: &[u8]) {
        writer.queue.put(line);
        writer.drain();
    }

    fn files(directory: &Path) -> Vec<(String, String)> {
        let mut files: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|file| file.unwrap().path())
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, std::fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn each_hour_has_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, _sender) = writer(folder.path());
        for (hour, line) in [(498_709, "a\n"), (498_709, "b\n"), (498_710, "c\n")] {
            take(&mut writer, line.as_bytes());
            writer.commit(clock::now(), Hour::from_number(hour));
        }
        let expected = [
            (
                "usage-2026-11-22T13-7.jsonl".to_owned(),
                "a\nb\n".to_owned(),
            ),
            ("usage-2026-11-22T14-7.jsonl".to_owned(), "c\n".to_owned()),
        ];
        assert_eq!(files(folder.path()), expected);
    }

    #[test]
    fn what_could_not_be_written_is_written_as_soon_as_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("usage");
        std::fs::write(&directory, "in the way").unwrap();
        let (mut writer, _sender) = writer(&directory);
        let hour = Hour::from_number(498_709);
        take(&mut writer, b"a\n");
        writer.commit(clock::now(), hour);
        assert!(writer.failing);
        take(&mut writer, b"b\n");
        std::fs::remove_file(&directory).unwrap();
        writer.write(hour).unwrap();
        writer.tell(Ok(()));
        assert!(!writer.failing && writer.pending.count == 0);
        assert_eq!(files(&directory)[0].1, "a\nb\n");
    }

    #[test]
    fn a_file_that_was_deleted_is_followed_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, _sender) = writer(folder.path());
        let hour = Hour::from_number(498_709);
        take(&mut writer, b"a\n");
        writer.write(hour).unwrap();
        let name = &files(folder.path())[0].0;
        std::fs::remove_file(folder.path().join(name)).unwrap();
        writer.sync().unwrap_err();
        take(&mut writer, b"b\n");
        writer.write(hour).unwrap();
        assert_eq!(files(folder.path())[0].1, "b\n");
    }

    #[test]
    fn beyond_the_bound_nothing_more_is_taken_from_the_queue() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, sender) = writer(&folder.path().join("usage"));
        take(&mut writer, &vec![b'x'; PENDING_MAX_BYTES]);
        assert!(sender.put(b"a\n"));
        writer.drain();
        assert_eq!(writer.pending.bytes.len(), PENDING_MAX_BYTES);
        writer.write(Hour::from_number(498_709)).unwrap();
        writer.drain();
        assert_eq!(writer.pending.bytes, b"a\n");
    }
}
