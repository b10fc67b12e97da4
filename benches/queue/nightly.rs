//! Thirty nights of one queue file: each imports a manifest, drains it to the sandbox, and prunes
//! batches older than a week. Compares the final file size with the minimum.

use std::fs;
use std::path::Path;

use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};

use crate::manifest;
use crate::measure::{Ground, on_runtime, seconds, thousands};
use crate::shapes::{connect, sql};
use crate::support::{deskbatch, median, real, say};
use crate::toward::SandboxProcess;

const NIGHTS: usize = 30;
const DAY_MS: i64 = 86_400_000;

/// Columns that end in `_ms` and are durations.
const LENGTHS: [&str; 3] = ["latency_ms", "latency_le_ms", "spread_ms"];

pub fn run(ground: &Ground) {
    let rows = ground.night_rows;
    say(&format!(
        "\n## nightly: {NIGHTS} nights of {} rows, `prune --older-than 7d`\n",
        thousands(rows)
    ));
    let room = ground.room();
    let queue = room.path().join("deskbatch.db");
    let (mut runs, mut prunes, mut largest) = (Vec::new(), Vec::new(), 0);
    for night in 0..NIGHTS {
        let sandbox = SandboxProcess::start(room.path());
        manifest::write(&room.path().join("night.csv"), night * rows..(night + 1) * rows, None);
        let args = ["run", "night.csv", "--yes", "--quiet", "--rate", "1000000"];
        let mut command = deskbatch(room.path(), &args);
        runs.push(ground.child(command.env("DESKBATCH_ENDPOINT", &sandbox.endpoint)).seconds);
        let args = ["prune", "--older-than", "7d", "--quiet"];
        prunes.push(ground.child(&mut deskbatch(room.path(), &args)).seconds);
        largest = largest.max(size(&queue));
        on_runtime(grow_older(&queue));
    }
    let needed = room.path().join("needed.db");
    let jobs = on_runtime(vacuum_into(&queue, &needed));
    let (file, needed) = (size(&queue), size(&needed));
    say(
        "| jobs kept | file | file after VACUUM INTO | ratio | largest | run, median | prune, median |",
    );
    say("| --- | --- | --- | --- | --- | --- | --- |");
    say(&format!(
        "| {} | {} MiB | {} MiB | {:.2} | {} MiB | {} | {} |",
        thousands(jobs),
        mib(file),
        mib(needed),
        real(file) / real(needed),
        mib(largest),
        seconds(median(&runs)),
        seconds(median(&prunes))
    ));
}

fn size(path: &Path) -> usize {
    fs::metadata(path).map_or(0, |file| usize::try_from(file.len()).unwrap_or(usize::MAX))
}

fn mib(bytes: usize) -> String {
    format!("{:.1}", real(bytes) / 1_048_576.0)
}

/// Moves every time in the file back by a day, which simulates the next day.
async fn grow_older(queue: &Path) {
    let mut connection = connect(queue).await;
    let moments = sqlx::query(
        "SELECT tables.name, columns.name FROM pragma_table_list AS tables, pragma_table_info(tables.name) AS columns
         WHERE tables.type = 'table' AND columns.name LIKE '%\\_ms' ESCAPE '\\'",
    )
    .fetch_all(&mut connection)
    .await
    .expect("columns");
    let moments = moments.iter().map(|row| (row.get(0), row.get(1)));
    let moments: Vec<(String, String)> =
        moments.filter(|(_, column): &(String, String)| !LENGTHS.contains(&&**column)).collect();
    assert!(moments.contains(&("jobs".to_owned(), "finished_ms".to_owned())), "{moments:?}");
    for (table, column) in moments {
        let older =
            format!("UPDATE {table} SET {column} = {column} - {DAY_MS} WHERE {column} > {DAY_MS}");
        sql(&mut connection, older).await;
    }
    connection.close().await.expect("closed");
}

/// Copies the rows without free pages, and returns the number of jobs.
async fn vacuum_into(queue: &Path, to: &Path) -> usize {
    let mut connection = connect(queue).await;
    sql(&mut connection, format!("VACUUM INTO '{}'", to.display())).await;
    let jobs = count(&mut connection, "SELECT count(*) FROM jobs").await;
    connection.close().await.expect("closed");
    jobs
}

async fn count(connection: &mut SqliteConnection, sql: &str) -> usize {
    let row = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await;
    let n: i64 = row.expect("a row").get(0);
    usize::try_from(n).unwrap_or_default()
}
