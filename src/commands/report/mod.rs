//! `deskbatch report`: outcomes as CSV, JSON or an HTML page.

pub(super) mod html;

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::pin::pin;

use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use super::error::{CommandError, Exit};
use super::overwrite::{OutputKind, must_be_no_source, must_be_replaceable, sources};
use crate::cli::{ReportArgs, ReportFilter, ReportFormat};
use crate::config::Settings;
use crate::domain::job::JobState;
use crate::output::{Output, ignore_broken_pipe};
use crate::queue::{Queue, QueueError, Record, RecordFilter};
use crate::report::{CsvWriter, JsonWriter, Writer};
use crate::util::atomic_file::{AtomicFile, IfExists, PRIVATE};
use crate::util::count::{choose, counted_as};
use crate::util::escape::path_text;

/// Runs the command.
pub(super) async fn report(
    settings: &Settings,
    args: &ReportArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let queue = Queue::open_existing(&settings.database).await?;
    let written = write_report(settings, args, &queue, out).await;
    // Also after an error: the engine removes its -wal and -shm files with the last connection.
    queue.close().await;
    written.map(|()| Exit::Done)
}

async fn write_report(
    settings: &Settings,
    args: &ReportArgs,
    queue: &Queue,
    out: &Output,
) -> Result<(), CommandError> {
    if let Some(batch) = args.batch
        && queue.batch(batch).await?.is_none()
    {
        return Err(CommandError::no_batch(batch));
    }
    let sources = sources(queue.path(), settings.file.as_ref().map(|file| file.path.as_path()));
    for (flag, path, kind) in
        [("-o", &args.output, OutputKind::Report), ("--html", &args.html, OutputKind::Page)]
    {
        if let Some(path) = path.as_deref().filter(|path| *path != Path::new("-")) {
            must_be_no_source(flag, path, &sources)?;
            must_be_replaceable(flag, path, kind, args.overwrite)?;
        }
    }
    if let Some(path) = &args.html {
        return html::write(settings, args.batch, queue, path, out).await;
    }
    let filter = RecordFilter {
        state: args.state.and_then(state_of),
        in_doubt: args.state == Some(ReportFilter::InDoubt),
        response_lost: args.state == Some(ReportFilter::ResponseLost),
        // The CSV may be imported again, and must not undo a later import then.
        latest: match args.state {
            Some(ReportFilter::Failed) => Some(true),
            Some(ReportFilter::FailedSuperseded) => Some(false),
            _ => None,
        },
        batch: args.batch,
        ..RecordFilter::default()
    };
    let to = |path: &Path| format!("cannot write {}", path_text(path));
    let output = args.output.as_deref().filter(|path| *path != Path::new("-"));
    let what = output.map_or("cannot write to stdout".to_owned(), to);
    let written = match output {
        Some(path) => {
            // Private: the questions of end users may be personal data.
            let file = AtomicFile::create(path, Some(PRIVATE), IfExists::Replace)
                .map_err(CommandError::output(path))?;
            let to = BufWriter::new(file.file().map_err(CommandError::output(path))?);
            let written = write(queue, filter, args.format, to).await?;
            written.and_then(|()| file.finish())
        }
        None => ignore_broken_pipe(write(queue, filter, args.format, out.stream()).await?),
    };
    written.map_err(CommandError::io(what))?;
    if args.state == Some(ReportFilter::Failed) {
        report_omitted_jobs(settings, args, queue, out).await?;
    }
    Ok(())
}

/// Prints how many failed jobs are not in the report because a later import supersedes them; every
/// count has them.
async fn report_omitted_jobs(
    settings: &Settings,
    args: &ReportArgs,
    queue: &Queue,
    out: &Output,
) -> Result<(), CommandError> {
    let omitted = queue.failed_superseded(args.batch).await?;
    if omitted > 0 {
        out.info(&format!(
            "{} not in the report, because a later import covers the same {}. To list {}: deskbatch report{} --state \
             failed-superseded",
            counted_as(omitted, "failed job is", "failed jobs are"),
            choose(omitted, "question", "questions"),
            choose(omitted, "it", "them"),
            settings.flags()
        ));
    }
    Ok(())
}

fn state_of(filter: ReportFilter) -> Option<JobState> {
    match filter {
        ReportFilter::Pending => Some(JobState::Pending),
        ReportFilter::InFlight => Some(JobState::InFlight),
        ReportFilter::Succeeded => Some(JobState::Succeeded),
        ReportFilter::Failed | ReportFilter::FailedSuperseded => Some(JobState::Failed),
        ReportFilter::Cancelled => Some(JobState::Cancelled),
        ReportFilter::Superseded => Some(JobState::Superseded),
        ReportFilter::InDoubt | ReportFilter::ResponseLost => None,
    }
}

/// How many groups of records the reader may be ahead of the writer.
const GROUPS_AHEAD_MAX: usize = 2;

/// The most records in a group.
const GROUP_ROWS_MAX: usize = 1_000;

/// What the writer thread receives.
enum WriterMessage {
    Records(Vec<Record>),
    /// After the last record. Without it the report stays visibly incomplete.
    End,
}

/// The outer error is the queue's, the inner one the destination's. The writer has a thread of its
/// own, so a reader that pauses blocks neither the runtime nor a connection to the queue.
async fn write(
    queue: &Queue,
    filter: RecordFilter,
    format: ReportFormat,
    to: impl Write + Send + 'static,
) -> Result<io::Result<()>, CommandError> {
    write_on_thread(queue.records(filter), move |messages| match format {
        ReportFormat::Csv => write_all(messages, CsvWriter::new(to)?),
        ReportFormat::Json => write_all(messages, JsonWriter::new(to)?),
    })
    .await
}

/// Sends `records` to `write` on a thread of its own, with back-pressure.
async fn write_on_thread(
    records: impl Stream<Item = Result<Record, QueueError>>,
    write: impl FnOnce(mpsc::Receiver<WriterMessage>) -> io::Result<()> + Send + 'static,
) -> Result<io::Result<()>, CommandError> {
    let (sender, receiver) = mpsc::channel(GROUPS_AHEAD_MAX);
    let writer = tokio::task::spawn_blocking(move || write(receiver));
    let mut records = pin!(records.ready_chunks(GROUP_ROWS_MAX));
    let mut is_open = true;
    while is_open && let Some(group) = records.next().await {
        let group: Vec<Record> = group.into_iter().collect::<Result<_, _>>()?;
        // A closed channel means that the writer failed; its own error says why.
        is_open = sender.send(WriterMessage::Records(group)).await.is_ok();
    }
    let _ = sender.send(WriterMessage::End).await;
    Ok(writer.await.unwrap_or_else(|error| Err(io::Error::other(error))))
}

fn write_all(
    mut messages: mpsc::Receiver<WriterMessage>,
    mut writer: impl Writer,
) -> io::Result<()> {
    loop {
        match messages.blocking_recv() {
            Some(WriterMessage::Records(group)) => {
                for record in &group {
                    writer.write(record)?;
                }
            }
            Some(WriterMessage::End) => return writer.finish(),
            // Reading the queue failed, which is the error to report.
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
        // Never sent if the paused reader blocks the only thread.
        let task = tokio::spawn(async move { resume.send(()) });
        let written = write_on_thread(stream::empty(), move |_| {
            let waited = resumed.recv_timeout(Duration::from_secs(30));
            waited.map_err(|_| io::ErrorKind::TimedOut.into())
        });
        written.await.unwrap().unwrap();
        task.await.unwrap().unwrap();
    }
}
