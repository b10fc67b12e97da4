//! Reads a manifest into an import: a thread of its own parses, the import writes beside it, and a
//! display shows the progress.

use std::panic::resume_unwind;
use std::path::Path;
use std::pin::pin;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::bad_rows::BadRows;
use super::context::ImportContext;
use crate::commands::error::CommandError;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::job::{NewJob, QuestionId};
use crate::manifest::{IdSet, Manifest, ManifestOptions, ReadProgress, Row, Totals};
use crate::output::{ImportDisplay, ImportProgress};
use crate::queue::{Import, Preview, QueueError, RowBatch, SameManifest};
use crate::util::escape::visible;

/// How many groups of rows the reader may be ahead of the import.
const GROUPS_AHEAD_MAX: usize = 4;

/// Opens the manifest at `file`. On a thread of its own, since a pipe may block before its first line.
pub(super) async fn open(
    file: &Path,
    options: ManifestOptions,
    ctx: &ImportContext,
) -> Result<Manifest, CommandError> {
    let (sender, receiver) = oneshot::channel();
    let file = file.to_owned();
    thread::spawn(move || drop(sender.send(Manifest::open(&file, &options))));
    tokio::select! {
        biased;
        opened = receiver => Ok(opened.map_err(|_| QueueError::Stopped)??),
        () = ctx.stopped() => Err(QueueError::Stopped.into()),
    }
}

/// What the reader sends to the import.
enum ReaderMessage {
    Rows(RowBatch),
    Replace(NewJob),
    Remove(QuestionId),
}

/// Reads `manifest` into `import`.
pub(super) async fn read_into(
    import: &mut Import,
    manifest: Manifest,
    bad: BadRows,
    file: &Path,
    ctx: &ImportContext,
) -> Result<(Totals, BadRows), CommandError> {
    let (clock, so_far) = (SystemClock::new(), manifest.progress());
    let mut display = ImportDisplay::new(&ctx.out, short_name(file), clock.now());
    let (sender, mut messages) = mpsc::channel(GROUPS_AHEAD_MAX);
    let reader = thread::spawn(move || read(manifest, bad, &sender));
    let mut rows = 0;
    let mut stopped = pin!(ctx.stopped());
    loop {
        tokio::select! {
            biased;
            // The reader thread may be blocked in a read; it ends with the process.
            () = &mut stopped => return Err(QueueError::Stopped.into()),
            message = messages.recv() => match message {
                Some(ReaderMessage::Rows(group)) => {
                    rows += group.rows() as u64;
                    import.add_rows(group).await?;
                }
                Some(ReaderMessage::Replace(job)) => import.replace_row(job).await?,
                Some(ReaderMessage::Remove(question)) => import.remove_row(&question).await?,
                None => break,
            },
            () = clock.sleep_until(display.next()) => {}
        }
        display.show(rows_read(&so_far, rows), clock.now());
    }
    let (totals, questions, bad) = reader.join().unwrap_or_else(|panic| resume_unwind(panic))?;
    import.set_membership_test(move |id| questions.contains(id));
    Ok((totals, bad))
}

fn rows_read(so_far: &ReadProgress, rows: u64) -> ImportProgress {
    ImportProgress::Reading { rows, bytes: so_far.bytes(), total: so_far.total() }
}

/// The short name of a file.
fn short_name(file: &Path) -> String {
    if file == Path::new("-") {
        return "stdin".to_owned();
    }
    visible(&file.file_name().unwrap_or_default().to_string_lossy()).into_owned()
}

/// The reader thread: parses, validates and finds duplicates and conflicts.
fn read(
    mut manifest: Manifest,
    mut bad: BadRows,
    messages: &mpsc::Sender<ReaderMessage>,
) -> Result<(Totals, IdSet, BadRows), CommandError> {
    // The receiver is closed only when the import has failed, which has its own error.
    let closed = |_| CommandError::from(QueueError::Stopped);
    let mut group = RowBatch::default();
    while let Some(row) = manifest.next_row()? {
        match row {
            Row::New(job) => group.push(job),
            Row::Replace(job) => {
                messages.blocking_send(ReaderMessage::Replace(job)).map_err(closed)?;
            }
            Row::Bad(row) => bad.take(manifest.header(), &row)?,
            Row::Conflict(row, question) => {
                bad.take(manifest.header(), &row)?;
                messages.blocking_send(ReaderMessage::Remove(question)).map_err(closed)?;
            }
        }
        if group.is_full() {
            messages
                .blocking_send(ReaderMessage::Rows(std::mem::take(&mut group)))
                .map_err(closed)?;
        }
    }
    messages.blocking_send(ReaderMessage::Rows(group)).map_err(closed)?;
    if manifest.has_conflicts() && bad.are_left_out() {
        // Conflicts are known only after the last row, and the first rows of these questions were
        // taken as valid: a second pass lists every row of them as invalid.
        manifest = manifest.set_aside()?;
        bad.clear();
        while let Some(row) = manifest.next_row()? {
            if let Row::Bad(row) = row {
                bad.take(manifest.header(), &row)?;
            }
        }
    }
    let (totals, questions) = manifest.finish_with_questions();
    Ok((totals, questions, bad))
}

/// Applies the import inside its transaction, not yet committed.
pub(super) async fn preview(
    import: &mut Import,
    read: &Totals,
    same: SameManifest,
    file: &Path,
    ctx: &ImportContext,
) -> Result<Preview, CommandError> {
    let clock = SystemClock::new();
    let mut display = ImportDisplay::new(&ctx.out, short_name(file), clock.now());
    let mut preview = pin!(import.preview(&read.digest, same));
    loop {
        tokio::select! {
            biased;
            preview = &mut preview => return Ok(preview?),
            () = clock.sleep_until(display.next()) => {}
        }
        display.show(ImportProgress::Writing { rows: read.good }, clock.now());
    }
}
