//! Kills at random moments, repeatedly, while requests are in flight.

use std::time::Duration;

use deskbatch::domain::clock::{Clock as _, SystemClock};
use deskbatch::sandbox::{Sandbox, SandboxSettings};
use futures_util::future::join_all;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::support::migration::{ALL, IN_FLIGHT, Migration, rows, unlimited};
use crate::support::place::{Place, report_line};
use crate::support::scale::{cases, number};

const ROWS: usize = 240;
const CHUNK: usize = 4;
/// The number of requests without a kill: each request carries a full chunk.
const LEAST: u64 = (ROWS / CHUNK) as u64;
/// Rejections in a row before the app is read: the default of the setting.
const SUSPECTS_MAX: u64 = 8;
/// Concurrent migrations. Each gets twenty kills or more in both forms.
fn side_by_side() -> u64 {
    cases(2, 10)
}

/// Rows of all three target statuses. The responses are slow, so that several requests are in flight at
/// once.
async fn migration() -> Migration {
    let latency = Duration::from_millis(80);
    let settings = SandboxSettings { latency, latency_jitter: latency, ..unlimited() };
    let sandbox = Sandbox::start(settings).await.unwrap();
    Migration::at(Place::in_memory(), sandbox, rows(ROWS, ALL), &["--rate", "50", "--chunk", "4"])
}

#[derive(Debug, Default)]
struct Soaked {
    migrations: u64,
    kills: u64,
    took: Duration,
    orphaned: u64,
    beyond: u64,
}

impl Soaked {
    fn and(self, other: &Self) -> Self {
        Self {
            migrations: self.migrations + other.migrations,
            kills: self.kills + other.kills,
            took: self.took + other.took,
            orphaned: self.orphaned + other.orphaned,
            beyond: self.beyond + other.beyond,
        }
    }
}

/// The number of deletes in orphaned requests, repetitions included.
async fn deletes_lost(migration: &Migration) -> u64 {
    let options = SqliteConnectOptions::new().filename(migration.place.path("deskbatch.db"));
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let sql = "SELECT coalesce(sum(job_count), 0) FROM requests WHERE target_status = 6 AND verdict = 'orphaned'";
    let lost: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
    pool.close().await;
    u64::try_from(lost).unwrap()
}

/// One migration, killed every 50 to 500 ms until it is done or was killed `kills_max` times. Every
/// other kill counts from the run's first request, because a run that follows another one closely sends
/// nothing in its first second.
async fn soaked(random: &mut fastrand::Rng, kills_max: u64) -> Soaked {
    let (migration, clock) = (migration().await, SystemClock::new());
    let (began, mut kills) = (clock.now(), 0);
    let mut is_done = false;
    while !is_done && kills < kills_max {
        let wait = Duration::from_millis(random.u64(50..=500));
        let first = migration.sandbox.ledger().total + random.u64(0..=1);
        is_done = !migration
            .killed_at(async {
                migration.sandbox.seen(first).await;
                clock.sleep_until(clock.now() + wait).await;
            })
            .await;
        kills += u64::from(!is_done);
    }
    migration.finish().await;
    let took = clock.now().since(began);
    let figures = migration.check();
    let beyond = figures.ledger.total - LEAST;
    // An orphaned request is sent again, and up to two more requests find a delete that it had applied. Each
    // kill may interrupt an isolation, which then starts over, and lose rejections of deletes in doubt that
    // wait for a sign that the app is alive.
    let most = figures.orphaned + 2 * deletes_lost(&migration).await + kills * (1 + SUSPECTS_MAX);
    assert!(beyond <= most, "{beyond}, not {most}");
    assert!(figures.orphaned <= kills * IN_FLIGHT, "{kills}: {}", figures.orphaned);
    assert!(figures.found_done.is_subset(&figures.lost));
    Soaked { migrations: 1, kills, took, orphaned: figures.orphaned, beyond }
}

async fn soak(kills_wanted: u64) {
    let seed =
        std::env::var("SOAK_SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    report_line(&format!("SOAK_SEED={seed}"));
    let (clock, undisturbed) = (SystemClock::new(), migration().await);
    let began = clock.now();
    assert_eq!(undisturbed.run().await.code, Some(0));
    let baseline = clock.now().since(began);
    assert_eq!(undisturbed.check().ledger.total, LEAST);

    let series = (0..side_by_side()).map(|nth| async move {
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(nth));
        let mut sum = Soaked::default();
        let kills_each = kills_wanted.div_ceil(side_by_side());
        while sum.kills < kills_each {
            let left = kills_each - sum.kills;
            sum = sum.and(&soaked(&mut random, left).await);
        }
        sum
    });
    let series = join_all(series.map(tokio::spawn)).await;
    let sum = series.into_iter().fold(Soaked::default(), |sum, one| sum.and(&one.unwrap()));
    assert!(sum.kills >= kills_wanted && sum.orphaned > 0, "{sum:?}");
    let Soaked { migrations, kills, took, orphaned, beyond } = sum;
    let each = took / u32::try_from(migrations).unwrap();
    let over = each.as_secs_f64() / baseline.as_secs_f64();
    report_line(&format!(
        "{kills} kills in {migrations} migrations of {LEAST} requests: {over:.1} times as long as without, \
         {orphaned} requests were in flight at a kill, {beyond} were sent beyond the least"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 12)]
async fn kills_at_random_moments_reach_same_outcomes() {
    soak(number("SOAK_KILLS", cases(40, 2_000))).await;
}
