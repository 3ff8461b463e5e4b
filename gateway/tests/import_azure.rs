//! `tollgate import azure-openai`: each real document becomes a file that checks and runs as it is, and each of its
//! operations can be called by its own name. `clients.rs` makes the same calls with the official client.
//!
//! The documents aren't part of this repository: `TOLLGATE_RECORDINGS` names the folder whose `openapi/` holds them. What
//! isn't about a document is tried on a small one of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use load_tests::simulator::{Handle, Options, Simulator};
use support::backend::{After, Backend};
use support::command::{Finished, run, tollgate};
use support::gateway::Gateway;
use support::http;
use support::token_service::{Mode, TokenService};

const SMALL: &str = "openapi: 3.0.0
info: {title: Small, version: '2024-10-21'}
servers: [{url: 'https://{endpoint}/openai'}]
paths:
  /deployments/{deployment-id}/chat/completions:
    post: {operationId: ChatCompletions_Create}
  /files/{file_id}:
    get: {operationId: Files_Get}
";

#[tokio::test(flavor = "multi_thread")]
async fn each_document_becomes_a_gateway_that_serves_its_operations_and_no_other() {
    let Some(documents) = documents() else {
        println!("skipped: TOLLGATE_RECORDINGS names no folder with OpenAPI documents");
        return;
    };
    let simulator = simulator().await;
    let endpoint = simulator.url();
    for document in documents {
        let document = document.to_str().unwrap();
        let imported = import(
            &endpoint,
            &[
                "--spec",
                document,
                "--deployment",
                "chat=gpt-4o",
                "--deployment",
                "small=gpt-4o-mini",
            ],
        );
        assert_eq!(imported.status, Some(0), "{document}: {}", imported.stderr);
        checks(&imported.stdout);
        let operations = operations(&imported.stdout);
        assert!(operations.len() >= 4, "{document}");
        let gateway = start(&imported.stdout);
        let key = key(&imported);
        // The simulator, as the real thing, knows only the responses that it made.
        let mut response = "none-yet".to_owned();
        for (id, method, path) in &operations {
            let path = filled(path, &response);
            let answer = call(&gateway, &key, method, &path);
            assert_eq!(
                answer.status,
                200,
                "{document}: {id} {method} {path}: {}",
                answer.text()
            );
            if path.ends_with("/responses") {
                answer.json()["id"]
                    .as_str()
                    .unwrap()
                    .clone_into(&mut response);
            }
        }
        for (id, ..) in &operations {
            let labels = [("operation", id.as_str()), ("status", "200")];
            let of_id = operations.iter().filter(|(other, ..)| other == id).count();
            gateway.wait_for_metric("tollgate_requests_total", &labels, of_id as f64);
        }
        let base = base(&imported.stdout);
        for (method, path) in [
            ("GET", "/moderations"),
            ("POST", "/videos"),
            ("PUT", "/deployments/chat/chat/completions"),
            ("GET", "/no/such/thing"),
        ] {
            let answer = call(&gateway, &key, method, &format!("{base}{path}"));
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (404, "not_found"),
                "{document}: {method} {path}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn classic_and_v1_can_be_one_gateway() {
    let Some(documents) = documents() else {
        println!("skipped: TOLLGATE_RECORDINGS names no folder with OpenAPI documents");
        return;
    };
    let simulator = simulator().await;
    let mut arguments = Vec::new();
    for document in &documents {
        arguments.extend(["--spec", document.to_str().unwrap()]);
    }
    arguments.extend([
        "--token-limit",
        "100000",
        "--token-metrics",
        "--name",
        "all of it",
    ]);
    let imported = import(&simulator.url(), &arguments);
    checks(&imported.stdout);
    let (gateway, key) = (start(&imported.stdout), key(&imported));
    for path in [
        "/openai/deployments/any/chat/completions",
        "/openai/v1/chat/completions",
        "/models/chat/completions",
    ] {
        let answer = call(&gateway, &key, "POST", path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(
            answer.header("x-ratelimit-remaining-tokens").is_some(),
            "{path}"
        );
    }
    let counted = [("subscription_id", "all of it")];
    assert!(gateway.metric("openai_total_tokens_total", &counted) > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_goes_to_its_deployment_by_either_name() {
    let simulator = simulator().await;
    let spec = spec();
    let spec = spec.path().to_str().unwrap();
    let imported = import(
        &simulator.url(),
        &["--spec", spec, "--deployment", "chat-prod=gpt-4o"],
    );
    let (gateway, key) = (start(&imported.stdout), key(&imported));
    for name in ["chat-prod", "gpt-4o"] {
        simulator.clear();
        let answer = call(
            &gateway,
            &key,
            "POST",
            &format!("/openai/deployments/{name}/chat/completions"),
        );
        assert_eq!(answer.status, 200);
        assert!(
            simulator.requests()[0]
                .path
                .contains("/deployments/chat-prod/")
        );
    }
    let other = call(
        &gateway,
        &key,
        "POST",
        "/openai/deployments/gpt-5/chat/completions",
    );
    assert_eq!(
        (other.status, other.code().as_str()),
        (404, "DeploymentNotFound")
    );
    let without_key = call(&gateway, "wrong", "GET", "/openai/files/f");
    assert_eq!(without_key.status, 401);
}

#[test]
fn a_managed_identity_is_checked_run_and_shown_to_the_endpoint() {
    let service = TokenService::start(Mode::Well(3600));
    let knows = service.clone();
    let backend = Backend::start(move |request, stream| {
        let shown = request.header("authorization").unwrap_or_default();
        let status = if knows.knows(shown) { 200 } else { 401 };
        let head = "content-type: application/json\r\ncontent-length: 2";
        write!(stream, "HTTP/1.1 {status} Status\r\n{head}\r\n\r\n{{}}")?;
        Ok(After::Keep)
    });
    let spec = spec();
    for more in [&[][..], &["--client-id", "user-assigned-id"]] {
        let arguments = [
            &[
                "--spec",
                spec.path().to_str().unwrap(),
                "--managed-identity",
            ][..],
            &["--deployment", "chat=gpt-4o", "--token-limit", "100000"],
            more,
        ];
        let imported = import(&backend.url, &arguments.concat());
        checks(&imported.stdout);
        let config = format!(
            "server = {{ listen = \"@LISTEN@\", admin = \"@ADMIN@\" }}\n{}",
            imported.stdout
        );
        let asked = service.received().len();
        let variable = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", service.url.as_str());
        let gateway = Gateway::start_with(&config, &[variable]);
        let path = format!(
            "{}/deployments/gpt-4o/chat/completions",
            base(&imported.stdout)
        );
        let answer = call(&gateway, &key(&imported), "POST", &path);
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), gateway.log());
        let sent = backend.received().pop().unwrap();
        assert_eq!(
            sent.path(),
            "/openai/deployments/chat/chat/completions?api-version=2024-10-21"
        );
        assert!(sent.header("api-key").is_none());
        let asked = service.received()[asked].path().to_owned();
        assert!(
            asked.contains("resource=https%3A%2F%2Fcognitiveservices.azure.com"),
            "{asked}"
        );
        assert_eq!(
            asked.ends_with("client_id=user-assigned-id"),
            !more.is_empty(),
            "{asked}"
        );
    }
}

#[test]
fn the_key_is_told_once_and_only_its_hash_is_in_the_file() {
    let imported = import("https://contoso.openai.azure.com", &[]);
    let key = key(&imported);
    assert!(!imported.stdout.contains(&key));
    assert_eq!(imported.stderr.matches(&key).count(), 1);
    assert!(imported.stdout.contains("[subscriptions.contoso]"));
    assert!(
        imported.stderr.contains("note: no deployment is named"),
        "{}",
        imported.stderr
    );
    checks(&imported.stdout);
    assert_ne!(
        key,
        self::key(&import("https://contoso.openai.azure.com", &[]))
    );
}

#[test]
fn the_endpoint_is_asked_for_its_deployments_where_there_is_a_key() {
    let (endpoint, asked) = listing(LIST);
    let imported = import_with("AZURE_OPENAI_API_KEY", &endpoint, &[]);
    let asked = asked.join().unwrap();
    assert!(
        asked.starts_with("GET /openai/deployments?api-version=2023-03-15-preview HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(
        asked
            .to_lowercase()
            .contains("\r\napi-key: key-of-the-resource\r\n"),
        "{asked}"
    );
    checks(&imported.stdout);
    for said in [
        "[pools.chat]",
        "deployment = \"chat\"   # gpt-4o\n",
        "\"gpt-4o\" = \"chat\"",
        "[pools.embed]",
    ] {
        assert!(
            imported.stdout.contains(said),
            "{said}\n{}",
            imported.stdout
        );
    }
    assert!(!imported.stdout.contains("unfinished"));
    assert!(!format!("{}{}", imported.stdout, imported.stderr).contains("key-of-the-resource"));
}

#[test]
fn an_endpoint_that_does_not_list_is_no_mistake_unless_the_list_was_asked_for() {
    let refusal = "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
    let (endpoint, asked) = listing(refusal);
    let imported = import_with("OWN_KEY", &endpoint, &["--api-key-env", "OWN_KEY"]);
    asked.join().unwrap();
    assert_eq!(imported.status, Some(0));
    assert!(
        imported
            .stderr
            .contains("couldn't be listed (it answered 404)"),
        "{}",
        imported.stderr
    );
    checks(&imported.stdout);
    let (endpoint, asked) = listing(refusal);
    let imported = import_with("AZURE_OPENAI_API_KEY", &endpoint, &["--list-deployments"]);
    asked.join().unwrap();
    assert_eq!((imported.status, imported.stdout.as_str()), (Some(2), ""));
    assert_eq!(imported.stderr, "--list-deployments: it answered 404\n");
}

#[test]
fn wrong_arguments_are_told_and_nothing_is_printed() {
    let cases = [
        (
            vec!["--endpoint", "contoso"],
            "--endpoint: found \"contoso\", expected a URL such as https://contoso.openai.azure.com\n",
        ),
        (
            vec!["--endpoint", "https://c", "--spec", "/no/such"],
            "can't read \"/no/such\": no such file or directory\n",
        ),
        (
            vec!["--endpoint", "https://c", "--list-deployments"],
            "--list-deployments: there is no key to ask with; set the variable that --api-key-env names\n",
        ),
    ];
    for (arguments, said) in cases {
        let mut all = vec!["import", "azure-openai"];
        all.extend(arguments);
        let finished = run(&all, "");
        assert_eq!((finished.status, finished.stdout.as_str()), (Some(2), ""));
        assert_eq!(finished.stderr, said);
    }
}

fn documents() -> Option<Vec<PathBuf>> {
    let folder = PathBuf::from(std::env::var_os("TOLLGATE_RECORDINGS")?).join("openapi");
    let entries = std::fs::read_dir(folder).ok()?;
    let mut documents: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    documents.sort();
    assert!(documents.len() >= 4);
    Some(documents)
}

async fn simulator() -> Handle {
    Simulator::start(Options {
        api_key: Some("key-of-the-resource".to_owned()),
        ..Options::default()
    })
    .await
    .unwrap()
}

fn spec() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SMALL).unwrap();
    file
}

fn import(endpoint: &str, arguments: &[&str]) -> Finished {
    let mut all = vec!["import", "azure-openai", "--endpoint", endpoint];
    all.extend(arguments);
    run(&all, "")
}

fn import_with(variable: &str, endpoint: &str, arguments: &[&str]) -> Finished {
    let output = tollgate()
        .args(["import", "azure-openai", "--endpoint", endpoint])
        .args(arguments)
        .env(variable, "key-of-the-resource")
        .output()
        .unwrap();
    Finished {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `check` takes it, with nothing to remark.
fn checks(config: &str) {
    let mut child = tollgate()
        .args(["check", "--config", "-"])
        .env("AZURE_OPENAI_API_KEY", "k")
        .env("OWN_KEY", "k")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(config.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (output.status.code(), told.as_ref()),
        (Some(0), ""),
        "{config}"
    );
}

/// Runs it as it is, but for the ports.
fn start(config: &str) -> Gateway {
    let config = format!("server = {{ listen = \"@LISTEN@\", admin = \"@ADMIN@\" }}\n{config}");
    Gateway::start_with(&config, &[("AZURE_OPENAI_API_KEY", "key-of-the-resource")])
}

fn key(imported: &Finished) -> String {
    let line = imported
        .stderr
        .lines()
        .find(|line| line.starts_with("  tg-"));
    line.unwrap_or_else(|| panic!("{}", imported.stderr))
        .trim()
        .to_owned()
}

fn base(config: &str) -> String {
    let table: toml::Table = config.parse().unwrap();
    let apis = table["apis"].as_table().unwrap();
    apis.values().next().unwrap()["path"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Id, method and whole path of each operation that a configuration lists.
fn operations(config: &str) -> Vec<(String, String, String)> {
    let table: toml::Table = config.parse().unwrap();
    let mut all = Vec::new();
    for api in table["apis"].as_table().unwrap().values() {
        for operation in api["operations"].as_array().unwrap() {
            let text = |key: &str| operation[key].as_str().unwrap().to_owned();
            let path = format!("{}{}", api["path"].as_str().unwrap(), text("path"));
            all.push((text("id"), text("method"), path));
        }
    }
    all
}

/// A path with something for each `{name}`.
fn filled(path: &str, response: &str) -> String {
    let segment = |segment: &str| match segment {
        "{response_id}" => response.to_owned(),
        "{deployment-id}" => "chat".to_owned(),
        segment if segment.starts_with('{') => "one-1".to_owned(),
        segment => segment.to_owned(),
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

fn call(gateway: &Gateway, key: &str, method: &str, path: &str) -> http::Answer {
    let url = format!("{}{path}?api-version=2024-10-21", gateway.url);
    let headers = [("api-key", key), ("content-type", "application/json")];
    let body: &[u8] = match (method, path.contains("/audio/")) {
        ("POST", false) => br#"{"model":"chat","messages":[{"role":"user","content":"hi"}],"input":"hi","prompt":"hi"}"#,
        _ => b"",
    };
    if path.contains("/audio/trans") {
        let form = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nchat\r\n--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--b--\r\n";
        let headers = [
            ("api-key", key),
            ("content-type", "multipart/form-data; boundary=b"),
        ];
        return http::request(method, &url, &headers, form.as_bytes()).unwrap();
    }
    let body = if path.contains("/audio/speech") {
        br#"{"model":"chat","input":"hi","voice":"alloy"}"#
    } else {
        body
    };
    http::request(method, &url, &headers, body).unwrap()
}

const LIST: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\
    {\"object\":\"list\",\"data\":[{\"id\":\"chat\",\"model\":\"gpt-4o\",\"status\":\"succeeded\"},\
    {\"id\":\"embed\",\"model\":\"text-embedding-3-small\",\"status\":\"succeeded\"},{\"id\":\"unfinished\",\"model\":\"gpt-4o\",\"status\":\"running\"}]}";

/// A resource that answers one call, and what it was asked.
fn listing(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(head).unwrap()
    });
    (url, asked)
}
