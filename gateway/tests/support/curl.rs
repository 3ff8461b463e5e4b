//! curl, the real one: for HTTP/2 and TLS, where a small client of our own would prove little.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use super::DEADLINE;
use super::http::{self, Answer};

/// What curl saw.
#[derive(Debug)]
pub struct Seen {
    /// The last answer.
    pub answer: Answer,
    /// `1.1` or `2`.
    pub version: String,
    /// Connections that were opened.
    pub connections: usize,
    /// The whole head, interim answers included.
    pub heads: String,
}

/// A curl that is running.
pub struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

/// Runs curl to its end and panics where it didn't end well.
pub fn curl(arguments: &[&str]) -> Seen {
    start(arguments).finish()
}

/// Runs curl, which is expected to fail; its exit status.
pub fn curl_fails(arguments: &[&str]) -> i32 {
    let running = start(arguments);
    let output = running.child.wait_with_output().unwrap();
    assert!(!output.status.success(), "curl succeeded");
    output.status.code().unwrap()
}

/// Starts curl. What is written to its standard input is the body that `-T -` sends.
pub fn start(arguments: &[&str]) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*"])
        .args(["--max-time", &DEADLINE.as_secs().to_string()])
        .args(["--write-out", "%{http_version} %{num_connects}\n"])
        .arg("--dump-header")
        .arg(folder.path().join("heads"))
        .arg("--output")
        .arg(folder.path().join("body"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("curl is installed");
    Running { child, folder }
}

impl Running {
    /// Sends more of the body.
    pub fn send(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Waits until curl has ended well. The body ends here.
    pub fn finish(mut self) -> Seen {
        drop(self.child.stdin.take());
        self.wait()
    }

    fn wait(self) -> Seen {
        let output = self.child.wait_with_output().unwrap();
        let heads = std::fs::read_to_string(self.folder.path().join("heads")).unwrap_or_default();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "curl: {}{told}{heads}",
            String::from_utf8_lossy(&output.stderr)
        );
        let lines: Vec<(&str, usize)> = told
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(version, opened)| (version, opened.parse().unwrap()))
            .collect();
        let last = heads.trim_end().rsplit("\r\n\r\n").next().unwrap();
        let (status, headers) = http::read_head(&mut format!("{last}\r\n\r\n").as_bytes()).unwrap();
        Seen {
            answer: Answer {
                status,
                headers,
                body: std::fs::read(self.folder.path().join("body")).unwrap_or_default(),
            },
            version: lines.last().unwrap().0.to_owned(),
            connections: lines.iter().map(|(_, opened)| opened).sum(),
            heads,
        }
    }
}
