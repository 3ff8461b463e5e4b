//! One call over HTTP/1.1, on a connection of Pingora's pools.
//!
//! Why not Pingora's own client session: it writes a head by itself and a body by itself, copies each part of an answer
//! twice, and holds 64 KiB for as long as an answer lasts. Here head and body leave in one system call, what comes is
//! handed on as slices of one buffer that grows with what comes at once, and a silent stream holds a few KiB.
//! The connection, its TLS and its place in the pool are Pingora's.
//!
//! Never connects, never retries.

mod framing;
mod head;

use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::Method;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::io::AsyncReadExt;

use self::framing::Framing;
use super::silence::Silence;
use crate::wire;
use crate::within::within;

/// The first read is into a buffer of this size. Bytes.
const READ_MIN_BYTES: usize = 2 << 10;
/// Where reads are full, the next one is twice as large, up to this. Bytes.
const READ_MAX_BYTES: usize = 64 << 10;
/// As long are most events of a stream that is paced. Where so little comes, the next read is into half the room. Bytes.
const EVENT_BYTES: usize = 512;
/// And at least into this, which is held through silences; more isn't. Bytes.
const EVENTS_ROOM_BYTES: usize = 1 << 10;
/// Room for a request's head; most are smaller. Bytes.
const HEAD_BYTES: usize = 1 << 10;

/// A connection to a backend while one call is on it.
pub struct Http1 {
    stream: Stream,
    read: BytesMut,
    /// How much room was made for it at most, since it had none.
    room: usize,
    read_size: usize,
    looked_at: usize,
    answer: Option<Box<ResponseHeader>>,
    framing: Framing,
    keeps_alive: bool,
    is_head: bool,
    silence: Silence,
    write_timeout: Duration,
}

impl Http1 {
    /// A connection on which nothing is under way.
    pub fn new(stream: Stream, write_timeout: Duration) -> Self {
        Http1 {
            stream,
            read: BytesMut::new(),
            room: 0,
            read_size: READ_MIN_BYTES,
            looked_at: 0,
            answer: None,
            framing: Framing::Over,
            keeps_alive: false,
            is_head: false,
            silence: Silence::default(),
            write_timeout,
        }
    }

    /// The answer's head, once it was read.
    pub fn answer(&self) -> Option<&ResponseHeader> {
        self.answer.as_deref()
    }

    /// The answer's head, for whoever passes it on.
    pub fn take_answer(&mut self) -> Option<Box<ResponseHeader>> {
        self.answer.take()
    }

    /// Whether any of an answer came, an interim one or a part of a head.
    pub fn has_heard(&self) -> bool {
        self.answer.is_some() || !self.read.is_empty()
    }

    /// How long the next reads wait; for ever if `None`.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.silence.bound(timeout);
    }

    /// Sends a request's head, and with it as much of its body as is given.
    ///
    /// # Errors
    /// What went wrong with the connection; an answer may have come all the same.
    pub async fn send_head(&mut self, head: &RequestHeader, body: &mut Parts<'_>) -> Result<()> {
        self.is_head = head.method == Method::HEAD;
        let wire = on_wire(head);
        let mut slices = [IoSlice::new(&[]); SLICES];
        slices[0] = IoSlice::new(&wire);
        let count = 1 + body.fill(&mut slices[1..]);
        self.write(&mut slices[..count]).await
    }

    /// Sends some more of the body.
    ///
    /// # Errors
    /// As [`Http1::send_head`].
    pub async fn send_body(&mut self, body: &mut Parts<'_>) -> Result<()> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = body.fill(&mut slices);
        self.write(&mut slices[..count]).await
    }

    async fn write(&mut self, slices: &mut [IoSlice<'_>]) -> Result<()> {
        let written = wire::write_all(&mut self.stream, slices);
        match within(self.write_timeout, written).await {
            Some(written) => written.or_err(ErrorType::WriteError, "sending a request"),
            None => Error::e_explain(ErrorType::WriteTimedout, "sending a request"),
        }
    }

    /// Reads the next head: an interim one, or the answer's. Loses nothing when it is dropped while it waits.
    ///
    /// # Errors
    /// What went wrong with the connection, or with what came.
    pub async fn read_head(&mut self) -> Result<()> {
        loop {
            let end = head::end(&self.read, self.looked_at);
            if let Some(end) = end.filter(|end| *end <= head::HEAD_MAX_BYTES) {
                self.looked_at = 0;
                let head = head::take(&mut self.read, end, self.is_head);
                let head = head.map_err(|why| Error::explain(ErrorType::InvalidHTTPHeader, why))?;
                if let Some(head) = head {
                    self.framing = head.framing;
                    self.keeps_alive = head.keeps_alive;
                    self.answer = Some(head.answer);
                    return Ok(());
                }
                continue;
            }
            self.looked_at = self.read.len();
            if self.looked_at > head::HEAD_MAX_BYTES {
                return Error::e_explain(
                    ErrorType::InvalidHTTPHeader,
                    "an answer's head is too long",
                );
            }
            if self.read_more().await? == 0 {
                return Error::e_explain(ErrorType::ConnectionClosed, "before an answer's head");
            }
        }
    }

    /// The next bytes of the body, as many as have come; `None` after the last. Loses nothing when it is dropped while it
    /// waits.
    ///
    /// # Errors
    /// What went wrong with the connection, or with what came.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>> {
        poll_fn(|context| self.poll_body(context)).await
    }

    /// The same, asked once.
    pub fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            let taken = self.framing.take(&mut self.read);
            let taken = taken.map_err(|framing::Malformed| {
                self.keeps_alive = false;
                Error::explain(ErrorType::new("InvalidChunk"), "of an answer")
            })?;
            if !taken.is_empty() {
                return Poll::Ready(Ok(Some(taken)));
            }
            if self.framing == Framing::Over {
                return Poll::Ready(Ok(None));
            }
            let more = self.poll_more(context);
            if more.is_pending() {
                self.keep_little_room();
            }
            if ready!(more)? == 0 {
                self.keeps_alive = false;
                if self.framing == Framing::UntilClose {
                    self.framing = Framing::Over;
                    return Poll::Ready(Ok(None));
                }
                return Poll::Ready(Error::e_explain(
                    ErrorType::ConnectionClosed,
                    "in an answer's body",
                ));
            }
        }
    }

    /// Whether the answer was read to its end.
    pub fn is_over(&self) -> bool {
        self.framing == Framing::Over
    }

    async fn read_more(&mut self) -> Result<usize> {
        poll_fn(|context| self.poll_more(context)).await
    }

    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<usize>> {
        if self.read.capacity() - self.read.len() < self.read_size / 2 {
            self.read.reserve(self.read_size);
            self.room = self.room.max(self.read_size);
        }
        let room = self.read.capacity() - self.read.len();
        let read = pin!(self.stream.read_buf(&mut self.read)).poll(context);
        let read = match read {
            Poll::Ready(read) => read.or_err(ErrorType::ReadError, "reading an answer")?,
            Poll::Pending => {
                ready!(self.silence.poll_over(context));
                return Poll::Ready(Error::e_explain(
                    ErrorType::ReadTimedout,
                    "reading an answer",
                ));
            }
        };
        self.silence.broken();
        if read == room {
            self.read_size = (self.read_size * 2).min(READ_MAX_BYTES);
        } else if read <= EVENT_BYTES {
            self.read_size = (self.read_size / 2).max(EVENTS_ROOM_BYTES);
        }
        Poll::Ready(Ok(read))
    }

    /// While a body pauses, no more room is held than events need that come one by one.
    fn keep_little_room(&mut self) {
        if self.read.is_empty() && self.room > EVENTS_ROOM_BYTES {
            self.read = BytesMut::new();
            self.room = 0;
        }
    }

    /// The connection with what is known of its answer, for a while; until it is given back, nothing comes of this one.
    pub fn lend(&mut self) -> Self {
        std::mem::replace(self, Http1::new(wire::nowhere(), Duration::ZERO))
    }

    /// The connection, if another call can follow on it.
    pub fn into_reusable(self) -> Option<Stream> {
        let is_clean = self.keeps_alive && self.is_over() && self.read.is_empty();
        is_clean.then_some(self.stream)
    }
}

/// At most so many slices go into one write.
const SLICES: usize = 8;
/// And so many bytes of a body: the write timeout is for each, and a refusal that comes early is seen between two.
const AT_ONCE_BYTES: usize = 64 << 10;

/// A body's parts on their way out.
pub struct Parts<'b> {
    parts: &'b [Bytes],
    sent: usize,
}

impl<'b> Parts<'b> {
    /// Nothing sent yet.
    pub fn new(parts: &'b [Bytes]) -> Self {
        Parts { parts, sent: 0 }
    }

    /// Whether all was handed out.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().map(Bytes::len).sum::<usize>() == self.sent
    }

    /// Hands out the next slices; how many.
    fn fill<'s>(&mut self, slices: &mut [IoSlice<'s>]) -> usize
    where
        'b: 's,
    {
        let mut left = AT_ONCE_BYTES;
        let mut count = 0;
        while let (Some((first, rest)), true) = (self.parts.split_first(), left > 0) {
            let part = &first[self.sent..];
            let taken = part.len().min(left);
            if taken > 0 {
                let Some(slice) = slices.get_mut(count) else {
                    break;
                };
                *slice = IoSlice::new(&part[..taken]);
                count += 1;
                left -= taken;
            }
            match taken == part.len() {
                true => (self.parts, self.sent) = (rest, 0),
                false => self.sent += taken,
            }
        }
        count
    }
}

fn on_wire(head: &RequestHeader) -> BytesMut {
    let mut wire = BytesMut::with_capacity(HEAD_BYTES);
    wire.put_slice(head.method.as_str().as_bytes());
    wire.put_u8(b' ');
    wire.put_slice(head.raw_path());
    wire.put_slice(b" HTTP/1.1\r\n");
    head.header_to_h1_wire(&mut wire);
    wire.put_slice(b"\r\n");
    wire
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn parts_are_handed_out_in_order_and_in_bounded_writes() {
        let parts = [
            Bytes::from_static(b"a"),
            Bytes::new(),
            Bytes::from(vec![b'b'; AT_ONCE_BYTES]),
            Bytes::from_static(b"c"),
        ];
        let mut cursor = Parts::new(&parts);
        let mut all = Vec::new();
        let mut writes = Vec::new();
        while !cursor.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = cursor.fill(&mut slices);
            writes.push(
                slices[..count]
                    .iter()
                    .map(|slice| slice.len())
                    .sum::<usize>(),
            );
            slices[..count]
                .iter()
                .for_each(|slice| all.extend_from_slice(slice));
        }
        assert_eq!(all, parts.concat());
        assert_eq!(writes, [AT_ONCE_BYTES, 2]);
    }

    #[tokio::test]
    async fn a_silence_holds_no_more_room_than_small_events_need() {
        let (stream, mut backend) = tokio::io::duplex(1 << 20);
        let mut session = Http1::new(Box::new(stream), Duration::MAX);
        session.framing = Framing::UntilClose;
        let mut sizes = Vec::new();
        for length in [1 << 16, 100, 1000, 100, 100, 100, 100, 100, 100, 100] {
            assert!(session.read_body().now_or_never().is_none());
            assert!(session.room <= EVENTS_ROOM_BYTES && session.read.is_empty());
            backend.write_all(&vec![b'x'; length]).await.expect("room");
            let mut read = 0;
            while read < length {
                let came = session.read_body().await.expect("open");
                read += came.expect("more").len();
            }
            sizes.push(session.read_size);
        }
        assert!(
            sizes.is_sorted_by(|before, after| before >= after),
            "{sizes:?}"
        );
        assert!(
            sizes[0] > 1 << 14 && sizes[9] == EVENTS_ROOM_BYTES,
            "{sizes:?}"
        );
    }

    #[test]
    fn a_head_is_written_as_http_1_1() {
        let mut head = RequestHeader::build_no_case("POST", b"/v1/x?y=1", None).expect("valid");
        head.insert_header("host", "a.test").expect("valid");
        let wire = on_wire(&head);
        assert_eq!(
            wire.as_ref(),
            b"POST /v1/x?y=1 HTTP/1.1\r\nHost: a.test\r\n\r\n"
        );
    }
}
