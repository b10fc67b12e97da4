//! Why a request got no HTTP response: whether it can have left, and whether waiting helps.
//!
//! Pure. Relies on the public types of the errors. For a tunnel through a proxy the client has no public
//! type, so its error texts decide; `tests/it/hostile_proxy.rs` pins them. A text consists of the causes
//! alone, because the client's own errors show the address.

use std::error::Error;
use std::io;

use super::proxy::Route;

/// Why a request failed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The certificate of the other side is not trusted.
    Certificate,
    /// The proxy requires authentication (HTTP 407).
    ProxyAuth,
    /// No connection to the proxy itself.
    ProxyUnreachable,
    /// No connection, for another reason.
    NotConnected,
    /// The request may have left, so its jobs are in doubt.
    NoResponse,
}

pub(super) fn of(error: &reqwest::Error) -> Failure {
    if causes(error).any(is_untrusted) {
        return Failure::Certificate;
    }
    let tunnel =
        causes(error).map(ToString::to_string).find(|text| text.starts_with("tunnel error: "));
    match tunnel.as_deref().map(|text| text.trim_start_matches("tunnel error: ")) {
        Some("proxy authorization required") => Failure::ProxyAuth,
        Some("failed to create underlying connection") => Failure::ProxyUnreachable,
        _ if error.is_connect() || error.is_builder() => Failure::NotConnected,
        _ => Failure::NoResponse,
    }
}

/// The reason in words, for a request that left by `route`.
pub(super) fn describe(error: &reqwest::Error, route: &Route) -> String {
    let text = causes_of(error);
    let Route::Through(proxy) = route else { return text };
    let proxy = format!("the proxy {} (set by {})", proxy.shown, proxy.variable);
    match of(error) {
        Failure::ProxyAuth => {
            format!("{proxy} requires a user name and password (HTTP status 407)")
        }
        Failure::ProxyUnreachable => format!("cannot reach {proxy}: {text}"),
        Failure::NotConnected => format!("no connection through {proxy}: {text}"),
        Failure::Certificate | Failure::NoResponse => text,
    }
}

/// Causes that say only where in the client an error came up.
const LAYERS: [&str; 3] = ["client error (", "tcp connect error", "connection error"];

/// The causes of `error`, each text once.
pub(super) fn causes_of(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in causes(error).filter(|cause| !cause.is::<reqwest::Error>()) {
        let text = cause.to_string();
        if cause.source().is_some() && LAYERS.iter().any(|layer| text.starts_with(layer)) {
            continue;
        }
        // Some causes already quote the next cause.
        if !texts.iter().any(|earlier| earlier.contains(&text)) {
            texts.push(text);
        }
    }
    if texts.is_empty() { "the request failed".to_owned() } else { texts.join(": ") }
}

/// Whether no program listens at the address of the connection.
pub(super) fn is_refused(error: &reqwest::Error) -> bool {
    let mut kinds = causes(error).filter_map(|cause| cause.downcast_ref().map(io::Error::kind));
    kinds.any(|kind| kind == io::ErrorKind::ConnectionRefused)
}

fn is_untrusted(cause: &(dyn Error + 'static)) -> bool {
    matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
}

/// Every cause of `error`. An I/O error that wraps another error does not return it as its source.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| {
        let carried = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match carried {
            Some(carried) => Some(carried as &(dyn Error + 'static)),
            None => cause.source(),
        }
    })
}
