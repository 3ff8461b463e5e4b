//! `make instructions`: how many instructions the hot parts and whole requests take, beside the numbers in the repository.
//!
//! Times tell little on a shared machine; counts by callgrind repeat to a percent or so. Each is the difference of two
//! runs, one with twice the repetitions, so that what happens once costs nothing. The numbers in `instructions.toml` are
//! of the release profile and of one toolchain: whoever changes these on purpose writes new ones with `--update`.

pub(crate) mod hot;

mod callgrind;
mod gateway;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::contestant::Places;
use crate::say;

use callgrind::Profile;

/// What `instructions.toml` holds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// A share: more than this above what is written down fails.
    tolerance: f64,
    /// What they were counted on: libraries choose instructions by it, so on another one they are told and not judged.
    processor: String,
    /// Of one repetition of each.
    instructions: BTreeMap<String, u64>,
}

/// What to do with what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Compare,
    WriteDown,
}

/// Counts everything; false where something takes too many, or isn't known.
pub(crate) async fn count(places: &Places, then: Then) -> Result<bool, Box<dyn Error>> {
    if !callgrind::is_there() {
        return Err("there is no valgrind; on Debian: apt-get install valgrind".into());
    }
    if cfg!(debug_assertions) {
        say("instructions: this is a debug build; its counts can't be compared");
    }
    let file = file();
    let text = fs::read_to_string(&file).unwrap_or_default();
    let known: Known = if text.is_empty() {
        Known {
            tolerance: TOLERANCE,
            ..Known::default()
        }
    } else {
        toml::from_str(&text)?
    };
    say(&format!(
        "{:<42} {:>12} {:>12} {:>8}",
        "instructions", "counted", "known", "change"
    ));
    let mut counted = BTreeMap::new();
    let mut fits = true;
    let mut note = |profile: Profile, count: u64| {
        let known = Change::of(&known, &profile.name, count);
        say(&known.line(&profile.name, count));
        if known.is_too_many() && then == Then::Compare {
            say(&profile.dearest());
        }
        fits &= known.is_well();
        counted.insert(profile.name, count);
    };
    for (profile, count) in hot::count(&places.results)? {
        note(profile, count);
    }
    for request in gateway::REQUESTS {
        let profile = Profile::new(&places.results, request.name);
        let count = gateway::count(places, request, &profile).await?;
        note(profile, count);
    }
    let processor = processor();
    match then {
        Then::Compare if !fits && processor != known.processor => {
            say(&format!(
                "told and not judged: this is {processor:?}, and what is written down was counted on {:?}",
                known.processor
            ));
            return Ok(true);
        }
        Then::Compare if !fits => say(ADVICE),
        Then::Compare => {}
        Then::WriteDown => {
            fs::write(&file, written(known.tolerance, &processor, &counted))?;
            say(&format!("written to {}", file.display()));
        }
    }
    Ok(fits || then == Then::WriteDown)
}

/// A count beside what is known.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    /// Nothing is written down.
    New,
    /// Within the tolerance.
    Same(u64, f64),
    Fewer(u64, f64),
    TooMany(u64, f64),
}

impl Change {
    fn of(known: &Known, name: &str, count: u64) -> Self {
        let Some(before) = known.instructions.get(name).copied() else {
            return Self::New;
        };
        let change = count as f64 / before.max(1) as f64 - 1.0;
        if change > known.tolerance {
            Self::TooMany(before, change)
        } else if change < -known.tolerance {
            Self::Fewer(before, change)
        } else {
            Self::Same(before, change)
        }
    }

    fn line(self, name: &str, count: u64) -> String {
        let (before, change, remark) = match self {
            Self::New => {
                return format!(
                    "{name:<42} {count:>12} {:>12} {:>8}  not written down",
                    "-", "-"
                );
            }
            Self::Same(before, change) => (before, change, ""),
            Self::Fewer(before, change) => (before, change, "  fewer: write it down"),
            Self::TooMany(before, change) => (before, change, "  TOO MANY; where they go now:"),
        };
        format!(
            "{name:<42} {count:>12} {before:>12} {:>+7.1}%{remark}",
            change * 100.0
        )
    }

    fn is_too_many(self) -> bool {
        matches!(self, Self::TooMany(..))
    }

    fn is_well(self) -> bool {
        matches!(self, Self::Same(..) | Self::Fewer(..))
    }
}

/// As the system names it, with the widest vector instructions that libraries look for.
fn processor() -> String {
    let told = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |wanted: &str| {
        let mut fields = told.lines().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(name, _)| name.trim() == wanted);
        found.map_or("", |(_, value)| value.trim())
    };
    let flags = field("flags");
    let has = |flag: &&str| flags.split(' ').any(|known| known == *flag);
    let vectors: Vec<&str> = ["avx2", "avx512f"].into_iter().filter(has).collect();
    format!("{} {}", field("model name"), vectors.join(" "))
}

fn written(tolerance: f64, processor: &str, counted: &BTreeMap<String, u64>) -> String {
    let mut out = HEAD.to_owned();
    // Writing to a String never fails.
    let _ = writeln!(
        out,
        "tolerance = {tolerance}\nprocessor = {processor:?}\n\n[instructions]"
    );
    for (name, count) in counted {
        let _ = writeln!(out, "\"{name}\" = {count}");
    }
    out
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml")
}

/// Two runs of one build lie within a percent for functions, and within two for requests.
const TOLERANCE: f64 = 0.05;
const ADVICE: &str = "More instructions than load-tests/instructions.toml knows: make it cheaper. Where it is worth that, accept the new \
    numbers by `make instructions ACCEPT=1`, and say why in the commit.";
const HEAD: &str = "# Instructions of one repetition, release build, counted by `make instructions`. It fails where one takes more than the\n\
    # tolerance above its number, or isn't here. New numbers: make instructions ACCEPT=1, and the reason in the commit.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_tolerance_above_what_is_known_is_too_many() {
        let known: Known =
            toml::from_str("tolerance = 0.1\nprocessor = \"x\"\n[instructions]\n\"a\" = 1000\n")
                .unwrap();
        let of = |name, count| Change::of(&known, name, count);
        assert!(of("a", 1099).is_well() && !of("a", 1099).is_too_many());
        assert!(of("a", 1101).is_too_many());
        assert!(of("a", 10).is_well());
        assert!(!of("new", 10).is_well() && !of("new", 10).is_too_many());
        assert!(of("a", 1101).line("a", 1101).contains("+10.1%  TOO MANY"));
    }

    #[test]
    fn what_is_written_down_is_what_is_known() {
        let counted = BTreeMap::from([("b, 2 KB".to_owned(), 12)]);
        let known: Known = toml::from_str(&written(0.1, "a \"b\"", &counted)).unwrap();
        assert_eq!((known.tolerance, known.instructions), (0.1, counted));
        assert_eq!(known.processor, "a \"b\"");
    }
}
