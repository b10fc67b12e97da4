//! Parses a request: path, query and body.
//!
//! Pure. It rejects nothing. A missing or invalid value is kept as such, so that `decide` checks the values
//! in its own order and the ledger shows every value that could be read. The query contains a UserSig, so no
//! type here implements `Debug`.

use serde_json::Value;

/// The path prefix of every command.
const SERVICE: &str = "/v4/openim_console_http_svc/";

/// A command that the sandbox implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Command {
    /// Sets the status of small talk questions.
    BatchSetChitchat,
    /// Sets the status of questions and answers.
    BatchSetFaq,
    /// Reads small talk questions.
    ListChitchat,
    /// Reads questions and answers.
    ListFaq,
}

impl Command {
    /// Whether the command reads and changes nothing.
    pub fn is_read(self) -> bool {
        matches!(self, Self::ListChitchat | Self::ListFaq)
    }

    /// The command of a path, if any.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        path.strip_prefix(SERVICE).and_then(|name| name.parse().ok())
    }
}

/// A request as received.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// Without the question mark.
    pub(super) query: &'a str,
    /// `None` if the body was larger than the server's limit.
    pub(super) body: Option<&'a [u8]>,
}

/// The parsed parts of a request.
pub(super) struct Call {
    /// `None` if the path belongs to no known command.
    pub(super) command: Option<Command>,
    pub(super) is_post: bool,
    pub(super) query: Query,
    pub(super) body: Body,
}

/// The query parameters, percent-decoded. A missing one is `None`.
#[derive(Default)]
pub(super) struct Query {
    pub(super) sdkappid: Option<String>,
    pub(super) identifier: Option<String>,
    pub(super) usersig: Option<String>,
    pub(super) random: Option<String>,
    pub(super) contenttype: Option<String>,
    /// Whether there is an invalid escape, text that is not UTF-8, or a parameter twice.
    pub(super) is_malformed: bool,
}

/// The parsed parts of a body.
#[derive(Default)]
pub(super) struct Body {
    pub(super) is_json: bool,
    /// `None` if missing or not an integer.
    pub(super) status: Option<i64>,
    /// The strings in the array of ids, even if other elements are invalid.
    pub(super) ids: Vec<String>,
    /// Whether the ids are an array of at least one string, of strings alone, and none of them empty.
    pub(super) ids_are_acceptable: bool,
    /// The page number, from 1, and the number of questions on a page; `None` if missing or not an integer.
    pub(super) page: (Option<i64>, Option<i64>),
}

impl Call {
    pub(super) fn read(request: &Request<'_>) -> Self {
        Self {
            command: Command::of_path(request.path),
            is_post: request.method == "POST",
            query: Query::read(request.query),
            body: Body::read(request.body.unwrap_or_default()),
        }
    }
}

impl Query {
    fn read(text: &str) -> Self {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let field = match name {
                "sdkappid" => &mut query.sdkappid,
                "identifier" => &mut query.identifier,
                "usersig" => &mut query.usersig,
                "random" => &mut query.random,
                "contenttype" => &mut query.contenttype,
                // Names are case sensitive. Unknown parameters are ignored.
                _ => continue,
            };
            match percent_decoded(value) {
                Some(value) if field.is_none() => *field = Some(value),
                _ => query.is_malformed = true,
            }
        }
        query
    }

    /// The SDKAppID, if it is a number.
    pub(super) fn app(&self) -> Option<u64> {
        decimal(self.sdkappid.as_deref()?)
    }

    /// The random number, if it is an unsigned number of 32 bits.
    pub(super) fn random(&self) -> Option<u32> {
        decimal(self.random.as_deref()?)
    }
}

impl Body {
    fn read(bytes: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return Self::default() };
        let mut body = Self { is_json: true, ..Self::default() };
        let integer = |name: &str| value.get(name).and_then(Value::as_i64);
        body.status = integer("Status");
        body.page = (integer("PageIndex"), integer("PageSize"));
        if let Some(Value::Array(ids)) = value.get("StandardQuestionIds") {
            body.ids = ids.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect();
            let all_are_text = body.ids.len() == ids.len();
            body.ids_are_acceptable =
                all_are_text && !ids.is_empty() && body.ids.iter().all(|id| !id.is_empty());
        }
        body
    }
}

/// Accepts only digits; the standard parser would accept a leading plus.
fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Decodes percent-encoding. A plus stays a plus: how the service reads it is not documented, so the sandbox
/// exposes a client that relies on form encoding.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> (Option<i64>, Vec<String>, bool) {
        let body = Body::read(text.as_bytes());
        (body.status, body.ids, body.ids_are_acceptable)
    }

    #[test]
    fn escapes_are_undone_and_bad_ones_are_noticed() {
        let decoded = |text: &str| percent_decoded(text);
        assert_eq!(decoded("a%20b%2Bc%2bd+e"), Some("a b+c+d+e".to_owned()));
        assert_eq!(decoded("%E7%AE%A1"), Some("管".to_owned()));
        for bad in ["%", "%2", "%zz", "%+1", "%ff"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }

    #[test]
    fn query_order_is_free_and_names_are_case_sensitive() {
        let query = Query::read("usersig=s&random=7&x=%zz&SdkAppId=3&contenttype=json");
        assert_eq!((query.random(), query.app(), query.is_malformed), (Some(7), None, false));
        assert!(Query::read("random=1&random=2").is_malformed);
        assert!(Query::read("identifier=%zz").is_malformed);
    }

    #[test]
    fn numbers_are_digits_within_their_bits() {
        let random = |text: &str| Query::read(&format!("random={text}")).random();
        assert_eq!(random("4294967295"), Some(u32::MAX));
        for bad in ["4294967296", "-1", "+1", "1.0", "", "0x1"] {
            assert_eq!(random(bad), None, "{bad}");
        }
    }

    #[test]
    fn request_body_keeps_valid_parts_and_reports_others() {
        let ids = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let good = body(r#"{"StandardQuestionIds":["a","b"],"Status":4,"More":{}}"#);
        assert_eq!(good, (Some(4), ids(&["a", "b"]), true));
        let mixed = body(r#"{"StandardQuestionIds":["a",7],"Status":"4"}"#);
        assert_eq!(mixed, (None, ids(&["a"]), false));
        for bad in ["[]", "{}", "null", r#"{"StandardQuestionIds":"a","Status":4.0}"#] {
            assert_eq!(body(bad), (None, Vec::new(), false), "{bad}");
            assert!(Body::read(bad.as_bytes()).is_json, "{bad}");
        }
        assert!(!body(r#"{"StandardQuestionIds":[]}"#).2);
        assert!(!body(r#"{"StandardQuestionIds":["a",""]}"#).2);
        for bad in ["", "{", "{}x", "Status=4"] {
            assert!(!Body::read(bad.as_bytes()).is_json, "{bad}");
        }
    }
}
