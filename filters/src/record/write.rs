//! A record as one line of JSON.
//!
//! By hand: one buffer, no map in between, and nothing that can fail. A line is bounded, since a caller chooses some
//! of its texts: each is cut to [`MAX_TEXT_BYTES`].

use super::Record;
use crate::time::UnixMillis;
use crate::time::calendar::Date;

/// Longer texts are cut: names are shorter, and a caller may send a `user` as long as a body. Bytes.
const MAX_TEXT_BYTES: usize = 512;
/// Most lines are shorter. Bytes.
const USUAL_LINE_BYTES: usize = 768;

impl Record<'_> {
    /// The record as JSON, with the line end. Linear; one allocation for most.
    pub fn line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(USUAL_LINE_BYTES);
        self.add_line(&mut line);
        line
    }

    /// The same, at the end of `out`.
    pub fn add_line(&self, out: &mut Vec<u8>) {
        let mut line = Line(out);
        let (who, asked, served, usage) = (&self.who, &self.asked, &self.served, &self.usage);
        line.time(self.time);
        line.text("request_id", &self.request_id);
        line.text("subscription", &who.subscription);
        line.text("product", &who.product);
        line.text("api", &asked.api);
        line.text("operation", &asked.operation);
        line.text("model", &asked.model);
        line.text("deployment", &served.deployment);
        line.text("backend", &served.backend);
        line.number("status", u64::from(served.status));
        line.plain("stream", if asked.stream { "true" } else { "false" });
        line.number("prompt_tokens", usage.prompt);
        line.number("completion_tokens", usage.completion);
        line.number("cached_tokens", usage.cached);
        line.number("reasoning_tokens", usage.reasoning);
        line.number("total_tokens", usage.total);
        line.text("source", &served.source);
        line.text("end", &served.end);
        line.number("attempts", served.attempts);
        line.text("cache", &served.cache);
        line.number("duration_ms", self.duration_ms);
        match self.ttft_ms {
            Some(ttft_ms) => line.number("ttft_ms", ttft_ms),
            None => line.plain("ttft_ms", "null"),
        }
        line.texts("attributes", &who.attributes);
        line.text("user", &who.user);
        line.text("gateway", &self.gateway);
        line.end();
    }
}

/// Made of bytes: the machinery of `write!` would take ten times as long as all that a line holds.
struct Line<'o>(&'o mut Vec<u8>);

impl Line<'_> {
    /// The first field, as `UnixMillis` is displayed.
    fn time(&mut self, time: UnixMillis) {
        self.0.extend_from_slice(b"{\"time\":\"");
        let (date, seconds) = (Date::at(time.second()), time.second().as_seconds() % 86_400);
        self.digits(date.year, 4);
        self.0.push(b'-');
        self.digits(date.month, 2);
        self.0.push(b'-');
        self.digits(date.day, 2);
        self.0.push(b'T');
        self.digits(seconds / 3_600, 2);
        self.0.push(b':');
        self.digits(seconds / 60 % 60, 2);
        self.0.push(b':');
        self.digits(seconds % 60, 2);
        self.0.push(b'.');
        self.digits(time.as_millis() % 1_000, 3);
        self.0.extend_from_slice(b"Z\"");
    }

    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// A word of JSON.
    fn plain(&mut self, name: &str, word: &str) {
        self.name(name);
        self.0.extend_from_slice(word.as_bytes());
    }

    fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        self.digits(number, 1);
    }

    /// A number of at least so many digits.
    fn digits(&mut self, mut number: u64, least: usize) {
        let mut digits = [b'0'; 20];
        let mut begin = digits.len();
        while number > 0 {
            begin -= 1;
            digits[begin] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        let begin = begin.min(digits.len() - least);
        self.0.extend_from_slice(&digits[begin..]);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value);
    }

    fn texts<T: AsRef<str>>(&mut self, name: &str, values: &[(T, T)]) {
        self.name(name);
        self.0.push(b'{');
        for (index, (key, value)) in values.iter().enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            self.quoted(key.as_ref());
            self.0.push(b':');
            self.quoted(value.as_ref());
        }
        self.0.push(b'}');
    }

    fn end(self) {
        self.0.extend_from_slice(b"}\n");
    }

    /// Text without control characters, quotes and backslashes is copied as a whole.
    fn quoted(&mut self, text: &str) {
        let text = cut(text);
        self.0.push(b'"');
        let mut rest = text.as_bytes();
        while let Some(at) = rest.iter().position(|byte| needs_escape(*byte)) {
            let (plain, special) = rest.split_at(at);
            self.0.extend_from_slice(plain);
            match special.split_first() {
                Some((special, after)) => {
                    self.escaped(*special);
                    rest = after;
                }
                None => rest = &[],
            }
        }
        self.0.extend_from_slice(rest);
        self.0.push(b'"');
    }

    fn escaped(&mut self, byte: u8) {
        match byte {
            b'"' | b'\\' => self.0.extend_from_slice(&[b'\\', byte]),
            other => {
                self.0.extend_from_slice(b"\\u00");
                for digit in [other >> 4, other & 15] {
                    self.0.push(b"0123456789abcdef"[usize::from(digit)]);
                }
            }
        }
    }
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// As much of it as is kept, up to the end of a character.
fn cut(text: &str) -> &str {
    if text.len() <= MAX_TEXT_BYTES {
        return text;
    }
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::tests::example;
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        let mut record = example();
        record.who.user = "a\"b\\c\n\u{0}\u{7f}\u{2028}é".into();
        let line = String::from_utf8(record.line()).unwrap();
        let user = r#""user":"a\"b\\c\u000a\u0000"#;
        assert!(line.contains(user), "{line}");
        assert!(line.contains("\u{7f}\u{2028}é\",\"gateway\""), "{line}");
    }

    #[test]
    fn a_text_without_an_end_is_cut_within_bounds() {
        let mut record = example();
        record.who.user = "é".repeat(10_000_000).into();
        let line = record.line();
        assert!(line.len() < 2_000, "{}", line.len());
        assert_eq!(Record::read(&line).unwrap().who.user, "é".repeat(256));
    }

    #[test]
    fn no_first_token_is_null() {
        let mut record = example();
        record.ttft_ms = None;
        let line = String::from_utf8(record.line()).unwrap();
        assert!(line.contains(r#""ttft_ms":null,"#), "{line}");
    }
}
