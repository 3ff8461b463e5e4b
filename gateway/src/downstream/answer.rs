//! An answer to a caller on the wire: its head, and how its body is framed.
//!
//! Never writes to a connection.

use bytes::{BufMut, BytesMut};
use http::header;
use pingora::http::ResponseHeader;

use crate::clock;

/// Room for an answer's head; most are smaller. Bytes.
const HEAD_BYTES: usize = 1 << 10;
/// A chunk's size in hexadecimal digits, and its line's end. Bytes.
const SIZE_LINE_BYTES: usize = 18;

/// How far the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Its head isn't written.
    None,
    /// So many bytes of the body are still to come.
    Length(u64),
    /// The body comes in chunks.
    Chunked,
    /// The body ends with the connection.
    UntilClose,
    /// All of it is written.
    Whole,
}

impl Answer {
    /// As the head says.
    pub fn of(head: &ResponseHeader) -> Self {
        // These have none, whatever is stated (RFC 9112, 6.3).
        if matches!(head.status.as_u16(), 204 | 304) {
            return Answer::Length(0);
        }
        if head.headers.contains_key(header::TRANSFER_ENCODING) {
            return Answer::Chunked;
        }
        let length = head.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        length.map_or(Answer::UntilClose, Answer::Length)
    }

    /// How so much of the body is framed; with `end` it is the last of it.
    pub fn frame(&mut self, body_bytes: usize, end: bool) -> Frame {
        match self {
            Answer::None | Answer::Whole => Frame::bare(0),
            Answer::UntilClose => Frame::bare(body_bytes),
            Answer::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(body_bytes);
                *left -= taken as u64;
                Frame::bare(taken)
            }
            Answer::Chunked => Frame::chunk(body_bytes, end),
        }
    }
}

/// What goes out around some of a body.
pub struct Frame {
    line: [u8; SIZE_LINE_BYTES],
    line_from: usize,
    /// How much of the body goes.
    pub body_bytes: usize,
    /// What goes after it.
    pub after: &'static [u8],
}

impl Frame {
    fn bare(body_bytes: usize) -> Self {
        Frame {
            line: [0; SIZE_LINE_BYTES],
            line_from: SIZE_LINE_BYTES,
            body_bytes,
            after: b"",
        }
    }

    fn chunk(body_bytes: usize, end: bool) -> Self {
        let mut frame = Frame::bare(body_bytes);
        frame.after = match (body_bytes, end) {
            (0, false) => b"",
            (0, true) => b"0\r\n\r\n",
            (_, false) => b"\r\n",
            (_, true) => b"\r\n0\r\n\r\n",
        };
        if body_bytes > 0 {
            frame.line_from = size_line(&mut frame.line, body_bytes);
        }
        frame
    }

    /// What goes before it.
    pub fn before(&self) -> &[u8] {
        &self.line[self.line_from..]
    }
}

/// Writes a head; `closes`: the connection ends with this answer.
pub fn write_head(out: &mut BytesMut, head: &ResponseHeader, closes: bool) {
    out.reserve(HEAD_BYTES);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(head.status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(head.status.canonical_reason().unwrap_or("").as_bytes());
    out.put_slice(b"\r\n");
    for (name, value) in &head.headers {
        field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    if !head.headers.contains_key(header::DATE) {
        field(out, b"date", &clock::http_date());
    }
    if closes {
        field(out, b"connection", b"close");
    }
    out.put_slice(b"\r\n");
}

fn field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Writes a chunk's size as its line; where that begins.
fn size_line(line: &mut [u8; SIZE_LINE_BYTES], size: usize) -> usize {
    let mut at = SIZE_LINE_BYTES - 2;
    line[at..].copy_from_slice(b"\r\n");
    let mut left = size;
    loop {
        at -= 1;
        line[at] = b"0123456789abcdef"[left & 15];
        left >>= 4;
        if left == 0 {
            return at;
        }
    }
}
