//! `managed-identity`: which service vouches for the gateway, by the variables that the Azure SDKs read.
//!
//! In their order: a client secret, a client certificate, a federated token (workload identity), the sidecar of App
//! Service and Container Apps, and else the metadata service of a virtual machine. Half of a set of variables is an
//! error: going on to the next service would end in another identity, or in none, much later.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::file::backend as written;
use super::super::plan::Endpoint;
use super::super::plan::identity::{Identity, Proof, SigningKey, Source};
use super::super::secret::Secret;
use super::Loader;
use super::endpoint::endpoint;

/// An identity, or every reason why there is none.
pub(super) fn identity(
    loader: &Loader<'_>,
    file: &written::ManagedIdentity,
) -> Option<Arc<Identity>> {
    let resource = file.resource.as_ref()?;
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain(&resource.value) {
        let message = "found a resource with blanks or other odd characters, expected one such as \"https://cognitiveservices.azure.com\"";
        loader.findings.error(&resource.place, message);
        return None;
    }
    let ca = file.ca.as_ref();
    let ca = ca.map(|path| loader.pem(path, "CERTIFICATE"));
    let (source, endpoint) = Variables { loader, file }.service()?;
    let resource = resource.value.trim_end_matches("/.default").to_owned();
    let ca_pem = match ca {
        Some(pem) => Some(pem?),
        None => None,
    };
    Some(Arc::new(Identity::new(resource, source, endpoint, ca_pem)))
}

struct Variables<'l, 'a> {
    loader: &'l Loader<'a>,
    file: &'l written::ManagedIdentity,
}

impl Variables<'_, '_> {
    fn service(&self) -> Option<(Source, Endpoint)> {
        for name in [SECRET, CERTIFICATE, TOKEN_FILE] {
            if let Some(value) = self.variable(name) {
                return self.entra(name, value);
            }
        }
        let client_id = self.client_id();
        match (self.variable(ENDPOINT), self.variable(HEADER)) {
            (Some(url), Some(header)) => {
                let header = self.secret(HEADER, header)?;
                let source = Source::AppService { header, client_id };
                Some((source, self.url(ENDPOINT, &url)?))
            }
            (None, None) => {
                let url = self.variable(IMDS_HOST);
                let url = url.as_deref().unwrap_or(IMDS);
                Some((Source::Imds { client_id }, self.url(IMDS_HOST, url)?))
            }
            (Some(_), None) => self.half(ENDPOINT, HEADER),
            (None, Some(_)) => self.half(HEADER, ENDPOINT),
        }
    }

    fn entra(&self, name: &str, value: String) -> Option<(Source, Endpoint)> {
        let proof = match name {
            SECRET => Proof::ClientSecret(self.secret(SECRET, value)?),
            CERTIFICATE => Proof::Certificate(Box::new(self.certificate(&value)?)),
            _ => Proof::FederatedToken(PathBuf::from(value)),
        };
        let Some(tenant) = self.variable(TENANT) else {
            return self.half(name, TENANT);
        };
        let client_id = match (&proof, self.variable(CLIENT)) {
            // A secret or a certificate belongs to the application that the variables name.
            (Proof::ClientSecret(_) | Proof::Certificate(_), own) => {
                if let (Some(written), Some(own)) = (&self.file.client_id, &own)
                    && written.value != *own
                {
                    let message = format!(
                        "found another client than {CLIENT} names, whose {name} is; expected the same or none"
                    );
                    self.loader.findings.error(&written.place, message);
                    return None;
                }
                own.or_else(|| self.client_id())
            }
            (Proof::FederatedToken(_), _) => self.client_id(),
        };
        let Some(client_id) = client_id else {
            return self.half(name, CLIENT);
        };
        let is_name = |text: &str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            text.chars().all(is_plain)
        };
        if !is_name(&tenant) {
            return self.refuse(&format!(
                "the variable {TENANT} holds neither an id nor a domain"
            ));
        }
        let url = self.variable(AUTHORITY);
        let url = match url.as_deref() {
            Some(url) if !url.contains("://") => format!("https://{url}"),
            Some(url) => url.to_owned(),
            None => ENTRA.to_owned(),
        };
        let endpoint = self.url(AUTHORITY, &url)?;
        if !endpoint.tls && !is_loopback(&endpoint.host) {
            return self.refuse(&format!(
                "the variable {AUTHORITY} begins with http://, by which what is shown there could be read on the way; expected https://"
            ));
        }
        let source = Source::Entra {
            tenant,
            client_id,
            proof,
        };
        Some((source, endpoint))
    }

    /// `client-id`, or the variable.
    fn client_id(&self) -> Option<String> {
        let written = self.file.client_id.as_ref();
        let written = written.map(|text| text.value.clone());
        written.or_else(|| self.variable(CLIENT))
    }

    /// A variable that is set and isn't empty.
    fn variable(&self, name: &str) -> Option<String> {
        let value = self.loader.environment.variable(name)?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    fn secret(&self, name: &str, value: String) -> Option<Secret> {
        match Secret::for_header(value) {
            Ok(secret) => Some(secret),
            Err(error) => self.refuse(&format!("the variable {name}: {error}")),
        }
    }

    fn certificate(&self, path: &str) -> Option<SigningKey> {
        if self.variable(PASSWORD).is_some() {
            return self.refuse(&format!(
                "the variable {PASSWORD} is set, expected a key without a password in the file of {CERTIFICATE}"
            ));
        }
        let read = self.loader.environment.read(path);
        match read.map(|pem| SigningKey::read(&pem)) {
            Ok(Ok(key)) => Some(key),
            Ok(Err(why)) => self.refuse(&format!("the file \"{path}\" of {CERTIFICATE} {why}")),
            Err(reason) => self.refuse(&format!(
                "can't read the file \"{path}\" of {CERTIFICATE}: {reason}"
            )),
        }
    }

    fn url(&self, name: &str, url: &str) -> Option<Endpoint> {
        match endpoint(url) {
            Ok(endpoint) => Some(endpoint),
            Err(expected) => self.refuse(&format!(
                "the variable {name} holds a URL that can't be used, {expected}"
            )),
        }
    }

    fn half<T>(&self, there: &str, missing: &str) -> Option<T> {
        self.refuse(&format!(
            "the variable {there} is set and {missing} isn't, expected both or neither"
        ))
    }

    fn refuse<T>(&self, message: &str) -> Option<T> {
        self.loader.findings.error(&self.file.place, message);
        None
    }
}

/// Whether a host is this one.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

const TENANT: &str = "AZURE_TENANT_ID";
const CLIENT: &str = "AZURE_CLIENT_ID";
const SECRET: &str = "AZURE_CLIENT_SECRET";
const CERTIFICATE: &str = "AZURE_CLIENT_CERTIFICATE_PATH";
const PASSWORD: &str = "AZURE_CLIENT_CERTIFICATE_PASSWORD";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const AUTHORITY: &str = "AZURE_AUTHORITY_HOST";
const ENDPOINT: &str = "IDENTITY_ENDPOINT";
const HEADER: &str = "IDENTITY_HEADER";
const IMDS_HOST: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
/// The public cloud's.
const ENTRA: &str = "https://login.microsoftonline.com";
/// The same on every virtual machine; never beyond its host.
const IMDS: &str = "http://169.254.169.254";
