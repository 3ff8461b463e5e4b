//! How good the semantic cache is on pairs of questions that somebody else labelled: `scripts/cache-quality` runs it.
//!
//! Reads lines of JSON with `a`, `b`, `category` and `same_answer`; measures each pair with the model in this process, asks
//! the guard, and prints precision and recall by threshold, with the guard and without, as a table. The same as a plot
//! goes to a file.

#![allow(clippy::print_stdout, reason = "it prints its result")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use filters::cache::guard::{Verdict, compare};
use gateway::config::plan::cache::LocalModel;
use gateway::embed::local::Local;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const THRESHOLDS: [f32; 10] = [0.02, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50, 1.00];

/// One pair, measured.
struct Pair {
    category: String,
    same: bool,
    distance: f32,
    passes: bool,
    /// No rule of the guard was written after looking at it.
    held_out: bool,
}

/// What a rule makes of all pairs.
struct Score {
    hits: usize,
    wrong: usize,
    recall: f64,
}

impl Score {
    fn precision(&self) -> Option<f64> {
        (self.hits > 0).then(|| 1.0 - self.wrong as f64 / self.hits as f64)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(pairs), Some(plot)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: cache_quality MODEL-FOLDER PAIRS.jsonl PLOT.svg".into());
    };
    let pairs = measured(&model, &std::fs::read_to_string(pairs)?).await?;
    let rows: Vec<(f32, Score, Score)> = THRESHOLDS
        .iter()
        .map(|threshold| {
            (
                *threshold,
                score(&pairs, *threshold, false),
                score(&pairs, *threshold, true),
            )
        })
        .collect();
    println!(
        "{}\n{}\n{}",
        table(&rows),
        categories(&pairs),
        halves(&pairs)
    );
    std::fs::write(plot, svg(&rows))?;
    Ok(())
}

async fn measured(folder: &str, text: &str) -> Result<Vec<Pair>, Box<dyn Error>> {
    let sha256: [u8; 32] = SHA256
        .as_chunks::<2>()
        .0
        .iter()
        .try_fold(Vec::new(), |mut bytes, two| {
            bytes.push(u8::from_str_radix(
                std::str::from_utf8(two).unwrap_or_default(),
                16,
            )?);
            Ok::<_, std::num::ParseIntError>(bytes)
        })?
        .try_into()
        .map_err(|_| "a digest has 32 bytes")?;
    let model = Local::load(&LocalModel {
        path: folder.into(),
        sha256,
    })?;
    let mut pairs = Vec::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line)?;
        let word = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let (a, b) = (word("a"), word("b"));
        let vectors = (model.embed(&a).await, model.embed(&b).await);
        pairs.push(Pair {
            category: word("category"),
            same: row["same_answer"]
                .as_bool()
                .ok_or("a pair has same_answer")?,
            // What can't be read is never a hit.
            distance: match vectors {
                (Ok(a), Ok(b)) => a.distance(&b),
                _ => 2.0,
            },
            passes: compare(&a, &b) == Verdict::Match,
            held_out: Sha256::digest(word("id"))[0] % 2 == 1,
        });
    }
    Ok(pairs)
}

fn score(pairs: &[Pair], threshold: f32, guarded: bool) -> Score {
    let is_hit = |pair: &&Pair| pair.distance <= threshold && (pair.passes || !guarded);
    let hits = pairs.iter().filter(is_hit).count();
    let wrong = pairs
        .iter()
        .filter(is_hit)
        .filter(|pair| !pair.same)
        .count();
    let same = pairs.iter().filter(|pair| pair.same).count();
    Score {
        hits,
        wrong,
        recall: (hits - wrong) as f64 / same as f64,
    }
}

fn table(rows: &[(f32, Score, Score)]) -> String {
    let mut text = String::from(
        "| threshold | recall | precision | wrong hits | recall, guarded | precision, guarded | wrong hits, guarded |\n|---|---|---|---|---|---|---|\n",
    );
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let cells = |score: &Score| {
        let precision = score.precision().map_or("-".to_owned(), percent);
        format!("{} | {precision} | {}", percent(score.recall), score.wrong)
    };
    for (threshold, plain, guarded) in rows {
        let _ = writeln!(
            text,
            "| {threshold:.2} | {} | {} |",
            cells(plain),
            cells(guarded)
        );
    }
    text
}

fn categories(pairs: &[Pair]) -> String {
    let mut all: BTreeMap<(&str, bool), [usize; 4]> = BTreeMap::new();
    for pair in pairs {
        let counts = all.entry((&pair.category, pair.same)).or_default();
        let is_near = pair.distance <= 0.05;
        counts[0] += 1;
        counts[1] += usize::from(is_near);
        counts[2] += usize::from(is_near && pair.passes);
        counts[3] += usize::from(pair.passes);
    }
    let mut text = String::from(
        "| kind of pair | same answer | pairs | hits at 0.05 | with the guard | let pass by the guard at any distance |\n|---|---|---|---|---|---|\n",
    );
    for ((category, same), [pairs, near, hits, pass]) in all {
        let same = if same { "yes" } else { "no" };
        let name = category.replace('_', " ");
        let _ = writeln!(
            text,
            "| {name} | {same} | {pairs} | {near} | {hits} | {pass} |"
        );
    }
    text
}

/// The guard by itself, on the half of the pairs that it was tried on and on the other.
fn halves(pairs: &[Pair]) -> String {
    let mut text = String::from(
        "| half of the pairs | same answer | let pass | another answer | let pass |\n|---|---|---|---|---|\n",
    );
    for (name, held_out) in [("looked at", false), ("held out", true)] {
        let count = |same: bool, passes: bool| {
            let of = |pair: &&Pair| {
                pair.held_out == held_out && pair.same == same && (pair.passes || !passes)
            };
            pairs.iter().filter(of).count()
        };
        let (same, passed) = (count(true, false), count(true, true));
        let share = passed as f64 / same as f64 * 100.0;
        let (other, wrong) = (count(false, false), count(false, true));
        let _ = writeln!(
            text,
            "| {name} | {same} | {passed} ({share:.1} %) | {other} | {wrong} |"
        );
    }
    text
}

/// Precision (solid) and recall (dashed) by threshold; without the guard in grey.
fn svg(rows: &[(f32, Score, Score)]) -> String {
    let x = |at: usize| 60.0 + at as f64 * 60.0;
    let y = |share: f64| 220.0 - share * 200.0;
    let line = |points: Vec<(usize, f64)>, style: &str| {
        let points = points
            .iter()
            .map(|(at, share)| format!("{:.1},{:.1}", x(*at), y(*share)));
        let points: Vec<String> = points.collect();
        format!(
            "<polyline fill=\"none\" stroke-width=\"2\" {style} points=\"{}\"/>\n",
            points.join(" ")
        )
    };
    let of = |of: fn(&(f32, Score, Score)) -> Option<f64>| {
        let points = rows.iter().map(of).enumerate();
        points
            .filter_map(|(at, share)| Some((at, share?)))
            .collect::<Vec<_>>()
    };
    let mut text = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 300\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"640\" height=\"300\" fill=\"#fff\"/>\n",
    );
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (y, percent) = (y(share), share * 100.0);
        let _ = writeln!(
            text,
            "<path d=\"M60 {y}H600\" stroke=\"#ddd\"/><text x=\"52\" y=\"{}\" text-anchor=\"end\">{percent:.0} %</text>",
            y + 4.0
        );
    }
    for (at, (threshold, _, _)) in rows.iter().enumerate() {
        let _ = writeln!(
            text,
            "<text x=\"{:.0}\" y=\"238\" text-anchor=\"middle\">{threshold:.2}</text>",
            x(at)
        );
    }
    text += &line(of(|(_, plain, _)| plain.precision()), "stroke=\"#999\"");
    text += &line(
        of(|(_, plain, _)| Some(plain.recall)),
        "stroke=\"#999\" stroke-dasharray=\"6 4\"",
    );
    text += &line(of(|(_, _, guarded)| guarded.precision()), "stroke=\"#0a6\"");
    text += &line(
        of(|(_, _, guarded)| Some(guarded.recall)),
        "stroke=\"#0a6\" stroke-dasharray=\"6 4\"",
    );
    text += "<text x=\"330\" y=\"258\" text-anchor=\"middle\">score-threshold (cosine distance)</text>\n<text x=\"60\" y=\"284\" fill=\"#0a6\">with the guard: precision, recall (dashed)</text>\n<text x=\"360\" y=\"284\" fill=\"#777\">without: precision, recall (dashed)</text>\n</svg>\n";
    text
}

const SHA256: &[u8] = b"53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
