//! The `tollgate` binary as a command: arguments in, exit status and texts out.

use std::io::Write;
use std::process::{Command, Stdio};

/// How a finished command ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status; `None` where a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// The binary under test.
pub fn tollgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command
        .env_remove("TOLLGATE_CONFIG")
        .env_remove("TOLLGATE_LOG");
    command
}

/// Runs `tollgate` with these arguments and this standard input, to its end.
pub fn run(arguments: &[&str], input: &str) -> Finished {
    let mut child = tollgate()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tollgate starts");
    // A command that doesn't read its input may have ended by now: that isn't this function's to judge.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Finished {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
