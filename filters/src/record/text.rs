//! A record as one line for people: `time status name=value ...`, without what is empty.
//!
//! The names are those of the JSON form. A value that holds a blank, a quote or a control character stands in quotes, with
//! those escaped, so that no caller's text can look like another field or another line.

use std::fmt::Write;

use super::Record;

/// Longer texts are cut, as in the JSON form. Bytes.
const MAX_TEXT_BYTES: usize = 512;

impl Record<'_> {
    /// The record as text, with the line end. Linear.
    pub fn text_line(&self) -> Vec<u8> {
        let (who, asked, served, usage) = (&self.who, &self.asked, &self.served, &self.usage);
        let mut line = Line(format!("{} {}", self.time, served.status));
        line.text("subscription", &who.subscription);
        line.text("product", &who.product);
        line.text("api", &asked.api);
        line.text("operation", &asked.operation);
        line.text("model", &asked.model);
        line.text("deployment", &served.deployment);
        line.text("backend", &served.backend);
        if asked.stream {
            line.text("stream", "true");
        }
        line.number("prompt_tokens", usage.prompt);
        line.number("completion_tokens", usage.completion);
        line.number("cached_tokens", usage.cached);
        line.number("reasoning_tokens", usage.reasoning);
        line.number("total_tokens", usage.total);
        line.text("source", &served.source);
        line.text("end", &served.end);
        line.number("attempts", served.attempts);
        line.text("cache", &served.cache);
        line.text("duration_ms", &self.duration_ms.to_string());
        if let Some(ttft_ms) = self.ttft_ms {
            line.text("ttft_ms", &ttft_ms.to_string());
        }
        for (name, value) in &who.attributes {
            line.text(&format!("attributes.{name}"), value);
        }
        line.text("user", &who.user);
        line.text("gateway", &self.gateway);
        line.text("request_id", &self.request_id);
        line.0.push('\n');
        line.0.into_bytes()
    }
}

struct Line(String);

impl Line {
    /// Nothing where it is zero.
    fn number(&mut self, name: &str, value: u64) {
        if value > 0 {
            self.text(name, &value.to_string());
        }
    }

    /// Nothing where it is empty.
    fn text(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        self.0.push(' ');
        self.value(name);
        self.0.push('=');
        self.value(value);
    }

    fn value(&mut self, value: &str) {
        let cut = value.floor_char_boundary(MAX_TEXT_BYTES.min(value.len()));
        let value = value.get(..cut).unwrap_or_default();
        let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
        match value.chars().all(is_plain) {
            true => self.0.push_str(value),
            // A string takes whatever is written to it.
            false => drop(write!(self.0, "\"{}\"", value.escape_debug())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::tests::example;

    fn text(record: &super::Record<'_>) -> String {
        String::from_utf8(record.text_line()).unwrap()
    }

    #[test]
    fn a_line_says_what_is_there_and_nothing_else() {
        let mut record = example();
        record.usage.cached = 0;
        let expected = "2026-11-22T13:25:09.123Z 200 subscription=team-a product=gold api=openai \
            operation=chat-completions model=gpt-4o deployment=gpt-4o-ptu backend=east stream=true prompt_tokens=100 \
            completion_tokens=8 reasoning_tokens=3 total_tokens=108 source=upstream end=complete attempts=2 cache=none \
            duration_ms=1234 ttft_ms=200 attributes.cost-center=4711 user=ann gateway=gate-1 \
            request_id=0123456789abcdef0123456789abcdef\n";
        assert_eq!(text(&record), expected);
    }

    #[test]
    fn what_a_caller_sends_stays_one_field_of_one_line() {
        let mut record = example();
        record.who.user = "a status=500\nb\"".into();
        record.asked.model = "x".repeat(10_000).into();
        let line = text(&record);
        assert!(
            line.contains(r#" user="a status=500\nb\"" gateway="#),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1);
        assert!(line.len() < 2_000);
    }
}
