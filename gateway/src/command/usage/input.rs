//! From paths to lines: files and directories, plain, gzip or zstd.
//!
//! What a file holds is seen from its first bytes, not from its name. A file that is named twice is read once, and one that
//! lies beside its own compressed copy is read uncompressed: nothing is counted twice because a job is compressing
//! yesterday. A line is bounded, so a file of something else can't fill the memory.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

/// A record has some hundred bytes. Bytes.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Read at once. Bytes.
const BUFFER_BYTES: usize = 256 << 10;
const PLAIN: &str = ".jsonl";
const COMPRESSED: [&str; 3] = [".gz", ".zst", ".zstd"];

/// Why files couldn't be read.
#[derive(Debug)]
pub enum InputError {
    /// There is no such path.
    Missing(PathBuf),
    /// A directory without a file of the usage log.
    Nothing(PathBuf),
    /// It can't be read, or what is in it can't be unpacked.
    Unreadable(PathBuf, io::Error),
}

impl InputError {
    /// Whether the path itself is wrong.
    pub fn is_wrong_path(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Nothing(_) => true,
            Self::Unreadable(..) => false,
        }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(
                formatter,
                "{}: no such file or directory, expected the usage log",
                path.display()
            ),
            Self::Nothing(path) => write!(
                formatter,
                "{}: found no file named *{PLAIN}, *{PLAIN}.gz or *{PLAIN}.zst in this directory",
                path.display()
            ),
            Self::Unreadable(path, error) => {
                write!(formatter, "{}: can't be read: {error}", path.display())
            }
        }
    }
}

/// A line is longer than any record.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the line is longer than {MAX_LINE_BYTES} bytes, expected a record of the usage log"
        )
    }
}

/// A line and where it stands.
#[derive(Debug)]
pub(super) struct Line<'l> {
    /// Its file.
    pub path: &'l Path,
    /// From 1.
    pub number: u64,
    /// With its end, if it has one.
    pub bytes: Result<&'l [u8], TooLong>,
}

/// Files to read, in the order of their names.
#[derive(Debug)]
pub(super) struct Files {
    paths: BTreeSet<PathBuf>,
    left_out: BTreeSet<PathBuf>,
}

impl Files {
    /// All files that these paths name.
    pub fn of(paths: &[PathBuf]) -> Result<Self, InputError> {
        let mut found = BTreeSet::new();
        for path in paths {
            let unreadable = |error| InputError::Unreadable(path.clone(), error);
            let kind = fs::metadata(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => InputError::Missing(path.clone()),
                _ => unreadable(error),
            })?;
            if kind.is_dir() {
                let inside = in_directory(path).map_err(unreadable)?;
                if inside.is_empty() {
                    return Err(InputError::Nothing(path.clone()));
                }
                found.extend(inside);
            } else {
                found.insert(path.clone());
            }
        }
        let copies =
            |path: &PathBuf| uncompressed(path).is_some_and(|plain| found.contains(&plain));
        let left_out: BTreeSet<PathBuf> =
            found.iter().filter(|path| copies(path)).cloned().collect();
        let mut seen = BTreeSet::new();
        let paths = found.iter().filter(|path| !left_out.contains(*path));
        let paths = paths
            .filter(|path| {
                seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()))
            })
            .cloned()
            .collect();
        Ok(Self { paths, left_out })
    }

    /// Compressed copies of files that are read.
    pub fn left_out(&self) -> impl Iterator<Item = &PathBuf> {
        self.left_out.iter()
    }

    /// Reads all of them, line by line. Returns how many there were.
    pub fn read<E: From<InputError>>(
        &self,
        mut each: impl FnMut(Line<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        for path in &self.paths {
            read_file(path, &mut each)?;
        }
        Ok(self.paths.len())
    }
}

fn in_directory(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let plain = COMPRESSED
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name);
        if plain.ends_with(PLAIN) {
            found.push(path);
        }
    }
    Ok(found)
}

fn uncompressed(path: &Path) -> Option<PathBuf> {
    let text = path.to_str()?;
    let plain = COMPRESSED.iter().find_map(|end| text.strip_suffix(end))?;
    Some(PathBuf::from(plain))
}

fn read_file<E: From<InputError>>(
    path: &Path,
    each: &mut impl FnMut(Line<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let unreadable = |error| InputError::Unreadable(path.to_owned(), error);
    let mut reader = open(path).map_err(unreadable)?;
    let mut buffer = Vec::new();
    let mut number = 0;
    loop {
        let found = next(reader.as_mut(), &mut buffer).map_err(unreadable)?;
        number += 1;
        let bytes = match found {
            Found::End => return Ok(()),
            Found::TooLong => Err(TooLong),
            Found::Whole if buffer.trim_ascii().is_empty() => continue,
            Found::Whole => Ok(buffer.as_slice()),
        };
        each(Line {
            path,
            number,
            bytes,
        })?;
    }
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    Ok(match file.fill_buf()? {
        [0x1f, 0x8b, ..] => buffered(MultiGzDecoder::new(file)),
        // A frame, or one that is to be skipped, as parallel compressors put before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            buffered(zstd::Decoder::with_buffer(file)?)
        }
        _ => Box::new(file),
    })
}

fn buffered(reader: impl io::Read + 'static) -> Box<dyn BufRead> {
    Box::new(BufReader::with_capacity(BUFFER_BYTES, reader))
}

enum Found {
    Whole,
    TooLong,
    End,
}

/// Reads one line into `buffer`; of one that is too long, nothing is kept.
fn next(reader: &mut dyn BufRead, buffer: &mut Vec<u8>) -> io::Result<Found> {
    buffer.clear();
    let mut length = 0;
    loop {
        let available = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            available => available?,
        };
        let end = memchr::memchr(b'\n', available);
        let taken = end.map_or(available.len(), |at| at + 1);
        length += taken;
        if length <= MAX_LINE_BYTES {
            buffer.extend_from_slice(&available[..taken]);
        }
        reader.consume(taken);
        if end.is_some() || taken == 0 {
            return Ok(match length {
                0 => Found::End,
                length if length > MAX_LINE_BYTES => Found::TooLong,
                _ => Found::Whole,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write as _;

    use super::*;

    fn lines(paths: &[PathBuf]) -> Vec<(String, u64, Result<String, ()>)> {
        let mut lines = Vec::new();
        let read = Files::of(paths).unwrap().read(|line| {
            let name = line.path.file_name().unwrap().to_str().unwrap().to_owned();
            let text = line
                .bytes
                .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
            lines.push((name, line.number, text.map_err(|_too_long| ())));
            Ok::<(), InputError>(())
        });
        read.unwrap();
        lines
    }

    fn line(name: &str, number: u64, text: &str) -> (String, u64, Result<String, ()>) {
        (name.to_owned(), number, Ok(text.to_owned()))
    }

    #[test]
    fn a_directory_is_read_in_the_order_of_its_names_whatever_its_files_are_packed_with() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        let gzip = |text: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(text).unwrap();
            gzip.finish().unwrap()
        };
        write("usage-c.jsonl", b"c1\n\nc3\nhalf");
        write(
            "usage-a.jsonl.gz",
            &[gzip(b"a1\na2\n"), gzip(b"a3\n")].concat(),
        );
        let frames = [b"b1\n".as_slice(), b"b2\n"].map(|text| zstd::encode_all(text, 1).unwrap());
        write("usage-b.jsonl.zst", &frames.concat());
        write("usage-c.jsonl.gz", &gzip(b"c1\n"));
        write("other.txt", b"not of the log\n");
        let expected = vec![
            line("usage-a.jsonl.gz", 1, "a1\n"),
            line("usage-a.jsonl.gz", 2, "a2\n"),
            line("usage-a.jsonl.gz", 3, "a3\n"),
            line("usage-b.jsonl.zst", 1, "b1\n"),
            line("usage-b.jsonl.zst", 2, "b2\n"),
            line("usage-c.jsonl", 1, "c1\n"),
            line("usage-c.jsonl", 3, "c3\n"),
            line("usage-c.jsonl", 4, "half"),
        ];
        let directory = folder.path().to_owned();
        assert_eq!(lines(std::slice::from_ref(&directory)), expected);
        // Named twice, and by another name: read once.
        let again = directory.join("../").join(directory.file_name().unwrap());
        assert_eq!(
            lines(&[directory.clone(), again, directory.join("usage-c.jsonl")]),
            expected
        );
    }

    #[test]
    fn a_line_without_an_end_is_not_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.jsonl");
        let long = vec![b'x'; MAX_LINE_BYTES];
        fs::write(&path, [b"one\n", long.as_slice(), b"\ntwo\n"].concat()).unwrap();
        let found = lines(&[path]);
        assert_eq!(found[0].2, Ok("one\n".to_owned()));
        assert_eq!(found[1].2, Err(()));
        assert_eq!((found[2].1, &found[2].2), (3, &Ok("two\n".to_owned())));
    }

    #[test]
    fn wrong_paths_and_broken_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Files::of(&[folder.path().join("none")]).unwrap_err();
        assert!(missing.is_wrong_path(), "{missing}");
        let empty = Files::of(&[folder.path().to_owned()]).unwrap_err();
        assert!(empty.is_wrong_path(), "{empty}");
        let path = folder.path().join("usage.jsonl.gz");
        fs::write(&path, [0x1f, 0x8b, 8, 0, 1, 2, 3]).unwrap();
        let broken = Files::of(&[path])
            .unwrap()
            .read(|_| Ok::<(), InputError>(()));
        assert!(!broken.unwrap_err().is_wrong_path());
    }
}
