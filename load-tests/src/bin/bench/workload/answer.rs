//! The exact answers that the upstream gives, and the marks by which a request asks for one of them.
//!
//! The mark is a part of the model's name, since that is what every contestant passes on, however it rewrites the rest.

use std::fmt::Write;

use memchr::memmem;

/// What a request wants from the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 600 bytes of JSON.
    Chat,
    /// 200 events at once.
    Stream,
    /// 200 events with pauses; each bears the time at which it was sent.
    Paced,
    /// Ten events, and then nothing until the caller goes.
    Held,
    /// Nothing at all until the caller goes.
    Silent,
    /// 64 vectors.
    Vectors,
    /// A vector for each text, by its words: what a semantic cache asks for.
    Single,
}

impl Answer {
    pub(crate) const ALL: [Self; 7] = [
        Self::Chat,
        Self::Stream,
        Self::Paced,
        Self::Held,
        Self::Silent,
        Self::Vectors,
        Self::Single,
    ];

    /// The model that stands for it.
    pub(super) fn model(self) -> &'static str {
        match self {
            Self::Chat => "gpt-4o-bench-chat",
            Self::Stream => "gpt-4o-bench-stream",
            Self::Paced => "gpt-4o-bench-paced",
            Self::Held => "gpt-4o-bench-held",
            Self::Silent => "gpt-4o-bench-silent",
            Self::Vectors => "text-embedding-bench-vectors",
            Self::Single => "text-embedding-bench-single",
        }
    }

    /// What else a request for it holds.
    pub(super) fn wish(self) -> &'static str {
        match self {
            Self::Chat | Self::Silent | Self::Vectors | Self::Single => "",
            // With the caller's own wish for usage every contestant passes on the same bytes.
            Self::Stream | Self::Paced | Self::Held => {
                ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"
            }
        }
    }

    /// Which answer a request wants.
    pub(crate) fn of_request(body: &[u8]) -> Self {
        let at = memmem::find(body, b"-bench-").map_or(0, |at| at + b"-bench-".len());
        let mark = body.get(at..).unwrap_or_default();
        let wanted = |answer: &Self| {
            let (_, name) = answer
                .model()
                .rsplit_once('-')
                .unwrap_or(("", answer.model()));
            mark.starts_with(name.as_bytes())
        };
        Self::ALL.into_iter().find(wanted).unwrap_or(Self::Chat)
    }

    /// The body: the events of a stream, or all of it.
    pub(crate) fn parts(self) -> Vec<String> {
        match self {
            Self::Chat => vec![chat()],
            Self::Stream => stream(200, &WORDS),
            Self::Paced => {
                let stamp = format!("{STAMP_MARK}{}", "0".repeat(STAMP_DIGITS));
                stream(200, &[stamp.as_str()])
            }
            Self::Held => stream(14, &WORDS).into_iter().take(10).collect(),
            Self::Vectors => vec![vectors()],
            // Made for the texts that are asked for, or never.
            Self::Single | Self::Silent => Vec::new(),
        }
    }
}

/// Before the time in an event: microseconds since 1970, in so many digits.
pub(crate) const STAMP_MARK: &str = " at";
pub(crate) const STAMP_DIGITS: usize = 16;

/// In turn: LiteLLM takes a hundred times the same word for a fault, and breaks off.
const WORDS: [&str; 2] = [" token", " event"];

fn chat() -> String {
    let content = "A made-up answer of fixed length from the upstream of the benchmark. ".repeat(4);
    format!(
        "{{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1760000000,\"model\":\"gpt-4o\",\
        \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{content}\",\"refusal\":null}},\
        \"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":410,\"completion_tokens\":52,\
        \"total_tokens\":462}}}}"
    )
}

/// A role, the words, an end, the usage, `[DONE]`.
fn stream(events: usize, words: &[&str]) -> Vec<String> {
    let mut out = Vec::with_capacity(events);
    let mut push = |choices: &str, usage: &str| {
        let mut event = String::new();
        let head = "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,";
        // Writing to a String never fails.
        let _ = write!(
            event,
            "{head}\"model\":\"gpt-4o\",\"choices\":[{choices}],\"usage\":{usage}}}\n\n"
        );
        out.push(event);
    };
    push(
        "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}",
        "null",
    );
    for word in words.iter().cycle().take(events - 4) {
        let content = format!(
            "{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"logprobs\":null,\"finish_reason\":null}}"
        );
        push(&content, "null");
    }
    push(
        "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}",
        "null",
    );
    push(
        "",
        "{\"prompt_tokens\":410,\"completion_tokens\":196,\"total_tokens\":606}",
    );
    out.push("data: [DONE]\n\n".to_owned());
    out
}

fn vectors() -> String {
    // 1536 numbers of four bytes, in base64.
    let vector = "vJ1wPA==".replace('=', "0").repeat(1536 * 4 / 6);
    let one = |index| {
        format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":\"{vector}\"}}")
    };
    let all: Vec<String> = (0..64).map(one).collect();
    format!(
        "{{\"object\":\"list\",\"data\":[{}],\"model\":\"text-embedding-3-small\",\
        \"usage\":{{\"prompt_tokens\":4480,\"total_tokens\":4480}}}}",
        all.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_which_answer_it_wants() {
        for answer in Answer::ALL {
            let body = format!("{{\"a\":1,\"model\":\"{}\"}}", answer.model());
            assert_eq!(Answer::of_request(body.as_bytes()), answer);
        }
    }
}
