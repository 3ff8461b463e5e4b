//! An issuer of real tokens, `oauth2-mock-server` from npm: signs, forges, rotates and goes away on command.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::http;
use super::installed::{installed, run};

/// A running issuer. Ended when dropped.
pub struct Issuer {
    /// Its name, and where it is.
    pub url: String,
    control: String,
    child: Child,
}

impl Issuer {
    /// Starts one, and installs it before if need be.
    pub fn start() -> Issuer {
        let folder = folder();
        let mut child = Command::new("node")
            .arg(folder.join("issuer.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is installed");
        let mut line = String::new();
        let mut told = BufReader::new(child.stdout.take().unwrap());
        told.read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        Issuer {
            url: told["issuer"].as_str().unwrap().to_owned(),
            control: told["control"].as_str().unwrap().to_owned(),
            child,
        }
    }

    /// A good token, with these claims over the usual ones (audience `api://tollgate`, `appid` `team-a`).
    pub fn token(&self, claims: Value) -> String {
        self.tell("token", json!({ "claims": claims }))
    }

    /// A good token by another algorithm.
    pub fn token_by(&self, algorithm: &str) -> String {
        self.tell("token", json!({ "alg": algorithm }))
    }

    /// A token that isn't good; `issuer.mjs` says which there are.
    pub fn forged(&self, how: &str) -> String {
        self.tell("token", json!({ "forge": how }))
    }

    /// From now on it signs with another key, and publishes that alone.
    pub fn rotate(&self) {
        self.tell("rotate", json!({}));
    }

    /// From now on nothing answers there.
    pub fn down(&self) {
        self.tell("down", json!({}));
    }

    /// It is back.
    pub fn up(&self) {
        self.tell("up", json!({}));
    }

    fn tell(&self, command: &str, what: Value) -> String {
        let answer = http::post(
            &format!("{}/{command}", self.control),
            &[],
            &what.to_string(),
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }
}

/// Where it is installed. A script finds its packages beside itself.
fn folder() -> PathBuf {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/issuer");
    let files = ["package.json", "package-lock.json", "issuer.mjs"];
    let texts = files.map(|file| fs::read_to_string(cases.join(file)).unwrap());
    installed("issuer", &texts.concat(), |folder| {
        for (file, text) in files.iter().zip(&texts) {
            fs::write(folder.join(file), text).unwrap();
        }
        let arguments = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
        run(Command::new("npm").args(arguments).current_dir(folder));
    })
}

impl Drop for Issuer {
    fn drop(&mut self) {
        // It ends by itself where its input ends; this is quicker.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
