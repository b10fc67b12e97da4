//! `deskbatch report`: outcomes as CSV, JSON or a page.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::pin::pin;

use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use super::queue::no_batch;
use super::replace::{Kind, must_be_no_source, must_be_replaceable, sources};
use super::whole_file::{IfThere, WholeFile};
use super::{CommandError, Exit, page};
use crate::cli::{Only, ReportArgs, ReportFormat};
use crate::config::Settings;
use crate::domain::job::JobState;
use crate::output::{Output, ignore_broken_pipe};
use crate::report::{CsvWriter, JsonWriter, Writer};
use crate::store::{Record, RecordFilter, Store, StoreError};
use crate::text::path_text;

/// Runs the command.
pub(super) async fn report(
    settings: &Settings,
    args: &ReportArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let store = Store::open_existing(&settings.database).await?;
    let written = write_report(settings, args, &store, out).await;
    // Whatever came of it: the engine's files beside the queue go with its last connection.
    store.close().await;
    written.map(|()| Exit::Done)
}

async fn write_report(
    settings: &Settings,
    args: &ReportArgs,
    store: &Store,
    out: &Output,
) -> Result<(), CommandError> {
    if let Some(batch) = args.batch
        && store.batch(batch).await?.is_none()
    {
        return Err(no_batch(batch));
    }
    let sources = sources(store.path(), settings.file.as_ref().map(|file| file.path.as_path()));
    for (flag, path, kind) in
        [("-o", &args.output, Kind::Report), ("--html", &args.html, Kind::Page)]
    {
        if let Some(path) = path.as_deref().filter(|path| *path != Path::new("-")) {
            must_be_no_source(flag, path, &sources)?;
            must_be_replaceable(flag, path, kind, args.overwrite)?;
        }
    }
    if let Some(path) = &args.html {
        return page::write(settings, args.batch, store, path, out).await;
    }
    let filter = RecordFilter {
        state: args.only.and_then(state),
        in_doubt: args.only == Some(Only::InDoubt),
        response_lost: args.only == Some(Only::ResponseLost),
        // What is imported again must not undo a later import.
        latest: match args.only {
            Some(Only::Failed) => Some(true),
            Some(Only::FailedSuperseded) => Some(false),
            _ => None,
        },
        batch: args.batch,
        ..RecordFilter::default()
    };
    let to = |path: &Path| format!("{} cannot be written", path_text(path));
    let output = args.output.as_deref().filter(|path| *path != Path::new("-"));
    let what = output.map_or("stdout cannot be written".to_owned(), to);
    let written = match output {
        Some(path) => {
            // What people asked a bot is nobody else's business.
            let file = WholeFile::create(path, Some(0o600), IfThere::Replace)
                .map_err(CommandError::output(path))?;
            let to = BufWriter::new(file.file().map_err(CommandError::output(path))?);
            let written = write(store, filter, args.format, to).await?;
            written.and_then(|()| file.finish())
        }
        None => ignore_broken_pipe(write(store, filter, args.format, out.stream()).await?),
    };
    written.map_err(CommandError::io(what))?;
    if args.only == Some(Only::Failed) {
        say_what_is_left_out(settings, args, store, out).await?;
    }
    Ok(())
}

/// Failed jobs whose questions a later import covers: counted by every figure, but no row here.
async fn say_what_is_left_out(
    settings: &Settings,
    args: &ReportArgs,
    store: &Store,
    out: &Output,
) -> Result<(), CommandError> {
    let left_out = store.failed_superseded(args.batch).await?;
    if left_out > 0 {
        out.say(&format!(
            "{left_out} failed jobs are left out, since a later import covers their questions: deskbatch report{} --only \
             failed-superseded lists them",
            settings.flags()
        ));
    }
    Ok(())
}

fn state(only: Only) -> Option<JobState> {
    match only {
        Only::Pending => Some(JobState::Pending),
        Only::InFlight => Some(JobState::InFlight),
        Only::Succeeded => Some(JobState::Succeeded),
        Only::Failed | Only::FailedSuperseded => Some(JobState::Failed),
        Only::Cancelled => Some(JobState::Cancelled),
        Only::Superseded => Some(JobState::Superseded),
        Only::InDoubt | Only::ResponseLost => None,
    }
}

/// How many groups of records may wait to be written.
const GROUPS_AHEAD: usize = 2;

/// The most records in a group.
const GROUP_ROWS: usize = 1_000;

/// What the writer's thread gets.
enum Piece {
    Records(Vec<Record>),
    /// That was all. Without it a report stays without its end, and nothing takes it for whole.
    End,
}

/// The outer error is the queue's, the inner one the destination's. A reader that pauses holds up
/// a thread of its own, and neither a connection to the queue nor the thread that waits for it.
async fn write(
    store: &Store,
    filter: RecordFilter,
    format: ReportFormat,
    to: impl Write + Send + 'static,
) -> Result<io::Result<()>, CommandError> {
    write_apart(store.records(filter), move |pieces| match format {
        ReportFormat::Csv => write_all(pieces, CsvWriter::new(to)?),
        ReportFormat::Json => write_all(pieces, JsonWriter::new(to)?),
    })
    .await
}

/// Hands `records` to `write` on a thread of its own, as fast as it takes them.
async fn write_apart(
    records: impl Stream<Item = Result<Record, StoreError>>,
    write: impl FnOnce(mpsc::Receiver<Piece>) -> io::Result<()> + Send + 'static,
) -> Result<io::Result<()>, CommandError> {
    let (pieces, taken) = mpsc::channel(GROUPS_AHEAD);
    let writer = tokio::task::spawn_blocking(move || write(taken));
    let mut records = pin!(records.ready_chunks(GROUP_ROWS));
    let mut is_taken = true;
    while is_taken && let Some(group) = records.next().await {
        let group: Vec<Record> = group.into_iter().collect::<Result<_, _>>()?;
        // A destination that takes no more says why by its own error.
        is_taken = pieces.send(Piece::Records(group)).await.is_ok();
    }
    let _ = pieces.send(Piece::End).await;
    Ok(writer.await.unwrap_or_else(|error| Err(io::Error::other(error))))
}

fn write_all(mut pieces: mpsc::Receiver<Piece>, mut writer: impl Writer) -> io::Result<()> {
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Records(group)) => {
                for record in &group {
                    writer.write(record)?;
                }
            }
            Some(Piece::End) => return writer.finish(),
            // The queue could not be read on, which is the error.
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn paused_reader_leaves_the_runtime_free() {
        let (resume, resumed) = std::sync::mpsc::channel();
        // Would never be sent if the reader held the only thread.
        let task = tokio::spawn(async move { resume.send(()) });
        let written = write_apart(stream::empty(), move |_| {
            let waited = resumed.recv_timeout(Duration::from_secs(30));
            waited.map_err(|_| io::ErrorKind::TimedOut.into())
        });
        written.await.unwrap().unwrap();
        task.await.unwrap().unwrap();
    }
}
