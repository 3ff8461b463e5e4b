//! Lines to a Redis stream, by a thread and a connection of their own.
//!
//! What came meanwhile is sent together. What Redis doesn't take is kept, in order, and tried again every second; while that
//! lasts the queue fills, and then lines are dropped and counted. A line that was sent and not answered for is sent again, so
//! an entry may be there twice: `request_id` tells. The stream is bounded (`MAXLEN ~`), since it lies in the memory that
//! counters need: whoever reads it has to keep up.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender};

use crate::config::plan::UsageStream;
use crate::store::redis::{Endpoint, connect};

/// Lines that wait: as many as for the files.
const QUEUE_LINES: usize = 16_384;
/// Lines that are sent before answers are waited for.
const BATCH_LINES: usize = 256;
/// How often a Redis that didn't take them is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How long the end of the process waits for the last lines.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

/// Takes lines. Its thread ends with [`close`](Stream::close), or with the process.
#[derive(Debug)]
pub struct Stream {
    queue: Sender<Vec<u8>>,
    shared: Arc<Shared>,
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    dropped: AtomicU64,
    failing: AtomicBool,
    closing: Notify,
}

impl Stream {
    /// Starts the thread. A Redis that is gone is no error: it is tried again.
    ///
    /// # Errors
    /// When there is no thread to be had, or the URL isn't one.
    pub fn start(settings: &UsageStream) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = {
            let _inside = runtime.enter();
            connect(&Endpoint::from(&settings.redis))
                .map_err(|error| io::Error::other(error.why().to_owned()))?
        };
        let (queue, lines) = tokio::sync::mpsc::channel(QUEUE_LINES);
        let (end, ended) = channel();
        let shared = Arc::new(Shared::default());
        let sink = Sink {
            client,
            key: settings.key.clone(),
            most: settings.max_entries.to_string(),
            pending: VecDeque::new(),
            failing: false,
        };
        let seen = shared.clone();
        std::thread::Builder::new()
            .name("usage-stream".into())
            .spawn(move || {
                runtime.block_on(sink.run(lines, &seen));
                drop(end);
            })?;
        Ok(Self {
            queue,
            shared,
            ended: Mutex::new(ended),
        })
    }

    /// Hands over a line with its line end. Never waits.
    pub fn write(&self, line: Vec<u8>) {
        if self.queue.try_send(line).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that Redis never got.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Whether Redis didn't take the last lines.
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Sends what is queued and ends.
    pub fn close(&self) {
        self.shared.closing.notify_one();
        let ended = self.ended.lock().recv_timeout(CLOSE_WAIT);
        if ended == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the usage log's last lines couldn't be sent to Redis in time");
        }
    }
}

/// The thread's own.
struct Sink {
    client: Client,
    key: String,
    most: String,
    /// Taken from the queue and not in Redis yet; a batch at most.
    pending: VecDeque<Vec<u8>>,
    failing: bool,
}

impl Sink {
    async fn run(mut self, mut lines: Receiver<Vec<u8>>, shared: &Shared) {
        let mut closing = false;
        loop {
            if self.pending.is_empty() {
                tokio::select! {
                    line = lines.recv() => match line {
                        Some(line) => self.pending.push_back(line),
                        None => return,
                    },
                    () = shared.closing.notified(), if !closing => {
                        closing = true;
                        lines.close();
                        continue;
                    }
                }
            }
            self.gather(&mut lines);
            self.send().await;
            shared.failing.store(self.failing, Ordering::Relaxed);
            if self.pending.is_empty() {
                continue;
            }
            if !closing {
                closing = tokio::time::timeout(RETRY_EVERY, shared.closing.notified())
                    .await
                    .is_ok();
                continue;
            }
            // The last try failed.
            lines.close();
            let mut lost = self.pending.len() as u64;
            while lines.try_recv().is_ok() {
                lost += 1;
            }
            shared.dropped.fetch_add(lost, Ordering::Relaxed);
            tracing::error!(
                lines = lost,
                "the usage log's last lines couldn't be sent to Redis"
            );
            return;
        }
    }

    fn gather(&mut self, lines: &mut Receiver<Vec<u8>>) {
        while self.pending.len() < BATCH_LINES {
            match lines.try_recv() {
                Ok(line) => self.pending.push_back(line),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Sends all that is pending; what wasn't taken stays.
    async fn send(&mut self) {
        let sent = join_all(self.pending.iter().map(|line| self.add(line))).await;
        let mut error = None;
        let mut answers = sent.into_iter();
        self.pending.retain(|_| match answers.next() {
            Some(Ok(_)) => false,
            Some(Err(failed)) => {
                error = Some(failed);
                true
            }
            None => true,
        });
        match (error, self.failing) {
            (Some(error), false) => {
                tracing::error!(%error, "the usage log can't be sent to Redis; it is tried again")
            }
            (None, true) => tracing::info!("the usage log is sent to Redis again"),
            (Some(_), true) | (None, false) => {}
        }
        self.failing = !self.pending.is_empty();
    }

    async fn add(&self, line: &[u8]) -> Result<Value, fred::error::Error> {
        let command = CustomCommand::new_static("XADD", ClusterHash::FirstKey, false);
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let text = |text: &str| Value::from(text.to_owned());
        let arguments = vec![
            text(&self.key),
            text("MAXLEN"),
            text("~"),
            text(&self.most),
            text("*"),
            text("record"),
            Value::from(line.to_vec().as_slice()),
        ];
        self.client.custom(command, arguments).await
    }
}
