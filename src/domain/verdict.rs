//! What an answer means for the run: every code of the vendor, its verdict and advice.
//!
//! Pure. The data is `codes.rs`, straight from section 4 of the contract notes; `explain`
//! prints the same rows and a snapshot test shows the whole policy. The wording of an
//! `ErrorInfo` is no part of the vendor's contract and never decides anything.

use std::fmt;

pub use super::codes::CODES;

/// What the run does after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The service took it: the jobs have succeeded.
    Applied,
    /// Too fast: the gate closes for everyone, the same chunk goes again, no attempt counts.
    Throttled,
    /// Trouble that passes: the same chunk goes again after a wait.
    Transient,
    /// The UserSig is no longer good: make a new one once, then the same chunk again.
    Renew,
    /// The service refuses this content: isolate it, and a job alone has failed.
    Rejected,
    /// Nothing would be accepted: the run stops with everything pending.
    Stop,
}

impl Verdict {
    /// The word used in the database and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::Renew => "renew",
            Self::Rejected => "rejected",
            Self::Stop => "stop",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The contract's classes. Several lead to one verdict; the difference is who can mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// 0.
    Success,
    /// Above the frequency limit.
    Rate,
    /// Trouble on the server's side; whether the change was made is not known.
    Retry,
    /// The UserSig has to be made anew.
    Renew,
    /// An id, or what is in the batch, is bad.
    Item,
    /// A question or the app: the code does not say which.
    QuestionOrApp,
    /// The service does not accept the request; the content may be at fault.
    Malformed,
    /// The request is wrong in a part that is the same in every call.
    BadCall,
    /// Credentials, permission, product or package.
    Stop,
    /// Not in any list.
    Unknown,
}

impl Class {
    /// What the run does with a code of this class.
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

    /// What the run does with a code of this class, in words: what `explain` and
    /// docs/codes.md say.
    pub fn consequence(self) -> &'static str {
        match self {
            Self::Success => "the jobs have succeeded",
            Self::Rate => {
                "closes the gate for a second or more, then sends the same chunk again; no attempt counts"
            }
            Self::Retry => "sends the same chunk again after a wait",
            Self::Renew => {
                "makes a new UserSig once and sends the same chunk again; refused again, it stops"
            }
            Self::Item => {
                "searches the chunk for the bad questions; those have failed with this code"
            }
            Self::QuestionOrApp => {
                "searches the chunk for the bad questions; those have failed with this code once the app has been seen \
                 alive, by a request that was applied or by a read; it stops with everything pending if the app is \
                 refused too"
            }
            Self::Malformed | Self::Unknown => {
                "searches the chunk for the bad questions; those have failed with this code once another request was \
                 applied; it stops with everything pending if every request is rejected"
            }
            Self::BadCall | Self::Stop => "stops with everything pending",
        }
    }
}

/// What a rejection is about. A code that may be about more than the questions fails none of
/// them before a look at the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectionSubject {
    /// A question of the request.
    Question,
    /// A question, or the app as a whole.
    QuestionOrApp,
    /// The questions, how many they are, or the call itself.
    Call,
}

/// One line of the table: a code or a range of codes with one meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeRow {
    /// The first code.
    pub first: i64,
    /// The last code; equal to `first` for a single one.
    pub last: i64,
    /// The class in the contract notes.
    pub class: Class,
    /// What the vendor says, in short.
    pub meaning: &'static str,
    /// What a user of deskbatch does about it.
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

/// What is said of a code that no list has.
pub const UNKNOWN: CodeRow = CodeRow {
    first: 0,
    last: 0,
    class: Class::Unknown,
    meaning: "not in any of the vendor's lists",
    advice: "read the service's own text beside it; the run treats it as a refusal of the content \
             and stops when nothing is applied any more",
};

/// The row of `code`; [`UNKNOWN`] when no list has it.
pub fn explain(code: i64) -> &'static CodeRow {
    CODES.iter().find(|row| (row.first..=row.last).contains(&code)).unwrap_or(&UNKNOWN)
}

/// What came of a request, as far as the verdict is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseKind {
    /// A readable answer with this `ErrorCode`, not 0; or 0 with `ActionStatus` `OK`.
    Code(i64),
    /// `ErrorCode` 0 and `OK`, and beside them a list that may name questions which were refused:
    /// a part may have been applied, and none of it is known to be.
    NamesQuestions,
    /// HTTP status 200 and a body that is not an answer: cut off, not JSON, or `ErrorCode`
    /// and `ActionStatus` contradict each other.
    Unreadable,
    /// Another HTTP status than the promised 200.
    HttpStatus(u16),
    /// The connection was never made, so nothing was sent.
    NotConnected,
    /// The same: the certificate of the other side is not trusted, which no later try changes.
    Certificate,
    /// The same: the proxy asks who calls, or was not there from the beginning.
    Proxy,
    /// Sent, perhaps; no whole answer came back.
    NoResponse,
}

impl ResponseKind {
    /// What the run does with this answer.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Code(code) => explain(code).class.verdict(),
            // 408, 425 and 429 are the only 4xx that a later try can mend; a redirect or
            // another 4xx is a wrong address, and every call would meet it.
            Self::HttpStatus(408 | 425) => Verdict::Transient,
            Self::HttpStatus(429) => Verdict::Throttled,
            // Too large a body: half the chunk may fit.
            Self::HttpStatus(413) | Self::NamesQuestions => Verdict::Rejected,
            Self::HttpStatus(300..=499) | Self::Certificate | Self::Proxy => Verdict::Stop,
            Self::HttpStatus(_) | Self::Unreadable | Self::NotConnected | Self::NoResponse => {
                Verdict::Transient
            }
        }
    }

    /// What this answer is about, if its verdict is [`Verdict::Rejected`].
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

    /// Whether the same request may get another answer a little later.
    pub fn is_temporary(self) -> bool {
        matches!(self.verdict(), Verdict::Throttled | Verdict::Transient)
    }

    /// Whether the change may have been made although no answer says so.
    pub fn may_have_been_applied(self) -> bool {
        match self {
            Self::NamesQuestions => true,
            Self::NotConnected => false,
            _ => self.verdict() == Verdict::Transient,
        }
    }

    /// Whether the service was not reached and waiting does not help: the fault is on the way.
    pub fn is_local_fault(self) -> bool {
        matches!(self, Self::Certificate | Self::Proxy)
    }

    /// What a user of deskbatch does about an answer that ended a run.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Code(code) => explain(code).advice,
            Self::NamesQuestions => {
                "compare the questions with the console; deskbatch cannot know which of them the service has refused"
            }
            Self::Certificate => {
                "check the clock of this machine (deskbatch doctor); behind a company's proxy, name its CA file in \
                 SSL_CERT_FILE"
            }
            Self::Proxy => {
                "correct the variable (http://USER:PASSWORD@HOST:PORT), unset it, or name the service's host in \
                 NO_PROXY"
            }
            Self::HttpStatus(_) => "check the endpoint",
            Self::Unreadable | Self::NotConnected | Self::NoResponse => {
                "look with deskbatch doctor, then run again"
            }
        }
    }
}

impl fmt::Display for ResponseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "{code} ({})", explain(*code).meaning),
            Self::NamesQuestions => f.write_str("OK and a list that may name refused questions"),
            Self::Unreadable => f.write_str("an answer that could not be read"),
            Self::HttpStatus(status) => write!(f, "HTTP status {status}"),
            Self::NotConnected => f.write_str("no connection"),
            Self::Certificate => f.write_str("a certificate that is not trusted"),
            Self::Proxy => f.write_str("a proxy that refuses"),
            Self::NoResponse => f.write_str("no answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_stands_in_two_rows() {
        let mut last = i64::MIN;
        let mut rows: Vec<&CodeRow> = CODES.iter().collect();
        rows.sort_by_key(|row| row.first);
        for row in rows {
            assert!(row.first > last && row.last >= row.first, "{}", row.codes());
            last = row.last;
        }
    }

    #[test]
    fn unlisted_codes_are_refusals_of_an_unknown_kind() {
        assert_eq!(ResponseKind::Code(-50_004).verdict(), Verdict::Rejected);
        assert_eq!(explain(i64::MAX).class, Class::Unknown);
    }

    #[test]
    fn every_answer_that_is_not_a_code_has_its_verdict() {
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
        for (answer, verdict, in_doubt) in [
            (ResponseKind::NamesQuestions, Verdict::Rejected, true),
            (ResponseKind::Certificate, Verdict::Stop, false),
            (ResponseKind::Proxy, Verdict::Stop, false),
        ] {
            assert_eq!((answer.verdict(), answer.may_have_been_applied()), (verdict, in_doubt));
        }
        assert!(!ResponseKind::NotConnected.may_have_been_applied());
        assert!(!ResponseKind::Code(-14).may_have_been_applied());
    }
}
