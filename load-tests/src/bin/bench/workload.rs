//! The two requests, and the exact answers that the upstream gives to them.
//!
//! One place for both sides, so that the driver can check each answer to the byte. The bodies never change during a run.

use std::fmt::Write;

/// What is asked over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// 2 KB of chat, answered by about 600 bytes of JSON.
    Chat,
    /// The same, answered by a stream of 200 events.
    Stream,
}

impl Workload {
    pub(crate) const ALL: [Self; 2] = [Self::Chat, Self::Stream];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat 2 KB",
            Self::Stream => "stream 200",
        }
    }

    /// The body of the request.
    pub(crate) fn body(self) -> String {
        let stream = match self {
            Self::Chat => "",
            // With the caller's own wish for usage every contestant passes on the same bytes.
            Self::Stream => ",\"stream\":true,\"stream_options\":{\"include_usage\":true}",
        };
        let head = "{\"model\":\"gpt-4o\",\"messages\":[{\"role\":\"user\",\"content\":\"";
        let tail = format!("\"}}]{stream}}}");
        let text = "the quick brown fox jumps over the lazy dog ".repeat(REQUEST_BYTES / 44 + 1);
        let room = REQUEST_BYTES - head.len() - tail.len();
        format!("{head}{}{tail}", &text[..room])
    }

    /// The whole request.
    pub(crate) fn request(self) -> String {
        let body = self.body();
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: bench.test\r\ncontent-type: application/json\r\n\
            authorization: Bearer bench-key\r\nuser-agent: tollgate-bench\r\naccept: */*\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// The body of the answer, in the events that make it up.
    pub(crate) fn answer(self) -> Vec<String> {
        match self {
            Self::Chat => vec![chat_answer()],
            Self::Stream => stream_answer(),
        }
    }

    /// Bytes of the answer's body.
    pub(crate) fn answer_bytes(self) -> usize {
        self.answer().iter().map(String::len).sum()
    }

    /// Which of the two a request is.
    pub(crate) fn of_request(body: &[u8]) -> Self {
        let mark = b"\"stream\":true";
        if body.windows(mark.len()).any(|window| window == mark) {
            Self::Stream
        } else {
            Self::Chat
        }
    }
}

const REQUEST_BYTES: usize = 2048;
const EVENTS: usize = 200;

fn chat_answer() -> String {
    let content = "A made-up answer of fixed length from the upstream of the benchmark. ".repeat(4);
    format!(
        "{{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1760000000,\"model\":\"gpt-4o\",\
        \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{content}\",\"refusal\":null}},\
        \"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":410,\"completion_tokens\":52,\
        \"total_tokens\":462}}}}"
    )
}

/// A role, the words, an end, the usage: 199 chunks and `[DONE]`.
fn stream_answer() -> Vec<String> {
    let mut events = Vec::with_capacity(EVENTS);
    let mut push = |choices: &str, usage: &str| {
        let mut event = String::new();
        let head = "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,";
        // Writing to a String never fails.
        let _ = write!(
            event,
            "{head}\"model\":\"gpt-4o\",\"choices\":[{choices}],\"usage\":{usage}}}\n\n"
        );
        events.push(event);
    };
    push(
        "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}",
        "null",
    );
    for _ in 0..EVENTS - 4 {
        push(
            "{\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,\"finish_reason\":null}",
            "null",
        );
    }
    push(
        "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}",
        "null",
    );
    push(
        "",
        "{\"prompt_tokens\":410,\"completion_tokens\":196,\"total_tokens\":606}",
    );
    events.push("data: [DONE]\n\n".to_owned());
    events
}
