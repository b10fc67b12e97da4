//! The decision as a table, and what responses and reads prove.

use std::fmt::Write as _;
use std::time::Duration;

use super::*;

fn at(s: u64) -> Moment {
    Moment(Duration::from_secs(s))
}

fn suspect(job: JobId, about: About, s: u64) -> Suspect {
    Suspect { job, request: job, about, is_done: false, at: at(s) }
}

const READS: [Read; 5] = [Read::None, Read::Alive, Read::Dead(1), Read::Dead(3), Read::Unavailable];

/// Every fact in turn: the row says what is known, the column what a read has shown.
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
                applied_near: applied,
                suspects: true,
                now,
                samples: 0,
                elsewhere,
            };
            format!("{:?}", decide(&facts))
        });
        let _ = writeln!(table, "{name}: {}", steps.join(", "));
    }
    insta::assert_snapshot!(table, @r"
    no read, alive, refused once, refused three times, unavailable
    few rejections, before any is applied: Send, Send, StopRefused, StopRefused, Send
    -50003 four times, nothing applied yet: Look, Record, StopRefused, StopRefused, Sample
    -50003 eight times after an applied one: Look, Record, LookAgain(1), StopRefused, Sample
    -7 four times, nothing applied yet: Sample, Sample, StopRefused, StopRefused, Sample
    -7 four times, nothing else in the queue: Look, StopSuspicious, StopRefused, StopRefused, StopSuspicious
    -7 seven times after an applied one: Send, Send, LookAgain(1), StopRefused, Send
    -7 eight times after an applied one: Sample, Sample, LookAgain(1), StopRefused, Sample
    both codes in turn, eight times: Look, Sample, LookAgain(1), StopRefused, Sample
    end of the queue, -50003 once, none applied: Look, Record, StopRefused, StopRefused, StopSuspicious
    end of the queue, -50003 once, one applied: Look, Record, LookAgain(1), StopRefused, Record
    end of the queue, -7 once, none applied: Look, Record, StopRefused, StopRefused, StopSuspicious
    end of the queue, -7 ten times, one applied: Look, Record, LookAgain(1), StopRefused, StopSuspicious
    end of the queue, -7 ten times, none applied: Look, StopSuspicious, StopRefused, StopRefused, StopSuspicious
    ");
}

#[test]
fn samples_end_after_two_rejections() {
    let facts = |samples| Facts {
        streak: Streak { question_or_app: 0, call: 8 },
        rejections_max: 8,
        read: Read::Alive,
        applied: true,
        applied_near: true,
        suspects: true,
        now: false,
        samples,
        elsewhere: true,
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
        read: Read::None,
        applied: false,
        applied_near: false,
        suspects,
        now: false,
        samples: 0,
        elsewhere: true,
    };
    assert_eq!([true, false].map(|some| decide(&facts(some))), [Step::Record, Step::Send]);
}

#[test]
fn an_applied_request_proves_earlier_rejections() {
    let mut evidence = Evidence::default();
    let [early, late] = [suspect(1, About::Call, 5), suspect(2, About::QuestionOrApp, 9)];
    for suspect in [early, late] {
        evidence.rejected(suspect.about, false);
        evidence.suspect(suspect);
    }
    // It left before the second rejection came, so it says nothing of that.
    assert_eq!(evidence.applied(at(7)), [early]);
    assert_eq!((evidence.suspects(), evidence.applied(at(9))), (1, vec![late]));
}

#[test]
fn a_live_read_proves_rejections_of_either_kind() {
    let mut evidence = Evidence::default();
    let [app, call] = [suspect(1, About::QuestionOrApp, 1), suspect(2, About::Call, 2)];
    for suspect in [app, call] {
        evidence.rejected(suspect.about, false);
        evidence.suspect(suspect);
    }
    assert_eq!(evidence.read(ReadSays::Nothing), Seen::Nothing);
    assert_eq!(evidence.read(ReadSays::Alive), Seen::Proven(vec![app]));
    assert_eq!(evidence.facts(8, at(3), true, false).streak, Streak::default());
    assert_eq!(decide(&evidence.facts(8, at(3), true, false)), Step::Record);
    assert_eq!(evidence.take_suspects(), [call]);
}

#[test]
fn an_app_that_comes_back_proves_nothing() {
    let mut evidence = Evidence::default();
    evidence.rejected(About::QuestionOrApp, false);
    evidence.suspect(suspect(1, About::QuestionOrApp, 1));
    assert_eq!(evidence.read(ReadSays::Dead), Seen::Nothing);
    assert_eq!(evidence.read(ReadSays::Alive), Seen::CameBack);
    assert_eq!(evidence.suspects(), 1);
}

#[test]
fn reads_are_classified_by_their_answer() {
    use ReadSays::{Alive, Dead, Nothing, Unavailable};
    let says = [0, -50_003, -50_040, -50_059, -14, 60_008, 60_009, -20, -7, -99_999]
        .map(|code| (code, ReadSays::of(Answer::Code(code))));
    let expected = [
        (0, Alive),
        (-50_003, Dead),
        (-50_040, Dead),
        (-50_059, Dead),
        (-14, Nothing),
        (60_008, Nothing),
        (60_009, Unavailable),
        (-20, Unavailable),
        (-7, Unavailable),
        (-99_999, Unavailable),
    ];
    assert_eq!(says, expected);
    assert_eq!(ReadSays::of(Answer::HttpStatus(502)), Nothing);
    assert_eq!(ReadSays::of(Answer::HttpStatus(404)), Unavailable);
    assert_eq!(ReadSays::of(Answer::Garbled), Unavailable);
}

#[test]
fn suspicion_limits_requests_in_flight() {
    let mut evidence = Evidence::default();
    assert_eq!(evidence.in_flight_max(8), usize::MAX);
    evidence.rejected(About::QuestionOrApp, false);
    assert_eq!((evidence.in_flight_max(8), evidence.in_flight_max(0)), (3, usize::MAX));
    evidence.applied(at(1));
    let limits = [usize::MAX, usize::MAX, usize::MAX, 4, 3, 2, 1, 1, 1];
    for limit in limits {
        evidence.rejected(About::Call, false);
        assert_eq!(evidence.in_flight_max(8), limit);
    }
    evidence.rejected(About::Question, false);
    assert_eq!(evidence.streak.total(), 9, "a code that is about questions is no part of it");
}

#[test]
fn a_later_applied_delete_clears_its_rejected_request() {
    let mut chunks = RefusedChunks::default();
    chunks.rejected(&[1, 2, 3], 10);
    chunks.rejected(&[1, 2], 11);
    assert!(chunks.may_have_applied(1) && !chunks.may_have_applied(4));
    chunks.applied(&[3]);
    assert!(chunks.may_have_applied(1), "request 11 may have deleted it still");
    chunks.applied(&[2]);
    assert!(!chunks.may_have_applied(1));
}
