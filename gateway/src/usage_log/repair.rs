//! Takes off the half lines that processes left behind when they were killed.
//!
//! A file that doesn't end in a line end is either being written or was cut off. Its writer holds a lock on it, so the lock
//! tells. Only the part after the last line end goes: nobody can read it. Files of living processes, and files on
//! volumes without locks, stay as they are.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::file::{PREFIX, SUFFIX};

/// The latest so many files are looked at: older ones were there at the last start. Bounds the start on a directory of years.
const FILES_LOOKED_AT: usize = 1_000;
/// Read at once on the way back to the last line end. Bytes.
const STEP_BYTES: u64 = 64 << 10;

/// Repairs what can be repaired, and says so in the log.
pub(super) fn repair(directory: &Path) {
    for path in latest(directory) {
        match cut_half_line(&path) {
            Ok(0) => {}
            Ok(bytes) => {
                let file = path.display();
                tracing::warn!(%file, bytes, "took off half a line that a process left behind when it was stopped");
            }
            Err(error) => {
                let file = path.display();
                tracing::warn!(%file, %error, "couldn't see whether the file ends in half a line");
            }
        }
    }
}

/// Names begin with the hour, so the last names are the latest files.
fn latest(directory: &Path) -> Vec<PathBuf> {
    // A directory that isn't there yet holds nothing to repair.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let ours = |name: &str| name.starts_with(PREFIX) && name.ends_with(SUFFIX);
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name())
        .filter(|name| name.to_str().is_some_and(ours))
        .collect();
    names.sort();
    let older = names.len().saturating_sub(FILES_LOOKED_AT);
    let paths = names.iter().skip(older).map(|name| directory.join(name));
    paths.collect()
}

/// How many bytes were taken off.
fn cut_half_line(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    if ends_whole(&mut file)? {
        return Ok(0);
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    if file.try_lock().is_err() {
        return Ok(0);
    }
    let length = file.metadata()?.len();
    let whole = whole_bytes(&mut file, length)?;
    if whole < length {
        file.set_len(whole)?;
        file.sync_all()?;
    }
    Ok(length - whole)
}

fn ends_whole(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// The length up to and with the last line end.
fn whole_bytes(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut step = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(STEP_BYTES);
        file.seek(SeekFrom::Start(begin))?;
        step.clear();
        file.by_ref().take(end - begin).read_to_end(&mut step)?;
        if let Some(at) = memchr::memrchr(b'\n', &step) {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn half_lines_of_dead_processes_are_taken_off_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(200_000);
        let cases = [
            ("usage-1.jsonl", "one\ntwo\n".to_owned(), "one\ntwo\n"),
            ("usage-2.jsonl", "one\ntw".to_owned(), "one\n"),
            ("usage-3.jsonl", "one".to_owned(), ""),
            ("usage-4.jsonl", String::new(), ""),
            ("usage-5.jsonl", format!("one\n{long}"), "one\n"),
            ("notes.txt", "no line end".to_owned(), "no line end"),
        ];
        for (name, text, _) in &cases {
            fs::write(folder.path().join(name), text).unwrap();
        }
        repair(folder.path());
        for (name, _, expected) in &cases {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            assert_eq!(text, *expected, "{name}");
        }
    }

    #[test]
    fn a_file_whose_writer_lives_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage-1.jsonl");
        fs::write(&path, "one\ntw").unwrap();
        let living = File::open(&path).unwrap();
        living.try_lock().unwrap();
        repair(folder.path());
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntw");
        drop(living);
        repair(folder.path());
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
    }

    #[test]
    fn a_directory_that_is_not_there_is_no_mistake() {
        repair(Path::new("/nowhere/at/all"));
    }
}
