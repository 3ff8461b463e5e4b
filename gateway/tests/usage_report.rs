//! `tollgate usage report` as a user runs it: figures, money, times, formats, and what it says of what it can't read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::command::{Finished, run};

#[test]
fn the_table_has_a_row_a_group_the_most_expensive_first_and_a_total() {
    let folder = Folder::new();
    let finished = folder.report(&["--prices", &folder.prices()]);
    assert_eq!((finished.status, finished.stderr.as_str()), (Some(0), ""));
    let expected = "\
subscription  model   requests  prompt  cached  completion  reasoning  total  cost USD  unpriced
------------  ------  --------  ------  ------  ----------  ---------  -----  --------  --------
team-b        gpt-4o         2   2,000       0         100         10  2,100    0.0061         0
team-a        gpt-4o         2     200      64          16          3    216    0.0006         0
team-a        own            1      50       0           7          0     57    0.0000        57
-             gpt-4o         1       0       0           0          0      0    0.0000         0
------------  ------  --------  ------  ------  ----------  ---------  -----  --------  --------
total                        6   2,250      64         123         13  2,373    0.0067        57

57 tokens of 1 requests have no price and are not in the cost.
";
    assert_eq!(finished.stdout, expected);
}

#[test]
fn without_prices_nothing_is_said_of_money() {
    let folder = Folder::new();
    let finished = folder.report(&["--format", "csv", "--by", "model"]);
    assert_eq!(
        finished.stdout,
        "model,requests,prompt_tokens,cached_tokens,completion_tokens,reasoning_tokens,total_tokens\r\n\
         gpt-4o,5,2200,64,116,13,2316\r\nown,1,50,0,7,0,57\r\n"
    );
}

#[test]
fn rows_add_up_to_the_same_total_whatever_they_are_grouped_by() {
    let folder = Folder::new();
    let mut totals = Vec::new();
    for by in [
        "subscription,model",
        "attributes.cost-center",
        "day",
        "request_id",
        "status,user",
        "time",
    ] {
        let report = folder.json(&["--prices", &folder.prices(), "--by", by]);
        for figure in [
            "requests",
            "total_tokens",
            "cost_nano_usd",
            "unpriced_tokens",
        ] {
            let rows = report["rows"].as_array().unwrap().iter();
            let sum: u64 = rows.map(|row| row[figure].as_u64().unwrap()).sum();
            assert_eq!(report["total"][figure], json!(sum), "{by}: {figure}");
        }
        totals.push(report["total"].clone());
    }
    assert!(
        totals.iter().all(|total| *total == totals[0]),
        "{totals:#?}"
    );
    let team_a = 136 * 2_500 + 64 * 1_250 + 16 * 10_000;
    let team_b = 1_000 * 2_500 + 50 * 10_000 + 1_000 * 2_000 + 40 * 20_000 + 10 * 30_000;
    let cost: u64 = team_a + team_b;
    assert_eq!(totals[0]["cost_nano_usd"], json!(cost));
    assert_eq!(totals[0]["cost_usd"], json!(format!("0.{cost:09}")));
}

#[test]
fn a_price_holds_from_its_first_day_and_the_span_excludes_its_end() {
    let folder = Folder::new();
    let cost = |from: &str, to: &str| {
        let prices = folder.prices();
        let report = folder.json(&["--prices", &prices, "--from", from, "--to", to]);
        let total = &report["total"];
        (
            total["requests"].as_u64().unwrap(),
            total["cost_nano_usd"].as_u64().unwrap(),
        )
    };
    // 1000 prompt and 50 completion tokens, before and from the day of the new price.
    let before = 1_000 * 2_500 + 50 * 10_000;
    let after = 1_000 * 2_000 + 40 * 20_000 + 10 * 30_000;
    let midnight = "2026-11-22";
    assert_eq!(cost("2026-11-21T23:59:59.999Z", midnight), (1, before));
    assert_eq!(cost(midnight, "2026-11-22T00:00:00.001Z"), (1, after));
    assert_eq!(
        cost("2026-11-21T23:59:59.999Z", "2026-11-22T00:00:00.001Z"),
        (2, before + after)
    );
    assert_eq!(
        cost("2026-11-22T01:00+01:00", "2026-11-22T00:00:00.001Z"),
        (1, after)
    );
    assert_eq!(cost("2030-01-01", "2031-01-01"), (0, 0));
}

#[test]
fn time_goes_on_where_it_is_the_first_field() {
    let folder = Folder::new();
    let report = folder.json(&["--by", "day,subscription"]);
    let days: Vec<&str> = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["group"]["day"].as_str().unwrap())
        .collect();
    assert_eq!(
        days,
        ["2026-11-20", "2026-11-20", "2026-11-21", "2026-11-22"]
    );
}

#[test]
fn a_line_that_is_no_record_is_named_and_left_out() {
    let folder = Folder::new();
    folder.add(
        "usage-2026-11-23T00-b.jsonl",
        "{\"time\":\"2026-11-23\",\"total_tokens\":1}\nhello\n\n{\"time\":\"2026-11-23\",\"mod",
    );
    let finished = folder.report(&["--format", "json"]);
    let path = folder.0.path().join("usage-2026-11-23T00-b.jsonl");
    let path = path.display();
    assert_eq!(
        finished.stderr,
        format!(
            "{path}:2: no record of the usage log from column 1 on, expected a JSON object with its fields\n\
             {path}:4: the line ends in the middle: its writer was stopped there, or is still writing\n\
             2 lines were left out\n"
        )
    );
    assert_eq!(finished.status, Some(0));
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(report["lines_left_out"], json!(2));
    assert_eq!(report["total"]["requests"], json!(7));
}

#[test]
fn many_bad_lines_are_counted_and_not_all_told() {
    let folder = Folder::new();
    folder.add("usage-x.jsonl", &"no\n".repeat(1_000));
    let finished = folder.report(&["--by", "model"]);
    assert_eq!(finished.stderr.lines().count(), 21);
    assert!(
        finished
            .stderr
            .ends_with("1000 lines were left out, of which the first 20 are told\n")
    );
    assert!(
        finished.stdout.ends_with("\n1,000 lines were left out.\n"),
        "{finished:?}"
    );
}

#[test]
fn a_wrong_price_list_is_told_with_every_mistake_and_its_place() {
    let folder = Folder::new();
    let prices = folder.add(
        "wrong.toml",
        r#"[[price]]
model = "a"
prompt = 0.0000000001

[[price]]
model = "b"
prompt = "much"
from = "2026-01-01"
reasoning = 1

[[price]]
modell = "c"
prompt = 2000000

[[price]]
model = "d"
prompt = 1.0
from = 2026-03-01
until = 2026-02-01

[[price]]
model = "e"
prompt = 1
[[price]]
model = "e"
prompt = 2
"#,
    );
    let finished = folder.report(&["--prices", prices.to_str().unwrap()]);
    assert_eq!((finished.status, finished.stdout.as_str()), (Some(2), ""));
    let path = prices.display();
    let expected = [
        "3:10: price[0].prompt: found 0.0000000001, expected nine digits after the point at most",
        "5:1: price[1]: missing key \"completion\", expected dollars per million tokens, such as 2.50",
        "7:10: price[1].prompt: found \"much\", expected an amount in dollars, such as 2.50",
        "8:8: price[1].from: found \"2026-01-01\", expected a date without quotes from 1970 on, such as 2026-11-01",
        "11:1: price[2]: missing key \"model\", expected a model's name, such as \"gpt-4o*\"",
        "12:1: price[2].modell: unknown key \"modell\"; did you mean \"model\"?",
        "13:10: price[2].prompt: found 2000000, expected a million dollars at most",
        "19:9: price[3].until: found 2026-02-01, expected a day after \"from\", 2026-03-01; it is the first day without this price",
        "24:1: price[5]: the price of line 21 has the same model and the same first day, expected one of them to differ",
    ];
    let expected: Vec<String> = expected
        .iter()
        .map(|line| format!("{path}:{line}"))
        .collect();
    assert_eq!(finished.stderr.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn wrong_arguments_end_with_2_and_broken_files_with_1() {
    let folder = Folder::new();
    let path = folder.path();
    let none = format!("{path}/none");
    for (arguments, told) in [
        (&["usage", "report"][..], "PATH"),
        (&["usage", "report", &none], "no such file or directory"),
        (
            &["usage", "report", "--by", "modle", &path],
            "unknown field \"modle\"; did you mean \"model\"?",
        ),
        (
            &["usage", "report", "--from", "today", &path],
            "expected a time from 1970 on",
        ),
        (
            &[
                "usage",
                "report",
                "--from",
                "2026-11-02",
                "--to",
                "2026-11-02",
                &path,
            ],
            "--to isn't after --from",
        ),
        (&["usage", "report", "--prices", &none, &path], "can't read"),
        (&["usage", "report", "--format", "xml", &path], "xml"),
    ] {
        let finished = run(arguments, "");
        assert_eq!(finished.status, Some(2), "{arguments:?}: {finished:?}");
        assert!(finished.stderr.contains(told), "{told}: {finished:?}");
        assert_eq!(finished.stdout, "");
    }
    std::fs::write(
        folder.0.path().join("usage-z.jsonl.gz"),
        [0x1f, 0x8b, 8, 0, 1],
    )
    .unwrap();
    let finished = folder.report(&[]);
    assert_eq!((finished.status, finished.stdout.as_str()), (Some(1), ""));
    assert!(
        finished
            .stderr
            .contains("usage-z.jsonl.gz: can't be read: "),
        "{finished:?}"
    );
}

#[test]
fn the_page_stands_alone_and_escapes_every_name() {
    let folder = Folder::new();
    folder.add(
        "usage-y.jsonl",
        "{\"time\":\"2026-11-23\",\"user\":\"<script src=//x>'\\\"&\",\"model\":\"gpt-4o\",\"prompt_tokens\":9}\n",
    );
    for prices in [&["--prices", &folder.prices()][..], &[]] {
        let arguments = [&["--format", "html", "--by", "user,model"], prices].concat();
        let page = folder.report(&arguments).stdout;
        assert!(
            page.starts_with("<!doctype html>") && page.ends_with("</html>\n"),
            "{page}"
        );
        assert_eq!(page.matches("<svg ").count(), 2);
        let allowed = page.replace("http://www.w3.org/2000/svg", "");
        for outside in [
            "http:", "https:", "src=", "url(", "@import", "<script", "<link",
        ] {
            let found = allowed.replace("&lt;script src=//x", "");
            assert!(!found.contains(outside), "{outside}: {page}");
        }
        assert!(
            page.contains("<td>&lt;script src=//x&gt;&#39;&quot;&amp;</td>"),
            "{page}"
        );
        for wanted in [
            "prefers-color-scheme: dark",
            "@media print",
            "default-src 'none'",
        ] {
            assert!(page.contains(wanted), "{wanted}");
        }
        assert_eq!(page.contains("US dollars"), !prices.is_empty());
    }
}

#[test]
fn the_example_of_a_price_list_prices_what_it_names() {
    let folder = Folder::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/prices.example.toml");
    let report = folder.json(&["--prices", example, "--by", "model"]);
    let unpriced = |row: &Value| {
        (
            row["group"]["model"].clone(),
            row["unpriced_requests"].clone(),
        )
    };
    let rows: Vec<_> = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(unpriced)
        .collect();
    assert_eq!(
        rows,
        [(json!("gpt-4o"), json!(0)), (json!("own"), json!(1))]
    );
}

const PRICES: &str = r#"
[[price]]
model = "gpt-*"
prompt = 2.50
cached = "1.25"
completion = 10

[[price]]
model = "gpt-*"
from = 2026-11-22
prompt = 2.00
completion = 20.00
reasoning = 30.00
"#;

const LOG: &str = concat!(
    r#"{"time":"2026-11-20T13:05:09.123Z","request_id":"1","subscription":"team-a","model":"gpt-4o","status":200,"prompt_tokens":100,"completion_tokens":8,"cached_tokens":64,"reasoning_tokens":3,"total_tokens":108,"attributes":{"cost-center":"4711"}}"#,
    "\n",
    r#"{"time":"2026-11-20T13:05:10.000Z","request_id":"2","subscription":"team-a","model":"gpt-4o","status":200,"prompt_tokens":100,"completion_tokens":8,"cached_tokens":0,"reasoning_tokens":0,"total_tokens":108,"user":"ann","attributes":{"cost-center":"4711"}}"#,
    "\n",
    r#"{"time":"2026-11-20T14:00:00.000Z","request_id":"3","subscription":"team-a","model":"own","status":200,"prompt_tokens":50,"completion_tokens":7,"total_tokens":57,"attributes":{"cost-center":"4711"},"later":[1]}"#,
    "\n",
    r#"{"time":"2026-11-20T15:00:00.000Z","request_id":"4","subscription":null,"model":"gpt-4o","status":429,"end":"refused"}"#,
    "\n",
    r#"{"time":"2026-11-21T23:59:59.999Z","request_id":"5","subscription":"team-b","model":"gpt-4o","status":200,"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050}"#,
    "\n",
    r#"{"time":"2026-11-22T00:00:00.000Z","request_id":"6","subscription":"team-b","model":"gpt-4o","status":200,"prompt_tokens":1000,"completion_tokens":50,"reasoning_tokens":10,"total_tokens":1050}"#,
    "\n",
);

/// A directory with a small log.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.add("usage-2026-11-20T13-a.jsonl", LOG);
        folder
    }

    fn add(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn path(&self) -> String {
        Path::to_str(self.0.path()).unwrap().to_owned()
    }

    fn prices(&self) -> String {
        self.add("prices.toml", PRICES).to_str().unwrap().to_owned()
    }

    fn report(&self, arguments: &[&str]) -> Finished {
        let path = self.path();
        run(
            &[&["usage", "report"], arguments, &[path.as_str()]].concat(),
            "",
        )
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let finished = self.report(&[arguments, &["--format", "json"]].concat());
        assert_eq!((finished.status, finished.stderr.as_str()), (Some(0), ""));
        serde_json::from_str(&finished.stdout).unwrap()
    }
}
