//! One message of a conversation: its role, its text, and two digests.
//!
//! `whole` is of everything in it. `frame` is of everything but its text, which leaves a mark in its place: two
//! messages of one frame differ in nothing but wording. What isn't text (images, sound, files) is in both.
//!
//! Never here: what is made of them (`prompt`).

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use sha2::{Digest as _, Sha256};

use crate::cache::canonical::{Canonical, Flaw, Members, write_text};

/// Who speaks, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    System,
    User,
    /// The model, a tool, an item that isn't a message.
    Other,
}

/// What is kept of a message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) role: Role,
    pub(super) whole: [u8; 32],
    pub(super) frame: [u8; 32],
}

impl Message {
    /// A user's message that is only a text.
    pub(super) fn of_user(text: &str) -> Self {
        let mut whole = Vec::new();
        write_text(&mut whole, text);
        Self {
            role: Role::User,
            whole: Sha256::digest(&whole).into(),
            frame: Sha256::digest(TEXT).into(),
        }
    }
}

/// Reads one message; its text is appended to `text`.
pub(super) struct MessageSeed<'o> {
    pub(super) text: &'o mut String,
    pub(super) flaw: &'o mut Option<Flaw>,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = Message;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Message, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = Message;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message, A::Error> {
        let mut role = Role::Other;
        let (mut whole, mut frame) = (Members::default(), Members::default());
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let mut value = Both::default();
            match key.as_ref() {
                "role" => {
                    let name = map.next_value::<Cow<'_, str>>()?;
                    role = role_of(&name);
                    write_text(&mut value.whole, &name);
                    write_text(&mut value.frame, &name);
                }
                "content" => map.next_value_seed(ContentSeed {
                    out: &mut value,
                    text: &mut *self.text,
                    flaw: &mut *self.flaw,
                })?,
                _ => {
                    map.next_value_seed(Canonical {
                        out: &mut value.whole,
                        flaw: &mut *self.flaw,
                    })?;
                    value.frame.clone_from(&value.whole);
                }
            }
            whole.add(&key, &value.whole);
            frame.add(&key, &value.frame);
        }
        Ok(Message {
            role,
            whole: digest(whole, self.flaw),
            frame: digest(frame, self.flaw),
        })
    }
}

fn role_of(name: &str) -> Role {
    match name {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        _ => Role::Other,
    }
}

fn digest(members: Members, flaw: &mut Option<Flaw>) -> [u8; 32] {
    let mut out = Vec::new();
    members.write(&mut out, flaw);
    Sha256::digest(&out).into()
}

/// A value in both forms.
#[derive(Default)]
struct Both {
    whole: Vec<u8>,
    frame: Vec<u8>,
}

/// Where a text stood. No value's canonical form begins so.
const TEXT: &[u8] = b"T";

struct ContentSeed<'o> {
    out: &'o mut Both,
    text: &'o mut String,
    flaw: &'o mut Option<Flaw>,
}

impl ContentSeed<'_> {
    /// A value that holds no text to compare.
    fn other<E: Error>(self, write: impl FnOnce(Canonical<'_>) -> Result<(), E>) -> Result<(), E> {
        let from = self.out.whole.len();
        write(Canonical {
            out: &mut self.out.whole,
            flaw: self.flaw,
        })?;
        self.out.frame.extend_from_slice(&self.out.whole[from..]);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for ContentSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ContentSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the content of a message")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.other(|canonical| canonical.visit_unit())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.other(|canonical| canonical.visit_bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.other(|canonical| canonical.visit_u64(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.other(|canonical| canonical.visit_i64(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.other(|canonical| canonical.visit_f64(value))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.other(|canonical| canonical.visit_map(map))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        append_line(self.text, text);
        write_text(&mut self.out.whole, text);
        self.out.frame.extend_from_slice(TEXT);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<(), A::Error> {
        self.out.whole.push(b'[');
        self.out.frame.push(b'[');
        while parts
            .next_element_seed(PartSeed {
                out: &mut *self.out,
                text: &mut *self.text,
                flaw: &mut *self.flaw,
            })?
            .is_some()
        {}
        self.out.whole.push(b']');
        self.out.frame.push(b']');
        Ok(())
    }
}

/// A part of a content: an object with a type.
struct PartSeed<'o> {
    out: &'o mut Both,
    text: &'o mut String,
    flaw: &'o mut Option<Flaw>,
}

impl<'de> DeserializeSeed<'de> for PartSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PartSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a part of a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut whole, mut rest) = (Members::default(), Members::default());
        let (mut is_text, mut text) = (false, None);
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match key.as_ref() {
                "text" => {
                    text = map.next_value::<Option<String>>()?;
                    let mut value = Vec::new();
                    write_text(&mut value, text.as_deref().unwrap_or_default());
                    whole.add(&key, &value);
                }
                "type" => {
                    let kind = map.next_value::<Cow<'_, str>>()?;
                    is_text = matches!(kind.as_ref(), "text" | "input_text" | "output_text");
                    let mut value = Vec::new();
                    write_text(&mut value, &kind);
                    whole.add(&key, &value);
                    rest.add(&key, &value);
                }
                _ => {
                    let mut value = Vec::new();
                    map.next_value_seed(Canonical {
                        out: &mut value,
                        flaw: &mut *self.flaw,
                    })?;
                    whole.add(&key, &value);
                    rest.add(&key, &value);
                }
            }
        }
        let from = self.out.whole.len();
        whole.write(&mut self.out.whole, self.flaw);
        match text.filter(|_| is_text) {
            Some(text) => {
                append_line(self.text, &text);
                rest.write(&mut self.out.frame, self.flaw);
                self.out.frame.extend_from_slice(TEXT);
            }
            None => self.out.frame.extend_from_slice(&self.out.whole[from..]),
        }
        Ok(())
    }
}

/// Each text ends its line, so the texts of one buffer never run together.
pub(super) fn append_line(texts: &mut String, text: &str) {
    texts.push_str(text);
    texts.push('\n');
}
