//! Whether a prompt is about its own words: then another form of one, or a synonym, makes another prompt.
//!
//! "Translate I am glad to French" and "I am happy" have two answers, and so have "the plural of child" and "of children". And
//! whatever stands behind a colon or on a new line is a text that something is to be done with, or code.
//!
//! Never here: a comparison (`guard`).

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::cache::guard::frame;
use crate::cache::guard::scan::{Kind, Token, tokens};

/// How far a prompt is about its own words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wording {
    /// It isn't.
    #[default]
    Free,
    /// Its words are looked up or compared: they must be these.
    Literal,
    /// Something is done with them: all must be these, the small ones too, and in this order.
    Verbatim,
}

/// By words that speak of words.
pub(super) fn of(tokens: &[Token]) -> Wording {
    let words = tokens.iter().enumerate().map(|(at, token)| {
        let before = at.checked_sub(1).map_or("", |before| &tokens[before].text);
        match token.kind {
            Kind::Word { .. } => of_word(&token.text, before),
            Kind::Number | Kind::Code | Kind::Quote | Kind::Pause | Kind::Stop => Wording::Free,
        }
    });
    words.max().unwrap_or_default()
}

fn of_word(word: &str, before: &str) -> Wording {
    static ALL: LazyLock<HashMap<&str, Listed>> = LazyLock::new(|| {
        let lists = [
            (LANGUAGES, Listed::Language),
            (LITERAL, Listed::As(Wording::Literal)),
            (VERBATIM, Listed::As(Wording::Verbatim)),
        ];
        let words = |(list, listed): (&'static str, Listed)| {
            list.split_ascii_whitespace()
                .map(move |word| (word, listed))
        };
        lists.into_iter().flat_map(words).collect()
    });
    match ALL.get(word) {
        Some(Listed::As(wording)) => *wording,
        Some(Listed::Language) if matches!(before, "in" | "to" | "into" | "from") => {
            Wording::Verbatim
        }
        Some(Listed::Language) | None => Wording::Free,
    }
}

#[derive(Clone, Copy)]
enum Listed {
    As(Wording),
    /// Behind "to" or "in" it is spoken.
    Language,
}

/// What asks, and the text that it is asked about: what follows the first colon, or the first line.
pub(super) fn split(text: &str) -> (&str, &str) {
    let mut from = 0;
    for _ in 0..MAX_GREETINGS {
        let Some(at) = text[from..].find(is_border).map(|at| from + at) else {
            return (text, "");
        };
        let end = at + text[at..].chars().next().map_or(0, char::len_utf8);
        let is_split = match text[at..end].starts_with('\n') {
            true => true,
            false => text[end..].chars().next().is_none_or(char::is_whitespace),
        };
        let is_said = || end > MAX_GREETING_BYTES || !is_courtesy(&text[..at]);
        if is_split && is_said() {
            return (&text[..at], text[end..].trim());
        }
        from = end;
    }
    (&text[..from], text[from..].trim())
}

fn is_border(c: char) -> bool {
    matches!(c, ':' | '\n')
}

fn is_courtesy(text: &str) -> bool {
    let tokens = tokens(text);
    let mut sentences = tokens.split(|token| token.kind == Kind::Stop);
    sentences.all(|sentence| frame::without_courtesy(sentence).is_empty())
}

/// Colons and lines among greetings, and colons that stand in a word: no more of them are looked at.
const MAX_GREETINGS: usize = 8;
/// Longer greetings are none.
const MAX_GREETING_BYTES: usize = 200;

const VERBATIM: &str = "\
    translate translated translating translation translates say saying spell spelled spelt spelling spells misspelled
    pronounce pronounced pronunciation rewrite rewriting rephrase rephrasing reword correct corrected paraphrase paraphrasing proofread grammar grammatical
    grammatically punctuate punctuation syllable syllables letters vowels consonants rhyme rhymes rhyming plural plurals singular
    tense conjugate conjugation conjugated noun nouns verb verbs adjective adjectives adverb adverbs pronoun pronouns preposition
    sentence sentences phrase phrases word words anagram anagrams palindrome palindromes capitalize capitalise uppercase lowercase
    summarize summarise summarizing classify sentiment tokenize regex regexp encode decode typo typos
    homophone homophones idiom idioms prefix suffix etymology haiku slogan lyrics";

const LITERAL: &str = "\
    mean means meaning meanings define defined definition definitions difference differences differ differs between
    synonym synonyms antonym antonyms abbreviation acronym compare comparison compared vs versus or stand stands
    opposite called same similar";

const LANGUAGES: &str = "\
    english french spanish german italian portuguese japanese chinese mandarin cantonese korean russian arabic hindi urdu bengali
    dutch swedish danish norwegian finnish polish turkish greek hebrew latin czech hungarian romanian ukrainian thai vietnamese
    indonesian malay tamil swahili welsh irish";
