//! The usage log: one line a request, to files, to a Redis stream, or to both.
//!
//! A request hands its line over and goes on: queues are bounded, and what doesn't fit is dropped and counted. Neither a
//! full disk nor a Redis that is gone holds a request up.
//!
//! Reading order: this file (what requests see), `files` with its `queue` and `writer` (when what is written), `file` (one hour's
//! file), `repair` (what a crash left behind), `stream` (the same to Redis). Never decides what stands in a line.

mod file;
pub(crate) mod files;
mod queue;
mod repair;
mod stream;
mod writer;

use std::cell::RefCell;
use std::io;

use filters::record::Record;

use crate::config::plan;
use files::Files;
use stream::Stream;

thread_local! {
    /// Each line is made in the same place.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Takes lines.
#[derive(Debug)]
pub struct UsageLog {
    files: Option<Files>,
    stream: Option<Stream>,
}

impl UsageLog {
    /// Starts a thread for each. What is wrong with the directory or with Redis is told by it, and is no error here.
    ///
    /// # Errors
    /// When there is no thread to be had, or the URL of Redis isn't one.
    pub fn start(settings: &plan::UsageLog) -> io::Result<Self> {
        let files = settings.directory.clone().map(Files::start).transpose()?;
        let stream = settings.stream.as_ref().map(Stream::start).transpose()?;
        Ok(Self { files, stream })
    }

    /// Hands over a record's line. Never waits: a line that finds a queue full is dropped there and counted.
    pub fn write(&self, record: &Record<'_>) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            record.add_line(line);
            if let Some(stream) = &self.stream {
                stream.write(line.clone());
            }
            if let Some(files) = &self.files {
                files.write(line);
            }
        });
    }

    /// Lines that were never written, each time that one wasn't.
    pub fn dropped(&self) -> u64 {
        let files = self.files.as_ref().map_or(0, Files::dropped);
        files + self.stream.as_ref().map_or(0, Stream::dropped)
    }

    /// Whether lines wait because the disk or Redis doesn't take them.
    pub fn is_failing(&self) -> bool {
        let files = self.files.as_ref().is_some_and(Files::is_failing);
        files || self.stream.as_ref().is_some_and(Stream::is_failing)
    }

    /// Writes what is queued and ends. Blocks for some seconds at most; what comes later is dropped.
    pub fn close(&self) {
        if let Some(stream) = &self.stream {
            stream.close();
        }
        if let Some(files) = &self.files {
            files.close();
        }
    }
}
