//! Lines that one thread writes: to standard output, to a file that others rotate, or to a file an hour.
//!
//! A call hands over what its line is made of and goes on: the queue is bounded in entries and in bytes, and what doesn't
//! fit is dropped and counted. What an entry costs to be written (a prompt as JSON, say) is paid by the thread. A file
//! that can't be written is told once, and again when it is over. Whoever drops the last handle has everything written
//! that was handed over. Never decides what stands in a line.
//!
//! Unlike the usage log, which is billed by: these files are synced by the system when it likes.

mod place;
mod writer;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;

pub use self::place::Place;
use self::writer::Writer;

/// Entries that wait for the writer: ten thousand requests a second for as long as a pipe's reader may take.
const QUEUE_ENTRIES: usize = 16_384;
/// What they hold together. Bytes.
const QUEUE_MAX_BYTES: usize = 64 << 20;
/// How long the end of the process waits for the last lines.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// What becomes a line.
pub trait Entry: Send + 'static {
    /// The memory that it holds while it waits.
    fn held_bytes(&self) -> usize;
    /// Adds the line with its end.
    fn write(&self, out: &mut Vec<u8>);
}

/// A line that is ready.
impl Entry for Vec<u8> {
    fn held_bytes(&self) -> usize {
        self.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

/// Takes entries.
#[derive(Debug)]
pub struct Lines<E> {
    queue: SyncSender<Message<E>>,
    shared: Arc<Shared>,
    ended: Mutex<Receiver<()>>,
}

/// What the thread is sent.
#[derive(Debug)]
enum Message<E> {
    Entry(E),
    Reopen,
    /// Wakes it up to see that it is the end.
    Close,
}

/// What both sides see.
#[derive(Debug, Default)]
struct Shared {
    /// Entries that never became lines.
    dropped: Arc<AtomicU64>,
    queued_bytes: AtomicUsize,
    closing: AtomicBool,
}

impl<E: Entry> Lines<E> {
    /// Starts the thread, which is called `name`. What is wrong with the place is told by it, and is no error here.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(name: &'static str, place: Place, dropped: Arc<AtomicU64>) -> io::Result<Self> {
        let (queue, entries) = sync_channel(QUEUE_ENTRIES);
        let (end, ended) = channel();
        let shared = Arc::new(Shared {
            dropped,
            ..Shared::default()
        });
        let writer = Writer::new(name, place, entries, shared.clone());
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                writer.run();
                drop(end);
            })?;
        Ok(Lines {
            queue,
            shared,
            ended: Mutex::new(ended),
        })
    }

    /// Hands over an entry. Never waits: one that finds no room is dropped and counted.
    pub fn put(&self, entry: E) {
        let bytes = entry.held_bytes();
        let queued = self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = queued + bytes <= QUEUE_MAX_BYTES;
        if !fits || self.queue.try_send(Message::Entry(entry)).is_err() {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has the file opened anew, by its name: it was rotated.
    pub fn reopen(&self) {
        // A full queue is told of a rotation by the next.
        let _ = self.queue.try_send(Message::Reopen);
    }

    /// Writes what is queued and ends. Blocks for some seconds at most; what comes later is dropped.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        // A full queue has no place for it, and a thread that isn't idle needs none.
        let _ = self.queue.try_send(Message::Close);
        let ended = self.ended.lock().recv_timeout(CLOSE_WAIT);
        if ended == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the last lines of a log couldn't be written in time");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;

    fn start(path: &Path) -> (Lines<Vec<u8>>, Arc<AtomicU64>) {
        let dropped = Arc::new(AtomicU64::new(0));
        let place = Place::File(path.to_owned());
        let lines = Lines::start("test", place, dropped.clone()).unwrap();
        (lines, dropped)
    }

    #[test]
    fn a_rotated_file_goes_on_under_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (lines, dropped) = start(&path);
        lines.put(b"one\n".to_vec());
        lines.close();
        let (lines, _) = start(&path);
        lines.put(b"two\n".to_vec());
        lines.close();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        let (lines, _) = start(&path);
        lines.put(b"three\n".to_vec());
        while std::fs::read_to_string(&path).unwrap().lines().count() < 3 {
            std::thread::yield_now();
        }
        let rotated = folder.path().join("access.log.1");
        std::fs::rename(&path, &rotated).unwrap();
        lines.reopen();
        lines.put(b"four\n".to_vec());
        lines.close();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "four\n");
        assert_eq!(
            std::fs::read_to_string(&rotated).unwrap(),
            "one\ntwo\nthree\n"
        );
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_was_handed_over_is_written_when_the_last_handle_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (lines, _) = start(&path);
        for _ in 0..1_000 {
            lines.put(b"line\n".to_vec());
        }
        let Lines { queue, ended, .. } = lines;
        drop(queue);
        let _ = ended.lock().recv_timeout(CLOSE_WAIT);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap().lines().count(),
            1_000
        );
    }

    #[test]
    fn more_than_fits_is_dropped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no/such/folder");
        std::fs::write(folder.path().join("no"), "in the way").unwrap();
        let (lines, dropped) = start(&path);
        for _ in 0..3 {
            lines.put(vec![b'x'; QUEUE_MAX_BYTES / 2 + 1]);
        }
        lines.put(b"one\n".to_vec());
        lines.close();
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
    }
}
