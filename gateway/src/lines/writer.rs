//! When lines are written: gathered for a moment, then together. What can't be written is kept up to a bound and tried again
//! every second; beyond the bound it is dropped and counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use filters::limit::quota::Hour;

use super::place::{Place, Target};
use super::{Entry, Message, Shared};
use crate::clock;

/// Lines that come within this time of the first are written together.
const GATHER: Duration = Duration::from_millis(20);
/// How often a place that fails is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Lines that are kept while they can't be written, and that are written at once. Bytes.
const PENDING_MAX_BYTES: usize = 8 << 20;

/// The thread's own.
pub(super) struct Writer<E> {
    name: &'static str,
    target: Target,
    queue: Receiver<Message<E>>,
    shared: Arc<Shared>,
    pending: Vec<u8>,
    pending_lines: u64,
    failing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

impl<E: Entry> Writer<E> {
    /// Nothing is written yet, and the place not opened.
    pub fn new(
        name: &'static str,
        place: Place,
        queue: Receiver<Message<E>>,
        shared: Arc<Shared>,
    ) -> Self {
        Writer {
            name,
            target: Target::new(place),
            queue,
            shared,
            pending: Vec::new(),
            pending_lines: 0,
            failing: false,
        }
    }

    /// Until the end.
    pub fn run(mut self) {
        while self.receive() == Next::GoOn {
            self.commit();
        }
        self.commit();
        self.give_up();
    }

    fn receive(&mut self) -> Next {
        let first = match self.failing {
            true => self.queue.recv_timeout(RETRY),
            false => self
                .queue
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
        };
        match first {
            Ok(message) => self.take(message),
            Err(RecvTimeoutError::Timeout) => return Next::GoOn,
            Err(RecvTimeoutError::Disconnected) => return Next::End,
        }
        if !self.is_closing() {
            std::thread::sleep(GATHER);
        }
        loop {
            while let Ok(message) = self.queue.try_recv() {
                self.take(message);
                if self.pending.len() >= PENDING_MAX_BYTES && !self.failing {
                    self.commit();
                }
            }
            if !self.is_closing() {
                return Next::GoOn;
            }
            // What came between the last look and the end is still taken.
            match self.queue.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => return Next::End,
            }
        }
    }

    fn is_closing(&self) -> bool {
        self.shared.closing.load(Ordering::Acquire)
    }

    fn take(&mut self, message: Message<E>) {
        match message {
            Message::Entry(entry) => {
                let bytes = entry.held_bytes();
                self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                if self.pending.len() >= PENDING_MAX_BYTES {
                    self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                entry.write(&mut self.pending);
                self.pending_lines += 1;
            }
            Message::Reopen => {
                self.commit();
                self.target.close();
            }
            Message::Close => {}
        }
    }

    fn commit(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let written = self
            .target
            .append(&self.pending, Hour::of(clock::unix_time()));
        if written.is_ok() {
            self.pending.clear();
            self.pending.shrink_to(PENDING_MAX_BYTES);
            self.pending_lines = 0;
        }
        self.tell(written);
    }

    /// One line when it begins to fail and one when that is over.
    fn tell(&mut self, written: io::Result<()>) {
        let (log, place) = (self.name, self.target.name());
        match (written, self.failing) {
            (Err(error), false) => {
                tracing::error!(log, place, %error, "a log can't be written; lines are kept up to a bound and then dropped, requests go on");
                self.failing = true;
            }
            (Ok(()), true) => {
                let dropped = self.shared.dropped.load(Ordering::Relaxed);
                tracing::info!(log, place, dropped, "a log is written again");
                self.failing = false;
            }
            (Ok(()), false) | (Err(_), true) => {}
        }
    }

    fn give_up(&mut self) {
        let lost = self.pending_lines;
        if lost > 0 {
            tracing::error!(log = self.name, lost, "a log ends without its last lines");
            self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
        }
    }
}
