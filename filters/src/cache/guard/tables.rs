//! The words that the guard knows, as plain tables. English only: whatever isn't here is a word with a meaning.
//!
//! A word is listed as saying nothing only if its absence never changes what is asked. Links bind what follows them.
//!
//! Never here: a rule (`reading`, `guard`), and which words mean the same (`lemma`).

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// What a small word does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Small {
    Silent,
    Link(&'static str),
    Negation,
    /// It is a number, written in digits.
    Number(&'static str),
}

/// What a word does if it is a small one.
pub(super) fn small(word: &str) -> Option<Small> {
    static ALL: LazyLock<HashMap<&str, Small>> = LazyLock::new(|| {
        let silent = SILENT.split_whitespace().map(|word| (word, Small::Silent));
        let links = LINKS
            .split_whitespace()
            .map(|word| (word, Small::Link(word)));
        let numbers = pairs(NUMBERS).map(|(word, number)| (word, Small::Number(number)));
        let negations = NEGATIONS
            .split_whitespace()
            .map(|word| (word, Small::Negation));
        silent
            .chain(links)
            .chain(numbers)
            .chain(negations)
            .collect()
    });
    ALL.get(word).copied()
}

/// Whether English text doesn't have this word.
pub(super) fn is_foreign(word: &str) -> bool {
    static ALL: LazyLock<HashSet<&str>> = LazyLock::new(|| FOREIGN.split_whitespace().collect());
    ALL.contains(word)
}

/// Whether the word asks to be told, and for nothing more.
pub(super) fn is_frame_verb(word: &str) -> bool {
    matches!(
        word,
        "explain" | "describe" | "tell" | "show" | "teach" | "know"
    )
}

/// Whether the noun asks how something is done.
pub(super) fn is_way(word: &str) -> bool {
    matches!(
        word,
        "way"
            | "ways"
            | "method"
            | "methods"
            | "steps"
            | "step"
            | "guide"
            | "instructions"
            | "procedure"
            | "tutorial"
            | "process"
            | "directions"
    )
}

/// Whether the word before such a noun says nothing more.
pub(super) fn is_best(word: &str) -> bool {
    matches!(
        word,
        "best" | "good" | "right" | "proper" | "correct" | "a" | "the" | "some" | "any"
    )
}

/// Whether the one link can stand for the other.
pub(super) fn are_alike(a: &str, b: &str) -> bool {
    static ALL: LazyLock<HashSet<(&str, &str)>> = LazyLock::new(|| pairs(ALIKE).collect());
    ALL.contains(&(a, b)) || ALL.contains(&(b, a))
}

/// The words of a table that are written as `one/other`.
pub(super) fn pairs(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    table
        .split_whitespace()
        .filter_map(|pair| pair.split_once('/'))
}

/// Words that say nothing by themselves.
const SILENT: &str = "\
    a an the is are am be do does has have can could would should will shall may
    might must it its that there really actually just quite exactly also some any
    such one ones s m ve ll d so able possible which who whom as etc basically exact let lets";

/// Words that begin a part of a sentence. They bind what follows them.
const LINKS: &str = "\
    of in on at for with to from into by than about between through during before after under over via using
    per against since until within and or but if because when while then toward towards onto out off up down
    above below beyond despite although though whether like vs versus near";

/// Words that turn a sentence around.
const NEGATIONS: &str = "\
    not no never none nobody nothing neither nor cannot cant dont doesnt didnt wont isnt arent wasnt werent
    shouldnt couldnt wouldnt hasnt havent hadnt aint nowhere hardly rarely seldom except unless without";

/// Links that can stand for each other. Of all others ("by" and "on", "to" and "about") it isn't known.
const ALIKE: &str = "\
    with/using by/using by/via via/through via/using through/using if/whether if/when in/into on/onto to/toward to/towards
    vs/versus vs/or versus/or vs/and versus/and";

/// Number words. `one` and `second` are left out: they are more often something else.
const NUMBERS: &str = "\
    zero/0 two/2 three/3 four/4 five/5 six/6 seven/7 eight/8 nine/9 ten/10 eleven/11 twelve/12 thirteen/13
    fourteen/14 fifteen/15 sixteen/16 seventeen/17 eighteen/18 nineteen/19 twenty/20 thirty/30 forty/40
    fifty/50 sixty/60 seventy/70 eighty/80 ninety/90 hundred/hundred thousand/thousand million/million
    billion/billion trillion/trillion first/1th third/3th fourth/4th fifth/5th sixth/6th seventh/7th eighth/8th
    ninth/9th tenth/10th half/half dozen/12";

/// Words of other languages in Latin letters that English text doesn't have.
const FOREIGN: &str = "\
    der das und nicht ist ein eine kein keine wie mit ohne fur auf ich el los las que del una uno por para como
    cual sin con le les des une est pas avec sans pour dans quel quelle quoi il che di gli non della senza per
    em um uma nao sem com qual het een niet zonder voor van hoe jest nie czy jak och inte hur att ikke hvordan
    yang tidak bagaimana nasil icin degil";

/// What comes before a question that is asked in passing.
pub(super) const ASKING: &[&str] = &[
    "do you know",
    "do you happen to know",
    "would you know",
    "any idea",
    "any ideas",
    "i was wondering",
    "i am wondering",
    "i wondering",
    "im wondering",
    "just wondering",
    "wondering",
    "i wonder",
    "can i ask",
    "could i ask",
    "may i ask",
    "let me know",
    "please advise",
];

/// They say nothing wherever a sentence begins with them.
pub(super) const HESITATIONS: &[&str] = &[
    "um", "umm", "uh", "uhh", "er", "erm", "hmm", "hm", "please", "pls", "kindly",
];

pub(super) const GREETINGS: &[&str] = &[
    "hi",
    "hiya",
    "hello",
    "hey",
    "good morning",
    "good afternoon",
    "good evening",
    "dear",
    "so",
    "well",
    "ok",
    "okay",
    "alright",
    "anyway",
    "sorry",
    "apologies",
    "excuse me",
    "pardon me",
    "sorry to bother you",
    "sorry to bother",
    "sorry to trouble you",
    "quick one",
    "quick question",
    "just a quick question",
    "just a quick one",
    "a quick question",
    "i have a question",
    "i have a quick question",
    "silly question",
    "stupid question",
    "dumb question",
    "just wondering",
    "just curious",
    "out of curiosity",
    "thanks",
    "thank you",
    "thanks in advance",
    "thank you in advance",
];

pub(super) const THANKS: &[&str] = &[
    "please",
    "pls",
    "thanks",
    "thx",
    "cheers",
    "thank you",
    "thank you very much",
    "thanks a lot",
    "many thanks",
    "thanks in advance",
    "thank you in advance",
];

/// After these, "please" is what is asked about.
pub(super) const SAYING: &[&str] = &[
    "say",
    "saying",
    "spell",
    "write",
    "pronounce",
    "translate",
    "mean",
    "means",
    "word",
    "of",
    "for",
    "to",
    "the",
    "a",
    "with",
    "and",
    "or",
];
