//! What a configuration was loaded from: the file itself and every file that it names, each by a digest of its bytes.
//!
//! Whoever watches the files can tell by it whether one says something else than it did. Holds no text: among the files are
//! secrets.

use std::cell::RefCell;

use sha2::{Digest as _, Sha256};

use super::Source;
use super::secret::Environment;

/// A file that was read, or should have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// As the user named it.
    pub path: String,
    /// Of its bytes; `None` where it couldn't be read.
    pub digest: Option<[u8; 32]>,
}

impl Input {
    /// What a file says now.
    pub fn of(path: &str, environment: &dyn Environment) -> Self {
        let bytes = environment.read(path).ok();
        Input {
            path: path.to_owned(),
            digest: bytes.map(|bytes| Sha256::digest(bytes).into()),
        }
    }
}

/// The paths of those that say something else in `next`, or are in one of both only.
pub fn changed(former: &[Input], next: &[Input]) -> Vec<String> {
    let mut paths: Vec<String> = former
        .iter()
        .filter(|input| !next.contains(input))
        .chain(next.iter().filter(|input| !former.contains(input)))
        .map(|input| input.path.clone())
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// An environment that notes which files are read.
pub struct Noting<'e> {
    environment: &'e dyn Environment,
    inputs: RefCell<Vec<Input>>,
}

impl<'e> Noting<'e> {
    /// Has read the configuration itself.
    pub fn new(source: &Source, environment: &'e dyn Environment) -> Self {
        let input = Input {
            path: source.name.clone(),
            digest: Some(Sha256::digest(source.text.as_bytes()).into()),
        };
        Noting {
            environment,
            inputs: RefCell::new(vec![input]),
        }
    }

    /// All that was read, each file once.
    pub fn into_inputs(self) -> Vec<Input> {
        self.inputs.into_inner()
    }
}

impl Environment for Noting<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        self.environment.variable(name)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let read = self.environment.read(path);
        let bytes = read.as_ref().ok();
        let input = Input {
            path: path.to_owned(),
            digest: bytes.map(|bytes| Sha256::digest(bytes).into()),
        };
        let mut inputs = self.inputs.borrow_mut();
        if inputs.iter().all(|known| known.path != input.path) {
            inputs.push(input);
        }
        read
    }

    fn host_name(&self) -> String {
        self.environment.host_name()
    }

    fn cores(&self) -> usize {
        self.environment.cores()
    }

    fn now(&self) -> u64 {
        self.environment.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_says_something_else_or_came_or_went_is_named_once() {
        let input = |path: &str, byte: u8| Input {
            path: path.to_owned(),
            digest: Some([byte; 32]),
        };
        let former = [input("a", 1), input("b", 1), input("c", 1)];
        let next = [input("a", 1), input("b", 2), input("d", 1)];
        assert_eq!(changed(&former, &next), ["b", "c", "d"]);
        assert!(changed(&former, &former).is_empty());
    }
}
