//! Reads a prompt as far as it can be compared: what it asks for, the words that say something, and in which order.
//!
//! Never here: a comparison (`guard`).

pub(super) use crate::cache::guard::frame::Intent;
use crate::cache::guard::frame::{self, Opening};
use crate::cache::guard::scan::{Kind, Token, tokens};
use crate::cache::guard::tables::{self, Small};

/// What kind of thing a word is, as far as one of them can't stand for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Plain,
    Name,
    Number,
    /// What is counted: the word after a number.
    Unit,
    Negation,
    Quote,
    Code,
    /// Who speaks; whoever is spoken to; a third.
    Person,
}

/// One word that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) sort: Sort,
    /// Which part of the prompt it stands in. Parts begin at links, pauses and sentences.
    pub(super) part: usize,
}

/// A prompt, read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) words: Vec<Word>,
    /// The link that each part begins with; empty for a part that begins with none.
    pub(super) links: Vec<&'static str>,
    /// Of each sentence that asks for something.
    pub(super) intents: Vec<Intent>,
    /// Words that say nothing by themselves, as they came.
    pub(super) silent: Vec<String>,
    /// Whether it says whose something is: "France's capital".
    pub(super) has_owner: bool,
    /// Whether its small words are English as far as can be seen.
    pub(super) is_english: bool,
}

impl Reading {
    pub(super) fn of(text: &str) -> Self {
        let tokens = tokens(text);
        let mut reader = Reader {
            reading: Reading::default(),
            ignores_case: is_title_case(&tokens),
            english: 0,
            foreign: 0,
            has_speaker: false,
        };
        for sentence in tokens.split(|token| token.kind == Kind::Stop) {
            reader.sentence(sentence);
        }
        reader.reading.is_english = reader.english > 0 && reader.foreign <= reader.english / 2;
        reader.reading
    }
}

impl Reading {
    /// The link that nothing follows: "what are they for".
    pub(super) fn stranded(&self) -> Option<&'static str> {
        let link = *self.links.last()?;
        let last = self.words.last().map_or(0, |word| word.part);
        let is_empty = self.words.is_empty() || last + 1 < self.links.len();
        (is_empty && !link.is_empty()).then_some(link)
    }
}

/// Whether capitals say nothing: most words have one.
fn is_title_case(tokens: &[Token]) -> bool {
    let words = || {
        tokens
            .iter()
            .filter(|token| matches!(token.kind, Kind::Word { .. }))
    };
    let capitals = words().filter(|token| token.kind == Kind::Word { is_capital: true });
    let (words, capitals) = (words().count(), capitals.count());
    words > 3 && capitals * 4 > words * 3
}

struct Reader {
    reading: Reading,
    ignores_case: bool,
    english: usize,
    foreign: usize,
    /// "I" was the one who asks how, so "you" is somebody else.
    has_speaker: bool,
}

impl Reader {
    fn sentence(&mut self, whole: &[Token]) {
        let tokens = frame::without_courtesy(whole);
        self.english += usize::from(tokens.len() < whole.len());
        if tokens.is_empty() {
            let said = whole.iter().map(|token| token.text.clone());
            return self.reading.silent.extend(said);
        }
        self.begin_part("");
        self.has_speaker = false;
        let front = frame::front(tokens);
        let opening = Opening::of(&tokens[front..]);
        self.english += usize::from(opening.is_english);
        let mut intent = opening.intent;
        for at in 0..front {
            self.token(tokens, at, at == 0, intent);
        }
        let mut at = front + opening.used;
        while at < tokens.len() {
            let found = way(&tokens[at..], intent);
            if found > 0 && matches!(intent, Intent::Open | Intent::What | Intent::HowTo) {
                intent = Intent::HowTo;
                self.english += 1;
                at += found;
                continue;
            }
            if intent == Intent::Open
                && at > front + opening.used
                && is_first_question_word(&tokens[at])
            {
                let (asked, used) = frame::asks(&tokens[at..]);
                intent = asked;
                self.english += 1;
                self.begin_part("");
                at += used;
                continue;
            }
            self.token(tokens, at, at == front, intent);
            at += 1;
        }
        if intent != Intent::Open {
            self.reading.intents.push(intent);
        }
    }

    fn token(&mut self, tokens: &[Token], at: usize, is_first: bool, intent: Intent) {
        let token = &tokens[at];
        self.reading.has_owner |= token.owns;
        match token.kind {
            Kind::Word { is_capital } => {
                let near = Near {
                    before: at.checked_sub(1).map_or("", |before| &tokens[before].text),
                    after: tokens.get(at + 1).map_or("", |after| &after.text),
                    is_name: is_capital && !is_first && !self.ignores_case,
                };
                self.word(&token.text, near, intent);
            }
            Kind::Number => self.push(&token.text, Sort::Number),
            Kind::Code => self.push(&token.text, Sort::Code),
            Kind::Quote => self.push(&token.text, Sort::Quote),
            Kind::Pause => self.begin_part(""),
            Kind::Stop => {}
        }
    }

    fn word(&mut self, word: &str, near: Near<'_>, intent: Intent) {
        if let Some(person) = person(word) {
            self.english += 1;
            return self.person(word, person, near.before, intent);
        }
        if let Some(modal) = telling_modal(word, near, intent) {
            self.english += 1;
            return self.push(modal, Sort::Plain);
        }
        if is_verb_here(word, near, intent) {
            self.english += 1;
            return self.push(word, Sort::Plain);
        }
        if is_empty_here(word, near, intent) {
            self.english += 1;
            return;
        }
        match tables::small(word) {
            Some(Small::Negation) => {
                self.push(if word == "without" { word } else { "not" }, Sort::Negation)
            }
            Some(Small::Number(number)) => self.push(number, Sort::Number),
            Some(Small::Link(link)) => self.begin_part(link),
            Some(Small::Silent) if !(near.is_name && word.len() < 4) => {
                self.reading.silent.push(word.to_owned())
            }
            Some(Small::Silent) | None => {
                self.foreign += usize::from(tables::is_foreign(word) || !word.is_ascii());
                let sort = if near.is_name {
                    Sort::Name
                } else {
                    Sort::Plain
                };
                return self.push(word, sort);
            }
        }
        self.english += 1;
    }

    /// In "how do I", "how can we", "how to reset your password" the speaker is anybody.
    fn person(&mut self, word: &str, person: &'static str, before: &str, intent: Intent) {
        let is_anybody = match intent {
            Intent::HowTo | Intent::Where => matches!(word, "i" | "you" | "we"),
            // "Can I" asks what anybody can; "can you" what those can who are asked.
            Intent::CanIt => matches!(word, "i" | "we"),
            _ => false,
        };
        let is_subject = is_auxiliary(before) || before == "how";
        if is_anybody && is_subject {
            self.has_speaker |= person == "i";
            return;
        }
        // "How do I reset your password" says mine; "where is your office" doesn't.
        let is_speaker = person == "you" && intent == Intent::HowTo && !self.has_speaker;
        self.push(if is_speaker { "i" } else { person }, Sort::Person);
    }

    fn push(&mut self, text: &str, sort: Sort) {
        let is_counted = sort == Sort::Plain
            && self
                .reading
                .words
                .last()
                .is_some_and(|last| last.sort == Sort::Number);
        let sort = if is_counted { Sort::Unit } else { sort };
        let part = self.reading.links.len().saturating_sub(1);
        let text = text.to_owned();
        self.reading.words.push(Word { text, sort, part });
    }

    fn begin_part(&mut self, link: &'static str) {
        self.reading.links.push(link);
    }
}

/// How many tokens say "the best way to", "steps for": what asks how something is done. At the end of a heading
/// ("coffee brewing steps") nothing needs to follow.
fn way(tokens: &[Token], intent: Intent) -> usize {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut at = 0;
    while at < 4 && (tables::is_best(word(at)) || matches!(word(at), "is" | "are")) {
        at += 1;
    }
    if !tables::is_way(word(at)) {
        return 0;
    }
    if matches!(word(at + 1), "to" | "of" | "for" | "in") {
        at + 2
    } else if intent == Intent::Open && tokens.len() == at + 1 {
        at + 1
    } else {
        0
    }
}

/// What stands around a word.
#[derive(Clone, Copy)]
struct Near<'a> {
    before: &'a str,
    after: &'a str,
    is_name: bool,
}

/// A modal that makes another question: what can be done isn't what is done, will be or ought to be. Of "how can I" and
/// "how do I", of "who should I ask" and "who do I ask" it is the same.
fn telling_modal(word: &str, near: Near<'_>, intent: Intent) -> Option<&'static str> {
    let is_speaker = matches!(near.after, "i" | "we" | "you" | "one");
    let asks_way =
        matches!(intent, Intent::HowTo | Intent::Where) || intent == Intent::Who && is_speaker;
    match word {
        "should" | "must" if !asks_way => Some("should"),
        "can" | "could" | "may" | "might" if !asks_way && intent != Intent::CanIt => Some("can"),
        "will" if !asks_way && !matches!(intent, Intent::WillIt | Intent::Why | Intent::Price) => {
            Some("will")
        }
        _ => None,
    }
}

/// Whether a word that helps another verb is the verb itself: "what does it do", "what is it to be one".
fn is_verb_here(word: &str, near: Near<'_>, intent: Intent) -> bool {
    match word {
        "do" | "does" => near.after.is_empty() && intent != Intent::HowTo,
        "be" => near.before == "to" && intent == Intent::What,
        _ => false,
    }
}

/// Whether the word says nothing where it stands, though it would elsewhere.
fn is_empty_here(word: &str, near: Near<'_>, intent: Intent) -> bool {
    match word {
        "cost" | "costs" => intent == Intent::Price,
        "please" | "pls" => matches!(near.before, "i" | "you" | "we"),
        "got" => matches!(near.before, "i" | "you" | "we") && intent != Intent::Open,
        _ => false,
    }
}

fn is_first_question_word(token: &Token) -> bool {
    matches!(token.text.as_str(), "how" | "what" | "why" | "whats")
}

fn is_auxiliary(word: &str) -> bool {
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

fn person(word: &str) -> Option<&'static str> {
    match word {
        "i" | "me" | "my" | "mine" | "we" | "us" | "our" | "ours" => Some("i"),
        "you" | "your" | "yours" => Some("you"),
        "he" | "him" | "his" => Some("he"),
        "she" | "her" | "hers" => Some("she"),
        "they" | "them" | "their" | "theirs" => Some("they"),
        _ => None,
    }
}
