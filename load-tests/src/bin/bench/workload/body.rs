//! The bodies of the requests: made-up words, and images that have a head and nothing else.
//!
//! They never change during a run, but for the number.

use super::answer::Answer;

/// Stands where each call puts its number.
pub(super) const SERIAL: &str = "################";

/// A fixed instruction of 1.2 KB and a message of 0.8 KB that bears the number.
pub(super) fn chat(answer: Answer) -> String {
    let mut words = Words(1);
    let system = words.text(1150);
    let user = words.text(720);
    format!(
        "{{\"model\":\"{}\",\"messages\":[{{\"role\":\"system\",\"content\":\"{system}\"}},\
        {{\"role\":\"user\",\"content\":\"{user} {SERIAL}\"}}]{}}}",
        answer.model(),
        answer.wish()
    )
}

/// So many messages of so many bytes, and a new one.
pub(crate) fn grown(bytes: usize, messages: usize) -> String {
    let mut words = Words(5);
    let mut out = format!("{{\"model\":\"{}\",\"messages\":[", Answer::Chat.model());
    for _ in 0..messages {
        let text = words.text(bytes);
        out.push_str(&format!("{{\"role\":\"user\",\"content\":\"{text}\"}},"));
    }
    out.push_str(&format!(
        "{{\"role\":\"user\",\"content\":\"{SERIAL}\"}}]}}"
    ));
    out
}

/// Some 200 messages of 500 bytes, and a new one.
pub(super) fn history() -> String {
    let mut words = Words(2);
    let mut out = format!("{{\"model\":\"{}\",\"messages\":[", Answer::Chat.model());
    let mut speaker = ["user", "assistant"].iter().cycle();
    while out.len() < 100 << 10 {
        let role = speaker.next().copied().unwrap_or_default();
        let text = words.text(450);
        out.push_str(&format!("{{\"role\":\"{role}\",\"content\":\"{text}\"}},"));
    }
    let last = words.text(400);
    out.push_str(&format!(
        "{{\"role\":\"user\",\"content\":\"{last} {SERIAL}\"}}]}}"
    ));
    out
}

/// Five images of 1 MB in base64: a PNG's head of 1024 by 768 points, and noise.
pub(super) fn images(answer: Answer) -> String {
    let mut words = Words(3);
    let mut out = format!(
        "{{\"model\":\"{}\",\"messages\":[{{\"role\":\"user\",\"content\":[",
        answer.model()
    );
    for _ in 0..5 {
        out.push_str("{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,");
        out.push_str(PNG_HEAD);
        for _ in 0..(1 << 20) - PNG_HEAD.len() {
            out.push(words.base64_digit());
        }
        out.push_str("\"}},");
    }
    out.push_str(&format!(
        "{{\"type\":\"text\",\"text\":\"What do these show? {SERIAL}\"}}]}}]}}"
    ));
    out
}

/// 64 texts of 300 bytes.
pub(super) fn embeddings() -> String {
    let mut words = Words(4);
    let texts: Vec<String> = (0..64)
        .map(|_| format!("\"{}\"", words.text(300)))
        .collect();
    let texts = texts.join(",");
    let (start, _) = texts.split_at(texts.len() - 1);
    format!(
        "{{\"model\":\"{}\",\"encoding_format\":\"base64\",\"input\":[{start} {SERIAL}\"]}}",
        Answer::Vectors.model()
    )
}

/// Signature, length and name of the first chunk, 1024 by 768, eight bits, in colour.
const PNG_HEAD: &str = "iVBORw0KGgoAAAANSUhEUgAABAAAAAMACAIAAAA=";

/// Numbers that look like chance and are the same in each run.
struct Words(u64);

impl Words {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn text(&mut self, bytes: usize) -> String {
        let mut out = String::with_capacity(bytes + 16);
        while out.len() < bytes {
            if !out.is_empty() {
                out.push(' ');
            }
            let word = self.below(WORDS.len());
            out.push_str(WORDS.get(word).copied().unwrap_or_default());
        }
        out
    }

    fn base64_digit(&mut self) -> char {
        let digit = self.below(BASE64.len());
        BASE64.get(digit).copied().map_or('A', char::from)
    }
}

const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const WORDS: [&str; 24] = [
    "the", "gateway", "counts", "tokens", "for", "each", "caller", "and", "tells", "what",
    "remains", "of", "a", "limit", "when", "backend", "answers", "late", "it", "asks", "another",
    "without", "losing", "bytes",
];
