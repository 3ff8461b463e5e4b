//! Fetching secrets, and files that must be PEM. No message repeats what was fetched.

use filters::auth::Digest;

use super::super::error::{Located, Place};
use super::super::file::secret::Origin;
use super::super::secret::Secret;
use super::Loader;

impl Loader<'_> {
    /// A credential for a backend.
    pub(super) fn credential(&self, origin: &Located<Origin>) -> Option<Secret> {
        match &origin.value {
            Origin::Literal(secret) => {
                let advice = "the secret stands in the file itself; better { env = \"NAME\" } or { file = \"/path\" }";
                self.findings.warn(&origin.place, advice);
                Some(secret.clone())
            }
            Origin::Variable(name) => self.variable(name, &origin.place),
            Origin::File(path) => self.secret_file(path, &origin.place),
            // The reader accepts a hash for subscription keys only.
            Origin::Sha256(_) => None,
        }
    }

    /// The digest of a subscription's key.
    pub(super) fn digest(&self, origin: &Located<Origin>) -> Option<Digest> {
        let key = match &origin.value {
            Origin::Sha256(hex) => return self.written_digest(hex, &origin.place),
            Origin::Literal(secret) => {
                let advice = "the key stands in the file itself: fine for trying out; better { sha256 = \"...\" }, as `tollgate key new` prints it";
                self.findings.warn(&origin.place, advice);
                Some(secret.clone())
            }
            Origin::Variable(name) => self.variable(name, &origin.place),
            Origin::File(path) => self.secret_file(path, &origin.place),
        };
        key.map(|key| Digest::of_key(key.expose().as_bytes()))
    }

    /// A PEM file that holds a block of this label, such as `CERTIFICATE`.
    pub(super) fn pem(&self, path: &Located<String>, label: &str) -> Option<Vec<u8>> {
        let bytes = self.file(&path.value, &path.place)?;
        let begins = |line: &[u8]| {
            line.starts_with(b"-----BEGIN ")
                && line
                    .trim_ascii()
                    .ends_with(format!("{label}-----").as_bytes())
        };
        if bytes.split(|byte| *byte == b'\n').any(begins) {
            return Some(bytes);
        }
        let message = format!("the file \"{}\" holds no PEM block of {label}", path.value);
        self.findings.error(&path.place, message);
        None
    }

    /// A PEM private key.
    pub(super) fn private_key(&self, path: &Located<String>) -> Option<Secret> {
        let bytes = self.pem(path, "PRIVATE KEY")?;
        self.accept(bytes, &path.place, Secret::new)
    }

    /// A whole file.
    pub(super) fn file(&self, path: &str, place: &Place) -> Option<Vec<u8>> {
        match self.environment.read(path) {
            Ok(bytes) => Some(bytes),
            Err(reason) => {
                let message = format!("can't read the file \"{path}\": {reason}");
                self.findings.error(place, message);
                None
            }
        }
    }

    fn written_digest(&self, hex: &str, place: &Place) -> Option<Digest> {
        let digest = Digest::parse_hex(hex).ok();
        if digest.is_none() {
            let length = hex.chars().count();
            let message = format!(
                "found a hash of {length} characters, expected 64 hex digits, as `tollgate key new` prints them"
            );
            self.findings.error(place, message);
        }
        digest
    }

    fn variable(&self, name: &str, place: &Place) -> Option<Secret> {
        let Some(text) = self.environment.variable(name) else {
            let message = format!("the environment variable \"{name}\" is not set");
            self.findings.error(place, message);
            return None;
        };
        self.accept(text.into_bytes(), place, Secret::for_header)
    }

    fn secret_file(&self, path: &str, place: &Place) -> Option<Secret> {
        let mut bytes = self.file(path, place)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        self.accept(bytes, place, Secret::for_header)
    }

    fn accept<E: std::fmt::Display>(
        &self,
        bytes: Vec<u8>,
        place: &Place,
        make: impl Fn(String) -> Result<Secret, E>,
    ) -> Option<Secret> {
        let Ok(text) = String::from_utf8(bytes) else {
            let message = "found a secret that is not text, expected visible ASCII";
            self.findings.error(place, message);
            return None;
        };
        match make(text) {
            Ok(secret) => Some(secret),
            Err(error) => {
                self.findings.error(place, error.to_string());
                None
            }
        }
    }
}
