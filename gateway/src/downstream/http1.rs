//! A caller's connection over HTTP/1.1 while its requests are plain.
//!
//! Why not Pingora's own server session: it reads each name of a head twice, copies a body twice, makes an answer's head
//! anew, and holds 4 KiB while it waits for a request. Here values and body are slices of what was read, a long body is
//! read to where it stays, and an answer's head leaves with its body in one system call.
//! What isn't plain (`head` says what is) goes to Pingora's session, byte by byte as it came.
//!
//! Never decides; waits for nothing but the caller.

use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::answer::{self, Answer};
use super::head;
use super::joined::Joined;
use super::link::Link;
use crate::within::within;

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
    link: Link,
    /// The head as it came, to be given back.
    raw: Bytes,
    request: RequestHeader,
    unread_body_bytes: usize,
    keeps_alive: bool,
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
            link: Link::new(stream, read),
            raw: Bytes::new(),
            request: nothing(),
            unread_body_bytes: 0,
            keeps_alive: false,
        }
    }

    /// The same connection for Pingora's session, with all that came of this request.
    pub fn into_joined(self) -> Joined {
        let read = &self.link.read;
        let mut unread = BytesMut::with_capacity(self.raw.len() + read.len());
        unread.put_slice(&self.raw);
        unread.put_slice(read);
        Joined::resumed(self.link.stream, unread)
    }

    /// The connection without its request, for a while; until it is given back, nothing comes of this one.
    pub fn lend(&mut self) -> Link {
        std::mem::replace(&mut self.link, Link::nowhere())
    }

    /// Ends that while.
    pub fn give_back(&mut self, link: Link) {
        self.link = link;
    }

    /// Waits for the next request's head. Loses nothing when it is dropped while it waits.
    pub async fn next(&mut self) -> Came {
        if self.link.read.is_empty() && !matches!(self.link.read_some().await, Ok(1..)) {
            return Came::Nothing;
        }
        let Some(end) = head::end(&self.link.read) else {
            return Came::Odd;
        };
        self.raw = self.link.read.split_to(end).freeze();
        let Some(head) = head::plain(&self.raw) else {
            return Came::Odd;
        };
        self.request = head.request;
        self.unread_body_bytes = head.body_bytes;
        self.keeps_alive = head.keeps_alive;
        self.link.answer = Answer::None;
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
        self.link.write_timeout = timeout;
    }

    /// Reads the whole body. It isn't copied if it came with the head.
    ///
    /// # Errors
    /// When the connection ends before.
    pub async fn read_body(&mut self) -> io::Result<Bytes> {
        let length = self.unread_body_bytes;
        let Link { stream, read, .. } = &mut self.link;
        if read.len() >= length {
            self.unread_body_bytes = 0;
            return Ok(read.split_to(length).freeze());
        }
        let mut whole = BytesMut::with_capacity(length);
        whole.put_slice(read);
        self.unread_body_bytes -= whole.len();
        *read = BytesMut::new();
        while self.unread_body_bytes > 0 {
            let room = self.unread_body_bytes as u64;
            match (&mut *stream).take(room).read_buf(&mut whole).await? {
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
            if self.link.read.is_empty() {
                let read = within(silence, self.link.read_some()).await;
                if read.ok_or(io::ErrorKind::TimedOut)?? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            let taken = self.link.read.len().min(self.unread_body_bytes);
            self.link.read.advance(taken);
            self.unread_body_bytes -= taken;
        }
        Ok(())
    }

    /// Ends when the caller leaves. What it sends meanwhile is kept.
    pub fn poll_leaves(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.link.poll_leaves(context)
    }

    /// Whether the answer's head was written.
    pub fn has_begun(&self) -> bool {
        self.link.answer != Answer::None
    }

    /// What is written from now on may leave with what follows it.
    pub fn hold(&mut self, holds: bool) {
        self.link.hold(holds);
    }

    /// Writes the answer's head; it leaves with the body, or when something is waited for.
    pub fn write_head(&mut self, head: &ResponseHeader) {
        let answer = Answer::of(head);
        self.link.answer = answer;
        // A body that nobody reads would be taken for the next request.
        self.keeps_alive &= self.unread_body_bytes == 0 && answer != Answer::UntilClose;
        answer::write_head(&mut self.link.held, head, !self.keeps_alive);
    }

    /// Writes some of the body; with `end` the last of it.
    ///
    /// # Errors
    /// The caller has gone or takes nothing, or the body isn't as long as was stated.
    pub async fn write_body(&mut self, body: Bytes, end: bool) -> Result<()> {
        let written = self.link.write_body(body, end).await;
        self.keeps_alive &= written.is_ok();
        written
    }

    /// The answer is over; whether another request may follow. Where none does, the caller is told so by TLS.
    pub async fn finish(&mut self) -> bool {
        let is_clean = self.link.answer == Answer::Whole && self.unread_body_bytes == 0;
        if self.keeps_alive && is_clean {
            self.request = nothing();
            self.raw = Bytes::new();
            return true;
        }
        // Whoever isn't there any more can't be told.
        let _gone = within(self.link.write_timeout, self.link.stream.shutdown()).await;
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
    use std::future::poll_fn;

    use pingora::protocols::l4::stream::Stream as Tcp;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::link::READ_BYTES;
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
                own.write_body(Bytes::from_static(b"ok and more"), true)
                    .await
                    .unwrap();
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
        own.write_body(Bytes::new(), false).await.unwrap();
        own.write_body(Bytes::from_static(&[b'x'; 26]), false)
            .await
            .unwrap();
        own.hold(true);
        own.write_body(Bytes::from_static(b"held"), false)
            .await
            .unwrap();
        own.hold(false);
        own.write_body(Bytes::new(), true).await.unwrap();
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
        assert_eq!(own.link.read, "GET /next");
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
            let written = own
                .write_body(Bytes::from_static(body.as_bytes()), true)
                .await;
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
