//! `--record`: results into `load-tests/results/`, to be committed: what was found, when, on which machine, of which commit.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// The files of this name, each with its ending and its content.
pub(crate) fn write(files: &[(&str, String)]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    fs::create_dir_all(&folder)?;
    for (name, content) in files {
        fs::write(folder.join(name), content)?;
    }
    Ok(())
}

/// A line on when and where.
pub(crate) fn occasion() -> String {
    let date = said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]);
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("an unknown processor", |(_, name)| name.trim());
    format!(
        "{date}, commit {commit}, {cores} cores of {cpu}, Linux {}",
        kernel.trim()
    )
}

/// What a program says; a dash where it isn't there.
fn said(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().ok();
    let output = output.filter(|output| output.status.success());
    output.map_or_else(
        || "-".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
