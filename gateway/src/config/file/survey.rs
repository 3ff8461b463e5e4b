//! What a file may hold, learnt by running the reader over tables that hold nothing.
//!
//! Each key that the reader asks for is noted, with the kinds of value that it would take and their ranges.
//! So the list of keys and the JSON Schema come from the code that reads files, and can't differ from it. What
//! the reader decides later (names that must exist, expressions, URLs) isn't known here.

use std::collections::BTreeMap;

/// A kind of value that a key takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Text with at least one character.
    Text,
    /// Text, maybe empty.
    TextOrEmpty,
    /// `true` or `false`.
    Flag,
    /// A whole number, both ends included.
    Integer(u64, u64),
    /// A number, both ends included.
    Number(f64, f64),
    /// A number and a unit of time.
    Duration,
    /// A number and a unit of bytes.
    Size,
    /// One of these words.
    Choice(Vec<String>),
    /// A table whose keys are known.
    Table,
    /// A table whose keys are names that the user chose.
    Named,
    /// An array.
    Array,
    /// Pairs of status codes.
    StatusCodeRanges,
}

/// All that was met at one path.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Met {
    /// Whether it is a key that a table asked for.
    pub is_key: bool,
    /// Whether a table without it is wrong.
    pub is_required: bool,
    /// The kinds of value, each once.
    pub shapes: Vec<Shape>,
}

/// Everything that was met, by path: `pools.NAME.members[].backend`.
#[derive(Debug, Default)]
pub struct Survey {
    met: BTreeMap<String, Met>,
}

impl Survey {
    /// A table asked for a key.
    pub fn key(&mut self, path: &str) {
        self.at(path).is_key = true;
    }

    /// It has to be there.
    pub fn required(&mut self, path: &str) {
        self.at(path).is_required = true;
    }

    /// It would be read as this.
    pub fn shape(&mut self, path: &str, shape: Shape) {
        let met = self.at(path);
        if !met.shapes.contains(&shape) {
            met.shapes.push(shape);
        }
    }

    /// The keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        let keys = self.met.iter().filter(|(_, met)| met.is_key);
        keys.map(|(path, _)| path.clone()).collect()
    }

    /// Everything.
    pub fn into_met(self) -> BTreeMap<String, Met> {
        self.met
    }

    fn at(&mut self, path: &str) -> &mut Met {
        self.met.entry(path.to_owned()).or_default()
    }
}
