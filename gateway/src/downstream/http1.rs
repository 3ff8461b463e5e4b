//! A caller's connection over HTTP/1.1 while its requests are plain.
//!
//! Why not Pingora's own server session: it reads each name of a head twice, copies a body twice, makes an answer's head
//! anew, and holds 4 KiB while it waits for a request. Here values and body are slices of what was read, a long body is
//! read to where it stays, and an answer's head leaves with its body in one system call.
//! What isn't plain (`head` says what is) goes to Pingora's session, byte by byte as it came.
//!
//! Never decides; waits for nothing but the caller.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::answer::{self, Answer};
use super::head;
use super::joined::Joined;
use crate::wire;
use crate::within::within;

/// The first read of a request. A longer head isn't plain. Bytes.
const READ_BYTES: usize = 8 << 10;
/// So much of requests to come is read while one is served. Bytes.
const AHEAD_MAX_BYTES: usize = 16 << 10;
/// So much is held back to leave with what follows it. Bytes.
const HELD_MAX_BYTES: usize = 16 << 10;

/// What came of waiting for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// A request that can be served here.
    Plain,
    /// Something else, for Pingora's session.
    Odd,
    /// Nothing: the caller has gone.
    Nothing,
}

/// A caller's connection.
pub struct Http1 {
    stream: Stream,
    /// What came and isn't used yet.
    read: BytesMut,
    /// The head as it came, to be given back.
    raw: Bytes,
    request: RequestHeader,
    unread_body_bytes: usize,
    keeps_alive: bool,
    answer: Answer,
    /// What leaves with the next write.
    held: BytesMut,
    holds: bool,
    write_timeout: Duration,
    peer: Option<IpAddr>,
    is_secure: bool,
}

impl Http1 {
    /// A connection on which nothing is under way; what was read of it already comes first.
    pub fn new(joined: Joined) -> Self {
        let (stream, read) = joined.into_parts();
        let digest = stream.get_socket_digest();
        let peer = digest.and_then(|digest| Some(digest.peer_addr()?.as_inet()?.ip()));
        Http1 {
            peer,
            is_secure: stream.get_ssl_digest().is_some(),
            stream,
            read,
            raw: Bytes::new(),
            request: nothing(),
            unread_body_bytes: 0,
            keeps_alive: false,
            answer: Answer::Whole,
            held: BytesMut::new(),
            holds: false,
            write_timeout: Duration::MAX,
        }
    }

    /// The same connection for Pingora's session, with all that came of this request.
    pub fn into_joined(self) -> Joined {
        let mut unread = BytesMut::with_capacity(self.raw.len() + self.read.len());
        unread.put_slice(&self.raw);
        unread.put_slice(&self.read);
        Joined::resumed(self.stream, unread)
    }

    /// Waits for the next request's head. Loses nothing when it is dropped while it waits.
    pub async fn next(&mut self) -> Came {
        if self.read.is_empty() {
            let read = poll_fn(|context| self.poll_read_some(context)).await;
            if !matches!(read, Ok(1..)) {
                return Came::Nothing;
            }
        }
        let Some(end) = head::end(&self.read) else {
            return Came::Odd;
        };
        self.raw = self.read.split_to(end).freeze();
        let Some(head) = head::plain(&self.raw) else {
            return Came::Odd;
        };
        self.request = head.request;
        self.unread_body_bytes = head.body_bytes;
        self.keeps_alive = head.keeps_alive;
        self.answer = Answer::None;
        Came::Plain
    }

    /// The request's head.
    pub fn request(&self) -> &RequestHeader {
        &self.request
    }

    /// Where the caller is.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Whether it came by TLS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// What is still to be read of the request's body. Bytes.
    pub fn unread_body_bytes(&self) -> usize {
        self.unread_body_bytes
    }

    /// No request follows this one.
    pub fn close(&mut self) {
        self.keeps_alive = false;
    }

    /// How long a write waits for the caller to take it.
    pub fn set_write_timeout(&mut self, timeout: Duration) {
        self.write_timeout = timeout;
    }

    /// Reads the whole body. It isn't copied if it came with the head.
    ///
    /// # Errors
    /// When the connection ends before.
    pub async fn read_body(&mut self) -> io::Result<Bytes> {
        let length = self.unread_body_bytes;
        if self.read.len() >= length {
            self.unread_body_bytes = 0;
            return Ok(self.read.split_to(length).freeze());
        }
        let mut whole = BytesMut::with_capacity(length);
        whole.put_slice(&self.read);
        self.unread_body_bytes -= whole.len();
        self.read = BytesMut::new();
        while self.unread_body_bytes > 0 {
            let room = self.unread_body_bytes as u64;
            match (&mut self.stream).take(room).read_buf(&mut whole).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.unread_body_bytes -= read,
            }
        }
        Ok(whole.freeze())
    }

    /// Reads what is left of the body, for nobody.
    ///
    /// # Errors
    /// When the connection ends before, or nothing more comes for as long as this.
    pub async fn drain(&mut self, silence: Duration) -> io::Result<()> {
        while self.unread_body_bytes > 0 {
            if self.read.is_empty() {
                let read = poll_fn(|context| self.poll_read_some(context));
                let read = within(silence, read).await;
                if read.ok_or(io::ErrorKind::TimedOut)?? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            let taken = self.read.len().min(self.unread_body_bytes);
            self.read.advance(taken);
            self.unread_body_bytes -= taken;
        }
        Ok(())
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

    /// Reads what has come, up to a bound. No room is kept for it while nothing comes.
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

    /// Whether the answer's head was written.
    pub fn has_begun(&self) -> bool {
        self.answer != Answer::None
    }

    /// What is written from now on may leave with what follows it.
    pub fn hold(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// Writes the answer's head; it leaves with the body, or when something is waited for.
    pub fn write_head(&mut self, head: &ResponseHeader) {
        self.answer = Answer::of(head);
        // A body that nobody reads would be taken for the next request.
        self.keeps_alive &= self.unread_body_bytes == 0 && self.answer != Answer::UntilClose;
        answer::write_head(&mut self.held, head, !self.keeps_alive);
    }

    /// Writes some of the body; with `end` the last of it.
    ///
    /// # Errors
    /// The caller has gone or takes nothing, or the body isn't as long as was stated.
    pub async fn write_body(&mut self, body: &[u8], end: bool) -> Result<()> {
        let mut line = [0; answer::SIZE_LINE_BYTES];
        let [before, body, after] = self.answer.frame(body, end, &mut line);
        let length = before.len() + body.len() + after.len();
        if self.holds && !end && self.held.len() + length <= HELD_MAX_BYTES {
            for part in [before, body, after] {
                self.held.put_slice(part);
            }
            return Ok(());
        }
        self.write([before, body, after]).await?;
        match (end, self.answer) {
            (false, _) => Ok(()),
            (true, Answer::Length(1..)) => {
                self.keeps_alive = false;
                Error::e_explain(ErrorType::WriteError, "a body is shorter than stated")
            }
            (true, _) => {
                self.answer = Answer::Whole;
                Ok(())
            }
        }
    }

    async fn write(&mut self, parts: [&[u8]; 3]) -> Result<()> {
        let mut slices = [&self.held[..], parts[0], parts[1], parts[2]].map(IoSlice::new);
        let written = wire::write_all(&mut self.stream, &mut slices);
        let written = within(self.write_timeout, written).await;
        // A stream that waits keeps no room for what is written.
        self.held = BytesMut::new();
        match written {
            Some(written) => written.or_err(ErrorType::WriteError, "answering a caller"),
            None => Error::e_explain(ErrorType::WriteTimedout, "answering a caller"),
        }
    }

    /// The answer is over; whether another request may follow. Where none does, the caller is told so by TLS.
    pub async fn finish(&mut self) -> bool {
        let is_clean = self.answer == Answer::Whole && self.unread_body_bytes == 0;
        if self.keeps_alive && is_clean {
            self.request = nothing();
            self.raw = Bytes::new();
            return true;
        }
        // Whoever isn't there any more can't be told.
        let _gone = within(self.write_timeout, self.stream.shutdown()).await;
        false
    }
}

/// A request before there is one.
fn nothing() -> RequestHeader {
    RequestHeader::from(http::Request::new(()).into_parts().0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pingora::protocols::l4::stream::Stream as Tcp;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn connected() -> (Http1, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap());
        let caller = caller.await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let mut own = Http1::new(Joined::new(Box::new(Tcp::from(accepted))));
        own.set_write_timeout(Duration::from_secs(10));
        (own, caller)
    }

    /// After the head of a request with these fields.
    async fn asked(fields: &str) -> (Http1, TcpStream) {
        let (mut own, mut caller) = connected().await;
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        caller.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(own.next().await, Came::Plain);
        (own, caller)
    }

    fn head(status: u16, fields: &[(&'static str, &'static str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build_no_case(status, None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    async fn read(caller: &mut TcpStream, bytes: usize) -> String {
        let mut read = vec![0; bytes];
        caller.read_exact(&mut read).await.unwrap();
        String::from_utf8(read).unwrap()
    }

    #[tokio::test]
    async fn requests_come_one_after_the_other_with_their_bodies() {
        let (mut own, mut caller) = connected().await;
        let long = vec![b'x'; 3 * READ_BYTES];
        let length = long.len();
        let first = "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\none";
        let second = format!("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        let third = "GET /c HTTP/1.1\r\nhost: a\r\n\r\n";
        let all = [first.as_bytes(), second.as_bytes(), &long, third.as_bytes()].concat();
        let sent = async {
            caller.write_all(&all).await.unwrap();
            caller
        };
        let served = async {
            for (path, body) in [("/a", &b"one"[..]), ("/b", &long), ("/c", b"")] {
                assert_eq!(own.next().await, Came::Plain);
                assert_eq!(own.request().uri, path);
                assert_eq!(own.unread_body_bytes(), body.len());
                assert_eq!(own.read_body().await.unwrap(), body);
                own.write_head(&head(200, &[("content-length", "2"), ("date", "now")]));
                own.write_body(b"ok and more", true).await.unwrap();
                assert!(own.finish().await, "{path}");
            }
        };
        let (mut caller, ()) = tokio::join!(sent, served);
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ndate: now\r\n\r\nok";
        assert_eq!(read(&mut caller, 3 * answer.len()).await, answer.repeat(3));
        drop(caller);
        assert_eq!(own.next().await, Came::Nothing);
    }

    #[tokio::test]
    async fn an_answer_of_unknown_length_comes_in_chunks() {
        let (mut own, mut caller) = asked("").await;
        own.write_head(&head(
            200,
            &[("transfer-encoding", "chunked"), ("date", "now")],
        ));
        own.write_body(b"", false).await.unwrap();
        own.write_body(&[b'x'; 26], false).await.unwrap();
        own.hold(true);
        own.write_body(b"held", false).await.unwrap();
        own.hold(false);
        own.write_body(b"", true).await.unwrap();
        assert!(own.finish().await);
        drop(own);
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        let chunks = format!("1a\r\n{}\r\n4\r\nheld\r\n0\r\n\r\n", "x".repeat(26));
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ndate: now\r\n\r\n";
        assert_eq!(answer, format!("{head}{chunks}"));
    }

    #[tokio::test]
    async fn a_head_leaves_when_something_is_waited_for() {
        let (mut own, mut caller) = asked("").await;
        own.write_head(&head(200, &[("content-length", "2"), ("date", "now")]));
        let (told, ()) = tokio::join!(
            async {
                let told = read(&mut caller, 15).await;
                caller.write_all(b"GET /next").await.unwrap();
                caller.shutdown().await.unwrap();
                told
            },
            poll_fn(|context| own.poll_leaves(context))
        );
        assert_eq!(told, "HTTP/1.1 200 OK");
        assert_eq!(own.read, "GET /next");
    }

    #[tokio::test]
    async fn a_connection_ends_where_no_request_may_follow() {
        for (request, status, fields, body) in [
            // Whoever asks for it.
            (
                "connection: close\r\n",
                200,
                &[("content-length", "2")][..],
                "ok",
            ),
            // A body that nobody read.
            (
                "content-length: 9\r\n",
                401,
                &[("content-length", "2")],
                "ok",
            ),
            // An answer that ends with it.
            ("", 200, &[], "ok"),
            // One that is shorter than stated.
            ("", 200, &[("content-length", "3")], "ok"),
        ] {
            let (mut own, mut caller) = asked(request).await;
            own.write_head(&head(status, fields));
            let written = own.write_body(body.as_bytes(), true).await;
            assert_eq!(written.is_err(), fields == [("content-length", "3")]);
            assert!(!own.finish().await, "{request}");
            let mut answer = String::new();
            caller.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
            assert!(answer.contains("date: "), "{answer}");
        }
    }

    #[tokio::test]
    async fn what_is_not_plain_is_given_back_as_it_came() {
        for request in [
            "GET / HTTP/1.0\r\n\r\nand more",
            "GET / HTTP/1.1\r\nhost",
            "no request",
        ] {
            let (mut own, mut caller) = connected().await;
            caller.write_all(request.as_bytes()).await.unwrap();
            assert_eq!(own.next().await, Came::Odd);
            let mut given = vec![0; request.len()];
            own.into_joined().read_exact(&mut given).await.unwrap();
            assert_eq!(given, request.as_bytes());
        }
    }
}
