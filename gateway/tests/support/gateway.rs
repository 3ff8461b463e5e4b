//! A gateway as a process of its own, with its configuration in a temporary folder.
//!
//! A process and not a value in this one: signals, exit codes, the log and the memory are then those that an
//! operator sees. Ports are taken below the range that the kernel hands to outgoing connections, and from a
//! place that differs by process, so that tests which run at once don't meet.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::{DEADLINE, command, http, metrics, wait_until};

/// A running gateway. Killed when dropped.
pub struct Gateway {
    /// Where callers go, as `http://127.0.0.1:PORT`.
    pub url: String,
    /// The admin listener, likewise.
    pub admin_url: String,
    /// Where callers go with HTTP/2 from the first byte, likewise, if the configuration says `@H2C@`.
    pub h2c_url: String,
    child: Child,
    log: Arc<Log>,
    file: PathBuf,
    environment: Vec<(String, String)>,
    /// Shared with those that took its place.
    folder: Arc<tempfile::TempDir>,
}

impl Gateway {
    /// Starts a gateway and waits until `/readyz` says 200.
    ///
    /// `@LISTEN@`, `@ADMIN@` and `@H2C@` in the text stand for `ADDRESS:PORT`, free ones; `@FOLDER@` for a folder of its own.
    pub fn start(config_toml: &str) -> Gateway {
        Gateway::start_with(config_toml, &[])
    }

    /// Like [`Gateway::start`], with environment variables for its secrets.
    pub fn start_with(config_toml: &str, environment: &[(&str, &str)]) -> Gateway {
        Gateway::start_as(config_toml, environment, Stdio::inherit)
    }

    fn start_as(config_toml: &str, environment: &[(&str, &str)], output: fn() -> Stdio) -> Gateway {
        let listen = free_address();
        let admin = free_address();
        let h2c = free_address();
        let text = config_toml
            .replace("@LISTEN@", &listen)
            .replace("@ADMIN@", &admin)
            .replace("@H2C@", &h2c);
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let text = text.replace("@FOLDER@", folder.path().to_str().unwrap());
        let file = folder.path().join("tollgate.toml");
        std::fs::write(&file, &text).unwrap();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment: Vec<_> = environment.iter().map(owned).collect();
        let (child, log) = spawn(&file, &environment, &[], output());
        let mut gateway = Gateway {
            url: format!("http://{listen}"),
            admin_url: format!("http://{admin}"),
            h2c_url: format!("http://{h2c}"),
            child,
            log,
            file,
            environment,
            folder,
        };
        gateway.wait_until_ready(&text);
        gateway
    }

    /// Like [`Gateway::start`], with its standard output going into a pipe that nobody reads.
    pub fn start_unread(config_toml: &str) -> (Gateway, std::process::ChildStdout) {
        let mut gateway = Gateway::start_as(config_toml, &[], Stdio::piped);
        let output = gateway.child.stdout.take().unwrap();
        (gateway, output)
    }

    /// Starts another process with the same file, which takes this one's place; waits until it has.
    pub fn upgrade(&self) -> Gateway {
        let next = self.try_upgrade();
        next.wait_for_log("the former process leaves");
        next
    }

    /// Likewise, without waiting.
    pub fn try_upgrade(&self) -> Gateway {
        let (child, log) = spawn(
            &self.file,
            &self.environment,
            &["--upgrade"],
            Stdio::inherit(),
        );
        Gateway {
            url: self.url.clone(),
            admin_url: self.admin_url.clone(),
            h2c_url: self.h2c_url.clone(),
            child,
            log,
            file: self.file.clone(),
            environment: self.environment.clone(),
            folder: self.folder.clone(),
        }
    }

    /// Stops it and starts it again, with the same file at the same addresses.
    pub fn restart(self) -> Gateway {
        let (file, environment) = (self.file.clone(), self.environment.clone());
        let (url, admin_url, h2c_url) = (
            self.url.clone(),
            self.admin_url.clone(),
            self.h2c_url.clone(),
        );
        let folder = self.folder.clone();
        assert!(self.stop().success());
        let (child, log) = spawn(&file, &environment, &[], Stdio::inherit());
        let mut gateway = Gateway {
            url,
            admin_url,
            h2c_url,
            child,
            log,
            file,
            environment,
            folder,
        };
        gateway.wait_until_ready("the file of before");
        gateway
    }

    /// What `@FOLDER@` stands for.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The same, to be looked into when the gateway has ended.
    pub fn shared_folder(&self) -> Arc<tempfile::TempDir> {
        self.folder.clone()
    }

    /// Its configuration.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has written to its log so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until its log holds this text.
    pub fn wait_for_log(&self, text: &str) {
        self.log.wait_for(text);
    }

    /// The page that Prometheus would read.
    pub fn metrics(&self) -> String {
        http::get(&format!("{}/metrics", self.admin_url)).text()
    }

    /// The sum of the samples of `name` that carry all these labels; 0 where there is none.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        metrics::sum(&self.metrics(), name, labels)
    }

    /// Waits until [`Gateway::metric`] is `value`: what is accounted after the answer has left is seen a little later.
    pub fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut last = f64::NAN;
        let deadline = std::time::Instant::now() + DEADLINE;
        while std::time::Instant::now() < deadline {
            last = self.metric(name, labels);
            if last == value {
                return;
            }
            std::thread::sleep(super::PAUSE);
        }
        panic!(
            "{name}{labels:?} is {last} and never became {value}:\n{}",
            self.metrics()
        );
    }

    /// Puts another configuration in the place of the one it was started with; it is read at the next SIGHUP.
    pub fn rewrite(&self, config_toml: &str) {
        let text = config_toml
            .replace("@LISTEN@", &self.url["http://".len()..])
            .replace("@ADMIN@", &self.admin_url["http://".len()..])
            .replace("@H2C@", &self.h2c_url["http://".len()..])
            .replace("@FOLDER@", self.folder.path().to_str().unwrap());
        std::fs::write(&self.file, text).unwrap();
    }

    /// Sends a signal by its name, as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = std::process::Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.pid())])
            .status()
            .unwrap();
        assert!(sent.success(), "no process to send {name} to");
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    pub fn stop(self) -> ExitStatus {
        self.signal("TERM");
        self.ended()
    }

    /// Waits for its end, which something else brings about.
    pub fn ended(mut self) -> ExitStatus {
        wait_until("the gateway ends", || self.child.try_wait().unwrap())
    }

    fn wait_until_ready(&mut self, config: &str) {
        let ready = format!("{}/readyz", self.admin_url);
        wait_until("the gateway is ready", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.log.wait_for_end();
                panic!(
                    "the gateway ended ({status}) before it was ready\n--- log\n{}\n--- configuration\n{config}",
                    self.log()
                );
            }
            let answer = http::try_get(&ready).ok()?;
            (answer.status == 200).then_some(())
        });
    }
}

fn spawn(
    file: &Path,
    environment: &[(String, String)],
    arguments: &[&str],
    output: Stdio,
) -> (Child, Arc<Log>) {
    let mut child = command::tollgate()
        .args(["run", "--log-format", "json", "--config"])
        .arg(file)
        .args(arguments)
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::piped())
        .spawn()
        .expect("tollgate starts");
    let log = Log::follow(&mut child);
    (child, log)
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the gateway at {}\n{}", self.url, self.log());
        }
    }
}

/// What the process writes to standard error, followed by a thread that ends with it.
#[derive(Default)]
struct Log {
    written: Mutex<Written>,
    grown: Condvar,
}

#[derive(Default)]
struct Written {
    text: String,
    ended: bool,
}

impl Log {
    fn follow(child: &mut Child) -> Arc<Log> {
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Log::default());
        let writer = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut written = writer.written.lock().unwrap();
                written.text.push_str(&line);
                written.text.push('\n');
                writer.grown.notify_all();
            }
            writer.written.lock().unwrap().ended = true;
            writer.grown.notify_all();
        });
        log
    }

    fn text(&self) -> String {
        self.written.lock().unwrap().text.clone()
    }

    fn wait_for(&self, wanted: &str) {
        let waiting = |written: &mut Written| !written.ended && !written.text.contains(wanted);
        let written = self.written.lock().unwrap();
        let waited = self.grown.wait_timeout_while(written, DEADLINE, waiting);
        let text = &waited.unwrap().0.text;
        assert!(
            text.contains(wanted),
            "the log never said {wanted:?}:\n{text}"
        );
    }

    fn wait_for_end(&self) {
        let written = self.written.lock().unwrap();
        let waiting = |written: &mut Written| !written.ended;
        drop(self.grown.wait_timeout_while(written, DEADLINE, waiting));
    }
}

/// An address on loopback that nobody listens on.
pub fn free_address() -> String {
    let start = (std::process::id() % PORTS_OF_TESTS as u32) as u16;
    for _ in 0..PORTS_OF_TESTS {
        let step = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let offset = (start.wrapping_mul(PORTS_A_PROCESS).wrapping_add(step)) % PORTS_OF_TESTS;
        let address = format!("127.0.0.1:{}", FIRST_PORT + offset);
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
    panic!("no free port from {FIRST_PORT} on");
}

static NEXT_PORT: AtomicU16 = AtomicU16::new(0);
/// Below 32768, where Linux begins to take ports for outgoing connections.
const FIRST_PORT: u16 = 20_000;
const PORTS_OF_TESTS: u16 = 12_000;
const PORTS_A_PROCESS: u16 = 16;
