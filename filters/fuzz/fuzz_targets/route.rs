//! Any path is read without a panic, and what is sent on has no part that another server could read otherwise.

#![no_main]

use filters::route::{Schema, Target, read, upstream};
use libfuzzer_sys::fuzz_target;

const SCHEMAS: [Schema; 3] = [
    Schema::AzureOpenAi,
    Schema::OpenAi,
    Schema::AzureAiInference,
];

fuzz_target!(|text: &str| {
    let mut parts = text.splitn(3, '\n');
    let (path, query) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    for schema in SCHEMAS {
        for method in ["GET", "POST"] {
            let Ok(call) = read(schema, method, path, query) else {
                continue;
            };
            for backend in SCHEMAS {
                let target = Target {
                    caller: schema,
                    backend,
                    base_path: "/base",
                    model: Some("m"),
                    api_version: None,
                    default_api_version: "2024-10-21",
                };
                let sent = upstream(&call, &target).path_and_query;
                let path = sent.split('?').next().unwrap_or("");
                assert!(path.starts_with("/base"), "{sent:?}");
                // The name of a model may hold a slash that is escaped, which some servers take for one.
                let plain = path.to_ascii_lowercase().replace("%2f", "/");
                let odd = plain.split('/').any(|part| matches!(part, "." | ".." | "%2e" | "%2e%2e"));
                assert!(!odd && !path.contains(['\r', '\n', ' ', '\\']), "{sent:?}");
            }
        }
    }
});
