//! Reads the events of a stream that differ in their text alone, without reading their JSON again.
//!
//! A model's stream is one event after another that says the same but for a few characters. So an event that was read
//! is kept as a template with holes: one for its text, and some for what the gateway never looks at (a running number,
//! padding). A later event that has the same bytes around the holes, and in each hole a value of the same kind, is the
//! same JSON but for those values. So its text is known, and nothing else in it is news: this is exact, not a guess.
//! Any doubt (an escape in a strange place, a byte more) leaves the event to the JSON reader.
//!
//! It costs a comparison of the bytes, a twentieth of reading them.
//!
//! Never here: events that say anything but text. They are never a template.

use std::borrow::Cow;

use memchr::{memchr2, memmem};

use crate::answer::texts::Part;

/// The last few events of a kind of their own: as many as there are choices side by side, or parts of one.
#[derive(Debug, Default)]
pub(super) struct Templates {
    kept: Vec<Template>,
    /// The one that fitted last: most likely it fits again.
    last: usize,
}

/// Where a text belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) choice: u64,
    pub(super) part: Part,
}

impl Templates {
    /// The text of an event that fits a template; it isn't empty.
    pub(super) fn text<'d>(
        &mut self,
        name: Option<&[u8]>,
        data: &'d [u8],
    ) -> Option<(Place, Cow<'d, str>)> {
        let count = self.kept.len();
        let (at, text) = (0..count).find_map(|step| {
            let at = (self.last + step) % count;
            Some((at, self.kept.get(at)?.text(name, data)?))
        })?;
        self.last = at;
        let place = self.kept.get(at)?.place;
        Some((place, text))
    }

    /// Keeps an event that says nothing but `text`, which is a part of `data`.
    pub(super) fn learn(&mut self, name: Option<&[u8]>, data: &[u8], place: Place, text: &str) {
        let Some(template) = Template::of(name, data, place, text) else {
            return;
        };
        if self.kept.len() < MAX_TEMPLATES {
            self.kept.push(template);
            return;
        }
        self.last = (self.last + 1) % MAX_TEMPLATES;
        if let Some(oldest) = self.kept.get_mut(self.last) {
            *oldest = template;
        }
    }
}

#[derive(Debug)]
struct Template {
    name: Option<Box<[u8]>>,
    data: Box<[u8]>,
    holes: Vec<Hole>,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
struct Hole {
    start: usize,
    end: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The text, between quotes.
    Text,
    /// Another string, between quotes.
    Padding,
    /// A whole number.
    Number,
}

impl Template {
    fn of(name: Option<&[u8]>, data: &[u8], place: Place, text: &str) -> Option<Self> {
        if data.len() > MAX_BYTES {
            return None;
        }
        // Borrowed from the data unless it has an escape.
        let start = (text.as_ptr() as usize).checked_sub(data.as_ptr() as usize)?;
        let end = start.checked_add(text.len())?;
        if data.get(start..end)? != text.as_bytes() || data.get(end) != Some(&b'"') {
            return None;
        }
        let text = Hole {
            start,
            end,
            kind: Kind::Text,
        };
        let mut holes = vec![text];
        for (key, kind) in PASSED_OVER {
            let found = memmem::find_iter(data, key).take(MAX_HOLES);
            holes.extend(found.filter_map(|at| Hole::at(data, at + key.len(), kind)));
        }
        holes.sort_unstable_by_key(|hole| hole.start);
        let is_apart = |pair: &[Hole]| matches!(pair, [left, right] if left.end < right.start);
        holes.windows(2).all(is_apart).then(|| Self {
            name: name.map(Box::from),
            data: Box::from(data),
            holes,
            place,
        })
    }

    fn text<'d>(&self, name: Option<&[u8]>, data: &'d [u8]) -> Option<Cow<'d, str>> {
        if name != self.name.as_deref() {
            return None;
        }
        let mut text = None;
        let mut from = 0;
        let mut at = 0;
        for hole in &self.holes {
            let segment = self.data.get(from..hole.start)?;
            at += data
                .get(at..)?
                .starts_with(segment)
                .then_some(segment.len())?;
            let end = value_end(data, at, hole.kind)?;
            if hole.kind == Kind::Text {
                text = unescaped(data, at, end);
            }
            from = hole.end;
            at = end;
        }
        let is_same = data.get(at..)? == self.data.get(from..)?;
        text.filter(|text| is_same && !text.is_empty())
    }
}

impl Hole {
    fn at(data: &[u8], start: usize, kind: Kind) -> Option<Self> {
        let end = value_end(data, start, kind)?;
        Some(Self { start, end, kind })
    }
}

/// Where the value that begins at `start` ends.
fn value_end(data: &[u8], start: usize, kind: Kind) -> Option<usize> {
    let rest = data.get(start..)?;
    let length = match kind {
        Kind::Number => rest
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .filter(|digits| *digits == 1 || (*digits > 1 && rest.first() != Some(&b'0')))?,
        Kind::Padding => {
            let length = memchr2(b'"', b'\\', rest)?;
            (rest.get(length) == Some(&b'"')).then_some(length)?
        }
        Kind::Text => string_len(rest)?,
    };
    let has_control = rest.get(..length)?.iter().any(|byte| *byte < b' ');
    (!has_control).then_some(start + length)
}

/// How many bytes of a string come before its closing quote.
fn string_len(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', rest.get(at..)?)?;
        match rest.get(at)? {
            b'"' => return Some(at),
            _ => at += 2,
        }
    }
}

fn unescaped(data: &[u8], start: usize, end: usize) -> Option<Cow<'_, str>> {
    let raw = data.get(start..end)?;
    if !raw.contains(&b'\\') {
        return std::str::from_utf8(raw).ok().map(Cow::Borrowed);
    }
    let quoted = data.get(start.checked_sub(1)?..=end)?;
    serde_json::from_slice(quoted).ok().map(Cow::Owned)
}

/// What changes from event to event and is never looked at, by its key as it is written. Inside a string the quotes
/// would be escaped, so what is found is a key.
const PASSED_OVER: [(&[u8], Kind); 3] = [
    (b"\"obfuscation\":\"", Kind::Padding),
    (b"\"sequence_number\":", Kind::Number),
    (b"\"created\":", Kind::Number),
];

/// Two choices with content and a tool's arguments each.
const MAX_TEMPLATES: usize = 4;
/// Of one key; there is never more than one.
const MAX_HOLES: usize = 2;
/// An event of one token has a few hundred.
const MAX_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PLACE: Place = Place {
        choice: 0,
        part: Part::Content,
    };

    fn learned(data: &[u8], text: &str) -> Templates {
        let mut templates = Templates::default();
        let at = memmem::find(data, text.as_bytes()).unwrap();
        let text = std::str::from_utf8(&data[at..at + text.len()]).unwrap();
        templates.learn(None, data, PLACE, text);
        templates
    }

    const EVENT: &[u8] =
        br#"{"created":17,"delta":{"content":"Why"},"obfuscation":"abc","sequence_number":9}"#;

    #[test]
    fn an_event_that_differs_in_its_holes_is_read() {
        let mut templates = learned(EVENT, "Why");
        for (data, text) in [
            (
                r#"{"created":18,"delta":{"content":"did"},"obfuscation":"","sequence_number":10}"#,
                "did",
            ),
            (
                r#"{"created":0,"delta":{"content":"\"\u00e9\\"},"obfuscation":"x","sequence_number":11}"#,
                "\"é\\",
            ),
        ] {
            let (place, found) = templates.text(None, data.as_bytes()).unwrap();
            assert_eq!((place, found.as_ref()), (PLACE, text));
        }
    }

    #[test]
    fn anything_else_is_left_to_the_reader_of_json() {
        let mut templates = learned(EVENT, "Why");
        for data in [
            r#"{"created":17,"delta":{"content":""},"obfuscation":"abc","sequence_number":9}"#,
            r#"{"created":17,"delta":{"content":"a"},"obfuscation":"abc","sequence_number":9,"usage":{}}"#,
            r#"{"created":17,"delta":{"content":"a"},"error":{},"obfuscation":"abc","sequence_number":9}"#,
            r#"{"created":17,"delta":{"content":"a","refusal":"b"},"obfuscation":"abc","sequence_number":9}"#,
            r#"{"created":1.5,"delta":{"content":"a"},"obfuscation":"abc","sequence_number":9}"#,
            r#"{"created":07,"delta":{"content":"a"},"obfuscation":"abc","sequence_number":9}"#,
            r#"{"created":,"delta":{"content":"a"},"obfuscation":"abc","sequence_number":9}"#,
            r#"{"created":17,"delta":{"content":"a"},"obfuscation":"\"","sequence_number":9}"#,
            r#"{"created":17,"delta":{"content":"\x"},"obfuscation":"abc","sequence_number":9}"#,
            "{\"created\":17,\"delta\":{\"content\":\"a\nb\"},\"obfuscation\":\"abc\",\"sequence_number\":9}",
            r#"{"created":17,"delta":{"content":"a"#,
            r#"{"created":17,"delta":{"content":"a\"#,
            "",
        ] {
            assert_eq!(templates.text(None, data.as_bytes()), None, "{data}");
        }
        assert_eq!(templates.text(Some(b"other"), EVENT), None);
        let odd = [&EVENT[..33], b"\xff", &EVENT[36..]].concat();
        assert_eq!(templates.text(None, &odd), None);
    }

    #[test]
    fn a_text_that_is_not_a_part_of_the_event_makes_no_template() {
        let mut templates = Templates::default();
        templates.learn(None, EVENT, PLACE, "Why");
        templates.learn(None, EVENT, PLACE, &String::from("Why"));
        assert_eq!(templates.text(None, EVENT), None);
    }

    #[test]
    fn choices_side_by_side_have_a_template_each() {
        let mut templates = Templates::default();
        let events: Vec<String> = (0..9)
            .map(|index| format!("{{\"index\":{index},\"text\":\"a\"}}"))
            .collect();
        for (choice, event) in (0..).zip(&events) {
            let place = Place { choice, ..PLACE };
            let at = event.rfind('a').unwrap();
            templates.learn(None, event.as_bytes(), place, &event[at..=at]);
        }
        let mut fits = 0;
        for (choice, event) in (0..).zip(&events) {
            if let Some((place, text)) = templates.text(None, event.as_bytes()) {
                assert_eq!((place.choice, text.as_ref()), (choice, "a"));
                fits += 1;
            }
        }
        assert_eq!(fits, MAX_TEMPLATES);
    }
}
