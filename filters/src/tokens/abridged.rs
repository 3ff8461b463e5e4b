//! A body as short as it can be and still cost the same: without the data of its images beyond their heads.
//!
//! Why: a body is kept for as long as its answer takes, since it is counted where a backend tells no usage; and an image in
//! it is megabytes of text of which only the head says what it costs.
//!
//! Only what is the value of an image's address is cut: the same characters in a text are tokens. Never parses.

use memchr::{memchr2, memmem};

use super::image::size;

/// So much of an image is kept at least; where its size stands further on, twice as much, and so on. Bytes.
const HEAD_MIN_BYTES: usize = 1 << 10;
/// What an image's address begins with, its quotation mark included.
const DATA: &[u8] = b"\"data:image/";
/// The members that hold one.
const ADDRESSES: [&[u8]; 2] = [b"\"url\"", b"\"image_url\""];

/// The body without what [`prompt`](super::prompt) doesn't look at. `None`: it has no such images.
pub fn abridged(body: &[u8]) -> Option<Vec<u8>> {
    let mut short = Vec::new();
    let mut from = 0;
    for at in memmem::find_iter(body, DATA).filter(|at| is_address(&body[..*at])) {
        let begin = at + 1;
        let rest = &body[begin..];
        // With an escape in it, it isn't what it looks like.
        let end = memchr2(b'"', b'\\', rest).filter(|end| rest[*end] == b'"');
        let Some(length) = end else {
            continue;
        };
        let kept = head_bytes(&rest[..length]);
        if kept < length {
            short.extend_from_slice(&body[from..begin + kept]);
            from = begin + length;
        }
    }
    if from == 0 {
        return None;
    }
    short.extend_from_slice(&body[from..]);
    Some(short)
}

/// Whether a value that stands after this is an image's address.
fn is_address(before: &[u8]) -> bool {
    let name = before.trim_ascii_end().strip_suffix(b":");
    let name = name.map(<[u8]>::trim_ascii_end).unwrap_or_default();
    ADDRESSES.iter().any(|address| name.ends_with(address))
}

/// How much of an image's address says the same as all of it.
fn head_bytes(address: &[u8]) -> usize {
    let Ok(whole) = std::str::from_utf8(address) else {
        return address.len();
    };
    let says = size(whole);
    let mut length = HEAD_MIN_BYTES;
    while length < whole.len() {
        if whole.get(..length).is_some_and(|head| size(head) == says) {
            return length;
        }
        length *= 2;
    }
    whole.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;
    use crate::route::Shape;
    use crate::tokens::prompt;

    /// A JPEG of 1200 by 800 whose size stands behind a profile of this length.
    fn jpeg(profile_bytes: u16) -> String {
        let mut file = vec![0xFF, 0xD8, 0xFF, 0xE2];
        file.extend((profile_bytes + 2).to_be_bytes());
        file.extend(vec![7; profile_bytes.into()]);
        file.extend([0xFF, 0xC0, 0, 17, 8]);
        file.extend(800_u16.to_be_bytes());
        file.extend(1200_u16.to_be_bytes());
        file.extend(vec![5; 90_000]);
        format!("data:image/jpeg;base64,{}", STANDARD.encode(file))
    }

    fn chat(content: &str) -> String {
        format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":{content}}}]}}"#)
    }

    fn image(url: &str) -> String {
        format!(r#"{{"type":"image_url","image_url":{{"url" : "{url}","detail":"high"}}}}"#)
    }

    #[test]
    fn images_are_cut_behind_their_heads_and_cost_the_same() {
        let text = r#"{"type":"text","text":"What is \"this\"?"}"#;
        for profile in [10, 700, 800, 3000, 60_000] {
            let parts = [text, &image(&jpeg(profile)), text, &image(&jpeg(10)), text];
            let body = chat(&format!("[{}]", parts.join(",")));
            let short = abridged(body.as_bytes()).unwrap();
            let most = 2 * HEAD_MIN_BYTES + 4 * usize::from(profile);
            assert!(short.len() < most + 1000, "{profile}: {}", short.len());
            let all = prompt("gpt-4o", Shape::Chat, body.as_bytes()).unwrap();
            assert_eq!(prompt("gpt-4o", Shape::Chat, &short).unwrap(), all);
            assert!(all.certain && all.tokens > 1000, "{all:?}");
        }
        let body = format!(
            r#"{{"input":[{{"role":"user","content":[{{"type":"input_image","image_url":"{}"}}]}}]}}"#,
            jpeg(10)
        );
        let short = abridged(body.as_bytes()).unwrap();
        assert!(short.len() < 2 * HEAD_MIN_BYTES);
        assert_eq!(
            prompt("gpt-4o", Shape::Responses, &short),
            prompt("gpt-4o", Shape::Responses, body.as_bytes())
        );
    }

    #[test]
    fn what_may_be_text_stays() {
        let url = jpeg(10);
        for body in [
            chat(&format!("\"{url}\"")),
            chat(&format!(r#"[{{"type":"text","text":"{url}"}}]"#)),
            chat(&format!(r#""{{\"url\":\"{url}\"}}""#)),
            chat(&image("https://a.test/cat.png")),
            chat(&image("data:image/png;base64,short")),
            chat(&image(&url.replace('/', "\\/"))),
            format!(r#"{{"url":"{url}"#),
            String::new(),
        ] {
            assert_eq!(abridged(body.as_bytes()), None, "{body:.80}");
        }
    }

    proptest! {
        #[test]
        fn no_body_costs_more_or_less_for_it(
            pieces in prop::collection::vec(prop_oneof![
                Just(r#"{"type":"text","text":"some words"}"#.to_owned()),
                Just(image(&jpeg(10))),
                Just(image(&jpeg(5000))),
                Just(image(&format!("data:image/png;base64,{}", "A".repeat(5000)))),
                Just(image(&format!("data:image/png;base64,{}", "é".repeat(5000)))),
                Just(image(&format!("data:image/gif;base64,{}", "\\/A".repeat(5000)))),
            ], 0..6)
        ) {
            let body = chat(&format!("[{}]", pieces.join(",")));
            let short = abridged(body.as_bytes()).unwrap_or_else(|| body.clone().into_bytes());
            let all = prompt("gpt-4o", Shape::Chat, body.as_bytes());
            prop_assert!(all.is_some());
            prop_assert_eq!(prompt("gpt-4o", Shape::Chat, &short), all);
        }
    }
}
