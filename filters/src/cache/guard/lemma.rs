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
        // By first letter: forms of a word have the same.
        static ALL: LazyLock<HashMap<u8, Vec<(usize, Base<'static>)>>> = LazyLock::new(|| {
            let groups = SYNONYMS.split_whitespace().enumerate();
            let words = groups.flat_map(|(at, group)| group.split('/').map(move |word| (at, word)));
            let mut all: HashMap<u8, Vec<(usize, Base<'static>)>> = HashMap::new();
            for (at, word) in words {
                let base = Base::of(word);
                all.entry(base.first()).or_default().push((at, base));
            }
            all
        });
        let base = Base::of(word);
        let listed = ALL.get(&base.first()).into_iter().flatten();
        let groups = listed
            .filter(|(_, listed)| listed.is_same_as(&base))
            .map(|(at, _)| *at)
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

    fn first(&self) -> u8 {
        self.stem.bytes().next().unwrap_or_default()
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
    get/obtain/receive obtain/acquire big/large/huge small/little/tiny enormous/gigantic/huge improve/enhance
    quick/fast/rapid/quickly/rapidly quickest/fastest easiest/simplest biggest/largest shortest/briefest
    help/assist delete/remove/erase learn/study movie/film car/automobile picture/photo/image/photograph
    kid/child infant/baby reduce/decrease/lower/lessen increase/raise choose/pick/select
    important/significant essential/vital/crucial way/method/technique happen/occur need/require use/utilize
    reply/respond/answer good/great easy/simple/easily difficult/hard/tough think/believe see/view
    find/locate change/modify/alter doctor/physician lawyer/attorney country/nation mum/mother/mom/mommy/mummy
    dad/father/daddy maximum/max minimum/min info/information tv/television/telly math/maths/mathematics
    earn/make say/tell speak/talk vs/versus definition/meaning/mean instructions/directions error/errors
    cook/prepare smart/clever/intelligent construct/build mute/silence finish/complete previous/earlier/prior
    quote/quotation luggage/baggage parcel/package couch/sofa vacation/holiday apartment/flat elevator/lift
    petrol/gasoline autumn/fall rubbish/garbage/trash telephone/phone cellphone/mobile bike/bicycle
    motorbike/motorcycle plane/airplane/aeroplane fridge/refrigerator exam/examination lab/laboratory gym/gymnasium
    ad/advert/advertisement advantage/benefit/pro disadvantage/drawback/downside/con wealthy/rich sick/ill
    employ/hire cheap/inexpensive expensive/costly/pricey strange/weird glad/happy
    scared/afraid/frightened annual/yearly each/every currently/now/presently maybe/perhaps
    often/frequently usually/normally/typically/generally completely/totally/fully/entirely
    properly/correctly immediately/instantly approximately/roughly website/webpage type/kind
    allow/permit let/allow demonstrate/show terminate/end entire/whole quit/stop shut/close
    jan/january feb/february mar/march apr/april jun/june jul/july aug/august sep/sept/september oct/october
    nov/november dec/december tue/tues/tuesday thu/thurs/thursday
    km/kilometer/kilometre kg/kilogram/kilo cm/centimeter/centimetre mm/millimeter/millimetre
    g/gram/gramme ml/milliliter/millilitre l/liter/litre gb/gigabyte mb/megabyte hour/hr minute/min
    %/percent color/colour favorite/favourite organize/organise organization/organisation center/centre
    theater/theatre meter/metre license/licence program/programme gray/grey behavior/behaviour labor/labour
    neighbor/neighbour flavor/flavour honor/honour traveler/traveller jewelry/jewellery aluminum/aluminium
    install/instal enroll/enrol fulfill/fulfil catalog/catalogue dialog/dialogue analyze/analyse
    recognize/recognise customize/customise realize/realise apologize/apologise authorize/authorise
    summarize/summarise minimize/minimise maximize/maximise optimize/optimise prioritize/prioritise
    pajamas/pyjamas plow/plough skeptical/sceptical defense/defence offense/offence mold/mould ok/okay
    python3/python adress/address recieve/receive definately/definitely seperate/separate occured/occurred
    accomodation/accommodation goverment/government begining/beginning beleive/believe calender/calendar
    neccessary/necessary tommorow/tomorrow tomorow/tomorrow";

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
