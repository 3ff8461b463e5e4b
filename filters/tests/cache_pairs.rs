//! Holds the guard to pairs that nobody here wrote, and prints how often it is right.
//!
//! The pairs aren't part of this repository: their licences don't allow it. `TOLLGATE_PAIRS` names a folder of `.tsv`
//! files, a line for each pair: 1 (means the same) or 0, one prompt, the other. Without it this test says that it is
//! skipped. The guard was tried on PAWS-QQP (`data/paws_qqp` of uds-lsv/llmft on GitHub) and Quora question pairs
//! (`examples/benchmark/similiar_qqp_full.json.gz` of zilliztech/GPTCache); the pairs whose texts' MD5 begins with a byte
//! of 128 or more were kept apart, and no rule was written after looking at them. `TOLLGATE_VERBOSE` with `false-hits` or a reason's name prints those pairs too.
//!
//! Rows are by lexical similarity (shared words over all words, case ignored): the guard is there for what an embedding
//! holds to be near, and the more words two prompts share, the nearer they are to it.

#![allow(clippy::unwrap_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, reason = "this test reads sample files")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use filters::cache::guard::{Verdict, compare};

const BINS: [f64; 5] = [0.0, 0.3, 0.5, 0.7, 0.85];

#[derive(Default)]
struct Row {
    same: usize,
    different: usize,
    same_passed: usize,
    different_passed: usize,
}

#[test]
fn the_guard_on_public_pairs() {
    let Some(folder) = std::env::var_os("TOLLGATE_PAIRS").map(PathBuf::from) else {
        println!("skipped: TOLLGATE_PAIRS doesn't name a folder of pairs");
        return;
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tsv"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no .tsv in {}", folder.display());
    for file in files {
        report(&file);
    }
}

fn report(file: &Path) {
    let verbose = std::env::var("TOLLGATE_VERBOSE").unwrap_or_default();
    let text = std::fs::read_to_string(file).unwrap();
    let mut rows: [Row; BINS.len()] = Default::default();
    let mut reasons: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [label, a, b] = fields[..] else {
            panic!("{}: not three fields: {line}", file.display());
        };
        let is_same = label == "1";
        let verdict = compare(a, b);
        assert_eq!(verdict, compare(b, a), "depends on the order: {a} | {b}");
        let bin = BINS
            .iter()
            .rposition(|from| similarity(a, b) >= *from)
            .unwrap();
        let row = &mut rows[bin];
        let passed = usize::from(verdict == Verdict::Match);
        if is_same {
            row.same += 1;
            row.same_passed += passed;
        } else {
            row.different += 1;
            row.different_passed += passed;
        }
        if passed == 1 && !is_same && bin > 2 && verbose.contains("false-hits") {
            println!("FALSE HIT {bin} | {a} | {b}");
        }
        if let Verdict::Differs(reason) = verdict {
            let count = reasons.entry(reason.name()).or_default();
            if is_same {
                count.0 += 1;
            } else {
                count.1 += 1;
            }
            if is_same && bin > 2 && verbose.split(',').any(|wanted| wanted == reason.name()) {
                println!("LOST {} {bin} | {a} | {b}", reason.name());
            }
        }
    }
    print_table(file, &rows, &reasons);
}

fn print_table(file: &Path, rows: &[Row], reasons: &BTreeMap<&str, (usize, usize)>) {
    println!("\n{}", file.file_name().unwrap().to_string_lossy());
    println!(
        "| similarity | same | different | same let through | different let through | precision before | precision after |"
    );
    println!("|---|---|---|---|---|---|---|");
    let percent = |part: usize, whole: usize| {
        if whole == 0 {
            "-".to_owned()
        } else {
            format!("{:.1} %", 100.0 * part as f64 / whole as f64)
        }
    };
    for (from, row) in BINS.iter().zip(rows) {
        println!(
            "| {from} | {} | {} | {} ({}) | {} ({}) | {} | {} |",
            row.same,
            row.different,
            row.same_passed,
            percent(row.same_passed, row.same),
            row.different_passed,
            percent(row.different_passed, row.different),
            percent(row.same, row.same + row.different),
            percent(row.same_passed, row.same_passed + row.different_passed),
        );
    }
    println!("stopped, same/different: {reasons:?}");
}

/// Shared words over all words.
fn similarity(a: &str, b: &str) -> f64 {
    let words = |text: &str| -> BTreeSet<String> {
        text.to_lowercase()
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let (a, b) = (words(a), words(b));
    a.intersection(&b).count() as f64 / a.union(&b).count().max(1) as f64
}
