//! Token counts of one answer, in the shapes of the endpoints.
//!
//! Prompt tokens are characters / 4, completion tokens the words said: both can be checked by hand. Cached and reasoning
//! tokens are parts, as on the real wire, and come from the behaviour.

use serde_json::{Value, json};

use super::behaviour::Content;
use super::journal::Charge;

/// The counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) prompt: u64,
    pub(crate) completion: u64,
    cached: u64,
    reasoning: u64,
}

impl Tally {
    pub(crate) fn new(prompt_characters: u64, words: usize, content: &Content) -> Self {
        let prompt = content
            .prompt_tokens
            .unwrap_or_else(|| prompt_characters.div_ceil(4).max(1));
        Self {
            prompt,
            completion: words as u64 + content.reasoning_tokens,
            cached: content.cached_tokens.min(prompt),
            reasoning: content.reasoning_tokens,
        }
    }

    pub(crate) fn total(self) -> u64 {
        self.prompt + self.completion
    }

    /// Charged with the first bytes of an answer.
    pub(crate) fn opening_charge(self) -> Charge {
        self.charge(self.reasoning)
    }

    /// Charged when all of the answer goes at once.
    pub(crate) fn whole_charge(self) -> Charge {
        self.charge(self.completion)
    }

    fn charge(self, completion: u64) -> Charge {
        Charge {
            requests: 1,
            prompt_tokens: self.prompt,
            completion_tokens: completion,
            total_tokens: self.prompt + completion,
        }
    }

    pub(crate) fn chat(self) -> Value {
        json!({
            "prompt_tokens": self.prompt, "completion_tokens": self.completion, "total_tokens": self.total(),
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        })
    }

    pub(crate) fn responses(self) -> Value {
        json!({
            "input_tokens": self.prompt, "input_tokens_details": {"cached_tokens": self.cached},
            "output_tokens": self.completion, "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.total(),
        })
    }
}

/// One word sent.
pub(crate) const WORD: Charge = Charge {
    requests: 0,
    prompt_tokens: 0,
    completion_tokens: 1,
    total_tokens: 1,
};
