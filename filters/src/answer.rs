//! What came back: the usage, the model that answered, and of a stream what each event means to the gateway.
//!
//! What came at once is read by `report`; a stream is followed here. Its event is read once, by one pass that borrows its
//! strings; one that differs from an earlier one in its text alone isn't parsed at all (`template`). Fields of an odd
//! type count as absent. Where the pass fails all the same (JSON cut off, a field twice), the bytes are searched for the
//! usage alone: how a backend writes its choices must never cost a caller's account its figures.
//!
//! The text of a stream is kept while it passes, in `texts`: if the stream breaks before the usage comes, it is what can
//! be counted.
//!
//! Never here: a change of any byte, and a look at the answer's meaning.

use std::borrow::Cow;

use crate::answer::chunk::Chunk;
use crate::answer::first::First;
use crate::answer::template::Templates;
use crate::answer::texts::Texts;
use crate::route::Shape;
use crate::sse::Event;
use crate::usage::Usage;

pub use first::{Opening, bare_error_status};
pub use report::{Answer, read_body, read_id, read_tail};

mod chunk;
mod first;
mod report;
mod template;
mod texts;
mod whole;

/// Follows one streamed answer, event by event.
#[derive(Debug)]
pub struct StreamMeter {
    shape: Shape,
    usage: Option<Usage>,
    model: Option<String>,
    id: Option<String>,
    has_ended: bool,
    opening: Opening,
    error: Option<u16>,
    texts: Texts,
    templates: Templates,
}

impl StreamMeter {
    /// A meter for an answer to an operation of this shape.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            usage: None,
            model: None,
            id: None,
            has_ended: false,
            opening: Opening::Silent,
            error: None,
            texts: Texts::default(),
            templates: Templates::default(),
        }
    }

    /// The texts of an answer that came at once, as if they had been streamed: for one that tells no usage.
    pub fn of_body(shape: Shape, body: &[u8]) -> Self {
        Self {
            texts: whole::texts(body),
            ..Self::new(shape)
        }
    }

    /// Reads one event and says what it is. Costs one pass over its data.
    pub fn read(&mut self, event: &Event<'_>) -> Seen {
        let seen = self.seen(event);
        self.has_ended |= match seen {
            Seen::Done | Seen::Terminal | Seen::Error => true,
            Seen::Content | Seen::UsageOnly | Seen::Other => false,
        };
        seen
    }

    /// What the stream's beginning has shown.
    pub fn opening(&self) -> Opening {
        self.opening
    }

    /// The status that the first error in the stream stands for, if there was one.
    pub fn error(&self) -> Option<u16> {
        self.error
    }

    /// The usage that was reported last.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The first model that was named.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The id of the response that is streamed, from its first event on; other operations have none that is kept.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether the stream said its end: by `[DONE]`, a terminal event, an error, or a finish reason for every choice
    /// seen. A body that ends before was cut off. Only streams of [`Shape::Other`] may end without a word.
    pub fn is_finished(&self) -> bool {
        self.has_ended || self.texts.is_every_choice_finished()
    }

    /// What has been streamed so far, in order of choice (or output item): first its content, then refusal, reasoning,
    /// and each tool call by itself (its name, then its arguments). Together at most 4 MiB.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter()
    }

    /// How many bytes of text came that [`StreamMeter::texts`] doesn't hold, since they were too many.
    pub fn uncounted_bytes(&self) -> u64 {
        self.texts.uncounted_bytes()
    }

    fn seen(&mut self, event: &Event<'_>) -> Seen {
        let is_error = event.name == Some(b"error");
        let Some(data) = event.data.as_deref() else {
            return self.without_data(is_error);
        };
        if data.trim_ascii() == b"[DONE]" {
            self.opening = self.opening.after(First::Done);
            return Seen::Done;
        }
        if let Some((place, text)) = self.templates.text(event.name, data) {
            self.texts.add(place.choice, place.part, &text);
            return Seen::Content;
        }
        let name = event.name.and_then(|name| std::str::from_utf8(name).ok());
        let mut chunk =
            serde_json::from_slice(data).unwrap_or_else(|_| Chunk::of_usage(read_tail(data)));
        chunk.kind = chunk.kind.or(name.map(Cow::Borrowed));
        self.take_facts(&chunk);
        let has_text = self.take_texts(&chunk);
        let seen = if is_error || chunk.is_error() {
            Seen::Error
        } else if chunk.is_terminal(self.shape) {
            Seen::Terminal
        } else if chunk.is_usage_only(self.shape) {
            Seen::UsageOnly
        } else if has_text {
            Seen::Content
        } else {
            Seen::Other
        };
        self.take_first(first::judge(self.shape, seen, &chunk, data));
        if seen == Seen::Content
            && let Some((place, text)) = chunk.only_text()
        {
            self.templates.learn(event.name, data, place, text);
        }
        seen
    }

    fn without_data(&mut self, is_error: bool) -> Seen {
        if !is_error {
            return Seen::Other;
        }
        self.take_first(First::Error(first::error_status(b"")));
        Seen::Error
    }

    fn take_first(&mut self, first: First) {
        self.opening = self.opening.after(first);
        if let First::Error(status) = first {
            self.error.get_or_insert(status);
        }
    }

    fn take_facts(&mut self, chunk: &Chunk<'_>) {
        self.usage = chunk.usage.or(chunk.response.usage).or(self.usage);
        if self.model.is_none() {
            let models = [&chunk.model, &chunk.response.model];
            let named = models.into_iter().flatten().find(|model| !model.is_empty());
            self.model = named.map(|model| model.clone().into_owned());
        }
        if self.id.is_none() {
            let id = chunk.response.id.as_deref();
            self.id = id.filter(|id| !id.is_empty()).map(str::to_owned);
        }
    }

    fn take_texts(&mut self, chunk: &Chunk<'_>) -> bool {
        let mut has_text = false;
        for (position, choice) in chunk.choices.iter().flatten().enumerate() {
            let index = choice.index.unwrap_or(position as u64);
            self.texts.see_choice(index, choice.is_finished());
            choice.each_text(|part, text| has_text |= self.texts.add(index, part, text));
        }
        let item = chunk.output_index.unwrap_or(0);
        for (part, text) in chunk.item_text() {
            has_text |= self.texts.add(item, part, text);
        }
        has_text
    }
}

/// What an event is to the gateway. Of several meanings, the first in this order: error, end, usage, content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Has something that a user sees, or that was generated: the first one is the first token.
    Content,
    /// Usage and an empty list of choices: the extra chunk that `include_usage` asks for.
    UsageOnly,
    /// `[DONE]`.
    Done,
    /// The last event of a stream that has no `[DONE]`, such as `response.completed`.
    Terminal,
    /// The backend reports an error. Nothing is to be expected after it.
    Error,
    /// Anything else.
    Other,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event<'a>(name: Option<&'a str>, data: &'a str) -> Event<'a> {
        Event {
            name: name.map(str::as_bytes),
            data: Some(Cow::Borrowed(data.as_bytes())),
        }
    }

    fn read_all(shape: Shape, events: &[&str]) -> (StreamMeter, Vec<Seen>) {
        let mut meter = StreamMeter::new(shape);
        let seen = events
            .iter()
            .map(|data| meter.read(&event(None, data)))
            .collect();
        (meter, seen)
    }

    fn seen(shape: Shape, data: &str) -> Seen {
        StreamMeter::new(shape).read(&event(None, data))
    }

    #[test]
    fn a_chat_stream_is_followed_from_first_token_to_done() {
        let (meter, seen) = read_all(
            Shape::Chat,
            &[
                r#"{"model":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#,
                r#"{"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
                r#"{"model":"x","choices":[{"index":0,"delta":{"content":"a\u0062"},"finish_reason":null}]}"#,
                r#"{"choices":[{"index":0,"delta":{"content":null},"finish_reason":"stop"}]}"#,
                r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#,
                "[DONE]",
            ],
        );
        assert_eq!(
            seen,
            [
                Seen::Other,
                Seen::Other,
                Seen::Content,
                Seen::Other,
                Seen::UsageOnly,
                Seen::Done
            ]
        );
        assert_eq!(meter.model(), Some("m"));
        assert_eq!(meter.usage().unwrap().total, 3);
        assert_eq!(meter.texts().collect::<Vec<_>>(), ["ab"]);
    }

    #[test]
    fn usage_beside_a_choice_is_read_and_not_taken_for_the_extra_chunk() {
        let with_choice = r#"{"choices":[{"index":0,"delta":{"content":""},"finish_reason":null}],"usage":{"prompt_tokens":1}}"#;
        let (meter, seen) = read_all(Shape::Chat, &[with_choice]);
        assert_eq!(seen, [Seen::Other]);
        assert_eq!(meter.usage().unwrap().prompt, 1);
        assert_eq!(
            self::seen(Shape::Chat, r#"{"choices":[],"usage":null}"#),
            Seen::Other
        );
        for unsure in [
            r#"{"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":null,"usage":{"prompt_tokens":1}}"#,
        ] {
            assert_eq!(self::seen(Shape::Chat, unsure), Seen::Other, "{unsure}");
        }
        assert_eq!(
            self::seen(
                Shape::Responses,
                r#"{"choices":[],"usage":{"prompt_tokens":1}}"#
            ),
            Seen::Other
        );
    }

    #[test]
    fn odd_types_never_hide_the_usage() {
        for odd in [
            r#"{"choices":7,"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[7,{"delta":[],"index":"x","text":{}}],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{"delta":{"content":[{"text":"a"}],"tool_calls":{"a":1}}}],"model":5,"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{"index":0,"index":1}],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{"delta":{"content":"\ud800"}}],"usage":{"prompt_tokens":1}}"#,
            r#"{"usage":{"prompt_tokens":1},"choices":[{"del"#,
        ] {
            let (meter, seen) = read_all(Shape::Chat, &[odd]);
            assert_ne!(seen, [Seen::UsageOnly], "{odd}");
            assert_eq!(meter.usage().unwrap().prompt, 1, "{odd}");
        }
    }

    #[test]
    fn texts_are_kept_by_choice_and_part() {
        let (meter, seen) = read_all(
            Shape::Chat,
            &[
                r#"{"choices":[{"index":1,"delta":{"reasoning_content":"r","reasoning":"r"}},{"index":0,"delta":{"refusal":"no"}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"name":"g","arguments":""}},{"index":0,"function":{"name":"f"}}]}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"(1)"}}]}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"function_call":{"name":"h","arguments":""}}}]}"#,
                r#"{"choices":[{"index":1,"text":"t"}]}"#,
            ],
        );
        assert!(seen.iter().all(|seen| *seen == Seen::Content));
        assert_eq!(
            meter.texts().collect::<Vec<_>>(),
            ["no", "f(1)h", "g", "t", "r"]
        );
    }

    #[test]
    fn past_the_bound_only_bytes_are_counted() {
        let text = "x".repeat(1 << 20);
        let chunk = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#);
        let (mut meter, _) = read_all(Shape::Chat, &[chunk.as_str(); 4]);
        assert_eq!(meter.uncounted_bytes(), 0);
        assert_eq!(meter.read(&event(None, &chunk)), Seen::Content);
        assert_eq!(meter.uncounted_bytes(), 1 << 20);
        assert_eq!(meter.texts().map(str::len).sum::<usize>(), 4 << 20);
    }

    #[test]
    fn a_stream_without_done_has_finished_once_every_choice_has() {
        let (mut meter, _) = read_all(
            Shape::Completions,
            &[
                r#"{"choices":[{"index":0,"text":"a","finish_reason":null}]}"#,
                r#"{"choices":[{"index":1,"text":"b","finish_reason":"length"}]}"#,
            ],
        );
        assert!(!meter.is_finished());
        meter.read(&event(
            None,
            r#"{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#,
        ));
        assert!(meter.is_finished());
        meter.read(&event(
            None,
            r#"{"choices":[{"index":0,"finish_reason":null,"content_filter_offsets":{}}]}"#,
        ));
        assert!(
            meter.is_finished(),
            "a late annotation doesn't open the choice again"
        );
        assert!(!StreamMeter::new(Shape::Chat).is_finished());
    }

    #[test]
    fn responses_events_are_known_by_name_or_by_type() {
        let completed = r#"{"response":{"model":"m","usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}}"#;
        let mut meter = StreamMeter::new(Shape::Responses);
        assert_eq!(
            meter.read(&event(Some("response.completed"), completed)),
            Seen::Terminal
        );
        assert_eq!(
            (
                meter.usage().unwrap().total,
                meter.model(),
                meter.is_finished()
            ),
            (7, Some("m"), true)
        );
        for (data, expected) in [
            (
                r#"{"type":"response.incomplete","response":{}}"#,
                Seen::Terminal,
            ),
            (
                r#"{"type":"response.failed","response":{"error":{"code":"x"}}}"#,
                Seen::Terminal,
            ),
            (
                r#"{"type":"response.created","response":{"usage":null,"error":null}}"#,
                Seen::Other,
            ),
            (
                r#"{"type":"response.output_text.delta","output_index":0,"delta":"a"}"#,
                Seen::Content,
            ),
            (
                r#"{"type":"response.output_text.delta","delta":""}"#,
                Seen::Other,
            ),
            (
                r#"{"type":"response.output_text.done","text":"a"}"#,
                Seen::Other,
            ),
            (
                r#"{"type":"response.audio.delta","delta":"UklGRg=="}"#,
                Seen::Other,
            ),
            (
                r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"f"}}"#,
                Seen::Content,
            ),
            (
                r#"{"type":"response.output_item.done","item":{"type":"function_call","name":"f"}}"#,
                Seen::Other,
            ),
            (r#"{"type":"error","code":"server_error"}"#, Seen::Error),
        ] {
            assert_eq!(seen(Shape::Responses, data), expected, "{data}");
        }
    }

    #[test]
    fn errors_are_known_by_event_name_type_or_field() {
        let mut meter = StreamMeter::new(Shape::Chat);
        assert_eq!(meter.read(&event(Some("error"), "overloaded")), Seen::Error);
        assert!(meter.is_finished());
        assert_eq!(
            seen(Shape::Chat, r#"{"error":{"message":"x"}}"#),
            Seen::Error
        );
        assert_eq!(
            seen(Shape::Chat, r#"{"error":null,"choices":[]}"#),
            Seen::Other
        );
        assert_eq!(seen(Shape::Chat, "not json"), Seen::Other);
        assert_eq!(
            StreamMeter::new(Shape::Chat).read(&Event::default()),
            Seen::Other
        );
    }

    #[test]
    fn other_operations_are_read_for_usage_and_their_known_ends() {
        let (meter, seen) = read_all(
            Shape::Other,
            &[
                r#"{"type":"transcript.text.delta","delta":"a"}"#,
                r#"{"type":"transcript.text.done","text":"a","usage":{"type":"tokens","input_tokens":14,"output_tokens":1}}"#,
            ],
        );
        assert_eq!(seen, [Seen::Content, Seen::Terminal]);
        assert_eq!(meter.usage().unwrap().total, 15);
    }

    #[test]
    fn the_id_of_a_response_is_the_first_one_that_is_streamed() {
        let created = r#"{"type":"response.created","response":{"id":"resp_1"}}"#;
        let later = r#"{"type":"response.completed","response":{"id":"resp_2"}}"#;
        let (meter, _) = read_all(Shape::Responses, &[created, later]);
        assert_eq!(meter.id(), Some("resp_1"));
    }
}
