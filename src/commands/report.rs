//! `deskbatch report`: outcomes as CSV, JSON or a page.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use futures_util::TryStreamExt as _;

use super::queue::no_batch;
use super::{CommandError, Exit, page};
use crate::cli::{Only, ReportArgs, ReportFormat};
use crate::config::Settings;
use crate::job::JobState;
use crate::manifest::same_file;
use crate::output::{Output, ignore_broken_pipe};
use crate::report::{CsvWriter, JsonWriter, Writer};
use crate::store::{RecordFilter, Store};

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
    for (flag, path) in [("-o", &args.output), ("--html", &args.html)] {
        if let Some(path) = path.as_deref().filter(|path| same_file(path, store.path())) {
            return Err(CommandError::Wrong(format!(
                "{flag}: {} is the queue file itself; name another file",
                path.display()
            )));
        }
    }
    if let Some(path) = &args.html {
        return page::write(settings, args.batch, store, path, out).await;
    }
    let filter = RecordFilter {
        state: args.only.and_then(state),
        in_doubt: args.only == Some(Only::InDoubt),
        // What is imported again must not bring back an older intent.
        newest: args.only == Some(Only::Failed),
        batch: args.batch,
        ..RecordFilter::default()
    };
    let to = |path: &Path| format!("{} cannot be written", path.display());
    let output = args.output.as_deref().filter(|path| *path != Path::new("-"));
    let what = output.map_or("stdout cannot be written".to_owned(), to);
    let written = match output {
        Some(path) => {
            let file = private(path).map_err(CommandError::output(path))?;
            write(store, filter, args.format, BufWriter::new(file)).await?
        }
        None => ignore_broken_pipe(write(store, filter, args.format, out.stream()).await?),
    };
    written.map_err(CommandError::io(what))
}

fn state(only: Only) -> Option<JobState> {
    match only {
        Only::Pending => Some(JobState::Pending),
        Only::InFlight => Some(JobState::InFlight),
        Only::Succeeded => Some(JobState::Succeeded),
        Only::Failed => Some(JobState::Failed),
        Only::Cancelled => Some(JobState::Cancelled),
        Only::Superseded => Some(JobState::Superseded),
        Only::InDoubt => None,
    }
}

/// What people asked a bot is nobody else's business, also where a file was before that
/// others could read.
fn private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// The outer error is the queue's, the inner one the destination's.
async fn write(
    store: &Store,
    filter: RecordFilter,
    format: ReportFormat,
    to: impl Write,
) -> Result<io::Result<()>, CommandError> {
    match format {
        ReportFormat::Csv => match CsvWriter::new(to) {
            Ok(writer) => write_all(store, filter, writer).await,
            Err(e) => Ok(Err(e)),
        },
        ReportFormat::Json => match JsonWriter::new(to) {
            Ok(writer) => write_all(store, filter, writer).await,
            Err(e) => Ok(Err(e)),
        },
    }
}

async fn write_all(
    store: &Store,
    filter: RecordFilter,
    mut writer: impl Writer,
) -> Result<io::Result<()>, CommandError> {
    let records = store.records(filter);
    tokio::pin!(records);
    while let Some(record) = records.try_next().await? {
        if let Err(e) = writer.write(&record) {
            return Ok(Err(e));
        }
    }
    Ok(writer.finish())
}
