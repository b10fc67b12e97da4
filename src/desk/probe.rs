//! Whether the service can be reached, without calling it.
//!
//! Duty: look up its name, and ask its host for the head of its front page over the very
//! client that calls go through. Relies on that client for limits of time and for
//! certificates. Never makes an API call, never sends a credential, never shows a path.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::DATE;

use super::Endpoint;
use super::deadline::within;
use super::failure::{self, Failure};
use super::http::{Trust, client};
use super::proxy::Route;
use crate::domain::clock::SystemClock;

/// What the host said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeResult {
    /// The HTTP status of its front page, whatever it is.
    pub http_status: u16,
    /// Its `Date` header, if it sent one.
    pub date: Option<String>,
}

/// What stands between this machine and the service; each is something else to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectError {
    /// Nobody listens there.
    Refused,
    /// Nothing came back in time.
    TimedOut,
    /// The certificate is not trusted, and why.
    Certificate(String),
    /// The proxy refuses, and why.
    Proxy(String),
    /// The machine's own certificates cannot be used, and why.
    NoCertificates(String),
    /// Something else, in words.
    Other(String),
}

/// The name that has to be looked up before `endpoint` can be called; `None` for an address.
pub fn host_to_resolve(endpoint: &Endpoint) -> Option<String> {
    let url = Url::parse(endpoint.base()).ok()?;
    let host = url.host_str()?.to_owned();
    let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    (!is_address && !endpoint.is_loopback()).then_some(host)
}

/// The addresses of `host`. Sets no limit of time.
///
/// # Errors
/// When nobody knows the name.
pub async fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((host, 443)).await?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    Ok(addresses)
}

/// Asks the host of `endpoint` for the head of its front page, by `route`.
///
/// # Errors
/// What stands in the way.
pub async fn probe(
    endpoint: &Endpoint,
    route: &Route,
    connect_timeout: Duration,
    total_timeout: Duration,
) -> Result<ProbeResult, ConnectError> {
    let connect_timeout = connect_timeout.min(total_timeout / 2);
    let client = client(endpoint, route, connect_timeout, Trust::toward(endpoint))
        .map_err(|error| ConnectError::NoCertificates(error.to_string()))?;
    let mut root = Url::parse(endpoint.base()).map_err(|e| ConnectError::Other(e.to_string()))?;
    root.set_path("/");
    let came = within(&SystemClock::new(), total_timeout, client.head(root).send()).await;
    let answer = came.ok_or(ConnectError::TimedOut)?.map_err(|error| obstacle(&error, route))?;
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
    Ok(ProbeResult { http_status: answer.status().as_u16(), date })
}

fn obstacle(error: &reqwest::Error, route: &Route) -> ConnectError {
    let text = failure::describe(error, route);
    match failure::of(error) {
        Failure::Certificate => ConnectError::Certificate(text),
        Failure::ProxyAuth | Failure::ProxyUnreachable => ConnectError::Proxy(text),
        _ if error.is_timeout() => ConnectError::TimedOut,
        _ if failure::is_refused(error) => ConnectError::Refused,
        Failure::NotConnected | Failure::NoResponse => ConnectError::Other(text),
    }
}
