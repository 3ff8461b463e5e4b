//! A caller's connection as Pingora serves it, with its small writes joined.
//!
//! Pingora writes an answer's head, its body and its last chunk one by one, each by a system call, and each costs more
//! than all that was decided about the call. While a connection is told to hold, what is written waits here, up to a
//! bound; it leaves with the next write that isn't held, in one call, or at the latest when the caller is waited for.
//!
//! It also keeps what was read of a request until it is known who serves it, so that it can be read again.
//! Never changes a byte, or their order.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::apps::HttpPersistentSettings;
use pingora::protocols::http::ServerSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// No more than this is held. Bytes.
const HELD_MAX_BYTES: usize = 16 << 10;
/// So many slices are written along with what is held; the rest follow.
const SLICES: usize = 8;

/// A caller's connection.
#[derive(Debug)]
pub struct Joined {
    stream: Stream,
    held: BytesMut,
    holds: AtomicBool,
    /// Read before anything of the stream.
    unread: BytesMut,
    /// Read since the request began, if it is kept.
    kept: BytesMut,
    /// How much of it may be kept; nothing is where this is 0. Bytes.
    keeps: AtomicUsize,
}

/// Keeps what is read from now on, so that it can be put back; no more is read after so much.
pub fn keep(session: &ServerSession, at_most: usize) {
    if let Some(joined) = of(session) {
        joined.keeps.store(at_most, Ordering::Relaxed);
    }
}

/// Keeps nothing any more.
pub fn forget(session: &ServerSession) {
    keep(session, 0);
}

/// Whether anything of a request was kept. Empty lines before one are nothing: some callers end a body by one.
pub fn has_begun(session: &ServerSession) -> bool {
    let is_said = |byte: &u8| !matches!(byte, b'\r' | b'\n');
    of(session).is_some_and(|joined| joined.kept.iter().any(is_said))
}

/// Whether the head that was read was kept from its beginning.
pub fn is_kept(session: &ServerSession) -> bool {
    let head = session
        .as_http1()
        .map(|session| session.get_headers_raw_bytes());
    let joined = of(session).zip(head);
    joined.is_some_and(|(joined, head)| joined.kept.starts_with(&head))
}

/// Whether as much was kept as may be.
pub fn is_full(session: &ServerSession) -> bool {
    of(session).is_some_and(Joined::is_full)
}

/// A session on the same connection, in which the request is to be read again; `None` where its beginning wasn't read here.
pub fn put_back(session: ServerSession) -> Option<ServerSession> {
    let settings = HttpPersistentSettings::for_session(&session);
    let ServerSession::H1(session) = session else {
        return None;
    };
    let mut joined = session.into_inner().into_any().downcast::<Joined>().ok()?;
    joined.keeps = AtomicUsize::new(0);
    let unread = std::mem::replace(&mut joined.unread, BytesMut::new());
    joined.unread = std::mem::take(&mut joined.kept);
    joined.unread.extend_from_slice(&unread);
    let mut session = ServerSession::new_http1(joined);
    settings.apply_to_session(&mut session);
    Some(session)
}

/// The connection after a request, with what was read of the next one.
pub fn with_unread(stream: Stream, next: Option<BytesMut>) -> Option<Joined> {
    let mut joined = *stream.into_any().downcast::<Joined>().ok()?;
    if let Some(mut next) = next {
        // Whoever read it may not have read all that had come.
        next.extend_from_slice(&joined.unread);
        joined.unread = next;
    }
    Some(joined)
}

/// The next write takes along what is held (`false`), or is held itself (`true`).
pub fn hold(session: &ServerSession, holds: bool) {
    if let Some(joined) = of(session) {
        joined.holds.store(holds, Ordering::Relaxed);
    }
}

fn of(session: &ServerSession) -> Option<&Joined> {
    let stream = session.as_http1()?.stream();
    stream.as_ref().as_any().downcast_ref()
}

impl Joined {
    /// Holds nothing yet.
    pub fn new(stream: Stream) -> Self {
        Joined::resumed(stream, BytesMut::new())
    }

    /// Where this was read of the stream already.
    pub fn resumed(stream: Stream, unread: BytesMut) -> Self {
        Joined {
            stream,
            held: BytesMut::new(),
            holds: AtomicBool::new(false),
            unread,
            kept: BytesMut::new(),
            keeps: AtomicUsize::new(0),
        }
    }

    /// The stream, and what was read of it and not by whoever it is for.
    pub fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.unread)
    }

    /// Waits for this many bytes, which whoever serves the connection then reads.
    ///
    /// # Errors
    /// When the connection ends before.
    pub async fn expect(&mut self, length: usize) -> io::Result<()> {
        self.unread.reserve(length);
        while self.unread.len() < length {
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    fn poll_read_any(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(length));
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn is_full(&self) -> bool {
        let at_most = self.keeps.load(Ordering::Relaxed);
        at_most > 0 && self.kept.len() >= at_most
    }

    fn holds(&self, more_bytes: usize) -> bool {
        self.holds.load(Ordering::Relaxed) && self.held.len() + more_bytes <= HELD_MAX_BYTES
    }

    /// Writes what is held.
    fn poll_let_go(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.held))?;
            self.went(written)?;
        }
        Poll::Ready(Ok(()))
    }

    fn went(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.held.advance(written);
        Ok(())
    }

    /// Writes what is held and more; how much of `more` went.
    fn poll_write_joined(
        &mut self,
        context: &mut Context<'_>,
        more: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        while !self.held.is_empty() {
            let held = self.held.len();
            let mut slices = [IoSlice::new(&[]); SLICES];
            slices[0] = IoSlice::new(&self.held);
            let mut count = 1;
            for (slice, more) in slices[1..].iter_mut().zip(more) {
                *slice = *more;
                count += 1;
            }
            let written = Pin::new(&mut self.stream).poll_write_vectored(context, &slices[..count]);
            let written = ready!(written)?;
            self.went(written.min(held))?;
            if written > held {
                return Poll::Ready(Ok(written - held));
            }
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, more)
    }
}

impl AsyncRead for Joined {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_full() {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        let before = buffer.filled().len();
        let read = self.poll_read_any(context, buffer);
        match self.keeps.load(Ordering::Relaxed) > 0 {
            true => self.kept.extend_from_slice(&buffer.filled()[before..]),
            false if self.kept.is_empty() => {}
            false => self.kept = BytesMut::new(),
        }
        if read.is_pending() && !self.held.is_empty() {
            // Whoever waits for the caller has nothing more to say for now. An error shows with the next write.
            self.holds.store(false, Ordering::Relaxed);
            let _gone = self.poll_let_go(context);
        }
        if read.is_pending() && self.held.is_empty() {
            // A connection that waits, for a request or through a stream, keeps no room for what is written.
            self.held = BytesMut::new();
        }
        read
    }
}

impl AsyncWrite for Joined {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.holds(bytes.len()) {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        match self.held.is_empty() {
            true => Pin::new(&mut self.stream).poll_write(context, bytes),
            false => self.poll_write_joined(context, &[IoSlice::new(bytes)]),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.holds(length) {
            for slice in slices {
                self.held.extend_from_slice(slice);
            }
            return Poll::Ready(Ok(length));
        }
        self.poll_write_joined(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.holds(0) {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_let_go(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_let_go(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for Joined {
    async fn shutdown(&mut self) {
        // Whoever isn't there any more can't be told.
        let _gone = tokio::io::AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Joined {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Joined {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

/// Nobody asks, and Pingora would make a list of it for each request.
impl GetTimingDigest for Joined {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Joined {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.stream.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Joined {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.set_socket_digest(digest);
    }
}

#[async_trait]
impl Peek for Joined {
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        self.stream.try_peek(buffer).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pingora::protocols::l4::stream::Stream as Tcp;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn connected() -> (Joined, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        (Joined::new(Box::new(Tcp::from(accepted))), caller)
    }

    fn is_silent(caller: &TcpStream) -> bool {
        let read = caller.try_read(&mut [0; 1]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[tokio::test]
    async fn what_is_held_leaves_with_the_next_write() {
        let (mut joined, mut caller) = connected().await;
        joined.holds.store(true, Ordering::Relaxed);
        joined.write_all(b"head ").await.unwrap();
        joined.flush().await.unwrap();
        assert!(is_silent(&caller));
        joined.holds.store(false, Ordering::Relaxed);
        joined.write_all(b"body").await.unwrap();
        drop(joined);
        let mut all = String::new();
        caller.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "head body");
    }

    #[tokio::test]
    async fn whoever_waits_for_the_caller_holds_nothing_back() {
        let (mut joined, mut caller) = connected().await;
        joined.holds.store(true, Ordering::Relaxed);
        joined.write_all(b"head").await.unwrap();
        let mut answer = [0; 4];
        let (asked, told) = tokio::join!(joined.read(&mut answer), async {
            let mut head = [0; 4];
            caller.read_exact(&mut head).await.unwrap();
            caller.write_all(b"more").await.unwrap();
            head
        });
        assert_eq!((asked.unwrap(), &told, &answer), (4, b"head", b"more"));
    }

    #[tokio::test]
    async fn what_was_read_of_a_request_can_be_read_again() {
        let (joined, mut caller) = connected().await;
        let first = b"GET /a HTTP/1.1\r\nhost: a\r\ncontent-length: 9000\r\n\r\n";
        // Some of it came while it wasn't known yet what it is, more than one read of Pingora's takes.
        let unread = [first, &[b'x'; 8000][..]].concat();
        let joined = Joined::resumed(joined.into_parts().0, BytesMut::from(&unread[..]));
        caller.write_all(&[b'x'; 1000]).await.unwrap();
        let mut session = ServerSession::new_http1(Box::new(joined));
        keep(&session, 1 << 20);
        assert!(session.read_request().await.unwrap());
        let mut again = put_back(session).unwrap();
        assert!(again.read_request().await.unwrap());
        assert_eq!(again.req_header().uri.path(), "/a");
        let mut body = 0;
        while let Some(read) = again.read_request_body().await.unwrap() {
            body += read.len();
        }
        assert_eq!(body, 9000);
    }

    #[tokio::test]
    async fn what_was_waited_for_is_read_by_whoever_serves() {
        let (mut joined, mut caller) = connected().await;
        caller.write_all(b"PRI * and more").await.unwrap();
        joined.expect(5).await.unwrap();
        let mut read = [0; 14];
        joined.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"PRI * and more");
        caller.write_all(b"PRI").await.unwrap();
        drop(caller);
        assert!(joined.expect(5).await.is_err());
    }

    #[tokio::test]
    async fn more_than_the_bound_is_never_held() {
        let (mut joined, mut caller) = connected().await;
        joined.holds.store(true, Ordering::Relaxed);
        let large = vec![b'x'; HELD_MAX_BYTES];
        joined.write_all(b"head").await.unwrap();
        joined.write_all(&large).await.unwrap();
        drop(joined);
        let mut all = Vec::new();
        caller.read_to_end(&mut all).await.unwrap();
        assert_eq!((all.len(), &all[..5]), (large.len() + 4, &b"headx"[..]));
    }
}
