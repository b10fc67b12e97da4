//! How the sandbox behaves where the vendor's documents leave it open, and which faults it injects.
//!
//! Plain values; the defaults follow the contract notes. This module does not know their source (flags or a
//! test). Keys are in secrecy types, so that printing the settings never prints a key.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use strum::{Display, EnumMessage, EnumString, IntoStaticStr, VariantArray};

use super::faults::{Fault, FaultChance, FaultScript, check_chances};
use super::{SANDBOX_IDENTIFIER, SANDBOX_KEY, not_a};

/// How the frequency limit defines a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[derive(Display, EnumMessage, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = not_a_window)]
pub enum Window {
    /// Any interval of one second: the stricter interpretation.
    #[default]
    Sliding,
    /// From one full second of the clock to the next, so that ten calls may come close together around
    /// the boundary.
    Fixed,
}

fn not_a_window(word: &str) -> String {
    not_a::<Window>("a window", word)
}

/// The code for a call above the frequency limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[derive(Display, EnumMessage, EnumString, IntoStaticStr, VariantArray)]
#[strum(parse_err_ty = String, parse_err_fn = not_a_rate_code)]
pub enum RateCode {
    /// From the API itself.
    #[default]
    #[strum(to_string = "-14")]
    Api,
    /// From the gateway in front of it.
    #[strum(to_string = "60007")]
    Gateway,
}

fn not_a_rate_code(word: &str) -> String {
    not_a::<RateCode>("a code for throttled requests", word)
}

/// The code for an identifier that is not an administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[derive(Display, EnumMessage, EnumString, IntoStaticStr, VariantArray)]
#[strum(parse_err_ty = String, parse_err_fn = not_an_admin_code)]
pub enum AdminCode {
    /// From the gateway.
    #[default]
    #[strum(to_string = "60010")]
    Gateway,
    /// From the API itself.
    #[strum(to_string = "-20")]
    Api,
}

fn not_an_admin_code(word: &str) -> String {
    not_a::<AdminCode>("a code for a missing permission", word)
}

/// The code for a body that is not JSON, including an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[derive(Display, EnumMessage, EnumString, IntoStaticStr, VariantArray)]
#[strum(parse_err_ty = String, parse_err_fn = not_a_json_code)]
pub enum JsonCode {
    /// From the API itself.
    #[default]
    #[strum(to_string = "-7")]
    Api,
    /// From the gateway.
    #[strum(to_string = "60003")]
    Gateway,
}

fn not_a_json_code(word: &str) -> String {
    not_a::<JsonCode>("a code for invalid JSON", word)
}

/// A lower maximum of ids in a request after a number of batch calls: `60@40`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxIdsAfter {
    /// The new maximum of ids.
    pub to: usize,
    /// The number of batch calls before it applies.
    pub after: u64,
}

impl FromStr for MaxIdsAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = text.split_once('@').and_then(|(to, after)| {
            Some(Self { to: to.trim().parse().ok()?, after: after.trim().parse().ok()? })
        });
        read.ok_or_else(|| {
            "not a maximum and the number of requests after which it applies: write e.g. 60@40"
                .to_owned()
        })
    }
}

/// How the service treats a request with question ids that do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[derive(Display, EnumMessage, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = not_unknown_ids)]
pub enum UnknownIds {
    /// Changes nothing and responds with the code of the first invalid id.
    #[default]
    Reject,
    /// Changes the valid ids, but responds with the code of the first invalid id.
    Partial,
    /// Changes the valid ids, ignores the unknown ones and responds with OK.
    Ok,
}

fn not_unknown_ids(word: &str) -> String {
    not_a::<UnknownIds>("a treatment of unknown ids", word)
}

impl RateCode {
    pub fn code(self) -> i64 {
        match self {
            Self::Api => -14,
            Self::Gateway => 60_007,
        }
    }
}

impl AdminCode {
    pub fn code(self) -> i64 {
        match self {
            Self::Gateway => 60_010,
            Self::Api => -20,
        }
    }
}

impl JsonCode {
    pub fn code(self) -> i64 {
        match self {
            Self::Api => -7,
            Self::Gateway => 60_003,
        }
    }
}

/// The apps that the sandbox knows, each with its key.
#[derive(Debug, Clone)]
pub enum Apps {
    /// Every SDKAppID whose UserSig is signed with this key.
    Any(SecretString),
    /// Only these; any other app gets code 70020.
    Listed(BTreeMap<u64, SecretString>),
}

impl Apps {
    /// The key of an app, if the sandbox knows the app.
    pub(super) fn key(&self, sdkappid: u64) -> Option<&SecretString> {
        match self {
            Self::Any(key) => Some(key),
            Self::Listed(keys) => keys.get(&sdkappid),
        }
    }
}

/// The questions that exist before any deletion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KnownIds {
    /// All except those whose last dash-separated part starts with `missing`, so that a manifest itself marks
    /// the rows that are to fail.
    #[default]
    Marked,
    /// Only these.
    Listed(HashSet<String>),
}

/// All settings of a sandbox.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "switches of their own, in any combination")]
pub struct SandboxSettings {
    /// The address that it listens on; port 0 selects a free one. Loopback only. Default `127.0.0.1:0`.
    pub addr: SocketAddr,
    /// The apps and their keys. Default: any app, with [`SANDBOX_KEY`].
    pub apps: Apps,
    /// Apps that have not activated Desk (-50040). Default none.
    pub desk_off: BTreeSet<u64>,
    /// The administrators. By default only [`SANDBOX_IDENTIFIER`].
    pub administrators: BTreeSet<String>,
    /// The code for any other identifier. Default 60010.
    pub admin_code: AdminCode,
    /// Calls allowed per second for each app and command; 0 means no limit. Default 5.
    pub rate_limit: usize,
    /// How a second is defined. Default sliding.
    pub window: Window,
    /// Whether a rejected call also counts towards the limit. Default no.
    pub count_throttled: bool,
    /// The code above the limit and for [`super::Fault::Throttle`]. Default -14.
    pub rate_code: RateCode,
    /// The code for a body that is not JSON. Default -7.
    pub json_code: JsonCode,
    /// Which questions exist. Default [`KnownIds::Marked`].
    pub known_ids: KnownIds,
    /// The effect of an unknown id on its request. By default the whole request is rejected.
    pub unknown_ids: UnknownIds,
    /// Whether a question whose last dash-separated part starts with `preset` cannot be deleted (-50011).
    /// Default yes.
    pub presets_protected: bool,
    /// Whether deleting an already deleted question returns OK instead of -50003. Default no.
    pub repeated_delete_ok: bool,
    /// The most ids in a request; 0 means no limit. Default 0.
    pub max_ids: usize,
    /// Later maxima, in the order of calls. Default none.
    pub max_ids_after: Vec<MaxIdsAfter>,
    /// The code for more ids than the maximum; any code. Default 70206, as in the batch calls of the account
    /// service.
    pub too_many_code: i64,
    /// The number of batch calls after which the app's resource lapses: -50003 to every call, reads included.
    /// Default never.
    pub expired_after: Option<u64>,
    /// How long it stays lapsed. By default forever.
    pub expired_for: Option<Duration>,
    /// The fault of every request with a question whose last dash-separated part starts with `poison`.
    /// Default bad-gateway.
    pub poison: Fault,
    /// Faults by chance, for requests without a script step. Their sum is at most 1. Default none.
    pub chances: Vec<FaultChance>,
    /// Faults by script: one step for each API call in the order of arrival. Default none.
    pub script: Option<FaultScript>,
    /// The seed of faults by chance and of jitter; the same seed draws the same values. Default 0.
    pub seed: u64,
    /// The delay between the change and the response of [`super::Fault::Late`]. Default 12 s, longer than the
    /// client's timeout.
    pub late_delay: Duration,
    /// The uplink delay: the time from arrival to being counted and decided. Default 0.
    pub request_delay: Duration,
    /// The most random delay added to that, evenly distributed. Default 0.
    pub request_delay_jitter: Duration,
    /// The time from the decision to the departure of the response. Default 0.
    pub latency: Duration,
    /// The most random delay added to that, evenly distributed. Default 0.
    pub latency_jitter: Duration,
    /// Whether responses contain undocumented fields. Default no.
    pub extra_fields: bool,
    /// Whether responses have `Content-Type: application/json`; the vendor's wire sample has no such header.
    /// Default yes.
    pub content_type: bool,
}

impl Default for SandboxSettings {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            apps: Apps::Any(SecretString::from(SANDBOX_KEY)),
            desk_off: BTreeSet::new(),
            administrators: BTreeSet::from([SANDBOX_IDENTIFIER.to_owned()]),
            admin_code: AdminCode::default(),
            rate_limit: 5,
            window: Window::default(),
            count_throttled: false,
            rate_code: RateCode::default(),
            json_code: JsonCode::default(),
            known_ids: KnownIds::default(),
            unknown_ids: UnknownIds::default(),
            presets_protected: true,
            repeated_delete_ok: false,
            max_ids: 0,
            max_ids_after: Vec::new(),
            too_many_code: 70_206,
            expired_after: None,
            expired_for: None,
            poison: Fault::BadGateway,
            chances: Vec::new(),
            script: None,
            seed: 0,
            late_delay: Duration::from_secs(12),
            request_delay: Duration::ZERO,
            request_delay_jitter: Duration::ZERO,
            latency: Duration::ZERO,
            latency_jitter: Duration::ZERO,
            extra_fields: false,
            content_type: true,
        }
    }
}

impl SandboxSettings {
    /// Rejects settings that no sandbox can start with.
    ///
    /// # Errors
    /// An address of another host, or probabilities whose sum is more than 1.
    pub fn check(&self) -> io::Result<()> {
        let refuse = |why: String| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        // The sandbox serves hostile and broken responses to every caller, so it must serve this host
        // only. Canonical, because `::ffff:127.0.0.1` is this host too.
        if !self.addr.ip().to_canonical().is_loopback() {
            return refuse(format!(
                "the sandbox serves only this host: {} is not a loopback address",
                self.addr
            ));
        }
        check_chances(&self.chances).or_else(refuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandbox_choices_roundtrip_as_text() {
        fn check<T>(all: &[T])
        where
            T: Copy + PartialEq + std::fmt::Debug + std::fmt::Display,
            T: std::str::FromStr<Err = String>,
        {
            for choice in all {
                assert_eq!(choice.to_string().parse(), Ok(*choice));
            }
        }
        check(Window::VARIANTS);
        check(RateCode::VARIANTS);
        check(AdminCode::VARIANTS);
        check(JsonCode::VARIANTS);
        check(UnknownIds::VARIANTS);
        let wrong: Result<Window, String> = "slide".parse();
        assert_eq!(wrong, Err("not a window: use sliding, fixed".to_owned()));
    }

    #[test]
    fn code_choice_is_named_by_its_number() {
        for code in RateCode::VARIANTS {
            assert_eq!(code.to_string(), code.code().to_string());
        }
        for code in AdminCode::VARIANTS {
            assert_eq!(code.to_string(), code.code().to_string());
        }
        for code in JsonCode::VARIANTS {
            assert_eq!(code.to_string(), code.code().to_string());
        }
    }

    #[test]
    fn printing_the_settings_shows_no_key() {
        let keys = BTreeMap::from([(7, SecretString::from("k-of-seven"))]);
        for apps in [Apps::Any(SecretString::from(SANDBOX_KEY)), Apps::Listed(keys)] {
            let text = format!("{:?}", SandboxSettings { apps, ..SandboxSettings::default() });
            assert!(!text.contains(SANDBOX_KEY) && !text.contains("k-of-seven"), "{text}");
        }
        assert_eq!(SANDBOX_KEY.len(), 64);
    }

    #[test]
    fn non_loopback_and_probability_above_one_are_invalid() {
        let at = |addr: &str| SandboxSettings {
            addr: addr.parse().expect("an address"),
            ..SandboxSettings::default()
        };
        for good in ["127.0.0.1:0", "127.8.8.8:80", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert!(at(good).check().is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:0", "192.168.0.1:80", "[::]:0", "[::ffff:10.0.0.1]:0"] {
            let error = at(bad).check().expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("not a loopback address"), "{error}");
        }
        let chances = ["throttle=0.6", "internal=0.5"].map(|spec| spec.parse().expect("reads"));
        let settings = SandboxSettings { chances: chances.to_vec(), ..at("127.0.0.1:0") };
        assert!(settings.check().is_err());
    }
}
