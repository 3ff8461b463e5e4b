//! One hour's file of one process: `usage-2026-11-22T13-PROCESS.jsonl`.
//!
//! The file holds what was written in that hour, so a line of its first moments may tell of the hour before. It is locked
//! as long as it is open: whoever repairs the directory sees that its writer lives. A write that fails half-way
//! is taken back, so that the file never holds half a line. Never overwrites a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use filters::limit::quota::Hour;
use filters::time::UnixMillis;

/// Beginning and end of every name.
pub(super) const PREFIX: &str = "usage-";
pub(super) const SUFFIX: &str = ".jsonl";
/// Names that are tried in one hour: a process opens another file only after an error.
const NAMES_TRIED: usize = 1_000;
/// `2026-11-22T13`
const HOUR_CHARACTERS: usize = 13;

/// An open file.
#[derive(Debug)]
pub(super) struct HourFile {
    hour: Hour,
    path: PathBuf,
    file: File,
    /// Up to here there are whole lines.
    whole_bytes: u64,
    unsynced: bool,
}

impl HourFile {
    /// Makes a new file, and the directory if it isn't there.
    pub fn create(directory: &Path, process: &str, hour: Hour) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let start = UnixMillis::from_millis(hour.start().as_seconds() * 1_000).to_string();
        let name = start.get(..HOUR_CHARACTERS).unwrap_or(&start);
        for number in 0..NAMES_TRIED {
            let more = match number {
                0 => String::new(),
                number => format!("-{number}"),
            };
            let path = directory.join(format!("{PREFIX}{name}-{process}{more}{SUFFIX}"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Self::new(hour, path, file, directory)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn new(hour: Hour, path: PathBuf, file: File, directory: &Path) -> Self {
        // Where there are no locks (some network volumes), files are only never repaired.
        let _ = file.try_lock();
        // The name should survive a power cut as the lines do; not every file system can promise it.
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
        Self {
            hour,
            path,
            file,
            whole_bytes: 0,
            unsynced: false,
        }
    }

    /// The hour that it is for.
    pub fn hour(&self) -> Hour {
        self.hour
    }

    /// Whether something was written since the last sync.
    pub fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Appends whole lines: all of them or, with an error, none.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match self.file.write_all(lines) {
            Ok(()) => {
                self.whole_bytes += lines.len() as u64;
                self.unsynced = true;
                Ok(())
            }
            Err(error) => {
                self.take_back()?;
                Err(error)
            }
        }
    }

    fn take_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.whole_bytes)
    }

    /// Brings what was written to the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.unsynced {
            self.file.sync_data()?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Whether its name is gone: what is written then is lost.
    pub fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|found| found.nlink() == 0)
    }

    /// Gives it up after an error; an empty one isn't left behind.
    pub fn abandon(self) {
        if self.whole_bytes == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// 2026-11-22T13
    const HOUR: Hour = Hour::from_number(498_709);

    #[test]
    fn a_file_is_named_by_its_hour_and_process_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        for expected in [
            "usage-2026-11-22T13-7.jsonl",
            "usage-2026-11-22T13-7-1.jsonl",
            "usage-2026-11-22T13-7-2.jsonl",
        ] {
            let mut file = HourFile::create(folder.path(), "7", HOUR).unwrap();
            file.append(b"line\n").unwrap();
            assert_eq!(file.path, folder.path().join(expected));
        }
        for file in fs::read_dir(folder.path()).unwrap() {
            assert_eq!(fs::read(file.unwrap().path()).unwrap(), b"line\n");
        }
    }

    #[test]
    fn half_a_write_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = HourFile::create(folder.path(), "7", HOUR).unwrap();
        file.append(b"one\n").unwrap();
        file.file.write_all(b"two, but only hal").unwrap();
        file.take_back().unwrap();
        file.append(b"three\n").unwrap();
        assert_eq!(fs::read(&file.path).unwrap(), b"one\nthree\n");
    }

    #[test]
    fn a_deleted_file_is_noticed_and_an_empty_one_is_not_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let file = HourFile::create(folder.path(), "7", HOUR).unwrap();
        assert!(!file.is_deleted());
        fs::remove_file(&file.path).unwrap();
        assert!(file.is_deleted());
        HourFile::create(folder.path(), "8", HOUR)
            .unwrap()
            .abandon();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
