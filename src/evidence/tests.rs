//! The decision as a table, and what responses and reads prove.

use std::fmt::Write as _;
use std::time::Duration;

use super::*;

fn at(s: u64) -> Moment {
    Moment(Duration::from_secs(s))
}

fn suspect(job: JobId, subject: RejectionSubject, s: u64) -> Suspect {
    Suspect { job, request: job, subject, is_done: false, at: at(s) }
}

const READS: [LastRead; 5] =
    [LastRead::None, LastRead::Alive, LastRead::Dead(1), LastRead::Dead(3), LastRead::Unavailable];

/// Every combination of facts: the row has the facts, the column the result of the last read.
#[test]
fn decisions_are_as_in_the_table() {
    let streak = |question_or_app, call| Streak { question_or_app, call };
    let rows = [
        ("few rejections, before any is applied", streak(3, 0), false, false, true),
        ("-50003 four times, nothing applied yet", streak(4, 0), false, false, true),
        ("-50003 eight times after an applied one", streak(8, 0), true, false, true),
        ("-7 four times, nothing applied yet", streak(0, 4), false, false, true),
        ("-7 four times, nothing else in the queue", streak(0, 4), false, false, false),
        ("-7 seven times after an applied one", streak(0, 7), true, false, true),
        ("-7 eight times after an applied one", streak(0, 8), true, false, true),
        ("both codes in turn, eight times", streak(4, 4), true, false, true),
        ("end of the queue, -50003 once, none applied", streak(1, 0), false, true, false),
        ("end of the queue, -50003 once, one applied", streak(1, 0), true, true, false),
        ("end of the queue, -7 once, none applied", streak(0, 1), false, true, false),
        ("end of the queue, -7 ten times, one applied", streak(0, 10), true, true, false),
        ("end of the queue, -7 ten times, none applied", streak(0, 10), false, true, false),
    ];
    let mut table =
        String::from("no read, alive, refused once, refused three times, unavailable\n");
    for (name, streak, applied, now, elsewhere) in rows {
        let steps = READS.map(|read| {
            let facts = Facts {
                streak,
                rejections_max: 8,
                read,
                applied,
                applied_recently: applied,
                suspects: true,
                decide_now: now,
                samples: 0,
                has_other_jobs: elsewhere,
            };
            format!("{:?}", decide(&facts))
        });
        let _ = writeln!(table, "{name}: {}", steps.join(", "));
    }
    insta::assert_snapshot!(table, @r"
    no read, alive, refused once, refused three times, unavailable
    few rejections, before any is applied: Send, Send, StopRefused, StopRefused, Send
    -50003 four times, nothing applied yet: CheckApp, RecordSuspects, StopRefused, StopRefused, Sample
    -50003 eight times after an applied one: CheckApp, RecordSuspects, RecheckApp(1), StopRefused, Sample
    -7 four times, nothing applied yet: Sample, Sample, StopRefused, StopRefused, Sample
    -7 four times, nothing else in the queue: CheckApp, StopSuspicious, StopRefused, StopRefused, StopSuspicious
    -7 seven times after an applied one: Send, Send, RecheckApp(1), StopRefused, Send
    -7 eight times after an applied one: Sample, Sample, RecheckApp(1), StopRefused, Sample
    both codes in turn, eight times: CheckApp, Sample, RecheckApp(1), StopRefused, Sample
    end of the queue, -50003 once, none applied: CheckApp, RecordSuspects, StopRefused, StopRefused, StopSuspicious
    end of the queue, -50003 once, one applied: CheckApp, RecordSuspects, RecheckApp(1), StopRefused, RecordSuspects
    end of the queue, -7 once, none applied: CheckApp, RecordSuspects, StopRefused, StopRefused, StopSuspicious
    end of the queue, -7 ten times, one applied: CheckApp, RecordSuspects, RecheckApp(1), StopRefused, StopSuspicious
    end of the queue, -7 ten times, none applied: CheckApp, StopSuspicious, StopRefused, StopRefused, StopSuspicious
    ");
}

#[test]
fn samples_end_after_two_rejections() {
    let facts = |samples| Facts {
        streak: Streak { question_or_app: 0, call: 8 },
        rejections_max: 8,
        read: LastRead::Alive,
        applied: true,
        applied_recently: true,
        suspects: true,
        decide_now: false,
        samples,
        has_other_jobs: true,
    };
    assert_eq!(
        [0, 1, 2].map(|n| decide(&facts(n))),
        [Step::Sample, Step::Sample, Step::StopSuspicious]
    );
}

#[test]
fn without_a_limit_every_code_blames_its_question() {
    let facts = |suspects| Facts {
        streak: Streak { question_or_app: 50, call: 50 },
        rejections_max: 0,
        read: LastRead::None,
        applied: false,
        applied_recently: false,
        suspects,
        decide_now: false,
        samples: 0,
        has_other_jobs: true,
    };
    assert_eq!([true, false].map(|some| decide(&facts(some))), [Step::RecordSuspects, Step::Send]);
}

#[test]
fn applied_request_proves_earlier_rejections() {
    let mut evidence = Evidence::default();
    let [early, late] =
        [suspect(1, RejectionSubject::Call, 5), suspect(2, RejectionSubject::QuestionOrApp, 9)];
    for suspect in [early, late] {
        evidence.record_rejection(suspect.subject, false);
        evidence.hold_suspect(suspect);
    }
    // It was sent before the second rejection arrived, so it proves nothing about that rejection.
    assert_eq!(evidence.record_applied(at(7)), [early]);
    assert_eq!((evidence.suspect_count(), evidence.record_applied(at(9))), (1, vec![late]));
}

#[test]
fn live_read_proves_rejections_of_either_kind() {
    let mut evidence = Evidence::default();
    let [app, call] =
        [suspect(1, RejectionSubject::QuestionOrApp, 1), suspect(2, RejectionSubject::Call, 2)];
    for suspect in [app, call] {
        evidence.record_rejection(suspect.subject, false);
        evidence.hold_suspect(suspect);
    }
    assert_eq!(evidence.record_read(ReadResult::Inconclusive), ReadEffect::Nothing);
    assert_eq!(evidence.record_read(ReadResult::Alive), ReadEffect::Proven(vec![app]));
    assert_eq!(evidence.facts(8, at(3), true, false).streak, Streak::default());
    assert_eq!(decide(&evidence.facts(8, at(3), true, false)), Step::RecordSuspects);
    assert_eq!(evidence.take_suspects(), [call]);
}

#[test]
fn recovered_app_proves_no_rejection() {
    let mut evidence = Evidence::default();
    evidence.record_rejection(RejectionSubject::QuestionOrApp, false);
    evidence.hold_suspect(suspect(1, RejectionSubject::QuestionOrApp, 1));
    assert_eq!(evidence.record_read(ReadResult::Dead), ReadEffect::Nothing);
    assert_eq!(evidence.record_read(ReadResult::Alive), ReadEffect::Recovered);
    assert_eq!(evidence.suspect_count(), 1);
}

#[test]
fn reads_are_classified_by_their_response() {
    use ReadResult::{Alive, Dead, Inconclusive, Unavailable};
    let says = [0, -50_003, -50_040, -50_059, -14, 60_008, 60_009, -20, -7, -99_999]
        .map(|code| (code, ReadResult::from_response(ResponseKind::Code(code))));
    let expected = [
        (0, Alive),
        (-50_003, Dead),
        (-50_040, Dead),
        (-50_059, Dead),
        (-14, Inconclusive),
        (60_008, Inconclusive),
        (60_009, Unavailable),
        (-20, Unavailable),
        (-7, Unavailable),
        (-99_999, Unavailable),
    ];
    assert_eq!(says, expected);
    assert_eq!(ReadResult::from_response(ResponseKind::HttpStatus(502)), Inconclusive);
    assert_eq!(ReadResult::from_response(ResponseKind::HttpStatus(404)), Unavailable);
    assert_eq!(ReadResult::from_response(ResponseKind::Unreadable), Unavailable);
}

#[test]
fn suspicion_limits_requests_in_flight() {
    let mut evidence = Evidence::default();
    assert_eq!(evidence.in_flight_max(8), usize::MAX);
    evidence.record_rejection(RejectionSubject::QuestionOrApp, false);
    assert_eq!((evidence.in_flight_max(8), evidence.in_flight_max(0)), (3, usize::MAX));
    evidence.record_applied(at(1));
    let limits = [usize::MAX, usize::MAX, usize::MAX, 4, 3, 2, 1, 1, 1];
    for limit in limits {
        evidence.record_rejection(RejectionSubject::Call, false);
        assert_eq!(evidence.in_flight_max(8), limit);
    }
    evidence.record_rejection(RejectionSubject::Question, false);
    assert_eq!(evidence.streak.total(), 9, "a code that is about questions is no part of it");
}

#[test]
fn later_applied_delete_clears_its_rejected_request() {
    let mut chunks = RejectedChunks::default();
    chunks.record_rejection(&[1, 2, 3], 10);
    chunks.record_rejection(&[1, 2], 11);
    assert!(chunks.may_have_been_applied(1) && !chunks.may_have_been_applied(4));
    chunks.record_applied(&[3]);
    assert!(chunks.may_have_been_applied(1), "request 11 may have deleted it still");
    chunks.record_applied(&[2]);
    assert!(!chunks.may_have_been_applied(1));
}
