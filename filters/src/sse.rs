//! Server-sent events, cut out of a body as its bytes arrive.
//!
//! However the bytes are split, the same events come out, and what comes out is, byte for byte, what went in. Whoever
//! passes every piece on has changed nothing.
//!
//! Only new bytes are ever scanned: what the scanner must remember of the past is four small facts, not the bytes. So a
//! large event that comes one byte at a time costs as much as one that comes at once. An event that lies in one chunk is
//! a slice of that chunk; only one split over chunks is copied together.
//!
//! A blank line that ends in `\r` ends its event at once. Waiting to see whether a `\n` follows would hold the event back
//! until the next one comes. When the `\n` does come later, it is a piece of its own.
//!
//! Never here: what the data means (`answer`), and a second look at an event too large to hold.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr2};

/// Cuts a stream of chunks into events.
#[derive(Debug)]
pub struct Splitter {
    max_event_bytes: usize,
    held: BytesMut,
    /// Bytes of the unfinished event that were passed on already, since it is too large to hold.
    is_oversize: bool,
    is_first_piece: bool,
    scanner: Scanner,
}

impl Splitter {
    /// A splitter that holds at most `max_event_bytes` of an unfinished event. A longer event is passed on unread, as
    /// [`PieceKind::Oversize`]; whether it is longer doesn't depend on how its bytes were split.
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            max_event_bytes,
            held: BytesMut::new(),
            is_oversize: false,
            is_first_piece: true,
            scanner: Scanner::new(),
        }
    }

    /// Takes the next bytes and appends the pieces that they complete to `out`, in order. The rest is held.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Piece>) {
        let mut from = 0;
        if self.scanner.takes_line_feed(&chunk) {
            from = 1;
            out.push(Piece::new(chunk.slice(..1), PieceKind::LineFeed));
        }
        while let Some(end) = self.scanner.event_end(&chunk, from) {
            out.push(self.complete(chunk.slice(from..end)));
            from = end;
        }
        if from < chunk.len() {
            self.hold(chunk.slice(from..), out);
        }
    }

    /// The rest that no blank line ended, once the body has ended. By the standard it is no event; some backends leave
    /// the last blank line out, so [`Event::parse`] can read it all the same.
    pub fn finish(&mut self) -> Option<Bytes> {
        (!self.held.is_empty()).then(|| self.held.split().freeze())
    }

    /// How many bytes of an unfinished event are held.
    pub fn holds_bytes(&self) -> usize {
        self.held.len()
    }

    /// Whether the last piece was a part of a too large event, and not its last part.
    pub fn is_inside_oversize(&self) -> bool {
        self.is_oversize
    }

    fn complete(&mut self, last: Bytes) -> Piece {
        let bytes = if self.held.is_empty() {
            last
        } else {
            self.held.extend_from_slice(&last);
            self.held.split().freeze()
        };
        let kind = if self.is_oversize || measured_len(&bytes) > self.max_event_bytes {
            PieceKind::Oversize
        } else {
            PieceKind::Event
        };
        self.is_oversize = false;
        self.piece(bytes, kind)
    }

    fn hold(&mut self, rest: Bytes, out: &mut Vec<Piece>) {
        if !self.is_oversize && self.held.len() + rest.len() <= self.max_event_bytes {
            self.held.extend_from_slice(&rest);
            return;
        }
        self.is_oversize = true;
        if !self.held.is_empty() {
            let held = self.held.split().freeze();
            out.push(self.piece(held, PieceKind::Oversize));
        }
        out.push(self.piece(rest, PieceKind::Oversize));
    }

    fn piece(&mut self, bytes: Bytes, kind: PieceKind) -> Piece {
        let opens_stream = std::mem::take(&mut self.is_first_piece);
        Piece {
            bytes,
            kind,
            opens_stream,
        }
    }
}

/// Some exact bytes of the stream. All pieces and [`Splitter::finish`] together are the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The bytes, with the blank line that ends the event.
    pub bytes: Bytes,
    /// What they are.
    pub kind: PieceKind,
    opens_stream: bool,
}

impl Piece {
    /// What the event says. Only a piece of kind [`PieceKind::Event`] says anything.
    pub fn event(&self) -> Event<'_> {
        match self.kind {
            PieceKind::Event if self.opens_stream => Event::parse(
                self.bytes
                    .strip_prefix(BYTE_ORDER_MARK)
                    .unwrap_or(&self.bytes),
            ),
            PieceKind::Event => Event::parse(&self.bytes),
            PieceKind::Oversize | PieceKind::LineFeed => Event::default(),
        }
    }

    fn new(bytes: Bytes, kind: PieceKind) -> Self {
        Self {
            bytes,
            kind,
            opens_stream: false,
        }
    }
}

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceKind {
    /// A whole event; it may say nothing (a comment, a blank line alone).
    Event,
    /// A part of an event that is too large to hold.
    Oversize,
    /// The `\n` of a CRLF whose `\r` ended the piece before and came in an earlier chunk. It belongs to that piece:
    /// where that was left out, leave this out too.
    LineFeed,
}

/// What an event says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// The last `event` field; absent where there is none or it is empty.
    pub name: Option<&'a [u8]>,
    /// The `data` fields, joined by `\n`. Borrowed where there is but one.
    pub data: Option<Cow<'a, [u8]>>,
}

impl<'a> Event<'a> {
    /// Reads the fields of one event. Comments and unknown fields say nothing.
    pub fn parse(bytes: &'a [u8]) -> Self {
        let mut event = Event::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            event.take_line(&rest[..end]);
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        event
    }

    fn take_line(&mut self, line: &'a [u8]) {
        let (field, value) = match memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.take_data(value),
            b"event" => self.name = (!value.is_empty()).then_some(value),
            _ => {}
        }
    }

    fn take_data(&mut self, value: &'a [u8]) {
        match &mut self.data {
            None => self.data = Some(Cow::Borrowed(value)),
            Some(data) => {
                let data = data.to_mut();
                data.push(b'\n');
                data.extend_from_slice(value);
            }
        }
    }
}

/// Finds blank lines. Holds all that must be known of the bytes before.
#[derive(Debug)]
struct Scanner {
    /// No byte of the current line has been seen.
    is_line_blank: bool,
    /// The last byte was the `\r` of a line inside an event: a `\n` that follows belongs to it.
    is_after_return: bool,
    /// The last byte was the `\r` of a blank line, at the end of its chunk.
    is_line_feed_open: bool,
    /// How much of a byte order mark the stream has begun with; absent once that is settled.
    mark_bytes: Option<usize>,
}

impl Scanner {
    fn new() -> Self {
        Self {
            is_line_blank: true,
            is_after_return: false,
            is_line_feed_open: false,
            mark_bytes: Some(0),
        }
    }

    /// Whether the chunk begins with the `\n` of a CRLF that ended the event before.
    fn takes_line_feed(&mut self, chunk: &[u8]) -> bool {
        let Some(first) = chunk.first() else {
            return false;
        };
        std::mem::take(&mut self.is_line_feed_open) && *first == b'\n'
    }

    /// The end of the event that `chunk[from..]` goes on with; absent if that lies beyond the chunk.
    fn event_end(&mut self, chunk: &[u8], from: usize) -> Option<usize> {
        let mut at = self.skip_mark(chunk, from);
        loop {
            let next = chunk.get(at)?;
            if std::mem::take(&mut self.is_after_return) && *next == b'\n' {
                at += 1;
            }
            let Some(length) = memchr2(b'\n', b'\r', &chunk[at..]) else {
                self.is_line_blank &= at == chunk.len();
                return None;
            };
            let was_blank = self.is_line_blank && length == 0;
            at += length + 1;
            self.is_line_blank = true;
            let is_return = chunk[at - 1] == b'\r';
            if was_blank {
                return Some(self.after_blank_line(chunk, at, is_return));
            }
            self.is_after_return = is_return;
        }
    }

    fn after_blank_line(&mut self, chunk: &[u8], at: usize, is_return: bool) -> usize {
        match chunk.get(at) {
            Some(b'\n') if is_return => at + 1,
            Some(_) => at,
            None => {
                self.is_line_feed_open = is_return;
                at
            }
        }
    }

    fn skip_mark(&mut self, chunk: &[u8], from: usize) -> usize {
        let mut at = from;
        while let Some(seen) = self.mark_bytes {
            let Some(byte) = chunk.get(at) else { break };
            if BYTE_ORDER_MARK.get(seen) == Some(byte) {
                self.mark_bytes = Some(seen + 1);
                at += 1;
            } else {
                self.is_line_blank = seen == 0 || seen == BYTE_ORDER_MARK.len();
                self.mark_bytes = None;
            }
        }
        at
    }
}

/// The length that the bound is held against: without the `\n` of a final CRLF, since that may come in a later chunk.
fn measured_len(event: &[u8]) -> usize {
    event.len() - usize::from(event.ends_with(b"\r\n"))
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn split(
        chunks: &[&[u8]],
        max_event_bytes: usize,
    ) -> (Vec<(Vec<u8>, PieceKind)>, Option<Bytes>) {
        let mut splitter = Splitter::new(max_event_bytes);
        let mut pieces = Vec::new();
        for chunk in chunks {
            splitter.push(Bytes::copy_from_slice(chunk), &mut pieces);
        }
        let pieces = pieces
            .into_iter()
            .map(|piece| (piece.bytes.to_vec(), piece.kind));
        (pieces.collect(), splitter.finish())
    }

    fn data_of(bytes: &[u8]) -> Option<Vec<u8>> {
        Event::parse(bytes).data.map(Cow::into_owned)
    }

    #[test]
    fn every_kind_of_line_end_ends_an_event() {
        for stream in [
            "data: a\n\ndata: b\n\n",
            "data: a\r\n\r\ndata: b\r\n\r\n",
            "data: a\r\rdata: b\r\r",
            "data: a\n\rdata: b\r\n\n",
        ] {
            let (pieces, rest) = split(&[stream.as_bytes()], 100);
            let data: Vec<_> = pieces.iter().map(|(bytes, _)| data_of(bytes)).collect();
            assert_eq!(
                data,
                [Some(b"a".to_vec()), Some(b"b".to_vec())],
                "{stream:?}"
            );
            assert_eq!(rest, None);
        }
    }

    #[test]
    fn a_return_ends_its_event_at_once_and_a_later_line_feed_belongs_to_it() {
        let (pieces, rest) = split(&[b"data: a\r\n\r", b"\ndata: b", b"\r", b"\n\r\n"], 100);
        assert_eq!(
            pieces,
            [
                (b"data: a\r\n\r".to_vec(), PieceKind::Event),
                (b"\n".to_vec(), PieceKind::LineFeed),
                (b"data: b\r\n\r\n".to_vec(), PieceKind::Event),
            ]
        );
        assert_eq!(rest, None);
    }

    #[test]
    fn an_event_in_one_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"data: a\n\ndata: b\n\n");
        let mut pieces = Vec::new();
        Splitter::new(100).push(chunk.clone(), &mut pieces);
        assert_eq!(pieces[1].bytes.as_ptr(), chunk[9..].as_ptr());
        assert!(matches!(pieces[1].event().data, Some(Cow::Borrowed(b"b"))));
    }

    #[test]
    fn an_event_over_the_bound_is_passed_on_unread_and_the_next_one_is_read() {
        let stream = b"data: 0123456789\n\ndata: b\n\n";
        for at in 0..stream.len() {
            let mut splitter = Splitter::new(10);
            let mut pieces = Vec::new();
            splitter.push(Bytes::copy_from_slice(&stream[..at]), &mut pieces);
            assert!(splitter.holds_bytes() <= 10);
            splitter.push(Bytes::copy_from_slice(&stream[at..]), &mut pieces);
            let (last, parts) = pieces.split_last().unwrap();
            assert_eq!(last.event().data.as_deref(), Some(&b"b"[..]));
            assert!(
                parts.iter().all(
                    |part| part.kind == PieceKind::Oversize && part.event() == Event::default()
                )
            );
            assert_eq!(parts.iter().map(|part| part.bytes.len()).sum::<usize>(), 18);
        }
    }

    #[test]
    fn the_bound_does_not_depend_on_where_a_crlf_is_split() {
        let kinds = |chunks: &[&[u8]]| {
            split(chunks, 10)
                .0
                .iter()
                .map(|piece| piece.1)
                .collect::<Vec<_>>()
        };
        assert_eq!(kinds(&[b"data: a\r\n\r\n"]), [PieceKind::Event]);
        assert_eq!(
            kinds(&[b"data: a\r\n\r", b"\n"]),
            [PieceKind::Event, PieceKind::LineFeed]
        );
        assert_eq!(kinds(&[b"data: ab\r\n\r\n"]), [PieceKind::Oversize]);
        assert_eq!(
            kinds(&[b"data: ab\r\n\r", b"\n"]),
            [PieceKind::Oversize, PieceKind::LineFeed]
        );
    }

    #[test]
    fn fields_are_read_as_the_standard_says() {
        let event = Event::parse(
            b": note\nid: 7\nevent: x\ndata:  two spaces\ndata\ndata:none\ndatas: no\n\n",
        );
        assert_eq!(event.name, Some(&b"x"[..]));
        assert_eq!(event.data.as_deref(), Some(&b" two spaces\n\nnone"[..]));
        assert_eq!(Event::parse(b": ping\n\n"), Event::default());
        assert_eq!(Event::parse(b"\r\n"), Event::default());
        assert_eq!(Event::parse(b"event:\n\n").name, None);
        assert_eq!(data_of(b"data: no line end"), Some(b"no line end".to_vec()));
    }

    #[test]
    fn a_byte_order_mark_is_ignored_only_where_the_stream_begins() {
        for at in 0..8 {
            let stream = "\u{feff}data: a\n\n\u{feff}data: b\n\n".as_bytes();
            let mut pieces = Vec::new();
            let mut splitter = Splitter::new(100);
            splitter.push(Bytes::copy_from_slice(&stream[..at]), &mut pieces);
            splitter.push(Bytes::copy_from_slice(&stream[at..]), &mut pieces);
            assert_eq!(pieces[0].event().data.as_deref(), Some(&b"a"[..]));
            assert_eq!(pieces[1].event().data, None);
        }
        assert_eq!(
            split(&["\u{feff}\n".as_bytes()], 100).0.len(),
            1,
            "a mark alone is a blank line"
        );
        assert_eq!(split(&[b"\xef\xbb\n"], 100).0.len(), 0, "half a mark isn't");
    }

    #[test]
    fn what_no_blank_line_ended_comes_out_at_the_end() {
        let (pieces, rest) = split(&[b"\ndata: a\n", b"data: b"], 100);
        assert_eq!(pieces, [(b"\n".to_vec(), PieceKind::Event)]);
        assert_eq!(rest.as_deref(), Some(&b"data: a\ndata: b"[..]));
    }

    #[test]
    fn a_large_event_by_single_bytes_is_scanned_once() {
        let mut splitter = Splitter::new(8 << 20);
        let mut pieces = Vec::new();
        let byte = Bytes::from_static(b"x");
        for _ in 0..4 << 20 {
            splitter.push(byte.clone(), &mut pieces);
        }
        splitter.push(Bytes::from_static(b"\n\n"), &mut pieces);
        assert_eq!(pieces[0].bytes.len(), (4 << 20) + 2);
    }
}
