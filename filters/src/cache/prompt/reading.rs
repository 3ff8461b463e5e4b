//! A body while it is read: its messages, its other fields, and what is made of them.
//!
//! Never here: which fields are told apart and why (`prompt`), and a single message (`message`).

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest as _, Sha256};

use super::{IGNORED, MAX_MESSAGES, MAX_TEXT_BYTES, Prompt, Scope, Skip, SystemMessages};
use crate::cache::canonical::{Canonical, Flaw, Members, write_text};
use crate::cache::exact::{self, Digest};
use crate::cache::message::{Message, MessageSeed, Role, append_line};
use crate::route::Shape;

/// A body while it is read.
pub(super) struct Reading {
    shape: Shape,
    dialogue: &'static str,
    system: SystemMessages,
    flaw: Option<Flaw>,
    is_stateful: bool,
    /// Every field but those that are ignored, and the dialogue where it is messages.
    fields: Members,
    has_dialogue: bool,
    instructions: String,
    messages: Vec<Spoken>,
    /// What each message says, one after the other.
    texts: String,
}

/// A message, and where its text stands.
struct Spoken {
    message: Message,
    text: Range<usize>,
}

impl Reading {
    /// Reads a body whose conversation is in the field `dialogue`.
    pub(super) fn of(
        body: &[u8],
        (shape, dialogue): (Shape, &'static str),
        system: SystemMessages,
    ) -> Result<Self, Skip> {
        let mut reading = Reading {
            shape,
            dialogue,
            system,
            flaw: None,
            is_stateful: false,
            fields: Members::default(),
            has_dialogue: false,
            instructions: String::new(),
            messages: Vec::new(),
            texts: String::new(),
        };
        let mut json = serde_json::Deserializer::from_slice(body);
        let is_read = json.deserialize_map(&mut reading).and_then(|()| json.end());
        if reading.messages.len() > MAX_MESSAGES {
            return Err(Skip::TooManyMessages);
        }
        if is_read.is_err() {
            return Err(Skip::Unreadable);
        }
        Ok(reading)
    }

    pub(super) fn prompt(mut self, scope: Scope<'_>) -> Result<Prompt, Skip> {
        if !self.has_dialogue {
            return Err(Skip::NoConversation);
        }
        if self.is_stateful {
            return Err(Skip::Stateful);
        }
        let mut fields = Vec::new();
        std::mem::take(&mut self.fields).write(&mut fields, &mut self.flaw);
        if self.flaw.is_some() {
            return Err(Skip::Unreadable);
        }
        let run = last_user_run(&self.messages);
        let partition = self.partition(scope, &fields, &run);
        let question = self.messages.get(run.clone()).unwrap_or_default();
        let exact = exact::digest(
            &partition,
            question.iter().map(|spoken| &spoken.message.whole),
        );
        Ok(Prompt {
            partition,
            exact,
            message_count: self.counted().count(),
            question: self.text(question.iter(), ""),
            conversation: self.text(self.counted(), self.instructions()),
        })
    }

    fn partition(&self, scope: Scope<'_>, fields: &[u8], run: &Range<usize>) -> Digest {
        let mut names = Vec::new();
        for name in [scope.policy, scope.api, scope.operation, scope.model] {
            write_text(&mut names, name);
        }
        for value in scope.vary_by {
            write_text(&mut names, value);
        }
        let mut hash = Sha256::new_with_prefix(b"tollgate partition 1\0");
        hash.update((names.len() as u64).to_be_bytes());
        hash.update(names);
        hash.update((fields.len() as u64).to_be_bytes());
        hash.update(fields);
        for (index, spoken) in self.messages.iter().enumerate() {
            let (mark, digest) = if run.contains(&index) {
                (b"q", &spoken.message.frame)
            } else {
                (b"m", &spoken.message.whole)
            };
            hash.update(mark);
            hash.update(digest);
        }
        Digest::finish(hash)
    }

    fn counted(&self) -> impl Iterator<Item = &Spoken> {
        let keeps_system = self.system == SystemMessages::Embedded;
        self.messages
            .iter()
            .filter(move |spoken| keeps_system || spoken.message.role != Role::System)
    }

    fn instructions(&self) -> &str {
        match self.system {
            SystemMessages::Embedded => &self.instructions,
            SystemMessages::Ignored => "",
        }
    }

    /// The texts of some messages, each on a line of its own.
    fn text<'a>(&self, messages: impl Iterator<Item = &'a Spoken>, before: &str) -> Option<String> {
        let mut joined = before.to_owned();
        for spoken in messages {
            joined.push_str(self.texts.get(spoken.text.clone()).unwrap_or_default());
            if joined.len() > MAX_TEXT_BYTES {
                return None;
            }
        }
        joined.truncate(joined.trim_end_matches('\n').len());
        Some(joined).filter(|text| !text.trim().is_empty())
    }

    fn add(&mut self, message: Message, from: usize) {
        let text = from..self.texts.len();
        self.messages.push(Spoken { message, text });
    }
}

/// The last user message, and those directly before it.
fn last_user_run(messages: &[Spoken]) -> Range<usize> {
    let is_user = |spoken: &Spoken| spoken.message.role == Role::User;
    let end = messages
        .iter()
        .rposition(is_user)
        .map_or(0, |last| last + 1);
    let run = messages
        .iter()
        .take(end)
        .rev()
        .take_while(|spoken| is_user(spoken));
    end - run.count()..end
}

impl<'de> Visitor<'de> for &mut Reading {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let key = key.as_ref();
            if IGNORED.contains(&key) {
                map.next_value::<IgnoredAny>()?;
            } else if key == self.dialogue {
                if std::mem::replace(&mut self.has_dialogue, true) {
                    self.flaw = Some(Flaw::DuplicateKey);
                }
                let mut rest = Vec::new();
                map.next_value_seed(DialogueSeed {
                    reading: &mut *self,
                    rest: &mut rest,
                })?;
                self.fields.add(key, &rest);
            } else if key == "instructions" && self.shape == Shape::Responses {
                let text: Option<String> = map.next_value()?;
                let mut value = vec![b'n'];
                if let Some(text) = &text {
                    value.clear();
                    write_text(&mut value, text);
                }
                self.fields.add(key, &value);
                append_line(&mut self.instructions, text.as_deref().unwrap_or_default());
            } else {
                // A conversation that the backend keeps goes on while answers of it are cached.
                self.is_stateful |= key == "conversation";
                self.fields.read(key, &mut map, &mut self.flaw)?;
            }
        }
        Ok(())
    }
}

/// Reads the messages; what isn't messages goes to `rest`.
struct DialogueSeed<'o> {
    reading: &'o mut Reading,
    rest: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for DialogueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for DialogueSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("messages")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.reading.has_dialogue = false;
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.reading.shape == Shape::Chat {
            return Err(E::custom("messages must be a list"));
        }
        let from = self.reading.texts.len();
        append_line(&mut self.reading.texts, text);
        self.reading.add(Message::of_user(text), from);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let reading = self.reading;
        if reading.shape == Shape::Completions {
            // Several prompts, or tokens: nothing to compare, so only an exact repeat is the same.
            return Canonical {
                out: self.rest,
                flaw: &mut reading.flaw,
            }
            .visit_seq(items);
        }
        while reading.messages.len() <= MAX_MESSAGES {
            let from = reading.texts.len();
            let seed = MessageSeed {
                text: &mut reading.texts,
                flaw: &mut reading.flaw,
            };
            let Some(message) = items.next_element_seed(seed)? else {
                reading.has_dialogue = !reading.messages.is_empty();
                return Ok(());
            };
            reading.add(message, from);
        }
        Err(A::Error::custom("too many messages"))
    }
}
