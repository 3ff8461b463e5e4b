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

/// What `instructions.toml` holds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// A share: more than this above what is written down fails.
    tolerance: f64,
    /// Of one repetition of each.
    instructions: BTreeMap<String, u64>,
}

/// What to do with what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Compare,
    WriteDown,
}

/// Counts everything; false where something takes too many.
pub(crate) async fn count(places: &Places, then: Then) -> Result<bool, Box<dyn Error>> {
    if !callgrind::is_there() {
        say("instructions: skipped, there is no valgrind; on Debian: apt-get install valgrind");
        return Ok(true);
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
    let mut counted = BTreeMap::new();
    let mut fits = true;
    say(&format!(
        "{:<42} {:>12} {:>12} {:>8}",
        "instructions", "counted", "known", "change"
    ));
    for (name, count) in hot::count()? {
        fits &= tell(&known, &name, count);
        counted.insert(name, count);
    }
    for request in gateway::REQUESTS {
        let count = gateway::count(places, request).await?;
        fits &= tell(&known, request.name, count);
        counted.insert(request.name.to_owned(), count);
    }
    match then {
        Then::Compare if !fits => say(
            "more instructions than known: make it cheaper, or say why in the commit that writes new numbers down (--update)",
        ),
        Then::Compare => {}
        Then::WriteDown => {
            fs::write(&file, written(known.tolerance, &counted))?;
            say(&format!("written to {}", file.display()));
        }
    }
    Ok(fits || then == Then::WriteDown)
}

fn tell(known: &Known, name: &str, count: u64) -> bool {
    let Some(before) = known.instructions.get(name).copied() else {
        say(&format!("{name:<42} {count:>12} {:>12} {:>8}", "-", "new"));
        return true;
    };
    let change = count as f64 / before.max(1) as f64 - 1.0;
    let fits = change <= known.tolerance;
    let remark = match (fits, change < -known.tolerance) {
        (false, _) => "  too many",
        (true, true) => "  fewer: write it down",
        (true, false) => "",
    };
    say(&format!(
        "{name:<42} {count:>12} {before:>12} {:>+7.1}%{remark}",
        change * 100.0
    ));
    fits
}

fn written(tolerance: f64, counted: &BTreeMap<String, u64>) -> String {
    let mut out = HEAD.to_owned();
    // Writing to a String never fails.
    let _ = writeln!(out, "tolerance = {tolerance}\n\n[instructions]");
    for (name, count) in counted {
        let _ = writeln!(out, "\"{name}\" = {count}");
    }
    out
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml")
}

const TOLERANCE: f64 = 0.1;
const HEAD: &str = "# Instructions of one repetition, release build, counted by `make instructions`. It fails where one takes more than the\n\
    # tolerance above its number. New numbers: bench instructions --update, and the reason in the commit.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_tolerance_above_what_is_known_is_too_many() {
        let known: Known =
            toml::from_str("tolerance = 0.1\n[instructions]\n\"a\" = 1000\n").unwrap();
        assert!(tell(&known, "a", 1099));
        assert!(!tell(&known, "a", 1101));
        assert!(tell(&known, "a", 10));
        assert!(tell(&known, "new", 10));
    }

    #[test]
    fn what_is_written_down_is_what_is_known() {
        let counted = BTreeMap::from([("b, 2 KB".to_owned(), 12)]);
        let known: Known = toml::from_str(&written(0.1, &counted)).unwrap();
        assert_eq!((known.tolerance, known.instructions), (0.1, counted));
    }
}
