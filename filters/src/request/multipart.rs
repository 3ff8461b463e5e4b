//! Reads the facts from a multipart form: audio, images to edit, files.
//!
//! The boundary is searched for, part by part, so a file of any size is passed over at the speed of a search. Delimiters
//! are taken as the standard has them, at the start of a line that ends in CRLF: a reader more generous than the backend
//! could see another model than it does.
//!
//! Never here: the content of a file.

use std::ops::Range;

use memchr::memmem::{self, Finder};

use crate::request::{BodyError, BodyFacts, IncludeUsage, ModelEdit};

/// Reads a multipart form in time linear in its length. A form that breaks off is read as far as it goes.
///
/// # Errors
/// Where no boundary is named or found, or a field that the gateway decides by stands there twice or can't be read.
pub fn read_multipart(content_type: &str, body: &[u8]) -> Result<BodyFacts, BodyError> {
    let boundary = boundary(content_type).ok_or(BodyError::NoBoundary)?;
    let parts = Parts::new(&boundary, body).ok_or(BodyError::NoParts)?;
    let first_at = parts.first_at;
    let mut fields = Fields::default();
    for part in parts {
        fields.take(body, part)?;
    }
    let model = match &fields.model {
        Some(range) => Some(text(body, range, "model", "text in UTF-8")?),
        None => None,
    };
    Ok(BodyFacts {
        model: model.filter(|model| !model.is_empty()).map(str::to_owned),
        stream: read_stream(body, fields.stream.as_ref())?,
        include_usage: IncludeUsage::Absent,
        max_completion_tokens: None,
        user: optional(body, fields.user)
            .filter(|user| !user.is_empty())
            .map(str::to_owned),
        choices: optional(body, fields.choices)
            .and_then(|n| n.trim().parse().ok())
            .unwrap_or(1)
            .max(1),
        previous_response_id: None,
        conversation_id: None,
        model_edit: match fields.model {
            Some(range) => ModelEdit::FormValue(range),
            None => model_field(&boundary, first_at),
        },
        usage_edit: None,
    })
}

/// The fields that are read: where their values stand.
#[derive(Default)]
struct Fields {
    model: Option<Range<usize>>,
    stream: Option<Range<usize>>,
    user: Option<Range<usize>>,
    choices: Option<Range<usize>>,
}

impl Fields {
    fn take(&mut self, body: &[u8], part: Range<usize>) -> Result<(), BodyError> {
        // A part without a head begins with the empty line itself.
        let bytes = &body[part.clone()];
        let Some(head_end) = memmem::find(bytes, b"\r\n\r\n") else {
            return Ok(());
        };
        let value = part.start + head_end + 4..part.end;
        match field_name(&bytes[..head_end]).as_deref() {
            Some(b"model") => take_once(&mut self.model, value, "model"),
            Some(b"stream") => take_once(&mut self.stream, value, "stream"),
            Some(b"user") => {
                self.user = Some(value);
                Ok(())
            }
            Some(b"n") => {
                self.choices = Some(value);
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn take_once(
    place: &mut Option<Range<usize>>,
    value: Range<usize>,
    field: &'static str,
) -> Result<(), BodyError> {
    match place.replace(value) {
        Some(_) => Err(BodyError::Duplicate { field }),
        None => Ok(()),
    }
}

fn read_stream(body: &[u8], value: Option<&Range<usize>>) -> Result<bool, BodyError> {
    let (field, expected) = ("stream", "true or false");
    let Some(range) = value else {
        return Ok(false);
    };
    match text(body, range, field, expected)?
        .trim()
        .to_ascii_lowercase()
        .as_str()
    {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        _ => Err(BodyError::WrongType { field, expected }),
    }
}

fn text<'b>(
    body: &'b [u8],
    range: &Range<usize>,
    field: &'static str,
    expected: &'static str,
) -> Result<&'b str, BodyError> {
    std::str::from_utf8(&body[range.clone()]).map_err(|_| BodyError::WrongType { field, expected })
}

fn optional(body: &[u8], range: Option<Range<usize>>) -> Option<&str> {
    std::str::from_utf8(&body[range?]).ok()
}

fn model_field(boundary: &[u8], at: usize) -> ModelEdit {
    match std::str::from_utf8(boundary) {
        Ok(boundary) => ModelEdit::FormField {
            at,
            opening: format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n"
            ),
        },
        Err(_) => ModelEdit::Impossible,
    }
}

/// The parts of a form, each from behind the line of its delimiter (at that line's end) to the next delimiter.
struct Parts<'b> {
    body: &'b [u8],
    /// Finds a delimiter, with the CRLF that belongs to it.
    delimiter: Finder<'static>,
    /// Where the first delimiter's dashes stand.
    first_at: usize,
    /// The end of the last delimiter's boundary; absent behind the one that closes the form.
    next: Option<usize>,
}

impl<'b> Parts<'b> {
    /// Finds the first delimiter, at the body's start or at the start of a later line.
    fn new(boundary: &[u8], body: &'b [u8]) -> Option<Self> {
        let needle = [b"\r\n--", boundary].concat();
        let delimiter = Finder::new(&needle).into_owned();
        let opening = &needle[2..];
        let first_at = if body.starts_with(opening) && is_delimiter_end(&body[opening.len()..]) {
            0
        } else {
            find_delimiter(&delimiter, body, 0)? + 2
        };
        let next = Some(first_at + opening.len());
        Some(Self {
            body,
            delimiter,
            first_at,
            next,
        })
    }
}

impl Iterator for Parts<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let after = self.next.take()?;
        if self.body[after..].starts_with(b"--") {
            return None;
        }
        // The line's own CRLF is left to the head: it makes an empty head look like any other.
        let start = after
            + self.body[after..]
                .iter()
                .take_while(|byte| matches!(byte, b' ' | b'\t'))
                .count();
        let end = find_delimiter(&self.delimiter, self.body, start);
        self.next = end.map(|end| end + self.delimiter.needle().len());
        Some(start..end.unwrap_or(self.body.len()))
    }
}

/// The next delimiter from `from` on; the boundary as the beginning of a longer line is none.
fn find_delimiter(delimiter: &Finder<'_>, body: &[u8], from: usize) -> Option<usize> {
    let length = delimiter.needle().len();
    let mut found = delimiter.find_iter(&body[from..]).map(|at| from + at);
    found.find(|at| is_delimiter_end(&body[at + length..]))
}

fn is_delimiter_end(rest: &[u8]) -> bool {
    let padding = rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    rest.starts_with(b"--") || rest[padding..].starts_with(b"\r\n")
}

fn boundary(content_type: &str) -> Option<Vec<u8>> {
    let (_, parameters) = content_type.split_once(';')?;
    parameter(parameters.as_bytes(), b"boundary").filter(|boundary| !boundary.is_empty())
}

/// The `name` in a part's `Content-Disposition`.
fn field_name(head: &[u8]) -> Option<Vec<u8>> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let line = line.trim_ascii();
        let colon = memchr::memchr(b':', line)?;
        if !line[..colon]
            .trim_ascii_end()
            .eq_ignore_ascii_case(b"content-disposition")
        {
            return None;
        }
        let semicolon = memchr::memchr(b';', &line[colon..])?;
        parameter(&line[colon + semicolon + 1..], b"name")
    })
}

/// A parameter's value among `a=b; c="d"`, without quotes and their escapes.
fn parameter(mut rest: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    while let Some(equals) = memchr::memchr(b'=', rest) {
        let name = rest[..equals]
            .rsplit(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        let (value, after) = parameter_value(rest[equals + 1..].trim_ascii_start());
        if name.trim_ascii().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
    None
}

fn parameter_value(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        let end = memchr::memchr(b';', text).unwrap_or(text.len());
        return (text[..end].trim_ascii_end().to_vec(), &text[end..]);
    };
    let mut value = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'"', _) => break,
            (b'\\', [escaped @ (b'"' | b'\\'), after @ ..]) => {
                value.push(*escaped);
                rest = after;
            }
            _ => value.push(*first),
        }
    }
    (value, rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::*;
    use crate::request::{Splice, spliced};

    const TYPE: &str = "multipart/form-data; charset=utf-8; Boundary=\"b b\"";

    fn form(fields: &[(&str, &str)]) -> String {
        let parts = fields.iter().map(|(name, value)| {
            format!("--b b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        });
        parts.collect::<String>() + "--b b--\r\n"
    }

    fn edited(body: &str, splice: Option<Splice>) -> String {
        let body = Bytes::copy_from_slice(body.as_bytes());
        String::from_utf8(spliced(&body, splice.into_iter().collect()).concat()).unwrap()
    }

    #[test]
    fn the_facts_are_read_among_files() {
        let body = "preamble\r\n--b b \r\ncontent-disposition:form-data; filename=\"a;name=model\"; name=file\r\nContent-Type: audio/wav\r\n\r\n\
                    RIFF\r\n--b bogus\r\n\0name=\"model\"\r\n--b b\r\nX: y\r\nContent-Disposition: form-data; name=model\r\n\r\nwhisper-1\r\n\
                    --b b\r\nContent-Disposition: form-data; name=\"stream\"\r\n\r\nTrue\r\n--b b\r\n\r\nno head\r\n--b b\r\nno end of head\r\n\
                    --b b\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n2\r\n--b b--\r\n\
                    --b b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nepilogue\r\n";
        let facts = read_multipart(TYPE, body.as_bytes()).unwrap();
        assert_eq!(facts.model.as_deref(), Some("whisper-1"));
        assert!(facts.stream);
        assert_eq!(
            (facts.choices, &facts.user, facts.with_usage()),
            (2, &None, None)
        );
    }

    #[test]
    fn the_model_is_replaced_or_added_as_a_field() {
        let body = form(&[("file", "\r\n\r\n"), ("model", "whisper-1"), ("user", "u")]);
        let facts = read_multipart(TYPE, body.as_bytes()).unwrap();
        assert_eq!(facts.model_as("whisper-1"), None);
        assert_eq!(facts.user.as_deref(), Some("u"));
        assert_eq!(
            edited(&body, facts.model_as("x\r\ny")),
            body.replace("whisper-1", "xy")
        );
        let without = String::from("preamble\r\n") + &form(&[("file", "")]);
        let facts = read_multipart(TYPE, without.as_bytes()).unwrap();
        assert_eq!(facts.model, None);
        let with = edited(&without, facts.model_as("m"));
        assert_eq!(
            with,
            String::from("preamble\r\n") + &form(&[("model", "m"), ("file", "")])
        );
        assert_eq!(
            read_multipart(TYPE, with.as_bytes())
                .unwrap()
                .model
                .as_deref(),
            Some("m")
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let error =
            |fields: &[(&str, &str)]| read_multipart(TYPE, form(fields).as_bytes()).unwrap_err();
        assert_eq!(
            error(&[("model", "a"), ("model", "a")]),
            BodyError::Duplicate { field: "model" }
        );
        assert_eq!(
            error(&[("stream", "1"), ("stream", "1")]),
            BodyError::Duplicate { field: "stream" }
        );
        assert_eq!(error(&[("stream", "maybe")]).field(), Some("stream"));
        let body = form(&[]);
        assert_eq!(
            read_multipart("multipart/form-data", body.as_bytes()).unwrap_err(),
            BodyError::NoBoundary
        );
        assert_eq!(
            read_multipart("a/b; boundary=other", body.as_bytes()).unwrap_err(),
            BodyError::NoParts
        );
        assert_eq!(
            read_multipart("a/b; boundary=\"\"", body.as_bytes()).unwrap_err(),
            BodyError::NoBoundary
        );
    }

    #[test]
    fn a_form_that_breaks_off_is_read_as_far_as_it_goes() {
        let body = form(&[("model", "whisper-1"), ("file", "data")]);
        let value = &body[body.find("whisper").unwrap()..];
        for end in 0..body.len() {
            match read_multipart(TYPE, &body.as_bytes()[..end]) {
                Ok(facts) => assert!(value.starts_with(facts.model.as_deref().unwrap_or_default())),
                Err(error) => assert_eq!(error, BodyError::NoParts),
            }
        }
    }
}
