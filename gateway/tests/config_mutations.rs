//! Configurations that somebody's hand slipped in: whatever is changed in a file, it is loaded or its mistakes are told
//! with their places, and nothing panics or takes longer than its length allows.
//!
//! Each file of `conf/` is mutated many times by a printed seed: bytes, lines and values are dropped, doubled, swapped,
//! and replaced by what tends to break readers. `TOLLGATE_MUTATIONS` says how many a file (300 by default).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use gateway::config::secret::Environment;
use gateway::config::{self, Source};

/// Knows every secret, and no file.
struct Anywhere;

impl Environment for Anywhere {
    fn variable(&self, _name: &str) -> Option<String> {
        Some("a-secret-of-the-test".to_owned())
    }

    fn read(&self, _path: &str) -> Result<Vec<u8>, String> {
        Err("no file here".to_owned())
    }

    fn host_name(&self) -> String {
        "host".to_owned()
    }

    fn cores(&self) -> usize {
        2
    }

    fn now(&self) -> u64 {
        1_790_000_000
    }
}

#[test]
fn a_mutated_file_is_loaded_or_its_mistakes_are_told_with_their_places() {
    let count = std::env::var("TOLLGATE_MUTATIONS").map_or(300, |text| text.parse().unwrap());
    let files = files();
    assert!(files.len() > 50, "{}", files.len());
    let (mut loaded, mut refused) = (0, 0);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ text.len() as u64);
        for round in 0..count {
            let mut mutated = text.clone();
            for _ in 0..=dice.below(3) {
                mutated = mutate(&mutated, &mut dice);
            }
            let source = Source {
                name: "mutated.toml".to_owned(),
                text: mutated.clone(),
            };
            let result = std::panic::catch_unwind(|| config::load(&source, &Anywhere));
            let result = result
                .unwrap_or_else(|_| panic!("{} in round {round}:\n{mutated}", file.display()));
            match result {
                Ok(_) => loaded += 1,
                Err(errors) => {
                    refused += 1;
                    for line in errors.to_string().lines() {
                        assert!(line.starts_with("mutated.toml:"), "{line}\n{mutated}");
                        assert!(!line.contains("a-secret-of-the-test"), "{line}");
                    }
                }
            }
        }
    }
    assert!(loaded > 0 && refused > loaded / 100, "{loaded} {refused}");
}

/// Every configuration of the repository, the wrong ones too.
fn files() -> Vec<PathBuf> {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf");
    let folders = [conf.clone(), conf.join("examples"), conf.join("errors")];
    let entries = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|found| found == "toml"))
        .collect();
    files.sort();
    files
}

/// xorshift64*: the same story on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % bound.max(1)
    }
}

fn mutate(text: &str, dice: &mut Dice) -> String {
    const ODD: [&str; 24] = [
        "\"",
        "'''",
        "[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        "\u{0}",
        "\u{feff}",
        "é",
        "-1",
        "1e999",
        "9223372036854775808",
        "nan",
        "true",
        "1979-05-27",
        "\"\"",
        "[]",
        "{}",
        "\"*\"",
        "\"18446744073709551616ms\"",
        "\\u{110000}",
        "a = 1",
    ];
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return ODD[dice.below(ODD.len())].to_owned();
    }
    let (one, other) = (dice.below(lines.len()), dice.below(lines.len()));
    match dice.below(6) {
        0 => {
            lines.remove(one);
        }
        1 => lines.insert(other, lines[one]),
        2 => lines.swap(one, other),
        3 => {
            let line = lines[one];
            let key = line.split('=').next().unwrap_or(line);
            let changed = format!("{key}= {}", ODD[dice.below(ODD.len())]);
            let mut owned: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            owned[one] = changed;
            return owned.join("\n");
        }
        _ => {
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let at = places[dice.below(places.len())];
            let rest = text[at..].chars().next().map_or(0, char::len_utf8);
            let keep = [at, at + rest][dice.below(2)];
            return format!(
                "{}{}{}",
                &text[..at],
                ODD[dice.below(ODD.len())],
                &text[keep..]
            );
        }
    }
    lines.join("\n")
}
