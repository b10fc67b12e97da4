//! Which proxy the environment sets for requests.
//!
//! Only this module decides it: the client is built with this decision, and `doctor` shows it. An unusable
//! value is an error that names its variable, because the client would ignore it silently. Shows only the
//! host and port of a value, which may contain a password.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use super::Endpoint;

/// The variables that set a proxy, in order of precedence.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The variables that list the hosts to reach without a proxy.
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The route of requests: direct, or through a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Directly to the service: the environment sets no proxy.
    Direct,
    /// Directly to the service although the environment sets a proxy.
    Around {
        /// The variable that sets the proxy.
        variable: &'static str,
        /// The variable that makes the exception; `None` if the service is on this host.
        exception: Option<&'static str>,
    },
    /// Through a proxy.
    Through(Proxy),
}

/// A usable proxy that the environment sets.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// The variable that sets it.
    pub variable: &'static str,
    /// Its host and port.
    pub shown: String,
    /// Includes its user name and password, if any, so it is never shown.
    pub(super) url: Url,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}: {})", self.variable, self.shown)
    }
}

/// A variable whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {why}")]
pub struct ProxyError {
    /// Its name.
    pub variable: &'static str,
    why: &'static str,
}

/// The route of requests to `endpoint` in this environment.
///
/// # Errors
/// When a variable that matters has a value that cannot be used.
pub fn route(endpoint: &Endpoint) -> Result<Route, ProxyError> {
    decide(endpoint, |name| std::env::var_os(name))
}

fn decide(
    endpoint: &Endpoint,
    value_of: impl Fn(&str) -> Option<OsString>,
) -> Result<Route, ProxyError> {
    let first = |names: &[&'static str]| {
        let set = |name: &&'static str| Some((*name, value_of(name).filter(|v| !v.is_empty())?));
        names.iter().find_map(set)
    };
    let Some((variable, value)) = first(&PROXIES) else { return Ok(Route::Direct) };
    if endpoint.is_loopback() {
        return Ok(Route::Around { variable, exception: None });
    }
    if let Some((exception, list)) = first(&EXCEPTIONS)
        && excepts(plain(exception, &list, false)?, endpoint)
    {
        return Ok(Route::Around { variable, exception: Some(exception) });
    }
    let value = plain(variable, &value, true)?;
    read(value)
        .map(|(url, shown)| Route::Through(Proxy { variable, shown, url }))
        .map_err(|why| ProxyError { variable, why })
}

/// The value as text. Rejects characters that come from how the value was written, such as quotation marks or
/// line ends.
fn plain<'a>(
    variable: &'static str,
    value: &'a OsString,
    refuses_blanks: bool,
) -> Result<&'a str, ProxyError> {
    let error = |why| Err(ProxyError { variable, why });
    let Some(text) = value.to_str().filter(|text| text.is_ascii()) else {
        return error(
            "the value contains characters that no address has: write http://HOST:PORT, or unset it",
        );
    };
    if text.contains(['"', '\'', '`']) {
        return error(
            "the value contains quotes, which some programs do not remove from environment files: remove them",
        );
    }
    if text.contains(|c: char| c.is_ascii_control() || (refuses_blanks && c == ' ')) {
        return error(
            "the value contains a blank or a line end, e.g. from a file with CRLF line ends: remove it",
        );
    }
    Ok(text)
}

/// The address of a proxy, and its host and port for display.
fn read(value: &str) -> Result<(Url, String), &'static str> {
    const FORM: &str =
        "the value is not the address of a proxy: write http://HOST:PORT, or unset it";
    let scheme = value.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let written = match scheme.as_deref() {
        None => format!("http://{value}"),
        Some("http" | "https") => value.to_owned(),
        Some(_) => {
            return Err("only HTTP proxies are supported: write http://HOST:PORT, or unset it");
        }
    };
    let url = Url::parse(&written).map_err(|_| FORM)?;
    let is_bare =
        matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    match (url.host_str(), url.port_or_known_default()) {
        (Some(host), Some(port)) if is_bare && port > 0 => {
            let shown = format!("{host}:{port}");
            Ok((url, shown))
        }
        _ => Err(FORM),
    }
}

/// Whether `list`, in the format of `NO_PROXY`, contains the host of `endpoint`. An entry is `*`, a name
/// (which includes its subdomains), an address or a network, each with an optional port.
fn excepts(list: &str, endpoint: &Endpoint) -> bool {
    let Ok(url) = Url::parse(endpoint.base()) else { return false };
    let Some(host) = url.host_str().map(|host| host.trim_matches(['[', ']'])) else { return false };
    let port = url.port_or_known_default();
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let (entry, entry_port) = split_port(entry);
        if entry_port.is_some() && entry_port != port {
            return false;
        }
        if entry == "*" {
            return true;
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return covers(entry.trim_matches(['[', ']']), address);
        }
        let name = entry.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
        let Some(before) = host.strip_suffix(name.as_str()) else { return false };
        !name.is_empty() && (before.is_empty() || before.ends_with('.'))
    })
}

/// An entry and its port, if any. An IPv6 address itself contains colons.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

/// Whether `entry`, an address or a network in CIDR form, contains `address`.
fn covers(entry: &str, address: IpAddr) -> bool {
    let (network, bits) = entry.split_once('/').map_or((entry, None), |(a, b)| (a, Some(b)));
    let Ok(network) = network.parse::<IpAddr>() else { return false };
    let same = |a: u128, b: u128, width: u32| {
        let bits = bits.map_or(Some(width), |bits| bits.parse().ok());
        let Some(bits) = bits.filter(|bits| *bits <= width) else { return false };
        bits == 0 || (a ^ b) >> (width - bits) == 0
    };
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The route to `endpoint` in an environment of `variables`.
    fn to(endpoint: &str, variables: &[(&str, &str)]) -> Result<Route, ProxyError> {
        let endpoint = endpoint.parse().expect("is an endpoint");
        decide(&endpoint, |name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    fn through(route: &Result<Route, ProxyError>) -> Option<(&'static str, &str)> {
        match route {
            Ok(Route::Through(proxy)) => Some((proxy.variable, proxy.shown.as_str())),
            _ => None,
        }
    }

    #[test]
    fn first_variable_that_is_set_names_the_proxy() {
        let all = [
            ("all_proxy", "http://d:1"),
            ("ALL_PROXY", "http://c:1"),
            ("https_proxy", "http://b:1"),
            ("HTTPS_PROXY", "a"),
        ];
        let host = "https://service.example";
        for (left, expected) in [
            (4, ("HTTPS_PROXY", "a:80")),
            (3, ("https_proxy", "b:1")),
            (2, ("ALL_PROXY", "c:1")),
            (1, ("all_proxy", "d:1")),
        ] {
            assert_eq!(through(&to(host, &all[..left])), Some(expected));
        }
        let empty = [("HTTPS_PROXY", ""), ("ALL_PROXY", "https://u:p@c")];
        assert_eq!(through(&to(host, &empty)), Some(("ALL_PROXY", "c:443")));
        assert_eq!(to(host, &[("HTTP_PROXY", "http://a:1")]), Ok(Route::Direct));
    }

    #[test]
    fn no_proxy_is_used_toward_this_host() {
        let route = to("http://127.0.0.1:1", &[("ALL_PROXY", "\"broken\"")]);
        assert_eq!(route, Ok(Route::Around { variable: "ALL_PROXY", exception: None }));
    }

    #[test]
    fn exceptions_are_names_addresses_and_networks() {
        let is_excepted = |host: &str, list: &str| {
            let variables = [("HTTPS_PROXY", "http://p:1"), ("no_proxy", list)];
            match to(host, &variables).expect("is usable") {
                Route::Around { exception, .. } => exception == Some("no_proxy"),
                _ => false,
            }
        };
        let name = "https://a.b.example:8443";
        for list in ["*", "a.b.example", "b.example", ".B.example", "*.example", "x, example:8443"]
        {
            assert!(is_excepted(name, list), "{list}");
        }
        for list in ["", ",", ".", "xa.b.example", "ample", "a.b.example:443", "10.0.0.0/8", "a"] {
            assert!(!is_excepted(name, list), "{list}");
        }
        for list in ["10.1.2.3", "10.0.0.0/8", "10.1.2.2/31", "0.0.0.0/0", "10.1.2.3:443"] {
            assert!(is_excepted("https://10.1.2.3", list), "{list}");
        }
        for list in ["10.1.2.4", "10.1.2.4/30", "10.0.0.0/33", "::/0", "3", "10.0.0.0/x"] {
            assert!(!is_excepted("https://10.1.2.3", list), "{list}");
        }
        for list in ["fd00::1", "[fd00::1]", "[fd00::1]:443", "fd00::/8"] {
            assert!(is_excepted("https://[fd00::1]", list), "{list}");
        }
        assert!(!is_excepted("https://[fd00::1]", "fd00::2"));
    }

    #[test]
    fn exceptions_that_cannot_be_read_are_refused() {
        let variables = [("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "\"a.example\"")];
        let error = to("https://service.example", &variables).expect_err("is refused");
        assert_eq!(error.variable, "NO_PROXY");
        // Without a proxy, exceptions affect no request.
        assert_eq!(to("https://service.example", &variables[1..]), Ok(Route::Direct));
    }

    #[test]
    fn password_of_a_proxy_is_not_shown() {
        let route = to("https://service.example", &[("HTTPS_PROXY", "http://u:s3cret@p:3128")]);
        let shown = format!("{route:?}");
        assert_eq!(shown, "Ok(Through(Proxy(HTTPS_PROXY: p:3128)))");
    }
}
