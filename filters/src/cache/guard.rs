//! Whether one prompt means the same as another, as far as that can be checked without understanding either.
//!
//! An embedding sees what two prompts are about, and hardly what they say of it: "is" and "is not", 2023 and 2024, Paris
//! and London, A to B and B to A lie closer together than true paraphrases do. So this looks at what embeddings miss.
//! It takes the words of both apart, sets equal ones, forms of one word and synonyms against each other, and looks at
//! what is left over and in which order the rest stands:
//!
//! - a number, a name, an identifier, a quotation, a negation, another person, another kind of question left over: no;
//! - what stands behind a colon or on a new line is a text to do something with: not the same to the letter: no. Where a
//!   prompt speaks of words ("translate", "the plural of"), nothing stands for another word;
//! - forms of a word are one only where time and number don't matter: "brew" and "brewed" where it is asked how
//!   anybody does it, "who rules" and "who ruled" never;
//! - one word left over, on one side or on both: no, that is how near misses look;
//! - a few left over in a long common text: no, for the same reason;
//! - the same words in another order: no, unless whole parts of the sentence changed places, each with its
//!   preposition ("in Python, how ..." and "how ... in Python");
//! - several words left over on both sides: that may be a paraphrase in other words, but of such pairs not two in three
//!   are ([`Reason::Reworded`] says so, for who wants to let the embedding decide).
//!
//! Small words are known for English only. A prompt in another language must have the same words in the same order,
//! one in a script that isn't Latin must be the same text. The guard errs to the side of a miss: that costs one call,
//! a false hit costs a wrong answer. It is no proof: what differs only in a word that it takes for a small one passes.
//!
//! Time is linear in both texts, which are bounded by [`MAX_BYTES`].
//!
//! Never here: an embedding, and the partition, which must be equal already.

use std::collections::HashMap;

use crate::cache::guard::order::{is_other_thing, order};
use crate::cache::guard::pairs::Pairs;
use crate::cache::guard::reading::{Intent, Reading, Sort, Word};
use crate::cache::guard::scan::Kind;
use crate::cache::guard::wording::Wording;

mod frame;
mod lemma;
mod marks;
mod order;
mod pairs;
mod place;
mod reading;
mod scan;
mod spelling;
mod tables;
mod wording;

/// Longer prompts match only if they are the same text.
pub const MAX_BYTES: usize = 16 << 10;

/// The guard's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against giving the one's answer to the other.
    Match,
    /// It must not be given.
    Differs(Reason),
}

/// What speaks against it. Of several, the first in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// One is too long to compare.
    TooLong,
    /// A number, an amount or a date.
    Number,
    /// One says not what the other says.
    Negation,
    /// A quotation, a text to do something with, or words that are asked about.
    Quote,
    /// An identifier, an address, an expression.
    Code,
    /// A name.
    Name,
    /// A script or language whose small words aren't known.
    Language,
    /// One asks how, the other why.
    Intent,
    /// Somebody else is meant.
    Person,
    /// "from" for "to", "before" for "after".
    Opposite,
    /// The one says more than the other.
    Added,
    /// A few words were put in place of others.
    Swapped,
    /// The same words in another order.
    Order,
    /// Several words on both sides were put in place of others: only an embedding can tell.
    Reworded,
    /// Nothing in common.
    Wording,
}

impl Reason {
    /// Its name, for a metric or a log.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::TooLong => "too_long",
            Reason::Language => "language",
            Reason::Number => "number",
            Reason::Negation => "negation",
            Reason::Quote => "quote",
            Reason::Code => "code",
            Reason::Name => "name",
            Reason::Person => "person",
            Reason::Intent => "intent",
            Reason::Opposite => "opposite",
            Reason::Added => "added",
            Reason::Swapped => "swapped",
            Reason::Order => "order",
            Reason::Reworded => "reworded",
            Reason::Wording => "wording",
        }
    }
}

/// Compares two prompts. The order of the two doesn't matter.
pub fn compare(a: &str, b: &str) -> Verdict {
    if a == b {
        return Verdict::Match;
    }
    if a.len().max(b.len()) > MAX_BYTES {
        return Verdict::Differs(Reason::TooLong);
    }
    let ((a, given_a), (b, given_b)) = (wording::split(a), wording::split(b));
    if given_a != given_b {
        return Verdict::Differs(Reason::Quote);
    }
    if same_words(a, b) {
        return Verdict::Match;
    }
    if !is_latin(a) || !is_latin(b) {
        return Verdict::Differs(Reason::Language);
    }
    let (a, b) = (Reading::of(a), Reading::of(b));
    match against(&a, &b) {
        Some(reason) => Verdict::Differs(reason),
        None => Verdict::Match,
    }
}

/// Whether only spacing and the last mark behind a word differ.
fn same_words(a: &str, b: &str) -> bool {
    let unmarked = |text: &'_ str| {
        let text = text.trim_end();
        let bare = text.trim_end_matches(['.', '?', '!']).trim_end();
        match bare.ends_with(char::is_alphanumeric) {
            true => bare.to_owned(),
            false => text.to_owned(),
        }
    };
    let (a, b) = (unmarked(a), unmarked(b));
    a.split_whitespace().eq(b.split_whitespace())
}

/// Whether all of it can be told apart here: not so other scripts, letters that are put together from several, symbols, and
/// what isn't seen.
fn is_latin(text: &str) -> bool {
    text.chars().all(|c| {
        c.is_ascii()
            || matches!(c, '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' | 'ª' | 'º' | 'µ')
            || matches!(
                c,
                '‘' | '’' | '“' | '”' | '«' | '»' | '¿' | '¡' | '–' | '—' | '…' | '•'
            )
            || matches!(c, '€' | '£' | '°' | '§' | '\u{a0}')
    })
}

fn against(a: &Reading, b: &Reading) -> Option<Reason> {
    if a.wording.max(b.wording) == Wording::Verbatim && !said_the_same(a, b) {
        return Some(Reason::Quote);
    }
    let pairs = Pairs::of(a, b);
    let left = || {
        pairs
            .left_a
            .iter()
            .map(|at| &a.words[*at])
            .chain(pairs.left_b.iter().map(|at| &b.words[*at]))
    };
    let is_left = |sort| left().any(|word| word.sort == sort);
    for (sort, reason) in [
        (Sort::Number, Reason::Number),
        (Sort::Unit, Reason::Number),
        (Sort::Negation, Reason::Negation),
        (Sort::Quote, Reason::Quote),
        (Sort::Code, Reason::Code),
        (Sort::Name, Reason::Name),
    ] {
        if is_left(sort) {
            return Some(reason);
        }
    }
    if names_differ(a, b, &pairs) {
        return Some(Reason::Name);
    }
    if !(a.is_english && b.is_english) && (left().next().is_some() || pairs.is_reordered()) {
        return Some(Reason::Language);
    }
    if intents_differ(&a.intents, &b.intents) {
        return Some(Reason::Intent);
    }
    if persons_differ(a, b, &pairs) {
        return Some(Reason::Person);
    }
    if articles_differ(a, b) {
        return Some(Reason::Added);
    }
    if links_exclude(&a.links, &b.links) || a.stranded() != b.stranded() {
        return Some(Reason::Opposite);
    }
    wording(a, b, &pairs)
}

/// Every word and mark, but for the capital that begins it and the last mark.
fn said_the_same(a: &Reading, b: &Reading) -> bool {
    let said = |reading: &Reading| -> Vec<(String, Kind)> {
        let mut said: Vec<(String, Kind)> = reading
            .said
            .iter()
            .map(|token| (token.text.clone(), token.kind))
            .collect();
        if let Some((_, kind @ Kind::Word { .. })) = said.first_mut() {
            *kind = Kind::Word { is_capital: false };
        }
        while said
            .last()
            .is_some_and(|(_, kind)| matches!(kind, Kind::Pause | Kind::Stop))
        {
            said.pop();
        }
        said
    };
    said(a) == said(b)
}

/// "Polish" and "polish", unless the one is written without any capital.
fn names_differ(a: &Reading, b: &Reading, pairs: &Pairs) -> bool {
    pairs.paired.iter().any(|(of_a, of_b)| {
        let (of_a, of_b) = (&a.words[*of_a], &b.words[*of_b]);
        match (of_a.sort == Sort::Name, of_b.sort == Sort::Name) {
            (true, false) => of_b.is_lower && b.has_capitals,
            (false, true) => of_a.is_lower && a.has_capitals,
            (true, true) | (false, false) => false,
        }
    })
}

/// "Is the water cold" asks of some water, "is water cold" of any. "Tell me the joke" isn't "a joke", and "the capital of
/// France" is "capital of France".
fn articles_differ(a: &Reading, b: &Reading) -> bool {
    let is_other = |one: &Reading, other: &Reading| {
        one.definite > other.definite && one.indefinite < other.indefinite
    };
    match is_yes_or_no(a) && is_yes_or_no(b) {
        true => a.definite != b.definite,
        false => a.intents.is_empty() && b.intents.is_empty() && (is_other(a, b) || is_other(b, a)),
    }
}

fn is_yes_or_no(reading: &Reading) -> bool {
    matches!(reading.intents[..], [Intent::IsIt | Intent::WillIt])
}

fn wording(a: &Reading, b: &Reading, pairs: &Pairs) -> Option<Reason> {
    let plain = |words: &[Word], left: &[usize]| {
        left.iter()
            .filter(|at| words[**at].sort == Sort::Plain)
            .count()
    };
    let (left_a, left_b) = (
        plain(&a.words, &pairs.left_a),
        plain(&b.words, &pairs.left_b),
    );
    let (fewer, more) = (left_a.min(left_b), left_a.max(left_b));
    let shared = pairs.paired.len();
    if more == 0 && shared == 0 {
        return (a.silent != b.silent).then_some(Reason::Wording);
    }
    if more == 0 && is_other_thing(a, b, pairs) {
        return Some(Reason::Swapped);
    }
    if more == 0 {
        return order(a, b, pairs);
    }
    if shared == 0 {
        return Some(Reason::Wording);
    }
    if fewer == 0 {
        return Some(Reason::Added);
    }
    if more == 1 || shared > more {
        return Some(Reason::Swapped);
    }
    Some(Reason::Reworded)
}

/// Whether somebody else is meant. "My password" and "a password" are one where it is asked how, or whether it can be.
fn persons_differ(a: &Reading, b: &Reading, pairs: &Pairs) -> bool {
    let persons = |words: &'_ [Word], left: &[usize]| -> Vec<String> {
        left.iter()
            .map(|at| &words[*at])
            .filter(|word| word.sort == Sort::Person)
            .map(|word| word.text.clone())
            .collect()
    };
    let (left_a, left_b) = (
        persons(&a.words, &pairs.left_a),
        persons(&b.words, &pairs.left_b),
    );
    let is_speaker = |left: &[String]| left.iter().all(|person| person == "i");
    let asks_how = |reading: &Reading| {
        reading
            .intents
            .iter()
            .all(|intent| matches!(intent, Intent::HowTo | Intent::CanIt | Intent::Price))
    };
    let asks = !(a.intents.is_empty() || b.intents.is_empty());
    let may_be_anybody =
        asks && is_speaker(&left_a) && is_speaker(&left_b) && asks_how(a) && asks_how(b);
    !(left_a.is_empty() && left_b.is_empty() || may_be_anybody)
}

/// A prompt that doesn't say what it asks for may ask how or what.
fn intents_differ(a: &[Intent], b: &[Intent]) -> bool {
    let is_free = |intents: &[Intent]| {
        intents
            .iter()
            .all(|intent| matches!(intent, Intent::HowTo | Intent::What))
    };
    match (a, b) {
        ([], other) | (other, []) => !is_free(other),
        (a, b) => a != b,
    }
}

/// Whether one has a link that the other has not: all tell something but "of", and what the other has for it.
fn links_exclude(a: &[&'static str], b: &[&'static str]) -> bool {
    let mut counts: HashMap<&str, i32> = HashMap::new();
    a.iter()
        .for_each(|link| *counts.entry(link).or_default() += 1);
    b.iter()
        .for_each(|link| *counts.entry(link).or_default() -= 1);
    let more = |wanted: fn(i32) -> bool| {
        counts
            .iter()
            .filter(move |(link, count)| wanted(**count) && !matches!(**link, "" | "of"))
            .map(|(link, _)| *link)
    };
    let has_its_like = |one: &str, others: fn(i32) -> bool| {
        let mut others = more(others);
        others.any(|other| tables::are_alike(one, other))
    };
    more(|count| count > 0).any(|one| !has_its_like(one, |count| count < 0))
        || more(|count| count < 0).any(|one| !has_its_like(one, |count| count > 0))
}
