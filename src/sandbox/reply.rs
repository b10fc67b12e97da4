//! What a client receives for a decision: the response, or what a fault makes of it.
//!
//! Pure. HTTP 200 for every code, as documented; only network faults have another status or none.

use std::time::Duration;

use serde_json::{Value, json};

use super::decide::Decision;
use super::faults::Fault;
use super::settings::SandboxSettings;
use super::state::{Page, QuestionStatus};
use crate::domain::verdict;

/// The reply to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// `None` if the connection is cut without a byte.
    pub(super) http: Option<u16>,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: String,
    /// The delay in addition to the usual latency.
    pub(super) hold: Duration,
}

const JSON: &str = "application/json";
const HTML: &str = "text/html";

/// The reply to request `number` of the sandbox.
pub(super) fn reply(decision: &Decision, number: u64, settings: &SandboxSettings) -> Reply {
    let fault = decision.fault;
    let status = |http, body: &str| Reply {
        http,
        content_type: Some(HTML),
        body: body.to_owned(),
        hold: Duration::ZERO,
    };
    let Some(code) = decision.code else {
        return match fault {
            Some(Fault::BadGateway) => status(Some(502), &error_page("502 Bad Gateway")),
            Some(Fault::CutBefore) => status(None, ""),
            _ => status(Some(413), &error_page("413 Request Entity Too Large")),
        };
    };
    let response = Reply {
        http: Some(200),
        content_type: settings.content_type.then_some(JSON),
        body: response_json(code, number, settings.extra_fields, decision.page.as_ref()),
        hold: Duration::ZERO,
    };
    match fault {
        Some(Fault::CutAfter) => status(None, ""),
        Some(Fault::Late) => Reply { hold: settings.late_delay, ..response },
        Some(Fault::Truncated) => {
            // The texts are ASCII, so every index is between two characters.
            let half = response.body.len() / 2;
            Reply { body: response.body.chars().take(half).collect(), ..response }
        }
        Some(Fault::Garbage) => status(Some(200), &error_page("Please try again")),
        _ => response,
    }
}

fn response_json(code: i64, number: u64, extra_fields: bool, page: Option<&Page>) -> String {
    let (action, info) =
        if code == 0 { ("OK", "") } else { ("FAIL", verdict::explain(code).meaning) };
    let mut response = json!({ "ActionStatus": action, "ErrorCode": code, "ErrorInfo": info });
    if extra_fields && let Some(fields) = response.as_object_mut() {
        fields.insert("RequestId".to_owned(), json!(format!("sandbox-{number}")));
        fields.insert("Undocumented".to_owned(), json!({ "ErrorCode": 1, "List": [] }));
    }
    if let Some(page) = page
        && let Some(fields) = response.as_object_mut()
    {
        let questions: Vec<Value> = page.questions.iter().map(question_json).collect();
        fields.insert("AllQuestionCount".to_owned(), json!(page.total));
        fields.insert("StandardQuestionCount".to_owned(), json!(page.total));
        fields.insert("QuestionList".to_owned(), json!(questions));
    }
    response.to_string()
}

fn question_json((id, status): &(String, QuestionStatus)) -> Value {
    let status = if *status == QuestionStatus::Enabled { 4 } else { 5 };
    json!({
        "StandardQuestionId": id, "StandardQuestion": "", "Status": status, "CategoryId": 1, "Answer": "",
        "AnswerType": 0, "QuestionType": 1, "SimilarQuestions": [],
    })
}

fn error_page(title: &str) -> String {
    format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(code: Option<i64>) -> Decision {
        let (command, sdkappid, random, status) = (None, None, None, None);
        let applied = code == Some(0);
        let (fault, page) = (None, None);
        Decision { command, sdkappid, random, status, ids: Vec::new(), code, applied, fault, page }
    }

    fn replied(code: Option<i64>, fault: Option<Fault>) -> Reply {
        reply(&Decision { fault, ..decided(code) }, 3, &SandboxSettings::default())
    }

    #[test]
    fn sandbox_response_is_http_200_with_three_fields() {
        for (code, action) in [(0, "OK"), (-50_003, "FAIL"), (70_009, "FAIL")] {
            let reply = replied(Some(code), None);
            assert_eq!((reply.http, reply.content_type), (Some(200), Some(JSON)));
            let value: Value = serde_json::from_str(&reply.body).expect("JSON");
            assert_eq!(value.as_object().map(serde_json::Map::len), Some(3), "{value}");
            assert_eq!(value["ErrorCode"], code);
            assert_eq!(value["ActionStatus"], action);
            assert_eq!(value["ErrorInfo"] == "", code == 0, "{value}");
        }
    }

    #[test]
    fn response_can_add_fields_and_omit_content_type() {
        let settings = SandboxSettings {
            extra_fields: true,
            content_type: false,
            ..SandboxSettings::default()
        };
        let reply = reply(&decided(Some(0)), 3, &settings);
        let value: Value = serde_json::from_str(&reply.body).expect("JSON");
        assert_eq!((value["RequestId"].as_str(), reply.content_type), (Some("sandbox-3"), None));
        assert_eq!(value["ErrorCode"], 0);
    }

    #[test]
    fn each_fault_has_its_own_response() {
        let http = |code, fault| replied(code, Some(fault)).http;
        assert_eq!(http(None, Fault::BadGateway), Some(502));
        assert_eq!(http(None, Fault::CutBefore), None);
        assert_eq!(http(Some(0), Fault::CutAfter), None);
        assert_eq!(replied(None, None).http, Some(413));
        assert_eq!(replied(Some(0), Some(Fault::Late)).hold, Duration::from_secs(12));
        for fault in [Fault::Truncated, Fault::Garbage] {
            let reply = replied(Some(0), Some(fault));
            assert_eq!(reply.http, Some(200), "{fault}");
            assert!(!reply.body.is_empty(), "{fault}");
            assert!(serde_json::from_str::<Value>(&reply.body).is_err(), "{fault}");
        }
        for fault in [Fault::Throttle, Fault::Internal] {
            assert_eq!(replied(Some(-14), Some(fault)), replied(Some(-14), None));
        }
    }
}
