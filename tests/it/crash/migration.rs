//! A killed run that is repeated reaches the same final state. Each test starts the real program.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use deskbatch::sandbox::SandboxSettings;
use futures_util::future::join_all;

use crate::support::migration::{
    ALL, End, Figures, IN_FLIGHT, Migration, NO_SUCH_QUESTION, REPEATABLE, Row, ended, lose,
    preset, rows, unlimited,
};
use crate::support::place::{Place, manifest, question};
use crate::support::scale::cases;

/// This test is slow because it keeps the limit of the service: in the long form about 60 requests to
/// isolate the bad ids and to settle the rest take 12 s at 5 per second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_rows_with_bad_ids_settle_within_limit() {
    let mut rows = rows(1_000, ALL);
    let bad = cases(&[302][..], &[0, 120, 121, 302, 700, 999]);
    lose(&mut rows, bad, End::Refused(NO_SUCH_QUESTION));
    preset(&mut rows, 500);
    let migration = Migration::new(SandboxSettings::default(), rows, &[]).await;
    let ended = migration.run().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let figures = migration.check();
    assert!(figures.ledger.largest_second <= 5, "{}", figures.ledger.largest_second);
    assert_eq!((figures.throttled, figures.orphaned), (0, 0));
    assert_eq!(figures.requests, figures.ledger.total);
    assert!(figures.lost.is_empty(), "{:?}", figures.lost);
    let set_once = |row: &Row| migration.sandbox.question(&row.id).is_none_or(|q| q.changes == 1);
    assert!(migration.rows.iter().all(set_once), "nothing was sent twice");
}

/// A migration of 400 repeatable changes in chunks of 10: 40 requests undisturbed.
async fn plain(latency_ms: u64) -> Migration {
    let latency = Duration::from_millis(latency_ms);
    let settings = SandboxSettings { latency, ..unlimited() };
    Migration::new(settings, rows(400, REPEATABLE), &["--rate", "200", "--chunk", "10"]).await
}

const PLAIN_REQUESTS: u64 = 40;

/// A kill costs only the requests whose responses are lost. The next run builds its chunks from the
/// oldest jobs, so it sends the same jobs again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_kill_costs_at_most_requests_in_flight() {
    let moments = [1, 2, 5, 9, 14, 20, 33, 39, 40].map(|after| async move {
        let migration = plain(if after % 2 == 0 { 0 } else { 1_500 }).await;
        let killed = migration.killed_after(after).await;
        migration.finish().await;
        let figures = migration.check();
        let beyond = figures.ledger.total - PLAIN_REQUESTS;
        assert!(beyond <= figures.orphaned, "after {after}: {beyond}");
        assert!(figures.orphaned <= IN_FLIGHT, "after {after}: {}", figures.orphaned);
        // With slow responses the awaited request is certainly in flight.
        assert!(killed || after >= 39, "after {after}");
        assert!(!killed || after % 2 == 0 || figures.orphaned > 0, "after {after}");
    });
    join_all(moments).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_kills_in_flight_reach_same_outcomes() {
    let migration = plain(300).await;
    let mut kills = 0;
    let moments = [1, 2, 5, 9, 1, 2, 5, 3];
    let moments = &moments[..cases(4, 8)];
    for more in moments {
        kills += u64::from(migration.killed_after(*more).await);
    }
    migration.finish().await;
    let figures = migration.check();
    let beyond = figures.ledger.total - PLAIN_REQUESTS;
    assert!(kills + 1 >= moments.len() as u64, "{kills}");
    assert!(beyond <= figures.orphaned && figures.orphaned <= kills * IN_FLIGHT, "{beyond}");
    assert!(figures.orphaned >= kills, "{}", figures.orphaned);
}

/// 300 rows of all three statuses with 7 bad ids, in chunks of 10.
async fn mixed(latency_ms: u64) -> Migration {
    let mut rows = rows(300, ALL);
    // No missing id is deleted here: in doubt, it is indistinguishable from a delete whose response was
    // lost.
    lose(&mut rows, &[0, 1, 90, 93, 154, 298], End::Refused(NO_SUCH_QUESTION));
    preset(&mut rows, 152);
    let settings = SandboxSettings { latency: Duration::from_millis(latency_ms), ..unlimited() };
    Migration::new(settings, rows, &["--rate", "200", "--chunk", "10"]).await
}

/// The limit of requests for [`mixed`]. A request settles at least one job, is orphaned, or is a
/// rejection of several jobs. Isolation among 10 jobs meets at most four such rejections. It starts
/// over in each run, so each rejected id is isolated at most once per run. A delete that is found done
/// is rejected like a bad id.
fn requests_max(kills: u64, figures: &Figures) -> u64 {
    const JOBS: u64 = 300;
    const BAD: u64 = 7;
    const REFUSALS: u64 = 4;
    let refused = BAD + figures.found_done.len() as u64;
    JOBS + figures.orphaned + (kills + 1) * refused * REFUSALS
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_during_isolation_reach_same_outcomes() {
    // The first migration is never killed, because it ends before it reaches this number of requests.
    let series: [&[u64]; 7] =
        [&[10_000], &[1], &[9], &[35, 10], &[20, 30, 40], &[2, 5, 9, 14, 20, 27], &[45, 45]];
    let stories = series[..cases(4, 7)].iter().enumerate().map(|(nth, moments)| async move {
        let migration = mixed(if nth % 2 == 0 { 0 } else { 100 }).await;
        let mut kills = 0;
        for more in *moments {
            kills += u64::from(migration.killed_after(*more).await);
        }
        migration.finish().await;
        let figures = migration.check();
        let (took, most) = (figures.ledger.total, requests_max(kills, &figures));
        assert!(took <= most, "{moments:?}: {took}, not {most}");
        assert!(figures.orphaned <= kills * IN_FLIGHT, "{}", figures.orphaned);
        assert!(figures.found_done.is_subset(&figures.lost));
    });
    join_all(stories).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_after_kills_never_exceed_rate_limit() {
    let rows = rows(20, REPEATABLE);
    let migration = Migration::new(SandboxSettings::default(), rows, &["--chunk", "1"]).await;
    for more in [5, 1, 6] {
        assert!(migration.killed_after(more).await);
    }
    migration.finish().await;
    let ledger = migration.check().ledger;
    assert!(ledger.largest_second <= 5, "{}", ledger.largest_second);
}

/// The capacity of a pipe and of the program's own buffers. Data written before these bytes has been
/// parsed as rows.
const ON_THE_WAY_BYTES: usize = 256 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_import_leaves_nothing_and_can_be_repeated() {
    let place = Place::new();
    let (account, import) = (["--sdkappid", "1400000000"], |file| ["import", file]);
    let older = question("both");
    place.write("older.csv", manifest([(older.as_str(), "enable")]));
    let first = ended(place.deskbatch(&[&import("older.csv")[..], &account].concat())).await;
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let before = place.status();

    let new: Vec<String> = (0..20_000).map(|n| question(&format!("q{n}"))).collect();
    let rows = std::iter::once(&older).chain(&new).map(|id| (id.as_str(), "disable"));
    let text = manifest(rows);
    assert!(text.len() > 2 * ON_THE_WAY_BYTES);
    let mut command = place.deskbatch(&[&import("-")[..], &account].concat());
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // Returns once the program has read all but the content of the pipe. The pipe stays open.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    drop(stdin);
    assert_eq!(place.status(), before, "nothing is left behind, nothing superseded");

    place.write("newer.csv", text);
    let again = ended(place.deskbatch(&[&import("newer.csv")[..], &account].concat())).await;
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let after = place.status();
    assert_eq!((&after["pending"], &after["superseded"]), (&20_001.into(), &1.into()), "{after}");
}
