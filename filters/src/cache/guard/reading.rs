//! Reads a prompt as far as it can be compared: what it asks for, the words that say something, and in which order.
//!
//! Never here: a comparison (`guard`).

pub(super) use crate::cache::guard::frame::Intent;
use crate::cache::guard::frame::{self, Opening};
use crate::cache::guard::place::{
    Near, is_auxiliary, is_empty_here, is_first_question_word, is_verb_here, person, telling_here,
    telling_modal,
};
use crate::cache::guard::scan::{Kind, Token, tokens};
use crate::cache::guard::tables::{self, Small};
use crate::cache::guard::wording::{self, Wording};

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
    /// Written without a capital.
    pub(super) is_lower: bool,
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
    /// Whether it only asks how something is done by anybody, or for its price: then "brew", "brewing" and "is brewed" are one.
    pub(super) is_for_anybody: bool,
    /// Whether it has a capital anywhere.
    pub(super) has_capitals: bool,
    /// How often it says "the".
    pub(super) definite: usize,
    /// How often "a".
    pub(super) indefinite: usize,
    /// How far its words are themselves what is asked about.
    pub(super) wording: Wording,
    /// Every word and mark but greetings and thanks.
    pub(super) said: Vec<Token>,
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
            told: 0,
            has_speaker: false,
            seen: Seen::default(),
        };
        let is_capital = |token: &Token| token.kind == Kind::Word { is_capital: true };
        reader.reading.has_capitals = tokens.iter().any(is_capital);
        reader.reading.wording = wording::of(&tokens);
        reader.reading.is_for_anybody = true;
        for sentence in tokens.split_inclusive(|token| token.kind == Kind::Stop) {
            let (sentence, stop) = match sentence.split_last() {
                Some((last, before)) if last.kind == Kind::Stop => (before, Some(last)),
                Some(_) | None => (sentence, None),
            };
            reader.sentence(sentence);
            reader.reading.said.extend(stop.cloned());
        }
        if reader.told > 1 {
            // "Improve this. I has a dog.": the one may be about the other.
            reader.reading.wording = Wording::Verbatim;
        }
        reader.reading.is_for_anybody &= !reader.reading.intents.is_empty();
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
    /// Sentences that ask nothing.
    told: usize,
    /// "I" was the one who asks how, so "you" is somebody else.
    has_speaker: bool,
    seen: Seen,
}

/// Of one sentence.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Anybody does it: "how do I", "how to", "steps for".
    anybody: bool,
    /// A form of "be".
    be: bool,
    /// A form of "do".
    does: bool,
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
        self.reading.said.extend_from_slice(tokens);
        self.has_speaker = false;
        self.seen = Seen::default();
        let front = frame::front(tokens);
        let opening = Opening::of(&tokens[front..]);
        self.english += usize::from(opening.is_english);
        let mut intent = opening.intent;
        let last_used = (front + opening.used).checked_sub(1);
        let last_used = last_used.map_or("", |at| tokens[at].text.as_str());
        self.seen.anybody = opening.used > 1 && matches!(last_used, "to" | "about" | "of");
        for at in 0..front {
            self.token(tokens, at, at == 0, intent);
        }
        let mut at = front + opening.used;
        while at < tokens.len() {
            let found = way(&tokens[at..], intent);
            if found > 0 && matches!(intent, Intent::Open | Intent::What | Intent::HowTo) {
                intent = Intent::HowTo;
                self.english += 1;
                self.seen.anybody = true;
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
        if intent == Intent::Open {
            self.told += 1;
        } else {
            self.reading.intents.push(intent);
            self.reading.is_for_anybody &= self.is_for_anybody(intent);
        }
    }

    /// "How do I brew it", "how to brew it", "how is it brewed"; not "how do whales hunt", nor "how can I be heard".
    fn is_for_anybody(&self, intent: Intent) -> bool {
        let Seen { anybody, be, does } = self.seen;
        match intent {
            Intent::Price => true,
            Intent::HowTo => anybody || be && !does,
            Intent::Open
            | Intent::HowIs
            | Intent::HowMuch
            | Intent::What
            | Intent::Why
            | Intent::Who
            | Intent::When
            | Intent::Where
            | Intent::IsIt
            | Intent::CanIt
            | Intent::ShouldIt
            | Intent::WillIt => false,
        }
    }

    fn token(&mut self, tokens: &[Token], at: usize, is_first: bool, intent: Intent) {
        let token = &tokens[at];
        self.reading.has_owner |= token.owns;
        match token.kind {
            Kind::Word { is_capital } => {
                let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
                let near = Near {
                    before: at.checked_sub(1).map_or("", word),
                    after: word(at + 1),
                    beyond: word(at + 2),
                    is_name: is_capital && !is_first && !self.ignores_case,
                };
                self.note(&token.text);
                let from = self.reading.words.len();
                self.word(&token.text, near, intent);
                for word in self.reading.words.iter_mut().skip(from) {
                    word.is_lower = !is_capital;
                }
            }
            Kind::Number => self.push(&token.text, Sort::Number),
            Kind::Code => self.push(&token.text, Sort::Code),
            Kind::Quote => self.push(&token.text, Sort::Quote),
            Kind::Pause => self.begin_part(""),
            Kind::Stop => {}
        }
    }

    fn note(&mut self, word: &str) {
        self.reading.definite += usize::from(word == "the");
        self.reading.indefinite += usize::from(matches!(word, "a" | "an"));
        self.seen.be |= matches!(word, "is" | "are" | "be");
        self.seen.does |= matches!(word, "do" | "does" | "can" | "could" | "should" | "would");
    }

    fn word(&mut self, word: &str, near: Near<'_>, intent: Intent) {
        if let Some(plain) = telling_here(word, near, intent) {
            self.english += 1;
            return self.push(plain, Sort::Plain);
        }
        if word.ends_with("ing")
            && matches!(near.before, "a" | "an")
            && tables::small(word).is_none()
        {
            // "A building" is no deed.
            return self.push(&format!("a {word}"), Sort::Plain);
        }
        if let Some(person) = person(word) {
            self.english += 1;
            return self.person(word, person, near, intent);
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
    fn person(&mut self, word: &str, person: &'static str, near: Near<'_>, intent: Intent) {
        let is_anybody = match intent {
            // "How do you feel" asks somebody.
            Intent::HowTo | Intent::Where => matches!(word, "i" | "we"),
            // "Can I" asks what anybody can; "can you" what those can who are asked.
            Intent::CanIt => matches!(word, "i" | "we"),
            _ => false,
        };
        let is_subject = is_auxiliary(near.before) || near.before == "how";
        if is_anybody && is_subject {
            self.has_speaker |= person == "i";
            self.seen.anybody |= !matches!(near.after, "be" | "get" | "become" | "feel");
            return;
        }
        if is_subject && word == "you" {
            return self.push("you", Sort::Person);
        }
        // "How do I reset your password" says mine; "where is your office" doesn't.
        let is_speaker =
            matches!(word, "your" | "yours") && intent == Intent::HowTo && !self.has_speaker;
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
        self.reading.words.push(Word {
            text,
            sort,
            part,
            is_lower: true,
        });
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
