//! `deskbatch import`, and the import that `run` begins with: a manifest into the queue.

use std::fmt::Write as _;
use std::path::Path;

use super::bad_rows::{BadRows, WrittenRejects};
use super::reading::{Importing, open, preview, read_into};
use super::replace::sources;
use super::standing::Named;
use super::{CommandError, Exit, signals};
use crate::cli::{ImportArgs, ManifestArgs};
use crate::config::Settings;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::job::Status;
use crate::manifest::{Manifest, ManifestOptions, Totals, WarningKind};
use crate::output::Output;
use crate::store::{
    BatchId, Import, ImportTotals, Imported, Preview, SameManifest, Store, StoreError,
};
use crate::text::{path_text, visible};

/// A manifest that has been read into an open import, not yet durable.
pub(super) struct Staged {
    pub(super) import: Import,
    totals: ImportTotals,
    /// The first bad rows, where they are left out.
    pub(super) bad_shown: Vec<String>,
    /// All of them, to be put where they belong with the import.
    rejects: Option<WrittenRejects>,
    /// What the reader counted.
    pub(super) read: Totals,
    /// What the import does to the queue.
    pub(super) preview: Preview,
}

impl Staged {
    /// No manifest at all, in a look at the queue.
    pub(super) fn nothing(import: Import) -> Self {
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

    /// Ends an import that leaves no batch; an approval in it stays.
    pub(super) async fn end_without_batch(self) -> Result<(), CommandError> {
        Ok(self.import.end_without_batch().await?)
    }

    /// Leaves the queue as it was.
    pub(super) async fn undo(self) -> Result<(), CommandError> {
        Ok(self.import.undo().await?)
    }
}

/// Runs the command.
pub(super) async fn command(
    settings: &Settings,
    args: &ImportArgs,
    out: &Output,
) -> Result<Exit, CommandError> {
    let store = Store::open(&settings.database).await?;
    let shutdown = signals::listen_for_import(out)?;
    let ground = Importing::begin(out, shutdown);
    let staged = stage(&store, settings, &args.file, &args.manifest, false, &ground).await?;
    warn(&staged, out);
    let last = store.last_batch().await?;
    let batch = commit(&store, staged, &args.manifest, out).await?;
    let missing = Named { file: Some(&args.file), batch, last }.missing(&store).await?;
    store.close().await;
    let Some(missing) = missing else { return Ok(Exit::Done) };
    out.must_say(&missing);
    Ok(Exit::SomeFailed)
}

/// Reads the manifest at `file` into an open import. Bad rows go to `--rejects` if that is
/// given, unless the import `only_looks`, to be undone; without it they are an error, and nothing
/// is left behind.
pub(super) async fn stage(
    store: &Store,
    settings: &Settings,
    file: &Path,
    args: &ManifestArgs,
    only_looks: bool,
    ground: &Importing,
) -> Result<Staged, CommandError> {
    let app = settings.app()?;
    let options = ManifestOptions {
        status: args.status,
        delimiter: args.delimiter.as_deref().map(delimiter).transpose()?,
        on_conflict: args.on_conflict,
        sets_aside: args.rejects.is_some() && args.on_conflict.is_none(),
        sdkappid: app.sdkappid,
    };
    let manifest = open(file, options, ground).await?;
    let mut sources = sources(store.path(), settings.file.as_ref().map(|file| file.path.as_path()));
    sources.push((file.to_owned(), "manifest"));
    let bad = BadRows::new(&sources, args, !only_looks)?;
    let mut import = store.begin_import(app, SystemClock::new().wall_ms()).await?;
    import.heed(ground.stop()).await?;
    if only_looks {
        import.only_looks();
    }
    let filled = tokio::select! {
        filled = fill(&mut import, manifest, bad, (file, settings, args), ground) => filled,
        // Dropped, it leaves nothing behind either.
        () = ground.stuck() => return Err(StoreError::Stopped.into()),
    };
    match filled {
        Ok(Filled { totals, bad_shown, rejects, read, preview }) => {
            Ok(Staged { import, totals, bad_shown, rejects, read, preview })
        }
        Err(e) => {
            // Why it ends is told, and not what came of ending it.
            let _ = import.undo().await;
            Err(e)
        }
    }
}

/// A staged import without the import.
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
    ground: &Importing,
) -> Result<Filled, CommandError> {
    let (read, bad) = read_into(import, manifest, bad, file, ground).await?;
    let (bad_shown, rejects) = bad.finish(&read, file)?;
    refuse_foreign(&read, file, settings, args)?;
    must_not_override_unasked(&read, file, args)?;
    let totals = ImportTotals {
        name: args.name.clone().unwrap_or_else(|| batch_name(file)),
        source: file.to_string_lossy().into_owned(),
        digest: read.digest.clone(),
        rows: read.rows,
        duplicates: read.duplicates,
        rejected: read.bad,
    };
    let same = if args.again { SameManifest::Again } else { SameManifest::Continues };
    let preview = preview(import, &read, same, file, ground).await?;
    if read.good == 0 {
        import.withdraw().await?;
    }
    Ok(Filled { totals, bad_shown, rejects, read, preview })
}

/// Refuses to delete what the manifest itself does not want deleted, unless that was said.
fn must_not_override_unasked(
    read: &Totals,
    file: &Path,
    args: &ManifestArgs,
) -> Result<(), CommandError> {
    let overridden = read.warnings.iter().find(|warning| warning.kind == WarningKind::Override);
    match overridden {
        Some(warning) if args.status == Some(Status::Delete) && !args.override_status => {
            Err(CommandError::Wrong(format!(
                "{}: {warning}: nothing was imported; leave out --status to take each row's own, or add \
                 --override-status to delete them all",
                path_text(file)
            )))
        }
        _ => Ok(()),
    }
}

/// Refuses a manifest that is for another application from its first row to its last. A
/// rehearsal that names no application has none that could be the wrong one.
fn refuse_foreign(
    read: &Totals,
    file: &Path,
    settings: &Settings,
    args: &ManifestArgs,
) -> Result<(), CommandError> {
    let is_foreign = read.good > 0 && read.other_app_ids == read.good;
    if !is_foreign || args.allow_foreign_ids || !settings.names_app() {
        return Ok(());
    }
    Err(CommandError::Wrong(format!(
        "{}: all {} ids begin with another SDKAppID than {}, for example {}: nothing was imported, nothing was sent; \
         name the right application with --sdkappid, or add --allow-foreign-ids if this is meant",
        path_text(file),
        read.good,
        settings.app()?.sdkappid,
        read.other_app_example.as_deref().unwrap_or_default(),
    )))
}

/// Says what the manifest's reader warns of, where no plan says it.
pub(super) fn warn(staged: &Staged, out: &Output) {
    for warning in &staged.read.warnings {
        out.must_say(&format!("warning: {warning}"));
    }
}

/// Makes a staged import durable and tells what it did.
pub(super) async fn commit(
    store: &Store,
    staged: Staged,
    args: &ManifestArgs,
    out: &Output,
) -> Result<Option<BatchId>, CommandError> {
    let Staged { import, totals, read, rejects, preview, .. } = staged;
    if let Some(rejects) = rejects {
        if preview.known.is_none() || read.good == 0 {
            match rejects.publish(args.overwrite) {
                Ok(text) => out.must_say(&text),
                Err(e) => {
                    // Why it ends is told, and not what came of ending it.
                    let _ = import.undo().await;
                    return Err(e);
                }
            }
        } else {
            out.must_say(&format!("{} bad rows are left out as they were before", read.bad));
        }
    }
    if read.good == 0 {
        out.say(&format!("{} has no rows: there is nothing to import", visible(&totals.source)));
        import.end_without_batch().await?;
        return Ok(None);
    }
    match import.commit(&totals).await? {
        Imported::New { batch, superseded } => {
            out.say(&new_batch_text(batch, &totals, &read, superseded));
            Ok(Some(batch))
        }
        Imported::Known { batch } => {
            let open = store.batch(batch).await?.map_or(0, |batch| batch.open);
            if open > 0 {
                out.say(&format!(
                    "{} is in the queue already, as batch {batch}: {open} of its jobs are still to be done",
                    visible(&totals.source)
                ));
            } else if store.standing(batch).await?.is_finished() {
                out.say(&format!(
                    "{} was imported before, as batch {batch}, and is finished: nothing is imported; --again makes a new \
                     batch of it",
                    visible(&totals.source)
                ));
            }
            Ok(Some(batch))
        }
    }
}

fn new_batch_text(batch: BatchId, totals: &ImportTotals, read: &Totals, superseded: u64) -> String {
    let mut text =
        format!("imported {} as batch {batch}: {} jobs", visible(&totals.source), read.good);
    let [enable, disable, delete] = read.by_status;
    let _ = write!(text, " ({enable} enable, {disable} disable, {delete} delete)");
    if read.duplicates > 0 {
        let _ = write!(text, ", {} rows said the same again", read.duplicates);
    }
    if superseded > 0 {
        let _ = write!(text, ", {superseded} older jobs superseded");
    }
    text
}

/// The file's name without its endings; what stdin has for a name is `stdin`.
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
        _ => Err(CommandError::Wrong(format!(
            "--delimiter: {text:?} is not one character; use , or ; or tab"
        ))),
    }
}
