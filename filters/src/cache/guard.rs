//! Whether one prompt means the same as another, as far as that can be checked without understanding either.
//!
//! An embedding sees what two prompts are about, and hardly what they say of it: "is" and "is not", 2023 and 2024, Paris
//! and London, A to B and B to A lie closer together than true paraphrases do. So this looks at what embeddings miss.
//! It takes the words of both apart, sets equal ones, forms of one word and synonyms against each other, and looks at
//! what is left over and in which order the rest stands:
//!
//! - a number, a name, an identifier, a quotation, a negation, another person, another kind of question left over: no;
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

use crate::cache::guard::pairs::Pairs;
use crate::cache::guard::reading::{Intent, Reading, Sort, Word};

mod frame;
mod lemma;
mod pairs;
mod reading;
mod scan;
mod spelling;
mod tables;

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
    /// A quotation.
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
    if same_text(a, b) {
        return Verdict::Match;
    }
    if a.len().max(b.len()) > MAX_BYTES {
        return Verdict::Differs(Reason::TooLong);
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

/// Whether only spacing and the last mark differ.
fn same_text(a: &str, b: &str) -> bool {
    let words = |text: &'_ str| -> Vec<String> {
        let text = text.trim().trim_end_matches(['.', '?', '!']);
        text.split_whitespace().map(str::to_owned).collect()
    };
    a == b || a.len().abs_diff(b.len()) < a.len().max(64) && words(a) == words(b)
}

/// Whether every letter and digit is one whose words can be told apart here.
fn is_latin(text: &str) -> bool {
    text.chars().all(|c| {
        c.is_ascii()
            || !c.is_alphanumeric()
            || matches!(c, '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' | 'ª' | 'º' | 'µ')
    })
}

fn against(a: &Reading, b: &Reading) -> Option<Reason> {
    let pairs = Pairs::of(&a.words, &b.words);
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
    if !(a.is_english && b.is_english) && (left().next().is_some() || pairs.is_reordered()) {
        return Some(Reason::Language);
    }
    if intents_differ(&a.intents, &b.intents) {
        return Some(Reason::Intent);
    }
    if persons_differ(a, b, &pairs) {
        return Some(Reason::Person);
    }
    if links_exclude(&a.links, &b.links) || a.stranded() != b.stranded() {
        return Some(Reason::Opposite);
    }
    wording(a, b, &pairs)
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

/// "What is processing?" and "what is a process?": where little more is said, an "-ing" names another thing.
fn is_other_thing(a: &Reading, b: &Reading, pairs: &Pairs) -> bool {
    let asks_what =
        |reading: &Reading| reading.intents.iter().all(|intent| *intent == Intent::What);
    let names_deed = |word: &Word| word.text.ends_with("ing");
    pairs.paired.len() < 3
        && asks_what(a)
        && asks_what(b)
        && pairs
            .paired
            .iter()
            .any(|(of_a, of_b)| names_deed(&a.words[*of_a]) != names_deed(&b.words[*of_b]))
}

/// The same words: do they stand in the same order, or did only whole parts change places?
fn order(a: &Reading, b: &Reading, pairs: &Pairs) -> Option<Reason> {
    if !pairs.is_reordered() {
        return None;
    }
    let is_plain = |reading: &Reading| reading.words.iter().any(|word| word.sort == Sort::Plain);
    let is_said = |word: &Word| matches!(word.sort, Sort::Plain | Sort::Name);
    let asks_how = |reading: &Reading| reading.intents.first() == Some(&Intent::HowTo);
    let is_owned = |one: &Reading, other: &Reading| one.has_owner && other.links.contains(&"of");
    let is_short = pairs.paired.len() == 2
        && (asks_how(a) && asks_how(b) || is_owned(a, b) || is_owned(b, a))
        && is_plain(a)
        && is_plain(b)
        && a.words.iter().chain(&b.words).all(is_said);
    let joins = |links: &[&str]| {
        links
            .iter()
            .any(|link| !link.is_empty() && *link != "of" && *link != "for")
    };
    if is_short && !joins(&a.links) && !joins(&b.links) {
        // "brew coffee" and "coffee is brewed", "France's capital" and "the capital of France": there is one sensible order.
        return None;
    }
    let of_b: Vec<(usize, usize)> = pairs
        .paired
        .iter()
        .enumerate()
        .map(|(id, (_, at))| (*at, id))
        .collect();
    let of_a: Vec<(usize, usize)> = pairs
        .paired
        .iter()
        .enumerate()
        .map(|(id, (at, _))| (*at, id))
        .collect();
    (parts(a, of_a) != parts(b, of_b)).then_some(Reason::Order)
}

/// Each part as its link and its words by their number in the pairing, by link.
fn parts(reading: &Reading, mut words: Vec<(usize, usize)>) -> Vec<(&'static str, Vec<usize>)> {
    words.sort_unstable();
    let mut parts: Vec<(&'static str, Vec<usize>)> = reading
        .links
        .iter()
        .map(|link| (*link, Vec::new()))
        .collect();
    for (at, id) in words {
        let part = reading.words.get(at).map_or(0, |word| word.part);
        if let Some((_, ids)) = parts.get_mut(part) {
            ids.push(id);
        }
    }
    parts.retain(|(_, ids)| !ids.is_empty());
    // Stable: of parts with one link, each must stay in its place among them.
    parts.sort_by_key(|(link, _)| *link);
    parts
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
    let may_be_anybody = is_speaker(&left_a) && is_speaker(&left_b) && asks_how(a) && asks_how(b);
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

/// Whether one has a link that the other has not, and it is a telling one or the other has one that isn't like it.
fn links_exclude(a: &[&'static str], b: &[&'static str]) -> bool {
    let mut counts: HashMap<&str, i32> = HashMap::new();
    a.iter()
        .for_each(|link| *counts.entry(link).or_default() += 1);
    b.iter()
        .for_each(|link| *counts.entry(link).or_default() -= 1);
    if counts
        .iter()
        .any(|(link, count)| *count != 0 && tables::is_telling(link))
    {
        return true;
    }
    let more = |wanted: fn(i32) -> bool| {
        counts
            .iter()
            .filter(move |(link, count)| wanted(**count) && !link.is_empty())
            .map(|(link, _)| *link)
    };
    more(|count| count > 0)
        .any(|one| more(|count| count < 0).any(|other| !tables::are_alike(one, other)))
}
