//! A run's consent: a run sends the deletes that its plan has shown, and no others.
//!
//! They are agreed to at a terminal, by `--yes`, by a rehearsal, or by a plan's digest
//! (`approved.rs`). Each way marks them with an approval in the transaction that makes the plan
//! and imports the file, so that nothing comes between; what is imported or retried later has no
//! mark and stays pending.

use std::path::Path;

use super::CommandError;
use super::expected::basis_of;
use super::import::{Staged, commit, stage, warn};
use super::plan::{DELETES_SHOWN, plan_of, review};
use super::reading::Importing;
use crate::cli::{RunArgs, all_line};
use crate::config::Settings;
use crate::manifest::can_be_read_again;
use crate::output::plan_text;
use crate::plan::{Plan, deletes};
use crate::store::{ApprovalId, BatchId, Covers, RunLock, Store};
use crate::text::path_text;

/// What was agreed to before anything is sent.
pub(super) enum Consent {
    /// Nothing.
    Refused,
    /// Nothing is left of what was agreed to.
    Finished {
        /// What people are told.
        text: String,
        /// How many of its jobs have failed.
        failed: u64,
        /// Whether nothing else is missing.
        is_done: bool,
    },
    /// The run.
    Given(Given),
}

/// What a run may send.
pub(super) struct Given {
    /// Which deletes, or which jobs of a plan; `None`: no delete waits.
    pub(super) approval: Option<(ApprovalId, Covers)>,
    /// The batch of the file that was named, be it new or imported before.
    pub(super) batch: Option<BatchId>,
}

/// What a consent is about.
pub(super) struct Asking<'a> {
    pub(super) settings: &'a Settings,
    pub(super) args: &'a RunArgs,
    pub(super) store: &'a Store,
    pub(super) lock: &'a RunLock,
    pub(super) ground: &'a Importing,
}

impl Asking<'_> {
    /// Imports the file, if one is named, and approves the deletes that wait then, unless they are
    /// not wanted. Where a person has to be asked, the queue is not kept waiting for the answer:
    /// everything is undone, done again, and compared.
    pub(super) async fn take(&self) -> Result<Consent, CommandError> {
        let Self { settings, args, store, ground, .. } = *self;
        if args.file.is_none() && deletes(store.open_by_status(settings.app()?).await?) == 0 {
            return Ok(Consent::Given(Given { approval: None, batch: None }));
        }
        let mut first = self.stage().await?;
        let plan = self.plan_with_deletes(&mut first).await?;
        let shown = match plan {
            Some(plan) if !args.yes && !settings.rehearsal => plan,
            plan => {
                warn(&first, &ground.out);
                return self.carry_out(first, plan.as_ref()).await;
            }
        };
        let read_once = args.file.as_deref().filter(|file| !can_be_read_again(file));
        if read_once.is_some() || !ground.out.can_ask() {
            warn(&first, &ground.out);
            first.undo().await?;
            return Err(
                read_once.map_or_else(|| needs_yes(&shown), |file| cannot_ask_about(file, &shown))
            );
        }
        first.undo().await?;
        if !self.ask(&shown).await? {
            return Ok(Consent::Refused);
        }
        let mut again = self.stage().await?;
        let plan = self.plan(&mut again).await?;
        if plan.digest() != shown.digest() {
            again.undo().await?;
            return Err(CommandError::Wrong(
                "the manifest or the queue changed while you were asked: nothing was imported, nothing was sent; \
                 run again"
                    .to_owned(),
            ));
        }
        self.carry_out(again, Some(&plan)).await
    }

    /// The file in an open import, or a look at the queue.
    async fn stage(&self) -> Result<Staged, CommandError> {
        let Self { settings, args, store, ground, .. } = *self;
        match &args.file {
            Some(file) => stage(store, settings, file, &args.manifest, false, ground).await,
            None => review(settings, store).await,
        }
    }

    async fn plan(&self, staged: &mut Staged) -> Result<Plan, CommandError> {
        let Self { settings, args, .. } = *self;
        let file = args.file.as_deref();
        plan_of(settings, staged, file, &args.manifest, DELETES_SHOWN).await
    }

    /// The plan, if it deletes anything. To make one takes a look at every job that waits.
    async fn plan_with_deletes(&self, staged: &mut Staged) -> Result<Option<Plan>, CommandError> {
        if deletes(staged.import.open_by_status().await?) == 0 {
            return Ok(None);
        }
        let plan = self.plan(staged).await?;
        Ok((plan.open.deletes() > 0).then_some(plan))
    }

    /// Shows the plan and asks.
    async fn ask(&self, plan: &Plan) -> Result<bool, CommandError> {
        let Self { settings, store, ground, .. } = *self;
        let forecast = basis_of(settings, store, plan.app).await?.forecast(plan.open.counts);
        let words: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
        ground.out.must_say(&plan_text(plan, &forecast, &all_line(&words)));
        ground.ask(format!("Delete {} questions?", plan.open.deletes())).await
    }

    /// Approves the deletes of `plan` and makes the import durable, in one transaction.
    async fn carry_out(
        &self,
        mut staged: Staged,
        plan: Option<&Plan>,
    ) -> Result<Consent, CommandError> {
        let Self { args, store, lock, ground, .. } = *self;
        let mut approval = None;
        if let Some(plan) = plan {
            let (digest, terms) = (plan.digest(), plan.terms());
            let noted = staged.import.approve(lock, Covers::Deletes, &digest, &terms).await?;
            approval = Some((noted, Covers::Deletes));
        }
        let batch = if args.file.is_some() {
            commit(store, staged, &args.manifest, &ground.out).await?
        } else {
            staged.end_without_batch().await?;
            None
        };
        Ok(Consent::Given(Given { approval, batch }))
    }
}

/// The question comes between two readings.
fn cannot_ask_about(file: &Path, plan: &Plan) -> CommandError {
    CommandError::Wrong(format!(
        "this run would delete {} questions, and {} can be read only once, so that nobody can be asked in between: \
         nothing was imported, nothing was sent; save it as a file, or add --yes to delete without a question",
        plan.open.deletes(),
        if file == Path::new("-") { "stdin".to_owned() } else { path_text(file) }
    ))
}

fn needs_yes(plan: &Plan) -> CommandError {
    CommandError::Wrong(format!(
        "this run would delete {} questions, and nobody is there to be asked: nothing was imported, nothing was \
         sent; look at it with deskbatch plan and run the line that it ends with, or add --yes to delete without a \
         question",
        plan.open.deletes()
    ))
}
