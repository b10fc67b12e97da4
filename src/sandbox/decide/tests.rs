//! The decision as tables: a request, and its expected code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use secrecy::SecretString;
use strum::VariantArray as _;

use super::super::settings::{AdminCode, Apps, JsonCode, RateCode, SandboxSettings, Window};
use super::super::testing::{PATH, body, query_at, sign};
use super::super::{SANDBOX_IDENTIFIER, SANDBOX_KEY, SANDBOX_SDKAPPID};
use super::*;

/// 2026-01-01, the time of the UserSigs in these tests.
const SECOND: i64 = 1_767_225_600;

/// A valid request. Each test makes one part invalid.
struct Sent {
    method: &'static str,
    path: String,
    query: String,
    body: String,
    fault: Option<Fault>,
    /// The time since the UserSig was made.
    at: Duration,
}

impl Default for Sent {
    fn default() -> Self {
        Self {
            method: "POST",
            path: PATH.to_owned(),
            query: query_at(SECOND),
            body: body(4, &["1-a"]),
            fault: None,
            at: Duration::ZERO,
        }
    }
}

impl Sent {
    fn to(self, world: &mut ServiceState) -> Decision {
        let request = Request {
            method: self.method,
            path: &self.path,
            query: &self.query,
            body: Some(self.body.as_bytes()),
        };
        let since_ms = i64::try_from(self.at.as_millis()).expect("a short test");
        let now = Now { moment: Moment(self.at), wall_ms: SECOND * 1_000 + since_ms };
        decide(&request, world, self.fault, now)
    }

    /// The code that a new sandbox with these settings returns.
    fn code_with(self, settings: &SandboxSettings) -> i64 {
        let decision = self.to(&mut ServiceState::new(settings.clone()));
        assert_eq!(decision.applied, decision.code == Some(0), "{decision:?}");
        decision.code.expect("a code")
    }

    fn code(self) -> i64 {
        self.code_with(&SandboxSettings::default())
    }
}

fn with_query(query: String) -> Sent {
    Sent { query, ..Sent::default() }
}

fn with_body(body: impl Into<String>) -> Sent {
    Sent { body: body.into(), ..Sent::default() }
}

/// The valid query with the value of one parameter replaced; `None` removes the parameter.
fn query_with(name: &str, value: Option<&str>) -> String {
    let good = query_at(SECOND);
    let pairs = good.split('&').filter_map(|pair| match (pair.split_once('='), value) {
        (Some((other, _)), _) if other != name => Some(pair.to_owned()),
        (_, value) => value.map(|value| format!("{name}={value}")),
    });
    pairs.collect::<Vec<_>>().join("&")
}

#[test]
fn valid_request_is_applied_and_fully_recorded() {
    let mut world = ServiceState::new(SandboxSettings::default());
    let decision = with_body(body(5, &["1-a", "1-b"])).to(&mut world);
    let expected = Decision {
        command: Some(Command::BatchSetChitchat),
        sdkappid: Some(SANDBOX_SDKAPPID),
        random: Some(7),
        status: Some(5),
        ids: vec!["1-a".to_owned(), "1-b".to_owned()],
        code: Some(0),
        applied: true,
        fault: None,
        page: None,
    };
    assert_eq!(decision, expected);
    assert_eq!(world.question("1-b").map(|q| q.status), Some(QuestionStatus::Disabled));
    let faq = PATH.replace("chitchat", "faq");
    assert_eq!(Sent { path: faq, ..Sent::default() }.code(), 0);
}

#[test]
fn only_documented_path_and_method_are_accepted() {
    for path in ["/", "/v4/openim_console_http_svc/", "/v3/x", "/v4/openim_console_http_svc/list"] {
        assert_eq!(Sent { path: path.to_owned(), ..Sent::default() }.code(), 60_009, "{path}");
    }
    assert_eq!(Sent { path: format!("{PATH}/"), ..Sent::default() }.code(), 60_009);
    for method in ["GET", "PUT", "post"] {
        assert_eq!(Sent { method, ..Sent::default() }.code(), 60_002, "{method}");
    }
}

#[test]
fn every_parameter_is_checked() {
    let rows = [
        ("sdkappid", None, 60_012),
        ("sdkappid", Some(""), 60_012),
        ("sdkappid", Some("abc"), 60_006),
        ("sdkappid", Some("-1"), 60_006),
        ("contenttype", None, 60_002),
        ("contenttype", Some("JSON"), 60_002),
        ("random", None, 60_002),
        ("random", Some("4294967296"), 60_002),
        ("random", Some("x"), 60_002),
        ("identifier", Some("%zz"), 60_002),
        ("identifier", None, 70_013),
        ("identifier", Some("somebody"), 70_013),
        ("sdkappid", Some("1400000001"), 70_014),
        ("usersig", None, 70_002),
        ("usersig", Some(""), 70_002),
        ("usersig", Some("eJw9"), 70_003),
    ];
    for (name, value, code) in rows {
        assert_eq!(with_query(query_with(name, value)).code(), code, "{name} {value:?}");
    }
    assert_eq!(with_query(query_at(SECOND) + "&random=8").code(), 60_002);
    assert_eq!(with_query(query_at(SECOND) + "&more=%zz").code(), 0);
    assert_eq!(with_query(query_with("random", Some("4294967295"))).code(), 0);
}

#[test]
fn usersig_is_valid_only_for_its_time_key_and_app() {
    let day = Duration::from_hours(24);
    let aged = |at| Sent { at, ..Sent::default() };
    assert_eq!(aged(day).code(), 0);
    assert_eq!(aged(day + Duration::from_secs(1)).code(), 70_001);

    let forged = sign("another key", SANDBOX_IDENTIFIER, SANDBOX_SDKAPPID, SECOND, 60);
    assert_eq!(with_query(query_with("usersig", Some(&forged))).code(), 70_009);

    let key = SecretString::from(SANDBOX_KEY);
    let listed = |app| SandboxSettings {
        apps: Apps::Listed(BTreeMap::from([(app, key.clone())])),
        ..SandboxSettings::default()
    };
    assert_eq!(Sent::default().code_with(&listed(SANDBOX_SDKAPPID)), 0);
    assert_eq!(Sent::default().code_with(&listed(1)), 70_020);
}

#[test]
fn only_administrators_of_an_app_with_desk_may_call() {
    let clerk = sign(SANDBOX_KEY, "clerk", SANDBOX_SDKAPPID, SECOND, 60);
    let query = query_with("usersig", Some(&clerk)).replace(SANDBOX_IDENTIFIER, "clerk");
    for admin_code in AdminCode::VARIANTS {
        let settings = SandboxSettings { admin_code: *admin_code, ..SandboxSettings::default() };
        assert_eq!(with_query(query.clone()).code_with(&settings), admin_code.code());
    }
    let administrators = BTreeSet::from(["clerk".to_owned()]);
    let settings = SandboxSettings { administrators, ..SandboxSettings::default() };
    assert_eq!(with_query(query).code_with(&settings), 0);

    let desk_off = BTreeSet::from([SANDBOX_SDKAPPID]);
    let settings = SandboxSettings { desk_off, ..SandboxSettings::default() };
    assert_eq!(Sent::default().code_with(&settings), -50_040);
}

#[test]
fn sixth_request_in_a_second_is_throttled_not_applied() {
    for rate_code in RateCode::VARIANTS {
        let settings = SandboxSettings { rate_code: *rate_code, ..SandboxSettings::default() };
        let mut world = ServiceState::new(settings);
        let codes: Vec<Option<i64>> = (0..6).map(|_| Sent::default().to(&mut world).code).collect();
        assert_eq!(codes, [0, 0, 0, 0, 0, rate_code.code()].map(Some));
        assert_eq!(world.question("1-a").map(|question| question.changes), Some(5));
        let later = Sent { at: Duration::from_secs(1), ..Sent::default() };
        assert_eq!(later.to(&mut world).code, Some(0));
        assert_eq!(world.frequency.largest_second, 6);
        assert_eq!(world.frequency.largest_second_accepted, 5);
    }
}

#[test]
fn configured_rate_window_is_used() {
    let accepted = |window| {
        let mut world = ServiceState::new(SandboxSettings { window, ..SandboxSettings::default() });
        let at_ms = [990, 990, 990, 990, 990, 1_010, 1_010];
        let calls = at_ms.map(|ms| Sent { at: Duration::from_millis(ms), ..Sent::default() });
        calls.into_iter().filter_map(|call| call.to(&mut world).code).filter(|c| *c == 0).count()
    };
    assert_eq!((accepted(Window::Sliding), accepted(Window::Fixed)), (5, 7));
}

#[test]
fn bad_credentials_are_seen_but_do_not_use_the_limit() {
    let mut world = ServiceState::new(SandboxSettings::default());
    for _ in 0..9 {
        with_query(query_with("usersig", Some("eJw9"))).to(&mut world);
    }
    assert_eq!(Sent::default().to(&mut world).code, Some(0));
    assert_eq!(world.frequency.largest_second, 10);
    assert_eq!(world.frequency.largest_second_accepted, 1);
}

#[test]
fn request_body_must_be_json_with_valid_values() {
    for json_code in JsonCode::VARIANTS {
        let settings = SandboxSettings { json_code: *json_code, ..SandboxSettings::default() };
        for text in ["", "{", "Status=4", "\u{feff}{}"] {
            assert_eq!(with_body(text).code_with(&settings), json_code.code(), "{text}");
        }
    }
    let bad_values = [
        "{}",
        "[]",
        r#"{"StandardQuestionIds":["a"]}"#,
        r#"{"StandardQuestionIds":["a"],"Status":"4"}"#,
        r#"{"StandardQuestionIds":["a"],"Status":4.5}"#,
        r#"{"StandardQuestionIds":["a"],"Status":3}"#,
        r#"{"StandardQuestionIds":["a"],"Status":7}"#,
        r#"{"StandardQuestionIds":["a"],"status":4}"#,
        r#"{"Status":4}"#,
        r#"{"StandardQuestionIds":[],"Status":4}"#,
        r#"{"StandardQuestionIds":[""],"Status":4}"#,
        r#"{"StandardQuestionIds":[1],"Status":4}"#,
        r#"{"StandardQuestionIds":"a","Status":4}"#,
    ];
    for text in bad_values {
        assert_eq!(with_body(text).code(), -7, "{text}");
    }
}

#[test]
fn too_many_ids_are_rejected_if_a_limit_is_set() {
    for too_many_code in [70_206, -7, -50_003] {
        let settings = SandboxSettings { max_ids: 2, too_many_code, ..SandboxSettings::default() };
        let three = with_body(body(4, &["1-a", "1-b", "1-c"]));
        assert_eq!(three.code_with(&settings), too_many_code);
        assert_eq!(with_body(body(4, &["1-a", "1-b"])).code_with(&settings), 0);
    }
}

#[test]
fn unknown_and_protected_ids_are_rejected() {
    assert_eq!(with_body(body(4, &["1-a", "1-missing1"])).code(), -50_003);
    assert_eq!(with_body(body(6, &["1-a", "1-preset1"])).code(), -50_011);
    assert_eq!(with_body(body(5, &["1-a", "1-preset1"])).code(), 0);
}

#[test]
fn sandbox_checks_run_in_the_suggested_order() {
    let settings = SandboxSettings {
        desk_off: BTreeSet::from([SANDBOX_SDKAPPID]),
        rate_limit: 1,
        ..SandboxSettings::default()
    };
    let spoilt = || with_body("{");
    // Each row is invalid at its own check and at every later one.
    let path = Sent { path: "/x".to_owned(), query: String::new(), ..spoilt() };
    assert_eq!(path.code_with(&settings), 60_009);
    let query = with_query(query_with("random", None).replace("usersig", "u"));
    assert_eq!(Sent { body: "{".to_owned(), ..query }.code_with(&settings), 60_002);
    let usersig = Sent { query: query_with("usersig", None), ..spoilt() };
    assert_eq!(usersig.code_with(&settings), 70_002);
    assert_eq!(spoilt().code_with(&settings), -50_040);

    let mut world =
        ServiceState::new(SandboxSettings { rate_limit: 1, ..SandboxSettings::default() });
    assert_eq!(with_body(body(9, &["1-missing"])).to(&mut world).code, Some(-7));
    assert_eq!(spoilt().to(&mut world).code, Some(-14));
}

#[test]
fn each_fault_decides_if_applied_and_if_counted() {
    let rows = [
        (Fault::Throttle, Some(-14), false, 0),
        (Fault::BadGateway, None, false, 1),
        (Fault::CutBefore, None, false, 1),
        (Fault::CutAfter, Some(0), true, 1),
        (Fault::Late, Some(0), true, 1),
        (Fault::Truncated, Some(0), true, 1),
        (Fault::Garbage, Some(0), true, 1),
        (Fault::Internal, Some(60_008), false, 1),
        (Fault::Malformed, Some(-7), false, 1),
        (Fault::Unknown, Some(-59_991), false, 1),
        (Fault::UnknownOther, Some(-59_992), false, 1),
        (Fault::Rejected, Some(-50_003), false, 1),
        (Fault::RejectedApplied, Some(-50_003), true, 1),
    ];
    assert_eq!(rows.map(|row| row.0), Fault::VARIANTS);
    for (fault, code, applied, counted) in rows {
        let mut world = ServiceState::new(SandboxSettings::default());
        let struck = Sent { fault: Some(fault), ..Sent::default() }.to(&mut world);
        assert_eq!((struck.code, struck.applied), (code, applied), "{fault}");
        assert_eq!(world.question("1-a").is_some(), applied, "{fault}");
        assert_eq!(world.frequency.largest_second_accepted, counted, "{fault}");
        assert_eq!(world.frequency.largest_second, 1, "{fault}");
    }
}

#[test]
fn rejection_takes_precedence_over_a_fault() {
    for fault in [Fault::Throttle, Fault::CutAfter, Fault::Internal] {
        let query = query_with("usersig", None);
        assert_eq!(Sent { fault: Some(fault), ..with_query(query) }.code(), 70_002, "{fault}");
    }
}

#[test]
fn oversized_body_gets_no_error_code() {
    let query = query_at(SECOND);
    let request = Request { method: "POST", path: PATH, query: &query, body: None };
    let now = Now { moment: Moment::default(), wall_ms: SECOND * 1_000 };
    let decision = decide(&request, &mut ServiceState::new(SandboxSettings::default()), None, now);
    assert_eq!((decision.code, decision.applied), (None, false));
}

fn with_read(body: &str) -> Sent {
    Sent { path: PATH.replace("batch_set", "list"), body: body.to_owned(), ..Sent::default() }
}

#[test]
fn reads_show_what_was_set_page_by_page() {
    let mut world =
        ServiceState::new(SandboxSettings { rate_limit: 0, ..SandboxSettings::default() });
    assert_eq!(with_body(body(4, &["1-a", "1-b"])).to(&mut world).code, Some(0));
    assert_eq!(with_body(body(5, &["1-c"])).to(&mut world).code, Some(0));
    assert_eq!(with_body(body(6, &["1-b"])).to(&mut world).code, Some(0));
    let shown = |world: &mut ServiceState, body: &str| {
        let decision = with_read(body).to(world);
        let page = decision.page.expect("a page");
        let ids: Vec<String> = page.questions.into_iter().map(|(id, _)| id).collect();
        (decision.applied, page.total, ids.join(" "))
    };
    let read = |world: &mut ServiceState, body: &str| shown(world, body);
    assert_eq!(read(&mut world, r#"{"PageIndex":1,"PageSize":1}"#), (false, 2, "1-a".to_owned()));
    assert_eq!(read(&mut world, r#"{"PageIndex":2,"PageSize":1}"#), (false, 2, "1-c".to_owned()));
    let disabled = r#"{"PageIndex":1,"PageSize":9,"Status":5}"#;
    assert_eq!(read(&mut world, disabled), (false, 1, "1-c".to_owned()));
    for bad in [
        r#"{"PageIndex":0,"PageSize":1}"#,
        r#"{"PageIndex":1}"#,
        r#"{"PageIndex":1,"PageSize":1,"Status":6}"#,
    ] {
        assert_eq!(with_read(bad).to(&mut world).code, Some(-7), "{bad}");
    }
}

#[test]
fn lapsed_app_rejects_requests_and_reads() {
    let settings = SandboxSettings {
        expired_after: Some(1),
        expired_for: Some(Duration::from_secs(30)),
        ..SandboxSettings::default()
    };
    let mut world = ServiceState::new(settings);
    let at = |seconds| Duration::from_secs(seconds);
    let read = |seconds| Sent { at: at(seconds), ..with_read(r#"{"PageIndex":1,"PageSize":1}"#) };
    let call = |seconds| Sent { at: at(seconds), ..Sent::default() };
    assert_eq!(call(0).to(&mut world).code, Some(0));
    assert_eq!(read(1).to(&mut world).code, Some(-50_003));
    assert_eq!(call(2).to(&mut world).code, Some(-50_003));
    assert_eq!((call(40).to(&mut world).code, read(41).to(&mut world).code), (Some(0), Some(0)));
}

#[test]
fn poison_ids_and_falling_maxima_are_configurable() {
    let falls = vec!["2@1".parse().expect("a fall")];
    let settings = SandboxSettings {
        poison: Fault::CutBefore,
        max_ids: 3,
        max_ids_after: falls,
        too_many_code: -50_003,
        ..SandboxSettings::default()
    };
    let mut world = ServiceState::new(settings);
    let poisonous = with_body(body(4, &["1-a", "1-poison7"])).to(&mut world);
    assert_eq!((poisonous.code, poisonous.fault), (None, Some(Fault::CutBefore)));
    let three = || with_body(body(4, &["1-a", "1-b", "1-c"]));
    assert_eq!(three().to(&mut world).code, Some(0));
    assert_eq!(three().to(&mut world).code, Some(-50_003));
}
