//! What is read of the JSON in one event, and what follows from it. One type for every shape: their fields don't clash.
//!
//! Never here: anything that outlives the event.

use std::borrow::Cow;

use serde::Deserialize;

use crate::answer::report::Inner;
use crate::answer::template::Place;
use crate::answer::texts::Part;
use crate::route::Shape;
use crate::usage::{self, Usage, lenient};

/// One event's JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chunk<'a> {
    #[serde(rename = "type", borrow, deserialize_with = "lenient::text")]
    pub(super) kind: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::text")]
    pub(super) model: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::list")]
    pub(super) choices: Option<Vec<Choice<'a>>>,
    #[serde(deserialize_with = "usage::reported")]
    pub(super) usage: Option<Usage>,
    #[serde(borrow, deserialize_with = "lenient::object")]
    pub(super) response: Inner<'a>,
    #[serde(deserialize_with = "lenient::count")]
    pub(super) output_index: Option<u64>,
    #[serde(borrow, deserialize_with = "lenient::text")]
    delta: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::object")]
    item: Named<'a>,
    #[serde(deserialize_with = "lenient::presence")]
    error: bool,
    #[serde(borrow, deserialize_with = "lenient::text")]
    object: Option<Cow<'a, str>>,
}

impl<'a> Chunk<'a> {
    /// What is left of an event that couldn't be read.
    pub(super) fn of_usage(usage: Option<Usage>) -> Self {
        Self {
            usage,
            ..Self::default()
        }
    }

    pub(super) fn is_error(&self) -> bool {
        self.error || self.kind() == "error" || self.object.as_deref() == Some("error")
    }

    /// Whether a response ends here because it failed.
    pub(super) fn is_failure(&self) -> bool {
        self.kind() == "response.failed"
    }

    /// Whether nothing of a choice is here but that there will be one. For chunks without text.
    pub(super) fn only_announces_choices(&self) -> bool {
        let mut choices = self.choices.iter().flatten();
        choices.all(|choice| !choice.is_finished() && !choice.delta.audio)
    }

    /// Whether nothing is said but that a response was taken, or that the connection lives.
    pub(super) fn only_announces_response(&self) -> bool {
        RESPONSE_ANNOUNCEMENTS.contains(&self.kind())
    }

    /// Whether no more content follows. Of the operations that we don't know, those that are known to end by an event.
    pub(super) fn is_terminal(&self, shape: Shape) -> bool {
        match shape {
            Shape::Chat | Shape::Completions | Shape::Embeddings => false,
            Shape::Responses => RESPONSE_ENDS.contains(&self.kind()),
            Shape::Other => {
                RESPONSE_ENDS.contains(&self.kind()) || OTHER_ENDS.contains(&self.kind())
            }
        }
    }

    /// Whether this is the chunk that `include_usage` adds. Only a list that is there and empty makes it one: what can't
    /// be told for sure is passed on.
    pub(super) fn is_usage_only(&self, shape: Shape) -> bool {
        match shape {
            Shape::Chat | Shape::Completions => {
                self.usage.is_some() && self.choices.as_ref().is_some_and(Vec::is_empty)
            }
            Shape::Embeddings | Shape::Responses | Shape::Other => false,
        }
    }

    /// The text, of an event that says nothing else that is ever asked for.
    pub(super) fn only_text(&self) -> Option<(Place, &str)> {
        let item = self.output_index.unwrap_or(0);
        let choices = self.choices.as_deref().unwrap_or_default();
        let mut only = None;
        let mut count = 0;
        let mut take = |choice, part, text| {
            count += usize::from(!str::is_empty(text));
            only = Some((Place { choice, part }, text))
                .filter(|(_, text)| !text.is_empty())
                .or(only);
        };
        for (position, choice) in (0..).zip(choices) {
            choice.each_text(|part, text| take(choice.index.unwrap_or(position), part, text));
        }
        for (part, text) in self.item_text() {
            take(item, part, text);
        }
        let says_more = self.usage.is_some()
            || self.response.usage.is_some()
            || choices.iter().any(Choice::is_finished);
        only.filter(|_| count == 1 && !says_more)
    }

    /// The text that an event of a named kind carries: a `delta`, or the name of the tool that an item calls.
    pub(super) fn item_text(&self) -> impl Iterator<Item = (Part, &str)> {
        let kind = self.kind();
        let delta = self.delta.as_deref().filter(|_| is_text_delta(kind));
        let name = self
            .item
            .name
            .as_deref()
            .filter(|_| kind == "response.output_item.added");
        let delta = delta.map(|delta| (part_of(kind), delta));
        delta
            .into_iter()
            .chain(name.map(|name| (Part::ToolCall(0), name)))
    }

    fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or_default()
    }
}

/// One of the answers side by side in a chunk.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Choice<'a> {
    #[serde(deserialize_with = "lenient::count")]
    pub(super) index: Option<u64>,
    #[serde(borrow, deserialize_with = "lenient::text")]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::text")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::object")]
    delta: Delta<'a>,
}

impl Choice<'_> {
    pub(super) fn is_finished(&self) -> bool {
        self.finish_reason
            .as_ref()
            .is_some_and(|reason| !reason.is_empty())
    }

    /// Calls `take` with each text that this chunk adds to the choice.
    pub(super) fn each_text<'c>(&'c self, mut take: impl FnMut(Part, &'c str)) {
        if let Some(text) = &self.text {
            take(Part::Content, text);
        }
        self.delta.each_text(take);
    }
}

/// What is added to a message; of an answer that isn't streamed, the message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Delta<'a> {
    #[serde(borrow, deserialize_with = "lenient::text")]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::text")]
    refusal: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::text")]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::text")]
    reasoning: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::list")]
    tool_calls: Option<Vec<ToolCall<'a>>>,
    #[serde(borrow, deserialize_with = "lenient::object")]
    function_call: Function<'a>,
    #[serde(deserialize_with = "lenient::presence")]
    audio: bool,
}

impl Delta<'_> {
    /// Calls `take` with each text of it.
    pub(super) fn each_text<'c>(&'c self, mut take: impl FnMut(Part, &'c str)) {
        // Some servers send the same reasoning under both names.
        let reasoning = self.reasoning_content.as_ref().or(self.reasoning.as_ref());
        for (part, text) in [
            (Part::Content, self.content.as_ref()),
            (Part::Refusal, self.refusal.as_ref()),
            (Part::Reasoning, reasoning),
        ] {
            text.into_iter().for_each(|text| take(part, text));
        }
        for (position, call) in self.tool_calls.iter().flatten().enumerate() {
            let index = call.index.unwrap_or(position as u64);
            call.function
                .each_text(|text| take(Part::ToolCall(index), text));
        }
        self.function_call
            .each_text(|text| take(Part::ToolCall(0), text));
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ToolCall<'a> {
    #[serde(deserialize_with = "lenient::count")]
    index: Option<u64>,
    #[serde(borrow, deserialize_with = "lenient::object")]
    function: Function<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Function<'a> {
    #[serde(borrow, deserialize_with = "lenient::text")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient::text")]
    arguments: Option<Cow<'a, str>>,
}

impl Function<'_> {
    fn each_text<'c>(&'c self, take: impl FnMut(&'c str)) {
        [&self.name, &self.arguments]
            .into_iter()
            .flatten()
            .map(Cow::as_ref)
            .for_each(take);
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named<'a> {
    #[serde(borrow, deserialize_with = "lenient::text")]
    name: Option<Cow<'a, str>>,
}

/// Sound comes as a `delta` too, in base64: nothing that a tokenizer could count.
fn is_text_delta(kind: &str) -> bool {
    kind.ends_with(".delta") && !kind.ends_with("audio.delta")
}

fn part_of(kind: &str) -> Part {
    if kind.contains(".refusal.") {
        Part::Refusal
    } else if kind.contains(".reasoning") {
        Part::Reasoning
    } else if kind.contains("_call") {
        Part::ToolCall(0)
    } else {
        Part::Content
    }
}

const RESPONSE_ANNOUNCEMENTS: [&str; 6] = [
    "",
    "keepalive",
    "ping",
    "response.created",
    "response.queued",
    "response.in_progress",
];

const RESPONSE_ENDS: [&str; 3] = [
    "response.completed",
    "response.incomplete",
    "response.failed",
];

const OTHER_ENDS: [&str; 4] = [
    "transcript.text.done",
    "speech.audio.done",
    "image_generation.completed",
    "image_edit.completed",
];
