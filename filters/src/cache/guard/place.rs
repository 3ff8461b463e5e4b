//! What a small word says where it stands: the same word is silent here and tells something there.
//!
//! Never here: words that say the same everywhere (`tables`).

use crate::cache::guard::frame::Intent;
use crate::cache::guard::scan::Token;

/// What stands around a word.
#[derive(Clone, Copy)]
pub(super) struct Near<'a> {
    pub(super) before: &'a str,
    pub(super) after: &'a str,
    /// The one after that.
    pub(super) beyond: &'a str,
    pub(super) is_name: bool,
}

/// What a word says where it stands, though it says nothing elsewhere, or something else.
pub(super) fn telling_here<'a>(word: &'a str, near: Near<'_>, intent: Intent) -> Option<&'a str> {
    let is_yes_or_no = matches!(
        intent,
        Intent::IsIt | Intent::CanIt | Intent::ShouldIt | Intent::WillIt
    );
    match word {
        "have" | "has" if near.after == "to" => Some("should"),
        // "Have you got" has, "have you been" is another time.
        "have" | "has" => (!has_thing(near)).then_some("have"),
        "one" if near.after == "in" || near.before == "in" => Some(word),
        "used" if near.after == "to" => Some("used-to"),
        // "What are some" wants a few named.
        "some" if near.before == "are" && intent == Intent::What => Some("some"),
        "few" if near.before == "a" => Some("several"),
        "little" if near.before == "a" => Some("some"),
        "really" | "just" | "quite" | "exactly" | "exact"
            if is_yes_or_no || intent == Intent::Open =>
        {
            Some(word)
        }
        "there" if !is_being(near.before) && !is_being(near.after) => Some(word),
        "a" | "an" | "the" | "it" | "that" if near.before == "or" || near.after == "or" => {
            Some(word)
        }
        _ => None,
    }
}

fn is_being(word: &str) -> bool {
    matches!(
        word,
        "is" | "are" | "was" | "were" | "be" | "s" | "if" | "whether"
    )
}

/// "Have a room", "have you got a room".
fn has_thing(near: Near<'_>) -> bool {
    let is_got = |word| word == "got";
    let opens = |word| {
        matches!(
            word,
            "a" | "an"
                | "the"
                | "any"
                | "some"
                | "no"
                | "my"
                | "your"
                | "its"
                | "their"
                | "this"
                | "that"
        )
    };
    is_got(near.after) || is_got(near.beyond) || opens(near.after)
}

/// A modal that makes another question: what can be done isn't what is done, will be or ought to be. Of "how can I" and
/// "how do I", of "who should I ask" and "who do I ask" it is the same.
pub(super) fn telling_modal(word: &str, near: Near<'_>, intent: Intent) -> Option<&'static str> {
    let is_speaker = matches!(near.after, "i" | "we" | "you" | "one");
    let asks_way =
        matches!(intent, Intent::HowTo | Intent::Where) || intent == Intent::Who && is_speaker;
    match word {
        "should" | "must" if !asks_way || intent != Intent::Who => Some("should"),
        "would" if intent == Intent::HowTo => Some("would"),
        "can" | "could" | "may" | "might" if !asks_way && intent != Intent::CanIt => Some("can"),
        "will" if !asks_way && !matches!(intent, Intent::WillIt | Intent::Why | Intent::Price) => {
            Some("will")
        }
        _ => None,
    }
}

/// Whether a word that helps another verb is the verb itself: "what does it do", "what is it to be one".
pub(super) fn is_verb_here(word: &str, near: Near<'_>, intent: Intent) -> bool {
    match word {
        "do" | "does" => near.after.is_empty() && intent != Intent::HowTo,
        "be" => near.before == "to" && intent == Intent::What,
        _ => false,
    }
}

/// Whether the word says nothing where it stands, though it would elsewhere.
pub(super) fn is_empty_here(word: &str, near: Near<'_>, intent: Intent) -> bool {
    match word {
        "cost" | "costs" => intent == Intent::Price,
        "please" | "pls" => matches!(near.before, "i" | "you" | "we"),
        "got" => matches!(near.before, "i" | "you" | "we") && intent != Intent::Open,
        _ => false,
    }
}

pub(super) fn is_first_question_word(token: &Token) -> bool {
    matches!(token.text.as_str(), "how" | "what" | "why" | "whats")
}

pub(super) fn is_auxiliary(word: &str) -> bool {
    matches!(
        word,
        "do" | "does"
            | "did"
            | "can"
            | "could"
            | "should"
            | "would"
            | "must"
            | "may"
            | "might"
            | "will"
            | "to"
    )
}

pub(super) fn person(word: &str) -> Option<&'static str> {
    match word {
        "i" | "me" | "my" | "mine" | "we" | "our" | "ours" => Some("i"),
        // "The us" may be a country.
        "us" => Some("us"),
        "you" | "your" | "yours" => Some("you"),
        "he" | "him" | "his" => Some("he"),
        "she" | "her" | "hers" => Some("she"),
        "they" | "them" | "their" | "theirs" => Some("they"),
        _ => None,
    }
}
