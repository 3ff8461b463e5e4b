//! The text of a stream while it passes: what can be counted if no usage comes, and which choices have finished.
//!
//! Both are bounded. 4 MiB is a million tokens, more than any model answers; past it, only the bytes are counted. 1024
//! choices are eight times what a backend allows.
//!
//! Never here: tokens. What the text costs is counted once, at the end, if at all.

use std::collections::BTreeMap;

/// Texts by choice (or output item) and part.
#[derive(Debug, Default)]
pub(super) struct Texts {
    texts: BTreeMap<(u64, Part), String>,
    held_bytes: usize,
    uncounted_bytes: u64,
    /// By choice: whether it has finished.
    choices: BTreeMap<u64, bool>,
    has_more_choices: bool,
}

/// What a text is a part of. One tool call's name and arguments are one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Content,
    Refusal,
    Reasoning,
    ToolCall(u64),
}

impl Texts {
    /// Adds to a text. Says whether there was anything to add.
    pub(super) fn add(&mut self, choice: u64, part: Part, text: &str) -> bool {
        if text.is_empty() {
            return false;
        }
        if self.uncounted_bytes > 0
            || self.held_bytes + text.len() > MAX_TEXT_BYTES
            || !self.has_room(choice, part)
        {
            self.uncounted_bytes = self.uncounted_bytes.saturating_add(text.len() as u64);
        } else {
            self.held_bytes += text.len();
            self.texts.entry((choice, part)).or_default().push_str(text);
        }
        true
    }

    /// Bytes came that hold text, and it isn't known which.
    pub(super) fn leave_out(&mut self, bytes: usize) {
        self.uncounted_bytes = self.uncounted_bytes.saturating_add(bytes as u64);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.texts.values().map(String::as_str)
    }

    pub(super) fn uncounted_bytes(&self) -> u64 {
        self.uncounted_bytes
    }

    fn has_room(&self, choice: u64, part: Part) -> bool {
        self.texts.len() < MAX_TEXTS || self.texts.contains_key(&(choice, part))
    }
}

impl Texts {
    /// Notes that a choice was seen, and whether it has finished.
    pub(super) fn see_choice(&mut self, choice: u64, has_finished: bool) {
        if self.choices.len() < MAX_CHOICES || self.choices.contains_key(&choice) {
            *self.choices.entry(choice).or_default() |= has_finished;
        } else {
            self.has_more_choices = true;
        }
    }

    /// Whether choices were seen and all have finished. Never so where more were seen than are kept.
    pub(super) fn is_every_choice_finished(&self) -> bool {
        !self.choices.is_empty()
            && !self.has_more_choices
            && self.choices.values().all(|finished| *finished)
    }
}

const MAX_TEXT_BYTES: usize = 4 << 20;
const MAX_TEXTS: usize = 4096;
const MAX_CHOICES: usize = 1024;
