//! The look for damage: a sound file has none, and what is broken is named.

use std::fs;
use std::os::unix::fs::FileExt as _;

use deskbatch::job::Status;
use deskbatch::store::Store;

use crate::support_core::{APP, Queue};

#[tokio::test]
async fn a_sound_queue_has_nothing_wrong() {
    let queue = Queue::begun().await;
    queue.import_many(300, Status::Enable).await;
    queue.succeed(&queue.claim(100).await).await;
    assert_eq!(queue.store.check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_row_that_refers_to_nothing_is_named() {
    let queue = Queue::begun().await;
    queue.sql("PRAGMA foreign_keys = OFF; DELETE FROM batches WHERE id = 2").await;
    let wrong = queue.store.check().await.unwrap();
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    let first = "jobs row 5 refers to a row of batches that is not there";
    assert!(wrong[0].starts_with("jobs row ") && wrong.contains(&first.to_owned()), "{wrong:?}");
}

#[tokio::test]
async fn a_page_that_was_overwritten_is_found() {
    let queue = Queue::idle().await;
    queue.import_many(2_000, Status::Enable).await;
    let (path, copy) = (queue.store.path().to_owned(), queue.path("copy.db"));
    queue.store.clone().close().await;
    queue.sql("PRAGMA wal_checkpoint(TRUNCATE)").await;
    fs::copy(&path, &copy).unwrap();
    // The root of the jobs' table still says where its rows are; one of these pages does not.
    let page = queue.figure("SELECT max(pageno) FROM dbstat WHERE name = 'jobs'").await;
    let size = queue.figure("PRAGMA page_size").await;
    let at = u64::try_from((page - 1) * size).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&copy).unwrap();
    file.write_all_at(&[0xa5; 4_096], at).unwrap();

    let store = Store::open(&copy).await.unwrap();
    let wrong = store.check().await.unwrap();
    assert!(wrong.iter().any(|line| line.contains(&format!("page {page}"))), "{wrong:?}");
    // What can still be read is: the app's own rows are elsewhere.
    store.pace(APP).await.unwrap();
}
