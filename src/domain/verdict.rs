//! What a response means for the run: every code of the vendor, its verdict and advice.
//!
//! Pure. The data is in `codes.rs`; `explain` prints the same rows, and a snapshot test shows the whole
//! policy. The text of an `ErrorInfo` is not documented and never decides anything.

use std::fmt;

pub use super::codes::CODES;

/// What a response means for its jobs and for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Verdict {
    /// The jobs have succeeded.
    Applied,
    /// A push-back: the breaker closes, the same chunk is sent again, and no attempt counts.
    Throttled,
    /// A temporary failure: the same chunk is sent again after a wait.
    Transient,
    /// The UserSig is no longer valid: the same chunk is sent again with a new one.
    Renew,
    /// The service rejects the content: several jobs are isolated; a single one fails.
    Rejected,
    /// No request would be accepted: the run stops and keeps all jobs pending.
    Stop,
}

impl Verdict {
    /// The name in the queue and in logs.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The classes of codes. Several lead to the same verdict and differ in who can fix the cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// 0.
    Success,
    /// Above the rate limit.
    Rate,
    /// A failure of the service; it is unknown whether the request was applied.
    Retry,
    /// The UserSig must be renewed.
    Renew,
    /// The service rejects a question id of the request.
    Item,
    /// A question or the app: the code does not distinguish them.
    QuestionOrApp,
    /// The service rejects the request; its content may be the reason.
    Malformed,
    /// A part of the request is wrong that is the same in every request.
    BadCall,
    /// Credentials, permission, product or package.
    Stop,
    /// Not in any list.
    Unknown,
}

impl Class {
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Success => Verdict::Applied,
            Self::Rate => Verdict::Throttled,
            Self::Retry => Verdict::Transient,
            Self::Renew => Verdict::Renew,
            Self::Item | Self::QuestionOrApp | Self::Malformed | Self::Unknown => Verdict::Rejected,
            Self::BadCall | Self::Stop => Verdict::Stop,
        }
    }

    /// What the run does with a code of this class: a verb phrase. `explain` and docs/codes.md print it.
    pub fn consequence(self) -> &'static str {
        match self {
            Self::Success => "records the jobs as succeeded",
            Self::Rate => {
                "sends no request for a second or more, then sends the same chunk again; no attempt counts"
            }
            Self::Retry => "sends the same chunk again after a wait",
            Self::Renew => {
                "makes a new UserSig once and sends the same chunk again; if that is rejected too, it stops, and the \
                 remaining jobs stay pending"
            }
            Self::Item => {
                "isolates the rejected questions of the chunk; their jobs fail with this code"
            }
            Self::QuestionOrApp => {
                "isolates the rejected questions of the chunk; their jobs fail with this code after an applied request \
                 or a read has shown that the app works; if the app is rejected too, it stops, and the remaining jobs \
                 stay pending"
            }
            Self::Malformed | Self::Unknown => {
                "isolates the rejected questions of the chunk; their jobs fail with this code after another request \
                 was applied; if every request is rejected, it stops, and the remaining jobs stay pending"
            }
            Self::BadCall | Self::Stop => "stops; the remaining jobs stay pending",
        }
    }
}

/// What a rejection concerns. A code that may concern more than the questions fails none of them until
/// `evidence` knows more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectionSubject {
    /// A question of the request.
    Question,
    /// A question, or the app as a whole.
    QuestionOrApp,
    /// The questions, their number, or the call itself.
    Call,
}

/// One row of the table: a code or a range of codes with one meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeRow {
    /// The first code.
    pub first: i64,
    /// The last code; equal to `first` for a single one.
    pub last: i64,
    pub class: Class,
    /// The vendor's description, shortened.
    pub meaning: &'static str,
    /// The action for a user of deskbatch.
    pub advice: &'static str,
}

impl CodeRow {
    /// `-14`, or `70101..70106`.
    pub fn codes(&self) -> String {
        if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}..{}", self.first, self.last)
        }
    }
}

/// The row for codes that are in no list.
pub const UNKNOWN: CodeRow = CodeRow {
    first: 0,
    last: 0,
    class: Class::Unknown,
    meaning: "not in any of the vendor's lists",
    advice: "read the message of the service; if it is about the questions, correct their ids; otherwise ask the \
             vendor about the code",
};

/// The row of `code`; [`UNKNOWN`] if it is in no list.
pub fn explain(code: i64) -> &'static CodeRow {
    CODES.iter().find(|row| (row.first..=row.last).contains(&code)).unwrap_or(&UNKNOWN)
}

/// The part of a response that decides its verdict, or what went wrong on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseKind {
    /// A readable body with this `ErrorCode`, not 0; or 0 with `ActionStatus` `OK`.
    Code(i64),
    /// `ErrorCode` 0 and `OK`, with a list that may name rejected questions: some questions may have been
    /// applied, and it is unknown which.
    NamesQuestions,
    /// HTTP status 200 and a body that is cut off, not JSON, or whose `ErrorCode` and `ActionStatus`
    /// contradict each other.
    Unreadable,
    /// Another HTTP status than the documented 200.
    HttpStatus(u16),
    /// There was no connection, so nothing was sent.
    NotConnected,
    /// Nothing was sent: the certificate of the server is not trusted.
    Certificate,
    /// Nothing was sent: the proxy requires authentication, or was never reachable.
    Proxy,
    /// The request may have been sent; no complete response came back.
    NoResponse,
}

impl ResponseKind {
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Code(code) => explain(code).class.verdict(),
            // Of all 4xx only 408, 425 and 429 are temporary. A redirect or another 4xx means a wrong
            // address, so every request would get it.
            Self::HttpStatus(408 | 425) => Verdict::Transient,
            Self::HttpStatus(429) => Verdict::Throttled,
            // The body is too large: half the chunk may fit.
            Self::HttpStatus(413) | Self::NamesQuestions => Verdict::Rejected,
            Self::HttpStatus(300..=499) | Self::Certificate | Self::Proxy => Verdict::Stop,
            Self::HttpStatus(_) | Self::Unreadable | Self::NotConnected | Self::NoResponse => {
                Verdict::Transient
            }
        }
    }

    /// What the rejection concerns, if the verdict is [`Verdict::Rejected`].
    pub fn subject(self) -> RejectionSubject {
        match self {
            Self::Code(code) => match explain(code).class {
                Class::Item => RejectionSubject::Question,
                Class::QuestionOrApp => RejectionSubject::QuestionOrApp,
                _ => RejectionSubject::Call,
            },
            _ => RejectionSubject::Call,
        }
    }

    /// Whether the same request may get another response a little later.
    pub fn is_temporary(self) -> bool {
        matches!(self.verdict(), Verdict::Throttled | Verdict::Transient)
    }

    /// Whether the request may have been applied although the response does not show it.
    pub fn may_have_been_applied(self) -> bool {
        match self {
            Self::NamesQuestions => true,
            Self::NotConnected => false,
            _ => self.verdict() == Verdict::Transient,
        }
    }

    /// Whether the service was not reached and waiting does not help.
    pub fn is_local_fault(self) -> bool {
        matches!(self, Self::Certificate | Self::Proxy)
    }

    /// The action for a user after a response that ended a run.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Code(code) => explain(code).advice,
            Self::NamesQuestions => {
                "compare the questions with the console; deskbatch cannot determine which of them the service rejected"
            }
            Self::Certificate => {
                "check the clock of this host (`deskbatch doctor`); behind a company's proxy, name its CA file in \
                 SSL_CERT_FILE"
            }
            Self::Proxy => {
                "correct the variable (http://USER:PASSWORD@HOST:PORT), unset it, or name the service's host in \
                 NO_PROXY"
            }
            Self::HttpStatus(_) => "check the endpoint",
            Self::Unreadable | Self::NotConnected | Self::NoResponse => {
                "check the network with `deskbatch doctor`, then run again"
            }
        }
    }
}

impl fmt::Display for ResponseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "{code} ({})", explain(*code).meaning),
            Self::NamesQuestions => f.write_str("OK and a list that may name rejected questions"),
            Self::Unreadable => f.write_str("unreadable response"),
            Self::HttpStatus(status) => write!(f, "HTTP status {status}"),
            Self::NotConnected => f.write_str("no connection"),
            Self::Certificate => f.write_str("untrusted certificate"),
            Self::Proxy => f.write_str("unusable proxy"),
            Self::NoResponse => f.write_str("no response"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_is_listed_twice() {
        let mut last = i64::MIN;
        let mut rows: Vec<&CodeRow> = CODES.iter().collect();
        rows.sort_by_key(|row| row.first);
        for row in rows {
            assert!(row.first > last && row.last >= row.first, "{}", row.codes());
            last = row.last;
        }
    }

    #[test]
    fn unlisted_codes_are_rejected_as_unknown() {
        assert_eq!(ResponseKind::Code(-50_004).verdict(), Verdict::Rejected);
        assert_eq!(explain(i64::MAX).class, Class::Unknown);
    }

    #[test]
    fn every_response_without_a_code_has_its_verdict() {
        let verdicts = [200, 204, 301, 400, 403, 404, 408, 413, 425, 429, 500, 502, 503, 504]
            .map(|status| (status, ResponseKind::HttpStatus(status).verdict().name()));
        assert_eq!(
            verdicts,
            [
                (200, "transient"),
                (204, "transient"),
                (301, "stop"),
                (400, "stop"),
                (403, "stop"),
                (404, "stop"),
                (408, "transient"),
                (413, "rejected"),
                (425, "transient"),
                (429, "throttled"),
                (500, "transient"),
                (502, "transient"),
                (503, "transient"),
                (504, "transient"),
            ]
        );
        assert!(ResponseKind::NoResponse.may_have_been_applied());
        assert!(ResponseKind::Code(60_008).may_have_been_applied());
        for (response, verdict, in_doubt) in [
            (ResponseKind::NamesQuestions, Verdict::Rejected, true),
            (ResponseKind::Certificate, Verdict::Stop, false),
            (ResponseKind::Proxy, Verdict::Stop, false),
        ] {
            assert_eq!((response.verdict(), response.may_have_been_applied()), (verdict, in_doubt));
        }
        assert!(!ResponseKind::NotConnected.may_have_been_applied());
        assert!(!ResponseKind::Code(-14).may_have_been_applied());
    }
}
