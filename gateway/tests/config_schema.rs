//! Holds what `tollgate config-schema` prints, by which editors help, to what the reader takes: every good file fits it, and a
//! key that isn't there doesn't.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

#[path = "support/python.rs"]
mod python;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gateway::config::file::known_keys;
use serde_json::{Value, json};

#[test]
fn every_file_that_loads_fits_the_schema() {
    let folders = ["conf", "conf/examples"];
    let mut files: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| toml_files(folder))
        .collect();
    files.retain(|file| !file.ends_with("prices.example.toml"));
    assert!(files.len() > 3);
    let mut cases = vec![("every key".to_owned(), value(&everything()))];
    let case = |file: &PathBuf| {
        (
            file.display().to_string(),
            value(&fs::read_to_string(file).unwrap()),
        )
    };
    cases.extend(files.iter().map(case));
    for said in judged(&cases) {
        assert!(said.starts_with("fits "), "{said}");
    }
}

#[test]
fn a_key_that_is_not_there_does_not_fit_in_any_table() {
    let whole = value(&everything());
    let mut cases = Vec::new();
    each_table(&whole, &mut Vec::new(), &mut |path| {
        let mut changed = whole.clone();
        let table = path.iter().fold(&mut changed, |value, step| match step {
            Step::Key(key) => &mut value[key.as_str()],
            Step::Element(at) => &mut value[*at],
        });
        table
            .as_object_mut()
            .unwrap()
            .insert("zzz".to_owned(), Value::from(1));
        cases.push((format!("{path:?}"), changed));
    });
    assert!(cases.len() > 40, "{}", cases.len());
    for said in judged(&cases) {
        assert!(said.starts_with("fails "), "{said}");
    }
}

#[test]
fn values_that_the_reader_refuses_by_themselves_do_not_fit() {
    let refused = [
        "unknown key",
        "expected a whole number",
        "expected true or false",
        "expected text",
        "expected a table",
        "expected an array",
    ];
    let mut cases = Vec::new();
    for file in toml_files("conf/errors") {
        let text = fs::read_to_string(&file).unwrap();
        let expected = fs::read_to_string(file.with_extension("expected")).unwrap();
        if refused.iter().any(|said| expected.contains(said))
            && let Ok(table) = text.parse::<toml::Table>()
        {
            cases.push((
                file.display().to_string(),
                serde_json::to_value(table).unwrap(),
            ));
        }
    }
    assert!(cases.len() > 8, "{}", cases.len());
    for said in judged(&cases) {
        assert!(said.starts_with("fails "), "{said}");
    }
}

#[test]
fn every_key_has_a_description() {
    let schema = schema().to_string();
    let described = schema.matches("\"description\":").count();
    // A key whose value may be of several kinds is described once.
    assert_eq!(described, known_keys().len());
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn schema() -> Value {
    let printed = support::command::run(&["config-schema"], "");
    serde_json::from_str(&printed.stdout).unwrap()
}

/// What the validator says of each value.
fn judged(cases: &[(String, Value)]) -> Vec<String> {
    let folder = repository().join("gateway/tests/config_schema");
    let schema = tempfile::NamedTempFile::new().unwrap();
    fs::write(schema.path(), self::schema().to_string()).unwrap();
    let mut child = Command::new(python::with("jsonschema", &folder.join("requirements.txt")))
        .arg(folder.join("validate.py"))
        .arg(schema.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for (name, value) in cases {
        writeln!(input, "{}", json!({"name": name, "value": value})).unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(said.len(), cases.len(), "{said:#?}");
    said
}

fn toml_files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join(folder)).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect()
}

fn everything() -> String {
    let text = fs::read_to_string(repository().join("conf/tollgate.toml")).unwrap();
    text.replace("# optional: ", "").replace("# later: ", "")
}

fn value(text: &str) -> Value {
    serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Element(usize),
}

/// Calls `see` with the way to each table whose keys are known; those with free names hold tables or texts.
fn each_table(value: &Value, path: &mut Vec<Step>, see: &mut dyn FnMut(&[Step])) {
    let named = [
        "apis",
        "products",
        "subscriptions",
        "backends",
        "pools",
        "models",
        "attributes",
        "required-claims",
    ];
    match value {
        Value::Object(entries) => {
            let is_named =
                matches!(path.last(), Some(Step::Key(key)) if named.contains(&key.as_str()));
            if !is_named {
                see(path);
            }
            for (key, value) in entries {
                path.push(Step::Key(key.clone()));
                each_table(value, path, see);
                path.pop();
            }
        }
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                path.push(Step::Element(at));
                each_table(value, path, see);
                path.pop();
            }
        }
        _ => {}
    }
}
