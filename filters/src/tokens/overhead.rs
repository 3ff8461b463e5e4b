//! What each provider's format adds around the texts of a conversation.
//!
//! The constants are a provider's, published or measured on recorded answers; each says which part of the format it
//! stands for. Never counts a text.

use super::conversation::Interface;
use super::encoding::Family;
use super::model::is_gpt_5;

/// Start and end marks of a message: `<|im_start|>`, a line end, `<|im_end|>`.
pub(super) const MESSAGE: u64 = 3;

/// The start of the answer, which the model goes on from.
pub(super) fn priming(family: Family) -> u64 {
    match family {
        Family::Harmony => 2,
        Family::Cl | Family::O | Family::Plain => 3,
    }
}

/// The marks of the calls that one message makes.
pub(super) fn calls(family: Family, interface: Interface, calls: u64) -> u64 {
    match (calls, family) {
        (0, _) => 0,
        (_, Family::Harmony) => match interface {
            Interface::Chat => 2 + 8 * calls,
            Interface::Responses => 8 * calls,
        },
        (1, Family::Cl | Family::O | Family::Plain) => 4,
        // Calls made together are written as one call of a function that makes them.
        (_, Family::Cl | Family::O | Family::Plain) => 20,
    }
}

/// The heading of the tools, and a message of their own where no system message holds them.
pub(super) fn tools(model: &str, family: Family, interface: Interface, has_system: bool) -> u64 {
    match (family, interface) {
        (Family::Harmony, Interface::Chat) if is_gpt_5(model) => 90,
        (Family::Harmony, Interface::Responses) if is_gpt_5(model) => 8,
        (Family::Harmony, Interface::Chat | Interface::Responses) => 10,
        (Family::Cl | Family::O | Family::Plain, Interface::Responses) => 3,
        (Family::Cl | Family::O | Family::Plain, Interface::Chat) => match has_system {
            true => 5,
            false => 9,
        },
    }
}

/// The heading of an answer's schema, and a message of its own where no system message holds it. Of responses there are
/// few recordings.
pub(super) fn schema(family: Family, interface: Interface, has_system: bool) -> u64 {
    match (family, interface, has_system) {
        (Family::Harmony, Interface::Responses, _) => 0,
        (Family::Cl | Family::O | Family::Plain, Interface::Responses, _) => 12,
        (_, Interface::Chat, true) => 16,
        (_, Interface::Chat, false) => 20,
    }
}

/// Tokens of reasoning that comes back encrypted, by the lengths of its pieces: on recorded answers within about a fifth.
pub(super) fn reasoning(encrypted: &[usize]) -> u64 {
    let tokens = |characters: &usize| {
        let thousandths = (*characters as u64).saturating_mul(REASONING_THOUSANDTHS);
        (thousandths / 1_000).saturating_sub(REASONING_ENVELOPE)
    };
    encrypted.iter().map(tokens).sum()
}

/// Tokens in a thousand characters of encrypted reasoning.
const REASONING_THOUSANDTHS: u64 = 145;

/// What of each piece is its envelope, in the same measure.
const REASONING_ENVELOPE: u64 = 125;
