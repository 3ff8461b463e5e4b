//! The commands as a user runs them: exit status, what stands on which output, and where the configuration comes from.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::net::TcpListener;

use support::backend::Backend;
use support::command::{Finished, run, tollgate};
use support::gateway::{Gateway, free_address};
use support::http;

const BASE: &str = r#"[apis.openai]
path = "/v1"
schema = "openai"
models = { "*" = "main" }

[pools.main]
members = [{ backend = "one" }]

[backends.one]
url = "http://127.0.0.1:9"
auth = "none"

[subscriptions.me]
keys = ["key-of-me"]

"#;

#[test]
fn a_wrong_configuration_ends_with_2_and_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    let text = BASE.replace("auth = \"none\"", "auht = \"none\"");
    std::fs::write(&file, &text).unwrap();
    let path = file.to_str().unwrap();
    for command in ["run", "check"] {
        let finished = run(&[command, "--config", path], "");
        assert_eq!(finished.status, Some(2), "{finished:?}");
        let place = format!("{path}:11:1: ");
        assert!(finished.stderr.starts_with(&place), "{finished:?}");
        assert!(
            finished.stderr.contains("did you mean \"auth\"?"),
            "{finished:?}"
        );
        assert_eq!(finished.stdout, "");
        assert_eq!(
            finished.stderr.trim_end().lines().count(),
            1,
            "{finished:?}"
        );
    }
}

#[test]
fn every_mistake_is_told_at_once_in_the_order_of_the_file() {
    let text = BASE
        .replace("schema = \"openai\"", "schema = \"opneai\"")
        .replace("backend = \"one\"", "backend = \"onee\"");
    let finished = run(&["run", "--config", "-"], &text);
    assert_eq!(finished.status, Some(2));
    let lines: Vec<_> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{finished:?}");
    assert!(lines[0].starts_with("stdin:3:"), "{finished:?}");
    assert!(lines[1].starts_with("stdin:7:"), "{finished:?}");
}

#[test]
fn a_file_that_is_not_there_or_no_text_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.toml");
    let missing = missing.to_str().unwrap();
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
    for path in [
        missing,
        binary.to_str().unwrap(),
        folder.path().to_str().unwrap(),
    ] {
        for command in ["run", "check"] {
            let finished = run(&[command, "--config", path], "");
            assert_eq!(finished.status, Some(2), "{finished:?}");
            assert!(finished.stderr.contains(path), "{finished:?}");
        }
    }
}

#[test]
fn wrong_arguments_end_with_2() {
    for arguments in [
        &[][..],
        &["run"],
        &["check"],
        &["walk"],
        &["key"],
        &["run", "--config"],
        &["run", "--config", "-", "--log-format", "xml"],
        &["run", "--config", "-", "--unknown"],
    ] {
        let finished = run(arguments, BASE);
        assert_eq!(finished.status, Some(2), "{arguments:?}: {finished:?}");
        assert!(!finished.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn what_this_binary_was_built_without_is_refused_by_name() {
    let text = format!(
        "{BASE}[[semantic-cache]]\nname = \"answers\"\nembeddings = {{ local = \"all-minilm-l6-v2\", path = \"/nowhere\" }}\n"
    );
    for command in ["run", "check"] {
        let finished = run(&[command, "--config", "-"], &text);
        assert_eq!(finished.status, Some(2), "{command}: {finished:?}");
        let named = "[[semantic-cache]] \"answers\": embeddings = { local = \"all-minilm-l6-v2\" }";
        assert!(finished.stderr.contains(named), "{command}: {finished:?}");
    }
}

#[test]
fn a_taken_port_ends_with_1_and_says_which() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for key in ["listen", "admin"] {
        let other = if key == "listen" { "admin" } else { "listen" };
        let free = free_address();
        let text = format!("{BASE}[server]\n{key} = \"{taken}\"\n{other} = \"{free}\"\n");
        let held = TcpListener::bind(&taken);
        let finished = run(&["run", "--config", "-"], &text);
        drop(held);
        assert_eq!(finished.status, Some(1), "{finished:?}");
        let last = finished.stderr.lines().last().unwrap();
        assert!(
            last.starts_with("tollgate: ") && last.contains(&taken),
            "{last}"
        );
    }
}

#[test]
fn check_prints_what_would_run_and_binds_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!(
        "{BASE}[server]\nlisten = \"{address}\"\nadmin = \"{}\"\n",
        free_address()
    );
    let finished = run(&["check", "--config", "-"], &text);
    assert_eq!(finished.status, Some(0), "{finished:?}");
    for wanted in ["/v1", "main", "one", &address.to_string()] {
        assert!(finished.stdout.contains(wanted), "{wanted}: {finished:?}");
    }
    assert!(
        !format!("{finished:?}").contains("key-of-me"),
        "{finished:?}"
    );
}

#[test]
fn the_configuration_may_be_named_by_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tollgate.toml");
    std::fs::write(&file, BASE).unwrap();
    let checked = tollgate()
        .arg("check")
        .env("TOLLGATE_CONFIG", &file)
        .output();
    assert!(checked.unwrap().status.success());
    // An argument goes before it.
    let mut command = tollgate();
    command
        .env("TOLLGATE_CONFIG", "/nowhere.toml")
        .args(["check", "--config"]);
    assert!(command.arg(&file).output().unwrap().status.success());
}

#[test]
fn standard_input_is_a_configuration_that_runs() {
    use std::io::Write;
    use std::process::Stdio;
    let (listen, admin) = (free_address(), free_address());
    let text = format!("{BASE}[server]\nlisten = \"{listen}\"\nadmin = \"{admin}\"\nthreads = 1\n");
    let mut child = tollgate()
        .args(["run", "--config", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let ready = format!("http://{admin}/readyz");
    support::wait_until("it is ready", || {
        assert_eq!(child.try_wait().unwrap(), None, "it ended");
        http::try_get(&ready)
            .ok()
            .filter(|answer| answer.status == 200)
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_new_key_works_where_its_entry_stands() {
    let finished = run(&["key", "new"], "");
    assert_eq!((finished.status, finished.stderr.as_str()), (Some(0), ""));
    let lines: Vec<_> = finished.stdout.lines().map(str::trim).collect();
    let key = lines.iter().find(|line| line.starts_with("tg-")).unwrap();
    let entry = lines
        .iter()
        .find(|line| line.starts_with("keys = "))
        .unwrap();
    assert!(key.len() >= 40 && !entry.contains(key), "{finished:?}");

    let json = [("content-type", "application/json")];
    let backend = Backend::fixed(200, &json, "{\"choices\":[]}");
    let text = BASE
        .replace("keys = [\"key-of-me\"]", entry)
        .replace("http://127.0.0.1:9", &backend.url);
    let gateway = Gateway::start(&format!(
        "{text}[server]\nlisten = \"@LISTEN@\"\nadmin = \"@ADMIN@\"\nthreads = 1\n"
    ));
    let url = format!("{}/v1/chat/completions", gateway.url);
    let body = r#"{"model":"m","messages":[{"role":"user","content":"Hi"}]}"#;
    assert_eq!(http::post(&url, &[("api-key", key)], body).status, 200);
    let hash = entry.split('"').nth(1).unwrap();
    for wrong in [hash, &key[..key.len() - 1], &key.to_uppercase()] {
        assert_eq!(
            http::post(&url, &[("api-key", wrong)], body).status,
            401,
            "{wrong}"
        );
    }
    let again: Finished = run(&["key", "new"], "");
    assert_ne!(again.stdout, finished.stdout);
}

#[test]
fn the_version_names_the_commit() {
    let finished = run(&["--version"], "");
    assert_eq!(finished.status, Some(0));
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        finished
            .stdout
            .starts_with(&format!("tollgate {version} (")),
        "{finished:?}"
    );
}

#[test]
fn a_log_filter_that_cannot_be_read_is_told_and_stops_nothing() {
    let text = format!("{BASE}[server]\nlisten = \"@LISTEN@\"\nadmin = \"@ADMIN@\"\nthreads = 1\n");
    let gateway = Gateway::start_with(&text, &[("TOLLGATE_LOG", "a=b=c=[")]);
    gateway.wait_for_log("TOLLGATE_LOG");
}
