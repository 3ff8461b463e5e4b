//! The head of an answer over HTTP/1.1: found, parsed, and what it says of the body and of the connection.
//!
//! Values stay slices of what was read. Where framing is ambiguous the answer is refused: guessing would let a backend's
//! body be taken for the next answer. Never reads.

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use httparse::{ParserConfig, Response, Status};
use pingora::http::ResponseHeader;
use std::mem::MaybeUninit;

use super::framing::{Chunk, Framing};

/// A longer head is none. Bytes.
pub const HEAD_MAX_BYTES: usize = 1 << 20;
/// Nor is one with more fields.
const FIELDS_MAX: usize = 256;

/// A head, and what follows from it.
#[derive(Debug)]
pub struct Head {
    /// Status and fields.
    pub answer: Box<ResponseHeader>,
    /// How its body is framed.
    pub framing: Framing,
    /// The connection can be used again after the body.
    pub keeps_alive: bool,
}

/// Why bytes aren't a head.
pub type Malformed = &'static str;

/// Where the head at the beginning of `bytes` ends, if it does; the bytes before `from` were looked at already.
pub fn end(bytes: &[u8], from: usize) -> Option<usize> {
    let from = from.saturating_sub(2);
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|at| {
        let after = from + at + 1;
        match &bytes[after..] {
            [b'\n', ..] => Some(after + 1),
            [b'\r', b'\n', ..] => Some(after + 2),
            _ => None,
        }
    })
}

/// Takes a whole head off the buffer; `None` where there were but empty lines before one. `is_head`: it answers `HEAD`.
///
/// # Errors
/// Why it isn't one.
pub fn take(buffer: &mut BytesMut, end: usize, is_head: bool) -> Result<Option<Head>, Malformed> {
    let bytes = buffer.split_to(end).freeze();
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = Response::new(&mut []);
    let config = ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, &bytes, &mut fields) {
        Ok(Status::Complete(length)) if length == bytes.len() => {}
        Ok(Status::Partial) if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n')) => {
            return Ok(None);
        }
        Ok(Status::Complete(_) | Status::Partial) | Err(_) => {
            return Err("the head of an answer can't be parsed");
        }
    }
    let mut answer = answer(&bytes, &parsed).ok_or("the head of an answer can't be parsed")?;
    let length = length(&answer.headers)?;
    let is_ambiguous = length.is_some() && answer.headers.contains_key(header::TRANSFER_ENCODING);
    restate(&mut answer, length, is_ambiguous);
    let framing = framing(&answer, length.filter(|_| !is_ambiguous), is_head)?;
    // Whoever stands before the backend may have read the other framing.
    let keeps_alive = framing != Framing::UntilClose && !is_ambiguous && keeps_alive(&answer);
    Ok(Some(Head {
        answer,
        framing,
        keeps_alive,
    }))
}

fn answer(bytes: &Bytes, parsed: &Response<'_, '_>) -> Option<Box<ResponseHeader>> {
    // Pingora's own would read each name a second time. The reason goes no further.
    let mut answer = http::Response::new(()).into_parts().0;
    answer.status = StatusCode::from_u16(parsed.code?).ok()?;
    answer.version = match parsed.version {
        Some(1) => Version::HTTP_11,
        _ => Version::HTTP_10,
    };
    answer.headers.reserve(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).ok()?;
        answer.headers.append(name, value);
    }
    Some(Box::new(ResponseHeader::from(answer)))
}

/// What goes on of a stated length: none where chunks override it, one where it was stated several times.
fn restate(answer: &mut ResponseHeader, length: Option<u64>, is_ambiguous: bool) {
    let Some(length) = length else {
        return;
    };
    if is_ambiguous {
        answer.remove_header(&header::CONTENT_LENGTH);
        return;
    }
    let mut stated = answer.headers.get_all(header::CONTENT_LENGTH).iter();
    let first = stated.next().map(HeaderValue::as_bytes);
    let is_plain = first.is_some_and(|value| value.iter().all(u8::is_ascii_digit));
    if !is_plain || stated.next().is_some() {
        // A number is a value.
        let _ = answer.insert_header(header::CONTENT_LENGTH, length);
    }
}

fn framing(
    answer: &ResponseHeader,
    length: Option<u64>,
    is_head: bool,
) -> Result<Framing, Malformed> {
    let status = answer.status;
    let has_none = is_head
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    if has_none {
        return Ok(Framing::Over);
    }
    let mut encodings = answer.headers.get_all(header::TRANSFER_ENCODING).iter();
    match (encodings.next(), encodings.next(), length) {
        (None, _, Some(length)) => Ok(Framing::of_length(length)),
        (None, _, None) => Ok(Framing::UntilClose),
        (Some(encoding), None, _) if is_chunked(encoding) && answer.version == Version::HTTP_11 => {
            Ok(Framing::Chunked(Chunk::Size))
        }
        (Some(_), _, _) => Err("an answer's transfer encoding isn't chunked"),
    }
}

fn is_chunked(encoding: &HeaderValue) -> bool {
    encoding
        .as_bytes()
        .trim_ascii()
        .eq_ignore_ascii_case(b"chunked")
}

/// The stated length. One that is stated several times must be the same each time.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for part in value.as_bytes().split(|byte| *byte == b',') {
            let stated = number(part.trim_ascii()).ok_or("an answer's length is no number")?;
            if length.is_some_and(|length| length != stated) {
                return Err("an answer has two lengths");
            }
            length = Some(stated);
        }
    }
    Ok(length)
}

/// Digits alone: no sign, no blank.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn keeps_alive(answer: &ResponseHeader) -> bool {
    let says = |token: &str| {
        let values = answer.headers.get_all(header::CONNECTION).iter();
        values
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    match answer.version {
        Version::HTTP_11 => !says("close"),
        _ => says("keep-alive") && !says("close"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Result<Head, Malformed> {
        let mut buffer = BytesMut::from(text);
        let end = end(&buffer, 0).unwrap();
        take(&mut buffer, end, false).map(Option::unwrap)
    }

    #[test]
    fn an_end_is_found_wherever_the_reading_stopped() {
        let text = b"HTTP/1.1 200 OK\r\na: b\r\n\r\nbody\r\n\r\n";
        for looked_at in 0..24 {
            assert_eq!(end(text, looked_at), Some(25), "{looked_at}");
        }
        assert_eq!(end(&text[..24], 0), None);
        assert_eq!(end(b"HTTP/1.1 200 OK\n\n", 0), Some(17));
    }

    #[test]
    fn the_framing_follows_the_head() {
        for (fields, framing) in [
            ("content-length: 5\r\n", Framing::Length(5)),
            (
                "content-length: 5, 5\r\ncontent-length: 5\r\n",
                Framing::Length(5),
            ),
            ("content-length: 0\r\n", Framing::Over),
            (
                "transfer-encoding: Chunked\r\n",
                Framing::Chunked(Chunk::Size),
            ),
            ("", Framing::UntilClose),
        ] {
            let head = head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).unwrap();
            assert_eq!(head.framing, framing, "{fields}");
            assert_eq!(head.keeps_alive, framing != Framing::UntilClose);
        }
        let chunked =
            head("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunked = chunked.unwrap();
        assert!(!chunked.answer.headers.contains_key("content-length"));
        assert!(!chunked.keeps_alive);
        let repeated = "content-length: 5, 5\r\ncontent-length: 5\r\n";
        let repeated = head(&format!("HTTP/1.1 200 OK\r\n{repeated}\r\n")).unwrap();
        let stated = repeated.answer.headers.get_all("content-length").iter();
        assert_eq!(stated.collect::<Vec<_>>(), ["5"]);
        let none = head("HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!((none.framing, none.keeps_alive), (Framing::Over, true));
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        for fields in [
            "content-length: 5\r\ncontent-length: 6\r\n",
            "content-length: +5\r\n",
            "content-length: \r\n",
            "content-length: 99999999999999999999\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding : chunked\r\n",
            "no colon\r\n",
        ] {
            assert!(
                head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).is_err(),
                "{fields}"
            );
        }
        assert!(head("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(head("ICY 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_connection_stays_where_both_say_so() {
        let keeps = |text: &str| head(text).unwrap().keeps_alive;
        assert!(!keeps(
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: x, Close\r\n\r\n"
        ));
        assert!(!keeps("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(keeps(
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n"
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_a_head_is_taken_whole(
            pieces in prop::collection::vec(prop_oneof![
                Just("HTTP/1.1 200 OK\r\n"), Just("HTTP/1.0 204\r\n"), Just("HTTP/1.1 100 Continue\r\n"), Just("\r\n"), Just("\n"), Just("\r"),
                Just("content-length: 5\r\n"), Just("content-length: 6\r\n"), Just("transfer-encoding: chunked\r\n"), Just("connection: close\r\n"),
                Just(" folded\r\n"), Just("a: b"), Just(":"), Just("\0"), Just("é"), Just("x"),
            ], 0..16),
        ) {
            let bytes = pieces.concat().into_bytes();
            if let Some(end) = end(&bytes, 0) {
                let mut buffer = BytesMut::from(bytes.as_slice());
                if let Ok(Some(head)) = take(&mut buffer, end, false) {
                    let lengths = head.answer.headers.get_all(header::CONTENT_LENGTH).iter().count();
                    let chunked = head.answer.headers.contains_key(header::TRANSFER_ENCODING);
                    prop_assert!(lengths + usize::from(chunked) <= 1);
                }
                prop_assert_eq!(buffer.as_ref(), &bytes[end..]);
            }
        }
    }

    #[test]
    fn empty_lines_before_a_head_are_none() {
        let mut buffer = BytesMut::from("\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
        let end = end(&buffer, 0).unwrap();
        assert!(take(&mut buffer, end, false).unwrap().is_none());
        assert_eq!(&buffer[..4], b"HTTP");
    }
}
