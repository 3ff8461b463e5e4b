//! A program under callgrind, and how many instructions it took.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Whether valgrind is installed.
pub(super) fn is_there() -> bool {
    let mut command = Command::new("valgrind");
    command.arg("--version").stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The program under callgrind; what it counts is at the end of its standard error.
pub(super) fn command(program: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
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
}
