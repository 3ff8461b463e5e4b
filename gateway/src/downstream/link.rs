//! What a caller's connection is made of besides the request that is on it: the stream, what was read ahead of it, and what
//! of the answer is on its way.
//!
//! It can be lent: whoever passes a stream of events on holds it by itself, and gives it back when the stream is over.
//! Never reads what bytes say; waits for nothing but the caller.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pingora::protocols::Stream;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::answer::{Answer, Frame};
use crate::wire;

/// The first read of a request. A longer head isn't plain. Bytes.
pub const READ_BYTES: usize = 8 << 10;
/// So much of requests to come is read while one is served. Bytes.
const AHEAD_MAX_BYTES: usize = 16 << 10;
/// So much is held back to leave with what follows it. Bytes.
const HELD_MAX_BYTES: usize = 16 << 10;

/// A caller's connection.
pub struct Link {
    /// The connection itself.
    pub stream: Stream,
    /// What came and isn't used yet.
    pub read: BytesMut,
    /// How far the answer is.
    pub answer: Answer,
    /// What leaves with the next write.
    pub held: BytesMut,
    holds: bool,
    out: Option<Out>,
    /// Runs while the caller takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// How long a write waits for the caller to take something.
    pub write_timeout: Duration,
}

/// Some of an answer's body on its way, after what is held.
struct Out {
    frame: Frame,
    body: Bytes,
    sent: usize,
}

impl Link {
    /// A connection on which nothing is under way; what was read of it already comes first.
    pub fn new(stream: Stream, read: BytesMut) -> Self {
        Link {
            stream,
            read,
            answer: Answer::Whole,
            held: BytesMut::new(),
            holds: false,
            out: None,
            stalled: None,
            write_timeout: Duration::MAX,
        }
    }

    /// In the place of one that was lent: nothing comes of it, and nothing can be written.
    pub fn nowhere() -> Self {
        Link::new(wire::nowhere(), BytesMut::new())
    }

    /// What is written from now on may leave with what follows it.
    pub fn hold(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// Ends when the caller leaves. What it sends meanwhile is kept.
    pub fn poll_leaves(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.read.len() < AHEAD_MAX_BYTES {
            match self.poll_read_some(context) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        self.let_go(context);
        Poll::Pending
    }

    /// Reads what has come, up to a bound; how much. No room is kept for it while nothing comes.
    pub async fn read_some(&mut self) -> io::Result<usize> {
        poll_fn(|context| self.poll_read_some(context)).await
    }

    fn poll_read_some(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut room);
        let read = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
        if read.is_pending() {
            self.keep_no_room();
        }
        ready!(read)?;
        self.read.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn keep_no_room(&mut self) {
        for buffer in [&mut self.read, &mut self.held] {
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
        }
    }

    /// Whoever waits for somebody has nothing more to say for now: what is held leaves. An error shows with the next write.
    fn let_go(&mut self, context: &mut Context<'_>) {
        self.holds = false;
        if self.out.is_some() {
            // It takes along what is held.
            return;
        }
        while !self.held.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.held) {
                Poll::Ready(Ok(written @ 1..)) => self.held.advance(written),
                Poll::Ready(Ok(0) | Err(_)) | Poll::Pending => return,
            }
        }
        if self.held.capacity() > 0 {
            self.keep_no_room();
            let _later = Pin::new(&mut self.stream).poll_flush(context);
        }
    }

    /// Writes some of the body; with `end` the last of it.
    ///
    /// # Errors
    /// The caller has gone or takes nothing, or the body isn't as long as was stated.
    pub async fn write_body(&mut self, body: Bytes, end: bool) -> Result<()> {
        self.put(body, end)?;
        poll_fn(|context| self.poll_out(context)).await?;
        match (end, self.answer) {
            (true, Answer::Length(1..)) => {
                Error::e_explain(ErrorType::WriteError, "a body is shorter than stated")
            }
            (true, _) => {
                self.answer = Answer::Whole;
                Ok(())
            }
            (false, _) => Ok(()),
        }
    }

    /// Puts some of the body on its way, which [`Link::poll_out`] goes; with `end` the last of it.
    ///
    /// # Errors
    /// The write before was given up half-way.
    pub fn put(&mut self, body: Bytes, end: bool) -> Result<()> {
        if self.out.is_some() {
            return Error::e_explain(ErrorType::WriteError, "a write was given up half-way");
        }
        let frame = self.answer.frame(body.len(), end);
        let length = frame.before().len() + frame.body_bytes + frame.after.len();
        if self.holds && !end && self.held.len() + length <= HELD_MAX_BYTES {
            for part in [frame.before(), &body[..frame.body_bytes], frame.after] {
                self.held.put_slice(part);
            }
            return Ok(());
        }
        self.out = Some(Out {
            frame,
            body,
            sent: 0,
        });
        Ok(())
    }

    /// Writes what was put on its way, until all of it has left.
    pub fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(out) = &mut self.out else {
            return Poll::Ready(Ok(()));
        };
        let before = out.sent;
        let written = match out.poll_write(&mut self.stream, &self.held, context) {
            Poll::Ready(written) => written.or_err(ErrorType::WriteError, "answering a caller"),
            Poll::Pending => {
                if out.sent > before {
                    // It has taken something: it is slow, and not gone.
                    self.stalled = None;
                }
                let timeout = self.write_timeout;
                let stalled = self
                    .stalled
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
                ready!(stalled.as_mut().poll(context));
                Error::e_explain(ErrorType::WriteTimedout, "answering a caller")
            }
        };
        self.stalled = None;
        // A stream that waits keeps no room for what is written.
        self.held = BytesMut::new();
        if written.is_ok() {
            self.out = None;
        }
        Poll::Ready(written)
    }
}

impl Out {
    fn poll_write(
        &mut self,
        stream: &mut Stream,
        held: &[u8],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let body = &self.body[..self.frame.body_bytes];
        loop {
            let mut slices = [held, self.frame.before(), body, self.frame.after].map(IoSlice::new);
            let mut left = &mut slices[..];
            IoSlice::advance_slices(&mut left, self.sent);
            if left.iter().all(|slice| slice.is_empty()) {
                return Pin::new(stream).poll_flush(context);
            }
            self.sent += ready!(wire::poll_write(stream, context, left))?;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, DuplexStream};

    use super::*;

    /// In the middle of a chunked answer, with a caller that takes so many bytes before it reads.
    fn answering(room: usize) -> (Link, DuplexStream) {
        let (stream, caller) = tokio::io::duplex(room);
        let mut link = Link::new(Box::new(stream), BytesMut::new());
        link.answer = Answer::Chunked;
        (link, caller)
    }

    #[tokio::test]
    async fn a_caller_that_takes_little_gets_all_in_order() {
        let long = "x".repeat(10_000);
        for room in [1, 100, 1 << 20] {
            let (mut link, mut caller) = answering(room);
            let written = async {
                link.held.put_slice(b"head ");
                for body in ["short", &long, ""] {
                    link.put(Bytes::copy_from_slice(body.as_bytes()), false)
                        .unwrap();
                    poll_fn(|context| link.poll_out(context)).await.unwrap();
                }
                link.hold(true);
                link.write_body(Bytes::from_static(b"held"), false)
                    .await
                    .unwrap();
                link.hold(false);
                link.write_body(Bytes::from_static(b"last"), true)
                    .await
                    .unwrap();
                drop(link);
            };
            let mut read = String::new();
            let (_, read_bytes) = tokio::join!(written, caller.read_to_string(&mut read));
            read_bytes.unwrap();
            let wanted = format!("2710\r\n{long}\r\n4\r\nheld\r\n4\r\nlast\r\n0\r\n\r\n");
            assert_eq!(read, format!("head 5\r\nshort\r\n{wanted}"), "{room}");
        }
    }

    #[tokio::test]
    async fn a_caller_that_takes_nothing_is_waited_for_as_long_as_was_said() {
        let (mut link, _caller) = answering(4);
        link.write_timeout = Duration::from_millis(20);
        let body = Bytes::from_static(b"more than four");
        let error = link.write_body(body.clone(), false).await.unwrap_err();
        assert_eq!(*error.etype(), ErrorType::WriteTimedout);
        // What would follow isn't where it belongs.
        assert!(link.put(body, false).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_takes_a_little_now_and_then_gets_all_of_it() {
        let (mut link, mut caller) = answering(4);
        link.write_timeout = Duration::from_secs(60);
        let written = link.write_body(Bytes::from(vec![b'x'; 100]), false);
        let taken = async {
            let mut taken = 0;
            while taken < 106 {
                tokio::time::sleep(Duration::from_secs(40)).await;
                taken += caller.read(&mut [0; 4]).await.unwrap();
            }
        };
        tokio::join!(written, taken).0.unwrap();
    }

    #[tokio::test]
    async fn a_write_that_is_given_up_half_way_is_the_last() {
        let (mut link, mut caller) = answering(4);
        let body = Bytes::from_static(b"more than four");
        assert!(
            link.write_body(body.clone(), false)
                .now_or_never()
                .is_none()
        );
        assert!(link.write_body(body, true).await.is_err());
        drop(link);
        let mut read = String::new();
        caller.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "e\r\nm");
    }

    #[tokio::test]
    async fn nothing_comes_of_a_connection_that_was_lent_and_nothing_goes_over_it() {
        let mut lent = Link::nowhere();
        assert_eq!(lent.read_some().await.unwrap(), 0);
        lent.answer = Answer::UntilClose;
        let written = lent.write_body(Bytes::from_static(b"x"), false).await;
        assert!(written.is_err());
    }
}
