//! As much HTTP/1.1 as both ends of the benchmark need: where a message ends, and when its parts came.
//!
//! A general client or server would cost more CPU than what is measured and share its cores. Bodies have a length or
//! are chunked; anything else is an error, since no contestant has a reason to send it.

use std::io;
use std::time::Instant;

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt};

/// A message that was read.
#[derive(Debug)]
pub(crate) struct Message {
    /// The status of an answer; 0 for a request.
    pub(crate) status: u16,
    /// The body, without the chunks' frames.
    pub(crate) body: Vec<u8>,
    /// Whether the sender will close.
    pub(crate) closes: bool,
    /// When the first of the body's bytes were there.
    pub(crate) first_byte: Option<Instant>,
}

/// Reads messages from one connection.
#[derive(Debug)]
pub(crate) struct Reader<S> {
    stream: S,
    buffer: Vec<u8>,
    start: usize,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// What it reads from, to be written to.
    pub(crate) fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The next message; `None` when the peer closed between two.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Message>> {
        self.next_in_pieces(|_| ()).await
    }

    /// The next message; `see` is shown each chunk of a chunked body as soon as it is there.
    pub(crate) async fn next_in_pieces(
        &mut self,
        see: impl FnMut(&[u8]),
    ) -> io::Result<Option<Message>> {
        let end = loop {
            if let Some(at) = memmem::find(self.rest(), b"\r\n\r\n") {
                break at;
            }
            if self.rest().len() > MAX_HEAD_BYTES {
                return Err(wrong("a head of more than 64 KiB"));
            }
            if !self.fill().await? {
                return if self.rest().is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        };
        let head = Head::read(self.rest().get(..end).unwrap_or_default());
        self.start += end + 4;
        let (body, first_byte) = match head.framing {
            Framing::Length(length) => (self.take(length).await?, Some(Instant::now())),
            Framing::Chunked => self.chunks(see).await?,
        };
        Ok(Some(Message {
            status: head.status,
            body,
            closes: head.closes,
            first_byte,
        }))
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    async fn fill(&mut self) -> io::Result<bool> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        // A thousand connections that hold a few bytes each must not cost a large buffer each.
        let wanted = self.buffer.len().clamp(LEAST_READ_BYTES, MOST_READ_BYTES);
        self.buffer.reserve(wanted);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    async fn need(&mut self, bytes: usize) -> io::Result<()> {
        while self.rest().len() < bytes {
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    async fn take(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        self.need(bytes).await?;
        let taken = self.rest().get(..bytes).unwrap_or_default().to_vec();
        self.start += bytes;
        Ok(taken)
    }

    async fn chunks(
        &mut self,
        mut see: impl FnMut(&[u8]),
    ) -> io::Result<(Vec<u8>, Option<Instant>)> {
        let mut body = Vec::new();
        let mut first_byte = None;
        loop {
            let end = loop {
                if let Some(at) = memmem::find(self.rest(), b"\r\n") {
                    break at;
                }
                self.need(self.rest().len() + 1).await?;
            };
            let line = std::str::from_utf8(self.rest().get(..end).unwrap_or_default());
            let size = line
                .ok()
                .and_then(|line| usize::from_str_radix(line.trim(), 16).ok());
            let size = size.ok_or_else(|| wrong("a chunk without a size"))?;
            self.start += end + 2;
            self.need(size + 2).await?;
            let piece = self.rest().get(..size).unwrap_or_default();
            if size > 0 {
                first_byte.get_or_insert_with(Instant::now);
                see(piece);
            }
            body.extend_from_slice(piece);
            self.start += size + 2;
            if size == 0 {
                return Ok((body, first_byte));
            }
        }
    }
}

const LEAST_READ_BYTES: usize = 4 << 10;
const MOST_READ_BYTES: usize = 1 << 20;
const MAX_HEAD_BYTES: usize = 64 << 10;

enum Framing {
    Length(usize),
    Chunked,
}

struct Head {
    status: u16,
    framing: Framing,
    closes: bool,
}

impl Head {
    fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or(0);
        let mut head = Self {
            status,
            framing: Framing::Length(0),
            closes: false,
        };
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                head.framing = Framing::Length(value.parse().unwrap_or(0));
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                head.framing = Framing::Chunked;
            } else if name.eq_ignore_ascii_case("connection") {
                head.closes = value.eq_ignore_ascii_case("close");
            }
        }
        head
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
