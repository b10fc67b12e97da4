//! The number of failed jobs at which a run stops. Many failures usually mean a wrong manifest, and the
//! changes of a wrong manifest cannot always be undone.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

/// The most decimals of a percentage.
const DECIMALS_MAX: usize = 6;

/// One percent, in the unit of [`FailureLimit::Percent`].
const PERCENT: u64 = 1_000_000;

/// The number or share of failed jobs that ends a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureLimit {
    /// A number, at least 1.
    Jobs(u64),
    /// A share of the jobs that were pending at the beginning of the run, in millionths of a percent, above 0
    /// and at most 100 %.
    Percent(u64),
}

impl FailureLimit {
    /// The number for a run with `open` jobs at its beginning: rounded up, at least 1.
    pub fn of(self, open: u64) -> u64 {
        match self {
            Self::Jobs(jobs) => jobs,
            Self::Percent(part) => {
                let jobs = u128::from(open) * u128::from(part);
                let jobs = jobs.div_ceil(100 * u128::from(PERCENT));
                u64::try_from(jobs).unwrap_or(u64::MAX).max(1)
            }
        }
    }
}

impl FromStr for FailureLimit {
    type Err = String;

    /// Reads `20` or `2.5%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let read = match text.strip_suffix('%') {
            Some(percent) => millionths(percent.trim_end()).map(Self::Percent),
            None => text.parse().ok().map(Self::Jobs),
        };
        match read {
            Some(Self::Jobs(0) | Self::Percent(0)) => Err(
                "the limit must be above 0: write 1 to stop at the first failed job, or omit it to continue after any \
                 number of failures"
                    .to_owned(),
            ),
            Some(Self::Percent(part)) if part > 100 * PERCENT => {
                Err("more than 100% of the jobs cannot fail: write at most 100%, or omit it".to_owned())
            }
            Some(most) => Ok(most),
            None => Err("not a limit: write a number of jobs, e.g. 20, or a percentage, e.g. 2.5%".to_owned()),
        }
    }
}

/// Reads digits with an optional point, exactly: `2.5` is 2,500,000.
fn millionths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > DECIMALS_MAX {
        return None;
    }
    let part: u64 = format!("{part:0<DECIMALS_MAX$}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(PERCENT)?.checked_add(part)
}

impl<'de> Deserialize<'de> for FailureLimit {
    /// Reads a number, or the text that the command line accepts.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = FailureLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of jobs, or a percentage in quotes")
            }

            fn visit_i64<E: serde::de::Error>(self, jobs: i64) -> Result<FailureLimit, E> {
                self.visit_str(&jobs.to_string())
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<FailureLimit, E> {
                text.parse().map_err(|reason: String| E::custom(format!("max_failures: {reason}")))
            }
        }
        from.deserialize_any(Text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_limit_is_count_or_percentage_rounded_up() {
        for (text, open, most) in [
            ("1", 0, 1),
            ("20", 3, 20),
            ("5%", 1_000, 50),
            ("5 %", 1_001, 51),
            ("0.1%", 3_000, 3),
            ("0.1%", 3_001, 4),
            ("2.5%", 10, 1),
            ("0.000001%", 0, 1),
            ("100%", 7, 7),
            ("100%", u64::MAX, u64::MAX),
        ] {
            let limit: FailureLimit = text.parse().unwrap();
            assert_eq!(limit.of(open), most, "{text} of {open}");
        }
    }

    #[test]
    fn invalid_failure_limit_error_gives_advice() {
        for text in ["0", "0%", "0.000%", "00"] {
            assert!(text.parse::<FailureLimit>().unwrap_err().contains("write 1 to"), "{text}");
        }
        assert!("100.1%".parse::<FailureLimit>().unwrap_err().contains("at most 100%"));
        let wrong =
            ["", "%", "-1", "1.5", "five", "1e3%", ".5%", "5.%", "+5%", "0.0000001%", "1%%"];
        for text in wrong {
            assert!(text.parse::<FailureLimit>().unwrap_err().contains("e.g. 20"), "{text}");
        }
    }

    #[test]
    fn config_file_takes_failure_limit_as_number_or_text() {
        let read =
            |text: &str| toml::from_str::<std::collections::BTreeMap<String, FailureLimit>>(text);
        assert_eq!(read("a = 7").unwrap()["a"], FailureLimit::Jobs(7));
        assert_eq!(read("a = \"0.5%\"").unwrap()["a"], FailureLimit::Percent(PERCENT / 2));
        assert!(read("a = 0").unwrap_err().message().contains("write 1 to"));
        assert!(read("a = 0.5").is_err());
    }
}
