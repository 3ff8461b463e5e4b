//! Holds `conf/` and the configuration reference to what the reader knows: every example loads, every wrong
//! file gives its exact messages, every key is shown and described.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use gateway::command::check::{Asks, Outcome, check_source};
use gateway::config::file::known_keys;
use gateway::config::plan::Plan;
use gateway::config::secret::Environment;
use gateway::config::{Source, load};

/// A world in which every variable of the examples is set and every file of theirs is there.
struct Examples;

impl Environment for Examples {
    fn variable(&self, name: &str) -> Option<String> {
        // Those that say which service vouches for the gateway: on a virtual machine none is set.
        let vouches = ["AZURE_", "IDENTITY_"];
        let vouches = vouches.iter().any(|prefix| name.starts_with(prefix));
        if vouches && !name.starts_with("AZURE_OPENAI_") {
            return None;
        }
        Some(match name {
            "REDIS_URL" => format!("rediss://tollgate:{PLANTED}-password@redis.example:6380"),
            _ => format!("{PLANTED}-{name}"),
        })
    }
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let text = match Path::new(path).extension().and_then(|end| end.to_str()) {
            Some("crt") => certificate().0.clone(),
            Some("toml") => include_str!("../../conf/prices.example.toml").to_owned(),
            Some("key") => certificate().1.clone(),
            Some(_) | None => format!("{PLANTED}-{}\n", path.replace('/', "-")),
        };
        Ok(text.into_bytes())
    }
    fn host_name(&self) -> String {
        "host".to_owned()
    }
    fn cores(&self) -> usize {
        3
    }
    fn now(&self) -> u64 {
        1_700_000_000
    }
}

/// A certificate and its key, PEM.
fn certificate() -> &'static (String, String) {
    static MADE: OnceLock<(String, String)> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    })
}

/// The world that `conf/errors` is written for.
struct Errors;

impl Environment for Errors {
    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "KEY" => Some("k-1".to_owned()),
            "EMPTY" => Some(String::new()),
            "SPACES" => Some("a b".to_owned()),
            _ => None,
        }
    }
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        match path {
            "/etc/tollgate/tls.crt" => Ok(b"-----BEGIN CERTIFICATE-----\n".to_vec()),
            "wrong-prices.toml" => Ok(b"[[price]]\nmodel = \"m\"\nprompt = 1\nfrom = 5\n".to_vec()),
            "no-prices.toml" => Ok(b"# none\n".to_vec()),
            _ => Err("no such file or directory".to_owned()),
        }
    }
    fn host_name(&self) -> String {
        Examples.host_name()
    }
    fn cores(&self) -> usize {
        Examples.cores()
    }
    fn now(&self) -> u64 {
        Examples.now()
    }
}

/// Begins every secret of [`Examples`].
const PLANTED: &str = "planted";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let folder = repository().join(folder);
    let entries = fs::read_dir(&folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|found| found == end))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{}", folder.display());
    paths
}

fn source(path: &Path) -> Source {
    Source {
        name: path.file_name().unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(path).unwrap(),
    }
}

fn text(text: &str) -> Source {
    Source {
        name: "test.toml".to_owned(),
        text: text.to_owned(),
    }
}

fn plan(source: &Source) -> Plan {
    load(source, &Examples).unwrap_or_else(|errors| panic!("{errors}"))
}

/// `conf/tollgate.toml` with the lines in comments that hold keys.
fn everything() -> Source {
    let mut source = source(&repository().join("conf/tollgate.toml"));
    source.text = source
        .text
        .replace("# optional: ", "")
        .replace("# later: ", "");
    source
}

#[test]
fn every_file_in_conf_loads_and_run_would_take_it() {
    let paths = files("conf", "toml")
        .into_iter()
        .chain(files("conf/examples", "toml"))
        // A list of its own kind: `gateway/tests/usage_report.rs` reads it.
        .filter(|path| !path.ends_with("prices.example.toml"));
    for path in paths {
        let source = source(&path);
        let refusals = plan(&source).refusals();
        assert!(refusals.is_empty(), "{refusals:?}");
    }
}

#[test]
fn the_template_for_a_real_endpoint_loads_once_it_is_filled_in() {
    let mut source = source(&repository().join("conf/quickstart-azure.toml.in"));
    assert!(load(&source, &Examples).is_err());
    let endpoint = "https://contoso.openai.azure.com/";
    source.text = source.text.replace("@AZURE_OPENAI_ENDPOINT@", endpoint);
    let plan = plan(&source);
    assert_eq!(plan.backends[0].url.authority, "contoso.openai.azure.com");
}

#[test]
fn every_wrong_file_gives_its_exact_messages() {
    let mut wrong = Vec::new();
    let paths = files("conf/errors", "toml");
    assert!(paths.len() >= 30);
    for path in &paths {
        let expected = fs::read_to_string(path.with_extension("expected")).unwrap_or_default();
        let found = match load(&source(path), &Errors) {
            Ok(_) => "it loads".to_owned(),
            Err(errors) => format!("{errors}\n"),
        };
        if found != expected {
            wrong.push(format!(
                "{}\n--- expected\n{expected}--- found\n{found}",
                path.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_message_is_one_line_that_names_file_line_column_and_place() {
    for path in files("conf/errors", "expected") {
        for line in fs::read_to_string(&path).unwrap().lines() {
            let mut parts = line.splitn(5, ':');
            let name = parts.next().unwrap();
            assert_eq!(Path::new(name).file_stem(), path.file_stem(), "{line}");
            let (row, column) = (parts.next().unwrap(), parts.next().unwrap());
            assert!(
                row.parse::<usize>().is_ok() && column.parse::<usize>().is_ok(),
                "{line}"
            );
            assert!(parts.next().is_some_and(|place| place.len() > 1), "{line}");
        }
    }
}

#[test]
fn every_key_stands_in_the_file_of_every_key() {
    let source = everything();
    let table: toml::Table = source.text.parse().unwrap();
    let mut shown = BTreeSet::new();
    paths(&toml::Value::Table(table), "", &mut shown);
    // A secret is written in one of its forms.
    let other_form = |key: &str| Some(format!("{}.env", key.strip_suffix(".file")?));
    let is_shown = |key: &String| {
        shown.contains(key) || other_form(key).is_some_and(|form| shown.contains(&form))
    };
    let missing: Vec<_> = known_keys()
        .into_iter()
        .filter(|key| !is_shown(key))
        .collect();
    assert!(
        missing.is_empty(),
        "not in conf/tollgate.toml: {missing:#?}"
    );
}

/// Every path of keys, written as the reader writes them: `pools.NAME.members[].backend`.
fn paths(value: &toml::Value, at: &str, found: &mut BTreeSet<String>) {
    found.insert(at.to_owned());
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let named =
                    ["apis", "products", "subscriptions", "backends", "pools"].contains(&at);
                let key = if named { "NAME" } else { key };
                let dot = if at.is_empty() { "" } else { "." };
                paths(value, &format!("{at}{dot}{key}"), found);
            }
        }
        toml::Value::Array(values) => {
            for value in values {
                paths(value, &format!("{at}[]"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_key_has_its_entry_in_the_reference() {
    let reference = fs::read_to_string(repository().join("docs/configuration.md")).unwrap();
    let described = |key: &String| reference.contains(&format!("**`{key}`**"));
    let missing: Vec<_> = known_keys()
        .into_iter()
        .filter(|key| !described(key))
        .collect();
    assert!(
        missing.is_empty(),
        "not in docs/configuration.md: {missing:#?}"
    );
}

#[test]
fn the_reference_describes_no_key_that_is_not_there() {
    let reference = fs::read_to_string(repository().join("docs/configuration.md")).unwrap();
    let known = known_keys();
    let entries = reference
        .split("**`")
        .skip(1)
        .filter_map(|rest| rest.split("`**").next());
    let stale: Vec<_> = entries
        .filter(|entry| !known.iter().any(|key| key == entry))
        .collect();
    assert!(stale.is_empty(), "no such key: {stale:#?}");
}

#[test]
fn the_whole_schema_loads_and_what_is_not_there_yet_is_named() {
    let plan = plan(&everything());
    let features: Vec<&str> = plan
        .pending
        .iter()
        .map(|pending| pending.what.as_str())
        .collect();
    let expected: [&str; 0] = [];
    assert_eq!(features, expected);
}

#[test]
fn the_defaults_are_those_that_the_file_of_every_key_states() {
    let defaults = plan(&text(""));
    let mut written = source(&repository().join("conf/tollgate.toml"));
    written.text = written
        .text
        .replace("trusted-proxies = [\"10.0.0.0/8\"]", "");
    let written = plan(&written);
    assert_eq!(defaults.server.threads, Examples.cores());
    let mut server = written.server.clone();
    server.threads = defaults.server.threads;
    assert_eq!(server, defaults.server);
    assert_eq!(defaults.gateway.id, Examples.host_name());
    assert_eq!(defaults.gateway.location, "");
    let [one, other] = [&written.backends[0], &written.backends[1]];
    assert_eq!(one.timeouts, other.timeouts);
    let [one, other] = [&written.pools[0], &written.pools[1]];
    assert_eq!(one.retry, other.retry);
}

#[test]
fn the_defaults_of_a_breaker_are_those_that_the_file_of_every_key_states() {
    let path = repository().join("conf/tollgate.toml");
    let written = plan(&source(&path));
    let mut bare = source(&path);
    for default in [
        "max-retry-after = \"10m\"",
        "status-code-ranges = [[429, 429], [500, 599]]   #",
        "error-reasons = [\"connect\", \"timeout\", \"reset\"]",
    ] {
        assert!(bare.text.contains(default), "{default}");
        bare.text = bare.text.replace(default, "#");
    }
    let breaker = |plan: &Plan, at: usize| plan.backends[at].breaker.clone().unwrap();
    assert_eq!(breaker(&written, 0), breaker(&plan(&bare), 0));
    assert_eq!(
        breaker(&written, 0).max_wait(),
        Some(Duration::from_secs(600))
    );
    assert_eq!(breaker(&written, 1).max_wait(), None);
}

#[test]
fn a_pool_is_chosen_from_in_the_order_of_its_priorities() {
    let plan = plan(&source(&repository().join("conf/examples/failover.toml")));
    let pool = &plan.pools[0];
    let first: Vec<usize> = (0..4)
        .filter_map(|turn| pool.balance.candidates(pool.balance.all(), turn).next())
        .collect();
    assert_eq!(first, [0, 0, 0, 0]);
    let spilled = pool.balance.all().without(0);
    let mut west = 0;
    for turn in 0..4 {
        let member = pool.balance.choose(spilled, turn).unwrap().member;
        west += usize::from(&*pool.members[member].backend.name == "paygo-west");
    }
    assert_eq!(west, 3);
    assert_eq!(pool.retry.count, 2);
}

#[test]
fn check_prints_a_summary_or_every_mistake_and_no_secret() {
    let run = |source: &Source| {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let outcome =
            check_source(source, &Examples, Asks::Nobody, (&mut out, &mut errors)).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (outcome, text(out), text(errors))
    };
    let (outcome, out, errors) = run(&source(&repository().join("conf/tollgate.toml")));
    assert_eq!((outcome, errors.as_str()), (Outcome::Well, ""));
    for said in [
        "http   0.0.0.0:8080",
        "azure-openai: /openai, schema azure-openai",
        "gpt-4o* -> gpt-4o",
        "ptu-east: https://contoso-east.openai.azure.com, azure-openai, deployment gpt-4o-ptu, API key",
        "team-a: product gold, 2 keys",
        "  gpt-4o: 3 members\n    priority 1: ptu-east (weight 1)\n    \
         priority 2: paygo-west (weight 3), paygo-north (weight 1)\n    \
         at most 2 retries, after 408, 429, 500-599 or no answer\n",
        "    circuit breaker: opens after 3 failures within 1m (429, 500-599, connect, timeout, reset), \
         for 1m or as long as it asks, up to 10m\n",
        "    circuit breaker: opens after failures of 50% within 1m, from 20 calls on (429, 500-599, \
         connect, timeout, reset), for 30s\n",
        "    no circuit breaker\n",
        "gold-per-subscription: 2000 tokens a minute, 1000000 a month, by subscription.id\n    \
         when product.id == \"gold\"\n    holds the prompt's estimate\n",
        "answers: answers are kept for 10m in Redis, for all replicas\n    when request.model == \"gpt-4o\"\n    \
         embeddings: ",
        " by backend embeddings\n    kept apart by subscription.id\n",
        "redis: limits are shared, waiting for it up to 50ms\n",
    ] {
        assert!(out.contains(said), "{said}\n{out}");
    }
    assert!(!out.contains(PLANTED), "{out}");

    let (outcome, out, errors) = run(&everything());
    assert_eq!(outcome, Outcome::Wrong);
    assert!(out.contains("listeners:"));
    assert!(
        errors.contains(
            "`run` would refuse: [[semantic-cache]] \"answers-of-a-local-model\": embeddings = { local = "
        ),
        "{errors}"
    );
    assert!(!format!("{out}{errors}{:?}", plan(&everything())).contains(PLANTED));

    let (outcome, out, errors) = run(&text("[server]\nthreads = 0\n"));
    assert_eq!((outcome, out.as_str()), (Outcome::Wrong, ""));
    assert_eq!(
        errors,
        "test.toml:2:11: server.threads: found 0, expected a whole number from 1 to 1024\n"
    );
}

#[test]
fn every_table_refuses_a_key_that_it_does_not_know() {
    let source = everything();
    for (index, line) in source.text.lines().enumerate() {
        let is_header = line.starts_with('[') && !["[pools]", "[apis]"].contains(&line);
        let inline = line
            .find("{ ")
            .filter(|_| !line.trim_start().starts_with('#'));
        let free = ["models =", "attributes =", "required-claims ="]
            .iter()
            .any(|key| line.starts_with(key));
        let changed = match inline {
            Some(at) if !free => format!("{}zzz = 1, {}", &line[..at + 2], &line[at + 2..]),
            _ if is_header => format!("{line}\nzzz = 1"),
            _ => continue,
        };
        let mut lines: Vec<&str> = source.text.lines().collect();
        lines[index] = &changed;
        let errors = load(&text(&lines.join("\n")), &Examples)
            .expect_err(&changed)
            .to_string();
        assert!(
            errors.contains("unknown key \"zzz\""),
            "{changed}\n{errors}"
        );
    }
}

#[test]
fn warnings_say_what_is_probably_not_meant() {
    let plan = plan(&text(
        "[apis.a]\npath = \"/v1\"\nschema = \"openai\"\nmodels = { \"gpt-*\" = \"p\" }\n\
         [products.gold]\nmodels = [\"gpt-4o\", \"claude*\"]\n\
         [pools]\np = { members = [{ backend = \"b\" }] }\nq = { members = [{ backend = \"b\" }] }\n\
         [backends.b]\nurl = \"https://contoso.openai.azure.com/openai\"\nschema = \"azure-openai\"\n\
         [backends.c]\nurl = \"http://127.0.0.1\"\n\
         [subscriptions.s]\nkeys = [\"literal\"]\n[subscriptions.t]\nkeys = []\n\
         [server]\nh2c = \"0.0.0.0:8081\"\n",
    ));
    let places: Vec<_> = plan
        .warnings
        .iter()
        .map(|line| line.split(':').nth(3).unwrap().trim())
        .collect();
    let expected = [
        "products.gold.models[1]",
        "pools.q",
        "backends.b",
        "backends.b.url",
        "backends.c",
        "subscriptions.s.keys[0]",
        "subscriptions.t",
        "server.h2c",
    ];
    assert_eq!(places, expected, "{:#?}", plan.warnings);
    assert!(!plan.warnings.join("").contains("literal"));
}

proptest::proptest! {
    /// Whatever is done to a file, loading ends in a plan or in messages that point into the file.
    #[test]
    fn a_damaged_file_is_told_and_never_a_panic(at in 0_usize..14_000, length in 0_usize..40, put in "[\\[\\]{}\"'=,.#\n\\\\ a0\u{e9}-]{0,3}") {
        let mut source = everything();
        let boundary = |text: &str, mut at: usize| {
            at = at.min(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = boundary(&source.text, at);
        let end = boundary(&source.text, start + length);
        source.text.replace_range(start..end.max(start), &put);
        if let Err(errors) = load(&source, &Examples) {
            proptest::prop_assert!(!errors.list.is_empty());
            for error in &errors.list {
                let line = source.text.split('\n').nth(error.line - 1);
                let width = line.map(|line| line.chars().count());
                proptest::prop_assert!(width.is_some_and(|width| error.column <= width + 1), "{}", error);
                proptest::prop_assert!(!error.message.contains(PLANTED) && !error.message.contains('\n'));
            }
        }
    }
}
