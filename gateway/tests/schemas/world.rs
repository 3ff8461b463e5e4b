//! A gateway with an API and a backend for every pair of schemas, and what the backend's side has to look like.

use load_tests::simulator::{Handle, Record, Simulator};

use crate::support::gateway::Gateway;
use crate::support::http::{self, Answer};

pub const KEY: &str = "the-callers-key";
pub const BACKEND_KEY: &str = "the-backends-key";
pub const SCHEMAS: [&str; 3] = ["azure-openai", "openai", "azure-ai-inference"];

/// A gateway with an API and a backend of every schema, and a simulator behind all of them.
pub struct World {
    pub simulator: Handle,
    pub gateway: Gateway,
}

impl World {
    pub async fn start() -> World {
        let simulator = Simulator::start_default().await.unwrap();
        let gateway = Gateway::start(&config(&simulator.url()));
        World { simulator, gateway }
    }

    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut all = vec![
            ("ocp-apim-subscription-key", KEY),
            ("authorization", "Bearer something-else"),
            ("cookie", "session=1"),
        ];
        all.extend_from_slice(headers);
        let url = format!("{}{path}", self.gateway.url);
        http::request(method, &url, &all, body.as_bytes()).unwrap()
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.request("POST", path, &[("content-type", "application/json")], body)
    }

    pub fn last(&self) -> Record {
        self.simulator.requests().pop().unwrap()
    }
}

/// An API `/{caller}/{backend}` for every pair, `/versioned` with a backend of its own version, and `/listed`.
pub fn config(simulator: &str) -> String {
    let mut text = format!(
        "[server]\nlisten = \"@LISTEN@\"\nadmin = \"@ADMIN@\"\nthreads = 1\n\
         [subscriptions.caller]\nkeys = [\"{KEY}\"]\n"
    );
    for backend in SCHEMAS {
        let base = if backend == "openai" { "/v1" } else { "" };
        for (model, more) in [("same", ""), ("renamed", "deployment = \"other-name\"\n")] {
            text.push_str(&format!(
                "[pools.{backend}-{model}]\nmembers = [{{ backend = \"{backend}-{model}\" }}]\n\
                 [backends.{backend}-{model}]\nurl = \"{simulator}{base}\"\nschema = \"{backend}\"\n\
                 auth = {{ api-key = \"{BACKEND_KEY}\" }}\n{more}"
            ));
        }
        for caller in SCHEMAS {
            text.push_str(&format!(
                "[apis.{caller}-{backend}]\npath = \"/{caller}/{backend}\"\nschema = \"{caller}\"\n\
                 models = {{ same = \"{backend}-same\", renamed = \"{backend}-renamed\" }}\n\
                 default-pool = \"{backend}-same\"\n"
            ));
        }
    }
    text.push_str(&format!(
        "[pools.versioned]\nmembers = [{{ backend = \"versioned\" }}]\n\
         [backends.versioned]\nurl = \"{simulator}\"\nschema = \"azure-openai\"\n\
         auth = \"none\"\napi-version = \"2024-12-01-preview\"\n\
         [apis.versioned]\npath = \"/versioned\"\nschema = \"azure-openai\"\nmodels = {{ \"*\" = \"versioned\" }}\n\
         [apis.listed]\npath = \"/listed\"\nschema = \"openai\"\noperations = [\"chat-completions\"]\n\
         models = {{ \"*\" = \"openai-same\" }}\ndefault-pool = \"openai-same\"\n"
    ));
    text
}

pub fn text(record: &Record) -> String {
    String::from_utf8(record.body.bytes.to_vec()).unwrap()
}

/// Our key where the schema wants it, and nothing of the caller's.
pub fn credential(sent: &Record, backend: &str, case: &str) {
    let value = |name: &str| sent.headers.get(name).map(|value| value.to_str().unwrap());
    let bearer = format!("Bearer {BACKEND_KEY}");
    let (api_key, authorization) = match backend {
        "openai" => (None, Some(bearer.as_str())),
        _ => (Some(BACKEND_KEY), None),
    };
    assert_eq!(value("api-key"), api_key, "{case}");
    assert_eq!(value("authorization"), authorization, "{case}");
    assert_eq!(value("ocp-apim-subscription-key"), None, "{case}");
    assert_eq!(value("cookie"), None, "{case}");
    assert!(
        !format!("{:?}{}", sent.headers, sent.query).contains(KEY),
        "{case}"
    );
}
