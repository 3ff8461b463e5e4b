//! Whether two words are one: forms of it, or synonyms.
//!
//! Endings are cut the careful way. Only a word that had one is compared loosely, so "making" meets "make" and "plan"
//! never meets "plane". Synonyms are listed only where they can stand for each other in any sentence that a caller is
//! likely to write: a group less costs a hit, a wrong one costs a wrong answer.
//!
//! Never here: words in a row (`guard`).

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use crate::cache::guard::tables::pairs;

/// A word, ready to be compared with others.
pub(super) struct Lemma<'a> {
    base: Base<'a>,
    groups: Vec<usize>,
}

impl<'a> Lemma<'a> {
    pub(super) fn of(word: &'a str) -> Self {
        static ALL: LazyLock<Vec<Vec<Base<'static>>>> = LazyLock::new(|| {
            let groups = SYNONYMS.split_whitespace();
            groups
                .map(|group| group.split('/').map(Base::of).collect())
                .collect()
        });
        let base = Base::of(word);
        let is_in = |group: &Vec<Base<'_>>| group.iter().any(|listed| listed.is_same_as(&base));
        let groups = ALL
            .iter()
            .enumerate()
            .filter(|(_, group)| is_in(group))
            .map(|(at, _)| at)
            .collect();
        Self { base, groups }
    }

    /// Whether the two are forms of one word, or synonyms.
    pub(super) fn is_related(&self, other: &Lemma<'_>) -> bool {
        self.base.is_same_as(&other.base)
            || self.groups.iter().any(|group| other.groups.contains(group))
    }
}

/// A word without its ending.
struct Base<'a> {
    stem: &'a str,
    /// What stood after the stem before it was cut, as far as it must be made good: `y` of `ies`.
    tail: &'static str,
    /// An `e` or a doubled consonant may have been lost or gained with the ending.
    is_cut: bool,
}

impl<'a> Base<'a> {
    fn of(word: &'a str) -> Self {
        let whole = |stem| Base {
            stem,
            tail: "",
            is_cut: false,
        };
        static IRREGULARS: LazyLock<HashMap<&str, &str>> =
            LazyLock::new(|| pairs(IRREGULAR).collect());
        static WHOLE: LazyLock<HashSet<&str>> =
            LazyLock::new(|| NO_ENDING.split_whitespace().collect());
        if let Some(base) = IRREGULARS.get(word) {
            return whole(base);
        }
        if word.len() < 4 || WHOLE.contains(word) {
            return whole(word);
        }
        if let Some(stem) = word
            .strip_suffix("ies")
            .or_else(|| word.strip_suffix("ied"))
            .filter(|stem| stem.len() > 1)
        {
            return Base {
                stem,
                tail: "y",
                is_cut: false,
            };
        }
        let cut = |ending| {
            word.strip_suffix(ending)
                .filter(|stem: &&str| stem.len() > 2 && has_vowel(stem))
        };
        if let Some(stem) = cut("ing").or_else(|| cut("ed")) {
            return Base {
                stem,
                tail: "",
                is_cut: true,
            };
        }
        let hisses = |stem: &&str| {
            ["s", "x", "z", "ch", "sh"]
                .iter()
                .any(|end| stem.ends_with(end))
        };
        if let Some(stem) = word.strip_suffix("es").filter(hisses) {
            return Base {
                stem,
                tail: "",
                is_cut: true,
            };
        }
        match word.strip_suffix('s') {
            Some(stem) if !["s", "u", "i"].iter().any(|end| stem.ends_with(end)) => whole(stem),
            Some(_) | None => whole(word),
        }
    }

    fn is_same_as(&self, other: &Base<'_>) -> bool {
        if self.tail != other.tail {
            let (with, without) = if self.tail.is_empty() {
                (other, self)
            } else {
                (self, other)
            };
            return without.stem.strip_suffix('y') == Some(with.stem);
        }
        self.stem == other.stem
            || self.is_cut && self.lost_ending(other)
            || other.is_cut && other.lost_ending(self)
    }

    /// `mak` of `making` beside `make`, `stopp` of `stopped` beside `stop`.
    fn lost_ending(&self, other: &Base<'_>) -> bool {
        other.stem.strip_suffix('e') == Some(self.stem) || undoubled(self.stem) == Some(other.stem)
    }
}

fn undoubled(stem: &str) -> Option<&str> {
    let mut letters = stem.bytes().rev();
    let (last, before) = (letters.next()?, letters.next()?);
    (last == before && last.is_ascii_alphabetic()).then(|| &stem[..stem.len() - 1])
}

fn has_vowel(stem: &str) -> bool {
    stem.contains(['a', 'e', 'i', 'o', 'u', 'y'])
}

/// Words that mean the same wherever they stand. A word may be in several groups.
const SYNONYMS: &str = "\
    make/brew/prepare make/create/build begin/start/commence buy/purchase fix/repair/resolve/solve
    obtain/acquire big/large/huge small/little/tiny quick/fast/rapid/quickly/rapidly improve/enhance
    help/assist delete/remove/erase learn/study movie/film car/automobile picture/photo/image kid/child
    reduce/decrease/lower/lessen increase/raise choose/pick/select important/significant way/method/technique
    happen/occur need/require use/utilize reply/respond/answer good/great easy/simple/easily
    difficult/hard/tough think/believe see/view find/locate change/modify/alter doctor/physician
    lawyer/attorney country/nation mum/mother/mom dad/father maximum/max minimum/min info/information
    app/application tv/television math/maths/mathematics earn/make say/tell vs/versus definition/meaning/mean
    instructions/directions error/errors cook/prepare smart/clever/intelligent jan/january feb/february
    mar/march apr/april jun/june jul/july aug/august sep/sept/september oct/october nov/november dec/december
    km/kilometer/kilometre kg/kilogram cm/centimeter/centimetre color/colour favorite/favourite
    organize/organise center/centre python3/python";

/// Forms that no ending explains.
const IRREGULAR: &str = "\
    made/make bought/buy children/child men/man women/woman feet/foot went/go gone/go ran/run wrote/write
    written/write took/take taken/take gave/give given/give thought/think said/say told/tell built/build
    paid/pay kept/keep chose/choose chosen/choose knew/know known/know began/begin begun/begin spoke/speak
    spoken/speak broke/break broken/break sold/sell sent/send taught/teach won/win ate/eat eaten/eat grew/grow
    grown/grow mice/mouse people/person lives/life used/use";

/// Words whose last letters are no ending.
const NO_ENDING: &str = "\
    news gas lens series species always less means morning evening nothing something everything anything
    wedding hundred sacred string spring united needed speed indeed physics politics economics statistics
    ethics james texas christmas windows during";

#[cfg(test)]
mod tests {
    use super::*;

    fn are_related(a: &str, b: &str) -> bool {
        Lemma::of(a).is_related(&Lemma::of(b))
    }

    #[test]
    fn forms_of_a_word_are_related_and_words_that_only_look_alike_are_not() {
        for (a, b) in [
            ("brew", "brewing"),
            ("brewed", "brewing"),
            ("make", "making"),
            ("makes", "making"),
            ("stop", "stopped"),
            ("study", "studies"),
            ("studied", "studying"),
            ("box", "boxes"),
            ("use", "used"),
            ("child", "children"),
            ("made", "brewing"),
            ("buy", "purchased"),
            ("password", "passwords"),
            ("try", "tries"),
        ] {
            assert!(are_related(a, b) && are_related(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("plan", "plane"),
            ("new", "news"),
            ("car", "care"),
            ("unit", "united"),
            ("str", "string"),
            ("bus", "bu"),
            ("buy", "sell"),
            ("enable", "disable"),
            ("cat", "cats2"),
            ("increase", "decrease"),
            ("glas", "glass"),
        ] {
            assert!(!are_related(a, b) && !are_related(b, a), "{a} {b}");
        }
    }
}
