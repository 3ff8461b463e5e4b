//! A real Chromium without a window, driven by WebDriver: what a person would see of a page, and what the page did.
//!
//! Debian's `chromium` and `chromium-driver`. Spoken to in HTTP by this folder's own client, so that nothing else is
//! needed.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::gateway::free_address;
use super::{http, wait_until};

/// A browser with one page. Ended when dropped.
pub struct Browser {
    session: String,
    driver: Child,
    _profile: tempfile::TempDir,
}

/// The width and height of the page, in its own pixels.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u32, pub u32);

/// What the reader prefers.
#[derive(Clone, Copy, Debug)]
pub enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl Browser {
    /// Starts one.
    pub fn start() -> Browser {
        let address = free_address();
        let port = address.rsplit(':').next().unwrap();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts; Debian has it in chromium-driver");
        let url = format!("http://{address}");
        wait_until("chromedriver is ready", || {
            let answer = http::try_get(&format!("{url}/status")).ok()?;
            (answer.json()["value"]["ready"] == true).then_some(())
        });
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Browser {
            session: format!("{url}/session"),
            driver,
            _profile: profile,
        };
        let folder = browser._profile.path().display().to_string();
        let capabilities = capabilities(&folder);
        let session = browser.post("", json!({"capabilities": {"alwaysMatch": capabilities}}));
        let id = session["sessionId"].as_str().unwrap();
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        // What the browser asked for its own empty page isn't this page's.
        let _ = self.requests();
        self.post("/url", json!({"url": url}));
    }

    /// What a script returns.
    pub fn script(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": []}))
    }

    /// The text of an element as a person sees it; empty where there is none.
    pub fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({selector:?})?.innerText ?? ''");
        self.script(&script).as_str().unwrap().to_owned()
    }

    /// Waits until an element's text holds this, and tells it whole.
    pub fn wait_for_text(&self, selector: &str, wanted: &str) -> String {
        let mut last = String::new();
        wait_until(&format!("{selector} says {wanted:?}"), || {
            last = self.text(selector);
            last.contains(wanted).then(|| last.clone())
        })
    }

    /// Shows the page as large as this, and in this scheme.
    pub fn show(&self, Size(width, height): Size, scheme: Scheme) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        let value = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.devtools("Emulation.setEmulatedMedia", media);
    }

    /// A picture of what is shown, as PNG.
    pub fn picture(&self) -> Vec<u8> {
        use base64::Engine as _;
        let answer = self.devtools("Page.captureScreenshot", json!({"format": "png"}));
        let text = answer["data"].as_str().unwrap();
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap()
    }

    /// What the page wrote to its console, and what the browser complained of, since it was last asked.
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.post("/se/log", json!({"type": "browser"}));
        let entries = entries.as_array().unwrap().iter();
        entries.map(|entry| entry.to_string()).collect()
    }

    /// Every address that the page asked for, since it was last asked.
    pub fn requests(&self) -> Vec<String> {
        let entries = self.post("/se/log", json!({"type": "performance"}));
        let events = entries.as_array().unwrap().iter().map(|entry| {
            let text = entry["message"].as_str().unwrap();
            serde_json::from_str::<Value>(text).unwrap()["message"].clone()
        });
        let begun = events.filter(|event| event["method"] == "Network.requestWillBeSent");
        let url = |event: Value| {
            event["params"]["request"]["url"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        begun.map(url).collect()
    }

    fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post(
            "/goog/cdp/execute",
            json!({"cmd": command, "params": parameters}),
        )
    }

    fn post(&self, path: &str, body: Value) -> Value {
        let answer = http::post(&format!("{}{path}", self.session), &[], &body.to_string());
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
        answer.json()["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = http::request("DELETE", &self.session, &[], b"");
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// As root, without a network, and without what Chromium asks its makers by itself.
fn capabilities(profile: &str) -> Value {
    let profile = format!("--user-data-dir={profile}");
    let arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        "--lang=en-GB",
        profile.as_str(),
    ];
    json!({
        "browserName": "chrome",
        "goog:chromeOptions": {"binary": "/usr/bin/chromium", "args": arguments},
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    })
}
