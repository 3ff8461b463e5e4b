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

/// What may stand for a word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forms {
    /// "brewing" for "brew", "brewed" for "brewing".
    pub(super) verbs: bool,
    /// "passwords" for "password".
    pub(super) numbers: bool,
    /// "purchase" for "buy".
    pub(super) synonyms: bool,
    /// A slip of the pen.
    pub(super) slips: bool,
}

/// A word, ready to be compared with others.
pub(super) struct Lemma<'a> {
    base: Base<'a>,
    /// Its group, and what it has beside the word that is listed there.
    groups: Vec<(usize, Ending)>,
}

/// What a word had behind its stem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    None,
    /// Of more than one, or of a third person.
    Number,
    /// Of another time: "brewed".
    Past,
    /// Of a deed: "brewing".
    Deed,
}

impl Ending {
    fn may_meet(self, other: Ending, forms: Forms) -> bool {
        match (self, other) {
            (a, b) if a == b => true,
            (Ending::Past | Ending::Deed, _) | (_, Ending::Past | Ending::Deed) => forms.verbs,
            (Ending::Number | Ending::None, Ending::Number | Ending::None) => {
                forms.numbers || forms.verbs
            }
        }
    }
}

impl<'a> Lemma<'a> {
    pub(super) fn of(word: &'a str) -> Self {
        // By first letter: forms of a word have the same.
        type Listed = (usize, &'static str, Base<'static>);
        static ALL: LazyLock<HashMap<u8, Vec<Listed>>> = LazyLock::new(|| {
            let groups = SYNONYMS.split_whitespace().enumerate();
            let words = groups.flat_map(|(at, group)| group.split('/').map(move |word| (at, word)));
            let mut all: HashMap<u8, Vec<Listed>> = HashMap::new();
            for (at, word) in words {
                let base = Base::of(word);
                all.entry(base.first()).or_default().push((at, word, base));
            }
            all
        });
        let base = Base::of(word);
        let listed = ALL.get(&base.first()).into_iter().flatten();
        let groups = listed
            .filter(|(_, _, listed)| listed.is_same_as(&base))
            .map(|(at, listed, _)| match *listed == word {
                true => (*at, Ending::None),
                false => (*at, base.ending),
            })
            .collect();
        Self { base, groups }
    }

    /// Whether the two are forms of one word, or synonyms.
    pub(super) fn is_related(&self, other: &Lemma<'_>, forms: Forms) -> bool {
        let are_one = |(group, ending): &(usize, Ending)| {
            let mut others = other.groups.iter();
            others.any(|(of, with)| of == group && ending.may_meet(*with, forms))
        };
        self.base.is_same_as(&other.base) && self.base.ending.may_meet(other.base.ending, forms)
            || forms.synonyms && self.groups.iter().any(are_one)
    }
}

/// A word without its ending.
struct Base<'a> {
    stem: &'a str,
    /// What stood after the stem before it was cut, as far as it must be made good: `y` of `ies`.
    tail: &'static str,
    /// An `e` or a doubled consonant may have been lost or gained with the ending.
    is_cut: bool,
    ending: Ending,
}

impl<'a> Base<'a> {
    fn of(word: &'a str) -> Self {
        let ended = |stem, ending| Base {
            stem,
            tail: "",
            is_cut: false,
            ending,
        };
        let whole = |stem| ended(stem, Ending::None);
        static IRREGULARS: LazyLock<HashMap<&str, &str>> =
            LazyLock::new(|| pairs(IRREGULAR).collect());
        static PLURALS: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| pairs(PLURAL).collect());
        static WHOLE: LazyLock<HashSet<&str>> =
            LazyLock::new(|| NO_ENDING.split_whitespace().collect());
        if let Some(base) = IRREGULARS.get(word) {
            return ended(base, Ending::Past);
        }
        if let Some(base) = PLURALS.get(word) {
            return ended(base, Ending::Number);
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
                ending: match word.ends_with('d') {
                    true => Ending::Past,
                    false => Ending::Number,
                },
            };
        }
        let cut = |ending| {
            word.strip_suffix(ending)
                .filter(|stem: &&str| stem.len() > 2 && has_vowel(stem))
        };
        let deed = cut("ing").map(|stem| (stem, Ending::Deed));
        if let Some((stem, ending)) = deed.or_else(|| Some((cut("ed")?, Ending::Past))) {
            return Base {
                stem,
                tail: "",
                is_cut: true,
                ending,
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
                ending: Ending::Number,
            };
        }
        match word.strip_suffix('s') {
            Some(stem) if !["s", "u", "i"].iter().any(|end| stem.ends_with(end)) => {
                ended(stem, Ending::Number)
            }
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
    make/brew begin/start/commence buy/purchase fix/repair resolve/solve get/obtain obtain/acquire big/large
    enormous/gigantic/huge improve/enhance quick/fast/rapid/quickly/rapidly quickest/fastest easiest/simplest
    biggest/largest shortest/briefest help/assist delete/erase movie/film car/automobile photo/photograph kid/child
    infant/baby reduce/decrease/lower/lessen choose/select vital/crucial way/method happen/occur need/require
    use/utilize reply/respond easy/simple/easily difficult/tough see/view find/locate modify/alter doctor/physician
    lawyer/attorney country/nation mum/mother/mom/mommy/mummy dad/father/daddy maximum/max minimum/min
    info/information tv/television/telly math/maths/mathematics earn/make speak/talk vs/versus definition/meaning
    instructions/directions smart/clever/intelligent construct/build mute/silence finish/complete previous/prior
    quote/quotation luggage/baggage parcel/package couch/sofa apartment/flat petrol/gasoline rubbish/garbage/trash
    telephone/phone bike/bicycle motorbike/motorcycle plane/airplane/aeroplane fridge/refrigerator exam/examination
    lab/laboratory gym/gymnasium ad/advert/advertisement advantage/benefit disadvantage/drawback/downside wealthy/rich
    sick/ill employ/hire cheap/inexpensive expensive/costly/pricey strange/weird glad/happy scared/afraid/frightened
    annual/yearly each/every currently/now/presently maybe/perhaps often/frequently usually/normally/typically/generally
    completely/totally/fully/entirely properly/correctly immediately/instantly approximately/roughly website/webpage
    type/kind allow/permit demonstrate/show entire/whole quit/stop wait/waiting
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
    adress/address recieve/receive definately/definitely seperate/separate occured/occurred
    accomodation/accommodation goverment/government begining/beginning beleive/believe calender/calendar
    neccessary/necessary tommorow/tomorrow tomorow/tomorrow";

/// Forms that no ending explains.
const IRREGULAR: &str = "\
    made/make bought/buy went/go gone/go ran/run wrote/write
    written/write took/take taken/take gave/give given/give thought/think said/say told/tell built/build
    paid/pay kept/keep chose/choose chosen/choose knew/know known/know began/begin begun/begin spoke/speak
    spoken/speak broke/break broken/break sold/sell sent/send taught/teach won/win ate/eat eaten/eat grew/grow
    grown/grow";

/// More than one that no ending explains.
const PLURAL: &str = "children/child men/man women/woman feet/foot mice/mouse";

/// Words whose last letters are no ending.
const NO_ENDING: &str = "\
    news gas lens series species always less means morning evening nothing something everything anything
    wedding hundred sacred string spring united needed speed indeed physics politics economics statistics
    ethics james texas christmas windows during used uses glasses goods customs arms rights works odds ends spirits forces looks
    times contents manners brains savings earnings belongings funds terms damages securities quarters letters papers lives
    advertising marketing";

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Forms = Forms {
        verbs: true,
        numbers: true,
        synonyms: true,
        slips: true,
    };

    fn are_related(a: &str, b: &str) -> bool {
        Lemma::of(a).is_related(&Lemma::of(b), ALL)
    }

    #[test]
    fn only_forms_that_are_asked_for_are_related() {
        let number = Forms {
            verbs: false,
            synonyms: false,
            ..ALL
        };
        let related = |a: &str, b: &str, forms| Lemma::of(a).is_related(&Lemma::of(b), forms);
        assert!(related("password", "passwords", number));
        for (a, b) in [
            ("rule", "ruled"),
            ("write", "wrote"),
            ("brew", "brewing"),
            ("buy", "purchase"),
        ] {
            assert!(!related(a, b, number), "{a} {b}");
        }
        let none = Forms {
            numbers: false,
            ..number
        };
        assert!(!related("planet", "planets", none));
        assert!(!related("child", "children", none));
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
