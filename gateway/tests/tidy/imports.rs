//! Who may import whom: what must stay absent, by the words of the code.

use super::source::{Source, words};

/// No file mentions any of these words, but those that `allowed` names (as modules).
pub fn absent(
    sources: &[Source],
    places: &[&str],
    allowed: &[&str],
    banned: &[&str],
) -> Vec<String> {
    let judged = sources
        .iter()
        .filter(|source| places.iter().any(|place| source.is_module(place)))
        .filter(|source| !allowed.iter().any(|place| source.is_module(place)));
    let mut found = Vec::new();
    for source in judged {
        for word in banned {
            let hits = words(&source.code, word).map(|at| line(source, at, word));
            found.extend(hits);
        }
    }
    found
}

/// No stage (a file or folder of `gateway/src/stage`) names another.
pub fn stages_apart(sources: &[Source]) -> Vec<String> {
    let of = |source: &Source| stage_of(&source.path).map(str::to_owned);
    let mut stages: Vec<String> = sources.iter().filter_map(of).collect();
    stages.sort();
    stages.dedup();
    let mut found = Vec::new();
    for source in sources {
        let Some(own) = stage_of(&source.path) else {
            continue;
        };
        for other in stages.iter().filter(|stage| *stage != own) {
            let named = used_paths(&source.code)
                .into_iter()
                .chain(inline_paths(&source.code))
                .find(|path| names_stage(path, other));
            if let Some(path) = named {
                found.push(format!("{}: {path} is another stage", source.path));
            }
        }
    }
    found
}

const STAGES: &str = "gateway/src/stage/";

fn stage_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(STAGES)?;
    rest.split(['/', '.']).next()
}

fn names_stage(path: &str, stage: &str) -> bool {
    let parts: Vec<&str> = path.split("::").collect();
    parts
        .windows(2)
        .any(|pair| matches!(pair[0], "stage" | "super") && pair[1] == stage)
}

/// Every path of the `use` items, with groups written out.
pub fn used_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for at in words(code, "use") {
        let item = &code[at + "use".len()..];
        let Some(end) = item.find(';') else { continue };
        let flat: String = item[..end].split_whitespace().collect::<Vec<_>>().join(" ");
        expand("", &flat, &mut paths);
    }
    paths
}

fn expand(before: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    match tree.split_once('{') {
        None => paths.push(format!("{before}{tree}").replace(' ', "")),
        Some((stem, rest)) => {
            let inside = rest.trim_end().strip_suffix('}').unwrap_or(rest);
            let before = format!("{before}{stem}").replace(' ', "");
            for part in split_outside_braces(inside) {
                expand(&before, part, paths);
            }
        }
    }
}

fn split_outside_braces(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut from) = (0, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Every `a::b::c` of the code.
fn inline_paths(code: &str) -> Vec<String> {
    let outside = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
    code.split(outside)
        .filter(|word| word.contains("::"))
        .map(str::to_owned)
        .collect()
}

/// The line of the code, told as `path: what: line`. Tests are cut out of the code, so a number would mislead.
fn line(source: &Source, at: usize, word: &str) -> String {
    let start = source.code[..at].rfind('\n').map_or(0, |end| end + 1);
    let end = source.code[at..]
        .find('\n')
        .map_or(source.code.len(), |end| at + end);
    format!(
        "{}: `{word}` in: {}",
        source.path,
        source.code[start..end].trim()
    )
}

/// Status codes that Tollgate says or reads, as literals.
pub const STATUSES: [&str; 24] = [
    "StatusCode",
    "200",
    "201",
    "204",
    "301",
    "302",
    "304",
    "400",
    "401",
    "403",
    "404",
    "405",
    "408",
    "409",
    "413",
    "415",
    "422",
    "429",
    "499",
    "500",
    "501",
    "502",
    "503",
    "504",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn one(path: &str, text: &str) -> Vec<Source> {
        vec![
            Source::new(path, text),
            Source::new("gateway/src/stage/select.rs", ""),
            Source::new("gateway/src/stage/admit.rs", ""),
        ]
    }

    #[test]
    fn a_banned_word_is_found_in_code_only() {
        let places = ["gateway/src", "filters/src"];
        let judge = |path, text| {
            absent(
                &one(path, text),
                &places,
                &["gateway/src/clock"],
                &["Instant::now"],
            )
        };
        assert_eq!(
            judge("gateway/src/body.rs", "let t = Instant::now();").len(),
            1
        );
        assert_eq!(
            judge("gateway/src/body.rs", "let t = std::time::Instant::now();").len(),
            1
        );
        assert!(judge("gateway/src/clock.rs", "let t = Instant::now();").is_empty());
        assert!(judge("gateway/src/body.rs", "// Instant::now() is banned").is_empty());
        assert!(judge("load-tests/src/main.rs", "Instant::now()").is_empty());
    }

    #[test]
    fn a_status_is_found() {
        let judge = |text| {
            absent(
                &one("gateway/src/body.rs", text),
                &["gateway/src"],
                &[],
                &STATUSES,
            )
            .len()
        };
        assert_eq!(judge("return respond(413);"), 1);
        assert_eq!(judge("let code: StatusCode = x;"), 1);
        assert_eq!(judge("let length = 4130;"), 0);
    }

    #[test]
    fn a_stage_that_names_another_is_found_however_it_does() {
        let judge = |text| stages_apart(&one("gateway/src/stage/respond.rs", text)).len();
        assert_eq!(judge("use crate::stage::select::Choice;"), 1);
        assert_eq!(judge("use crate::{body, stage::{admit, respond}};"), 1);
        assert_eq!(judge("use super::select;"), 1);
        assert_eq!(judge("fn f() { crate::stage::select::now() }"), 1);
        assert_eq!(judge("use filters::balance::select; fn select() {}"), 0);
        let inner = one(
            "gateway/src/stage/respond/head.rs",
            "use crate::stage::respond::Reply;",
        );
        assert!(stages_apart(&inner).is_empty());
    }

    #[test]
    fn groups_are_written_out() {
        let paths = used_paths("use a::{b, c::{d, e as f}};\nuse g;\n");
        assert_eq!(paths, ["a::b", "a::c::d", "a::c::easf", "g"]);
    }
}
