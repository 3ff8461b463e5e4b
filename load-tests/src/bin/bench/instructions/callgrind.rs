//! A program under callgrind, how many instructions it took, and where.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is counted, and where callgrind writes which function took what.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) file: PathBuf,
}

impl Profile {
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        let file: String = name
            .chars()
            .map(|one| if one.is_alphanumeric() { one } else { '-' })
            .collect();
        Self {
            name: name.to_owned(),
            file: folder.join(format!("callgrind.{file}")),
        }
    }

    /// The functions that took the most, and how to see all.
    pub(super) fn dearest(&self) -> String {
        let mut command = Command::new("callgrind_annotate");
        command.arg(&self.file).stdin(Stdio::null());
        let said = command.output().map(|output| output.stdout);
        let said = said.unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let functions = said
            .lines()
            .skip_while(|line| !line.contains("file:function"))
            .skip(2)
            .filter(|line| !line.trim().is_empty())
            .take(DEAREST)
            .map(|line| line.chars().take(LINE_CHARS).collect::<String>());
        let mut lines: Vec<String> = functions.map(|line| format!("    {line}")).collect();
        lines.push(format!(
            "    all: callgrind_annotate {}",
            self.file.display()
        ));
        lines.join("\n")
    }
}

const DEAREST: usize = 12;
const LINE_CHARS: usize = 150;

/// Whether valgrind is installed.
pub(super) fn is_there() -> bool {
    let mut command = Command::new("valgrind");
    command.arg("--version").stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The program under callgrind, in an environment that is the same everywhere; what it counts is at the end of its
/// standard error.
pub(super) fn command(program: &Path, profile: &Profile) -> Command {
    let mut command = Command::new("valgrind");
    command
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.file.display()))
        .arg(program);
    command
}

/// The count in what callgrind said.
pub(super) fn collected(said: &str) -> io::Result<u64> {
    said.lines()
        .rev()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
        .ok_or_else(|| {
            let last = said.lines().last().unwrap_or_default();
            io::Error::other(format!("callgrind gave no count; its last line: {last}"))
        })
}

/// Instructions of one repetition: what the longer run took more.
pub(super) fn each(shorter: u64, longer: u64, more: u64) -> u64 {
    longer.saturating_sub(shorter) / more.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_what_callgrind_says() {
        let said = "==7== Events    : Ir\n==7== Collected : 1234567\n==7== \n==7== I refs: 1";
        assert_eq!(collected(said).unwrap(), 1_234_567);
        assert!(collected("==7== nothing").is_err());
        assert_eq!(each(100, 300, 10), 20);
    }

    #[test]
    fn a_profile_is_a_file_whatever_its_name() {
        let profile = Profile::new(Path::new("/x"), "request, chat 2 KB");
        assert_eq!(profile.file, Path::new("/x/callgrind.request--chat-2-KB"));
    }
}
