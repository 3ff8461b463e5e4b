//! Sets the words of two prompts against each other: equal ones first, then forms of one word and synonyms, then slips of
//! the pen.
//!
//! Never here: what it means that a word is left over (`guard`).

use std::collections::HashMap;

use crate::cache::guard::lemma::{Forms, Lemma};
use crate::cache::guard::reading::{Intent, Reading, Sort, Word};
use crate::cache::guard::spelling;
use crate::cache::guard::wording::Wording;

/// Which word of the one stands for which of the other, and what is left over.
pub(super) struct Pairs {
    /// Places in both, by place in the first.
    pub(super) paired: Vec<(usize, usize)>,
    pub(super) left_a: Vec<usize>,
    pub(super) left_b: Vec<usize>,
}

/// With more words left over on a side, forms and synonyms aren't looked for: the texts have too little in common.
const MAX_LEFT: usize = 16;

/// With more words misspelt it isn't looked whether they are. A look counts the tokens of two words.
const MAX_MISSPELT: usize = 3;

impl Pairs {
    pub(super) fn of(of_a: &Reading, of_b: &Reading) -> Self {
        let forms = forms(of_a, of_b);
        let (a, b) = (of_a.words.as_slice(), of_b.words.as_slice());
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, word) in b.iter().enumerate().rev() {
            places.entry(&word.text).or_default().push(at);
        }
        let mut pairs = Pairs {
            paired: Vec::new(),
            left_a: Vec::new(),
            left_b: Vec::new(),
        };
        for (at, word) in a.iter().enumerate() {
            match places.get_mut(word.text.as_str()).and_then(Vec::pop) {
                Some(other) => pairs.paired.push((at, other)),
                None => pairs.left_a.push(at),
            }
        }
        pairs.left_b = places.into_values().flatten().collect();
        pairs.left_b.sort_unstable();
        if pairs.left_a.len().max(pairs.left_b.len()) <= MAX_LEFT {
            pairs.pair_related(a, b, forms);
            if forms.slips {
                pairs.pair_misspelt(a, b);
            }
        }
        pairs.paired.sort_unstable();
        pairs
    }

    fn pair_related(&mut self, a: &[Word], b: &[Word], forms: Forms) {
        let plain = |words: &'_ [Word], left: &[usize]| -> Vec<usize> {
            left.iter()
                .copied()
                .filter(|at| matches!(words[*at].sort, Sort::Plain | Sort::Unit))
                .collect()
        };
        let of_a = plain(a, &self.left_a);
        let mut of_b: Vec<(usize, Lemma<'_>)> = plain(b, &self.left_b)
            .into_iter()
            .map(|at| (at, Lemma::of(&b[at].text)))
            .collect();
        for at in of_a {
            let lemma = Lemma::of(&a[at].text);
            if let Some(found) = of_b
                .iter()
                .position(|(_, other)| lemma.is_related(other, forms))
            {
                let (other, _) = of_b.remove(found);
                self.paired.push((at, other));
                self.left_a.retain(|left| *left != at);
                self.left_b.retain(|left| *left != other);
            }
        }
    }

    /// Each of a few words that are left may stand for another, misspelt.
    fn pair_misspelt(&mut self, a: &[Word], b: &[Word]) {
        if self.left_a.len() != self.left_b.len() || self.left_a.len() > MAX_MISSPELT {
            return;
        }
        let are_one = |(of_a, of_b): (&usize, &usize)| {
            let (of_a, of_b) = (&a[*of_a], &b[*of_b]);
            let are_plain = of_a.sort == Sort::Plain && of_b.sort == Sort::Plain;
            are_plain && spelling::is_slip(&of_a.text, &of_b.text)
        };
        if self.left_a.iter().zip(&self.left_b).all(are_one) {
            let (of_a, of_b) = (self.left_a.drain(..), self.left_b.drain(..));
            self.paired.extend(of_a.zip(of_b));
        }
    }

    pub(super) fn is_reordered(&self) -> bool {
        !self.paired.is_sorted_by_key(|(_, at)| *at)
    }
}

/// What may stand for a word of the one in the other.
fn forms(a: &Reading, b: &Reading) -> Forms {
    let is_free = a.wording.max(b.wording) == Wording::Free;
    let asks_what = |reading: &Reading| {
        let plain = |word: &&Word| word.sort == Sort::Plain;
        reading.intents == [Intent::What] && reading.words.iter().filter(plain).count() < 2
    };
    // "Name a planet" wants one; of which trains it is asked whether they are late matters.
    let is_of_any = |reading: &Reading| {
        !reading.intents.is_empty()
            && reading.intents.iter().all(|intent| match intent {
                Intent::HowTo
                | Intent::HowMuch
                | Intent::Price
                | Intent::What
                | Intent::Why
                | Intent::CanIt => true,
                Intent::Open
                | Intent::HowIs
                | Intent::Who
                | Intent::When
                | Intent::Where
                | Intent::IsIt
                | Intent::ShouldIt
                | Intent::WillIt => false,
            })
    };
    Forms {
        verbs: is_free && a.is_for_anybody && b.is_for_anybody,
        numbers: is_free && is_of_any(a) && is_of_any(b),
        // "What is a flat" may ask for the word.
        synonyms: is_free && !(asks_what(a) && asks_what(b)),
        slips: is_free,
    }
}
