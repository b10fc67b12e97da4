//! `deskbatch import`, and the import that `run` begins with: reads a manifest into the queue.

mod bad_rows;
mod context;
mod known_manifest;
mod reader;

use std::fmt::Write as _;
use std::path::Path;

use bad_rows::{BadRows, WrittenRejects};
pub(super) use context::ImportContext;
pub(super) use known_manifest::{NamedManifest, unfinished_text};
use reader::{open, preview, read_into};

use super::error::{CommandError, Exit};
use super::overwrite::sources;
use super::signals;
use crate::cli::{ImportArgs, ManifestArgs};
use crate::config::Settings;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::job::TargetStatus;
use crate::manifest::{Manifest, ManifestOptions, Totals, WarningKind};
use crate::output::Output;
use crate::queue::{
    BatchId, Import, ImportTotals, Imported, Preview, Queue, QueueError, SameManifest,
};
use crate::util::count::{counted, counted_as};
use crate::util::escape::{path_text, visible};

/// A manifest that was read into an open import, not yet committed.
pub(super) struct Staged {
    pub(super) import: Import,
    totals: ImportTotals,
    /// The first invalid rows, if they are skipped.
    pub(super) bad_shown: Vec<String>,
    /// The `--rejects` file, published with the commit.
    rejects: Option<WrittenRejects>,
    /// The reader's counts.
    pub(super) read: Totals,
    /// The effect of the import on the queue.
    pub(super) preview: Preview,
}

impl Staged {
    /// An open transaction on the queue without a manifest.
    pub(super) fn without_manifest(import: Import) -> Self {
        let totals = ImportTotals {
            name: String::new(),
            source: String::new(),
            digest: String::new(),
            rows: 0,
            duplicates: 0,
            rejected: 0,
        };
        let preview = Preview { known: None, superseded: 0, open: [0; 3] };
        let (bad_shown, rejects, read) = (Vec::new(), None, Totals::default());
        Self { import, totals, bad_shown, rejects, read, preview }
    }

    /// Commits without a batch; an approval in the transaction is kept.
    pub(super) async fn end_without_batch(self) -> Result<(), CommandError> {
        Ok(self.import.end_without_batch().await?)
    }

    /// Leaves the queue unchanged.
    pub(super) async fn rollback(self) -> Result<(), CommandError> {
        Ok(self.import.rollback().await?)
    }
}

/// Runs the command.
pub(super) async fn import(
    settings: &Settings,
    args: &ImportArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let queue = Queue::open(&settings.database).await?;
    let shutdown = signals::listen_for_import(out)?;
    let ctx = ImportContext::begin(out, shutdown);
    let staged = stage(&queue, settings, &args.file, &args.manifest, false, &ctx).await?;
    warn(&staged, out);
    let last_batch_before = queue.last_batch().await?;
    let batch = commit(&queue, staged, &args.manifest, out).await?;
    let named = NamedManifest { file: Some(&args.file), batch, last_batch_before };
    // The jobs of a new batch are open, and a look at each of them would say only that.
    let reason = if named.is_new() { None } else { named.unfinished_reason(&queue).await? };
    queue.close().await;
    let Some(reason) = reason else { return Ok(Exit::Done) };
    out.warn(&reason);
    Ok(Exit::SomeFailed)
}

/// Reads the manifest at `file` into an open import. With `--rejects` invalid rows are skipped, and
/// written there unless this is a dry run; without it they are an error, and the import is rolled
/// back.
pub(super) async fn stage(
    queue: &Queue,
    settings: &Settings,
    file: &Path,
    args: &ManifestArgs,
    dry_run: bool,
    ctx: &ImportContext,
) -> Result<Staged, CommandError> {
    let app = settings.app()?;
    let options = ManifestOptions {
        status: args.status,
        delimiter: args.delimiter.as_deref().map(delimiter).transpose()?,
        on_conflict: args.on_conflict,
        sets_aside: args.rejects.is_some() && args.on_conflict.is_none(),
        sdkappid: app.sdkappid,
    };
    let manifest = open(file, options, ctx).await?;
    let mut sources = sources(queue.path(), settings.file.as_ref().map(|file| file.path.as_path()));
    sources.push((file.to_owned(), "manifest"));
    let bad = BadRows::new(&sources, args, !dry_run)?;
    let mut import = queue.begin_import(app, SystemClock::new().wall_ms()).await?;
    import.cancel_with(ctx.stop()).await?;
    if dry_run {
        import.dry_run();
    }
    let filled = tokio::select! {
        filled = fill(&mut import, manifest, bad, (file, settings, args), ctx) => filled,
        // Dropping the import rolls it back.
        () = ctx.stuck() => return Err(QueueError::Stopped.into()),
    };
    match filled {
        Ok(Filled { totals, bad_shown, rejects, read, preview }) => {
            Ok(Staged { import, totals, bad_shown, rejects, read, preview })
        }
        Err(e) => {
            // The first error is the one to report.
            let _ = import.rollback().await;
            Err(e)
        }
    }
}

/// [`Staged`] without the import.
struct Filled {
    totals: ImportTotals,
    bad_shown: Vec<String>,
    rejects: Option<WrittenRejects>,
    read: Totals,
    preview: Preview,
}

async fn fill(
    import: &mut Import,
    manifest: Manifest,
    bad: BadRows,
    (file, settings, args): (&Path, &Settings, &ManifestArgs),
    ctx: &ImportContext,
) -> Result<Filled, CommandError> {
    let (read, bad) = read_into(import, manifest, bad, file, ctx).await?;
    let (bad_shown, rejects) = bad.finish(&read, file)?;
    must_not_be_of_another_app(&read, file, settings, args)?;
    must_not_override_statuses(&read, file, args)?;
    let totals = ImportTotals {
        name: args.name.clone().unwrap_or_else(|| batch_name(file)),
        source: file.to_string_lossy().into_owned(),
        digest: read.digest.clone(),
        rows: read.rows,
        duplicates: read.duplicates,
        rejected: read.bad,
    };
    let same = if args.reimport { SameManifest::Again } else { SameManifest::Continues };
    let preview = preview(import, &read, same, file, ctx).await?;
    if read.good == 0 {
        import.rollback_rows().await?;
    }
    Ok(Filled { totals, bad_shown, rejects, read, preview })
}

/// Fails if `--status delete` would delete rows whose own status is another one, unless
/// `--override-status` allows it.
fn must_not_override_statuses(
    read: &Totals,
    file: &Path,
    args: &ManifestArgs,
) -> Result<(), CommandError> {
    let overridden = read.warnings.iter().find(|warning| warning.kind == WarningKind::Override);
    match overridden {
        Some(warning) if args.status == Some(TargetStatus::Delete) && !args.override_status => {
            Err(CommandError::Usage(format!(
                "{}: {warning}. Nothing was imported. Omit --status to use the status of each row, or add \
                 --override-status to delete all of them.",
                path_text(file)
            )))
        }
        _ => Ok(()),
    }
}

/// Fails if every id of the manifest begins with another SDKAppID. A sandbox run without an SDKAppID
/// of its own accepts any.
fn must_not_be_of_another_app(
    read: &Totals,
    file: &Path,
    settings: &Settings,
    args: &ManifestArgs,
) -> Result<(), CommandError> {
    let is_of_another_app = read.good > 0 && read.other_app_ids == read.good;
    if !is_of_another_app || args.allow_foreign_ids || !settings.has_sdkappid() {
        return Ok(());
    }
    Err(CommandError::Usage(format!(
        "{}: {} with an SDKAppID other than {}, for example {}. Nothing was imported or sent. Name the right app with \
         --sdkappid, or add --allow-foreign-ids if this is intended.",
        path_text(file),
        match read.good {
            1 => "its only id begins".to_owned(),
            ids => format!("all {ids} of its ids begin"),
        },
        settings.app()?.sdkappid,
        read.other_app_example.as_deref().unwrap_or_default(),
    )))
}

/// Prints the reader's warnings, for commands that show no plan.
pub(super) fn warn(staged: &Staged, out: &Output) {
    for warning in &staged.read.warnings {
        out.warn(&format!("warning: {warning}"));
    }
}

/// Commits a staged import and reports its effect. Returns the batch, new or known.
pub(super) async fn commit(
    queue: &Queue,
    staged: Staged,
    args: &ManifestArgs,
    out: &Output,
) -> Result<Option<BatchId>, CommandError> {
    let Staged { import, totals, read, rejects, preview, .. } = staged;
    if let Some(rejects) = rejects {
        if preview.known.is_none() || read.good == 0 {
            match rejects.publish(args.overwrite) {
                Ok(text) => out.warn(&text),
                Err(e) => {
                    // The first error is the one to report.
                    let _ = import.rollback().await;
                    return Err(e);
                }
            }
        } else {
            let rows = counted_as(read.bad, "invalid row is", "invalid rows are");
            out.warn(&format!("{rows} skipped, as in the earlier import"));
        }
    }
    if read.good == 0 {
        out.info(&format!("{} has no rows to import", visible(&totals.source)));
        import.end_without_batch().await?;
        return Ok(None);
    }
    match import.commit(&totals).await? {
        Imported::New { batch, superseded } => {
            out.info(&new_batch_text(batch, &totals, &read, superseded));
            Ok(Some(batch))
        }
        Imported::Known { batch } => {
            let open = queue.batch(batch).await?.map_or(0, |batch| batch.unfinished.unsigned_abs());
            if open > 0 {
                out.info(&format!(
                    "{} was imported before as batch {batch}: resuming its {}",
                    visible(&totals.source),
                    counted(open, "unfinished job")
                ));
            } else if queue.unfinished_jobs(batch).await?.is_finished() {
                out.info(&format!(
                    "{} was imported before as batch {batch}, which is finished. Nothing was imported. Use --reimport to \
                     import it again as a new batch.",
                    visible(&totals.source)
                ));
            }
            Ok(Some(batch))
        }
    }
}

fn new_batch_text(batch: BatchId, totals: &ImportTotals, read: &Totals, superseded: u64) -> String {
    let jobs = counted(read.good, "job");
    let mut text = format!("imported {} as batch {batch}: {jobs}", visible(&totals.source));
    let [enable, disable, delete] = read.by_status;
    let _ = write!(text, " ({enable} enable, {disable} disable, {delete} delete)");
    if read.duplicates > 0 {
        let rows = counted(read.duplicates, "duplicate row");
        let _ = write!(text, ", {rows}");
    }
    if superseded > 0 {
        let jobs = counted(superseded, "older job");
        let _ = write!(text, ", {jobs} superseded");
    }
    text
}

/// The file's name without its extensions; `stdin` for stdin.
fn batch_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if name == "-" {
        return "stdin".to_owned();
    }
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned()
}

fn delimiter(text: &str) -> Result<u8, CommandError> {
    match text.as_bytes() {
        _ if text.eq_ignore_ascii_case("tab") || text == "\\t" => Ok(b'\t'),
        [byte] => Ok(*byte),
        _ => Err(CommandError::Usage(format!(
            "--delimiter: {text:?} is not a single character: use , or ; or tab"
        ))),
    }
}
