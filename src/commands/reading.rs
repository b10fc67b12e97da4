//! A manifest on its way into an import: read beside what writes it, shown while that lasts,
//! and ended by a signal at any time with nothing left behind.

use std::panic::resume_unwind;
use std::path::Path;
use std::pin::pin;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::CommandError;
use super::bad_rows::BadRows;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::job::{NewJob, QuestionId};
use crate::manifest::{IdSet, Manifest, ManifestOptions, ReadProgress, Row, Totals};
use crate::output::{Output, Reading, ReadingBoard};
use crate::runner::{Shutdown, ShutdownMode};
use crate::store::{Import, Preview, RowGroup, SameManifest, StopImport, StoreError};
use crate::text::visible;

/// How far the reader may be ahead, in groups of rows.
const AHEAD: usize = 4;

/// An import that was told to end does so by itself within this, unless it waits for another
/// process that writes.
const ENDS_BY_ITSELF: Duration = Duration::from_secs(5);

/// What a command that may import stands on.
#[derive(Clone)]
pub(super) struct Importing {
    pub(super) out: Output,
    shutdown: Shutdown,
    stop: StopImport,
}

impl Importing {
    /// Ends what it stands under when `shutdown` says so.
    pub(super) fn begin(out: &Output, shutdown: Shutdown) -> Self {
        let importing = Self { out: out.clone(), shutdown, stop: StopImport::default() };
        let (mut shutdown, stop) = (importing.shutdown.clone(), importing.stop.clone());
        tokio::spawn(async move {
            shutdown.requested(ShutdownMode::Graceful).await;
            stop.ask();
        });
        importing
    }

    /// What ends the engine in the middle of something.
    pub(super) fn stop(&self) -> &StopImport {
        &self.stop
    }

    async fn stopped(&self) {
        self.shutdown.clone().requested(ShutdownMode::Graceful).await;
    }

    /// Returns when it was told to end and did not.
    pub(super) async fn stuck(&self) {
        let clock = SystemClock::new();
        let mut at_once = self.shutdown.clone();
        tokio::select! {
            () = at_once.requested(ShutdownMode::Immediate) => {}
            () = async {
                self.stopped().await;
                clock.sleep_until(clock.now() + ENDS_BY_ITSELF).await;
            } => {}
        }
    }

    /// Asks a question that only an explicit yes answers with yes.
    pub(super) async fn ask(&self, question: String) -> Result<bool, CommandError> {
        let (tell, told) = oneshot::channel();
        let out = self.out.clone();
        // It may wait for an answer for ever; the end of the process ends that.
        thread::spawn(move || tell.send(out.ask(&question)));
        tokio::select! {
            biased;
            answer = told => Ok(answer.unwrap_or(false)),
            () = self.stopped() => Err(StoreError::Stopped.into()),
        }
    }
}

/// Opens the manifest at `file`, whose first line may be long in coming.
pub(super) async fn open(
    file: &Path,
    options: ManifestOptions,
    ground: &Importing,
) -> Result<Manifest, CommandError> {
    let (tell, told) = oneshot::channel();
    let file = file.to_owned();
    thread::spawn(move || drop(tell.send(Manifest::open(&file, &options))));
    tokio::select! {
        biased;
        opened = told => Ok(opened.map_err(|_| StoreError::Stopped)??),
        () = ground.stopped() => Err(StoreError::Stopped.into()),
    }
}

/// What the reader hands over.
enum Piece {
    Rows(RowGroup),
    Replace(NewJob),
    TakeOut(QuestionId),
}

/// Reads `manifest` into `import`.
pub(super) async fn read_into(
    import: &mut Import,
    manifest: Manifest,
    bad: BadRows,
    file: &Path,
    ground: &Importing,
) -> Result<(Totals, BadRows), CommandError> {
    let (clock, so_far) = (SystemClock::new(), manifest.progress());
    let mut board = ReadingBoard::new(&ground.out, name(file), clock.now());
    let (sender, mut pieces) = mpsc::channel(AHEAD);
    let reader = thread::spawn(move || read(manifest, bad, &sender));
    let mut rows = 0;
    let mut stopped = pin!(ground.stopped());
    loop {
        tokio::select! {
            biased;
            // Its reader may wait for input that never comes; it is left where it is.
            () = &mut stopped => return Err(StoreError::Stopped.into()),
            piece = pieces.recv() => match piece {
                Some(Piece::Rows(group)) => {
                    rows += group.rows() as u64;
                    import.add_group(group).await?;
                }
                Some(Piece::Replace(job)) => import.replace(job).await?,
                Some(Piece::TakeOut(question)) => import.take_out(&question).await?,
                None => break,
            },
            () = clock.sleep_until(board.next()) => {}
        }
        board.show(reading(&so_far, rows), clock.now());
    }
    let (totals, questions, bad) = reader.join().unwrap_or_else(|panic| resume_unwind(panic))?;
    import.name_questions(move |id| questions.contains(id));
    Ok((totals, bad))
}

fn reading(so_far: &ReadProgress, rows: u64) -> Reading {
    Reading::Rows { rows, bytes: so_far.bytes(), total: so_far.total() }
}

/// What a file is called where there is little room.
fn name(file: &Path) -> String {
    if file == Path::new("-") {
        return "stdin".to_owned();
    }
    visible(&file.file_name().unwrap_or_default().to_string_lossy()).into_owned()
}

/// The reader's own thread: parses, checks and finds what repeats.
fn read(
    mut manifest: Manifest,
    mut bad: BadRows,
    pieces: &mpsc::Sender<Piece>,
) -> Result<(Totals, IdSet, BadRows), CommandError> {
    // Nobody takes them any more where the import has ended: it says why.
    let gone = |_| CommandError::from(StoreError::Stopped);
    let mut group = RowGroup::default();
    while let Some(row) = manifest.next_row()? {
        match row {
            Row::New(job) => group.push(job),
            Row::Replace(job) => pieces.blocking_send(Piece::Replace(job)).map_err(gone)?,
            Row::Bad(row) => bad.take(manifest.header(), &row)?,
            Row::Conflict(row, question) => {
                bad.take(manifest.header(), &row)?;
                pieces.blocking_send(Piece::TakeOut(question)).map_err(gone)?;
            }
        }
        if group.is_full() {
            pieces.blocking_send(Piece::Rows(std::mem::take(&mut group))).map_err(gone)?;
        }
    }
    pieces.blocking_send(Piece::Rows(group)).map_err(gone)?;
    if manifest.has_conflicts() && bad.are_left_out() {
        // Only now is it known which questions are in conflict, and their first rows have passed.
        manifest = manifest.set_aside()?;
        bad.begin_again();
        while let Some(row) = manifest.next_row()? {
            if let Row::Bad(row) = row {
                bad.take(manifest.header(), &row)?;
            }
        }
    }
    let (totals, questions) = manifest.finish_with_questions();
    Ok((totals, questions, bad))
}

/// Has the import decide and write, not yet durable.
pub(super) async fn preview(
    import: &mut Import,
    read: &Totals,
    same: SameManifest,
    file: &Path,
    ground: &Importing,
) -> Result<Preview, CommandError> {
    let clock = SystemClock::new();
    let mut board = ReadingBoard::new(&ground.out, name(file), clock.now());
    let mut preview = pin!(import.preview(&read.digest, same));
    loop {
        tokio::select! {
            biased;
            preview = &mut preview => return Ok(preview?),
            () = clock.sleep_until(board.next()) => {}
        }
        board.show(Reading::Writing { rows: read.good }, clock.now());
    }
}
