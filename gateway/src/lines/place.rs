//! Where lines go. A file is appended to, and made where it isn't there; only its owner may read it.

use std::fs::{File, OpenOptions, create_dir_all};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use filters::limit::quota::Hour;
use filters::time::UnixMillis;

use crate::usage_log::files::process_name;

/// `2026-11-22T13`
const HOUR_CHARACTERS: usize = 13;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Standard output.
    Output,
    /// A file that others rotate.
    File(PathBuf),
    /// A file an hour and process in this directory: `PREFIX-2026-11-22T13-PROCESS.jsonl`.
    Hours {
        /// Made where it isn't there.
        directory: PathBuf,
        /// How names begin.
        prefix: &'static str,
    },
}

/// A place, open or not.
#[derive(Debug)]
pub(super) struct Target {
    place: Place,
    process: String,
    open: Option<(Hour, File)>,
}

impl Target {
    /// Not open yet.
    pub fn new(place: Place) -> Self {
        Target {
            place,
            process: process_name(),
            open: None,
        }
    }

    /// The place, to be named.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Output => "standard output".to_owned(),
            Place::File(path) => path.display().to_string(),
            Place::Hours { directory, .. } => directory.display().to_string(),
        }
    }

    /// Forgets the open file: the next lines open it by its name.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Writes whole lines. A full disk may leave half of one.
    pub fn append(&mut self, lines: &[u8], hour: Hour) -> io::Result<()> {
        let written = match &self.place {
            Place::Output => {
                let mut output = io::stdout().lock();
                output.write_all(lines).and_then(|()| output.flush())
            }
            Place::File(_) | Place::Hours { .. } => self.file(hour)?.write_all(lines),
        };
        if written.is_err() {
            self.close();
        }
        written
    }

    fn file(&mut self, hour: Hour) -> io::Result<&mut File> {
        let is_over = |open: &(Hour, File)| match self.place {
            Place::Hours { .. } => open.0 != hour,
            Place::Output | Place::File(_) => false,
        };
        let file = match self.open.take() {
            Some(open) if !is_over(&open) => open.1,
            Some(_) | None => open(&self.path(hour))?,
        };
        Ok(&mut self.open.insert((hour, file)).1)
    }

    fn path(&self, hour: Hour) -> PathBuf {
        match &self.place {
            Place::Output => PathBuf::new(),
            Place::File(path) => path.clone(),
            Place::Hours { directory, prefix } => {
                let start = UnixMillis::from_millis(hour.start().as_seconds() * 1_000).to_string();
                let name = start.get(..HOUR_CHARACTERS).unwrap_or(&start);
                directory.join(format!("{prefix}-{name}-{}.jsonl", self.process))
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        create_dir_all(directory)?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_hour_has_its_file_which_only_its_owner_reads() {
        let folder = tempfile::tempdir().unwrap();
        let mut target = Target::new(Place::Hours {
            directory: folder.path().join("messages"),
            prefix: "messages",
        });
        for (hour, line) in [(498_709, "a\n"), (498_709, "b\n"), (498_710, "c\n")] {
            target
                .append(line.as_bytes(), Hour::from_number(hour))
                .unwrap();
        }
        let files = std::fs::read_dir(folder.path().join("messages")).unwrap();
        let mut found: Vec<_> = files
            .map(|file| {
                let path = file.unwrap().path();
                let mode = std::fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
                let name = path.file_name().unwrap().to_str().unwrap();
                (
                    name[..22].to_owned(),
                    std::fs::read_to_string(&path).unwrap(),
                )
            })
            .collect();
        found.sort();
        let expected = [
            ("messages-2026-11-22T13", "a\nb\n"),
            ("messages-2026-11-22T14", "c\n"),
        ];
        assert_eq!(
            found,
            expected.map(|(name, text)| (name.to_owned(), text.to_owned()))
        );
    }
}
