//! A probe: whether the service can be reached, without an API call.
//!
//! It resolves the name of the service and requests the head of its front page with the client that API
//! calls use, which sets the timeouts and the trusted certificates. It never sends a credential and never
//! shows a path.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::DATE;

use super::Endpoint;
use super::failure::{self, Failure};
use super::http::{Trust, client};
use super::proxy::Route;
use crate::domain::clock::SystemClock;
use crate::domain::deadline::within;

/// The response of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeResult {
    /// The HTTP status of its front page.
    pub http_status: u16,
    /// Its `Date` header, if it sent one.
    pub date: Option<String>,
}

/// Why the service cannot be reached. Each variant has its own remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectError {
    /// No program listens at the address.
    Refused,
    TimedOut,
    /// The certificate is not trusted, with the reason.
    Certificate(String),
    /// The proxy rejects the request, with the reason.
    Proxy(String),
    /// The certificates of this host cannot be used, with the reason.
    NoCertificates(String),
    /// Any other reason, in words.
    Other(String),
}

/// The host name of `endpoint` that must be resolved; `None` for an IP address.
pub fn host_to_resolve(endpoint: &Endpoint) -> Option<String> {
    let url = Url::parse(endpoint.base()).ok()?;
    let host = url.host_str()?.to_owned();
    let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    (!is_address && !endpoint.is_loopback()).then_some(host)
}

/// The addresses of `host`. Sets no timeout.
///
/// # Errors
/// When the name cannot be resolved.
pub async fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((host, 443)).await?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    Ok(addresses)
}

/// Requests the head of the front page of `endpoint`, by `route`.
///
/// # Errors
/// Why the service cannot be reached.
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
    let response = within(&SystemClock::new(), total_timeout, client.head(root).send()).await;
    let response =
        response.ok_or(ConnectError::TimedOut)?.map_err(|error| connect_error(&error, route))?;
    let date = response.headers().get(DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
    Ok(ProbeResult { http_status: response.status().as_u16(), date })
}

fn connect_error(error: &reqwest::Error, route: &Route) -> ConnectError {
    let text = failure::describe(error, route);
    match failure::of(error) {
        Failure::Certificate => ConnectError::Certificate(text),
        Failure::ProxyAuth | Failure::ProxyUnreachable => ConnectError::Proxy(text),
        _ if error.is_timeout() => ConnectError::TimedOut,
        _ if failure::is_refused(error) => ConnectError::Refused,
        Failure::NotConnected | Failure::NoResponse => ConnectError::Other(text),
    }
}
