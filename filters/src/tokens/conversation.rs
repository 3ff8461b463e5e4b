//! What a conversation costs: its texts, and what each provider's format adds around them.
//!
//! Chat and responses bodies are read into the same `Conversation` (`chat`, `responses`) and counted
//! here; what is added around its texts is in `overhead`. Text is exact. Tools and schemas are within about 5 %.
//!
//! Never invents what isn't in the request: stored conversations, built-in tools and files make an
//! estimate uncertain.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::Estimate;
use super::audio::audio;
use super::bound::most_by_bytes;
use super::encoding::{Family, base_name, encoding_of};
use super::image::{ASSUMED_SIZE, Detail, image, size};
use super::json::{self, Node};
use super::memo::{Counter, Memo};
use super::model::hides_text;
use super::overhead;
use super::tools::{Function, answer_schema, declarations};

/// Which interface a conversation came by. The same functions cost less by the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interface {
    Chat,
    Responses,
}

/// A request, as far as it costs tokens.
#[derive(Debug)]
pub(super) struct Conversation<'a> {
    pub(super) interface: Interface,
    pub(super) messages: Messages<'a>,
    pub(super) functions: Vec<Function<'a>>,
    pub(super) choice: Choice<'a>,
    pub(super) schema: Option<Schema<'a>>,
    /// Characters of reasoning that the model is shown again, encrypted.
    pub(super) hidden_reasoning: Vec<usize>,
    /// False: the request names something that costs tokens and isn't in it.
    pub(super) complete: bool,
}

/// The messages of a request, read from its values whenever they are walked through.
///
/// Why they aren't kept: a message takes two hundred bytes, and a body can hold one in two.
#[derive(Debug)]
pub(super) struct Messages<'a> {
    /// Those that no item stands for: at most two.
    pub(super) first: Vec<Message<'a>>,
    pub(super) items: &'a [Node<'a>],
    pub(super) read: fn(&'a Node<'a>) -> Option<Message<'a>>,
}

impl<'a> Messages<'a> {
    fn iter(&self) -> impl Iterator<Item = Message<'a>> {
        let items = self.items.iter().filter_map(self.read);
        self.first.iter().cloned().chain(items)
    }
}

/// One message.
#[derive(Clone, Debug, Default)]
pub(super) struct Message<'a> {
    pub(super) role: &'a str,
    pub(super) content: Option<&'a Node<'a>>,
    pub(super) name: Option<&'a str>,
    pub(super) refusal: Option<&'a str>,
    pub(super) calls: Vec<Call<'a>>,
    /// The call of the interface's first version, which is written another way.
    pub(super) legacy_call: Option<Call<'a>>,
    /// The call that this message answers.
    pub(super) answers: Option<&'a str>,
}

impl Message<'_> {
    fn is_system(&self) -> bool {
        matches!(self.role, "system" | "developer")
    }
}

/// One call of a function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) name: &'a str,
    pub(super) arguments: &'a str,
}

/// Whether the caller said which function is to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice<'a> {
    Free,
    Nothing,
    Named(&'a str),
}

/// The schema that the answer must follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schema<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) schema: Option<&'a Node<'a>>,
}

/// Tokens of a conversation with `model`. `body_bytes` bounds the work that schemas may ask for.
pub(super) fn estimate<M: Memo>(
    memo: &M,
    model: &str,
    conversation: &Conversation<'_>,
    body_bytes: usize,
) -> Estimate {
    let resolved = encoding_of(model);
    let model = base_name(model);
    let mut count = Count {
        model: &model,
        counter: Counter {
            encoding: resolved.encoding,
            memo,
        },
        family: resolved.family,
        interface: conversation.interface,
        tokens: 0,
        beyond: 0,
        certain: resolved.known && conversation.complete && !hides_text(&model),
    };
    let seen = Seen::of(&conversation.messages);
    count.tokens += overhead::priming(count.family);
    count.tokens += overhead::reasoning(&conversation.hidden_reasoning);
    count.messages(conversation, &seen);
    count.tools(conversation, &seen, body_bytes);
    count.schema(conversation, &seen);
    let most = most_by_bytes(body_bytes);
    Estimate {
        tokens: count.tokens.min(most) + count.beyond,
        certain: count.certain && count.tokens <= most,
    }
}

/// How a message's text is written.
#[derive(Clone, Copy)]
enum Written {
    AsIs,
    /// The system message that the tools are written into begins a new line for them.
    BeforeTools,
    /// Results of calls that were made together are written as JSON texts.
    Quoted,
}

/// A call that a message may answer.
struct Called<'a> {
    name: &'a str,
    in_parallel: bool,
    /// Of its name, counted once however many messages answer it.
    tokens: Cell<Option<u64>>,
}

/// What must be known of all messages before one is counted.
struct Seen<'a> {
    called: BTreeMap<&'a str, Called<'a>>,
    system: bool,
}

impl<'a> Seen<'a> {
    fn of(messages: &Messages<'a>) -> Self {
        let mut seen = Seen {
            called: BTreeMap::new(),
            system: false,
        };
        for message in messages.iter() {
            seen.system |= message.is_system();
            let in_parallel = message.calls.len() > 1;
            for call in &message.calls {
                let called = Called {
                    name: call.name,
                    in_parallel,
                    tokens: Cell::new(None),
                };
                seen.called.extend(call.id.map(|id| (id, called)));
            }
        }
        seen
    }
}

struct Count<'a, M> {
    model: &'a str,
    counter: Counter<'a, M>,
    family: Family,
    interface: Interface,
    /// What follows the bytes of the body, and is never more (see `bound`).
    tokens: u64,
    /// What doesn't: images, sound, schemas that unfold.
    beyond: u64,
    certain: bool,
}

impl<M: Memo> Count<'_, M> {
    fn add(&mut self, text: &str) {
        self.tokens += self.counter.count(text);
    }

    fn is_harmony(&self) -> bool {
        self.family == Family::Harmony
    }

    fn messages(&mut self, conversation: &Conversation<'_>, seen: &Seen<'_>) {
        let mut tools_wait = !conversation.functions.is_empty() && !self.is_harmony();
        for message in conversation.messages.iter() {
            let answered = message.answers.and_then(|id| seen.called.get(id));
            let written = if tools_wait && message.is_system() {
                tools_wait = false;
                Written::BeforeTools
            } else if answered.is_some_and(|answered| answered.in_parallel) && !self.is_harmony() {
                Written::Quoted
            } else {
                Written::AsIs
            };
            self.message(&message, written);
            match (message.name, answered) {
                // A name that only repeats the role takes its place.
                (Some(name), _) => {
                    let repeats = name == message.role;
                    self.tokens += u64::from(!repeats) + self.counter.count(name);
                }
                (None, Some(called)) if message.role == "tool" => {
                    self.tokens += 1 + self.name(called);
                }
                (None, Some(_) | None) => {}
            }
        }
    }

    fn name(&self, called: &Called<'_>) -> u64 {
        let tokens = called.tokens.get();
        let tokens = tokens.unwrap_or_else(|| self.counter.count(called.name));
        called.tokens.set(Some(tokens));
        tokens
    }

    /// One message without its name.
    fn message(&mut self, message: &Message<'_>, written: Written) {
        self.tokens += overhead::MESSAGE;
        self.add(if message.role == "developer" {
            "system"
        } else {
            message.role
        });
        let before = self.tokens;
        match (message.content, written) {
            (Some(Node::Text(text)), Written::BeforeTools) if !text.ends_with('\n') => {
                self.add(&format!("{text}\n"))
            }
            (Some(text @ Node::Text(_)), Written::Quoted) => self.add(&text.compact()),
            (Some(content), _) => self.content(content),
            (None, _) => {}
        }
        if self.is_harmony() && message.role == "assistant" && self.tokens > before {
            self.tokens += 2; // `<|channel|>final`
        }
        self.add(message.refusal.unwrap_or_default());
        if let Some(call) = &message.legacy_call {
            self.tokens += 3;
            self.call(call);
        }
        self.tokens += overhead::calls(self.family, self.interface, message.calls.len() as u64);
        for call in &message.calls {
            self.call(call);
        }
    }

    fn call(&mut self, call: &Call<'_>) {
        self.add(call.name);
        // Spaces that the model wrote between the members aren't shown to it again.
        match json::parse(call.arguments.as_bytes()) {
            Ok(arguments) => {
                self.add(&arguments.compact());
                let empty = matches!(&arguments, Node::Object(members) if members.is_empty());
                self.tokens += u64::from(empty && self.is_harmony());
            }
            Err(_) => self.add(call.arguments),
        }
    }

    fn content(&mut self, content: &Node<'_>) {
        match content {
            Node::Text(text) => self.add(text),
            Node::List(parts) => parts.iter().for_each(|part| self.part(part)),
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Object(_) => {}
        }
    }

    fn part(&mut self, part: &Node<'_>) {
        if let Node::Text(text) = part {
            return self.add(text);
        }
        match part.text("type").unwrap_or_default() {
            "text" | "input_text" | "output_text" => {
                self.add(part.text("text").unwrap_or_default())
            }
            "refusal" => self.add(part.text("refusal").unwrap_or_default()),
            "image_url" | "input_image" => self.image(part),
            "input_audio" => self.audio(part),
            _ => self.certain = false,
        }
    }

    fn image(&mut self, part: &Node<'_>) {
        let inner = part.get("image_url").unwrap_or(part);
        let url = inner.as_text().or_else(|| inner.text("url"));
        let detail = match inner.text("detail").or_else(|| part.text("detail")) {
            Some("low") => Detail::Low,
            Some(_) | None => Detail::Full,
        };
        let size = url.and_then(size);
        self.certain &= size.is_some();
        self.beyond += image(self.model, size.unwrap_or(ASSUMED_SIZE), detail);
    }

    fn audio(&mut self, part: &Node<'_>) {
        let data = part.get("input_audio").and_then(|input| input.text("data"));
        match data.and_then(audio) {
            Some(tokens) => self.beyond += tokens,
            None => self.certain = false,
        }
    }

    fn tools(&mut self, conversation: &Conversation<'_>, seen: &Seen<'_>, body_bytes: usize) {
        if conversation.functions.is_empty() {
            return;
        }
        let declared = declarations(self.counter, &conversation.functions, body_bytes);
        match declared.unfolds {
            true => self.beyond += declared.tokens,
            false => self.tokens += declared.tokens,
        }
        self.tokens += overhead::tools(self.model, self.family, self.interface, seen.system);
        if self.is_harmony() && conversation.functions.iter().any(Function::says_parameters) {
            self.tokens += 1;
        }
        self.certain &= declared.all;
        match conversation.choice {
            Choice::Free => {}
            Choice::Nothing | Choice::Named(_) if self.is_harmony() => {} // Not written.
            Choice::Nothing => self.tokens += 1,
            Choice::Named(name) => {
                self.tokens += 7;
                self.add(name);
            }
        }
    }

    fn schema(&mut self, conversation: &Conversation<'_>, seen: &Seen<'_>) {
        let Some(schema) = conversation.schema else {
            return;
        };
        self.tokens += answer_schema(self.counter, schema.schema);
        self.tokens += overhead::schema(self.family, self.interface, seen.system);
        self.add(schema.name);
        self.add(schema.description);
    }
}
