//! Secrets, and the world that they come from.
//!
//! A secret prints as `***` whatever it is put into, so a log line or an error can't give it away by
//! accident; reading it takes an explicit [`Secret::expose`]. The environment is a trait so that a test
//! decides what the variables and files are. Nothing here is serialized, and no error repeats a secret.

use std::fmt;
use std::fs::File;
use std::io::Read;

/// A credential. Not empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a text can't be a secret. Says nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretError {
    /// There is nothing in it.
    Empty,
    /// It would have to be sent in a header, and can't be.
    NotAHeaderValue,
}

impl fmt::Display for SecretError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "found an empty secret, expected at least one character",
            Self::NotAHeaderValue => {
                "found a secret with characters that no header can carry, \
                 expected visible ASCII without spaces"
            }
        })
    }
}

impl Secret {
    /// Any text that isn't empty: a PEM key, for one.
    pub fn new(text: String) -> Result<Self, SecretError> {
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(Self(text))
    }

    /// A text that can be sent in a header: visible ASCII without spaces.
    pub fn for_header(text: String) -> Result<Self, SecretError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SecretError::NotAHeaderValue);
        }
        Self::new(text)
    }

    /// The text itself. Whoever calls this sees to it that it goes only where it belongs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// What loading a configuration asks of the world.
pub trait Environment {
    /// An environment variable; `None` where it isn't set or isn't text.
    fn variable(&self, name: &str) -> Option<String>;
    /// A whole file. The error says why not, in words, without the path.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;
    /// This host's name.
    fn host_name(&self) -> String;
    /// How many processors there are.
    fn cores(&self) -> usize;
    /// Seconds since 1970.
    fn now(&self) -> u64;
}

/// The real one.
#[derive(Debug, Clone, Copy)]
pub struct System {
    now: u64,
}

impl System {
    /// `now` is in seconds since 1970: this module doesn't ask what time it is.
    pub fn at(now: u64) -> Self {
        Self { now }
    }
}

impl Environment for System {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let file = File::open(path).map_err(|error| plain(&error))?;
        let mut bytes = Vec::new();
        // Bounded by what is read and not by the file's size: a device has none.
        let mut bounded = file.take(MAX_FILE_BYTES + 1);
        let read = bounded.read_to_end(&mut bytes);
        read.map_err(|error| plain(&error))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(format!("it is larger than {MAX_FILE_BYTES} bytes"));
        }
        Ok(bytes)
    }

    fn host_name(&self) -> String {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = kernel.or_else(|| self.variable("HOSTNAME"));
        let name = name.map(|name| name.trim().to_owned());
        let name = name.filter(|name| !name.is_empty());
        name.unwrap_or_else(|| "tollgate".to_owned())
    }

    fn cores(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn now(&self) -> u64 {
        self.now
    }
}

/// The operating system's reason in lower case and without its number: "no such file or directory".
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

/// A secret, a certificate or a price list is never near this; a device or a wrong path may be.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_prints_as_stars() {
        let secret = Secret::new("hunter2".to_owned()).unwrap();
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "*** *** Some(***)"
        );
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn an_empty_or_unsendable_secret_is_refused_without_showing_it() {
        let refused = |text: &str| Secret::for_header(text.to_owned()).unwrap_err();
        assert_eq!(refused(""), SecretError::Empty);
        for text in ["two words", "line\n", "caf\u{e9}", "\u{7f}"] {
            assert_eq!(refused(text), SecretError::NotAHeaderValue);
            assert!(!refused(text).to_string().contains(text));
        }
    }

    #[test]
    fn a_missing_file_is_told_in_words() {
        let error = System::at(0).read("/nowhere/at/all").unwrap_err();
        assert_eq!(error, "no such file or directory");
        let error = System::at(0).read("/").unwrap_err();
        assert_eq!(error, "is a directory");
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let error = System::at(0).read("/dev/zero").unwrap_err();
        assert_eq!(error, "it is larger than 16777216 bytes");
    }
}
