//! What the manual tells to type is typed here, by a shell, in a folder that holds what it speaks of. What can't be, since it
//! wants a cluster, root or half an hour, says what tries it instead. A block that is neither fails this test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

#[path = "support/pages.rs"]
mod pages;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pages::{Block, blocks, repository};
use support::backend::Backend;
use support::gateway::{Gateway, free_address};
use support::plain;
use support::wait_until;

/// What becomes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    /// It is typed; this must be in what it prints, or in the files that it makes.
    Typed(&'static str),
    /// It isn't a command, but what something prints or holds.
    Shown,
    /// Something else tries it.
    Elsewhere(&'static str),
}
use Tried::{Elsewhere, Shown, Typed};

/// Page, how the block begins, and what becomes of it.
#[rustfmt::skip]
const BLOCKS: [(&str, &str, Tried); 31] = [
    ("README.md", "make run", Elsewhere("clients.rs types README; .ci/run makes the tests")),
    ("README.md", "curl -s 'http", Elsewhere("clients.rs")),
    ("README.md", "curl -sN http", Elsewhere("clients.rs")),
    ("README.md", "data: {", Shown),
    ("README.md", "This is a simulated", Shown),
    ("README.md", "curl -s http://127.0.0.1:9090", Elsewhere("clients.rs")),
    ("README.md", "# TYPE", Shown),
    ("README.md", "curl -s http://127.0.0.1:8080", Elsewhere("clients.rs")),
    ("README.md", "tollgate check", Typed("sha256")),
    ("README.md", "tollgate.toml:4:18", Shown),
    ("docs/chargeback.md", "tollgate usage report", Typed("<html")),
    ("docs/chargeback.md", "tollgate usage simulate", Typed("refused")),
    ("docs/configuration.md", "tollgate.toml:14:17", Shown),
    ("docs/configuration.md", "#:schema", Shown),
    ("docs/first-hour.md", "make run", Elsewhere("clients.rs starts scripts/quickstart, as make run does")),
    ("docs/first-hour.md", "export AZURE", Typed("[backends.")),
    ("docs/first-hour.md", "tollgate check", Typed("listeners:")),
    ("docs/first-hour.md", "tollgate usage report", Typed("team-a")),
    ("docs/import.md", "tollgate import azure-openai", Typed("tokens-per-minute = 20000")),
    ("docs/import.md", "tollgate import apim-policy", Typed("[[token-limit]]")),
    ("docs/operating.md", "scripts/image", Elsewhere("scripts/check-image and scripts/check-k8s; kind needs a cluster")),
    ("docs/operating.md", "install -m", Elsewhere("upgrade.rs sends USR2 and starts with --upgrade; systemd isn't in a container")),
    ("docs/operating.md", "{ printf", Typed("  groups:")),
    ("docs/operating.md", "rules:", Shown),
    ("docs/runbooks.md", "kubectl -n tollgate", Typed("\"backends\"")),
    ("docs/semantic-cache.md", "scripts/query-engine", Elsewhere("semantic_cache_redis.rs starts the same engine; a bench takes minutes")),
    ("docs/semantic-cache.md", "cargo build", Elsewhere("make embeddings, in CI")),
    ("docs/usage.md", "{\"time\"", Shown),
    ("docs/usage.md", "redis-cli", Typed("team-a")),
    ("docs/usage.md", "tollgate usage report", Typed("<html")),
    ("labs/README.md", "labs/run", Typed("token-rate-limiting")),
];

#[test]
fn every_block_of_the_manual_is_typed_or_tried_elsewhere() {
    let world = World::start();
    let mut typed = 0;
    for block in blocks(&["", "sh"]) {
        let place = format!("{}:{}", block.page, block.line);
        let found = BLOCKS
            .iter()
            .find(|(page, begins, _)| *page == block.page && block.text.starts_with(begins));
        let Some((.., tried)) = found else {
            panic!("{place} isn't tried: say how in BLOCKS\n{}", block.text);
        };
        match tried {
            Shown | Elsewhere(_) => {}
            Typed(wanted) => {
                world.types(&block, wanted);
                typed += 1;
            }
        }
    }
    assert!(typed >= 12, "{typed}");
}

/// Where the manual's commands find what they speak of.
struct World {
    folder: tempfile::TempDir,
    gateway: Gateway,
    endpoint: Backend,
    redis: Redis,
}

impl World {
    fn start() -> World {
        let list =
            r#"{"object":"list","data":[{"id":"chat","model":"gpt-4o","status":"succeeded"}]}"#;
        let endpoint = Backend::fixed(200, &[("content-type", "application/json")], list);
        let gateway = Gateway::start(&plain::config("", &plain::openai(&endpoint.url)));
        let folder = tempfile::tempdir().unwrap();
        let root = repository();
        let conf = |name: &str| fs::read_to_string(root.join("conf").join(name)).unwrap();
        let written = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        written("prices.toml", &conf("prices.example.toml"));
        written("conf/prices.example.toml", &conf("prices.example.toml"));
        written("tollgate.toml", &conf("minimal.toml"));
        written("new.toml", NEW);
        written(
            "usage/usage-2026-11-20T13-1.jsonl",
            &format!("{RECORD}\n{RECORD}\n"),
        );
        written("openai-2024-10-21.yaml", SPEC);
        written("policy.xml", POLICY);
        written("backends.json", BACKENDS);
        for name in ["prometheus", "labs", "scripts"] {
            std::os::unix::fs::symlink(root.join(name), folder.path().join(name)).unwrap();
        }
        // There is no cluster: what would be sent to it is shown.
        written(
            "bin/kubectl",
            "#!/bin/sh\ncase \"$*\" in *apply*) cat;; esac\n",
        );
        let binary = Path::new(env!("CARGO_BIN_EXE_tollgate"));
        std::os::unix::fs::symlink(binary, folder.path().join("bin/tollgate")).unwrap();
        let mut chmod = Command::new("chmod");
        let made = chmod
            .arg("+x")
            .arg(folder.path().join("bin/kubectl"))
            .status();
        assert!(made.unwrap().success());
        let redis = Redis::start();
        assert!(redis.asks(&["XADD", "tollgate:usage", "*", "record", RECORD]));
        World {
            folder,
            gateway,
            endpoint,
            redis,
        }
    }

    /// Types a block, with this world's addresses in the place of the manual's.
    fn types(&self, block: &Block, wanted: &str) {
        let admin = &self.gateway.admin_url["http://".len()..];
        let text = block
            .text
            .replace("/var/lib/tollgate/usage", "usage")
            .replace("https://contoso.openai.azure.com", &self.endpoint.url)
            .replace("127.0.0.1:9090", admin)
            .replace("=...", "=key-of-the-resource")
            .replace("redis-cli ", &format!("redis-cli -p {} ", self.redis.port));
        // What goes on until it is stopped, or takes minutes, is tried by tests of its own.
        let is_long = |line: &&str| {
            line.starts_with("tollgate run")
                || line.starts_with("labs/run") && !line.contains("--list")
        };
        let text: Vec<&str> = text.lines().filter(|line| !is_long(line)).collect();
        let before = self.files();
        let mut shell = Command::new("bash");
        let path = format!(
            "{}/bin:{}",
            self.folder.path().display(),
            std::env::var("PATH").unwrap()
        );
        let output = shell
            .args(["-euo", "pipefail", "-c", &text.join("\n")])
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("AZURE_OPENAI_API_KEY", "key-of-the-resource")
            .env("TOLLGATE_KEY", "key-of-the-caller")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let place = format!("{}:{}", block.page, block.line);
        let (printed, errors) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "{place}\n{}\n{printed}\n{errors}",
            block.text
        );
        let mut made = printed.into_owned();
        for (name, text) in self.files() {
            if !before.contains(&(name, text.clone())) {
                made.push_str(&text);
            }
        }
        assert!(
            made.contains(wanted),
            "{place} says nothing of {wanted:?}:\n{made}\n{errors}"
        );
    }

    fn files(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let files = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file());
        let read = |path: std::path::PathBuf| {
            (
                path.display().to_string(),
                fs::read_to_string(&path).unwrap(),
            )
        };
        files.map(read).collect()
    }
}

struct Redis {
    port: String,
    process: Child,
}

impl Redis {
    fn start() -> Redis {
        let address = free_address();
        let port = address.rsplit(':').next().unwrap().to_owned();
        let process = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", ""])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed (Debian: redis)");
        let redis = Redis { port, process };
        wait_until("Redis answers", || redis.asks(&["PING"]).then_some(()));
        redis
    }

    fn asks(&self, words: &[&str]) -> bool {
        let mut client = Command::new("redis-cli");
        let answer = client
            .args(["-p", &self.port])
            .args(words)
            .output()
            .unwrap();
        answer.status.success() && !answer.stdout.is_empty()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const RECORD: &str = r#"{"time":"2026-11-20T13:05:09.123Z","request_id":"1","subscription":"team-a","model":"gpt-4o","status":200,"prompt_tokens":100,"completion_tokens":8,"total_tokens":108,"api":"openai","operation":"chat-completions","attributes":{"cost-center":"4711"}}"#;

const NEW: &str = r#"
[server]
listen = "127.0.0.1:8080"
admin = "127.0.0.1:9090"

[apis.openai]
path = "/v1"
schema = "openai"
models = { "*" = "all" }

[subscriptions.team-a]
keys = [{ sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" }]

[backends.only]
url = "http://127.0.0.1:1/v1"
auth = "none"

[pools.all]
members = [{ backend = "only" }]

[[token-limit]]
name = "minute"
counter-key = 'subscription.id'
tokens-per-minute = 100
"#;

const SPEC: &str = "openapi: 3.0.0
info: {title: Small, version: '2024-10-21'}
servers: [{url: 'https://{endpoint}/openai'}]
paths:
  /deployments/{deployment-id}/chat/completions:
    post: {operationId: ChatCompletions_Create}
  /deployments/{deployment-id}/embeddings:
    post: {operationId: embeddings_create}
";

const POLICY: &str = r#"<policies><inbound>
  <set-backend-service backend-id="chat" />
  <azure-openai-token-limit counter-key="@(context.Subscription.Id)" tokens-per-minute="1000" estimate-prompt-tokens="false" />
</inbound></policies>"#;

const BACKENDS: &str = r#"{ "resources": [
  { "type": "Microsoft.ApiManagement/service/backends", "name": "x/chat",
    "properties": { "url": "https://uks.openai.azure.com/openai", "protocol": "http" } } ] }"#;
