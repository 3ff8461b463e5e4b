//! The members of a JSON object, found without reading what they hold.
//!
//! Why beside serde: a body is text for nine tenths, and serde looks at each byte of a text that it skips. Here a text is
//! passed over by vector instructions, and nesting is counted in a list and not on the stack.
//!
//! What this accepts is JSON, to the last digit and escape. Of what it doesn't accept it says nothing: whoever needs the
//! fault, and its place, asks serde.

use std::borrow::Cow;

/// Calls `visit` with each member of the object that `text` is: its name without escapes, and its value as it is
/// written. `None` where `text` isn't an object, or a name can't be decoded; some members may have been visited then.
pub(crate) fn members<'a>(
    text: &'a str,
    mut visit: impl FnMut(Cow<'a, str>, &'a str),
) -> Option<()> {
    let mut scan = Scan::new(text);
    scan.blank();
    scan.expect(b'{')?;
    scan.blank();
    if scan.peek()? == b'}' {
        scan.at += 1;
        return scan.is_at_end();
    }
    loop {
        let name = scan.name()?;
        scan.blank();
        let start = scan.at;
        scan.value()?;
        visit(name, text.get(start..scan.at)?);
        scan.blank();
        match scan.next()? {
            b',' => scan.blank(),
            b'}' => return scan.is_at_end(),
            _ => return None,
        }
    }
}

/// A text that ends within so many words of eight bytes is looked at word by word.
const SHORT_WORDS: usize = 3;
/// What comes before it is a control character, which a text may hold as an escape only.
const FIRST_PRINTABLE: u8 = 0x20;

/// A place in a text that is read as JSON. Each method takes one thing from there on; `None` where it isn't there.
pub(crate) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    /// The text's beginning.
    pub(crate) fn new(text: &'a str) -> Self {
        Scan { text, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The byte that comes next.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes a byte.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// Passes over blanks.
    pub(crate) fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Whether nothing but blanks is left.
    pub(crate) fn is_at_end(&mut self) -> Option<()> {
        self.blank();
        self.peek().is_none().then_some(())
    }

    /// A member's name and the colon after it.
    pub(crate) fn name(&mut self) -> Option<Cow<'a, str>> {
        let name = self.text()?;
        self.blank();
        self.expect(b':')?;
        Some(name)
    }

    /// A text, without its escapes.
    pub(crate) fn text(&mut self) -> Option<Cow<'a, str>> {
        let start = self.at;
        let is_escaped = self.string()?;
        let written = self.text.get(start..self.at)?;
        match is_escaped {
            true => Some(Cow::Owned(serde_json::from_str(written).ok()?)),
            false => Some(Cow::Borrowed(written.get(1..written.len() - 1)?)),
        }
    }

    /// A number, as it is written.
    pub(crate) fn written_number(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.number()?;
        self.text.get(start..self.at)
    }

    fn value(&mut self) -> Option<()> {
        // The brackets that are open, by what closes them.
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'{' => {
                    if !self.opens(b'}')? {
                        open.push(b'}');
                        self.skip_name()?;
                        continue;
                    }
                }
                b'[' => {
                    if !self.opens(b']')? {
                        open.push(b']');
                        continue;
                    }
                }
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            loop {
                let Some(close) = open.last().copied() else {
                    return Some(());
                };
                self.blank();
                match self.next()? {
                    b',' => {
                        self.blank();
                        if close == b'}' {
                            self.skip_name()?;
                        }
                        break;
                    }
                    byte if byte == close => {
                        open.pop();
                    }
                    _ => return None,
                }
            }
        }
    }

    /// A bracket, and whether it is closed at once.
    fn opens(&mut self, close: u8) -> Option<bool> {
        self.at += 1;
        self.blank();
        let is_empty = self.peek()? == close;
        self.at += usize::from(is_empty);
        Some(is_empty)
    }

    fn skip_name(&mut self) -> Option<()> {
        self.string()?;
        self.blank();
        self.expect(b':')?;
        self.blank();
        Some(())
    }

    /// This word.
    pub(crate) fn word(&mut self, word: &[u8]) -> Option<()> {
        self.at += word.len();
        let begin = self.at - word.len();
        (self.text.as_bytes().get(begin..self.at)? == word).then_some(())
    }

    /// A text; whether it holds an escape.
    fn string(&mut self) -> Option<bool> {
        self.expect(b'"')?;
        let mut is_escaped = false;
        loop {
            self.plain();
            match self.next()? {
                b'"' => return Some(is_escaped),
                b'\\' => {
                    is_escaped = true;
                    self.escape()?;
                }
                // A control character.
                _ => return None,
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Option<()> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
            b'u' => {
                let digits = self.rest().get(..4)?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                self.at += 4;
            }
            _ => return None,
        }
        Some(())
    }

    /// Passes over all that ends no text and escapes nothing.
    fn plain(&mut self) {
        let rest = self.rest();
        // Most texts are names and short values; the search begins to pay behind them.
        let mut short = rest;
        for _ in 0..SHORT_WORDS {
            let Some((word, after)) = short.split_first_chunk::<8>() else {
                break;
            };
            if let Some(place) = first_special(u64::from_le_bytes(*word)) {
                self.at += rest.len() - short.len() + place;
                return;
            }
            short = after;
        }
        self.at += rest.len() - short.len();
        let rest = short;
        let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        let plain = rest.get(..end).unwrap_or_default();
        self.at += match plain.iter().copied().fold(u8::MAX, u8::min) {
            ..FIRST_PRINTABLE => plain
                .iter()
                .take_while(|byte| **byte >= FIRST_PRINTABLE)
                .count(),
            FIRST_PRINTABLE.. => end,
        };
    }

    fn number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits()?,
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// At least one.
    fn digits(&mut self) -> Option<()> {
        let rest = self.rest();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }
}

/// Which byte of a word, from its lowest on, is the first that ends a text, begins an escape or is a control character.
/// By the usual tricks (Bit Twiddling Hacks, "hasless" and "hasvalue"), whose lowest hit is exact.
fn first_special(word: u64) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let less = |word: u64, than: u8| word.wrapping_sub(ONES * u64::from(than)) & !word;
    let is = |byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
    let found = (less(word, FIRST_PRINTABLE) | is(b'"') | is(b'\\')) & HIGHS;
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn found(text: &str) -> Option<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        members(text, |name, value| {
            found.insert(name.into_owned(), value.to_owned());
        })?;
        Some(found)
    }

    fn by_serde(text: &str) -> Option<BTreeMap<String, String>> {
        let read: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
        Some(
            read.into_iter()
                .map(|(name, value)| (name, value.get().to_owned()))
                .collect(),
        )
    }

    #[test]
    fn members_are_found_as_they_are_written() {
        let text = r#" { "a" : [1, {"b":[]}, "]"] ,"mod\u0065l":"x\"y\u00e9é", "e":{ } ,"n":-0.5E+10,"t":true } "#;
        assert_eq!(found(text), by_serde(text));
        assert_eq!(found(text).unwrap()["model"], r#""x\"y\u00e9é""#);
        assert_eq!(found(" {} "), Some(BTreeMap::new()));
    }

    #[test]
    fn what_is_no_object_is_not_taken_for_one() {
        for text in [
            "",
            "{",
            "}",
            "[]",
            "1",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1 \"b\":2}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":-}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":1e}",
            "{\"a\":+1}",
            "{\"a\":tru}",
            "{\"a\":nulll}",
            "{\"a\":[1,]}",
            "{\"a\":[1}}",
            "{\"a\":{\"b\":1]}",
            "{\"a\":{\"b\"}}",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"\\u12\"}",
            "{\"a\":\"",
            "{\"a\":1} x",
            "{\"a\":1}{}",
            "\u{feff}{}",
            "{\"a\":\u{a0}1}",
            "{\"\\ud800\":1}",
        ] {
            assert_eq!(found(text), None, "{text}");
            assert_eq!(by_serde(text), None, "{text}");
        }
    }

    #[test]
    fn a_text_ends_wherever_its_end_stands() {
        for length in 0..100 {
            let text = format!("{{\"a\":\"{}\",\"b\":1}}", "x".repeat(length));
            assert_eq!(found(&text), by_serde(&text), "{length}");
            let broken = text.replace("x\"", "x\u{1f}\"");
            assert_eq!(found(&broken).is_some(), length == 0);
        }
    }

    proptest! {
        #[test]
        fn a_words_first_special_byte_is_found(word: [u8; 8], specials in prop::collection::vec((0..8_usize, prop::sample::select(&b"\"\\\n\x1f\x00"[..])), 0..3)) {
            let mut word = word;
            for (place, special) in specials {
                word[place] = special;
            }
            let expected = word.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(first_special(u64::from_le_bytes(word)), expected);
        }

        #[test]
        fn it_agrees_with_serde(parts in prop::collection::vec(prop::sample::select(&[
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\\\"", "\"a\"", "\"b\":", "1", "0", "-", ".", "e", "true", "null",
            " ", "\n", "é", "\\u00e9", "\\ud800", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "\"a\":1,", "{\"a\":", "[1,2]",
        ][..]), 0..12), inside: bool) {
            let text = parts.concat();
            let text = if inside { format!("{{\"k\":{text}}}") } else { text };
            // Two members of one name are one in a map, whichever way they are read.
            prop_assert_eq!(found(&text), by_serde(&text), "{}", text);
        }
    }
}
