//! Lines on their way from calls to the thread that writes them.
//!
//! One buffer under a short lock: a line is copied into it and belongs to nobody, so that no memory changes threads, which
//! costs a call more than the line does. The thread takes all of it by exchanging it for an empty one.
//! Never writes.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A buffer that grew larger than this isn't kept when it was emptied. Bytes.
const KEPT_BYTES: usize = 1 << 20;

/// Takes lines from many threads, for one.
#[derive(Debug)]
pub(super) struct Queue {
    most_lines: u64,
    held: Mutex<Held>,
    bell: Condvar,
}

/// Lines that nobody has written.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Each with its line end.
    pub bytes: Vec<u8>,
    /// How many.
    pub count: u64,
}

#[derive(Debug, Default)]
struct Held {
    lines: Lines,
    is_closing: bool,
}

impl Queue {
    /// Empty; holds at most so many.
    pub(super) fn new(most_lines: u64) -> Self {
        Queue {
            most_lines,
            held: Mutex::default(),
            bell: Condvar::new(),
        }
    }

    /// Adds a line with its line end; false where there is no room for it, or nobody will write it.
    pub(super) fn put(&self, line: &[u8]) -> bool {
        let mut held = self.held.lock();
        if held.is_closing || held.lines.count >= self.most_lines {
            return false;
        }
        let is_first = held.lines.count == 0;
        held.lines.bytes.extend_from_slice(line);
        held.lines.count += 1;
        drop(held);
        if is_first {
            self.bell.notify_one();
        }
        true
    }

    /// The end has come: nobody waits any more, and nothing more is taken.
    pub(super) fn close(&self) {
        self.held.lock().is_closing = true;
        self.bell.notify_one();
    }

    /// Whether it has.
    pub(super) fn is_closing(&self) -> bool {
        self.held.lock().is_closing
    }

    /// Waits for a line, the end, or as long as this. Whether there is a line, and no end.
    pub(super) fn wait(&self, at_most: Option<Duration>) -> bool {
        let mut held = self.held.lock();
        let nothing = |held: &mut Held| held.lines.count == 0 && !held.is_closing;
        match at_most {
            Some(at_most) => {
                self.bell.wait_while_for(&mut held, nothing, at_most);
            }
            None => self.bell.wait_while(&mut held, nothing),
        }
        held.lines.count > 0 && !held.is_closing
    }

    /// Moves all lines to the end of `others`.
    pub(super) fn take(&self, others: &mut Lines) {
        let mut held = self.held.lock();
        if others.count == 0 {
            std::mem::swap(&mut held.lines, others);
            return;
        }
        others.bytes.append(&mut held.lines.bytes);
        others.count += std::mem::take(&mut held.lines.count);
    }
}

impl Lines {
    /// They were written.
    pub(super) fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn lines_are_taken_in_order_and_no_more_are_held_than_may_be() {
        let queue = Queue::new(2);
        assert!(queue.put(b"a\n") && queue.put(b"b\n") && !queue.put(b"c\n"));
        let mut lines = Lines::default();
        queue.take(&mut lines);
        assert!(queue.put(b"d\n"));
        queue.take(&mut lines);
        assert_eq!(
            (lines.bytes.as_slice(), lines.count),
            (&b"a\nb\nd\n"[..], 3)
        );
        lines.clear();
        queue.take(&mut lines);
        assert_eq!((lines.bytes.len(), lines.count), (0, 0));
    }

    #[test]
    fn whoever_waits_is_woken_by_a_line_and_by_the_end() {
        let queue = Arc::new(Queue::new(8));
        let waiting = queue.clone();
        let waiter = std::thread::spawn(move || {
            let woken = waiting.wait(None);
            waiting.take(&mut Lines::default());
            (woken, waiting.wait(None))
        });
        queue.put(b"a\n");
        while !queue.held.lock().lines.bytes.is_empty() {
            std::thread::yield_now();
        }
        queue.close();
        assert_eq!(waiter.join().ok(), Some((true, false)));
        assert!(!queue.wait(Some(Duration::ZERO)) && queue.is_closing());
        assert!(!queue.put(b"late\n"));
    }

    #[test]
    fn a_buffer_that_grew_large_is_not_kept() {
        let mut lines = Lines {
            bytes: vec![b'x'; KEPT_BYTES + 1],
            count: 1,
        };
        lines.clear();
        assert_eq!(lines.bytes.capacity(), 0);
    }
}
