//! Helpers for browser tests: a real headless Chromium, driven by chromedriver.
//!
//! Without chromedriver these tests print how to get it and pass, but fail in CI. They wait for
//! conditions of the document with a mutation observer.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fantoccini::wd::{TimeoutConfiguration, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::place::report_line;

/// A test fails if a condition takes longer than this.
const PATIENCE: Duration = Duration::from_mins(1);

/// A browser with one window. All of its processes end on drop.
pub struct Browser {
    pub client: Client,
    driver: Driver,
}

/// chromedriver and its child processes, in a process group of their own.
struct Driver {
    child: Child,
    port: u16,
    session: String,
    /// Must exist until the browser has ended.
    profile: TempDir,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // An orderly shutdown leaves no files behind, even after a failed test.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let request = format!(
                "DELETE /session/{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                self.session
            );
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.read(&mut [0; 64]);
        }
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// A Chromium-specific command: devtools, and its logs.
#[derive(Debug)]
struct Own {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

impl Browser {
    /// A new browser; `None`, with a message, where none is installed.
    pub async fn start() -> Option<Self> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(e) if std::env::var_os("CI").is_none() => {
                report_line(&format!(
                    "NOT TESTED: chromedriver cannot be started ({e}): apt-get install chromium chromium-driver"
                ));
                return None;
            }
            Err(e) => panic!(
                "chromedriver cannot be started: {e}: apt-get install chromium chromium-driver"
            ),
        };
        let mut says = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let port: u16 = loop {
            line.clear();
            assert!(says.read_line(&mut line).unwrap() > 0, "chromedriver ended");
            if let Some((_, port)) = line.split_once("successfully on port ") {
                break port.trim().trim_end_matches('.').parse().unwrap();
            }
        };
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Driver { child, port, session: String::new(), profile };
        let capabilities = capabilities(driver.profile.path());
        let mut builder = ClientBuilder::new(hyper_connector());
        builder.capabilities(capabilities.as_object().unwrap().clone());
        let client = builder.connect(&format!("http://127.0.0.1:{port}")).await.unwrap();
        driver.session = client.session_id().await.unwrap().unwrap();
        let patience = TimeoutConfiguration::new(Some(PATIENCE), Some(PATIENCE), None);
        client.update_timeouts(patience).await.unwrap();
        Some(Self { client, driver })
    }

    /// Opens an address.
    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// Runs `script` and returns its result.
    pub async fn ask(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// Returns once `condition`, an expression, is true in the document.
    pub async fn until(&self, condition: &str) {
        let script = format!(
            "const done = arguments[0];
             const holds = () => {{ try {{ return Boolean({condition}); }} catch {{ return false; }} }};
             if (holds()) return done(true);
             const watch = new MutationObserver(() => {{ if (holds()) {{ watch.disconnect(); done(true); }} }});
             watch.observe(document, {{ subtree: true, childList: true, characterData: true, attributes: true }});"
        );
        if let Err(e) = self.client.execute_async(&script, Vec::new()).await {
            panic!("{condition}: {e}\n{}", self.ask("return document.body.innerText").await);
        }
    }

    /// Runs a devtools command.
    pub async fn tool(&self, command: &str, params: Value) -> Value {
        let body = json!({ "cmd": command, "params": params });
        self.client.issue_cmd(Own { path: "goog/cdp/execute", body }).await.unwrap()
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        let log =
            self.client.issue_cmd(Own { path: "se/log", body: json!({ "type": kind }) }).await;
        log.unwrap().as_array().unwrap().clone()
    }

    /// Fails if the browser has logged a problem since the last call.
    pub async fn has_no_complaint(&self) {
        let log = self.log("browser").await;
        assert!(log.is_empty(), "{log:#?}");
    }

    /// The addresses requested since the last call, without duplicates. Data URLs of the page and the
    /// browser's own first page are no requests.
    pub async fn requested(&self) -> Vec<String> {
        let mut urls: Vec<String> = Vec::new();
        for entry in self.log("performance").await {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            let message = &message["message"];
            if message["method"] == "Network.requestWillBeSent" {
                let url = message["params"]["request"]["url"].as_str().unwrap().to_owned();
                let own = url.starts_with("data:") || url.starts_with("chrome:");
                if !own && !urls.contains(&url) {
                    urls.push(url);
                }
            }
        }
        urls
    }

    /// Sets the preferred colour scheme: `light` or `dark`.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.tool("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Sets the inner size of the window in CSS pixels.
    pub async fn size(&self, width: u32, height: u32) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.tool("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Fails on violations of accessibility rules, in light and dark, wide and narrow. A narrow page
    /// must not be wider than its window.
    pub async fn is_accessible(&self) {
        for (scheme, width) in [("light", 1100), ("dark", 1100), ("light", 360), ("dark", 360)] {
            self.prefer(scheme).await;
            self.size(width, 800).await;
            self.has_no_violation(&format!("{scheme}, {width} px")).await;
            let wide = self.ask("return document.documentElement.scrollWidth").await;
            assert!(wide.as_u64().unwrap() <= u64::from(width), "{wide} px at {width}");
        }
        self.prefer("light").await;
        self.size(1100, 900).await;
    }

    /// Fails on violations of accessibility rules in the present colours and size, which `at` names.
    pub async fn has_no_violation(&self, at: &str) {
        self.ask(include_str!("../../data/axe/axe.min.js")).await;
        let script = "const done = arguments[0];
            axe.run(document, { preload: false, resultTypes: ['violations'] }).then(
              (found) => done(found.violations.map((v) => v.id + ': ' + v.nodes.map((n) => n.html).join(' '))),
              (error) => done([String(error)]));";
        let found = self.client.execute_async(script, Vec::new()).await.unwrap();
        assert_eq!(found, json!([]), "{at}");
    }

    /// Saves a picture of the page's upper `height` CSS pixels to `to`.
    pub async fn picture(&self, height: u32, to: &Path) {
        let clip = json!({ "x": 0, "y": 0, "width": 1100, "height": height, "scale": 1 });
        let params = json!({ "format": "png", "clip": clip, "captureBeyondViewport": true });
        let picture = self.tool("Page.captureScreenshot", params).await;
        let bytes = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(to, bytes).unwrap();
    }

    /// Asks the browser to quit, and waits for it.
    pub async fn end(self) {
        self.client.close().await.unwrap();
        drop(self.driver);
    }
}

fn hyper_connector() -> hyper_util::client::legacy::connect::HttpConnector {
    hyper_util::client::legacy::connect::HttpConnector::new()
}

fn capabilities(profile: &Path) -> Value {
    let args = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        &format!("--user-data-dir={}", profile.display()),
    ];
    json!({
        "goog:chromeOptions": { "args": args, "perfLoggingPrefs": { "enableNetwork": true } },
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
    })
}
