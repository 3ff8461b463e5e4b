//! The text itself: Prometheus drops a whole page for one line that it can't read.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::http;
use crate::{DIMENSIONS, KEY, chat, start};

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_in_the_format_that_prometheus_reads() {
    let (_simulator, gateway) = start(DIMENSIONS).await;
    let odd = [("x-application", "quo\"te\\back,comma}brace caf\u{e9}")];
    for asked in ["", "\"stream\":true,\"user\":\"a\\\"b\\\\c\\u00e9,}\","] {
        assert_eq!(chat(&gateway, KEY, &odd, asked).status, 200);
    }
    chat(&gateway, "wrong", &[], "");
    gateway.wait_for_metric("tollgate_requests_total", &[], 3.0);
    let answer = http::get(&format!("{}/metrics", gateway.admin_url));
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let page = String::from_utf8(answer.body).unwrap();
    let mut kinds = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut series = BTreeSet::new();
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(helped.insert(name.to_owned()) && !text.is_empty(), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(
                kinds.insert(name.to_owned(), kind.to_owned()).is_none(),
                "twice: {line}"
            );
        } else {
            let (labelled, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(labelled.to_owned()), "twice: {line}");
            let name = name_of(labelled);
            let family = family(&name, &kinds);
            let kind = kinds
                .get(&family)
                .unwrap_or_else(|| panic!("no TYPE before {line}"));
            assert!(helped.contains(&family), "no HELP for {family}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        }
    }
    for wanted in [
        "tollgate_requests_total",
        "tollgate_request_duration_seconds",
        "tollgate_time_to_first_token_seconds",
        "tollgate_overhead_seconds",
        "tollgate_usage_records_total",
        "tollgate_refusals_total",
        "tollgate_backend_attempts_total",
        "tollgate_backend_state",
        "tollgate_config_info",
        "tollgate_streams_open",
        "tollgate_buffered_bytes",
        "openai_prompt_tokens_total",
        "openai_completion_tokens_total",
        "openai_total_tokens_total",
        "openai_prompt_cached_tokens_total",
        "openai_completion_reasoning_tokens_total",
    ] {
        assert!(kinds.contains_key(wanted), "{wanted} is missing:\n{page}");
    }
    assert!(page.contains(r#"user_id="a\"b\\cé,}""#), "{page}");
}

/// The name before the labels, which are read with their escapes.
fn name_of(labelled: &str) -> String {
    let Some((name, rest)) = labelled.split_once('{') else {
        return labelled.to_owned();
    };
    let mut rest = rest;
    while let Some((label, value)) = rest.split_once("=\"") {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        assert!(!label.is_empty() && label.chars().all(plain), "{labelled}");
        let mut escaped = false;
        let end = value.find(|letter| {
            let ends = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        });
        rest = &value[end.expect("a quote ends the value") + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    assert_eq!(rest, "}", "{labelled}");
    name.to_owned()
}

fn family(name: &str, kinds: &BTreeMap<String, String>) -> String {
    let base = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|end| name.strip_suffix(end));
    match base {
        Some(base) if kinds.get(base).is_some_and(|kind| kind == "histogram") => base.to_owned(),
        _ => name.to_owned(),
    }
}
