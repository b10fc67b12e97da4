//! Injected faults: throttling, broken and lost responses, outages, and each reading of the contract
//! where it is ambiguous. The final state must match the manifest.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use deskbatch::desk::make_usersig;
use deskbatch::domain::clock::{Clock, Moment, SystemClock};
use deskbatch::sandbox::{
    JsonCode, RateCode, SANDBOX_IDENTIFIER, SANDBOX_KEY, SANDBOX_SDKAPPID, Sandbox,
    SandboxSettings, UnknownIds, Window,
};
use futures_util::future::join_all;
use secrecy::ExposeSecret as _;

use crate::support::migration::{
    ALL, End, Figures, Migration, NO_SUCH_QUESTION, REPEATABLE, Row, deleted_unseen, ended, lose,
    preset, rows, unlimited,
};
use crate::support::place::data;
use crate::support::scale::cases;

/// Runs `rows` to their end against `settings`. Each row must reach its expected state, a delete is in
/// doubt exactly where a fault hid its response, and the exit code says whether a row failed.
async fn check(
    what: &str,
    settings: SandboxSettings,
    rows: Vec<Row>,
    args: &[&'static str],
) -> Figures {
    let forgives = settings.repeated_delete_ok;
    let migration = Migration::new(settings, rows, args).await;
    let fails = |row: &Row| matches!(row.end, End::Refused(_) | End::Disowned(_));
    let code = i32::from(migration.rows.iter().any(fails));
    let ended = migration.run().await;
    assert_eq!(ended.code, Some(code), "{what}: {}", ended.stderr);
    let figures = migration.check();
    assert_eq!(figures.requests, figures.ledger.total, "{what}");
    assert_eq!(figures.orphaned, 0, "{what}");
    let hidden = if forgives { BTreeSet::new() } else { deleted_unseen(&figures.ledger) };
    assert_eq!(figures.found_done, hidden, "{what}");
    figures
}

fn by_chance(chances: &[&str], seed: u64) -> SandboxSettings {
    let chances = chances.iter().map(|chance| chance.parse().unwrap()).collect();
    SandboxSettings { chances, seed, ..unlimited() }
}

fn by_script(script: &str) -> SandboxSettings {
    SandboxSettings { script: Some(script.parse().unwrap()), ..unlimited() }
}

/// Each push-back for frequency costs a second, the next consecutive ones two and four. Depending on
/// the seed the same 90 rows take from 4 to 50 s. Each of these seeds has every fault in the first 50
/// requests and at most two such push-backs in a row. The short form has the first one.
const SEEDS: [u64; 6] = [2, 25, 27, 47, 56, 62];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_transient_faults_fail_no_job() {
    let chances = ["throttle=0.2", "bad-gateway=0.05", "cut-after=0.05"];
    let stories = SEEDS[..cases(1, SEEDS.len())].iter().map(|&seed| async move {
        let args = ["--rate", "50", "--chunk", "3"];
        check(&format!("seed {seed}"), by_chance(&chances, seed), rows(90, ALL), &args).await
    });
    for figures in join_all(stories).await {
        assert!(figures.throttled >= 3, "{}", figures.throttled);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_late_or_lost_responses_fail_no_job() {
    let stories = ["truncated", "garbage", "internal", "cut-before", "late", "cut-after"].map(
        |fault| async move {
            // The fault hits the very first requests and some later ones.
            let settings = by_script(&format!("{fault}*3,ok,{fault}*2"));
            let args = ["--rate", "50", "--chunk", "3", "--timeout", "1s"];
            check(fault, settings, rows(36, ALL), &args).await
        },
    );
    for figures in join_all(stories).await {
        assert_eq!(figures.ledger.faults.values().sum::<u64>(), 5);
        assert!(!figures.lost.is_empty());
    }
}

/// If the response to a delete was lost, the service rejects every id when the chunk is repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_with_lost_responses_succeed_in_doubt() {
    let args = ["--rate", "50", "--chunk", "10"];
    let lost = by_script("ok,cut-after,garbage,ok");
    let migration = Migration::new(lost, rows(40, &["delete"]), &args).await;
    let run = migration.run().await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let figures = migration.check();
    assert_eq!((figures.found_done.len(), figures.lost.len()), (20, 20));
    assert_eq!(figures.found_done, deleted_unseen(&figures.ledger));
    let status = data(&migration.place.deskbatch(&["status"]).output().unwrap());
    assert!(status.contains("confirmed  20 deletions had been applied already"), "{status}");
    let only = migration.place.deskbatch(&["report", "--state", "response-lost"]).output().unwrap();
    assert_eq!(data(&only).matches("delete,succeeded,-50003,").count(), 20);

    let forgiving = SandboxSettings { repeated_delete_ok: true, ..by_script("ok,cut-after,ok") };
    let figures = check("forgiven deletes", forgiving, rows(40, &["delete"]), &args).await;
    assert_eq!((figures.found_done.len(), figures.lost.len()), (0, 10));
    assert_eq!(figures.ledger.total, 5);
}

/// Sends ten times as fast as the service allows, so that each limit rejects requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rate_window_model_lets_all_jobs_succeed() {
    let of = |window, count_throttled, rate_code| SandboxSettings {
        window,
        count_throttled,
        rate_code,
        ..SandboxSettings::default()
    };
    let stories = [
        ("sliding", of(Window::Sliding, false, RateCode::Api)),
        ("sliding, refused ones too, 60007", of(Window::Sliding, true, RateCode::Gateway)),
        ("fixed, 60007", of(Window::Fixed, false, RateCode::Gateway)),
        ("fixed, refused ones too", of(Window::Fixed, true, RateCode::Api)),
    ]
    .map(|(what, settings)| async move {
        let args = ["--rate", "50", "--chunk", "1"];
        check(what, settings, rows(24, ALL), &args).await
    });
    for figures in join_all(stories).await {
        assert!(figures.throttled > 0 && figures.lost.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_unknown_id_policy_applies_all_good_ids() {
    let args = ["--rate", "200", "--chunk", "10"];
    let of = |unknown_ids| SandboxSettings { unknown_ids, ..unlimited() };
    let bad = End::Refused(NO_SUCH_QUESTION);
    for (what, unknown_ids, end) in [
        ("refuse", UnknownIds::Reject, bad),
        ("partial", UnknownIds::Partial, bad),
        ("ok", UnknownIds::Ok, End::PassedOver),
    ] {
        let mut rows = rows(60, REPEATABLE);
        lose(&mut rows, &[3, 4, 5, 59], end);
        preset(&mut rows, 30);
        check(what, of(unknown_ids), rows, &args).await;
    }
}

/// The client cannot detect this: the response says that nothing was deleted, and the repetition says
/// that the question does not exist. The delete is done all the same, and the report errs on the safe
/// side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partially_applied_deletes_may_be_reported_failed() {
    let mut rows = rows(30, &["delete"]);
    for row in &mut rows {
        row.end = End::Disowned(NO_SUCH_QUESTION);
    }
    lose(&mut rows, &[14], End::Refused(NO_SUCH_QUESTION));
    let settings = SandboxSettings { unknown_ids: UnknownIds::Partial, ..unlimited() };
    check("partial deletes", settings, rows, &["--rate", "200", "--chunk", "10"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn response_format_variants_change_no_outcome() {
    let settings = SandboxSettings {
        json_code: JsonCode::Gateway,
        presets_protected: false,
        extra_fields: true,
        content_type: false,
        ..unlimited()
    };
    let mut rows = rows(30, ALL);
    preset(&mut rows, 8);
    rows[8].end = End::Applied;
    let figures = check("other fields", settings, rows, &["--rate", "200", "--chunk", "5"]).await;
    assert_eq!(figures.ledger.total, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_chunks_are_split() {
    for too_many_code in [70_206, -7] {
        let settings = SandboxSettings { max_ids: 30, too_many_code, ..unlimited() };
        let args = ["--rate", "200", "--chunk", "100"];
        let what = format!("at most 30, else {too_many_code}");
        let figures = check(&what, settings, rows(600, ALL), &args).await;
        // At worst each chunk of 100 is halved to 50 and then to 25. The service takes at most 30 at a
        // time.
        let requests = figures.ledger.total;
        assert!((600 / 30..=6 * (1 + 2 + 4)).contains(&requests), "{requests}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn next_run_resumes_after_outage() {
    // One request at a time: three failures in a row are an outage, and three faults remain for the
    // next run.
    let args = ["--rate", "50", "--chunk", "3", "--max-in-flight", "1"];
    let migration = Migration::new(by_script("bad-gateway*6"), rows(36, ALL), &args).await;
    let mut short = migration.command();
    short.args(["--outage-timeout", "1s"]);
    let stopped = ended(short).await;
    assert_eq!(stopped.code, Some(3), "{}", stopped.stderr);
    let status = migration.place.status();
    assert_eq!((&status["pending"], &status["total"]), (&36.into(), &36.into()), "{status}");
    assert_eq!(migration.sandbox.ledger().total, 3);
    migration.finish().await;
    // During an outage every second probe is one question from elsewhere in the queue.
    let total = migration.check().ledger.total;
    assert!((6 + 12..=6 + 12 + 3).contains(&total), "{total}");
}

/// A wall clock that is two days ahead for a limited number of readings.
#[derive(Debug, Clone)]
struct AheadAtFirst(SystemClock, Arc<AtomicU64>);

const TWO_DAYS_S: i64 = 2 * 86_400;

impl Clock for AheadAtFirst {
    fn now(&self) -> Moment {
        self.0.now()
    }

    fn wall_ms(&self) -> i64 {
        let left = self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        self.0.wall_ms() + if left.is_ok() { TWO_DAYS_S * 1_000 } else { 0 }
    }

    async fn sleep_until(&self, until: Moment) {
        self.0.sleep_until(until).await;
    }
}

/// A migration whose service rejects the first `readings` UserSigs as expired.
async fn expired_at_first(readings: u64) -> Migration {
    let clock = AheadAtFirst(SystemClock::new(), Arc::new(AtomicU64::new(readings)));
    let sandbox = Sandbox::start_on(unlimited(), clock).await.unwrap();
    Migration::toward(sandbox, rows(36, ALL), &["--rate", "50", "--chunk", "3"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_usersig_is_renewed_once() {
    let migration = expired_at_first(1).await;
    let ended = migration.run().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let ledger = migration.check().ledger;
    assert_eq!((ledger.total, ledger.codes[&70_001]), (1 + 12, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_renewed_usersig_ends_run_with_exit_4() {
    let migration = expired_at_first(2).await;
    let stopped = migration.run().await;
    assert_eq!(stopped.code, Some(4), "{}", stopped.stderr);
    assert_eq!(migration.place.status()["pending"], 36);
    assert_eq!(migration.sandbox.ledger().total, 2);
    migration.finish().await;
    assert_eq!(migration.check().ledger.total, 2 + 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_given_usersig_costs_one_request() {
    let args = ["--rate", "50", "--chunk", "3"];
    let migration = Migration::new(unlimited(), rows(36, ALL), &args).await;
    let (key, now_s) = (SANDBOX_KEY.into(), SystemClock::new().wall_ms() / 1_000);
    let (who, app) = (SANDBOX_IDENTIFIER, SANDBOX_SDKAPPID);
    let expired = make_usersig(who, app, &key, now_s - TWO_DAYS_S, 86_400);
    let mut command = migration.command();
    command.env_remove("DESKBATCH_SECRET_KEY").env("DESKBATCH_USERSIG", expired.expose_secret());
    let stopped = ended(command).await;
    assert_eq!(stopped.code, Some(4), "{}", stopped.stderr);
    assert!(!stopped.stderr.contains(expired.expose_secret()), "{}", stopped.stderr);
    let status = migration.place.status();
    assert_eq!((&status["pending"], &status["requests"]), (&36.into(), &1.into()), "{status}");
    assert_eq!(migration.sandbox.ledger().codes, [(70_001, 1)].into());
    migration.finish().await;
    assert_eq!(migration.check().ledger.total, 1 + 12);
}
