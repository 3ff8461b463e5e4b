//! What is asked over and over, and what a right answer to it is.
//!
//! One place for both sides, so that the driver can check each answer to the byte. The last text of each call bears a
//! number that is new with each call, so that nobody can count its tokens from memory.

mod answer;
mod body;

use memchr::memmem;

pub(crate) use answer::{Answer, STAMP_DIGITS, STAMP_MARK};
pub(crate) use body::grown;

/// What is asked over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// 2 KB of chat, answered by about 600 bytes of JSON.
    Chat,
    /// 100 KB of chat: a history, and a new message.
    History,
    /// A chat with five images of 1 MB each.
    Images,
    /// 2 KB of chat, answered by a stream of 200 events at once.
    Stream,
    /// The same, with 20 ms between two events, which is how models stream.
    Paced,
    /// 64 texts, answered by 64 vectors of 1536 numbers in base64.
    Embeddings,
    /// Of ten calls: six chats, two streams at once, one history, one list of texts.
    Mix,
    /// 2 KB of chat by a caller whose limit is used up.
    Refused,
    /// 2 KB of chat, the same each time: a cache has the answer.
    CacheHit,
    /// 2 KB of chat, new each time: a cache looks, and keeps the answer.
    CacheMiss,
}

impl Workload {
    pub(crate) const ALL: [Self; 10] = [
        Self::Chat,
        Self::History,
        Self::Images,
        Self::Stream,
        Self::Paced,
        Self::Embeddings,
        Self::Mix,
        Self::Refused,
        Self::CacheHit,
        Self::CacheMiss,
    ];

    /// As it is called in the table and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat-2k",
            Self::History => "chat-100k",
            Self::Images => "images-5m",
            Self::Stream => "stream",
            Self::Paced => "stream-20ms",
            Self::Embeddings => "embeddings",
            Self::Mix => "mix",
            Self::Refused => "refused",
            Self::CacheHit => "cache-hit",
            Self::CacheMiss => "cache-miss",
        }
    }

    /// Connections that keep a contestant busy, of those that were asked for. 5 MB times many is memory and not load;
    /// streams with pauses need many to be load at all.
    pub(crate) fn connections(self, asked: usize) -> usize {
        match self {
            Self::Images => asked.min(4),
            Self::Paced => asked * 4,
            Self::Chat
            | Self::History
            | Self::Stream
            | Self::Embeddings
            | Self::Mix
            | Self::Refused
            | Self::CacheHit
            | Self::CacheMiss => asked,
        }
    }

    /// The calls, in their order; a connection begins at any of them and goes round.
    pub(crate) fn calls(self, extra_headers: &str) -> Vec<Call> {
        let one = |call: Call| vec![call];
        let chat = |answer| Call::new(KEY, &body::chat(answer), answer, extra_headers);
        match self {
            Self::Chat | Self::CacheMiss => one(chat(Answer::Chat)),
            Self::CacheHit => one(chat(Answer::Chat).repeated()),
            Self::Stream => one(chat(Answer::Stream)),
            Self::Paced => one(chat(Answer::Paced)),
            Self::History => one(Call::new(
                KEY,
                &body::history(),
                Answer::Chat,
                extra_headers,
            )),
            Self::Images => one(Call::new(
                KEY,
                &body::images(Answer::Chat),
                Answer::Chat,
                extra_headers,
            )),
            Self::Embeddings => one(Call::new(
                KEY,
                &body::embeddings(),
                Answer::Vectors,
                extra_headers,
            )),
            Self::Mix => {
                let order = [
                    Self::Chat,
                    Self::Chat,
                    Self::Stream,
                    Self::Chat,
                    Self::History,
                    Self::Chat,
                    Self::Chat,
                    Self::Stream,
                    Self::Chat,
                    Self::Embeddings,
                ];
                let calls = order.iter().map(|workload| workload.calls(extra_headers));
                calls.flatten().collect()
            }
            Self::Refused => {
                let body = body::chat(Answer::Chat);
                let mut call = Call::new(REFUSED_KEY, &body, Answer::Chat, extra_headers);
                call.expected = Expected {
                    status: 429,
                    bytes: None,
                    events: 0,
                };
                one(call)
            }
        }
    }

    /// The events of one answer; none where the answer is no stream, or not of all calls.
    pub(crate) fn events(self) -> Option<usize> {
        match self {
            Self::Stream => Some(Answer::Stream.parts().len()),
            Self::Paced => Some(Answer::Paced.parts().len()),
            Self::Chat
            | Self::History
            | Self::Images
            | Self::Embeddings
            | Self::Mix
            | Self::Refused
            | Self::CacheHit
            | Self::CacheMiss => None,
        }
    }
}

/// A stream that stays open, for measuring what it holds.
pub(crate) fn held_stream(extra_headers: &str) -> Call {
    Call::new(KEY, &body::chat(Answer::Held), Answer::Held, extra_headers)
}

/// Five images of 1 MB, and no answer: for measuring what a body in flight takes.
pub(crate) fn held_images(extra_headers: &str) -> Call {
    let body = body::images(Answer::Silent);
    Call::new(KEY, &body, Answer::Silent, extra_headers)
}

/// One request as it goes over the wire, and what must come back.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    bytes: Vec<u8>,
    /// Where its number stands, unless it is the same each time.
    serial_at: Option<usize>,
    pub(crate) expected: Expected,
}

/// What a right answer is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) status: u16,
    /// Of the body, where the answer is passed on as it is.
    pub(crate) bytes: Option<usize>,
    /// Of a stream.
    pub(crate) events: usize,
}

impl Call {
    pub(crate) fn new(key: &str, body: &str, answer: Answer, extra_headers: &str) -> Self {
        let path = match answer {
            Answer::Vectors | Answer::Single => "/v1/embeddings",
            Answer::Chat | Answer::Stream | Answer::Paced | Answer::Held | Answer::Silent => {
                "/v1/chat/completions"
            }
        };
        let text = format!(
            "POST {path} HTTP/1.1\r\nhost: bench.test\r\ncontent-type: application/json\r\n\
            authorization: Bearer {key}\r\nuser-agent: tollgate-bench\r\naccept: */*\r\n{extra_headers}\
            content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let parts = answer.parts();
        let events = match answer {
            Answer::Chat | Answer::Silent | Answer::Vectors | Answer::Single => 0,
            Answer::Stream | Answer::Paced | Answer::Held => parts.len(),
        };
        Self {
            serial_at: text.rfind(body::SERIAL),
            bytes: text.into_bytes(),
            expected: Expected {
                status: 200,
                bytes: Some(parts.iter().map(String::len).sum()),
                events,
            },
        }
    }

    /// The same call each time.
    pub(crate) fn repeated(mut self) -> Self {
        self.numbered(0);
        self.serial_at = None;
        self
    }

    /// What comes after the head.
    pub(crate) fn body(&self) -> &[u8] {
        let head = memmem::find(&self.bytes, b"\r\n\r\n").map_or(0, |at| at + 4);
        self.bytes.get(head..).unwrap_or_default()
    }

    /// The request with this number in its last text.
    pub(crate) fn numbered(&mut self, serial: u64) -> &[u8] {
        let Some(start) = self.serial_at else {
            return &self.bytes;
        };
        let digits = format!("{serial:0width$}", width = body::SERIAL.len());
        if let Some(place) = self.bytes.get_mut(start..start + body::SERIAL.len()) {
            place.copy_from_slice(digits.as_bytes());
        }
        &self.bytes
    }
}

/// Made up; it opens nothing but what the benchmark starts.
const KEY: &str = "sk-bench-key";
/// Of a caller who may use one token a minute.
const REFUSED_KEY: &str = "sk-bench-refused";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_bears_its_number_and_says_which_answer_it_wants() {
        for workload in Workload::ALL {
            for mut call in workload.calls("") {
                let bytes = call.numbered(4711).to_vec();
                let text = String::from_utf8(bytes).unwrap();
                let number = if workload == Workload::CacheHit {
                    "0000000000000000"
                } else {
                    "0000000000004711"
                };
                assert_eq!(text.matches(number).count(), 1, "{workload:?}");
                assert!(text.contains("-bench-"), "{workload:?}");
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                assert!(head.contains(&format!("content-length: {}", body.len())));
                let json: serde_json::Value = serde_json::from_str(body).unwrap();
                assert!(json["model"].is_string());
            }
        }
    }

    #[test]
    fn bodies_have_the_sizes_that_their_names_promise() {
        let size = |workload: Workload| workload.calls("")[0].bytes.len();
        assert!((2_000..2_700).contains(&size(Workload::Chat)));
        assert!((100_000..104_000).contains(&size(Workload::History)));
        assert!((5_000_000..5_400_000).contains(&size(Workload::Images)));
        assert_eq!(Workload::Stream.events(), Some(200));
    }
}
