//! The address of the service: a region by name, or a base URL.
//!
//! Duty: know the vendor's hosts and reject every address where a third party could read the UserSig. Relies
//! on section 6 of the contract notes for the hosts. Shows only the host and port of an address, because a
//! path can be the secret of a gateway.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use reqwest::Url;
use sha2::{Digest as _, Sha256};
use strum::{Display, EnumMessage, EnumString, IntoStaticStr, VariantArray};

use crate::util::suggest::did_you_mean;

/// A data centre of the vendor. An SDKAppID belongs to exactly one; another one responds with code 70016 or
/// 70020.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[derive(Display, EnumMessage, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
#[strum(parse_err_ty = String, parse_err_fn = not_a_region)]
pub enum Region {
    /// Mainland China.
    China,
    /// Singapore.
    Singapore,
    /// Seoul.
    Seoul,
    /// Tokyo.
    Tokyo,
    /// Frankfurt.
    Frankfurt,
    /// Silicon Valley.
    #[strum(to_string = "silicon-valley")]
    #[strum(
        serialize = "silicon_valley",
        serialize = "silicon valley",
        serialize = "siliconvalley"
    )]
    SiliconValley,
    /// Jakarta.
    Jakarta,
}

impl Region {
    pub fn host(self) -> &'static str {
        match self {
            Self::China => "console.tim.qq.com",
            Self::Singapore => "adminapisgp.im.qcloud.com",
            Self::Seoul => "adminapikr.im.qcloud.com",
            Self::Tokyo => "adminapijpn.im.qcloud.com",
            Self::Frankfurt => "adminapiger.im.qcloud.com",
            Self::SiliconValley => "adminapiusa.im.qcloud.com",
            Self::Jakarta => "adminapiidn.im.qcloud.com",
        }
    }
}

fn not_a_region(text: &str) -> String {
    let names: Vec<&str> = Region::VARIANTS.iter().map(Into::into).collect();
    let meant = did_you_mean(text, names.iter().copied());
    format!("not a region{meant}: use one of {}", names.join(", "))
}

/// The base address of the service: scheme, host, port and an optional path prefix.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address up to the vendor's path, without a slash at its end.
    base: String,
    /// Host and port, for display.
    shown: String,
    encrypted: bool,
    loopback: bool,
}

impl Endpoint {
    /// The endpoint of the vendor's host in `region`.
    pub fn of_region(region: Region) -> Self {
        let shown = region.host().to_owned();
        Self { base: format!("https://{shown}"), shown, encrypted: true, loopback: false }
    }

    /// Whether the address is this host. Only such an address may use clear text or a rate above the
    /// vendor's limit.
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }

    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// 8 hex digits that identify the address, path included, without showing the path.
    pub fn mark(&self) -> String {
        let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(&self.base));
        format!("{:08x}", u32::from_be_bytes([a, b, c, d]))
    }

    /// The base URL, path included. For requests only, never for display.
    pub(super) fn base(&self) -> &str {
        &self.base
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.shown)
    }
}

/// Hides the path, as `Display` does.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.shown)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    /// Reads a base URL. An error never repeats the text, which may contain a secret.
    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text.trim()).map_err(|error| {
            format!("not a base URL ({error}): write e.g. https://{}", Region::China.host())
        })?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err("not a base URL: begin it with https://".to_owned());
        }
        let host = url.host_str().ok_or("not a base URL: it contains no host")?.to_owned();
        let loopback = is_loopback(&host);
        if url.scheme() == "http" && !loopback {
            return Err(
                "http sends the UserSig unencrypted: use https (http is allowed only to this \
                        host: 127.0.0.1, ::1, localhost)"
                    .to_owned(),
            );
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "a base URL must not contain a user name or password: remove them".to_owned()
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(
                "a base URL must not contain ? or #: remove them (deskbatch adds the query)"
                    .to_owned(),
            );
        }
        if url.path().contains("openim_console_http_svc") {
            return Err(
                "write only the base URL, without /v4/openim_console_http_svc/...".to_owned()
            );
        }
        let shown = url.port().map_or(host.clone(), |port| format!("{host}:{port}"));
        let encrypted = url.scheme() == "https";
        let base = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { base, shown, encrypted, loopback })
    }
}

/// Resolves no name. The client pins `localhost` to the loopback addresses, so that a resolver cannot send it
/// elsewhere.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback(),
        Ok(IpAddr::V6(address)) => address == Ipv6Addr::LOCALHOST,
        Err(_) => bare == "localhost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_names_ignore_case_and_separators() {
        for region in Region::VARIANTS {
            assert_eq!(region.to_string().parse(), Ok(*region));
            assert_eq!(region.to_string().to_uppercase().parse(), Ok(*region));
        }
        for text in ["Silicon Valley", "silicon_valley", "SILICON-VALLEY", "SiliconValley"] {
            assert_eq!(text.parse(), Ok(Region::SiliconValley));
        }
        assert_eq!(
            "mumbai".parse::<Region>(),
            Err("not a region: use one of china, singapore, seoul, tokyo, frankfurt, \
                 silicon-valley, jakarta"
                .to_owned())
        );
        assert!("".parse::<Region>().is_err());
    }

    #[test]
    fn region_equals_the_endpoint_of_its_url() {
        for region in Region::VARIANTS {
            let endpoint = Endpoint::of_region(*region);
            assert_eq!(format!("https://{}/", region.host()).parse(), Ok(endpoint.clone()));
            assert_eq!(endpoint.to_string(), region.host());
            assert!(!endpoint.is_loopback() && endpoint.is_encrypted());
        }
    }

    #[test]
    fn plain_http_is_allowed_only_for_loopback() {
        for text in [
            "http://127.0.0.1:8080",
            "http://127.1.2.3",
            "http://[::1]:9",
            "http://localhost:1/base/",
            "http://LOCALHOST",
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert!(endpoint.is_loopback() && !endpoint.is_encrypted(), "{text}");
        }
        for text in [
            "http://console.tim.qq.com",
            "http://0.0.0.0",
            "http://[::]",
            "http://[::ffff:127.0.0.1]",
            "http://192.168.0.1",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
        ] {
            let refusal = text.parse::<Endpoint>().expect_err(text);
            assert!(refusal.contains("use https"), "{text}: {refusal}");
        }
    }

    #[test]
    fn invalid_base_url_is_not_repeated_in_the_error() {
        for text in [
            "",
            "console.tim.qq.com",
            "localhost:8080",
            "ftp://s3cret.example",
            "https://",
            "https://s3cret@example.com",
            "https://a:s3cret@example.com",
            "https://example.com?s3cret=1",
            "https://example.com/#s3cret",
            "https://example.com/v4/openim_console_http_svc/batch_set_chitchat",
        ] {
            let refusal = text.parse::<Endpoint>().expect_err(text);
            assert!(!refusal.contains("s3cret"), "{refusal}");
        }
    }

    #[test]
    fn only_host_and_port_are_shown() {
        let endpoint: Endpoint = " https://Gate.example:8443/s3cret/ ".parse().expect("parses");
        assert_eq!(endpoint.to_string(), "gate.example:8443");
        assert_eq!(format!("{endpoint:?}"), "Endpoint(gate.example:8443)");
        assert_eq!(endpoint.base(), "https://gate.example:8443/s3cret");
        let endpoint: Endpoint = "http://[::1]:80".parse().expect("parses");
        assert_eq!(endpoint.to_string(), "[::1]");
    }
}
