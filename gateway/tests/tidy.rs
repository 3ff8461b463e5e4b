//! The rules that a program can check are checked here: who may import whom, sizes, documents, manifests.
//!
//! Each rule is a function from texts to complaints, and its own test feeds it a bad sample; the tests below apply
//! the rules to this repository. What clippy can check is in `clippy.toml` and isn't repeated.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/manifest.rs"]
mod manifest;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;

use std::path::Path;
use std::process::Command;

use documents::Document;
use source::{Source, files, read, root, sources};

#[test]
fn filters_reach_no_mechanism_not_even_through_others() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "-p",
            "filters",
            "-e",
            "normal",
            "--prefix",
            "none",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(
        tree.starts_with("filters "),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let banned = [
        "pingora",
        "tokio",
        "fred",
        "metrics",
        "async-std",
        "hyper",
        "reqwest",
    ];
    none(
        "filters depends on",
        manifest::forbidden_packages(&tree, &banned),
    );
}

#[test]
fn no_stage_imports_another() {
    let sources = sources();
    let stages = sources
        .iter()
        .filter(|source| source.is_under("gateway/src/stage/"));
    assert!(stages.count() > 1, "no stages found in gateway/src/stage");
    none("stages", imports::stages_apart(&sources));
}

#[test]
fn the_configuration_as_written_knows_no_plan_and_no_pingora() {
    none(
        "config/file",
        absent(&["gateway/src/config/file"], &[], &["plan", "Plan"]),
    );
    let pingora = [
        "pingora",
        "pingora_proxy",
        "pingora_core",
        "pingora_load_balancing",
    ];
    none("config/", absent(&["gateway/src/config"], &[], &pingora));
}

#[test]
fn only_metrics_names_a_metric() {
    let macros = [
        "counter!",
        "gauge!",
        "histogram!",
        "describe_counter!",
        "describe_gauge!",
        "describe_histogram!",
    ];
    none(
        "metrics",
        absent(
            &["gateway/src", "filters/src"],
            &["gateway/src/metrics"],
            &macros,
        ),
    );
}

#[test]
fn only_clock_asks_what_time_it_is() {
    let clocks = ["Instant::now", "SystemTime::now"];
    none(
        "clock",
        absent(
            &["gateway/src", "filters/src"],
            &["gateway/src/clock"],
            &clocks,
        ),
    );
}

#[test]
fn only_reply_and_respond_know_an_http_status() {
    // Ranges of statuses are a value that a user configures: config/ has their defaults. The admin pages answer by
    // themselves, since no refusal fits them. Some statuses say by HTTP's own rules that an answer has no body.
    let allowed = [
        "gateway/src/reply",
        "gateway/src/stage/respond",
        "gateway/src/admin",
        "gateway/src/config",
        "gateway/src/upstream/http1",
        "gateway/src/downstream/answer",
    ];
    none(
        "status",
        absent(&["gateway/src"], &allowed, &imports::STATUSES),
    );
}

#[test]
fn nothing_is_unsafe() {
    none(
        "unsafe",
        absent(&["gateway", "filters", "load-tests"], &[], &["unsafe"]),
    );
}

#[test]
fn manifests_have_no_features_and_no_build_script_and_one_dependency_table() {
    for path in files("toml")
        .iter()
        .filter(|path| path.ends_with("Cargo.toml"))
    {
        if path == "filters/fuzz/Cargo.toml" {
            // It builds with a sanitizer or not at all, so it can't be a member, nor take what members share.
            continue;
        }
        let manifest: toml::Table = read(path).parse().unwrap();
        none(path, manifest::forbidden_keys(path, &manifest));
        none(path, manifest::own_versions(path, &manifest));
    }
}

#[test]
fn files_have_their_form() {
    let sources = sources();
    assert!(
        sources.len() > 20,
        "only {} Rust files found",
        sources.len()
    );
    let paths: Vec<String> = sources.iter().map(|source| source.path.clone()).collect();
    none("names", shape::forbidden_names(&paths));
    none("headers", shape::without_header(&sources));
    none("files", shape::long_files(&sources));
    none("functions", shape::long_functions(&sources));
}

#[test]
fn proxy_only_routes() {
    let proxy = Source::new("gateway/src/proxy.rs", &read("gateway/src/proxy.rs"));
    none("proxy.rs", shape::long_proxy_methods(&proxy));
}

#[test]
fn links_lead_somewhere() {
    let exists = |path: &str| {
        let there = root().join(path);
        there
            .exists()
            .then(|| std::fs::read_to_string(there).unwrap_or_default())
    };
    for document in documents() {
        none("links", documents::broken_links(&document, &exists));
    }
}

#[test]
fn commands_of_the_documents_exist() {
    let makefile = read("Makefile");
    let targets = documents::targets(&makefile);
    for document in documents() {
        for command in documents::commands(&document.text, "make") {
            let known = targets.iter().any(|(target, _)| *target == command);
            assert!(
                known,
                "{}: the Makefile has no target {command}",
                document.path
            );
        }
        for command in documents::commands(&document.text, "tollgate") {
            assert!(
                is_subcommand(&command),
                "{}: tollgate has no command {command}",
                document.path
            );
        }
    }
    for (target, lines) in targets {
        assert!(
            lines <= 5,
            "Makefile: {target} has {lines} lines, 5 at most"
        );
    }
}

#[test]
fn files_that_the_makefile_and_its_scripts_name_exist() {
    for script in ["Makefile", ".ci/run", "scripts/quickstart", "scripts/fuzz"] {
        for path in documents::named_files(&read(script), &["scripts/", "conf/", ".ci/"]) {
            let there = root().join(&path).exists() || path.ends_with("/.toml");
            assert!(there, "{script} names {path}, which isn't there");
        }
    }
}

#[test]
fn the_build_server_runs_the_readmes_test_command() {
    let last = read(".ci/run")
        .trim_end()
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned();
    assert_eq!(last, "make test", ".ci/run ends with the test command");
    assert!(
        read("README.md").contains("make test"),
        "README.md doesn't tell the test command"
    );
}

#[test]
fn every_dependency_is_explained() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let names = manifest::dependencies(&manifest);
    assert!(names.len() > 10, "{names:?}");
    none(
        "ARCHITECTURE.md has no line for",
        documents::unexplained(&read("ARCHITECTURE.md"), &names),
    );
}

#[test]
fn the_manuals_table_of_contents_has_every_page_once() {
    let contents = read("docs/SUMMARY.md");
    let links = contents.split("](").skip(1);
    let mut listed: Vec<&str> = links.filter_map(|rest| rest.split(')').next()).collect();
    listed.sort_unstable();
    let pages = documents().into_iter().map(|document| document.path);
    let pages = pages.filter_map(|path| path.strip_prefix("docs/").map(str::to_owned));
    let mut pages: Vec<String> = pages.filter(|page| page != "SUMMARY.md").collect();
    pages.sort();
    assert_eq!(
        listed, pages,
        "docs/SUMMARY.md lists every page of docs/, each once"
    );
}

fn absent(places: &[&str], allowed: &[&str], banned: &[&str]) -> Vec<String> {
    imports::absent(&sources(), places, allowed, banned)
}

fn documents() -> Vec<Document> {
    let document = |path: String| Document {
        text: read(&path),
        path,
    };
    files("md").into_iter().map(document).collect()
}

fn is_subcommand(name: &str) -> bool {
    if name.starts_with('-') {
        return true;
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_tollgate"));
    let output = Command::new(binary)
        .args([name, "--help"])
        .output()
        .unwrap();
    output.status.success()
}

fn none(what: &str, complaints: Vec<String>) {
    assert!(
        complaints.is_empty(),
        "{what}:\n  {}",
        complaints.join("\n  ")
    );
}
