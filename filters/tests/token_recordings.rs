//! Holds the token counts to the outside: to OpenAI's own counts, and to usages that providers reported.
//!
//! The recordings aren't part of this repository. `TOLLGATE_RECORDINGS` names the folder that holds
//! `token_oracle.jsonl` and `usage_pairs.jsonl`; without it these tests say that they are skipped.
//! `TOLLGATE_VERBOSE=tools` also prints each request with tools whose estimate is off, and so for each kind.

#![allow(clippy::unwrap_used, clippy::print_stdout)]
#![allow(
    clippy::disallowed_methods,
    reason = "these tests read sample files and show how long counting took"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use filters::route::Shape;
use filters::tokens::{Encoding, completion, most, prompt, prompt_with};
use serde::Deserialize;
use serde_json::value::RawValue;

#[path = "tokens/seen.rs"]
mod seen;

use seen::Seen;

fn recordings(file: &str) -> Option<String> {
    let Some(folder) = std::env::var_os("TOLLGATE_RECORDINGS") else {
        println!("skipped: TOLLGATE_RECORDINGS doesn't name the folder of {file}");
        return None;
    };
    let path = PathBuf::from(folder).join(file);
    Some(
        std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display())),
    )
}

// ---- OpenAI's own counts

#[derive(Deserialize)]
struct OracleRow {
    encoding: String,
    mode: String,
    text: String,
    count: u64,
}

/// Tokens that the provider reads from marks of its own. In a caller's text we count them as text.
const SPECIAL: &[&str] = &[
    "<|endoftext|>",
    "<|endofprompt|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|startoftext|>",
    "<|return|>",
    "<|constrain|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|call|>",
    "<|reserved_200013|>",
];

fn of_this_encoding(mark: &str, encoding: &str) -> bool {
    match mark {
        "<|endoftext|>" | "<|endofprompt|>" => true,
        "<|fim_prefix|>" | "<|fim_middle|>" | "<|fim_suffix|>" => encoding == "cl100k_base",
        _ => encoding == "o200k_harmony",
    }
}

/// Counts `text` with each mark as one token: between the marks everything is ordinary.
fn with_marks(encoding: Encoding, name: &str, text: &str) -> u64 {
    let first = SPECIAL
        .iter()
        .filter(|mark| of_this_encoding(mark, name))
        .filter_map(|mark| Some((text.find(mark)?, *mark)))
        .min();
    match first {
        None => encoding.count(text),
        Some((at, mark)) => {
            encoding.count(&text[..at]) + 1 + with_marks(encoding, name, &text[at + mark.len()..])
        }
    }
}

#[test]
fn every_row_of_the_oracle_is_equal() {
    let Some(rows) = recordings("token_oracle.jsonl") else {
        return;
    };
    let mut wrong = Vec::new();
    let mut total = 0;
    for line in rows.lines() {
        let row: OracleRow = serde_json::from_str(line).unwrap();
        let encoding = match row.encoding.as_str() {
            "o200k_base" | "o200k_harmony" => Encoding::O200k,
            "cl100k_base" => Encoding::Cl100k,
            other => panic!("unknown encoding {other}"),
        };
        let counted = match row.mode.as_str() {
            "ordinary" => encoding.count(&row.text),
            _ => with_marks(encoding, &row.encoding, &row.text),
        };
        total += 1;
        if counted != row.count {
            wrong.push(format!(
                "{} {}: {counted}, not {}: {:?}",
                row.encoding, row.mode, row.count, row.text
            ));
        }
    }
    println!("oracle: {} of {total} rows equal", total - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(total > 1000);
}

#[test]
fn every_row_of_the_oracle_is_equal_when_seen_before() {
    let Some(rows) = recordings("token_oracle.jsonl") else {
        return;
    };
    let memo = Seen::default();
    let mut total = 0;
    for line in rows.lines() {
        let row: OracleRow = serde_json::from_str(line).unwrap();
        let model = match (row.encoding.as_str(), row.mode.as_str()) {
            ("o200k_base" | "o200k_harmony", "ordinary") => "gpt-4o",
            ("cl100k_base", "ordinary") => "text-embedding-3-small",
            _ => continue,
        };
        let body = serde_json::json!({ "input": row.text }).to_string();
        for _ in 0..2 {
            let estimate = prompt_with(&memo, model, Shape::Embeddings, body.as_bytes()).unwrap();
            assert_eq!(
                estimate.tokens, row.count,
                "{}: {:?}",
                row.encoding, row.text
            );
        }
        total += 1;
    }
    println!(
        "{total} rows, {} of their texts were worth remembering",
        memo.len()
    );
    assert!(total > 900 && memo.len() > 100);
}

// ---- reported usages

#[derive(Deserialize)]
struct UsageRow<'a> {
    id: String,
    api: String,
    model: Option<String>,
    response_model: Option<String>,
    family: String,
    features: Vec<String>,
    image_dims: Option<Vec<ImageSize>>,
    #[serde(borrow)]
    request: &'a RawValue,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    output: Option<serde_json::Value>,
    usage: Option<serde_json::Value>,
    est_prompt_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct ImageSize {
    w: Option<u32>,
    h: Option<u32>,
}

impl UsageRow<'_> {
    fn has(&self, features: &[&str]) -> bool {
        self.features
            .iter()
            .any(|feature| features.contains(&feature.as_str()))
    }

    fn kind(&self) -> String {
        if matches!(self.shape(), Shape::Completions) {
            return "prompt".to_owned();
        }
        let hidden = ["builtin-tools", "prev_id", "conversation", "prompt"];
        let model = self.model();
        if self.has(&hidden) || model.contains("search") {
            return "hidden text".to_owned();
        }
        for media in ["file", "audio"] {
            if self.has(&[media]) {
                return media.to_owned();
            }
        }
        if let Some(images) = &self.image_dims {
            let known = images.iter().all(|image| image.w.is_some());
            return if known { "images" } else { "images by link" }.to_owned();
        }
        let parts = [
            ("tools", self.has(&["tools", "functions"])),
            ("calls", self.has(&["tool_calls", "function_call"])),
            ("schema", self.has(&["rf:json_schema"])),
        ];
        let parts: Vec<&str> = parts
            .into_iter()
            .filter(|(_, is)| *is)
            .map(|(part, _)| part)
            .collect();
        if parts.is_empty() {
            "text".to_owned()
        } else {
            parts.join("+")
        }
    }

    fn model(&self) -> &str {
        let model = self.response_model.as_deref().or(self.model.as_deref());
        model.unwrap_or_default()
    }

    fn shape(&self) -> Shape {
        match self.api.as_str() {
            "chat.completions" => Shape::Chat,
            "completions" => Shape::Completions,
            "embeddings" => Shape::Embeddings,
            "responses" => Shape::Responses,
            other => panic!("unknown API {other}"),
        }
    }

    /// The request, with the head of an image of the recorded size where the recording left images out.
    fn body(&self) -> String {
        let mut body = String::new();
        let mut rest = self.request.get();
        let mut images = self
            .image_dims
            .iter()
            .flatten()
            .filter_map(|image| Some((image.w?, image.h?)));
        while let Some(at) = rest.find(";base64,<elided") {
            let end = at + rest[at..].find('>').unwrap() + 1;
            body.push_str(&rest[..at]);
            body.push_str(";base64,");
            if rest[..at]
                .rsplit('"')
                .next()
                .unwrap()
                .starts_with("data:image")
            {
                body.push_str(&images.next().map_or(String::new(), png_head));
            }
            rest = &rest[end..];
        }
        body + rest
    }
}

fn png_head((width, height): (u32, u32)) -> String {
    use base64::Engine;
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    file.extend(width.to_be_bytes());
    file.extend(height.to_be_bytes());
    base64::engine::general_purpose::STANDARD.encode(file)
}

/// How far a row of estimates is from what was billed.
#[derive(Default)]
struct Errors(Vec<(i64, u64)>);

impl Errors {
    fn add(&mut self, estimate: u64, truth: u64) {
        self.0.push((estimate as i64 - truth as i64, truth));
    }

    fn share(&self, percent: u64) -> f64 {
        let within = self
            .0
            .iter()
            .filter(|(error, truth)| error.unsigned_abs() * 100 <= truth * percent);
        100.0 * within.count() as f64 / self.0.len() as f64
    }

    fn worst(&self) -> i64 {
        self.0
            .iter()
            .map(|(error, _)| *error)
            .max_by_key(|error| error.abs())
            .unwrap_or_default()
    }

    fn line(&self) -> String {
        if self.0.is_empty() {
            return format!("{:>3}      –      –      –      –", 0);
        }
        let [exact, two, five] = [0, 2, 5].map(|percent| self.share(percent));
        format!(
            "{:>3} {exact:>6.1} {two:>6.1} {five:>6.1} {:>6}",
            self.0.len(),
            self.worst()
        )
    }
}

#[derive(Default)]
struct Row {
    /// Where the reference estimator gave a figure: ours, then its.
    ours: Errors,
    reference: Errors,
    /// Ours where it gave none.
    others: Errors,
}

type Table = BTreeMap<(String, String, String), Row>;

/// The table of `docs/counting-tokens.md`: a row for what a request has that is hardest to count.
fn print_by_kind(table: &Table) {
    let mut kinds: BTreeMap<(&str, &str), Errors> = BTreeMap::new();
    for ((api, _, kind), row) in table {
        let hardest = [
            "hidden text",
            "file",
            "audio",
            "images by link",
            "images",
            "schema",
            "calls",
            "tools",
        ]
        .into_iter()
        .find(|part| kind.contains(part))
        .unwrap_or("text");
        let errors = kinds.entry((api, hardest)).or_default();
        errors.0.extend(row.ours.0.iter().chain(&row.others.0));
    }
    println!("{:<40}  n  exact   <=2%   <=5%  worst", "");
    for ((api, kind), errors) in kinds {
        println!("{:<36} {}", format!("{api} {kind}"), errors.line());
    }
}

#[test]
fn prompts_are_estimated_at_least_as_well_as_by_the_reference() {
    let Some(rows) = recordings("usage_pairs.jsonl") else {
        return;
    };
    let verbose = std::env::var("TOLLGATE_VERBOSE").unwrap_or_default();
    println!();
    let mut table = Table::new();
    for line in rows.lines() {
        let row: UsageRow = serde_json::from_str(line).unwrap();
        let Some(truth) = row.prompt_tokens.filter(|tokens| *tokens > 0) else {
            continue;
        };
        let estimate = prompt(row.model(), row.shape(), row.body().as_bytes())
            .unwrap_or_else(|| panic!("{}", row.id));
        let kind = row.kind();
        if !verbose.is_empty() && kind == verbose && estimate.tokens != truth {
            println!(
                "{} {} {} {truth} {} {:?}",
                row.id,
                row.api,
                row.model(),
                estimate.tokens as i64 - truth as i64,
                row.est_prompt_tokens.map(|e| e as i64 - truth as i64)
            );
        }
        let cell = table
            .entry((row.api.clone(), row.family.clone(), kind))
            .or_default();
        match row.est_prompt_tokens {
            Some(reference) => {
                cell.ours.add(estimate.tokens, truth);
                cell.reference.add(reference, truth);
            }
            None => cell.others.add(estimate.tokens, truth),
        }
    }
    println!(
        "{:<48}  n  exact   <=2%   <=5%  worst | the reference's  | n, where it has no figure",
        ""
    );
    for ((api, family, kind), row) in &table {
        let name = format!("{api} {family} {kind}");
        println!(
            "{name:<44} {} | {} | {}",
            row.ours.line(),
            &row.reference.line()[4..],
            row.others.line()
        );
    }
    print_by_kind(&table);
    for (name, row) in table.iter().filter(|(_, row)| !row.ours.0.is_empty()) {
        for percent in [0, 2, 5] {
            let (ours, reference) = (row.ours.share(percent), row.reference.share(percent));
            assert!(
                ours >= reference,
                "{name:?} within {percent} %: {ours}, not {reference}"
            );
        }
    }
    let text = &table[&(
        "chat.completions".to_owned(),
        "o".to_owned(),
        "text".to_owned(),
    )];
    assert!(text.ours.share(0) >= 99.8);
}

#[test]
fn no_recorded_request_passes_its_bound_or_changes_when_seen_before() {
    let Some(rows) = recordings("usage_pairs.jsonl") else {
        return;
    };
    let memo = Seen::default();
    let (mut bounded, mut told) = (0, 0);
    for line in rows.lines() {
        let row: UsageRow = serde_json::from_str(line).unwrap();
        let body = row.body();
        let estimate = prompt(row.model(), row.shape(), body.as_bytes());
        for _ in 0..2 {
            let again = prompt_with(&memo, row.model(), row.shape(), body.as_bytes());
            assert_eq!(again, estimate, "{}", row.id);
        }
        let tokens = estimate.map_or(0, |estimate| estimate.tokens);
        if let Some(most) = most(row.shape(), body.as_bytes()) {
            assert!(tokens <= most, "{}: {tokens} of {most}", row.id);
            // Nor does the bound that the estimator is held to change what is estimated.
            assert!(
                tokens * 10 <= (body.len() as u64 + 128) * 9,
                "{}: {tokens} of {most}",
                row.id
            );
            bounded += 1;
            // What the backend billed is bounded as well, where all of it was in the request.
            let hidden = ["hidden text", "file"].contains(&row.kind().as_str());
            told += u64::from(!hidden && row.prompt_tokens.is_some_and(|truth| truth <= most));
        }
    }
    println!("bounded by their bytes: {bounded}; billed within the bound: {told}");
    assert!(bounded > 600);
}

/// Texts of an answer: contents, then names and arguments of calls.
fn texts(output: &serde_json::Value) -> Vec<&str> {
    let mut texts = Vec::new();
    for choice in output.as_array().into_iter().flatten() {
        texts.extend(choice["content"].as_str());
        texts.extend(choice["refusal"].as_str());
        for call in choice["tool_calls"].as_array().into_iter().flatten() {
            texts.extend(call["name"].as_str().or(call["function"]["name"].as_str()));
            texts.extend(
                call["arguments"]
                    .as_str()
                    .or(call["function"]["arguments"].as_str()),
            );
        }
    }
    texts
}

#[test]
fn completions_are_counted_from_their_texts() {
    let Some(rows) = recordings("usage_pairs.jsonl") else {
        return;
    };
    let mut table: BTreeMap<(String, String, bool), Errors> = BTreeMap::new();
    for line in rows.lines() {
        let row: UsageRow = serde_json::from_str(line).unwrap();
        let (Some(truth), Some(output)) = (row.completion_tokens, &row.output) else {
            continue;
        };
        let details = row
            .usage
            .as_ref()
            .map(|usage| &usage["completion_tokens_details"]["reasoning_tokens"]);
        let truth = truth - details.and_then(serde_json::Value::as_u64).unwrap_or(0);
        let called = output.to_string().contains("\"arguments\"");
        let counted = completion(row.model(), row.shape(), texts(output).into_iter());
        table
            .entry((row.api.clone(), row.family.clone(), called))
            .or_default()
            .add(counted, truth);
    }
    for ((api, family, called), errors) in &table {
        println!(
            "{:<44} {}",
            format!("{api} {family} {}", if *called { "calls" } else { "text" }),
            errors.line()
        );
    }
    let text = &table[&("chat.completions".to_owned(), "o".to_owned(), false)];
    // The rest are one token short: an end mark that some model versions bill.
    assert!(text.share(0) >= 75.0);
}
