//! The call over HTTP.
//!
//! Duty: write the request as section 1 of the contract notes has it, limit time and size, and
//! say of every way it can end which answer that is.
//! Relies on reqwest with rustls; certificate checks are always on and have no switch.
//! Each request has a connection of its own: HTTP/1.1 pairs responses with requests by their order
//! alone, so on a kept connection a second response to one request would be taken for the response
//! to the next, whatever questions that had. It costs a handshake for each of 5 requests a second.
//! Never follows a redirect, never repeats a request, never sends in clear text to another
//! machine, and never lets an address or a UserSig into an error text.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url, redirect, retry};
use secrecy::ExposeSecret as _;
use serde::Serialize;

use super::failure::{self, Failure};
use super::proxy::{ProxyError, Route, route};
use super::retry_after::retry_after;
use super::{Endpoint, ReadRequest, Response, SetStatusRequest, Transport, response};
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::deadline::within;
use crate::domain::job::{App, Library, QuestionId};
use crate::domain::verdict::ResponseKind;

/// The most that is read of an answer; a real one has about a hundred bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What an [`HttpTransport`] needs to know.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Where the service is.
    pub endpoint: Endpoint,
    /// The administrator account that calls; the one in the UserSig.
    pub identifier: String,
    /// The most a connection may take, name lookup and TLS included. 3 s by default; held
    /// to half of the total, since a connection that takes all of it could not be told
    /// from an answer that never came.
    pub connect_timeout: Duration,
    /// The most a call may take from start to end. 10 s by default; the service itself
    /// gives up after 3 s.
    pub total_timeout: Duration,
}

impl HttpSettings {
    /// The usual time limits, toward `endpoint` as `identifier`.
    pub fn new(endpoint: Endpoint, identifier: impl Into<String>) -> Self {
        Self {
            endpoint,
            identifier: identifier.into(),
            connect_timeout: Duration::from_secs(3),
            total_timeout: Duration::from_secs(10),
        }
    }
}

/// The HTTP client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// This machine lacks something; most likely certificates.
    #[error(
        "the HTTP client cannot be set up: {0}: install the machine's certificates (ca-certificates), or name a file of them in SSL_CERT_FILE"
    )]
    Machine(String),
    /// The environment names a proxy that cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// The real way to the service. A proxy that the environment names is used toward other
/// machines, and sees no more than which host is called: the encryption goes through it.
pub struct HttpTransport {
    client: Client,
    endpoint: Endpoint,
    base: Url,
    route: Route,
    /// Percent-encoded once.
    identifier: String,
    total_timeout: Duration,
    clock: SystemClock,
    /// Whether a response has come by this way, so that the way is right: a proxy that is gone
    /// after that may come back.
    has_responded: AtomicBool,
}

/// What a request carries; section 1 of the contract notes.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "StandardQuestionIds")]
    ids: &'a [QuestionId],
    #[serde(rename = "Status")]
    status: i64,
}

/// What a read carries: the first question of a library.
#[derive(Serialize)]
struct ReadBody {
    #[serde(rename = "PageIndex")]
    page_index: u32,
    #[serde(rename = "PageSize")]
    page_size: u32,
}

/// Which issuers of certificates are believed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Those the operating system believes.
    System,
    /// None: every certificate is refused. For clear text, which has none, so that a
    /// rehearsal works on a machine without any certificates.
    Nobody,
}

impl Trust {
    /// As `endpoint` needs it.
    pub(super) fn toward(endpoint: &Endpoint) -> Self {
        if endpoint.is_encrypted() { Self::System } else { Self::Nobody }
    }
}

/// The client through which everything goes that leaves for `endpoint` by `route`. Sets no limit of
/// time to a whole request; see [`within`].
pub(super) fn client(
    endpoint: &Endpoint,
    route: &Route,
    connect_timeout: Duration,
    trust: Trust,
) -> Result<Client, ClientError> {
    let machine = |error: reqwest::Error| ClientError::Machine(failure::causes_of(&error));
    // The only error is that another part of the process came first, with the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("deskbatch/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        // reqwest would repeat what it thinks was not processed, past the gate.
        .retry(retry::never())
        .referer(false)
        .http1_only()
        // No connection is kept; see the head of this file.
        .pool_max_idle_per_host(0)
        .connect_timeout(connect_timeout)
        // The environment was read by `route`.
        .no_proxy()
        .https_only(endpoint.is_encrypted());
    if let Route::Through(proxy) = route {
        builder = builder.proxy(reqwest::Proxy::all(proxy.url.clone()).map_err(machine)?);
    }
    if endpoint.is_loopback() {
        // Whatever a proxy or a resolver would make of it, it stays on this machine.
        let here = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let here = here.map(|address| SocketAddr::new(address, 0));
        builder = builder.resolve_to_addrs("localhost", &here);
    }
    if trust == Trust::Nobody {
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(machine)
}

impl HttpTransport {
    /// A client that connects at each call.
    ///
    /// # Errors
    /// When the machine's certificates cannot be loaded, or the environment names a proxy that
    /// cannot be used.
    pub fn new(settings: &HttpSettings) -> Result<Self, ClientError> {
        Self::trusting(settings, Trust::toward(&settings.endpoint))
    }

    fn trusting(settings: &HttpSettings, trust: Trust) -> Result<Self, ClientError> {
        let endpoint = settings.endpoint.clone();
        let base = Url::parse(endpoint.base()).map_err(|e| ClientError::Machine(e.to_string()))?;
        let route = route(&endpoint)?;
        let total_timeout = settings.total_timeout;
        let connect_timeout = settings.connect_timeout.min(total_timeout / 2);
        Ok(Self {
            client: client(&endpoint, &route, connect_timeout, trust)?,
            endpoint,
            base,
            route,
            identifier: percent_encoded(&settings.identifier),
            total_timeout,
            clock: SystemClock::new(),
            has_responded: AtomicBool::new(false),
        })
    }

    /// The address of one attempt. It carries the UserSig: never to be shown.
    fn url(&self, app: App, command: &str, usersig: &str) -> Url {
        let base = self.base.path().trim_end_matches('/');
        let mut url = self.base.clone();
        url.set_path(&format!("{base}/v4/openim_console_http_svc/{command}"));
        url.set_query(Some(&format!(
            "sdkappid={}&identifier={}&usersig={}&random={}&contenttype=json",
            app.sdkappid,
            self.identifier,
            percent_encoded(usersig),
            // The service calls it the identity of the request, so each attempt has its own.
            fastrand::u32(..),
        )));
        url
    }
}

/// What the head of a response says.
#[derive(Debug, Clone, Copy)]
struct Head {
    http_status: u16,
    retry_after: Option<Duration>,
}

/// One POST, whatever it asks for.
struct Post<'a> {
    app: App,
    command: &'static str,
    usersig: &'a str,
    body: String,
    /// The questions that a response may be about.
    ids: &'a [QuestionId],
}

impl HttpTransport {
    /// One request and its response. `head` is set as soon as it is known: what comes after it may
    /// not come in time.
    async fn exchange(&self, post: &Post<'_>, head: &mut Option<Head>) -> (ResponseKind, String) {
        let request = self
            .client
            .post(self.url(post.app, post.command, post.usersig))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(CONNECTION, HeaderValue::from_static("close"))
            .body(post.body.clone());
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                return (self.without_response(&error), failure::describe(&error, &self.route));
            }
        };
        self.has_responded.store(true, Ordering::Relaxed);
        let http_status = response.status().as_u16();
        let retry_after = retry_after(response.headers(), self.clock.wall_ms());
        *head = Some(Head { http_status, retry_after });
        read(response, post.ids).await
    }

    /// The answer for a request that got no HTTP status: whether it can have left decides
    /// whether it is in doubt.
    fn without_response(&self, error: &reqwest::Error) -> ResponseKind {
        match failure::of(error) {
            Failure::Certificate => ResponseKind::Certificate,
            Failure::ProxyAuth => ResponseKind::Proxy,
            Failure::ProxyUnreachable if !self.has_responded.load(Ordering::Relaxed) => {
                ResponseKind::Proxy
            }
            Failure::ProxyUnreachable | Failure::NotConnected => ResponseKind::NotConnected,
            Failure::NoResponse => ResponseKind::NoResponse,
        }
    }
}

impl HttpTransport {
    async fn post(&self, post: &Post<'_>) -> Response {
        let mut head = None;
        let exchange = self.exchange(post, &mut head);
        let came = within(&self.clock, self.total_timeout, exchange).await;
        let (answer, info) = came.unwrap_or_else(|| {
            let halfway = if head.is_some() { "the answer stopped halfway: " } else { "" };
            (ResponseKind::NoResponse, format!("{halfway}operation timed out"))
        });
        // The service is free to repeat the request in its text.
        let info = response::printable(&info, &[post.usersig, &percent_encoded(post.usersig)]);
        let (http_status, retry_after) =
            (head.map(|head| head.http_status), head.and_then(|head| head.retry_after));
        Response { kind: answer, info, http_status, retry_after }
    }
}

/// Numbers and texts can always be written.
fn json(body: &impl Serialize) -> String {
    serde_json::to_string(body).unwrap_or_default()
}

impl Transport for HttpTransport {
    async fn send(&self, call: &SetStatusRequest) -> Response {
        let command = match call.app.library {
            Library::Chitchat => "batch_set_chitchat",
            Library::Faq => "batch_set_faq",
        };
        let body = json(&Body { ids: &call.ids, status: call.status.code() });
        let usersig = call.usersig.expose_secret();
        self.post(&Post { app: call.app, command, usersig, body, ids: &call.ids }).await
    }

    async fn read(&self, call: &ReadRequest) -> Response {
        let command = match call.app.library {
            Library::Chitchat => "list_chitchat",
            Library::Faq => "list_faq",
        };
        let body = json(&ReadBody { page_index: 1, page_size: 1 });
        let usersig = call.usersig.expose_secret();
        self.post(&Post { app: call.app, command, usersig, body, ids: &[] }).await
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Reads a response, piece by piece so that the limit holds for what is kept in memory.
async fn read(mut response: reqwest::Response, ids: &[QuestionId]) -> (ResponseKind, String) {
    let status = response.status().as_u16();
    if status != 200 {
        return (ResponseKind::HttpStatus(status), format!("HTTP status {status} instead of 200"));
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > BODY_BYTES_MAX => {
                return (
                    ResponseKind::Unreadable,
                    format!("the answer is over {BODY_BYTES_MAX} bytes"),
                );
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return response::read(&body, ids),
            Err(error) => {
                let why = format!("the answer stopped halfway: {}", failure::causes_of(&error));
                return (ResponseKind::NoResponse, why);
            }
        }
    }
}

/// Percent-encodes all but letters, digits and `-._~*`. Not form encoding, which writes a
/// blank as `+`: how the service reads that is not documented.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'*' => {
                encoded.push(char::from(byte));
            }
            // Writing to a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests;
