//! Parses the bytes of an HTTP body into a response kind.
//!
//! Pure. Tolerant where the vendor says that responses vary (extra fields, no `ErrorInfo`) or where a gateway
//! may change them (numbers as text, invalid texts). Strict where a guess could record a change that never
//! happened: success needs both halves of the vendor's definition, and no other field that may name
//! questions. Never quotes an unreadable body, because a body may echo the request.

use std::collections::HashSet;

use serde_json::Value;

use super::members::{Member, may_name, members, text_of};
use crate::domain::job::QuestionId;
use crate::domain::verdict::ResponseKind;
use crate::util::escape::is_unsafe;

/// The most characters kept of a text of the service.
pub const INFO_CHARS_MAX: usize = 300;

/// The shortest run of bytes of a secret that is hidden, even if the rest of the secret is missing.
const SECRET_PIECE_BYTES: usize = 16;

/// The three documented fields, each of any type.
#[derive(Default)]
struct Fields<'a> {
    code: Option<&'a str>,
    action_status: Option<&'a str>,
    info: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// `None` if a field occurs twice: using either one would be a guess.
    fn of(members: &[Member<'a>]) -> Option<Self> {
        let mut fields = Self::default();
        for member in members {
            let field = match member.name.as_str() {
                "ErrorCode" => &mut fields.code,
                "ActionStatus" => &mut fields.action_status,
                "ErrorInfo" => &mut fields.info,
                _ => continue,
            };
            if field.replace(member.raw).is_some() {
                return None;
            }
        }
        Some(fields)
    }
}

/// Reads a whole body that came with HTTP status 200 to a request for `ids`. Returns the response kind, and
/// the service's `ErrorInfo` or the reason why the body is invalid. The text is not yet safe to show; see
/// [`printable`].
pub fn read(body: &[u8], ids: &[QuestionId]) -> (ResponseKind, String) {
    // Lossy, so that an `ErrorInfo` in another encoding does not hide its code.
    let text = String::from_utf8_lossy(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body));
    if !text.trim_start().starts_with('{') {
        return garbled(format!("the response is not a JSON object ({} bytes)", body.len()));
    }
    let members = match members(&text) {
        Ok(members) => members,
        Err(broken) => {
            let (line, column) = broken.place(&text);
            let what = if broken.is_cut_off { "is incomplete" } else { "is invalid" };
            return garbled(format!(
                "the JSON of the response {what} at line {line}, column {column} ({} bytes)",
                body.len()
            ));
        }
    };
    let Some(fields) = Fields::of(&members) else {
        return garbled("the response has one of its three fields twice".to_owned());
    };
    let info = fields.info.map(shown).unwrap_or_default();
    match fields.code.filter(|raw| *raw != "null").map(integer) {
        None => garbled(with_info("the response has no ErrorCode", &info)),
        Some(None) => garbled(with_info("the ErrorCode of the response is not an integer", &info)),
        Some(Some(0))
            if fields
                .action_status
                .is_some_and(|raw| raw.starts_with('"') && text_of(raw) == "OK") =>
        {
            success(&members, ids, info)
        }
        Some(Some(0)) => garbled(with_info("ErrorCode is 0 but ActionStatus is not OK", &info)),
        Some(Some(code)) => (ResponseKind::Code(code), info),
    }
}

/// Success, unless another field may name rejected questions. The vendor adds fields without notice and
/// documents no list of rejected questions, so such a field could be one.
fn success(members: &[Member<'_>], ids: &[QuestionId], info: String) -> (ResponseKind, String) {
    let ids: HashSet<&str> = ids.iter().map(QuestionId::as_str).collect();
    match members.iter().find(|member| may_name(member.raw, &ids)) {
        None => (ResponseKind::Code(0), info),
        Some(Member { name, raw }) => {
            let why = format!(
                "the response is OK, but its field {name} may name rejected questions: {raw}"
            );
            (ResponseKind::NamesQuestions, why)
        }
    }
}

/// `text`, safe for a terminal, a log and a report: no unsafe characters (see [`is_unsafe`]), none of the
/// `secrets`, at most [`INFO_CHARS_MAX`] characters.
pub fn printable(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    // Secrets are removed before the text is shortened, which could leave the first half of one.
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = without_pieces(&text.replace(secret, "***"), secret);
    }
    let blanked: String = text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect();
    blanked.trim().chars().take(INFO_CHARS_MAX).collect()
}

/// `text` with each long enough piece of `secret` hidden: a service may show a part of what it received.
fn without_pieces(text: &str, secret: &str) -> String {
    if text.len() < SECRET_PIECE_BYTES {
        // Most responses have no text at all.
        return text.to_owned();
    }
    let pieces: HashSet<&[u8]> = secret.as_bytes().windows(SECRET_PIECE_BYTES).collect();
    let bytes = text.as_bytes();
    let (mut clean, mut hidden_to) = (Vec::with_capacity(bytes.len()), 0);
    for (at, byte) in bytes.iter().enumerate() {
        let ahead = bytes.get(at..at + SECRET_PIECE_BYTES);
        if ahead.is_some_and(|ahead| pieces.contains(ahead)) {
            if at >= hidden_to {
                clean.extend_from_slice(b"***");
            }
            hidden_to = at + SECRET_PIECE_BYTES;
        }
        if at >= hidden_to {
            clean.push(*byte);
        }
    }
    String::from_utf8_lossy(&clean).into_owned()
}

fn garbled(why: String) -> (ResponseKind, String) {
    (ResponseKind::Unreadable, why)
}

fn with_info(why: &str, info: &str) -> String {
    if info.is_empty() { why.to_owned() } else { format!("{why}: {info}") }
}

/// The text of a value: the content of a string, the raw text of any other value.
fn shown(raw: &str) -> String {
    match raw {
        "null" => String::new(),
        _ if raw.starts_with('"') => text_of(raw),
        _ => raw.to_owned(),
    }
}

/// An integer in any notation: `-14`, `"-14"` or `-14.0`.
fn integer(raw: &str) -> Option<i64> {
    /// From this number on, a float cannot represent every integer.
    const FLOAT_INTEGERS_END: f64 = 9_007_199_254_740_992.0;
    if raw.starts_with('"') {
        return text_of(raw).trim().parse().ok();
    }
    let value: Value = serde_json::from_str(raw).ok()?;
    value.as_i64().or_else(|| {
        let float = value.as_f64()?;
        let exact = float.fract() == 0.0 && float.abs() < FLOAT_INTEGERS_END;
        // Converts through text, in which an integral float has no fraction, because there is no checked
        // cast.
        if exact { float.to_string().parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, response: ResponseKind, info: &str) {
        assert_eq!(read(body.as_bytes(), &[]), (response, info.to_owned()), "{body}");
    }

    #[test]
    fn success_requires_code_zero_and_status_ok() {
        check(r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#, ResponseKind::Code(0), "");
        check(r#"{"ActionStatus":"OK","ErrorCode":0}"#, ResponseKind::Code(0), "");
        for body in [
            r#"{"ActionStatus":"FAIL","ErrorCode":0}"#,
            r#"{"ActionStatus":"ok","ErrorCode":0}"#,
            r#"{"ActionStatus":["OK"],"ErrorCode":0}"#,
            r#"{"ActionStatus":null,"ErrorCode":0}"#,
            r#"{"ErrorCode":0}"#,
        ] {
            check(body, ResponseKind::Unreadable, "ErrorCode is 0 but ActionStatus is not OK");
        }
        check(
            r#"{"ErrorCode":0,"ErrorInfo":"half"}"#,
            ResponseKind::Unreadable,
            "ErrorCode is 0 but ActionStatus is not OK: half",
        );
    }

    #[test]
    fn error_code_counts_regardless_of_other_fields() {
        check(
            r#"{"ActionStatus":"FAIL","ErrorInfo":"too fast","ErrorCode":-14}"#,
            ResponseKind::Code(-14),
            "too fast",
        );
        check(r#"{"ActionStatus":"OK","ErrorCode":60007}"#, ResponseKind::Code(60_007), "");
        check(
            r#" {"RequestId":{"a":[1]},"ErrorCode":-7,"errorcode":0} "#,
            ResponseKind::Code(-7),
            "",
        );
        check(r#"{"ErrorCode":-7,"ErrorInfo":{"a":1}}"#, ResponseKind::Code(-7), r#"{"a":1}"#);
        check(r#"{"ErrorCode":-7,"ErrorInfo":null}"#, ResponseKind::Code(-7), "");
        check(r#"{"ErrorCode":-7,"ErrorInfo":12}"#, ResponseKind::Code(-7), "12");
    }

    #[test]
    fn error_code_is_read_from_string_or_integral_float() {
        let code = |written: &str| read(format!(r#"{{"ErrorCode":{written}}}"#).as_bytes(), &[]).0;
        assert_eq!(code(r#""-14""#), ResponseKind::Code(-14));
        assert_eq!(code(r#"" 60007 ""#), ResponseKind::Code(60_007));
        assert_eq!(code("-14.0"), ResponseKind::Code(-14));
        assert_eq!(code("6.0007e4"), ResponseKind::Code(60_007));
        assert_eq!(code("9223372036854775807"), ResponseKind::Code(i64::MAX));
        for odd in [
            "9223372036854775808",
            "-9223372036854775809",
            r#""9223372036854775808""#,
            "1e300",
            "-14.5",
            r#""-14.5""#,
            r#""""#,
            "true",
            "null",
            "[]",
            "{}",
        ] {
            assert_eq!(code(odd), ResponseKind::Unreadable, "{odd}");
        }
    }

    #[test]
    fn any_form_of_code_zero_requires_status_ok() {
        for zero in ["0", "0.0", "-0.0", r#""0""#] {
            let body =
                |rest: &str| read(format!(r#"{{"ErrorCode":{zero}{rest}}}"#).as_bytes(), &[]).0;
            assert_eq!(body(r#","ActionStatus":"OK""#), ResponseKind::Code(0), "{zero}");
            assert_eq!(body(""), ResponseKind::Unreadable, "{zero}");
        }
    }

    #[test]
    fn invalid_response_body_is_described_not_quoted() {
        for body in ["", "<html>eJw9zUEL</html>", r#"["OK",0,""]"#, "null", "0"] {
            let why = format!("the response is not a JSON object ({} bytes)", body.len());
            check(body, ResponseKind::Unreadable, &why);
        }
        check(
            r#"{"ActionStatus":"OK","Err"#,
            ResponseKind::Unreadable,
            "the JSON of the response is incomplete at line 1, column 25 (25 bytes)",
        );
        check(
            r#"{"ErrorCode":0,"ErrorCode":-7}"#,
            ResponseKind::Unreadable,
            "the response has one of its three fields twice",
        );
        for body in [r#"{"ErrorCode":-7}{}"#, "{'ErrorCode':0}"] {
            let (response, why) = read(body.as_bytes(), &[]);
            assert_eq!(response, ResponseKind::Unreadable, "{body}");
            assert!(why.starts_with("the JSON of the response is invalid at line 1"), "{why}");
        }
        check("{}", ResponseKind::Unreadable, "the response has no ErrorCode");
    }

    #[test]
    fn response_with_bom_or_other_encoding_is_read() {
        assert_eq!(read(b"\xef\xbb\xbf{\"ErrorCode\":-14}", &[]).0, ResponseKind::Code(-14));
        let (response, info) =
            read(b"{\"ErrorCode\":-14,\"ErrorInfo\":\"\xc6\xb5\xc2\xca!\"}", &[]);
        assert_eq!(response, ResponseKind::Code(-14));
        assert!(info.ends_with('!'), "{info}");
    }

    #[test]
    fn info_is_printable_short_and_without_secrets() {
        assert_eq!(printable(" a\r\nb\u{1b}[31mc\u{202e}d\0 ", &[]), "a  b [31mc d");
        assert_eq!(printable("频率过高", &[]), "频率过高");
        assert_eq!(printable(&"é".repeat(301), &[]), "é".repeat(300));
        assert_eq!(
            printable("usersig eJw*a_ is bad, eJw*a_", &["", "eJw*a_"]),
            "usersig *** is bad, ***"
        );
        let secret = "eJwPIECES*OF-A_SECRET123";
        for part in [&secret[..20], &secret[3..], &secret[2..18]] {
            let text = format!("of é{part}é and {part}");
            assert_eq!(printable(&text, &[secret]), "of é***é and ***", "{part}");
        }
        assert_eq!(printable(&secret[..15], &[secret]), &secret[..15]);
        let long = format!("{}eJwSECRET", "x".repeat(297));
        assert_eq!(printable(&long, &["eJwSECRET"]), format!("{}***", "x".repeat(297)));
    }

    proptest::proptest! {
        #[test]
        fn any_response_bytes_are_read_without_panic(body: Vec<u8>, json in r#"[{"](ErrorCode|ActionStatus|OK|[0-9:,"{}\[\].-]){0,20}"#) {
            for body in [&body[..], json.as_bytes()] {
                let (response, info) = read(body, &[]);
                proptest::prop_assert!(matches!(response, ResponseKind::Code(_) | ResponseKind::Unreadable | ResponseKind::NamesQuestions));
                proptest::prop_assert!(printable(&info, &[]).chars().count() <= INFO_CHARS_MAX);
            }
        }
    }
}
