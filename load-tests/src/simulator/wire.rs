//! A TCP connection that can be broken from inside an answer.
//!
//! hyper has no way to send a RST, a 103, or an HTTP/1.1 body that only the close ends. All three are a matter of a few
//! bytes or of how the socket is dropped, so they are done under hyper. Nothing here knows what a request is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// The answer's side of a connection.
#[derive(Debug, Default)]
pub(crate) struct Link {
    reset: AtomicBool,
    close_delimited: AtomicBool,
    prefix: Mutex<Bytes>,
    flushes: AtomicU64,
    handed_over_at: AtomicU64,
    flushed: Notify,
}

impl Link {
    /// From now on every read and write fails, and dropping the socket sends a RST.
    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::SeqCst);
    }

    /// Sends these bytes before whatever hyper writes next.
    pub(crate) fn prefix(&self, bytes: Bytes) {
        *self.prefix.lock() = bytes;
    }

    /// Turns the next `HTTP/1.0 ` of a status line into `HTTP/1.1 `.
    pub(crate) fn claim_http11(&self) {
        self.close_delimited.store(true, Ordering::SeqCst);
    }

    pub(crate) fn flush_count(&self) -> u64 {
        self.flushes.load(Ordering::SeqCst)
    }

    /// Notes that hyper got bytes to send when so many flushes had been made.
    pub(crate) fn note_handed_over(&self, flushes: u64) {
        self.handed_over_at.store(flushes, Ordering::SeqCst);
    }

    /// Waits until hyper has flushed what it got last, or until the bound: a reader that has stopped reading must not
    /// stop the break that a test asked for.
    pub(crate) async fn flushed_since_handed_over(&self) {
        let wait = async {
            loop {
                let flushed = self.flushed.notified();
                tokio::pin!(flushed);
                flushed.as_mut().enable();
                if self.flush_count() > self.handed_over_at.load(Ordering::SeqCst) {
                    return;
                }
                flushed.await;
            }
        };
        let _ = tokio::time::timeout(FLUSH_BOUND, wait).await;
        // Over HTTP/2 the flush may have been another stream's.
        tokio::time::sleep(SETTLE).await;
    }

    fn is_reset(&self) -> bool {
        self.reset.load(Ordering::SeqCst)
    }
}

const FLUSH_BOUND: Duration = Duration::from_millis(250);
const SETTLE: Duration = Duration::from_millis(5);

/// What hyper reads and writes.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    link: Arc<Link>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, link: Arc<Link>) -> Self {
        Self { stream, link }
    }

    fn write_prefix(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut prefix = self.link.prefix.lock();
        while !prefix.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &prefix) {
                Poll::Ready(Ok(written)) => prefix.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.link.is_reset() {
            // If it fails the peer sees a plain close: the socket is gone already.
            let _ = self.stream.set_zero_linger();
        }
    }
}

fn broken<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.link.is_reset() {
            return broken();
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.link.is_reset() {
            return broken();
        }
        match self.write_prefix(context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        if bytes.starts_with(OLD_VERSION) && self.link.close_delimited.swap(false, Ordering::SeqCst)
        {
            self.link.prefix(Bytes::from_static(NEW_VERSION));
            return Poll::Ready(Ok(OLD_VERSION.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.is_reset() {
            return broken();
        }
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.link.flushes.fetch_add(1, Ordering::SeqCst);
            self.link.flushed.notify_waiters();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.is_reset() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

const OLD_VERSION: &[u8] = b"HTTP/1.0 ";
const NEW_VERSION: &[u8] = b"HTTP/1.1 ";
