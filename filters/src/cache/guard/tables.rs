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

/// Whether one more of this link makes another question.
pub(super) fn is_telling(link: &str) -> bool {
    matches!(
        link,
        "before"
            | "after"
            | "from"
            | "over"
            | "under"
            | "above"
            | "below"
            | "beyond"
            | "off"
            | "out"
            | "against"
            | "since"
            | "until"
            | "within"
            | "or"
            | "during"
            | "despite"
            | "because"
            | "although"
            | "though"
    )
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

/// Whether a prompt with the one link and a prompt with the other differ.
pub(super) fn exclude_each_other(a: &str, b: &str) -> bool {
    static ALL: LazyLock<HashSet<(&str, &str)>> = LazyLock::new(|| pairs(OPPOSITES).collect());
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
    a an the is are am be been being do does doing done has have having can could would should will shall may
    might must it its that there here please really very actually just quite exactly also too ever some any
    such one ones s m re ve ll d so else able possible which who whom as hi hello hey thanks thank etc ok okay
    well kindly basically exact let lets";

/// Words that begin a part of a sentence. They bind what follows them.
const LINKS: &str = "\
    of in on at for with to from into by than about between through during before after under over via using
    per against since until within and or but if because when while then toward towards onto out off up down
    above below beyond despite although though whether like vs versus";

/// Words that turn a sentence around.
const NEGATIONS: &str = "\
    not no never none nobody nothing neither nor cannot cant dont doesnt didnt wont isnt arent wasnt werent
    shouldnt couldnt wouldnt hasnt havent hadnt aint nowhere hardly rarely seldom except unless without";

/// Words that exclude each other. Where one prompt has the one and the other has the other, they differ.
const OPPOSITES: &str = "\
    from/to with/without before/after since/until over/under above/below on/off in/out into/from up/down
    for/against and/or if/unless because/despite to/by into/out onto/off in/outside before/during after/during
    to/against with/against by/from";

/// Number words. `one` and `second` are left out: they are more often something else.
const NUMBERS: &str = "\
    zero/0 two/2 three/3 four/4 five/5 six/6 seven/7 eight/8 nine/9 ten/10 eleven/11 twelve/12 thirteen/13
    fourteen/14 fifteen/15 sixteen/16 seventeen/17 eighteen/18 nineteen/19 twenty/20 thirty/30 forty/40
    fifty/50 sixty/60 seventy/70 eighty/80 ninety/90 hundred/hundred thousand/thousand million/million
    billion/billion trillion/trillion first/1 third/3 fourth/4 fifth/5 sixth/6 seventh/7 eighth/8 ninth/9
    tenth/10 twice/2 half/half dozen/12";

/// Words of other languages in Latin letters that English text doesn't have.
const FOREIGN: &str = "\
    der das und nicht ist ein eine kein keine wie mit ohne fur auf ich el los las que del una uno por para como
    cual sin con le les des une est pas avec sans pour dans quel quelle quoi il che di gli non della senza per
    em um uma nao sem com qual het een niet zonder voor van hoe jest nie czy jak och inte hur att ikke hvordan
    yang tidak bagaimana nasil icin degil";
