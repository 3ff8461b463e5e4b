//! The official OpenAI clients, unmodified, from their registries, against a gateway before the simulator.
//!
//! The cases are in `clients/python` and `clients/node`, in the clients' own languages: what a user of them sees is
//! what counts. This file installs the clients once for a build folder, starts what they need, and counts the
//! cases. A registry that can't be reached fails the test: a client that wasn't tried wasn't shown to work.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use load_tests::simulator::behaviour::Content;
use load_tests::simulator::{Behaviour, Handle, Options, Simulator};
use serde_json::Value;
use support::gateway::Gateway;
use support::installed;

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_works_with_an_azure_openai_backend() {
    let simulator = simulator().await;
    python(&Gateway::start(&config(&azure_openai(&simulator))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_works_with_an_openai_backend() {
    let simulator = simulator().await;
    python(&Gateway::start(&config(&openai(&simulator))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_works_with_an_azure_openai_backend() {
    let simulator = simulator().await;
    node(&Gateway::start(&config(&azure_openai(&simulator))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_works_with_an_openai_backend() {
    let simulator = simulator().await;
    node(&Gateway::start(&config(&openai(&simulator))));
}

/// A limit of 600 tokens a minute for each kind of client, and a first call that goes 20 over it: the next must wait two seconds. The clients'
/// own retries do that, with their own settings, and the script never sees a refusal.
#[tokio::test(flavor = "multi_thread")]
async fn both_clients_back_off_from_a_token_limit_by_themselves() {
    let simulator = simulator().await;
    simulator.set(Behaviour {
        content: Content {
            prompt_tokens: Some(310),
            tokens: 310,
            ..Content::default()
        },
        ..Behaviour::default()
    });
    let config = config(&openai(&simulator)) + LIMIT;
    let gateway = Gateway::start(&config);
    let script = cases("python").join("backoff.py");
    let told = told(&gateway, Command::new(python_client()).arg(script));
    assert_eq!(told, "ok 200 200\n");
    let refused = [("reason", "rate_limit_exceeded"), ("policy", "slow")];
    let by_python = gateway.metric("tollgate_refusals_total", &refused);
    assert!(by_python >= 1.0, "it never had to wait");
    let told = node_client_told(&gateway, "backoff.mjs");
    assert_eq!(told, "ok 200 200\n");
    let by_both = gateway.metric("tollgate_refusals_total", &refused);
    assert!(by_both > by_python, "it never had to wait");
}

/// What README tells to type is typed, in its order, and what comes back is what it says comes back.
#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_requests_are_answered_as_it_says() {
    let options = Options {
        api_key: Some("simulator-key".to_owned()),
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let config = fs::read_to_string(root.join("conf/quickstart.toml")).unwrap();
    let config = config.replace("127.0.0.1:8080\"\nadmin", "@LISTEN@\"\nadmin");
    let config = config.replace("\"127.0.0.1:9090\"", "\"@ADMIN@\"");
    let gateway = Gateway::start(&config.replace("http://127.0.0.1:4010", &simulator.url()));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let readme = readme.replace("http://127.0.0.1:8080", &gateway.url);
    let readme = readme.replace("http://127.0.0.1:9090", &gateway.admin_url);
    let blocks: Vec<(&str, &str)> = readme
        .split("\n```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.split_once('\n'))
        .collect();
    let mut tried = 0;
    for pair in blocks.windows(2) {
        let [(kind, typed), (_, expected)] = [pair[0], pair[1]];
        let mut command = match kind {
            "python" => Command::new(python_client()),
            "sh" if typed.contains("curl") => Command::new("bash"),
            _ => continue,
        };
        if typed.contains("/metrics") {
            gateway.wait_for_metric("tollgate_requests_total", &[("status", "200")], 4.0);
        }
        let output = command.args(["-c", typed]).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{typed}\n{errors}");
        says(&told, expected);
        tried += 1;
    }
    assert_eq!(tried, 5);
}

/// Each line of what was expected is there, as it stands or as JSON that holds at least as much.
fn says(told: &str, expected: &str) {
    let json = |text: &str| {
        serde_json::from_str::<Value>(text.strip_prefix("data: ").unwrap_or(text)).ok()
    };
    if let Some(expected) = json(expected) {
        let found = json(told).unwrap_or_else(|| panic!("{told}"));
        assert!(holds(&found, &expected), "{told}\n{expected}");
        return;
    }
    for line in expected
        .lines()
        .filter(|line| *line != "..." && !line.is_empty())
    {
        let is_there = match json(line) {
            None => told.lines().any(|found| found == line),
            Some(expected) => told
                .lines()
                .filter_map(json)
                .any(|found| holds(&found, &expected)),
        };
        assert!(is_there, "{line}\n{told}");
    }
}

fn holds(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => expected
            .iter()
            .all(|(key, expected)| found.get(key).is_some_and(|found| holds(found, expected))),
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len()
                && found
                    .iter()
                    .zip(expected)
                    .all(|(found, expected)| holds(found, expected))
        }
        (found, expected) => found == expected,
    }
}

/// Each real OpenAPI document is imported, and each of its operations that the client has is called with it. The operation is
/// then counted under the document's own name for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_calls_every_operation_of_an_imported_document() {
    let Some(folder) = std::env::var_os("TOLLGATE_RECORDINGS") else {
        println!("skipped: TOLLGATE_RECORDINGS names no folder with OpenAPI documents");
        return;
    };
    let simulator = simulator().await;
    let python = python_client();
    for entry in fs::read_dir(Path::new(&folder).join("openapi")).unwrap() {
        let document = entry.unwrap().path();
        let name = document.file_name().unwrap().to_str().unwrap().to_owned();
        let (gateway, key, operations) = imported(&simulator, &document);
        let script = cases("python").join("imported.py");
        let output = Command::new(&python)
            .arg(script)
            .env("TOLLGATE_URL", &gateway.url)
            .env("TOLLGATE_KEY", &key)
            .env("TOLLGATE_OPERATIONS", &operations)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {told}\n{errors}");
        let without = told.lines().filter(|line| line.starts_with("none "));
        // Copying checkpoints, the document's way to cancel a run of an eval, and what only Azure AI Inference has.
        let without: Vec<&str> = without.collect();
        assert!(without.len() <= 3, "{name}: {without:?}");
        for operation in told.lines().filter_map(|line| line.strip_prefix("ok ")) {
            let labels = [("operation", operation), ("status", "200")];
            gateway.wait_for_metric("tollgate_requests_total", &labels, 1.0);
        }
    }
}

/// A gateway of an imported document, its key, and a line an operation: id, method, path.
fn imported(simulator: &Handle, document: &Path) -> (Gateway, String, String) {
    let arguments = [
        "import",
        "azure-openai",
        "--endpoint",
        &simulator.url(),
        "--spec",
    ];
    let output = support::command::tollgate()
        .args(arguments)
        .arg(document)
        .args(["--deployment", "chat"])
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let config = String::from_utf8(output.stdout).unwrap();
    let table: toml::Table = config.parse().unwrap();
    let mut operations = String::new();
    for api in table["apis"].as_table().unwrap().values() {
        for operation in api["operations"].as_array().unwrap() {
            let text = |key: &str| operation[key].as_str().unwrap().to_owned();
            let path = format!("{}{}", api["path"].as_str().unwrap(), text("path"));
            operations.push_str(&format!("{}\t{}\t{path}\n", text("id"), text("method")));
        }
    }
    let config = format!("server = {{ listen = \"@LISTEN@\", admin = \"@ADMIN@\" }}\n{config}");
    let gateway = Gateway::start_with(&config, &[("AZURE_OPENAI_API_KEY", BACKEND_KEY)]);
    let key = errors
        .lines()
        .find(|line| line.starts_with("  tg-"))
        .unwrap()
        .trim()
        .to_owned();
    (gateway, key, operations)
}

fn python(gateway: &Gateway) {
    let scripts = cases("python");
    // A case written with `def` is run by three kinds of client, one with `async def` by two: see cases.py.
    let text = fs::read_to_string(scripts.join("clients.py")).unwrap();
    let count =
        text.matches("@case\ndef ").count() * 3 + text.matches("@case\nasync def ").count() * 2;
    let mut script = Command::new(python_client());
    all_well(gateway, script.arg(scripts.join("clients.py")), count);
}

/// An interpreter that has the client.
fn python_client() -> PathBuf {
    let requirements = fs::read_to_string(cases("python").join("requirements.txt")).unwrap();
    installed::python("python", &requirements).join("bin/python")
}

fn node(gateway: &Gateway) {
    let script = node_client().join("clients.mjs");
    // Each case is run by two kinds of client.
    let text = fs::read_to_string(&script).unwrap();
    let count = text.matches("\n  async \"").count() * 2;
    all_well(gateway, Command::new("node").arg(&script), count);
}

fn node_client_told(gateway: &Gateway, script: &str) -> String {
    told(
        gateway,
        Command::new("node").arg(node_client().join(script)),
    )
}

/// The folder with the client and the scripts.
fn node_client() -> PathBuf {
    // A script finds its packages beside itself, so it goes where they are installed.
    let files = [
        "package.json",
        "package-lock.json",
        "clients.mjs",
        "backoff.mjs",
    ];
    let texts = files.map(|file| fs::read_to_string(cases("node").join(file)).unwrap());
    installed::installed("node", &texts.concat(), |folder| {
        for (file, text) in files.iter().zip(&texts) {
            fs::write(folder.join(file), text).unwrap();
        }
        let arguments = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
        installed::run(Command::new("npm").args(arguments).current_dir(folder));
    })
}

/// Runs the script: it ends well, and has said `ok` for every case.
fn all_well(gateway: &Gateway, script: &mut Command, count: usize) {
    let told = told(gateway, script);
    let well = told.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(count > 20, "the cases weren't found");
    assert_eq!(well, count, "{told}");
}

/// Runs the script, which ends well, and gives what it said.
fn told(gateway: &Gateway, script: &mut Command) -> String {
    let output = script
        .env("TOLLGATE_URL", &gateway.url)
        .env("TOLLGATE_KEY", KEY)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|error| panic!("{script:?}: {error}"));
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{errors}");
    told.into_owned()
}

fn cases(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(language)
}

async fn simulator() -> Handle {
    let options = Options {
        api_key: Some(BACKEND_KEY.to_owned()),
        ..Options::default()
    };
    Simulator::start(options).await.unwrap()
}

fn azure_openai(simulator: &Handle) -> String {
    format!(
        "url = \"{}\"\nschema = \"azure-openai\"\nauth = {{ api-key = \"{BACKEND_KEY}\" }}",
        simulator.url()
    )
}

fn openai(simulator: &Handle) -> String {
    format!(
        "url = \"{}/v1\"\nschema = \"openai\"\nauth = {{ bearer = \"{BACKEND_KEY}\" }}",
        simulator.url()
    )
}

fn config(backend: &str) -> String {
    CONFIG.replace("@BACKEND@", backend).replace("@KEY@", KEY)
}

const KEY: &str = "key-of-the-client-tests";
const BACKEND_KEY: &str = "key-of-the-simulator";
const CONFIG: &str = r#"
[server]
listen = "@LISTEN@"
admin = "@ADMIN@"

[apis.azure-openai]
path = "/openai"
schema = "azure-openai"
models = { "gpt-*" = "all", "text-embedding-*" = "all", "whisper-1" = "all" }
default-pool = "all"

[apis.openai]
path = "/v1"
schema = "openai"
models = { "gpt-*" = "all", "text-embedding-*" = "all", "whisper-1" = "all" }
default-pool = "all"

[products.tests]
models = ["gpt-4o", "gpt-3.5-turbo-instruct", "text-embedding-3-small", "whisper-1"]

[subscriptions.tests]
product = "tests"
keys = ["@KEY@"]

[backends.simulator]
@BACKEND@

[pools.all]
members = [{ backend = "simulator" }]

[[token-metric]]
namespace = "tests"
dimensions = [{ name = "subscription_id" }, { name = "model" }]
"#;
const LIMIT: &str = r#"
[[token-limit]]
name = "slow"
counter-key = 'request.headers["x-stainless-lang"]'
tokens-per-minute = 600
"#;
