//! A record as one line of JSON.
//!
//! By hand: one buffer, no map in between, and nothing that can fail. A line is bounded, since a caller chooses some
//! of its texts: each is cut to [`MAX_TEXT_BYTES`].

use std::io::Write;

use super::Record;

/// Longer texts are cut: names are shorter, and a caller may send a `user` as long as a body. Bytes.
const MAX_TEXT_BYTES: usize = 512;
/// Most lines are shorter. Bytes.
const USUAL_LINE_BYTES: usize = 768;

impl Record<'_> {
    /// The record as JSON, with the line end. Linear; one allocation for most.
    pub fn line(&self) -> Vec<u8> {
        let mut line = Line(Vec::with_capacity(USUAL_LINE_BYTES));
        let (who, asked, served, usage) = (&self.who, &self.asked, &self.served, &self.usage);
        line.first("time", &self.time);
        line.text("request_id", &self.request_id);
        line.text("subscription", &who.subscription);
        line.text("product", &who.product);
        line.text("api", &asked.api);
        line.text("operation", &asked.operation);
        line.text("model", &asked.model);
        line.text("deployment", &served.deployment);
        line.text("backend", &served.backend);
        line.plain("status", &served.status);
        line.plain("stream", &asked.stream);
        line.plain("prompt_tokens", &usage.prompt);
        line.plain("completion_tokens", &usage.completion);
        line.plain("cached_tokens", &usage.cached);
        line.plain("reasoning_tokens", &usage.reasoning);
        line.plain("total_tokens", &usage.total);
        line.text("source", &served.source);
        line.text("end", &served.end);
        line.plain("attempts", &served.attempts);
        line.text("cache", &served.cache);
        line.plain("duration_ms", &self.duration_ms);
        match self.ttft_ms {
            Some(ttft_ms) => line.plain("ttft_ms", &ttft_ms),
            None => line.plain("ttft_ms", &"null"),
        }
        line.texts("attributes", &who.attributes);
        line.text("user", &who.user);
        line.text("gateway", &self.gateway);
        line.end()
    }
}

struct Line(Vec<u8>);

impl Line {
    fn first(&mut self, name: &str, value: &impl std::fmt::Display) {
        self.formatted(format_args!("{{\"{name}\":\"{value}\""));
    }

    /// A number, or a word of JSON.
    fn plain(&mut self, name: &str, value: &impl std::fmt::Display) {
        self.formatted(format_args!(",\"{name}\":{value}"));
    }

    fn text(&mut self, name: &str, value: &str) {
        self.formatted(format_args!(",\"{name}\":"));
        self.quoted(value);
    }

    fn texts<T: AsRef<str>>(&mut self, name: &str, values: &[(T, T)]) {
        self.formatted(format_args!(",\"{name}\":{{"));
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

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"}\n");
        self.0
    }

    fn formatted(&mut self, text: std::fmt::Arguments<'_>) {
        // A `Vec` takes whatever is written to it.
        let _ = self.0.write_fmt(text);
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
            other => self.formatted(format_args!("\\u{other:04x}")),
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
