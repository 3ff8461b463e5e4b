//! A certificate authority that lives as long as a test, and what it signs, as the PEM files that operators have.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Signs certificates, and keeps the files in a temporary folder.
pub struct Authority {
    /// Its own certificate.
    pub certificate: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// A certificate and its key.
pub struct Identity {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, that nobody trusts yet.
    pub fn new(name: &str) -> Authority {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            certificate: written(folder.path(), "authority.crt", &pem),
            issuer: Issuer::new(params, key),
            folder,
        }
    }

    /// A certificate for these host names or addresses.
    pub fn issue(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let file = names.join("-");
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity {
            certificate: written(self.folder.path(), &format!("{file}.crt"), &pem),
            key: written(
                self.folder.path(),
                &format!("{file}.key"),
                &key.serialize_pem(),
            ),
        }
    }
}

fn written(folder: &Path, name: &str, pem: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, pem).unwrap();
    path
}
