//! A form of JSON in which equal values are equal bytes, however their members are ordered or spaced.
//!
//! It is written while the body is read: no tree is built. Members are sorted by key; a value longer than a digest
//! is replaced by its digest first, so each level of an object costs a few bytes a member, and the whole is linear in
//! the body however deep it is nested. Every value tells its own end, so no two values have the same bytes.
//!
//! `1` and `1.0` are one value. A number that can't be held exactly, and a key that stands twice, are flaws: who reads
//! such a body can't be sure to read it as the backend does.
//!
//! Never here: what a value means.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use sha2::{Digest as _, Sha256};

/// Why two bodies that look the same here may not be the same to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    DuplicateKey,
    InexactNumber,
}

/// Reads one value and appends its canonical form to `out`.
pub(super) struct Canonical<'o> {
    pub(super) out: &'o mut Vec<u8>,
    pub(super) flaw: &'o mut Option<Flaw>,
}

impl<'de> DeserializeSeed<'de> for Canonical<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Canonical<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.out.push(b'n');
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.out.push(if value { b't' } else { b'f' });
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        write_integer(self.out, value.into());
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        write_integer(self.out, value.into());
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        if value.abs() >= EXACT_BELOW {
            *self.flaw = Some(Flaw::InexactNumber);
        } else if value.fract() == 0.0 {
            // Exact: below 2^53 every integer is.
            write_integer(self.out, value as i128);
            return Ok(());
        }
        self.out.push(b'd');
        self.out.extend_from_slice(&value.to_bits().to_be_bytes());
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        write_text(self.out, text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.out.push(b'[');
        while items
            .next_element_seed(Canonical {
                out: &mut *self.out,
                flaw: &mut *self.flaw,
            })?
            .is_some()
        {}
        self.out.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut members = Members::default();
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            members.read(&key, &mut map, self.flaw)?;
        }
        members.write(self.out, self.flaw);
        Ok(())
    }
}

/// The members of one object, in the order they came.
#[derive(Default)]
pub(super) struct Members {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

struct Span {
    start: usize,
    key_end: usize,
    end: usize,
}

impl Members {
    /// Reads the value that follows `key` in `map`.
    pub(super) fn read<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        flaw: &mut Option<Flaw>,
    ) -> Result<(), A::Error> {
        let (start, key_end) = self.begin(key);
        map.next_value_seed(Canonical {
            out: &mut self.bytes,
            flaw,
        })?;
        self.end(start, key_end);
        Ok(())
    }

    /// Adds a member whose value is canonical already.
    pub(super) fn add(&mut self, key: &str, value: &[u8]) {
        let (start, key_end) = self.begin(key);
        self.bytes.extend_from_slice(value);
        self.end(start, key_end);
    }

    /// Appends the object.
    pub(super) fn write(mut self, out: &mut Vec<u8>, flaw: &mut Option<Flaw>) {
        let bytes = &self.bytes;
        let key = |span: &Span| &bytes[span.start..span.key_end];
        self.spans.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        if self
            .spans
            .windows(2)
            .any(|two| key(&two[0]) == key(&two[1]))
        {
            *flaw = Some(Flaw::DuplicateKey);
        }
        out.push(b'{');
        for span in &self.spans {
            out.extend_from_slice(&bytes[span.start..span.end]);
        }
        out.push(b'}');
    }

    fn begin(&mut self, key: &str) -> (usize, usize) {
        let start = self.bytes.len();
        write_text(&mut self.bytes, key);
        shorten(&mut self.bytes, start);
        (start, self.bytes.len())
    }

    fn end(&mut self, start: usize, key_end: usize) {
        shorten(&mut self.bytes, key_end);
        self.spans.push(Span {
            start,
            key_end,
            end: self.bytes.len(),
        });
    }
}

/// Appends a text.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b's');
    out.extend_from_slice(&(text.len() as u64).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn write_integer(out: &mut Vec<u8>, value: i128) {
    out.push(b'i');
    out.extend_from_slice(&value.to_be_bytes());
}

/// Replaces what follows `start` by its digest, if that is shorter.
fn shorten(bytes: &mut Vec<u8>, start: usize) {
    if bytes.len() - start > DIGEST_BYTES {
        let digest = Sha256::digest(&bytes[start..]);
        bytes.truncate(start);
        bytes.push(b'h');
        bytes.extend_from_slice(&digest);
    }
}

const DIGEST_BYTES: usize = 32;

/// 2^53: from here on not every integer has a float of its own.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn canonical(json: &str) -> (Vec<u8>, Option<Flaw>) {
        let (mut out, mut flaw) = (Vec::new(), None);
        let mut reader = serde_json::Deserializer::from_str(json);
        Canonical {
            out: &mut out,
            flaw: &mut flaw,
        }
        .deserialize(&mut reader)
        .unwrap();
        (out, flaw)
    }

    #[test]
    fn order_space_escapes_and_the_writing_of_a_number_do_not_matter() {
        let long = "x".repeat(100);
        for (a, b) in [
            (
                r#"{"a":1,"b":[true,null]}"#.to_owned(),
                r#" { "b" : [true, null], "a":1.0 } "#.to_owned(),
            ),
            (r#""\u0061\/""#.to_owned(), r#""a/""#.to_owned()),
            ("1e2".to_owned(), "100".to_owned()),
            ("-0.0".to_owned(), "0".to_owned()),
            (
                format!(r#"{{"{long}":"{long}","a":{{"x":1,"y":2}}}}"#),
                format!(r#"{{"a":{{"y":2,"x":1}},"{long}":"{long}"}}"#),
            ),
        ] {
            assert_eq!(canonical(&a), canonical(&b), "{a} {b}");
            assert_eq!(canonical(&a).1, None);
        }
    }

    #[test]
    fn what_differs_has_other_bytes() {
        let values = [
            "null",
            "false",
            "true",
            "0",
            "1",
            "-1",
            "0.5",
            "18446744073709551615",
            r#""""#,
            r#""1""#,
            r#""null""#,
            "[]",
            "[[]]",
            "[1]",
            "[1,1]",
            "[[1],1]",
            "[1,[1]]",
            "{}",
            r#"{"a":1}"#,
            r#"{"a":[1]}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"ab":1}"#,
            r#"["a","b"]"#,
            r#"["ab"]"#,
            r#"{"a":"b"}"#,
            r#"{"b":"a"}"#,
        ];
        for (i, a) in values.iter().enumerate() {
            for b in &values[i + 1..] {
                assert_ne!(canonical(a).0, canonical(b).0, "{a} {b}");
            }
        }
    }

    #[test]
    fn what_a_backend_may_read_otherwise_is_a_flaw() {
        assert_eq!(
            canonical(r#"{"a":1,"b":{"\u0061":1,"a":2}}"#).1,
            Some(Flaw::DuplicateKey)
        );
        assert_eq!(
            canonical("[123456789012345678901]").1,
            Some(Flaw::InexactNumber)
        );
        assert_eq!(canonical("1e300").1, Some(Flaw::InexactNumber));
    }

    #[test]
    fn a_deep_body_is_not_copied_at_every_level() {
        let filler = "x".repeat(1 << 20);
        let json = (0..100).fold(format!("\"{filler}\""), |inner, _| {
            format!(r#"{{"z":{inner},"a":1}}"#)
        });
        let (out, flaw) = canonical(&json);
        assert!(out.len() < 200, "{}", out.len());
        assert_eq!(flaw, None);
    }
}
