//! `tollgate check --against URL`: what would change if a running gateway took this file.
//!
//! It asks the admin listener for what is in force, by name and key and without secrets, and compares. Nothing is sent but
//! that question, and the admin listener's token where its variable is named: a secret in the file stays here. Changes
//! nothing there.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde::Deserialize;

use super::Outcome;
use crate::config::outline::{Change, Outline, needs_restart};
use crate::config::plan::Plan;
use crate::config::secret::Environment;
use crate::config::{Source, load};

/// The admin listener is near; one that doesn't answer by then won't.
const TIMEOUT: Duration = Duration::from_secs(5);
/// More than any configuration may have.
const ANSWER_MAX_BYTES: u64 = 64 << 20;
/// A longer value isn't shown whole. Characters.
const VALUE_MAX_CHARACTERS: usize = 100;

/// What the gateway has.
#[derive(Debug, Deserialize)]
struct InForce {
    revision: String,
    outline: std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>,
}

/// Checks the file at `path` and prints what it would change at `url`, which is shown the token in this variable. Mistakes go to `errors`.
pub fn check(
    path: &str,
    (url, token_variable): (&str, Option<&str>),
    environment: &dyn Environment,
    (out, errors): (&mut dyn Write, &mut dyn Write),
) -> io::Result<Outcome> {
    let loaded = Source::read(path)
        .map_err(|unreadable| unreadable.to_string())
        .and_then(|source| load(&source, environment).map_err(|mistakes| mistakes.to_string()));
    let plan = match loaded {
        Ok(plan) if plan.pending.is_empty() => plan,
        Ok(plan) => {
            for line in plan.refusals() {
                writeln!(errors, "loads, but `run` would refuse: {line}")?;
            }
            return Ok(Outcome::Wrong);
        }
        Err(mistakes) => {
            writeln!(errors, "{mistakes}")?;
            return Ok(Outcome::Wrong);
        }
    };
    let token = match token_variable
        .map(|name| token(name, environment))
        .transpose()
    {
        Ok(token) => token,
        Err(missing) => {
            writeln!(errors, "{missing}")?;
            return Ok(Outcome::Wrong);
        }
    };
    match ask(url, token.as_deref()) {
        Ok(in_force) => {
            compare(&in_force, &plan, url, out)?;
            Ok(Outcome::Well)
        }
        Err(error) => {
            writeln!(
                errors,
                "{path} is well, but can't be compared with {url}: {error}"
            )?;
            Ok(Outcome::Silent)
        }
    }
}

fn compare(in_force: &InForce, plan: &Plan, url: &str, out: &mut dyn Write) -> io::Result<()> {
    let (former, next) = (&in_force.revision, &plan.revision);
    writeln!(
        out,
        "{url} has revision {former}, {} has {next}",
        plan.source
    )?;
    let changes = Outline(in_force.outline.clone()).changes(&plan.outline);
    for (name, change) in &changes {
        match change {
            Change::Added => writeln!(out, "+ {name}")?,
            Change::Removed => writeln!(out, "- {name}")?,
            Change::Changed(keys) => {
                writeln!(out, "~ {name}")?;
                for (key, former, next) in keys {
                    let (former, next) = (shown(former.as_deref()), shown(next.as_deref()));
                    writeln!(out, "    {key}: {former} -> {next}")?;
                }
            }
        }
    }
    match (changes.is_empty(), former == next) {
        (true, true) => writeln!(
            out,
            "nothing would change in the file; secrets and files that it names are read again"
        )?,
        (true, false) => writeln!(
            out,
            "nothing would change that can be shown: the text differs in a secret, a comment or its form"
        )?,
        (false, _) => {}
    }
    for key in needs_restart(&changes) {
        writeln!(out, "! {key} is only taken by a restart or an upgrade")?;
    }
    Ok(())
}

fn shown(value: Option<&str>) -> String {
    let Some(value) = value else {
        return "(not set)".to_owned();
    };
    match value.char_indices().nth(VALUE_MAX_CHARACTERS) {
        Some((end, _)) => format!("{}...", value.get(..end).unwrap_or(value)),
        None => value.to_owned(),
    }
}

/// The admin listener's token. What isn't visible ASCII would be another request.
fn token(name: &str, environment: &dyn Environment) -> Result<String, String> {
    let token = environment.variable(name).unwrap_or_default();
    let token = token.trim();
    match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err(format!(
            "--admin-token-env: expected the admin listener's token in the variable {name}, found none"
        )),
    }
}

/// The one question, by hand: a client would be a dependency for it.
fn ask(url: &str, token: Option<&str>) -> io::Result<InForce> {
    let rest = url.strip_prefix("http://").ok_or_else(|| {
        io::Error::other("expected the admin listener's URL, such as http://127.0.0.1:9090")
    })?;
    let authority = rest.trim_end_matches('/');
    let address = authority.to_socket_addrs()?.next();
    let address = address.ok_or_else(|| io::Error::other("its name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let shown = token.map(|token| format!("authorization: Bearer {token}\r\n"));
    let shown = shown.unwrap_or_default();
    write!(
        stream,
        "GET /configuration HTTP/1.1\r\nhost: {authority}\r\n{shown}connection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other("its answer isn't HTTP"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "401" {
        return Err(io::Error::other(match token {
            None => "it asks for its token: name the variable that holds it with --admin-token-env",
            Some(_) => "it doesn't take the token that --admin-token-env names",
        }));
    }
    if status != "200" {
        let message =
            format!("it answered {status}; a gateway of this version answers /configuration");
        return Err(io::Error::other(message));
    }
    serde_json::from_str(body)
        .map_err(|error| io::Error::other(format!("its answer isn't a gateway's: {error}")))
}
