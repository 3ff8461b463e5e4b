//! How the body of an answer over HTTP/1.1 is framed, and the bytes of it that have come.
//!
//! A chunked body is put together where it lies: what several chunks hold leaves as one slice of the buffer that it was
//! read into. Never waits, never reads; and never looks twice at a byte, but at the line of a size that isn't whole yet,
//! which is bounded.

use bytes::{Buf, Bytes, BytesMut};
use httparse::Status;

/// A chunk's size and its extensions. Bytes.
const SIZE_LINE_MAX_BYTES: usize = 1 << 10;
/// The fields after a chunked body; they are dropped. Bytes.
const TRAILERS_MAX_BYTES: usize = 16 << 10;

/// What is still to come of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// Whatever comes until the connection closes.
    UntilClose,
    /// Nothing.
    Over,
}

/// Where in a chunked body one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// Before a chunk's size.
    Size,
    /// So many bytes before a chunk's end.
    Data(u64),
    /// After a chunk's last byte.
    End,
    /// After the last chunk; so many bytes of trailers were dropped.
    Trailers(usize),
}

/// A body that isn't framed as HTTP frames one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Framing {
    /// A body of a stated length.
    pub fn of_length(length: u64) -> Self {
        match length {
            0 => Framing::Over,
            length => Framing::Length(length),
        }
    }

    /// Takes what the buffer holds of the body; empty where more must be read first.
    ///
    /// # Errors
    /// [`Malformed`]; the connection is of no more use.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Bytes, Malformed> {
        match *self {
            Framing::Over => Ok(Bytes::new()),
            Framing::UntilClose => Ok(buffer.split().freeze()),
            Framing::Length(left) => {
                let taken = within(left, buffer.len());
                *self = Framing::of_length(left - taken as u64);
                Ok(buffer.split_to(taken).freeze())
            }
            Framing::Chunked(chunk) => {
                let mut gathering = Gathering {
                    chunk: Some(chunk),
                    read: 0,
                    begin: 0,
                    kept: 0,
                };
                // What came well before what is malformed is handed out first; the next call meets it again.
                let stepped = loop {
                    match gathering.step(buffer) {
                        Ok(true) => {}
                        Ok(false) => break Ok(()),
                        Err(malformed) => break Err(malformed),
                    }
                };
                if gathering.kept == 0 {
                    stepped?;
                }
                *self = gathering.chunk.map_or(Framing::Over, Framing::Chunked);
                Ok(gathering.taken(buffer))
            }
        }
    }
}

/// Chunks on their way together: what is kept lies in `begin..begin + kept`, what was read ends at `read`.
struct Gathering {
    chunk: Option<Chunk>,
    read: usize,
    begin: usize,
    kept: usize,
}

impl Gathering {
    /// One step on; false where the buffer holds no more, or the body is over.
    fn step(&mut self, buffer: &mut BytesMut) -> Result<bool, Malformed> {
        let rest = &buffer[self.read..];
        self.chunk = match self.chunk {
            None => return Ok(false),
            // The parser takes a line without a digit for the last chunk's.
            Some(Chunk::Size) if rest.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) => {
                return Err(Malformed);
            }
            Some(Chunk::Size) => match httparse::parse_chunk_size(rest) {
                Ok(Status::Complete((length, 0))) => {
                    self.read += length;
                    Some(Chunk::Trailers(0))
                }
                Ok(Status::Complete((length, size))) => {
                    self.read += length;
                    Some(Chunk::Data(size))
                }
                Ok(Status::Partial) if rest.len() <= SIZE_LINE_MAX_BYTES => return Ok(false),
                Ok(Status::Partial) | Err(_) => return Err(Malformed),
            },
            Some(Chunk::Data(left)) => {
                let length = within(left, rest.len());
                if length == 0 {
                    return Ok(false);
                }
                self.keep(buffer, length);
                match left - length as u64 {
                    0 => Some(Chunk::End),
                    left => Some(Chunk::Data(left)),
                }
            }
            Some(Chunk::End) => match rest {
                [b'\r', b'\n', ..] => {
                    self.read += 2;
                    Some(Chunk::Size)
                }
                [] | [b'\r'] => return Ok(false),
                _ => return Err(Malformed),
            },
            Some(Chunk::Trailers(dropped)) => match memchr::memchr(b'\n', rest) {
                Some(at) if dropped + at > TRAILERS_MAX_BYTES => return Err(Malformed),
                Some(at) => {
                    self.read += at + 1;
                    let is_last = matches!(&rest[..at], [] | [b'\r']);
                    (!is_last).then_some(Chunk::Trailers(dropped + at + 1))
                }
                None if dropped + rest.len() > TRAILERS_MAX_BYTES => return Err(Malformed),
                None => return Ok(false),
            },
        };
        Ok(true)
    }

    fn keep(&mut self, buffer: &mut BytesMut, length: usize) {
        if self.kept == 0 {
            self.begin = self.read;
        }
        let end = self.begin + self.kept;
        if end != self.read {
            buffer.copy_within(self.read..self.read + length, end);
        }
        self.kept += length;
        self.read += length;
    }

    fn taken(self, buffer: &mut BytesMut) -> Bytes {
        if self.kept == 0 {
            buffer.advance(self.read);
            return Bytes::new();
        }
        buffer.advance(self.begin);
        let taken = buffer.split_to(self.kept).freeze();
        buffer.advance(self.read - self.begin - self.kept);
        taken
    }
}

fn within(left: u64, length: usize) -> usize {
    usize::try_from(left).map_or(length, |left| left.min(length))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const CHUNKED: &[u8] =
        b"5;x=1\r\nhello\r\n1\r\n,\r\n06\r\n world\r\n0\r\nx-trailer: 1\r\n\r\nnext";

    /// The body when its bytes come in pieces of this size, what is left over, and whether it was over.
    fn in_pieces(mut framing: Framing, bytes: &[u8], size: usize) -> (Vec<u8>, Vec<u8>, bool) {
        let mut buffer = BytesMut::new();
        let mut body = Vec::new();
        for piece in bytes.chunks(size) {
            buffer.extend_from_slice(piece);
            body.extend_from_slice(&framing.take(&mut buffer).unwrap());
        }
        (body, buffer.to_vec(), framing == Framing::Over)
    }

    #[test]
    fn chunks_come_together_however_they_are_cut() {
        for size in 1..=CHUNKED.len() {
            let (body, left, over) = in_pieces(Framing::Chunked(Chunk::Size), CHUNKED, size);
            assert_eq!(body, b"hello, world", "in pieces of {size}");
            assert_eq!(left, b"next");
            assert!(over);
        }
    }

    #[test]
    fn what_has_come_leaves_as_one_slice_without_a_copy_of_the_first_chunk() {
        let mut buffer = BytesMut::from(CHUNKED);
        let first = buffer[7..].as_ptr();
        let body = Framing::Chunked(Chunk::Size).take(&mut buffer).unwrap();
        assert_eq!(
            (body.as_ptr(), body.as_ref()),
            (first, &b"hello, world"[..])
        );
    }

    #[test]
    fn a_stated_length_ends_the_body() {
        for size in 1..8 {
            let (body, left, over) = in_pieces(Framing::of_length(5), b"hellonext", size);
            assert_eq!(
                (body.as_slice(), left.as_slice(), over),
                (&b"hello"[..], &b"next"[..], true)
            );
        }
        let (body, _, over) = in_pieces(Framing::UntilClose, b"hello", 2);
        assert_eq!((body.as_slice(), over), (&b"hello"[..], false));
        assert_eq!(Framing::of_length(0), Framing::Over);
    }

    #[test]
    fn what_came_well_is_handed_out_before_what_is_malformed() {
        let mut framing = Framing::Chunked(Chunk::Size);
        let mut buffer = BytesMut::from("5\r\nhello\r\n1\r\n,\r\nnonsense");
        assert_eq!(framing.take(&mut buffer).unwrap(), "hello,");
        assert_eq!(framing.take(&mut buffer), Err(Malformed));
        assert_eq!(framing.take(&mut buffer), Err(Malformed));
    }

    /// The body, what is left behind it, and how it ended: `None`: it hasn't.
    fn read(bytes: &[u8], size: usize) -> (Vec<u8>, Option<Result<Vec<u8>, Malformed>>) {
        let mut framing = Framing::Chunked(Chunk::Size);
        let (mut buffer, mut body) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(size) {
            buffer.extend_from_slice(piece);
            loop {
                match framing.take(&mut buffer) {
                    Ok(taken) if taken.is_empty() => break,
                    Ok(taken) => body.extend_from_slice(&taken),
                    Err(malformed) => return (body, Some(Err(malformed))),
                }
            }
        }
        let is_over = framing == Framing::Over;
        (body, is_over.then(|| Ok(buffer.to_vec())))
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_alike_however_they_are_cut(
            pieces in prop::collection::vec(prop_oneof![
                Just("\r\n"), Just("\r"), Just("\n"), Just("0\r\n"), Just("5\r\nhello\r\n"), Just("3\r\n"),
                Just(";x=y"), Just("abc"), Just("1F"), Just("x: y\r\n"), Just(" "), Just("\0"), Just("ffffffffffffffff"),
            ], 0..24),
            size in 1..24_usize,
        ) {
            let bytes = pieces.concat().into_bytes();
            prop_assert_eq!(read(&bytes, bytes.len().max(1)), read(&bytes, size));
        }
    }

    #[test]
    fn broken_framing_is_refused() {
        let long_size = format!("5;{}", "x".repeat(2 * SIZE_LINE_MAX_BYTES));
        let long_trailers = format!("0\r\n{}", "x: y\r\n".repeat(TRAILERS_MAX_BYTES));
        for text in [
            "hello",
            "-5\r\nhello\r\n",
            " 5\r\nhello\r\n",
            "\r\n\r\n",
            ";x\r\n\r\n",
            "5\r\nhello\r\n\r\n\r\n",
            "5\nhello\r\n",
            "5\r\nhelloo\r\n",
            "5\r\nhello\n0\r\n",
            "ffffffffffffffffff\r\n",
            &long_size,
            &long_trailers,
        ] {
            let mut framing = Framing::Chunked(Chunk::Size);
            let mut buffer = BytesMut::from(text);
            // What came well before it is handed out first.
            let first = framing.take(&mut buffer);
            let last = first.and_then(|came| match came.is_empty() {
                true => Ok(came),
                false => framing.take(&mut buffer),
            });
            assert_eq!(last, Err(Malformed), "{text:.40}");
        }
    }
}
