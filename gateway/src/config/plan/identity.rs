//! `managed-identity`, as the program uses it: who the gateway is, and which service vouches for it. Never a token.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PSS_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use super::Endpoint;
use crate::config::secret::Secret;

/// An identity at one resource. Two backends that have the same one share its token.
#[derive(Debug)]
pub struct Identity {
    /// Equal for equal identities; holds no secret.
    pub key: Arc<str>,
    /// What the token is for.
    pub resource: String,
    /// Which service is asked, and how.
    pub source: Source,
    /// Where it is.
    pub endpoint: Endpoint,
    /// PEM of the authorities to trust instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
}

/// How a token is asked for.
#[derive(Debug)]
pub enum Source {
    /// The metadata service of a virtual machine.
    Imds {
        /// A user-assigned identity; `None`: the system's.
        client_id: Option<String>,
    },
    /// The sidecar of App Service and Container Apps.
    AppService {
        /// Shows that the call comes from inside.
        header: Secret,
        /// A user-assigned identity; `None`: the system's.
        client_id: Option<String>,
    },
    /// Entra ID.
    Entra {
        /// The directory.
        tenant: String,
        /// The application or user-assigned identity.
        client_id: String,
        /// What shows that it is this one.
        proof: Proof,
    },
}

/// What is shown to Entra ID.
#[derive(Debug)]
pub enum Proof {
    /// A shared secret.
    ClientSecret(Secret),
    /// A statement that is signed with a certificate's key.
    Certificate(Box<SigningKey>),
    /// Another issuer's token in a file, which is read each time.
    FederatedToken(PathBuf),
}

/// A certificate's key, and which certificate's.
pub struct SigningKey {
    thumbprint: String,
    pair: RsaKeyPair,
}

/// Nothing could be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsigned;

impl Identity {
    /// An identity of these parts.
    pub fn new(
        resource: String,
        source: Source,
        endpoint: Endpoint,
        ca_pem: Option<Vec<u8>>,
    ) -> Self {
        let mut digest = Sha256::new();
        let mut add = |part: &str| {
            digest.update(part.len().to_be_bytes());
            digest.update(part.as_bytes());
        };
        let client = source.client_id().unwrap_or_default();
        for part in [source.label(), &resource, client] {
            add(part);
        }
        add(&format!("{endpoint:?}"));
        match &source {
            Source::Imds { .. } => {}
            Source::AppService { header, .. } => add(header.expose()),
            Source::Entra { tenant, proof, .. } => {
                add(tenant);
                match proof {
                    Proof::ClientSecret(secret) => add(secret.expose()),
                    Proof::Certificate(key) => add(&key.thumbprint),
                    Proof::FederatedToken(path) => add(&path.to_string_lossy()),
                }
            }
        }
        digest.update(ca_pem.as_deref().unwrap_or_default());
        let key = URL_SAFE_NO_PAD.encode(digest.finalize());
        Identity {
            key: key.into(),
            resource,
            source,
            endpoint,
            ca_pem,
        }
    }
}

impl Source {
    /// The word in metrics and `/status`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Imds { .. } => "imds",
            Self::AppService { .. } => "app-service",
            Self::Entra { proof, .. } => match proof {
                Proof::ClientSecret(_) => "client-secret",
                Proof::Certificate(_) => "client-certificate",
                Proof::FederatedToken(_) => "workload-identity",
            },
        }
    }

    /// Whose identity; `None`: the system's.
    pub fn client_id(&self) -> Option<&str> {
        match self {
            Self::Imds { client_id } | Self::AppService { client_id, .. } => client_id.as_deref(),
            Self::Entra { client_id, .. } => Some(client_id),
        }
    }
}

impl SigningKey {
    /// Of a PEM text with a certificate and its RSA key. The error continues a message.
    pub fn read(pem: &[u8]) -> Result<Self, &'static str> {
        let certificate = CertificateDer::pem_slice_iter(pem).next();
        let Some(Ok(certificate)) = certificate else {
            return Err("holds no certificate in PEM");
        };
        let key = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_| "holds no private key in PEM without a password")?;
        let pair = match &key {
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            _ => return Err("holds a key that isn't RSA"),
        };
        let pair = pair.map_err(|_| "holds a key that isn't RSA of 2048 bits or more")?;
        // A certificate holds its public key as it is.
        let public = pair.public().as_ref();
        if !certificate.windows(public.len()).any(|part| part == public) {
            return Err("holds a key that isn't the certificate's");
        }
        Ok(Self {
            thumbprint: URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate)),
            pair,
        })
    }

    /// The SHA-256 of the certificate, as `x5t#S256`.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The signature of `PS256`, in base64url.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn sign(&self, text: &str) -> Result<String, Unsigned> {
        let mut signature = vec![0; self.pair.public().modulus_len()];
        let random = SystemRandom::new();
        self.pair
            .sign(&RSA_PSS_SHA256, &random, text.as_bytes(), &mut signature)
            .map_err(|_| Unsigned)?;
        Ok(URL_SAFE_NO_PAD.encode(signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.thumbprint)
    }
}
