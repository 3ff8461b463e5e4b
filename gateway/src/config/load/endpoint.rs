//! A backend's URL, taken apart once.
//!
//! A URL holds where a backend is and nothing else: a query would be lost among the caller's own, and a password in
//! it would end up in logs.

use http::Uri;

use super::super::plan::Endpoint;

/// Reads `https://contoso.openai.azure.com` or `http://127.0.0.1:4010/v1`. The error continues a message.
pub(super) fn endpoint(url: &str) -> Result<Endpoint, &'static str> {
    let tls = match url.split_once("://").map(|(scheme, _)| scheme) {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => true,
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => false,
        Some(_) | None => return Err("expected it to begin with https:// or http://"),
    };
    if url.contains('#') {
        return Err("expected no fragment (#)");
    }
    let uri: Uri = url
        .parse()
        .map_err(|_| "expected a URL such as \"https://contoso.openai.azure.com\"")?;
    if uri.query().is_some() {
        return Err("expected no query: api-version is a key of its own");
    }
    let authority = uri.authority().ok_or("expected a host after the scheme")?;
    if authority.as_str().contains('@') {
        return Err("expected no name or password in it: a credential belongs into auth");
    }
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    if host.is_empty() {
        return Err("expected a host after the scheme");
    }
    let usual = if tls { 443 } else { 80 };
    let port = match authority.as_str().rsplit_once(':') {
        Some((_, digits)) if !digits.ends_with(']') => {
            digits.parse().ok().filter(|port| *port != 0)
        }
        Some(_) | None => Some(usual),
    };
    let port: u16 = port.ok_or("expected a port from 1 to 65535")?;
    let shown = authority.host();
    Ok(Endpoint {
        tls,
        host: host.to_owned(),
        port,
        base_path: uri.path().trim_end_matches('/').to_owned(),
        authority: if port == usual {
            shown.to_owned()
        } else {
            format!("{shown}:{port}")
        },
    })
}

/// The same for a URL of a document, which may have a query: with its `?`, empty where there is none.
pub(in crate::config) fn site(url: &str) -> Result<(Endpoint, String), &'static str> {
    let (base, query) = match url.split_once('?') {
        Some((base, query)) => (base, format!("?{query}")),
        None => (url, String::new()),
    };
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    match query.bytes().all(is_plain) {
        true => Ok((endpoint(base)?, query)),
        false => Err("expected a URL such as \"https://issuer.example/keys?p=1\""),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let plain = endpoint("https://contoso.openai.azure.com/").unwrap();
        assert_eq!(
            (plain.tls, plain.port, plain.base_path.as_str()),
            (true, 443, "")
        );
        assert_eq!(plain.authority, "contoso.openai.azure.com");
        let other = endpoint("http://127.0.0.1:4010/v1/").unwrap();
        assert_eq!(
            (other.tls, other.port, other.base_path.as_str()),
            (false, 4010, "/v1")
        );
        assert_eq!(other.authority, "127.0.0.1:4010");
    }

    #[test]
    fn an_ipv6_host_loses_its_brackets_only_where_it_is_dialled() {
        let six = endpoint("http://[::1]:8000").unwrap();
        assert_eq!(
            (six.host.as_str(), six.authority.as_str()),
            ("::1", "[::1]:8000")
        );
        let usual = endpoint("https://[fd00::2]").unwrap();
        assert_eq!((usual.host.as_str(), usual.port), ("fd00::2", 443));
        assert_eq!(usual.authority, "[fd00::2]");
    }

    #[test]
    fn the_scheme_s_own_port_is_not_sent() {
        assert_eq!(
            endpoint("https://a.example:443").unwrap().authority,
            "a.example"
        );
        assert_eq!(
            endpoint("http://a.example:443").unwrap().authority,
            "a.example:443"
        );
    }

    #[test]
    fn what_is_more_or_less_than_a_place_is_refused() {
        let wrong = [
            "contoso.openai.azure.com",
            "ftp://a.example",
            "https://",
            "https://a.example?x=1",
            "https://a.example#x",
            "https://user:word@a.example",
            "https://a.example:0",
            "https://a.example:99999",
            "https://a.example:",
            "https://two words",
        ];
        for url in wrong {
            assert!(endpoint(url).is_err(), "{url}");
        }
    }
}
