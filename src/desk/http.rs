//! The API call over HTTP.
//!
//! Duty: write the request that section 1 of the contract notes describes, limit time and size, and map every
//! end of a request to a response kind. Relies on reqwest with rustls; certificate checks are always on and
//! have no switch.
//! Each request has its own connection. HTTP/1.1 pairs responses with requests by their order alone, so on a
//! kept connection a second response to one request would be taken for the response to the next request. The
//! cost is one handshake per request, at 5 requests per second.
//! Never follows a redirect, never repeats a request, never sends in clear text to another host, and never
//! puts an address or a UserSig into an error text.

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

/// The most bytes read of a response body; a real one has about a hundred bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The settings of an [`HttpTransport`].
#[derive(Debug, Clone)]
pub struct HttpSettings {
    pub endpoint: Endpoint,
    /// The administrator account in the UserSig.
    pub identifier: String,
    /// The timeout of a connection, name lookup and TLS included. 3 s by default. Limited to half of the
    /// total timeout: a connection that used all of it would look like a missing response, so the request
    /// would be in doubt.
    pub connect_timeout: Duration,
    /// The timeout of a whole request. 10 s by default; the service itself times out after 3 s.
    pub total_timeout: Duration,
}

impl HttpSettings {
    /// The default timeouts, for `endpoint` and `identifier`.
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
    /// The host lacks something, most likely certificates.
    #[error(
        "cannot set up the HTTP client: {0}. Install the certificates of this host (ca-certificates), or name a certificate file in SSL_CERT_FILE."
    )]
    Machine(String),
    /// The environment names a proxy that cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// The real transport. It uses the proxy of the environment for other hosts. The proxy sees only the host
/// name, because the encryption is end to end.
pub struct HttpTransport {
    client: Client,
    endpoint: Endpoint,
    base: Url,
    route: Route,
    /// Percent-encoded once, at construction.
    identifier: String,
    total_timeout: Duration,
    clock: SystemClock,
    /// Whether a response has come by this route. If so, the route is correct, and a proxy that later becomes
    /// unreachable may come back.
    has_responded: AtomicBool,
}

/// The body of a request; see section 1 of the contract notes.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "StandardQuestionIds")]
    ids: &'a [QuestionId],
    #[serde(rename = "Status")]
    status: i64,
}

/// The body of a read: the first question of a library.
#[derive(Serialize)]
struct ReadBody {
    #[serde(rename = "PageIndex")]
    page_index: u32,
    #[serde(rename = "PageSize")]
    page_size: u32,
}

/// Which certificate authorities the client trusts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Those of the operating system.
    System,
    /// None: every certificate is rejected. Clear text uses no certificate, so the sandbox works on a host
    /// without any.
    NoAuthority,
}

impl Trust {
    /// The trust that `endpoint` needs.
    pub(super) fn toward(endpoint: &Endpoint) -> Self {
        if endpoint.is_encrypted() { Self::System } else { Self::NoAuthority }
    }
}

/// The client of every request to `endpoint` by `route`. It sets no timeout for a whole request; see
/// [`within`].
pub(super) fn client(
    endpoint: &Endpoint,
    route: &Route,
    connect_timeout: Duration,
    trust: Trust,
) -> Result<Client, ClientError> {
    let machine = |error: reqwest::Error| ClientError::Machine(failure::causes_of(&error));
    // The only error is that another part of the process has already installed the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("deskbatch/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        // reqwest would repeat a request that it considers unprocessed, without a slot of the rate limiter.
        .retry(retry::never())
        .referer(false)
        .http1_only()
        // No connection is kept; the head of this file says why.
        .pool_max_idle_per_host(0)
        .connect_timeout(connect_timeout)
        // `route` has already read the environment.
        .no_proxy()
        .https_only(endpoint.is_encrypted());
    if let Route::Through(proxy) = route {
        builder = builder.proxy(reqwest::Proxy::all(proxy.url.clone()).map_err(machine)?);
    }
    if endpoint.is_loopback() {
        // A request to `localhost` stays on this host, whatever a proxy or a resolver says.
        let here = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let here = here.map(|address| SocketAddr::new(address, 0));
        builder = builder.resolve_to_addrs("localhost", &here);
    }
    if trust == Trust::NoAuthority {
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(machine)
}

impl HttpTransport {
    /// A transport that opens a connection for each request.
    ///
    /// # Errors
    /// When the certificates of this host cannot be loaded, or the environment names a proxy that
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

    /// The address of one request. It contains the UserSig and is never shown.
    fn url(&self, app: App, command: &str, usersig: &str) -> Url {
        let base = self.base.path().trim_end_matches('/');
        let mut url = self.base.clone();
        url.set_path(&format!("{base}/v4/openim_console_http_svc/{command}"));
        url.set_query(Some(&format!(
            "sdkappid={}&identifier={}&usersig={}&random={}&contenttype=json",
            app.sdkappid,
            self.identifier,
            percent_encoded(usersig),
            // The service uses this number to identify the request, so each attempt has its own.
            fastrand::u32(..),
        )));
        url
    }
}

/// What the header of a response contains.
#[derive(Debug, Clone, Copy)]
struct Head {
    http_status: u16,
    retry_after: Option<Duration>,
}

/// One POST request, for any command.
struct Post<'a> {
    app: App,
    command: &'static str,
    usersig: &'a str,
    body: String,
    /// The questions that a response may name.
    ids: &'a [QuestionId],
}

impl HttpTransport {
    /// Sends one request and reads its response. Sets `head` as soon as the header has arrived, because the
    /// timeout may cut off the body.
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

    /// The response kind of a request that got no HTTP status. It is in doubt if the request can have left.
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
        let (response, info) = came.unwrap_or_else(|| {
            let halfway = if head.is_some() { "the response is incomplete: " } else { "" };
            (ResponseKind::NoResponse, format!("{halfway}operation timed out"))
        });
        // The text of the service may repeat the request.
        let info = response::printable(&info, &[post.usersig, &percent_encoded(post.usersig)]);
        let (http_status, retry_after) =
            (head.map(|head| head.http_status), head.and_then(|head| head.retry_after));
        Response { kind: response, info, http_status, retry_after }
    }
}

/// Serialising numbers and texts cannot fail.
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

/// Reads a response piece by piece, so that the size limit bounds memory.
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
                    format!("the response has more than {BODY_BYTES_MAX} bytes"),
                );
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return response::read(&body, ids),
            Err(error) => {
                let why = format!("the response is incomplete: {}", failure::causes_of(&error));
                return (ResponseKind::NoResponse, why);
            }
        }
    }
}

/// Percent-encodes all but letters, digits and `-._~*`. Form encoding would write a blank as `+`, and the
/// service does not document how it reads that.
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
